package zone

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/zonetest"
)

// copyZone takes all nodes of a zone.
func copyZone(t *testing.T, z *Resolver, apex dnsname.Name, local netip.Addr) zonetest.Copy {
	t.Helper()
	c := make(zonetest.Copy)
	add := func(n dnsname.Name, rr string) bool {
		r, _, err := dns.UnpackRR([]byte(string(n)+rr), 0)
		if err != nil || slices.ContainsFunc(c[n], func(o dns.RR) bool { return dns.IsDuplicate(o, r) }) {
			t.Fatalf("%v: %v, or it is there twice: %v", n, err, r)
		}
		c[n] = append(c[n], r)
		return true
	}
	for _, n := range slices.Compact(slices.Sorted(z.NamesIn(apex))) {
		z.Node(n, apex, local).Records(add)
	}
	add(apex, z.SOA(apex))
	return c
}

// An answer of a copied zone is the one that a client on no network gets here, but for what depends on the spelling
// of the question.
func FuzzContent(f *testing.F) {
	for seed := range uint64(60) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		labels := []string{"a", "b", "c", "docker", "d", "_80", "_tcp", "dnsdock", "host"}
		random := func(most int) string {
			var parts []string
			for range 1 + rnd.IntN(most) {
				parts = append(parts, labels[rnd.IntN(5)])
			}
			return strings.Join(parts, ".")
		}
		reg := zonetest.New(t, "docker", 7)
		reg.Rules.Second = publish.SecondNames{Compose: true, Hostname: true, Alias: true, ID: true, Hyphen: true}
		reg.Rules.Closest = rnd.IntN(2) == 0
		for i := range 1 + rnd.IntN(8) {
			publishRandom(t, reg, rnd, fmt.Sprint(i), random)
		}
		z := newResolver(t, reg)
		z.Secondaries = []dnsname.Name{zonetest.Name(t, "ns1.example")}
		local := netip.MustParseAddr("192.0.2.1")
		c := copyZone(t, z, zonetest.Name(t, "docker"), local)
		for range 150 {
			q := random(4) + ".docker"
			if rnd.IntN(4) == 0 {
				q = labels[5+rnd.IntN(4)] + "." + q
			} else if rnd.IntN(4) == 0 {
				q = "_80._tcp." + q
			} else if rnd.IntN(20) == 0 {
				q = []string{"docker", "dnsdock.docker", "x.dnsdock.docker", "host.docker", "_tcp.docker"}[rnd.IntN(5)]
			}
			n := zonetest.Name(t, q)
			types := []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeTXT, dns.TypeNS, dns.TypeCNAME}
			if c.Exists(n) {
				types = append(types, dns.TypeMX, dns.TypeSRV, dns.TypeSOA)
			}
			for _, qtype := range types {
				m := replyTo(z, new(dns.Msg).SetQuestion(n.String(), qtype), Client{Local: local, Size: dns.MaxMsgSize})
				if len(m.Answer) > 0 && m.Answer[0].Header().Rrtype == dns.TypeCNAME {
					m.Answer, m.Rcode = m.Answer[:1], dns.RcodeSuccess // the target is asked in its own right
				}
				want := zonetest.Show(m.Rcode, m.Answer)
				isSRV := strings.HasPrefix(q, "_") && !c.Exists(n) // a name of ports below further labels
				if got := c.Answer(n, qtype); got != want && !isSRV {
					t.Fatalf("seed %d: %s %s: the copy has %q; want %q", seed, q, dns.Type(qtype), got, want)
				}
			}
		}
	})
}

// publishRandom publishes a service with random names and records.
func publishRandom(t *testing.T, reg *zonetest.Index, rnd *rand.Rand, name string, random func(int) string) {
	t.Helper()
	c := publish.Container{Name: random(2), Image: random(2), Labels: map[string]string{}}
	c.ID = strings.Repeat(name, 64)
	var aliases []string
	for range rnd.IntN(3) {
		aliases = append(aliases, random(3)+".docker")
	}
	if rnd.IntN(10) == 0 {
		aliases = append(aliases, "*")
	}
	c.Labels["com.dnsdock.alias"] = strings.Join(aliases, ",")
	switch rnd.IntN(6) {
	case 0:
		c.Labels["com.dnsdock.cname"] = random(2) + ".docker"
	case 1:
		c.Labels["com.dnsdock.txt"] = "text " + random(2)
	case 2:
		c.Labels["com.dnsdock.ttl"] = fmt.Sprint(rnd.IntN(3))
	}
	if rnd.IntN(3) == 0 {
		c.Exposed = []publish.Port{{Number: 80, Proto: "tcp"}, {Number: 53, Proto: "udp"}}
		c.Sick = rnd.IntN(3) == 0
	}
	network := []string{"a", "a", "a", "!b"}[rnd.IntN(4)]
	e := zonetest.Endpoint(network, fmt.Sprintf("10.1.0.%d/24", 2+rnd.IntN(9)))
	for range rnd.IntN(3) {
		e.Aliases = append(e.Aliases, random(2))
	}
	c.Networks = []publish.Endpoint{e}
	if rnd.IntN(3) == 0 {
		c.Task = &publish.Task{ID: c.ID, ServiceID: "s", Service: random(1), Slot: rnd.IntN(3), Node: random(2)}
	}
	reg.PutContainers(t, c)
	if rnd.IntN(4) == 0 {
		vip, _ := reg.Rules.VIPOf(publish.Task{ServiceID: "s", Service: random(1)}, []publish.Endpoint{
			zonetest.Endpoint(network, "10.1.0.100/24")}, "e")
		node, _ := reg.Rules.NodeOf(name, random(2), netip.MustParseAddr("192.0.2.7"), "e")
		reg.Put("vip:s", vip)
		reg.Put("node:"+name, node)
	}
}
