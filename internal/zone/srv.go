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
func (d *decision) addSRV(owner string, ports []servicePort) {
	if len(ports) == 0 {
		return
	}
	ttl := uint32(publish.MaxTTL)
	for _, p := range ports {
		ttl = min(ttl, d.Reg.TTLOf(p.Service))
	}
	h := header(owner, dns.TypeSRV, ttl)
	type target struct {
		name   dnsname.Name
		number uint16
	}
	seen, hosts := make(map[target]bool), make(map[dnsname.Name]bool)
	var extra []dns.RR
	limit := d.limit(len(ports))
	for i, first := 0, rand.IntN(len(ports)); i < len(ports) && len(d.Msg.Answer) < limit; i++ {
		p := ports[(first+i)%len(ports)]
		t := target{p.OwnerNames[0], p.Number}
		if seen[t] {
			continue
		}
		seen[t] = true
		d.Msg.Answer = append(d.Msg.Answer, &dns.SRV{Hdr: h, Weight: 1, Port: t.number, Target: t.name.String()})
		if !hosts[t.name] && len(extra) < limit {
			hosts[t.name] = true
			top, _ := d.Reg.ZoneOf(t.name)
			extra = append(extra, d.addrsOf(t.name, top)...)
		}
	}
	d.addExtra(extra)
	d.keepBelow(limit, max(len(d.Msg.Answer), len(extra)))
}
