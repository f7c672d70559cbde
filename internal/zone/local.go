package zone

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/rayje/dnsdock/internal/dnsname"
)

// Names in local zones that have more than the others.
const (
	resolverARPA dnsname.Name = "\x08resolver\x04arpa\x00" // NODATA: there is no encrypted resolver to move to

	loopback4 dnsname.Name = "\x011\x010\x010\x03127\x07in-addr\x04arpa\x00"
)

// isLoopback reports whether n is the name of 127.0.0.1 or ::1.
func isLoopback(n dnsname.Name) bool {
	p, ok := n.Prefix()
	return n == loopback4 || ok && p.IsSingleIP() && p.Addr() == netip.IPv6Loopback()
}

// localZones returns the zones that no nameserver outside of a site knows.
// They are answered here so that no question about them leaves the site:
// reverse zones of private and special addresses (RFC 6303 section 4, RFC
// 7793), test, localhost and invalid (RFC 6761 sections 6.2 to 6.4), onion
// (RFC 7686 section 2), local (RFC 6762 section 22.1), home.arpa (RFC 8375
// section 4), resolver.arpa (RFC 9462 section 6.1), service.arpa (RFC 9665) and alt
// (RFC 9476).
func localZones() map[dnsname.Name]bool {
	zones := strings.Fields(`localhost invalid test onion local home.arpa resolver.arpa service.arpa alt
		0.in-addr.arpa 127.in-addr.arpa 254.169.in-addr.arpa 255.255.255.255.in-addr.arpa
		10.in-addr.arpa 168.192.in-addr.arpa 2.0.192.in-addr.arpa 100.51.198.in-addr.arpa 113.0.203.in-addr.arpa
		d.f.ip6.arpa 8.e.f.ip6.arpa 9.e.f.ip6.arpa a.e.f.ip6.arpa b.e.f.ip6.arpa 8.b.d.0.1.0.0.2.ip6.arpa`)
	for i := 16; i < 32; i++ {
		zones = append(zones, fmt.Sprintf("%d.172.in-addr.arpa", i))
	}
	for i := 64; i < 128; i++ {
		zones = append(zones, fmt.Sprintf("%d.100.in-addr.arpa", i))
	}
	for _, digit := range []string{"0.", "1."} { // :: and ::1
		zones = append(zones, digit+strings.Repeat("0.", 31)+"ip6.arpa")
	}
	all := make(map[dnsname.Name]bool)
	for _, text := range zones {
		n, err := dnsname.Parse(text)
		if err != nil {
			panic(err) // none of these names has an error
		}
		all[n] = true
	}
	return all
}
