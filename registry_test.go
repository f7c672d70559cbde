package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	intern "unique"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/engine"
	"github.com/rayje/dnsdock/internal/index"
	"github.com/rayje/dnsdock/internal/publish"
)

// newTestRegistry returns an empty, ready registry of the given domain.
func newTestRegistry(t testing.TB, domain string) *registry {
	t.Helper()
	r := newRegistry(publish.NameRules{Apex: mustName(t, domain)}, 0, nil)
	r.log = slog.New(dnstest.Unlocked(t, io.Discard, &r.mu))
	r.index.Ready.Store(true)
	return r
}

// testService is a container's service; names are the aliases after
// the two parts.
func testService(t testing.TB, r *registry, id, part, image, addr string, aliases ...string) *publish.Service {
	t.Helper()
	s := &publish.Service{ID: id, ContainerLabel: part, ImageLabel: image, TTL: publish.DefaultTTL, Origin: publish.Origin{Engine: "e", Container: part, Image: image}}
	for text := range strings.FieldsSeq(addr) {
		s.Addrs = append(s.Addrs, netip.MustParseAddr(text))
	}
	for _, a := range aliases {
		s.Aliases = append(s.Aliases, mustName(t, a))
	}
	if err := r.index.Rules.SetOwnerNames(s); err != nil {
		t.Fatal(err)
	}
	return s
}

// matched returns the ids of the services that answer for q, sorted, each
// once; "foreign" if q is not ours.
func matched(t testing.TB, r *registry, q string) string {
	t.Helper()
	n := mustName(t, q)
	if _, ok := r.index.AliasFor(n); !ok && !n.Under(r.index.Rules.Apex) {
		return "foreign"
	}
	var ids []string
	views, _ := r.index.Match(n, nil)
	for s := range index.Shuffled(views, ^publish.Kind(0)) {
		ids = append(ids, s.ID)
	}
	slices.Sort(ids)
	return strings.Join(slices.Compact(ids), " ")
}

func TestNamesRule(t *testing.T) {
	r := newTestRegistry(t, "docker")
	for _, s := range []*publish.Service{
		testService(t, r, "r1", "redis1", "redis", "172.17.0.2"),
		testService(t, r, "r2", "redis2", "redis", "172.17.0.3"),
		testService(t, r, "db", "master", "mysql", "172.17.0.4", "db.docker", "shop.example.com", "com"),
		testService(t, r, "in", "inner", "x", "172.17.0.5", "mysql.docker", "www.shop.example.com"),
	} {
		r.Put(s.ID, s)
	}
	for _, c := range []struct{ q, want string }{
		{"docker", "db in r1 r2"},
		{"*.docker", "db in r1 r2"},
		{"redis.docker", "r1 r2"},
		{"REDIS.docker", "r1 r2"},
		{"redis1.redis.docker", "r1"},
		{"x.y.redis1.redis.docker", "r1"},
		{"redis1.*.docker", "db in r1"}, // the aliases db and mysql are at *
		{"*.redis.docker", "r1 r2"},
		{"x.*.redis.docker", "r1 r2"},
		{"*.*.*.docker", "db in r1 r2"},
		{"redis3.redis.docker", ""},
		{"redis1.docker", ""},
		{"db.docker", "db"},
		{"x.db.docker", "db"},
		{"mysql.docker", "db in"},        // an alias that is an image name too
		{"master.mysql.docker", "db in"}, // below the alias
		{"other.mysql.docker", "in"},     // below the alias only
		{"shop.example.com", "db in"},    // below it is an alias
		{"a.shop.example.com", "db"},
		{"www.shop.example.com", "db in"},
		{"*.shop.example.com", "db in"},
		{"example.com", "foreign"},
		{"*.example.com", "foreign"},
		{"com", "db in"}, // at an alias, and another below; but an alias of one label answers nothing below it
		{"net", "foreign"},
		{"x.com", "foreign"},
		{".", "foreign"},
	} {
		if got := matched(t, r, c.q); got != c.want {
			t.Errorf("%s: %q; want %q", c.q, got, c.want)
		}
	}
	r.Forget("in") // what it shared lives on
	for q, want := range map[string]string{"mysql.docker": "db", "other.mysql.docker": "", "shop.example.com": "db", "www.shop.example.com": "db"} {
		if got := matched(t, r, q); got != want {
			t.Errorf("after forget, %s: %q; want %q", q, got, want)
		}
	}
	r.Forget("db")
	for _, q := range []string{"shop.example.com", "a.shop.example.com", "com"} {
		if got := matched(t, r, q); got != "foreign" {
			t.Errorf("after forget, %s: %q; want foreign", q, got)
		}
	}
}

