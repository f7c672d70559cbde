package zone

import (
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/stats"
)

// foreign decides about q, the question about n, which is not ours: it is left
// open for upstreams, NXDOMAIN, or REFUSED. After a CNAME the answer may end
// with that, as the client can follow it elsewhere.
func (d *decision) foreign(n dnsname.Name, q dns.Question, chained bool) {
	d.keep = false
	m := d.Msg
	has, routed := d.Fwd.HasRoute(n)
	alias, died := d.Reg.RecentlyRemoved(n)
	switch {
	case died:
		d.trace.notef(n, "a container that died not long ago had the alias %s: another host's address would be wrong", dnsname.Text(alias))
		m.Authoritative, m.Rcode = true, dns.RcodeNameError
		m.Ns = append(m.Ns, d.soa(ending(q.Name, alias.Labels()), alias, 0))
	case !has:
		d.trace.note(n, "it is not ours, and there is no -nameserver for it")
		d.refuse(chained)
	case !m.RecursionAvailable:
		d.trace.note(n, "it is not ours, and nothing is forwarded for this client, which is not a local one: see -allow")
		d.refuse(chained)
	case !routed && n.IsSingle() && !isOfTLD(q.Qtype):
		d.trace.note(n, "it is a name of one label, which only hosts of this site have")
		if !d.Reg.HasAtOrBelow(n) && !d.Reg.IsAboveZone(n) && !d.Fwd.HasRouteBelow(n) {
			m.Rcode = dns.RcodeNameError
		}
	case chained && !m.RecursionDesired:
		d.trace.note(n, "it is not ours, and the client follows the CNAME itself")
	default:
		d.trace.forward(n, d.Fwd)
		d.open, d.Kind = &q, stats.Forwarded
	}
}

// refuse answers REFUSED, unless the answer already has a CNAME.
func (d *decision) refuse(chained bool) {
	if !chained {
		d.Msg.Rcode, d.Kind = dns.RcodeRefused, stats.Refused
	}
}

// isOfTLD reports whether top-level domains have records of a type, which
// resolvers ask for that look names up themselves.
func isOfTLD(qtype uint16) bool {
	return qtype == dns.TypeNS || qtype == dns.TypeSOA || qtype == dns.TypeDS || qtype == dns.TypeDNSKEY
}

// Complete asks upstreams what a leaves open. It may wait for them.
func (a *Answer) Complete() {
	z := a.resolver
	defer func() {
		if bug := recover(); bug != nil {
			a.Msg, a.open = z.onBug(a.req, a.client, bug).Msg, nil
		}
	}()
	if a.open == nil {
		return
	}
	begun := time.Now()
	r := z.Fwd.Answer(z.ctx, a.question(), a.req.Id, a.client.Addr)
	if r != nil && r.Age() > time.Since(begun) {
		a.Kind = stats.Cached
	}
	if r == nil || r.Rcode() == dns.RcodeServerFailure || !a.Relay(r) {
		a.Msg.Rcode, a.Msg.Authoritative, a.Msg.Answer = dns.RcodeServerFailure, false, nil
	}
}

// known completes an open answer by what upstreams have answered before, and
// reports whether there is such a response.
func (z *Resolver) known(a *Answer) bool {
	r := z.Fwd.Cache.Get(a.question())
	if r == nil || r.At(r.Age()) < dnscache.Tired || r.Rcode() == dns.RcodeServerFailure {
		return false
	}
	return a.Relay(r)
}

// question returns the open question as upstreams are asked it.
func (a *Answer) question() dnscache.Question {
	n, _ := dnsname.Parse(a.open.Name) // no error: it was a name before
	return dnscache.NewQuestion(n, a.open.Qtype, questionFlags(a.req))
}

// questionFlags returns the flags of req that make a difference upstream.
func questionFlags(req *dns.Msg) (flags byte) {
	if req.RecursionDesired {
		flags |= dnscache.RD
	}
	if req.CheckingDisabled {
		flags |= dnscache.CD
	}
	if opt := req.IsEdns0(); opt != nil && opt.Do() {
		flags |= dnscache.DO
	}
	return flags
}

// Relay completes an open answer by an upstream's response, and reports
// whether that could be read.
func (a *Answer) Relay(r *dnscache.Response) bool {
	z := a.resolver
	said, err := r.Message(r.Age())
	if err != nil {
		return false
	}
	m := a.Msg
	m.Rcode, m.Truncated = said.Rcode, said.Truncated
	asked := a.req.AuthenticatedData || questionFlags(a.req)&dnscache.DO != 0   // RFC 6840 section 5.8
	m.AuthenticatedData = said.AuthenticatedData && asked && len(m.Answer) == 0 // our CNAMEs are not signed
	for _, rr := range slices.Concat(said.Answer, said.Ns) {
		h := rr.Header()
		if z.Fwd.ForceTTL {
			h.Ttl = z.Reg.TTL.Load()
		}
		if forward.EqualNames(h.Name, a.open.Name) {
			h.Name = a.open.Name // in the client's case
		}
	}
	m.Answer, m.Ns = append(m.Answer, said.Answer...), said.Ns
	return true
}

// Pack returns a in wire format, in at most size bytes.
func (a *Answer) Pack(size int) (b []byte, err error) {
	z := a.resolver
	defer func() {
		if bug := recover(); bug != nil {
			a.Msg = z.onBug(a.req, a.client, bug).Msg
			b, err = a.Msg.Pack()
		}
	}()
	if b, err = pack(a.Msg, size); err != nil { // an upstream's record that can be read but not written
		a.Msg = z.blank(a.req, a.client, dns.RcodeServerFailure).Msg
		b, err = a.Msg.Pack()
	}
	return b, err
}

// Cached returns what upstreams have said to q, nil if that is not known or no
// longer good. It reports whether upstreams may be asked q.
func (z *Resolver) Cached(q dnscache.Question) (r *dnscache.Response, foreign bool) {
	n := q.Name()
	if _, ours := z.Reg.ZoneOf(n); ours || IsMeta(q.Qtype()) {
		return nil, false
	}
	if _, ours := z.Reg.AliasFor(n); ours || z.Reg.At(n) != nil {
		return nil, false
	}
	if _, died := z.Reg.RecentlyRemoved(n); died {
		return nil, false
	}
	r = z.Fwd.Cache.Get(q)
	if r == nil {
		return nil, true
	}
	switch is := r.At(r.Age()); {
	case is >= dnscache.Tired:
		return r, true
	case is == dnscache.Stale: // it is given only where no upstream answers in time
		return nil, false
	}
	return nil, true
}

// ForcedTTL returns the TTL that all forwarded records get, or
// dnscache.OwnTTL if they keep their own.
func (z *Resolver) ForcedTTL() int64 {
	if z.Fwd.ForceTTL {
		return int64(z.Reg.TTL.Load())
	}
	return dnscache.OwnTTL
}

// IsPlain reports whether a question about n is for upstreams, and Decide has
// nothing else to say about it.
func (z *Resolver) IsPlain(n dnsname.Name) bool {
	if _, ours := z.authority(n); ours {
		return false
	}
	has, routed := z.Fwd.HasRoute(n)
	return has && (routed || !n.IsSingle())
}

// Serves reports whether a client's queries may be forwarded, and whether
// that is known without a look at the interfaces of this host.
func (z *Resolver) Serves(client netip.Addr) (serves, known bool) { return z.Fwd.ServesAsKnown(client) }
