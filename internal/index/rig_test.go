package index

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	intern "unique"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/table"
)

// A rig is an index with what its writer knows: the services by ID.
type rig struct {
	*Index
	services map[string]*publish.Service
}

// newRig returns an empty index of the given domain, for which nothing is waited.
func newRig(t testing.TB, domain string) *rig {
	t.Helper()
	r := &rig{New(publish.NameRules{Apex: mustName(t, domain)}, 0), make(map[string]*publish.Service)}
	r.Ready.Store(true)
	return r
}

// put publishes s, or nothing, under an ID.
func (r *rig) put(id string, s *publish.Service) {
	r.Replace(r.services[id], s, true)
	if r.services[id] = s; s == nil {
		delete(r.services, id)
	}
}

func (r *rig) forget(id string) {
	if r.services[id] != nil {
		r.put(id, nil)
	}
}

func mustName(t testing.TB, s string) dnsname.Name {
	t.Helper()
	n, err := dnsname.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// testService is a container's service. Aliases come after the two parts of its
// name.
func testService(t testing.TB, r *rig, id, part, image, addr string, aliases ...string) *publish.Service {
	t.Helper()
	s := &publish.Service{
		ID: id, ContainerLabel: part, ImageLabel: image, TTL: publish.DefaultTTL, Extras: new(publish.Extras),
		Origin: publish.Origin{Engine: "e", Container: part, Image: image},
	}
	for text := range strings.FieldsSeq(addr) {
		s.Addrs = append(s.Addrs, netip.MustParseAddr(text))
	}
	for _, a := range aliases {
		s.Aliases = append(s.Aliases, mustName(t, a))
	}
	if err := r.Rules.SetOwnerNames(s); err != nil {
		t.Fatal(err)
	}
	return s
}

// matched returns the IDs of the services that answer for q, sorted, each
// once; "foreign" if q is not ours.
func matched(t testing.TB, r *rig, q string) string {
	t.Helper()
	n := mustName(t, q)
	if _, ok := r.AliasFor(n); !ok && !n.Under(r.Rules.Apex) {
		return "foreign"
	}
	var ids []string
	for s := range Shuffled(r.Match(n).Sets, publish.AnyKind) {
		ids = append(ids, s.ID)
	}
	slices.Sort(ids)
	return strings.Join(slices.Compact(ids), " ")
}

// check holds the tables against what is published: each pair of a service
// and a name is where it must be, and nowhere else.
func (r *rig) check(t testing.TB) {
	t.Helper()
	owned, second := newWant(), newWant()
	addrs := make(map[netip.Addr]map[string]bool)
	networks := make(map[intern.Handle[publish.Network]]int)
	for id, s := range r.services {
		owned.add(id, s.OwnerNames, dnsname.Root)
		second.add(id, s.SecondNames, r.Rules.Apex)
		for _, a := range s.Addrs {
			if !a.IsValid() { // the host's
				continue
			}
			if addrs[a] == nil {
				addrs[a] = make(map[string]bool)
			}
			addrs[a][id] = true
		}
		for _, run := range s.NetRuns {
			networks[run.Net]++
		}
	}
	r.checkNodes(t, "owner names", &r.owned, owned)
	r.checkNodes(t, "second names", &r.second, second)
	if !maps.Equal(r.networks, networks) {
		t.Fatalf("networks %v; want %v", r.networks, networks)
	}
	got := make(map[netip.Addr]map[string]bool)
	for a, set := range r.addrs.All() {
		got[a] = r.ids(t, set)
	}
	if !reflect.DeepEqual(got, addrs) {
		t.Fatalf("addresses %v; want %v", got, addrs)
	}
	var all []string
	for s := range r.Everything {
		all = append(all, s.ID)
	}
	if want := publish.SortedKeys(r.services); !slices.Equal(all, want) {
		t.Fatalf("published %v; want %v", all, want)
	}
}

// A want holds the IDs at or below each name, and those at it.
type want struct {
	subtree, exact map[dnsname.Name]map[string]bool
}

func newWant() want {
	return want{make(map[dnsname.Name]map[string]bool), make(map[dnsname.Name]map[string]bool)}
}

func (w want) add(id string, names []dnsname.Name, top dnsname.Name) {
	put := func(all map[dnsname.Name]map[string]bool, n dnsname.Name) {
		if all[n] == nil {
			all[n] = make(map[string]bool)
		}
		all[n][id] = true
	}
	for _, o := range names {
		put(w.exact, o)
		for n := o; n != top; n = n.Parent() {
			put(w.subtree, n)
		}
	}
}

func (r *rig) checkNodes(t testing.TB, what string, nodes *table.Table[dnsname.Name, node], want want) {
	t.Helper()
	got := newWant()
	for n, node := range nodes.All() {
		got.subtree[n] = r.ids(t, node.subtree)
		if node.exact != nil {
			got.exact[n] = r.ids(t, node.exact)
		}
		if node.exact.Len() == node.subtree.Len() && node.exact != node.subtree {
			t.Fatalf("%s: two sets of the same at %v", what, n)
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s: got %v; want %v", what, got, want)
	}
}

// ids returns the IDs of a set, after a look at the set itself.
func (r *rig) ids(t testing.TB, set *Set) map[string]bool {
	t.Helper()
	checkSet(t, set)
	m := make(map[string]bool)
	for s := range set.All(publish.AnyKind) {
		if r.services[s.ID] != s || m[s.ID] {
			t.Fatalf("%s is stale, or there twice", s.ID)
		}
		m[s.ID] = true
	}
	return m
}