// With closest, what stands at a name is all that it answers, and a longer
// query goes to the nearest name only.
func TestClosest(t *testing.T) {
	r := newTestRegistry(t, "docker")
	r.index.Rules.Closest = true
	for _, s := range []*publish.Service{
		testService(t, r, "a", "a", "app", "172.17.0.2", "service.x.com"),
		testService(t, r, "b", "b", "app", "172.17.0.3", "client.service.x.com", "app.docker"),
		testService(t, r, "c", "c", "db", "172.17.0.4", "x.y.client.service.x.com", "service.x.com"),
		testService(t, r, "d", "d", "db", "172.17.0.5"),
	} {
		r.Put(s.ID, s)
	}
	for _, c := range []struct{ q, want string }{
		{"service.x.com", "a c"},
		{"other.service.x.com", "a c"},
		{"client.service.x.com", "b"},
		{"z.client.service.x.com", "b"},
		{"y.client.service.x.com", "c"}, // nothing stands there: what is below it
		{"z.x.y.client.service.x.com", "c"},
		{"z.y.client.service.x.com", "b"},
		{"app.docker", "b"},
		{"a.app.docker", "a"},
		{"z.app.docker", "b"},
		{"db.docker", "c d"},
		{"d.db.docker", "d"},
		{"z.d.db.docker", "d"},
		{"e.db.docker", ""},
		{"docker", "a b c d"},
		{"*.service.x.com", "b c"},
		{"*.client.service.x.com", "c"},
		{"z.*.service.x.com", "b"},
		{"*.z.client.service.x.com", "b"},
		{"x.com", "foreign"},
	} {
		if got := matched(t, r, c.q); got != c.want {
			t.Errorf("%s: %q; want %q", c.q, got, c.want)
		}
	}
}

// The apex and what is above it must not swallow the unknown names below.
func TestNamesRuleAtTheApex(t *testing.T) {
	r := newTestRegistry(t, "docker.example.com")
	s := testService(t, r, "s", "", "", "172.17.0.2", "docker.example.com", "example.com")
	r.Put(s.ID, s)
	for _, c := range []struct{ q, want string }{
		{"docker.example.com", "s"},
		{"x.docker.example.com", ""},
		{"*.x.docker.example.com", ""},
		{"example.com", "s"},
		{"x.example.com", "s"},
	} {
		if got := matched(t, r, c.q); got != c.want {
			t.Errorf("%s: %q; want %q", c.q, got, c.want)
		}
	}
}

// linear is the names rule as DESIGN says it, on text: compare label by label from
// the right, the shorter decides, '*' in the query matches anything. Names of
// one label, and those at or above the apex, answer nothing below them.
func linear(q, owner, apex string) bool {
	split := func(s string) []string {
		l := strings.Split(strings.ToLower(strings.TrimSuffix(s, ".")), ".")
		slices.Reverse(l)
		return l
	}
	a, b, top := split(q), split(owner), split(apex)
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] && a[i] != "*" {
			return false
		}
	}
	if len(b) >= len(a) {
		return true
	}
	underApex := len(a) >= len(top) && slices.Equal(a[:len(top)], top)
	aboveApex := len(b) <= len(top) && slices.Equal(b, top[:len(b)])
	return len(b) > 1 && !(underApex && aboveApex)
}

