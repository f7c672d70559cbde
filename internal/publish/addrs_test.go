package publish

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// Whom a container on several networks gives which address.
func TestAddressesByNetwork(t *testing.T) {
	front, back := netAt("front", "10.1.0.5/24"), netAt("back", "10.2.0.5/24")
	six := netAt("six", "10.3.0.5/24 fd00:3::5/64")
	inside, prior := netAt("!a-inside", "10.4.0.5/24"), netAt("prior", "10.5.0.5/24")
	prior.Priority = 7
	noGateway := netAt("a-none", "10.6.0.5/24")
	noGateway.V4.Gateway = netip.Addr{}
	noGateway.Priority = 9
	all := []Endpoint{inside, back, front, six}
	for _, c := range []struct {
		what     string
		networks []Endpoint
		flag     []string
		labels   map[string]string
		clients  map[string]string // client -> addresses in order
	}{
		{"by name, internal for those inside", all, nil, nil, map[string]string{
			"192.0.2.1": "10.2.0.5 10.1.0.5 10.3.0.5 fd00:3::5", "127.0.0.1": "10.2.0.5 10.1.0.5 10.3.0.5 fd00:3::5",
			"10.1.0.9": "10.1.0.5", "10.2.0.9": "10.2.0.5", "10.4.0.9": "10.4.0.5",
			"10.3.0.9": "10.3.0.5 fd00:3::5", "fd00:3::9": "10.3.0.5 fd00:3::5", // the network is the unit
			"10.1.0.1": "10.2.0.5 10.1.0.5 10.3.0.5 fd00:3::5", // the gateway may be a proxy that hides who asks
		}},
		{"gateway of the highest priority first", append(slices.Clone(all), prior, noGateway), nil, nil, map[string]string{
			"192.0.2.1": "10.5.0.5 10.6.0.5 10.2.0.5 10.1.0.5 10.3.0.5 fd00:3::5"}},
		{"internal only", []Endpoint{inside}, nil, nil, map[string]string{"192.0.2.1": "", "10.4.0.9": "10.4.0.5"}},
		{"flag limits and orders", all, []string{"six", "front", "nosuch"}, nil, map[string]string{
			"192.0.2.1": "10.3.0.5 fd00:3::5 10.1.0.5", "10.2.0.9": "10.3.0.5 fd00:3::5 10.1.0.5", "10.1.0.9": "10.1.0.5"}},
		{"label over flag", all, []string{"six"}, map[string]string{"com.dnsdock.network": "front, back"}, map[string]string{
			"192.0.2.1": "10.1.0.5 10.2.0.5"}},
		{"prefix", all, nil, map[string]string{"com.dnsdock.prefix": "10.3."}, map[string]string{
			"192.0.2.1": "10.3.0.5", "fd00:3::9": "10.3.0.5", "10.1.0.9": "10.3.0.5"}},
		{"by hand", all, nil, map[string]string{"com.dnsdock.ip_addr": "10.1.0.77,192.0.2.9"}, map[string]string{
			"192.0.2.1": "10.1.0.77 192.0.2.9", "10.2.0.9": "10.1.0.77 192.0.2.9"}},
	} {
		for range 20 {
			swap := func(i, j int) { c.networks[i], c.networks[j] = c.networks[j], c.networks[i] }
			rand.Shuffle(len(c.networks), swap)
			n := NameRules{Apex: mustName(t, "docker"), Networks: c.flag}
			s, problems := n.ServiceOf(testContainer(func(t *Container) {
				t.Networks, t.Labels = slices.Clone(c.networks), c.labels
			}), "e")
			if s == nil || problems != nil {
				t.Fatalf("%s: got %v, problems %v", c.what, s, problems)
			}
			for client, want := range c.clients {
				got, _ := s.AddrsFor(netip.MustParseAddr(client))
				if text := strings.Trim(fmt.Sprint(got), "[]"); text != want {
					t.Fatalf("%s, %s: got %q; want %q", c.what, client, text, want)
				}
			}
		}
	}
	n := NameRules{Apex: mustName(t, "docker"), Networks: []string{"six"}}
	if s, _ := n.ServiceOf(testContainer(func(t *Container) { t.Networks = []Endpoint{front} }), "e"); s != nil {
		t.Errorf("on none of the networks of -network: got %v; want it not published", s)
	}
}

func TestParsePlace(t *testing.T) {
	for _, c := range []struct {
		in   string
		want place
		bad  bool
	}{
		{in: "host"},
		{in: "192.0.2.1", want: place{Addr: netip.MustParseAddr("192.0.2.1")}},
		{in: "container:proxy_1.a-b", want: place{Container: "proxy_1.a-b"}},
		{in: "container:/proxy", want: place{Container: "proxy"}},
		{in: "container:", bad: true},
		{in: "container:.", bad: true}, // would ask for the list
		{in: "container:..", bad: true},
		{in: "container:a/../b", bad: true},
		{in: "container:a?x", bad: true},
		{in: "container:a b", bad: true},
		{in: "Host", bad: true},
		{in: "proxy", bad: true},
		{in: "fe80::1%eth0", bad: true},
	} {
		if got, err := parsePlace(c.in); (err != nil) != c.bad || err == nil && got != c.want {
			t.Errorf("%q: got %+v, %v; want %+v, error %t", c.in, got, err, c.want, c.bad)
		}
	}
}
