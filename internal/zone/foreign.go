package zone

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/stats"
)

// foreign decides about q, whose name is not ours: it is left open for
// upstreams, NXDOMAIN, or REFUSED. After a CNAME the answer may end with that,
// as the client can follow it elsewhere.
func (d *decision) foreign(q Query, chained bool) {
	d.keep = false
	n := q.Name
	has, routed := d.Fwd.HasRoute(n)
	alias, died := d.Reg.RecentlyRemoved(n)
	switch {
	case died:
		d.trace.notef(n, "a container that died not long ago had the alias %s: another host's address would be wrong", dnsname.Text(alias))
		d.Authoritative, d.Rcode = true, dns.RcodeNameError
		d.addSOA(authoritySection, alias, 0)
	case !has:
		d.trace.note(n, "it is not ours, and there is no -nameserver for it")
		d.refuse(chained)
	case !d.Fwd.Serves(d.client.Addr):
		d.trace.note(n, "it is not ours, and nothing is forwarded for this client, which is not a local one: see -allow")
		d.refuse(chained)
	case !routed && n.IsSingle() && !isOfTLD(q.Type):
		d.trace.note(n, "it is a name of one label, which only hosts of this site have")
		if !d.Reg.HasAtOrBelow(n) && !d.Reg.IsAboveZone(n) && !d.Fwd.HasRouteBelow(n) {
			d.Rcode = dns.RcodeNameError
		}
	case chained && q.Flags&dnscache.RD == 0:
		d.trace.note(n, "it is not ours, and the client follows the CNAME itself")
	default:
		d.trace.forward(n, d.Fwd)
		d.open, d.Kind = &q, stats.Forwarded
	}
}

// refuse answers REFUSED, unless the answer already has a CNAME.
func (d *decision) refuse(chained bool) {
	if !chained {
		d.Rcode, d.Kind = dns.RcodeRefused, stats.Refused
	}
}

// isOfTLD reports whether top-level domains have records of a type, which
// resolvers ask for that look names up themselves.
func isOfTLD(qtype uint16) bool {
	return qtype == dns.TypeNS || qtype == dns.TypeSOA || qtype == dns.TypeDS || qtype == dns.TypeDNSKEY
}

// Complete asks upstreams what a leaves open. It may wait for them.
func (a *Answer) Complete() {
	defer a.recoverFrom("complete")
	if a.open == nil {
		return
	}
	begun := time.Now()
	r := a.resolver.Fwd.Answer(a.resolver.ctx, a.open.upstream(), a.query.ID, a.client.Addr)
	if r != nil && r.Age() > time.Since(begun) {
		a.Kind = stats.Cached
	}
	if r == nil {
		a.fail(dns.RcodeServerFailure)
		return
	}
	a.Relay(r)
}

// known completes an open answer by what upstreams have answered before, and
// reports whether there is such a response.
func (a *Answer) known() bool {
	r := a.resolver.Fwd.Cache.Get(a.open.upstream())
	if r == nil || r.At(r.Age()) < dnscache.Tired || r.Rcode() == dns.RcodeServerFailure {
		return false
	}
	a.Relay(r)
	return true
}

// Relay completes an open answer by an upstream's response.
func (a *Answer) Relay(r *dnscache.Response) {
	a.EDE = r.EDE
	switch {
	case r.Rcode() == dns.RcodeServerFailure:
		a.fail(dns.RcodeServerFailure)
		a.EDE = r.EDE
	case a.counts[answerSection] == 0:
		a.Response, a.Rcode = r, r.Rcode()
	case !a.append(r):
		a.fail(dns.RcodeServerFailure)
	}
}

// append adds a response to the CNAMEs that a has, and reports whether that
// could be read and written.
func (a *Answer) append(r *dnscache.Response) bool {
	said, err := r.Message(r.Age())
	if err != nil {
		return false
	}
	m, err := a.message()
	if err != nil {
		return false
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
	a.records = b[a.base:]
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
		b = a.Response.AppendTo(b[:a.base], 0, true, a.Response.Age(), a.resolver.ForcedTTL())
	}
	m := new(dns.Msg)
	return m, m.Unpack(b)
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

// ServesNow is Serves for those who can wait.
func (z *Resolver) ServesNow(client netip.Addr) bool { return z.Fwd.Serves(client) }

// Serves reports whether a client's queries may be forwarded, and whether
// that is known without a look at the interfaces of this host.
func (z *Resolver) Serves(client netip.Addr) (serves, known bool) { return z.Fwd.ServesAsKnown(client) }
