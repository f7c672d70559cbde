package index

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/rayje/dnsdock/internal/publish"
)

// onNetwork returns a service with one address, 10.(id).0.2, on a network of so many bits.
func onNetwork(r *rig, id, bits int) *publish.Service {
	addr := fmt.Sprintf("10.%d.0.2", id)
	e := publish.Endpoint{
		Network: publish.Network{
			Name: fmt.Sprint(id % 3),
			V4:   publish.NewIPNet(addr, bits, fmt.Sprintf("10.%d.0.1", id)),
			V6:   publish.NewIPNet(fmt.Sprintf("fd00:%d::2", id), 2*bits, ""),
		},
		Addrs: []netip.Addr{netip.MustParseAddr(addr)},
	}
	c := &publish.Container{ID: fmt.Sprint(id), Name: "c", Image: "x", State: "running", Networks: []publish.Endpoint{e}}
	s, _ := r.Rules.ServiceOf(c, "e")
	return s
}

// The networks of a client are those that a look at each network finds.
func TestNetworksOf(t *testing.T) {
	r := newRig(t, "docker")
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		id := rnd.IntN(20)
		if rnd.IntN(3) == 0 {
			r.forget(fmt.Sprint(id))
		} else {
			r.put(fmt.Sprint(id), onNetwork(r, id%10, 8+8*rnd.IntN(3)))
		}
		for _, text := range []string{"10.%d.0.1", "10.%d.0.9", "10.%d.3.9", "fd00:%d::9", "fe80::%d%%eth0", "192.0.2.%d"} {
			client := netip.MustParseAddr(fmt.Sprintf(text, rnd.IntN(10)))
			var got, want []string
			for n := range r.networksAt(client) {
				got = append(got, fmt.Sprint(n.Value()))
			}
			for n := range r.networks {
				if n.Value().Has(client) {
					want = append(want, fmt.Sprint(n.Value()))
				}
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Fatalf("%v: got\n%s; want\n%s", client, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			if is := r.isNear(client); is != (len(want) > 0) || (r.NetworksOf(client) != 0) != is {
				t.Fatalf("%v: near %t, number %x; want %t", client, is, r.NetworksOf(client), !is)
			}
		}
	}
	for id := range 20 {
		r.forget(fmt.Sprint(id))
	}
	if len(r.networks) > 0 || r.prefixes.Len() > 0 {
		t.Errorf("%d networks and %d prefixes are left", len(r.networks), r.prefixes.Len())
	}
}

func BenchmarkNetworksOf(b *testing.B) {
	for _, count := range []int{10, 250} {
		r := newRig(b, "docker")
		for i := range count {
			s := onNetwork(r, i, 24)
			r.put(s.ID, s)
		}
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			b.ReportAllocs()
			client := netip.MustParseAddr("10.7.0.9")
			for b.Loop() {
				_ = r.NetworksOf(client)
			}
		})
	}
}
