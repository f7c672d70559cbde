package index

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/publish"
)

// newSecondRig returns an index with all kinds of second names.
func newSecondRig(t testing.TB, zones ...dnsname.Name) *rig {
	t.Helper()
	all := publish.SecondNames{Compose: true, Hostname: true, Alias: true, ID: true, Hyphen: true, Host: true}
	rules := publish.NameRules{Apex: mustName(t, "docker"), Second: all}
	r := &rig{New(rules, 0, zones...), make(map[string]*publish.Service)}
	r.Ready.Store(true)
	return r
}

// putNamed publishes a container with second names, which have spaces between.
func (r *rig) putNamed(t testing.TB, id, part, image, second string, aliases ...string) {
	t.Helper()
	s := testService(t, r, id, part, image, "10.0.0.1", aliases...)
	for text := range strings.FieldsSeq(second) {
		s.SecondNames = append(s.SecondNames, mustName(t, text))
	}
	r.put(id, s)
}

func TestSecondNames(t *testing.T) {
	r := newSecondRig(t)
	r.putNamed(t, "w1", "web_1", "nginx",
		"1.web.shop.docker web-1.nginx.docker h1.docker front.docker front.net.docker")
	r.putNamed(t, "w2", "web_2", "nginx", "2.web.shop.docker h2.docker front.docker front.net.docker")
	r.putNamed(t, "db", "db", "mysql", "1.db.shop.docker shop.docker mysql.docker", "x.example")
	f := func(q, want string) {
		t.Helper()
		if got := matched(t, r, q); got != want {
			t.Errorf("%s: got %q; want %q", q, got, want)
		}
	}
	f("web.shop.docker", "w1 w2")
	f("1.web.shop.docker", "w1")
	f("a.1.web.shop.docker", "w1")
	f("3.web.shop.docker", "db") // the host name shop is the nearest above it
	f("*.web.shop.docker", "w1 w2")
	f("*.*.shop.docker", "db w1 w2")
	f("1.*.shop.docker", "db w1")
	f("shop.docker", "db") // and not all of the project
	f("front.docker", "w1 w2")
	f("a.front.docker", "w1 w2")
	f("net.docker", "") // a network is nothing that a container has
	f("front.net.docker", "w1 w2")
	f("mysql.docker", "db") // the name rule first: an image
	f("a.mysql.docker", "db")
	f("web-1.nginx.docker", "w1")
	f("b.web-1.nginx.docker", "w1")
	f("h1.x.example", "db") // outside of the domain there are none
	f("h1.y.example", "foreign")
	if !r.IsAboveSecond(mustName(t, "net.docker")) || r.IsAboveSecond(mustName(t, "nosuch.docker")) {
		t.Error("net.docker exists, and nosuch.docker does not")
	}
	r.forget("db")
	f("3.web.shop.docker", "")
	f("shop.docker", "")
	r.check(t)
}

func TestShortIDs(t *testing.T) {
	id := func(digits string) string { return digits + strings.Repeat("0", 64-len(digits)) }
	zone := mustName(t, "other.docker")
	r := newSecondRig(t, zone)
	r.putNamed(t, id("abcdef012345"), "a", "x", "")
	r.putNamed(t, id("abcdef012346"), "b", "x", "")
	r.putNamed(t, id("abcdef012346")+"@e", "c", "x", "") // the same engine's copy, at another address
	r.putNamed(t, id("123456789012"), "d", "x", "abcdef012345.docker")
	s := testService(t, r, id("fedcba987654"), "e", "x", "10.0.0.1")
	s.OwnerNames = []dnsname.Name{mustName(t, "e.x.other.docker")}
	r.put(s.ID, s)
	hand := &publish.Service{ID: "aaaaaaaaaaaabb", Extras: new(publish.Extras)}
	hand.OwnerNames = []dnsname.Name{mustName(t, "h.docker")}
	r.put(hand.ID, hand)
	f := func(q string, want ...string) {
		t.Helper()
		if got := matched(t, r, q); got != strings.Join(want, " ") {
			t.Errorf("%s: got %q; want %q", q, got, want)
		}
	}
	f("abcdef012346.docker", id("abcdef012346"), id("abcdef012346")+"@e")
	f("ABCDEF012346.docker", id("abcdef012346"), id("abcdef012346")+"@e")
	f("a.b.123456789012.docker", id("123456789012"))
	f("abcdef012345.docker", id("123456789012")) // a host name is before an ID
	f("123456789012.other.docker")               // it is in the other zone
	f("fedcba987654.other.docker", id("fedcba987654"))
	f("fedcba987654.docker")
	f("abcdef01234.docker")
	f("abcdef0123460.docker")
	f("aaaaaaaaaaaa.docker")
	r.Rules.Second.ID = false
	f("123456789012.docker")
}

