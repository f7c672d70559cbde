package forward

import (
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnswire"
)

// MaxChain is how many CNAMEs are followed for one question. No honest chain is near it.
const MaxChain = 16

// readAnswer makes an answer to q of the reply r: what is about q in it, and for how long that is good. With an
// error another upstream may have a better answer; the answer, if it is not nil, is the one to give if none has.
func readAnswer(q dnscache.Question, r *dns.Msg) (*dnscache.Response, error) {
	ede := extendedErrors(r)
	switch {
	case isFailure(r.Rcode):
		failed := dnscache.Failed(q)
		failed.EDE = ede
		return failed, errFailure
	case isReferral(r):
		return nil, errReferral
	}
	c := follow(r.Answer, q.Name().String(), q.Qtype())
	ns, soa := authority(r, c, q.Flags()&dnscache.DO != 0)
	good := dnscache.MaxCached
	switch {
	case c.found:
	case soa:
		good = dnscache.MaxNegativeTTL
	default:
		good = 0 // without a SOA no one says for how long, RFC 2308 section 5
	}
	for _, rr := range slices.Concat(c.kept, ns) {
		h := rr.Header()
		if h.Ttl > dnswire.MaxTTL {
			h.Ttl = 0 // RFC 2181 section 8
		}
		good = min(good, time.Duration(h.Ttl)*time.Second)
	}
	if r.Truncated || r.Rcode != dns.RcodeSuccess && r.Rcode != dns.RcodeNameError {
		good = 0
	}
	answer, err := dnscache.NewResponse(q, &dns.Msg{MsgHdr: r.MsgHdr, Answer: c.kept, Ns: ns}, good)
	if err != nil {
		return nil, err
	}
	answer.EDE, answer.Targets = ede, c.targets
	answer.Open = len(c.targets) > 0 && !c.found && !soa && r.Rcode == dns.RcodeSuccess
	if r.Truncated {
		return answer, errTruncated
	}
	return answer, nil
}

// isFailure reports whether a reply says that the upstream can't help, and another one may.
func isFailure(rcode int) bool {
	switch rcode {
	case dns.RcodeServerFailure, dns.RcodeRefused, dns.RcodeNotImplemented, dns.RcodeFormatError:
		return true
	}
	return rcode > 0xf // BADVERS and such
}

// isReferral reports whether r is from a server that does not look names up, and only says who may know (RFC 2308
// section 2.2).
func isReferral(r *dns.Msg) bool {
	isType := func(rrtype uint16) func(dns.RR) bool {
		return func(rr dns.RR) bool { return rr.Header().Rrtype == rrtype }
	}
	return r.Rcode == dns.RcodeSuccess && len(r.Answer) == 0 && !r.Authoritative && !r.RecursionAvailable &&
		slices.ContainsFunc(r.Ns, isType(dns.TypeNS)) && !slices.ContainsFunc(r.Ns, isType(dns.TypeSOA))
}

// A chain is what a question leads to in the answer section of a reply.
type chain struct {
	kept    []dns.RR       // the CNAMEs, the records at their end, and signatures
	targets []dnsname.Name // of the CNAMEs, in their order
	last    string         // the name at the end
	found   bool           // it has records of the type
}

// follow returns the chain of CNAMEs from owner on, and the records of a type at its end. All other records are not
// the question's business, and may be forged.
func follow(rrs []dns.RR, owner string, qtype uint16) (c chain) {
	c.last = owner
	for range MaxChain {
		target := c.add(rrs, qtype)
		if c.found || target == "" {
			return c
		}
		n, err := dnsname.Parse(target)
		if err != nil {
			return c
		}
		c.last, c.targets = target, append(c.targets, n)
	}
	return c
}

// add keeps the records about c.last. It returns the target of its CNAME, if there is one.
func (c *chain) add(rrs []dns.RR, qtype uint16) (target string) {
	for _, rr := range rrs {
		h := rr.Header()
		about := h.Rrtype
		sig, isSig := rr.(*dns.RRSIG)
		if isSig && qtype != dns.TypeRRSIG {
			about = sig.TypeCovered
		}
		switch cname, isCNAME := rr.(*dns.CNAME); {
		case h.Class != dns.ClassINET:
		case about == dns.TypeDNAME && dns.IsSubDomain(h.Name, c.last) && len(h.Name) < len(c.last):
			if !slices.Contains(c.kept, rr) { // it may be above several
				c.kept = append(c.kept, rr)
			}
		case !strings.EqualFold(h.Name, c.last): // the library escapes all but ASCII
		case about == qtype || qtype == dns.TypeANY:
			c.found = true
			c.kept = append(c.kept, rr)
		case isCNAME && target == "":
			target = cname.Target
			c.kept = append(c.kept, rr)
		case isSig && about == dns.TypeCNAME:
			c.kept = append(c.kept, rr)
		}
	}
	return target
}

// authority returns the records of the authority section to pass on: the SOA of a negative answer, whose TTL it
// bounds, and with dnssec the proofs of each zone that signed something in the chain: that there is nothing, or
// nothing closer than a wildcard (RFC 4035 sections 3.1.3.3 and 5.3.4). It reports whether there is a SOA.
func authority(r *dns.Msg, c chain, dnssec bool) (kept []dns.RR, soa bool) {
	zones := signers(r, c)
	for _, rr := range r.Ns {
		if rr.Header().Class != dns.ClassINET {
			continue
		}
		switch rr := rr.(type) {
		case *dns.SOA:
			if !c.found && dns.IsSubDomain(rr.Hdr.Name, c.last) {
				rr.Hdr.Ttl = min(rr.Hdr.Ttl, rr.Minttl)
				kept, soa = append(kept, rr), true
			}
		case *dns.NSEC, *dns.NSEC3, *dns.RRSIG:
			isIn := func(zone string) bool { return dns.IsSubDomain(zone, rr.Header().Name) }
			if dnssec && slices.ContainsFunc(zones, isIn) {
				kept = append(kept, rr)
			}
		}
	}
	return kept, soa
}

// signers returns the zones that signed something in the chain, and the zone that its last name is in, by its SOA
// or by a signature in the authority section.
func signers(r *dns.Msg, c chain) (zones []string) {
	for _, rr := range c.kept {
		if sig, ok := rr.(*dns.RRSIG); ok && dns.IsSubDomain(sig.SignerName, sig.Hdr.Name) {
			zones = append(zones, sig.SignerName)
		}
	}
	for _, rr := range r.Ns {
		zone := ""
		switch rr := rr.(type) {
		case *dns.SOA:
			zone = rr.Hdr.Name
		case *dns.RRSIG:
			zone = rr.SignerName
		}
		if zone != "" && dns.IsSubDomain(zone, c.last) {
			zones = append(zones, zone)
		}
	}
	return zones
}

// maxErrorText is how many bytes of an upstream's text about an error are passed on.
const maxErrorText = 120

// extendedErrors returns the extended DNS errors of r (RFC 8914) as options of an OPT record.
func extendedErrors(r *dns.Msg) (options []byte) {
	opt := r.IsEdns0()
	if opt == nil {
		return nil
	}
	for _, o := range opt.Option {
		if ede, ok := o.(*dns.EDNS0_EDE); ok && len(ede.ExtraText) <= maxErrorText && len(options) < 2*maxErrorText {
			options = append(options, dnscache.ExtendedError(ede.InfoCode, ede.ExtraText)...)
		}
	}
	return options
}
