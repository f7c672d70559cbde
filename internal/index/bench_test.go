package index

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/publish"
)

// filled returns a registry of that many services, ten of an image.
func filled(t testing.TB, count int) *rig {
	r := newRig(t, "docker")
	for i := range count {
		r.put(fmt.Sprint(i), numbered(t, r, i))
	}
	r.Ready.Store(true)
	return r
}

func numbered(t testing.TB, r *rig, i int) *publish.Service {
	addr := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
	return testService(t, r, fmt.Sprint(i), fmt.Sprintf("c%d", i), fmt.Sprintf("image%d", i/10), addr.String())
}

// A change of one service costs the same, however many there are.
func BenchmarkPut(b *testing.B) {
	for _, count := range []int{10, 1000, 100_000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			r := filled(b, count)
			var versions [2][]*publish.Service // of ten
			for i := range 10 {
				s := numbered(b, r, i*count/10)
				t := *s
				t.TTL = 7
				versions[0], versions[1] = append(versions[0], s), append(versions[1], &t)
			}
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				s := versions[n/10%2][n%10]
				r.put(s.ID, s)
			}
		})
	}
}

// Of what matches a query: exactly, from below, and not at all.
func BenchmarkLookUp(b *testing.B) {
	for _, count := range []int{10, 1000, 100_000} {
		r := filled(b, count)
		for _, qname := range []string{"c%d.image%d.docker", "x.c%d.image%d.docker", "y%d.z%d.docker"} {
			var names []dnsname.Name
			for i := range min(count, 1000) {
				i *= count / min(count, 1000)
				names = append(names, mustName(b, fmt.Sprintf(qname, i, i/10)))
			}
			b.Run(fmt.Sprint(qname, "/", count), func(b *testing.B) {
				b.ReportAllocs()
				for n := 0; b.Loop(); n++ {
					_ = r.Match(names[n%len(names)])
				}
			})
		}
	}
}
