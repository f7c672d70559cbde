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

// checkSet holds what a set says of itself against what is in it.
func checkSet(t testing.TB, s *Set) {
	t.Helper()
	if s == nil {
		return
	}
	var all []*publish.Service
	parts := s.parts
	if parts == nil {
		parts = []*Set{s}
	}
	for _, p := range parts {
		if n := len(p.services); n == 0 || n > maxPart || p.parts != nil || s.parts != nil && len(s.parts) < 2 {
			t.Fatalf("a part of %d services, of %d parts", n, len(s.parts))
		}
		all = append(all, p.services...)
		want := newSet(p.services)
		if p.size != want.size || p.minTTL != want.minTTL || p.kinds != want.kinds {
			t.Fatalf("part: %+v; want %+v", p, want)
		}
	}
	want := newSet(all)
	if s.size != want.size || s.minTTL != want.minTTL || s.kinds != want.kinds {
		t.Fatalf("set: %+v; want %+v", s, want)
	}
	if !slices.IsSortedFunc(all, func(a, b *publish.Service) int { return strings.Compare(a.ID, b.ID) }) {
		t.Fatal("the services are not sorted")
	}
}

// A set is held against a map, through all that is done to it.
func TestSet(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var s *Set
	want := make(map[string]*publish.Service)
	for range 8000 {
		id := fmt.Sprint(rnd.IntN(1500))
		before, size := s, s.Len()
		if rnd.IntN(3) == 0 {
			s = s.without(id)
			if _, had := want[id]; had == (s == before) {
				t.Fatalf("without %s: the same set %t; want %t", id, s == before, !had)
			}
			delete(want, id)
		} else {
			n := &publish.Service{ID: id, TTL: rnd.IntN(5) - 1, Extras: new(publish.Extras)}
			switch rnd.IntN(4) {
			case 0:
				n.CNAME = "\x01a\x00"
			case 1:
				n.Addrs = []netip.Addr{netip.MustParseAddr("10.0.0.1")}
			case 2:
				n.Addrs, n.TXT = []netip.Addr{netip.MustParseAddr("fd00::1")}, []string{"a"}
			case 3:
				n.Ports = []publish.Port{{Number: 1}}
			}
			s, want[id] = s.with(Singleton(n)), n
		}
		if before.Len() != size {
			t.Fatalf("the set from before has %d; want %d", before.Len(), size)
		}
		checkSet(t, s)
		if s.Len() != len(want) {
			t.Fatalf("%d services; want %d", s.Len(), len(want))
		}
	}
	for _, k := range []publish.Kind{
		publish.HasA, publish.HasAAAA, publish.HasTXT, publish.HasPorts, publish.HasDefault, publish.HasData, publish.HasCNAME,
		publish.HasA | publish.HasCNAME,
	} {
		checkKind(t, s, k, want)
	}
}

// checkKind holds what iterators yield of a kind against what was put into s.
func checkKind(t *testing.T, s *Set, k publish.Kind, want map[string]*publish.Service) {
	t.Helper()
	var ids []string
	for _, id := range publish.SortedKeys(want) {
		if want[id].Kinds()&k != 0 {
			ids = append(ids, id)
		}
	}
	var got []string
	for n := range s.All(k) {
		if n != want[n.ID] {
			t.Fatalf("%s is not what was put", n.ID)
		}
		got = append(got, n.ID)
	}
	if !slices.Equal(got, ids) || s.Has(k) != (len(ids) > 0) {
		t.Errorf("kind %b: has %t, %v; want %v", k, s.Has(k), got, ids)
	}
	views := []*Set{s, Singleton(&publish.Service{ID: "x", Extras: new(publish.Extras)}), s}
	for range 20 { // from a random one on, each once for each view
		got = nil
		for n := range Shuffled(views, k) {
			got = append(got, n.ID)
		}
		slices.Sort(got)
		twice := slices.Concat(ids, ids)
		if (&publish.Service{Extras: new(publish.Extras)}).Kinds()&k != 0 {
			twice = append(twice, "x")
		}
		slices.Sort(twice)
		if !slices.Equal(got, twice) {
			t.Fatalf("kind %b of views: %v; want %v", k, got, twice)
		}
	}
}

// A set of many has parts of a size, in whatever order they come.
func TestSetParts(t *testing.T) {
	for what, next := range map[string]func(i int) int{
		"rising": func(i int) int { return i }, "falling": func(i int) int { return -i }, "random": func(i int) int { return i * 7919 % 10_007 },
	} {
		var s *Set
		for i := range 10_000 {
			id := fmt.Sprintf("%06d", 20_000+next(i))
			s = s.with(Singleton(&publish.Service{ID: id, Extras: new(publish.Extras)}))
		}
		checkSet(t, s)
		if n := len(s.parts); s.Len() != 10_000 || n > 2*10_000/maxPart+1 {
			t.Errorf("%s: %d services in %d parts", what, s.Len(), n)
		}
		for i := range 10_000 {
			s = s.without(fmt.Sprintf("%06d", 20_000+next(i)))
		}
		if s != nil {
			t.Errorf("%s: %d services are left", what, s.Len())
		}
	}
}

// The services with a prefix are found, wherever the parts begin.
func TestSetWithPrefix(t *testing.T) {
	var s *Set
	if got := s.withPrefix("1"); got != nil {
		t.Errorf("got %v of none", got)
	}
	for i := range 3000 {
		s = s.with(Singleton(&publish.Service{ID: fmt.Sprintf("%04d", i), Extras: new(publish.Extras)}))
	}
	for prefix, want := range map[string]int{"": 3000, "0": 1000, "1": 1000, "29": 100, "299": 10, "2999": 1, "3": 0, "/": 0, "29990": 0, "0000": 1} {
		if got := s.withPrefix(prefix); len(got) != want {
			t.Errorf("%q: got %d; want %d", prefix, len(got), want)
		}
	}
	for i := range 3000 {
		if got := s.withPrefix(fmt.Sprintf("%04d", i)); len(got) != 1 || got[0].ID != fmt.Sprintf("%04d", i) {
			t.Fatalf("%04d: got %v", i, got)
		}
	}
}
