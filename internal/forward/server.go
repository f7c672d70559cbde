package forward

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"

	"github.com/rayje/dnsdock/internal/config"
	"github.com/rayje/dnsdock/internal/dnsname"
)

// A Server is where an upstream is.
type Server = config.Nameserver

// Routes are the nameservers for the names at or below each domain; those of the root are for all other names. A
// domain may have none.
type Routes map[dnsname.Name][]Server

// parseResolvConf returns the nameservers of a resolv.conf, resolv.conf(5). Like resolvers, it passes over what is
// no address.
func parseResolvConf(b []byte) (list []Server) {
	for line := range bytes.Lines(b) {
		fields := strings.Fields(string(line))
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		a, err := netip.ParseAddr(fields[1])
		if err != nil || a.IsUnspecified() {
			continue
		}
		if s := (Server{Addr: netip.AddrPortFrom(a.Unmap(), 53)}); !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}