// FuzzNamesRule makes random services and changes of them, and holds the
// registry's nodes against the linear rule.
func FuzzNamesRule(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		apexes := []string{"docker", "d.e"}
		r := newTestRegistry(t, apexes[rnd.IntN(len(apexes))])
		labels := []string{"a", "b", "c", "docker", "d", "e"}
		random := func(most int, more ...string) string {
			var parts []string
			for range 1 + rnd.IntN(most) {
				parts = append(parts, append(labels, more...)[rnd.IntN(len(labels)+len(more))])
			}
			return strings.Join(parts, ".")
		}
		for range 40 {
			id := fmt.Sprint(rnd.IntN(8))
			switch rnd.IntN(4) {
			case 0:
				r.Forget(id)
			case 1:
				r.Put(id, nil)
			default:
				var aliases []string
				for range rnd.IntN(3) {
					aliases = append(aliases, random(4))
				}
				part, image := random(2), random(2)
				if rnd.IntN(5) == 0 {
					part, image = "", ""
				}
				addr := fmt.Sprintf("10.0.0.%d 10.0.1.%d", rnd.IntN(5), rnd.IntN(5))
				s := testService(t, r, id, part, image, addr, aliases...)
				if rnd.IntN(2) == 0 {
					s.SecondNames = []dnsname.Name{mustName(t, random(3)+"."+random(1)+"."+r.index.Rules.Apex.String())}
				}
				r.Put(id, s)
			}
		}
		checkRegistry(t, r)
		for range 60 {
			q := random(5, "*")
			if rnd.IntN(2) == 0 {
				q += "." + strings.TrimSuffix(r.index.Rules.Apex.String(), ".")
			}
			apex := r.index.Rules.Apex.String()
			ours := strings.HasSuffix("."+q+".", "."+apex)
			ids, closest := linearly(r, q, func(s *publish.Service) []dnsname.Name { return s.OwnerNames }, apex)
			for s := range r.index.Published().All(^publish.Kind(0)) {
				for _, o := range s.OwnerNames { // at or below an alias
					if q+"." == o.String() || o.Labels() > 1 && strings.HasSuffix(q+".", "."+o.String()) {
						ours = true
					}
				}
			}
			if len(ids) == 0 && strings.Count(q+".", ".") >= strings.Count(apex, ".")+2 && strings.HasSuffix(q+".", "."+apex) {
				ids, closest = linearly(r, q, func(s *publish.Service) []dnsname.Name {
					return s.SecondNames
				}, apex)
			}
			for _, ids := range [][]string{ids, closest} {
				slices.Sort(ids)
				want := strings.Join(slices.Compact(ids), " ")
				if !ours {
					want = "foreign"
				}
				if got := matched(t, r, q); got != want {
					t.Fatalf("seed %d: %s, closest %t: %q; want %q", seed, q, r.index.Rules.Closest, got, want)
				}
				r.index.Rules.Closest = true
			}
			r.index.Rules.Closest = false
		}
	})
}

// linearly returns the ids of the services of which one of the names matches q, and
// of those the ones with the closest names.
func linearly(r *registry, q string, names func(*publish.Service) []dnsname.Name, apex string) (ids, closest []string) {
	longer := -100 // by how many labels the names in closest are longer than q; 1 for any
	for s := range r.index.Published().All(^publish.Kind(0)) {
		for _, o := range names(s) {
			if !linear(q, o.String(), apex) {
				continue
			}
			ids = append(ids, s.ID)
			by := min(o.Labels()-strings.Count(q, ".")-1, 1)
			if strings.Contains(q, "*") {
				by = min(by, 0)
			}
			if longer != 0 && (by == 0 || by > longer) {
				longer, closest = by, nil
			}
			if by == longer {
				closest = append(closest, s.ID)
			}
		}
	}
	return ids, closest
}

