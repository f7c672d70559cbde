package zone

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/stats"
)

// Complete asks upstreams what a leaves open, along CNAMEs. It may wait for
// them.
func (a *Answer) Complete() {
	defer a.recoverFrom("complete")
	for a.open != nil && (!a.isTLD || a.existsTLD()) {
		begun := time.Now()
		r := a.ask(*a.open)
		if r != nil && r.Born.Before(begun) {
			a.Kind = stats.Cached
		}
		a.Relay(r)
	}
}

// ask returns what upstreams say to q, nil if too many queries wait.
func (a *Answer) ask(q Query) *dnscache.Response {
	return a.resolver.Fwd.Answer(a.resolver.ctx, q.upstream(), a.query.ID, a.client.Addr)
}

// existsTLD reports whether the open question, about a name of one label, is
// for upstreams: whether they know such a top-level domain. Else it completes
// a. So nothing but that is asked about the hosts of a site.
func (a *Answer) existsTLD() bool {
	q := *a.open
	q.Type = dns.TypeNS
	r := a.ask(q)
	a.isTLD = false
	if r != nil && r.Rcode() == dns.RcodeSuccess {
		return true
	}
	above := a.resolver.Reg.HasAtOrBelow(q.Name)
	if a.Relay(r); above && a.Rcode == dns.RcodeNameError {
		a.fail(dns.RcodeSuccess) // an alias is below it: it exists, without data
	}
	return false
}

// known completes an open answer by what upstreams have answered before, and
// reports whether there is such a response.
func (a *Answer) known() bool {
	r := a.resolver.Fwd.Cache.Get(a.open.upstream())
	if r == nil || r.At(r.Age(time.Now())) < dnscache.Tired || r.Rcode() == dns.RcodeServerFailure {
		return false
	}
	a.Relay(r)
	return true
}

// Relay completes an open answer by an upstream's response, nil if there is
// none. If that is a CNAME to a name that this upstream should not answer, the
// answer goes on with the CNAME's target (RFC 1034 section 5.3.3), and
// may stay open.
func (a *Answer) Relay(r *dnscache.Response) {
	q := *a.open
	a.open = nil
	if r == nil || r.Rcode() == dns.RcodeServerFailure {
		a.fail(dns.RcodeServerFailure)
		if r != nil {
			a.EDE = r.EDE
		}
		return
	}
	a.EDE = r.EDE
	target := a.resolver.cutAt(q.Name, r)
	switch {
	case target == "" && a.counts[answerSection] == 0:
		a.Response, a.Rcode = r, r.Rcode()
	case !a.append(r, target):
		a.fail(dns.RcodeServerFailure)
	case target != "":
		a.Rcode = dns.RcodeSuccess
		q.Name = target
		d := &decision{Resolver: a.resolver, Answer: a}
		d.resolve(q)
		a.Authoritative = false // it began with a name that is not ours
	}
}

// cutAt returns the first target of a CNAME in a response to a question about
// n that is ours or for other nameservers, or that nothing was said about; empty if
// there is none.
func (z *Resolver) cutAt(n dnsname.Name, r *dnscache.Response) dnsname.Name {
	for i, target := range r.Targets {
		if _, ours := z.authority(target); ours || !z.Fwd.SameRoute(n, target) || r.Open && i == len(r.Targets)-1 {
			return target
		}
	}
	return ""
}

// append adds a response to what a has, up to the CNAME whose target is
// given if it is not empty. It reports whether the response could be read and written.
func (a *Answer) append(r *dnscache.Response, target dnsname.Name) bool {
	said, err := r.Message(r.Age(time.Now()))
	if err != nil {
		return false
	}
	m, err := a.message()
	if err != nil {
		return false
	}
	if target != "" {
		isAbout := func(rr dns.RR) bool { return strings.EqualFold(rr.Header().Name, target.String()) }
		if i := slices.IndexFunc(said.Answer, isAbout); i >= 0 {
			said.Answer = said.Answer[:i]
		}
		said.Ns, said.Rcode = nil, dns.RcodeSuccess
	}
	if a.resolver.Fwd.ForceTTL {
		for _, rr := range slices.Concat(said.Answer, said.Ns) {
			rr.Header().Ttl = a.resolver.Reg.TTL.Load()
		}
	}
	m.Answer, m.Ns, m.Compress = append(m.Answer, said.Answer...), said.Ns, true
	b, err := m.Pack()
	if err != nil {
		return false
	}
	a.Rcode = said.Rcode
	a.reset(a.query.Name) // the names are at other places now
	a.records = append(a.records, b[a.base:]...)
	for section := range a.counts {
		a.counts[section] = binary.BigEndian.Uint16(b[6+2*section:])
	}
	return true
}

// message returns a as a message without an OPT.
func (a *Answer) message() (*dns.Msg, error) {
	b := make([]byte, dnswire.HeaderLen, a.base+len(a.records))
	b[2], b[3], b[5] = 0x80, byte(a.Rcode&0xf), 1
	for section, count := range a.counts {
		binary.BigEndian.PutUint16(b[6+2*section:], count)
	}
	b = append(b, a.query.Name...)
	b = binary.BigEndian.AppendUint16(b, a.query.Type)
	b = binary.BigEndian.AppendUint16(b, a.query.Class)
	b = append(b, a.records...)
	if a.Response != nil {
		b = a.Response.AppendTo(b[:a.base], 0, true, a.Response.Age(time.Now()), a.resolver.ForcedTTL())
	}
	m := new(dns.Msg)
	return m, m.Unpack(b)
}

// Cached returns what upstreams have said to q, nil if that is not known or no
// longer good now. It reports whether upstreams may be asked q.
func (z *Resolver) Cached(q dnscache.Question, now time.Time) (r *dnscache.Response, foreign bool) {
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
	if !z.IsWhole(n, r) {
		return nil, false
	}
	switch is := r.At(r.Age(now)); {
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

// IsWhole reports whether a response is all that there is to say to a question
// about n.
func (z *Resolver) IsWhole(n dnsname.Name, r *dnscache.Response) bool { return z.cutAt(n, r) == "" }

// IsPlain reports whether a question about n is for upstreams, and Decide has
// nothing else to say about it.
func (z *Resolver) IsPlain(n dnsname.Name) bool {
	if _, ours := z.authority(n); ours {
		return false
	}
	has, routed := z.Fwd.HasRoute(n)
	return has && (routed || !n.IsSingle())
}

// ServesNow is Serves for those who can wait.
func (z *Resolver) ServesNow(client netip.Addr) bool { return z.Fwd.Serves(client) }

// Serves reports whether a client's queries may be forwarded, and whether
// that is known without a look at the interfaces of this host.
func (z *Resolver) Serves(client netip.Addr) (serves, known bool) { return z.Fwd.ServesAsKnown(client) }
