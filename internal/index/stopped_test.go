package index

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/rayje/dnsdock/internal/publish"
)

// With -all, a stopped container keeps its addresses until a running one has them.
func TestStoppedContainers(t *testing.T) {
	r := newRig(t, "docker")
	put := func(id, name, state string, addrs ...string) {
		t.Helper()
		e := publish.Endpoint{Network: publish.Network{Name: "bridge"}}
		for _, a := range addrs {
			e.Addrs = append(e.Addrs, netip.MustParseAddr(a))
		}
		s, _ := r.Rules.ServiceOf(&publish.Container{ID: id, Name: name, Image: "x", State: state, Networks: []publish.Endpoint{e}}, "e")
		if s.Origin.Engine = "e"; id == "5" {
			s.Origin.Engine = "elsewhere"
		}
		r.put(id, s)
	}
	want := func(what, q, want string) {
		t.Helper()
		addrs, _, _ := r.Rrset(r.Match(mustName(t, q)).Sets, true, 9, Viewer{})
		slices.SortFunc(addrs, netip.Addr.Compare)
		if got := fmt.Sprint(addrs); got != want {
			t.Errorf("%s: %s: got %s; want %s", what, q, got, want)
		}
	}
	ptr := func(what, want string) {
		t.Helper()
		if got := fmt.Sprint(MostSpecific(r.At(mustName(t, "2.0.17.172.in-addr.arpa")), 9)); got != want {
			t.Errorf("%s: PTR: got %s; want %s", what, got, want)
		}
	}
	old := mustName(t, "a.very.old.x.docker")
	put("1", "a.very.old", "exited", "172.17.0.2", "172.17.0.3")
	want("alone", old.String(), "[172.17.0.2 172.17.0.3]")
	ptr("alone", "[a.very.old.x.docker.]")
	stamp := r.Stamp(old)
	put("2", "new", "running", "172.17.0.2")
	if r.Stamp(old) == stamp {
		t.Error("the stamp of the stopped container's name does not change when it loses its address")
	}
	want("beside a running one", old.String(), "[172.17.0.3]")
	want("beside a running one", "new.x.docker", "[172.17.0.2]")
	ptr("beside a running one", "[new.x.docker.]")
	put("2", "new", "paused", "172.17.0.2")
	want("beside a paused one", old.String(), "[172.17.0.3]")
	put("3", "made", "created", "172.17.0.2")
	want("beside a stopped one", "made.x.docker", "[]")
	stamp = r.Stamp(old)
	r.forget("2")
	if r.Stamp(old) == stamp {
		t.Error("the stamp of the stopped container's name does not change when it gets its address back")
	}
	want("without it", "made.x.docker", "[172.17.0.2]")
	put("5", "far", "running", "172.17.0.2")
	want("beside one of another engine", "made.x.docker", "[172.17.0.2]")
	if names := MostSpecific(r.At(mustName(t, "2.0.17.172.in-addr.arpa")), 9); len(names) != 3 {
		t.Errorf("beside one of another engine: PTR: got %v; want all three", names)
	}
	put("4", "other", "running", "172.17.0.9")
	want("beside one at another address", "made.x.docker", "[172.17.0.2]")
}
