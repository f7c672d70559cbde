package zone

import (
	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnsname"
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
		d.trace.notef(n, "a container that died not long ago had the alias %s: another host's address would be wrong",
			dnsname.Text(alias))
		d.Authoritative, d.Rcode = true, dns.RcodeNameError
		d.addSOA(authoritySection, alias, 0)
	case !has:
		d.trace.note(n, "it is not ours, and there is no -nameserver for it")
		if d.refuse(chained); routed {
			d.EDE = dnscache.ExtendedError(dns.ExtendedErrorCodeBlocked)
		}
	case !d.Fwd.Serves(d.client.Addr):
		d.trace.note(n,
			"it is not ours, and nothing is forwarded for this client, which is not a local one: see -allow")
		d.refuse(chained)
		d.EDE = dnscache.ExtendedError(dns.ExtendedErrorCodeProhibited)
	case chained && q.Flags&dnscache.RD == 0:
		d.trace.note(n, "it is not ours, and the client follows the CNAME itself")
	case !routed && n.IsSingle() && !isOfTLD(q.Type):
		d.trace.note(n, "it is a name of one label, which is forwarded only if there is such a top-level domain")
		if d.Reg.IsAboveZone(n) || d.Fwd.HasRouteBelow(n) {
			return // it exists, without data
		}
		d.open, d.isTLD, d.Kind = &q, true, stats.Forwarded
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
