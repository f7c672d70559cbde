package publish

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/rayje/dnsdock/internal/dnsname"
)

var swarmRules = NameRules{Apex: "\x06docker\x00", Second: SecondNames{Compose: true, Hyphen: true}}

func TestVIPOf(t *testing.T) {
	web := Task{ServiceID: "s1", Service: "web"}
	over := netAt("over", "10.0.1.2/24")
	for _, c := range []struct {
		task     Task
		networks []string
		ends     []Endpoint
		want     string // names and addresses; empty: no service
		problems int
	}{
		{web, nil, []Endpoint{over, netAt("more", "10.0.2.2/24")}, "web.docker 10.0.2.2 10.0.1.2", 0},
		{web, []string{"over"}, []Endpoint{netAt("more", "10.0.2.2/24"), over}, "web.docker 10.0.1.2", 0},
		{web, []string{"bridge"}, []Endpoint{over}, "", 0},
		{web, nil, []Endpoint{{Addrs: addrs("10.0.1.2")}}, "", 0},
		{web, nil, nil, "", 0},
		{Task{ServiceID: "s1", Service: "shop_web", Stack: "shop"}, nil, []Endpoint{over},
			"shop_web.docker web.shop.docker shop-web.docker 10.0.1.2", 0},
		{Task{ServiceID: "s1", Service: "a.b_web", Stack: "a.b"}, nil, []Endpoint{over}, "", 1},
		{Task{ServiceID: "s1", Service: strings.Repeat("a", 64)}, nil, []Endpoint{over}, "", 1},
		{Task{ServiceID: "s1", Service: "dnsdock"}, nil, []Endpoint{over}, "", 0},
	} {
		rules := swarmRules
		rules.Networks = c.networks
		s, problems := rules.VIPOf(c.task, c.ends, "e")
		got := ""
		if s != nil {
			got = strings.Join(append(dnsname.Texts(s.SecondNames), AddrTexts(s.Addrs)...), " ")
			if s.ID != "vip:s1" || s.VIP != "s1" || len(s.OwnerNames) > 0 || s.IsByHand() {
				t.Errorf("%s: got %+v", c.task.Service, s)
			}
		}
		if got != c.want || len(problems) != c.problems {
			t.Errorf("%s, -network=%v: got %q, %v; want %q", c.task.Service, c.networks, got, problems, c.want)
		}
	}
}

// Virtual addresses are for clients on their network only.
func TestAddrsOfVIP(t *testing.T) {
	s, _ := swarmRules.VIPOf(Task{ServiceID: "s1", Service: "web"}, []Endpoint{netAt("over", "10.0.1.2/24")}, "e")
	for client, want := range map[string]bool{"10.0.1.9": true, "10.0.2.9": false, "192.0.2.1": false} {
		if got, near := s.AddrsFor(netip.MustParseAddr(client)); near != want || want != (len(got) == 1) {
			t.Errorf("%s: got %v, %t; want %t", client, got, near, want)
		}
	}
	if got, near := s.AddrsFor(netip.Addr{}); near || len(got) > 0 {
		t.Errorf("a client on no network: got %v", got)
	}
}

func TestNodeOf(t *testing.T) {
	addr := netip.MustParseAddr("192.0.2.7")
	for _, c := range []struct {
		host     string
		addr     netip.Addr
		want     []string
		problems int
	}{
		{"Alpha", addr, []string{"alpha.nodes.docker", "nodes.docker"}, 0},
		{"a.example", addr, []string{"a.example.nodes.docker", "nodes.docker"}, 0},
		{"a_b", addr, []string{"a_b.nodes.docker", "nodes.docker", "a-b.nodes.docker"}, 0},
		{"a..b", addr, []string{"nodes.docker"}, 1},
		{strings.Repeat("a", 64), addr, []string{"nodes.docker"}, 1},
		{"", addr, []string{"nodes.docker"}, 0},
		{"alpha", netip.Addr{}, nil, 0},
	} {
		s, problems := swarmRules.NodeOf("n1", c.host, c.addr, "e")
		var got []string
		if s != nil {
			got = dnsname.Texts(s.SecondNames)
			if s.ID != "node:n1" || s.Origin.Container != c.host || s.Origin.Task.Node != c.host || s.IsByHand() {
				t.Errorf("%s: got %+v", c.host, s)
			}
		}
		if !slices.Equal(got, c.want) || len(problems) != c.problems {
			t.Errorf("%s at %v: got %v, %v; want %v", c.host, c.addr, got, problems, c.want)
		}
	}
}

// The API can't make containers of them.
func TestVirtualStaysAsItIs(t *testing.T) {
	s, _ := swarmRules.NodeOf("n1", "alpha", netip.MustParseAddr("192.0.2.7"), "e")
	ttl := 5
	if p, err := swarmRules.Patched(s, Patch{TTL: &ttl}); !errors.Is(err, ErrNotOurs) {
		t.Errorf("got %v, %v; want %v", p, err, ErrNotOurs)
	}
}

func TestClosedNames(t *testing.T) {
	names := func(list ...string) (names []dnsname.Name) {
		for _, text := range list {
			names = append(names, mustName(t, text))
		}
		return names
	}
	s := &Service{Extras: &noExtras, SecondNames: names("web.docker", "1.web.docker", "db.docker", "a.b.db.docker")}
	if got := s.ClosedNames(); len(got) != 1 || !got[mustName(t, "web.docker")] {
		t.Errorf("got %v; want web.docker", got)
	}
}