// checkRegistry holds the tables against what is published: each pair of a
// service and a name is where it must be, and nowhere else.
func checkRegistry(t testing.TB, r *registry) {
	t.Helper()
	nodes := make(map[dnsname.Name]map[bool]map[string]bool) // name -> here? -> ids
	addrs := make(map[netip.Addr]map[string]bool)
	for s := range r.index.Published().All(^publish.Kind(0)) {
		id := s.ID
		if !s.Equal(desired(r, id)) {
			t.Fatalf("%s is not what it shall be", id)
		}
		for _, o := range s.OwnerNames {
			for n := o; n != dnsname.Root; n = n.Parent() {
				if nodes[n] == nil {
					nodes[n] = map[bool]map[string]bool{true: {}, false: {}}
				}
				nodes[n][false][id] = true
			}
			nodes[o][true][id] = true
		}
		for _, a := range s.Addrs {
			if !a.IsValid() { // the host's
				continue
			}
			if addrs[a] == nil {
				addrs[a] = make(map[string]bool)
			}
			addrs[a][id] = true
		}
	}
	ids := func(v *index.View) map[string]bool {
		m := make(map[string]bool)
		if v == nil {
			return m
		}
		checkSet(t, v.Set)
		for s := range v.All(^publish.Kind(0)) {
			if r.index.Published().Get(s.ID) != s || m[s.ID] {
				t.Fatalf("%s is stale, or there twice", s.ID)
			}
			m[s.ID] = true
		}
		return m
	}
	above := make(map[dnsname.Name]bool) // and at names of compose
	networks := make(map[intern.Handle[publish.Network]]int)
	for s := range r.index.Published().All(^publish.Kind(0)) {
		for _, second := range s.SecondNames {
			for n := second; n != r.index.Rules.Apex; n = n.Parent() {
				above[n] = true
			}
		}
		for _, e := range s.NetRuns {
			networks[e.Net]++
		}
	}
	for n, node := range r.index.Compose.All() {
		for s := range node.Subtree.All(^publish.Kind(0)) {
			if r.index.Published().Get(s.ID) != s || !slices.ContainsFunc(s.SecondNames, func(o dnsname.Name) bool { return o.Under(n) }) {
				t.Fatalf("%s is stale, or not below %v", s.ID, n)
			}
		}
		if !above[n] {
			t.Fatalf("%v is no name of compose", n)
		}
		delete(above, n)
	}
	if len(above) > 0 {
		t.Fatalf("names of compose are missing: %v", above)
	}
	if got := maps.Collect(r.index.Networks.All()); !maps.Equal(got, networks) {
		t.Fatalf("networks %v; want %v", got, networks)
	}
	count := 0
	for n, node := range r.index.Nodes.All() {
		count++
		if got, want := ids(&node.Subtree), nodes[n][false]; !reflect.DeepEqual(got, want) {
			t.Fatalf("below %v: %v; want %v", n, got, want)
		}
		if got, want := ids(node.Exact), nodes[n][true]; !reflect.DeepEqual(got, want) {
			t.Fatalf("here %v: %v; want %v", n, got, want)
		}
	}
	if count != len(nodes) {
		t.Fatalf("%d nodes; want %d", count, len(nodes))
	}
	count = 0
	for a, list := range r.index.Addrs.All() {
		count++
		if got := ids(list); !reflect.DeepEqual(got, addrs[a]) {
			t.Fatalf("at %v: %v; want %v", a, got, addrs[a])
		}
	}
	if count != len(addrs) {
		t.Fatalf("%d addresses; want %d", count, len(addrs))
	}
}

// A change of a service must not leave a moment in which a name that it has
// before and after is unknown, or a foreign one of two aliases.
func TestChangeLeavesNoGap(t *testing.T) {
	r := newTestRegistry(t, "docker")
	versions := []*publish.Service{
		testService(t, r, "s", "a", "x", "10.0.0.1", "shop.example.com"),
		testService(t, r, "s", "b", "x", "10.0.0.1 10.0.0.2", "db.docker", "shop.example.com"),
		testService(t, r, "s", "c", "x", "10.0.0.1", "z.db.docker", "shop.example.com"),
	}
	r.Put("s", versions[0])
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				for _, q := range []string{"docker", "x.docker", "*.x.docker", "shop.example.com", "w.shop.example.com"} {
					if got := matched(t, r, q); got != "s" {
						t.Errorf("%s: %q; want s", q, got)
						return
					}
				}
				if r.index.At(mustName(t, "1.0.0.10.in-addr.arpa")) == nil {
					t.Error("10.0.0.1 has no service")
					return
				}
			}
		})
	}
	for i := range 20000 {
		r.Put("s", versions[i%len(versions)])
	}
	close(stop)
	wg.Wait()
	checkRegistry(t, r)
}

func TestSerialGrowsWithChanges(t *testing.T) {
	r := newTestRegistry(t, "docker")
	s := testService(t, r, "s", "a", "x", "10.0.0.1")
	last := r.index.Serial.Load()
	grows := func(what string, want bool, change func()) {
		t.Helper()
		change()
		if now := r.index.Serial.Load(); (now != last) != want {
			t.Errorf("%s: serial from %d to %d; want a change: %v", what, last, now, want)
		} else {
			last = now
		}
	}
	grows("new", true, func() { r.Put("s", s) })
	same := *s
	grows("same again", false, func() { r.Put("s", &same) })
	grows("address", true, func() { r.Put("s", testService(t, r, "s", "a", "x", "10.0.0.2")) })
	grows("default TTL", true, func() { r.setTTL(5) })
	grows("gone", true, func() { r.Forget("s") })
	grows("unknown gone", false, func() { r.Forget("s") })
}