// The alias '*' has what nothing else has.
func TestCatchAll(t *testing.T) {
	r := newSecondRig(t)
	r.putNamed(t, "p", "proxy", "traefik", "", "*")
	r.putNamed(t, "w", "web", "nginx", "1.web.shop.docker h.docker", "x.example")
	f := func(q, want string) {
		t.Helper()
		if got := matched(t, r, q); got != want {
			t.Errorf("%s: got %q; want %q", q, got, want)
		}
	}
	f("nosuch.docker", "p")
	f("a.b.nosuch.docker", "p")
	f("shop.docker", "p")
	f("nginx.docker", "w")
	f("other.nginx.docker", "p")
	f("h.docker", "w")
	f("host.docker", "host")
	f("docker", "p w")
	f("dnsdock.docker", "") // that is dnsdock itself
	f("_dns._udp.dnsdock.docker", "")
	f("nosuch.example", "foreign")
	f("y.x.example", "w")
	stamp := r.Stamp(mustName(t, "nosuch.docker"))
	r.putNamed(t, "q", "proxy2", "traefik", "", "*")
	f("nosuch.docker", "p q")
	if r.Stamp(mustName(t, "nosuch.docker")) == stamp {
		t.Error("the stamp of nosuch.docker does not change with an alias *")
	}
	r.forget("p")
	f("nosuch.docker", "q")
	r.putNamed(t, "q", "proxy2", "traefik", "")
	f("nosuch.docker", "")
	f("nosuch.docker", "")
}

// The name of the host has the address at which the client reaches it.
func TestHostName(t *testing.T) {
	r := newSecondRig(t)
	net := publish.Network{Name: "net", V4: publish.IPNet{
		Prefix: netip.MustParsePrefix("10.1.0.0/24"), Gateway: netip.MustParseAddr("10.1.0.1"),
	}}
	s, _ := r.Rules.ServiceOf(&publish.Container{
		ID: "w", Name: "web", Image: "nginx", Networks: []publish.Endpoint{{Network: net, Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.5")}}},
	}, "e")
	r.put("w", s)
	f := func(q, client, local, want string) {
		t.Helper()
		c := Viewer{Places: r.Places(netip.MustParseAddr(client)), Local: netip.MustParseAddr(local)}
		addrs, _, _ := r.Rrset(r.Match(mustName(t, q)).Sets, true, 9, c)
		if got := strings.Trim(fmt.Sprint(addrs), "[]"); got != want {
			t.Errorf("%s from %s: got %s; want %s", q, client, got, want)
		}
	}
	f("host.docker", "10.1.0.7", "10.9.9.9", "10.1.0.1")
	f("x.host.docker", "10.1.0.7", "10.9.9.9", "10.1.0.1")
	f("host.docker", "10.1.0.1", "10.9.9.9", "10.9.9.9") // the gateway itself is no container
	f("host.docker", "192.0.2.1", "10.9.9.9", "10.9.9.9")
	r.Rules.Host = []netip.Addr{netip.MustParseAddr("192.0.2.9")}
	f("host.docker", "192.0.2.1", "10.9.9.9", "192.0.2.9")
	f("host.docker", "10.1.0.7", "10.9.9.9", "10.1.0.1")
	if m := r.Match(mustName(t, "host.docker")); m.Kind != ByHost {
		t.Errorf("got kind %d; want ByHost", m.Kind)
	}
	r.putNamed(t, "h", "a", "b", "host.docker")
	if got := matched(t, r, "host.docker"); got != "h" {
		t.Errorf("beside a container of that host name: got %s; want h", got)
	}
	r.putNamed(t, "h", "a", "host", "")
	if got := matched(t, r, "host.docker"); got != "h" {
		t.Errorf("beside an image of that name: got %s; want h", got)
	}
	if r := newRig(t, "docker"); matched(t, r, "host.docker") != "" {
		t.Error("without -names=host, host.docker is known")
	}
}

// What a container calls itself is the first name of its address.
func TestPTROrder(t *testing.T) {
	r := newRig(t, "docker")
	s := testService(t, r, "a", "a", "x", "10.0.0.1", "long.alias.of.many.example")
	s.HostName = mustName(t, "db1.example")
	if err := r.Rules.SetOwnerNames(s); err != nil {
		t.Fatal(err)
	}
	r.put("a", s)
	got := fmt.Sprint(MostSpecific(r.At(mustName(t, "1.0.0.10.in-addr.arpa")), 9))
	if want := "[db1.example. long.alias.of.many.example. a.x.docker.]"; got != want {
		t.Errorf("got %s; want %s", got, want)
	}
	if got := MostSpecific(r.At(mustName(t, "1.0.0.10.in-addr.arpa")), 1); len(got) != 1 || got[0] != s.HostName {
		t.Errorf("one name: got %v; want %v", got, s.HostName)
	}
}

// The alias of a container that ended stays ours for an hour, and longer while an
// engine is away.
func TestRecentlyRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, "docker")
		alias := mustName(t, "shop.example.com")
		want := func(what string, want bool) {
			t.Helper()
			for _, q := range []string{"shop.example.com", "a.shop.example.com"} {
				if got, ok := r.RecentlyRemoved(mustName(t, q)); ok != want || ok && got != alias {
					t.Errorf("%s: %s: got %v, %t; want %t", what, q, got, ok, want)
				}
			}
			if got, ok := r.RecentlyRemoved(mustName(t, "xshop.example.com")); ok {
				t.Errorf("%s: got %v for a name beside it", what, got)
			}
		}
		s := testService(t, r, "a", "a", "x", "10.0.0.1", "shop.example.com")
		r.put("a", s)
		want("while it runs", false)
		r.put("a", nil)
		want("after its end", true)
		time.Sleep(removedFor - 1)
		want("for an hour", true)
		r.SetZones(nil, 1)
		time.Sleep(time.Minute)
		want("while an engine is away", true)
		r.SetZones(nil, 0)
		want("after an hour", false)
		r.put("a", s)
		r.put("a", nil)
		r.put("a", s)
		want("when it is back", false)
		r.Replace(s, nil, false)
		want("when it is removed by hand", false)
	})
}

func TestRemovedAliasesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, "docker")
		s := testService(t, r, "a", "a", "x", "10.0.0.1")
		for i := range maxRemoved + 100 {
			s.OwnerNames = append(s.OwnerNames, mustName(t, fmt.Sprintf("%d.example.com", i)))
		}
		r.put("a", s)
		r.put("a", nil)
		if n := r.removed.count.Load(); n != maxRemoved {
			t.Errorf("got %d; want %d", n, maxRemoved)
		}
		time.Sleep(removedFor)
		r.put("b", testService(t, r, "b", "b", "x", "10.0.0.1", "y.example.com"))
		r.put("b", nil)
		if n := r.removed.count.Load(); n != 1 {
			t.Errorf("after an hour: got %d; want 1", n)
		}
	})
}

// What has no owner name is published, and found by its second names only.
func TestNameless(t *testing.T) {
	for _, zones := range [][]dnsname.Name{nil, {mustName(t, "other.docker")}} {
		r := newSecondRig(t, zones...)
		r.putNamed(t, "a", "a", "x", "")
		r.putNamed(t, "z", "z", "x", "")
		node, _ := r.Rules.NodeOf(strings.Repeat("n", 25), "alpha", netip.MustParseAddr("192.0.2.7"), "e")
		r.put(node.ID, node)
		var ids []string
		for s := range r.Everything {
			ids = append(ids, s.ID)
		}
		if got := strings.Join(ids, " "); got != "a "+node.ID+" z" || r.Len() != 3 {
			t.Errorf("got %s, %d services; want them by ID", got, r.Len())
		}
		for q, want := range map[string]string{
			"docker": "a z", "alpha.nodes.docker": node.ID, "nodes.docker": node.ID, "*.nodes.docker": node.ID,
			"*.*.nodes.docker": node.ID, "alpha.*.docker": node.ID, "beta.*.docker": "", "beta.nodes.docker": "",
		} {
			if got := matched(t, r, q); got != want {
				t.Errorf("%s: got %q; want %q", q, got, want)
			}
		}
		r.put(node.ID, nil)
		if got := matched(t, r, "nodes.docker"); got != "" || r.Len() != 2 {
			t.Errorf("after its end: got %q, %d services", got, r.Len())
		}
	}
}

// Where a service has names of slots, its name is not that of slots which it has not.
func TestNoSuchSlot(t *testing.T) {
	r := newSecondRig(t)
	r.putNamed(t, "w1", "w1", "x", "web.docker 1.web.docker tasks.web.docker tasks.web.shop.docker 1.web.shop.docker")
	r.putNamed(t, "w2", "w2", "x", "web.docker 2.web.docker tasks.web.docker tasks.web.shop.docker 2.web.shop.docker")
	r.putNamed(t, "db", "db", "x", "db.docker")
	r.check(t)
	f := func(q, want string) {
		t.Helper()
		if got := matched(t, r, q); got != want {
			t.Errorf("%s: got %q; want %q", q, got, want)
		}
	}
	f("web.docker", "w1 w2")
	f("*.web.docker", "w1 w2")
	f("2.web.docker", "w2")
	f("7.web.docker", "")
	f("x.7.web.docker", "")
	f("7.web.shop.docker", "")
	f("7.*.docker", "db")
	f("x.1.web.docker", "w1")
	f("x.tasks.web.docker", "w1 w2")
	f("x.db.docker", "db")
	r.putNamed(t, "o", "o", "x", "web.docker") // an alias of another container
	f("web.docker", "o w1 w2")
	f("7.web.docker", "o")
	stamp := r.Stamp(mustName(t, "7.web.docker"))
	r.putNamed(t, "w2", "w2", "x", "web.docker")
	f("7.web.docker", "o w2")
	if r.Stamp(mustName(t, "7.web.docker")) == stamp {
		t.Error("the stamp does not change when a service's own slots go")
	}
}
