package zone

import (
	"iter"
	"net/netip"
	"slices"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/stats"
)

// maxShared is the number of services from which a name is left out of Hosts:
// lines for each of them under each of the names above would fill a hosts file.
const maxShared = 64

// Hosts iterates over the names of services and those between them and the top of their
// domain, each with the addresses, sorted, that this machine itself is answered. Names that have none
// without asking upstreams are left out. Services come in the order of all, each with its full name first.
func (z *Resolver) Hosts(all iter.Seq[*publish.Service]) iter.Seq2[dnsname.Name, []netip.Addr] {
	return func(yield func(dnsname.Name, []netip.Addr) bool) {
		seen := make(map[dnsname.Name]bool)
		var above []dnsname.Name
		visit := func(n dnsname.Name) bool {
			if seen[n] || n.HasWildcard() || z.Reg.CountBelow(n) > maxShared {
				return true
			}
			seen[n] = true
			addrs := z.hostAddrs(n)
			return len(addrs) == 0 || yield(n, addrs)
		}
		for s := range all {
			for _, n := range s.AllNames() {
				if !visit(n) {
					return
				}
				top, _ := z.Reg.ZoneOf(n)
				for a := n.Parent(); top != "" && a != top && a.Under(top); a = a.Parent() {
					above = append(above, a)
				}
			}
		}
		for _, n := range above {
			if !visit(n) {
				return
			}
		}
	}
}

// hostAddrs returns the addresses of n that a client on this machine is answered, sorted.
func (z *Resolver) hostAddrs(n dnsname.Name) (addrs []netip.Addr) {
	for qtype, self := range map[uint16]netip.Addr{
		dns.TypeA: netip.AddrFrom4([4]byte{127, 0, 0, 1}), dns.TypeAAAA: netip.IPv6Loopback(),
	} {
		c := Client{Addr: self, Local: self, Size: dns.MaxMsgSize}
		a := z.Decide(Query{Name: n, Type: qtype, Class: dns.ClassINET}, c)
		if a.IsOpen() || a.Kind != stats.Own {
			continue
		}
		m, err := a.message()
		if err != nil {
			continue
		}
		for _, rr := range m.Answer {
			switch rr := rr.(type) {
			case *dns.A:
				ip, _ := netip.AddrFromSlice(rr.A)
				addrs = append(addrs, ip.Unmap())
			case *dns.AAAA:
				ip, _ := netip.AddrFromSlice(rr.AAAA)
				addrs = append(addrs, ip)
			}
		}
	}
	slices.SortStableFunc(addrs, netip.Addr.Compare)
	return addrs
}
