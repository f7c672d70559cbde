package main

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/rayje/dnsdock/internal/index"
	"github.com/rayje/dnsdock/internal/publish"
)

// checkSet holds what a set says of itself against what is in it.
func checkSet(t testing.TB, s *index.Set) {
	t.Helper()
	if s == nil {
		return
	}
	if want := index.Top(s.Service, s.Service.Kinds(), s.Weight, s.Left, s.Right); *want != *s {
		t.Fatalf("set of %s: %+v; want %+v", s.ID, s, want)
	}
	if s.Left != nil && (s.Left.ID >= s.ID || s.Left.Weight > s.Weight) || s.Right != nil && (s.Right.ID <= s.ID || s.Right.Weight > s.Weight) {
		t.Fatalf("%s is in the wrong place", s.ID)
	}
	checkSet(t, s.Left)
	checkSet(t, s.Right)
}

// A set is held against a map, through all that is done to it.
func TestSet(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var s *index.Set
	want := make(map[string]*publish.Service)
	for range 3000 {
		id := fmt.Sprint(rnd.IntN(300))
		before, size := s, s.Len()
		if rnd.IntN(3) == 0 {
			s = s.Without(id)
			if _, had := want[id]; had == (s == before) {
				t.Fatalf("without %s: the same set %t; want %t", id, s == before, !had)
			}
			delete(want, id)
		} else {
			n := &publish.Service{ID: id, TTL: rnd.IntN(5) - 1}
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
			s, want[id] = s.With(index.Singleton(n)), n
		}
		if before.Len() != size {
			t.Fatalf("the set from before has %d; want %d", before.Len(), size)
		}
		checkSet(t, s)
		if s.Len() != len(want) {
			t.Fatalf("%d services; want %d", s.Len(), len(want))
		}
	}
	for _, k := range []publish.Kind{publish.HasA, publish.HasAAAA, publish.HasTXT, publish.HasPorts, publish.HasDefault, publish.HasData, publish.HasCNAME, publish.HasA | publish.HasCNAME} {
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
		views := []*index.View{index.NewView(s), index.NewView(index.Singleton(&publish.Service{ID: "x"})), index.NewView(s)}
		for range 20 { // from a random one on, each once for each view
			got = nil
			for n := range index.Shuffled(views, k) {
				got = append(got, n.ID)
			}
			slices.Sort(got)
			twice := slices.Concat(ids, ids)
			if (&publish.Service{}).Kinds()&k != 0 {
				twice = append(twice, "x")
			}
			slices.Sort(twice)
			if !slices.Equal(got, twice) {
				t.Fatalf("kind %b of views: %v; want %v", k, got, twice)
			}
		}
	}
}

// A set is as deep as a balanced one, within a factor.
func TestSetDepth(t *testing.T) {
	var s *index.Set
	for i := range 10_000 {
		s = s.With(index.Singleton(&publish.Service{ID: fmt.Sprintf("%06d", i)}))
	}
	var depth func(*index.Set) int
	depth = func(s *index.Set) int {
		if s == nil {
			return 0
		}
		return 1 + max(depth(s.Left), depth(s.Right))
	}
	if d := depth(s); d > 64 { // 14 is the least; random weights make 64 less likely than 1e-9
		t.Errorf("depth %d", d)
	}
}