// What the API did to a container's service holds for as long as the
// container exists, and no longer.
func TestOverlays(t *testing.T) {
	const id, other = "abcd00", "abcd11"
	ptr := func(s string) *string { return &s }
	whole := func(part, image, addr string) publish.Patch {
		ttl := 7
		return publish.Patch{Name: &part, Image: &image, Addrs: []netip.Addr{netip.MustParseAddr(addr)}, TTL: &ttl, Aliases: &[]dnsname.Name{}}
	}
	for _, c := range []struct {
		what string
		do   func(t *testing.T, r *registry)
		want string // names and addresses after a restart with the address 10.0.0.9
	}{
		{"nothing", func(t *testing.T, r *registry) {}, "[a.x.docker.] [10.0.0.9]"},
		{"patched name", func(t *testing.T, r *registry) {
			if s, err := r.update(id, publish.Patch{Name: ptr("b")}); err != nil || s.ContainerLabel != "b" {
				t.Errorf("update: %+v, %v", s, err)
			}
		}, "[b.x.docker.] [10.0.0.9]"},
		{"patched twice, by a short id", func(t *testing.T, r *registry) {
			for _, p := range []publish.Patch{{Name: ptr("b")}, {Image: ptr("y")}} {
				if _, err := r.update("abcd0", p); err != nil {
					t.Error(err)
				}
			}
		}, "[b.y.docker.] [10.0.0.9]"},
		{"set whole", func(t *testing.T, r *registry) {
			if _, isNew, err := r.set(id, whole("m", "n", "192.168.0.1")); isNew || err != nil {
				t.Errorf("set: new %v, %v", isNew, err)
			}
		}, "[m.n.docker.] [192.168.0.1]"},
		{"removed", func(t *testing.T, r *registry) {
			if err := r.remove(id); err != nil {
				t.Error(err)
			}
			if err := r.remove(id); !errors.Is(err, errNotFound) {
				t.Errorf("remove again: %v", err)
			}
			if _, err := r.update(id, publish.Patch{Name: ptr("b")}); !errors.Is(err, errNotFound) {
				t.Errorf("update of a removed one: %v", err)
			}
		}, ""},
		{"removed and set", func(t *testing.T, r *registry) {
			if err := r.remove(id); err != nil {
				t.Error(err)
			}
			if _, isNew, err := r.set(id, whole("m", "n", "192.168.0.1")); !isNew || err != nil {
				t.Errorf("set: new %v, %v", isNew, err)
			}
		}, "[m.n.docker.] [192.168.0.1]"},
	} {
		t.Run(c.what, func(t *testing.T) {
			r := newTestRegistry(t, "docker")
			published := func() string {
				s, err := r.lookup(id)
				if err != nil {
					return ""
				}
				return fmt.Sprint(s.OwnerNames, " ", s.Addrs)
			}
			r.Put(other, testService(t, r, other, "o", "x", "10.0.0.8"))
			r.Put(id, testService(t, r, id, "a", "x", "10.0.0.1"))
			c.do(t, r)
			r.Put(id, nil) // stopped
			if got := published(); got != "" {
				t.Errorf("while it is stopped: %s", got)
			}
			if _, err := r.update(id, publish.Patch{Name: ptr("z")}); !errors.Is(err, errNotFound) {
				t.Errorf("update of a stopped one: %v; want %v", err, errNotFound)
			}
			if _, _, err := r.set(id, whole("z", "z", "10.0.0.7")); !errors.Is(err, errNotPublished) {
				t.Errorf("set of a stopped one: %v; want %v", err, errNotPublished)
			}
			r.Put(id, testService(t, r, id, "a", "x", "10.0.0.9"))
			if got := published(); got != c.want {
				t.Errorf("after the restart: %q; want %q", got, c.want)
			}
			r.Forget(id)
			if got := published(); got != "" {
				t.Errorf("after its end: %s", got)
			}
			r.Put(id, testService(t, r, id, "a", "x", "10.0.0.9"))
			if got, want := published(), "[a.x.docker.] [10.0.0.9]"; got != want {
				t.Errorf("as a new container: %q; want %q", got, want)
			}
			checkRegistry(t, r)
		})
	}
}

