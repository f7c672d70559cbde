package index

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/rayje/dnsdock/internal/publish"
)

// viewsOf returns a view of each service.
func viewsOf(services ...*publish.Service) (list []*Set) {
	for _, s := range services {
		list = append(list, Singleton(s))
	}
	return list
}

func TestRRset(t *testing.T) {
	r := newRig(t, "docker")
	r.SetTTL(60)
	a := testService(t, r, "a", "a", "x", "10.0.0.1 fd00::1")
	b := testService(t, r, "b", "b", "x", "10.0.0.1 10.0.0.2")
	b.TTL = 5
	for _, c := range []struct {
		services []*publish.Service
		v4       bool
		most     int
		want     string // sorted
		ttl      uint32
	}{
		{[]*publish.Service{a, b, a}, true, 9, "[10.0.0.1 10.0.0.2]", 5},
		{[]*publish.Service{a, b}, false, 9, "[fd00::1]", 5},
		{[]*publish.Service{a}, true, 9, "[10.0.0.1]", 60},
		{[]*publish.Service{a, b}, true, 2, "[10.0.0.1 10.0.0.2]", 5},
		{nil, true, 9, "[]", 60},
	} {
		addrs, ttl, _ := r.Rrset(viewsOf(c.services...), c.v4, c.most, Viewer{})
		slices.SortFunc(addrs, netip.Addr.Compare)
		if fmt.Sprint(addrs) != c.want || ttl != c.ttl {
			t.Errorf("rrset = %v, %d; want %v, %d", addrs, ttl, c.want, c.ttl)
		}
	}
	seen := make(map[netip.Addr]bool)
	for range 200 { // misses one with a probability of 2^-199
		addrs, _, _ := r.Rrset(viewsOf(a, testService(t, r, "c", "c", "x", "10.0.0.3")), true, 1, Viewer{})
		if len(addrs) != 1 {
			t.Fatalf("%v; want one", addrs)
		}
		seen[addrs[0]] = true
	}
	if len(seen) != 2 {
		t.Errorf("only %v, time and again; want both", seen)
	}
	clear(seen)
	for range 2000 { // misses one with a probability of 50 * (49/50)^2000
		addrs, _, _ := r.Rrset(viewsOf(testService(t, r, "d", "d", "x", fiftyAddrs())), true, 3, Viewer{})
		seen[addrs[0]] = true
	}
	if len(seen) != 50 {
		t.Errorf("%d addresses of one service came first at some time; want all 50", len(seen))
	}
}

func fiftyAddrs() string {
	var b strings.Builder
	for i := range 50 {
		fmt.Fprintf(&b, "10.1.0.%d ", i)
	}
	return b.String()
}
