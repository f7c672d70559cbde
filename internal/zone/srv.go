package zone

import (
	"math/rand/v2"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/publish"
)

// addSRV adds ports, starting at a random one, with the addresses of the names
// that they point to: the full names of their services.
//
// RFC 2782. All have one priority and weight: clients choose at random.
func (d *decision) addSRV(owner dnsname.Name, ports []servicePort) {
	if len(ports) == 0 {
		return
	}
	ttl := uint32(publish.MaxTTL)
	for _, p := range ports {
		ttl = min(ttl, d.Reg.TTLOf(p.Service))
	}
	type target struct {
		name   dnsname.Name
		number uint16
	}
	seen, isHost := make(map[target]bool), make(map[dnsname.Name]bool)
	var hosts []dnsname.Name
	limit := d.limit(len(ports))
	for i, first := 0, rand.IntN(len(ports)); i < len(ports) && len(seen) < limit; i++ {
		p := ports[(first+i)%len(ports)]
		if p.Outside != nil {
			d.basis.By |= ByNetwork
		}
		for _, number := range p.NumbersFor(p.Port, d.places()...) {
			t := target{p.FullName(), number}
			if seen[t] {
				continue
			}
			seen[t] = true
			data := d.begin(answerSection, owner, dns.TypeSRV, ttl)
			d.uint16s(0, 1, t.number) // priority, weight, port
			d.whole(t.name)
			d.end(data)
			if !isHost[t.name] {
				isHost[t.name] = true
				hosts = append(hosts, t.name)
			}
		}
	}
	d.keepBelow(limit, len(seen))
	for _, n := range hosts {
		if int(d.counts[additionalSection]) >= limit {
			d.keep = false
			break
		}
		top, _ := d.Reg.ZoneOf(n)
		d.addAddrsOf(n, top)
	}
}
