package publish

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/rayje/dnsdock/internal/dnsname"
)

// mustName is parseName for names that tests know to be good.
func mustName(t testing.TB, s string) dnsname.Name {
	t.Helper()
	n, err := dnsname.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// testContainer is a running container redis1 of redis:7 with one address,
// changed by change.
func testContainer(change func(*Container)) *Container {
	c := &Container{
		ID: strings.Repeat("ab", 32), Name: "redis1", Image: "redis:7", ImageID: "sha256:0123", State: "running",
		Env: map[string]string{}, Labels: map[string]string{},
		Networks: []Endpoint{{Network: Network{Name: "bridge"}, Addrs: []netip.Addr{netip.MustParseAddr("172.17.0.2")}}},
	}
	if change != nil {
		change(c)
	}
	return c
}

// netAt is a container's end of a network, whose gateway is the first address of
// its IPv4 subnet; '!' in front of the name makes it internal.
func netAt(name, addrs string) Endpoint {
	name, internal := strings.CutPrefix(name, "!")
	e := Endpoint{Network: Network{Name: name, Internal: internal}}
	for text := range strings.FieldsSeq(addrs) {
		p := netip.MustParsePrefix(text)
		e.Addrs = append(e.Addrs, p.Addr())
		if s := (IPNet{Prefix: p.Masked(), Gateway: p.Masked().Addr().Next()}); p.Addr().Is4() {
			e.V4 = s
		} else {
			e.V6 = s
		}
	}
	return e
}

// env returns a change that sets variables: names and values in turn.
func env(kv ...string) func(*Container) {
	return func(c *Container) {
		for i := 0; i < len(kv); i += 2 {
			c.Env[kv[i]] = kv[i+1]
		}
	}
}

// label returns a change that sets labels: names and values in turn.
func label(kv ...string) func(*Container) {
	return func(c *Container) {
		for i := 0; i < len(kv); i += 2 {
			c.Labels[kv[i]] = kv[i+1]
		}
	}
}

// both returns a change that makes several, in order.
func both(changes ...func(*Container)) func(*Container) {
	return func(c *Container) {
		for _, change := range changes {
			change(c)
		}
	}
}

// networks returns a change that puts the container on networks only.
func networks(list ...Endpoint) func(*Container) {
	return func(c *Container) { c.Networks = list }
}

func netOf(name string, addrs []netip.Addr) Endpoint {
	return Endpoint{Network: Network{Name: name}, Addrs: addrs}
}

func addrs(texts ...string) (list []netip.Addr) {
	for _, s := range texts {
		list = append(list, netip.MustParseAddr(s))
	}
	return list
}
