package main

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/publish"
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

// netAt is a container's end of a network, whose gateway is the first address of
// its IPv4 subnet; '!' in front of the name makes it internal.
func netAt(name, addrs string) publish.Endpoint {
	name, internal := strings.CutPrefix(name, "!")
	e := publish.Endpoint{Network: publish.Network{Name: name, Internal: internal}}
	for text := range strings.FieldsSeq(addrs) {
		p := netip.MustParsePrefix(text)
		e.Addrs = append(e.Addrs, p.Addr())
		if s := (publish.IPNet{Prefix: p.Masked(), Gateway: p.Masked().Addr().Next()}); p.Addr().Is4() {
			e.V4 = s
		} else {
			e.V6 = s
		}
	}
	return e
}