// A name that the API set and that can't be for now leaves the rest of the
// change as it is, and comes back.
func TestOverlayTooLongForNow(t *testing.T) {
	r := newTestRegistry(t, "docker")
	log := dnstest.NewLog()
	r.log = slog.New(dnstest.Unlocked(t, log, &r.mu))
	image, ttl := strings.TrimSuffix(strings.Repeat(strings.Repeat("y", 55)+".", 4), "."), 77
	r.Put("s", testService(t, r, "s", "a", "x", "10.0.0.1"))
	if _, err := r.update("s", publish.Patch{Image: &image, TTL: &ttl}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, image string }{{strings.Repeat("n", 60), "x"}, {"a", image}} {
		for range 3 {
			r.Put("s", nil)
			r.Put("s", testService(t, r, "s", c.name, "x", "10.0.0.1"))
		}
		if s, err := r.lookup("s"); err != nil || s.ImageLabel != c.image || s.TTL != ttl {
			t.Errorf("as %s: %+v, %v; want image %s, TTL %d", c.name, s, err, c.image, ttl)
		}
	}
	if n := strings.Count(log.String(), "left out for now"); n != 1 {
		t.Errorf("logged %d times; want once", n)
	}
	r.Put("s", testService(t, r, "s", strings.Repeat("n", 60), "x", "10.0.0.1"))
	part, short := strings.Repeat("m", 60), "m"
	if s, err := r.update("s", publish.Patch{Name: &part}); err == nil {
		t.Errorf("a name too long with the image that was set: %v; want an error", s.OwnerNames)
	}
	for _, p := range []publish.Patch{{TTL: &ttl}, {Name: &short}} { // what update returns is what is answered
		s, err := r.update("s", p)
		if live, _ := r.lookup("s"); err != nil || s != live {
			t.Errorf("update = %+v, %v; want %+v", s, err, live)
		}
	}
	if got, want := matched(t, r, "m."+image+".docker"), "s"; got != want {
		t.Errorf("the name that was set: %q; want %q", got, want)
	}
}

func TestMadeByHand(t *testing.T) {
	r := newTestRegistry(t, "docker")
	part, image, ttl := "foo", "bar", 30
	p := publish.Patch{Name: &part, Image: &image, Addrs: []netip.Addr{netip.MustParseAddr("192.168.0.3")}, TTL: &ttl, Aliases: &[]dnsname.Name{}}
	if _, isNew, err := r.set("newid", p); !isNew || err != nil {
		t.Fatalf("set: new %v, %v", isNew, err)
	}
	if _, isNew, err := r.set("newid", p); isNew || err != nil {
		t.Fatalf("set again: new %v, %v", isNew, err)
	}
	if got := matched(t, r, "foo.bar.docker"); got != "newid" {
		t.Errorf("foo.bar.docker: %q; want newid", got)
	}
	zero := 0
	if s, err := r.update("newid", publish.Patch{TTL: &zero}); err != nil || s.TTL != 0 || s.ContainerLabel != "foo" {
		t.Errorf("update: %+v, %v", s, err)
	}
	if err := r.remove("newid"); err != nil {
		t.Error(err)
	}
	if got := matched(t, r, "foo.bar.docker"); got != "" {
		t.Errorf("foo.bar.docker after remove: %q; want none", got)
	}
	checkRegistry(t, r)
}

func TestShortIDs(t *testing.T) {
	r := newTestRegistry(t, "docker")
	ids := []string{strings.Repeat("ab", 32), "abab" + strings.Repeat("cd", 30), "beef" + strings.Repeat("ef", 30)}
	for i, id := range ids {
		r.Put(id, testService(t, r, id, fmt.Sprintf("c%d", i), "x", "10.0.0.1"))
	}
	for _, c := range []struct {
		id   string
		want string
		err  error
	}{
		{ids[0], ids[0], nil},
		{"beef", ids[2], nil},
		{"bee", "", errNotFound}, // too short
		{"abab", "", errAmbiguous},
		{"ababc", ids[1], nil},
		{"BEEF", "", errNotFound},
		{"dead", "", errNotFound},
		{"", "", errNotFound},
	} {
		s, err := r.lookup(c.id)
		if !errors.Is(err, c.err) || c.err == nil && s.ID != c.want {
			t.Errorf("lookup(%q) = %+v, %v; want %s, %v", c.id, s, err, c.want, c.err)
		}
	}
}

// viewsOf returns a view of each service.
func viewsOf(services ...*publish.Service) (list []*index.View) {
	for _, s := range services {
		list = append(list, index.NewView(index.Singleton(s)))
	}
	return list
}

