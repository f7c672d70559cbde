package transfer

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/zonetest"
)

// fits is the names rule on text: compare label by label from the right, and the shorter name decides. A name at the
// apex answers itself only. It returns how many labels the owner name has more than the question.
func fits(q, owner string) (longer int, ok bool) {
	a, b := strings.Split(q, "."), strings.Split(owner, ".")
	slices.Reverse(a)
	slices.Reverse(b)
	n := min(len(a), len(b))
	return len(b) - len(a), slices.Equal(a[:n], b[:n]) && (len(b) > 1 || len(a) == 1)
}

// ruled returns the addresses that the names rule gives for q, by a look at all owner names of all addresses.
func ruled(q string, owners map[string][]string, onlyClosest bool) (addrs []string) {
	best := -100 // 2: a name is q itself; 1: names are below it; else minus the labels by which the longest is shorter
	for addr, names := range owners {
		for _, o := range names {
			longer, ok := fits(q, o)
			rank := min(longer, 1)
			if longer == 0 {
				rank = 2
			}
			if !ok || onlyClosest && rank < best {
				continue
			}
			if onlyClosest && rank > best {
				best, addrs = rank, nil
			}
			addrs = append(addrs, addr)
		}
	}
	slices.Sort(addrs)
	return slices.Compact(addrs)
}

// The records of a transferred zone, looked up as any nameserver does, are those of the names rule as the manual says
// it. The resolver has no part in this, but to make them.
func FuzzRule(f *testing.F) {
	for seed := range uint64(60) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		rnd := rand.New(rand.NewPCG(seed, 5))
		random := func(most int) string {
			var parts []string
			for range 1 + rnd.IntN(most) {
				parts = append(parts, []string{"a", "b", "c", "docker"}[rnd.IntN(4)])
			}
			return strings.Join(parts, ".")
		}
		ix := zonetest.New(t, "docker", 0)
		ix.Rules.Closest = rnd.IntN(2) == 0
		owners := make(map[string][]string) // by address
		for i := range 1 + rnd.IntN(8) {
			name, image, addr := random(2), random(1), fmt.Sprintf("10.0.0.%d", i)
			owners[addr] = []string{name + "." + image + ".docker"}
			for range rnd.IntN(3) {
				owners[addr] = append(owners[addr], random(3)+".docker")
			}
			if rnd.IntN(10) == 0 {
				owners[addr] = append(owners[addr], "docker")
			}
			ix.Put(addr, ix.Service(t, addr, name, image, addr, owners[addr][1:]...))
		}
		s, _ := newServer(t, ix)
		s.step(100)
		c := make(zonetest.Copy)
		_, list := ask(t, s, client, dns.TypeAXFR, 0)
		for _, rr := range list[1:] {
			n := zonetest.Name(t, rr.Header().Name)
			c[n] = append(c[n], rr)
		}
		for range 100 {
			q := random(5) + ".docker"
			if rnd.IntN(20) == 0 {
				q = "docker"
			}
			want := "NXDOMAIN"
			if addrs := ruled(q, owners, ix.Rules.Closest); len(addrs) > 0 {
				want = "NOERROR 0" + strings.Join(addrs, " 0")
			}
			if got := c.Answer(zonetest.Name(t, q), dns.TypeA); got != want {
				t.Fatalf("seed %d, closest %t: %s: the records say %q; want %q: %v",
					seed, ix.Rules.Closest, q, got, want, owners)
			}
		}
	})
}