func TestRRset(t *testing.T) {
	r := newTestRegistry(t, "docker")
	r.setTTL(60)
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
		addrs, ttl, _ := r.index.Rrset(viewsOf(c.services...), c.v4, c.most, index.Viewer{})
		slices.SortFunc(addrs, netip.Addr.Compare)
		if fmt.Sprint(addrs) != c.want || ttl != c.ttl {
			t.Errorf("rrset = %v, %d; want %v, %d", addrs, ttl, c.want, c.ttl)
		}
	}
	seen := make(map[netip.Addr]bool)
	for range 200 { // misses one with a probability of 2^-199
		addrs, _, _ := r.index.Rrset(viewsOf(a, testService(t, r, "c", "c", "x", "10.0.0.3")), true, 1, index.Viewer{})
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
		addrs, _, _ := r.index.Rrset(viewsOf(testService(t, r, "d", "d", "x", fiftyAddrs())), true, 3, index.Viewer{})
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

// filled returns a registry of that many services, ten of an image.
func filled(t testing.TB, count int) *registry {
	r := newTestRegistry(t, "docker")
	for i := range count {
		r.Put(fmt.Sprint(i), numbered(t, r, i))
	}
	r.index.Ready.Store(true)
	return r
}

func numbered(t testing.TB, r *registry, i int) *publish.Service {
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
				r.Put(s.ID, s)
			}
		})
	}
}

// Of what matches a query: exactly, from below, and not at all.
func BenchmarkLookUp(b *testing.B) {
	for _, count := range []int{10, 1000, 100_000} {
		r := filled(b, count)
		var views [8]*index.View
		for _, qname := range []string{"c%d.image%d.docker", "x.c%d.image%d.docker", "y%d.z%d.docker"} {
			var names []dnsname.Name
			for i := range min(count, 1000) {
				i *= count / min(count, 1000)
				names = append(names, mustName(b, fmt.Sprintf(qname, i, i/10)))
			}
			b.Run(fmt.Sprint(qname, "/", count), func(b *testing.B) {
				b.ReportAllocs()
				for n := 0; b.Loop(); n++ {
					_, _ = r.index.Match(names[n%len(names)], views[:0])
				}
			})
		}
	}
}

// The '*' in front that make no difference go, and no others.
func TestTrim(t *testing.T) {
	r := newTestRegistry(t, "docker")
	r.Put("a", testService(t, r, "a", "web", "nginx", "10.0.0.1"))
	r.Put("b", testService(t, r, "b", "", "", "10.0.0.2")) // of the apex, which answers itself only
	for q, want := range map[string]string{
		"*.nginx.docker": "nginx.docker.", "*.*.web.nginx.docker": "web.nginx.docker.", "web.*.docker": "web.*.docker.",
		"*.docker": "*.docker.", "*.*.docker": "*.docker.", "*": ".",
	} {
		if got := r.index.Trim(mustName(t, q)).String(); got != want {
			t.Errorf("%s: got %s; want %s", q, got, want)
		}
	}
	r.index.Rules.Closest = true
	if got := r.index.Trim(mustName(t, "*.nginx.docker")).String(); got != "*.nginx.docker." {
		t.Errorf("closest: got %s", got)
	}
}

// An engine that is away since the start keeps the names of its own zone
// waiting, and nothing else.
func TestEngineAwayKeepsOthersReady(t *testing.T) {
	b := mustName(t, "b.docker2")
	reg := newRegistry(publish.NameRules{Apex: mustName(t, "docker")}, 5, slog.New(slog.DiscardHandler), b)
	reg.addEngine("one", mustName(t, "docker"))
	reg.addEngine("two", b)
	want := func(what string, own, other, reverse, known bool) {
		t.Helper()
		got := [4]bool{reg.index.IsReady(mustName(t, "x.docker")), reg.index.IsReady(mustName(t, "x.b.docker2")), reg.index.IsReady(mustName(t, "1.0.0.10.in-addr.arpa")), reg.index.IsKnown()}
		if got != [4]bool{own, other, reverse, known} {
			t.Errorf("%s: got %v; want %v", what, got, [4]bool{own, other, reverse, known})
		}
	}
	none := func(string) bool { return false }
	away := func(url string) { reg.SetEngine(engine.Status{URL: url}) }
	want("at first", false, false, false, false)
	away("two")
	want("one is away", false, false, false, false)
	reg.SetEngine(engine.Status{URL: "one", Up: true})
	reg.Listed("one", none)
	want("the other has told", true, false, true, true)
	reg.SetEngine(engine.Status{URL: "two", Up: true})
	reg.Listed("two", none)
	want("both have", true, true, true, true)
}

// What the API did outlives restarts, renames and outages of the engine, and
// ends with the container, also when its end is not seen.
func TestOverlayOutlivesEngine(t *testing.T) {
	r := newTestRegistry(t, "docker")
	r.addEngine("e", r.index.Rules.Apex)
	up := func(up bool) { r.SetEngine(engine.Status{URL: "e", Up: up}) }
	put := func(id, name, addr string) { r.Put(id, testService(t, r, id, name, "redis", addr)) }
	want := func(q, want string) {
		t.Helper()
		if got := matched(t, r, q); got != want {
			t.Errorf("%s: got %q; want %q", q, got, want)
		}
	}
	up(true)
	put("aa", "a", "10.0.0.1")
	put("bb", "b", "10.0.0.2")
	part := "z"
	if _, err := r.update("aa", publish.Patch{Name: &part}); err != nil {
		t.Fatal(err)
	}
	if err := r.remove("bb"); err != nil {
		t.Fatal(err)
	}
	want("z.redis.docker", "aa")
	up(false)
	want("docker", "aa")
	up(true)
	put("aa", "a2", "10.0.0.7")
	put("bb", "b", "10.0.0.2") // again
	want("z.redis.docker", "aa")
	want("docker", "aa")
	up(false)
	up(true)
	r.Forget("aa")
	r.Forget("bb")
	want("docker", "")
	put("aa", "a", "10.0.0.1")
	put("bb", "b", "10.0.0.2")
	want("a.redis.docker", "aa")
	want("b.redis.docker", "bb")
	checkRegistry(t, r)
}

func desired(r *registry, id string) *publish.Service {
	s, _ := r.desiredLocked(r.held(id)) // what is left out for now is logged
	return s
}

// A log that nobody reads stops its own writer, and no other.
func TestLogThatBlocks(t *testing.T) {
	r := newTestRegistry(t, "docker")
	log := &blockingLog{entered: make(chan struct{}), release: make(chan struct{})}
	r.log = slog.New(slog.NewTextHandler(log, nil))
	r.addEngine("e", r.index.Rules.Apex)
	part, ttl := strings.Repeat("n", 60), 7
	image := strings.TrimSuffix(strings.Repeat(strings.Repeat("y", 55)+".", 4), ".")
	whole := publish.Patch{
		Name: &part, Image: &part, Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, TTL: &ttl, Aliases: &[]dnsname.Name{},
	}
	for _, c := range []struct {
		what string
		do   func()
		want string // what is published then
	}{
		{"Put", func() { r.Put("s", testService(t, r, "s", "a", "x", "10.0.0.1")) }, "s"},
		{"Put of another", func() { r.Put("s", testService(t, r, "s", "b", "x", "10.0.0.1")) }, "s"},
		{"update", func() { _, _ = r.update("s", publish.Patch{Image: &image}) }, "s"},
		{"Put that is too long", func() { r.Put("s", testService(t, r, "s", part, "x", "10.0.0.1")) }, "s"},
		{"set", func() { _, _, _ = r.set("hand", whole) }, "hand s"},
		{"remove", func() { _ = r.remove("hand") }, "s"},
		{"restore", func() { r.restoreChanges(map[string]*change{"s": {removed: true}}) }, ""},
		{"Forget", func() { r.Forget("s") }, ""},
	} {
		done := make(chan struct{})
		go func() { defer close(done); c.do() }()
		if c.what != "Forget" { // of what was removed, which is not published any more
			<-log.entered
		}
		if got := matched(t, r, "docker"); got != c.want { // what is logged has happened
			t.Errorf("%s: %q is published; want %q", c.what, got, c.want)
		}
		if !r.mu.TryLock() {
			t.Fatalf("%s: the lock is held while a line is logged", c.what)
		}
		r.mu.Unlock()
		log.releaseUntil(done)
	}
}

// A blockingLog says when a line is written, and waits until it is released.
type blockingLog struct{ entered, release chan struct{} }

func (l *blockingLog) Write(b []byte) (int, error) {
	l.entered <- struct{}{}
	<-l.release
	return len(b), nil
}

// releaseUntil lets all lines be written until done is closed.
func (l *blockingLog) releaseUntil(done <-chan struct{}) {
	for {
		select {
		case l.release <- struct{}{}:
		case <-l.entered:
		case <-done:
			return
		}
	}
}
