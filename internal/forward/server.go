package forward

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"

	"github.com/rayje/dnsdock/internal/dnsname"
)

// A Server is where an upstream is, as -nameserver says.
type Server struct {
	Addr     netip.AddrPort
	TCP      bool   // never UDP
	TLS      bool   // DNS over TLS, RFC 7858
	CertName string // the name in its certificate; empty: its address
	File     string // path of a resolv.conf, which names servers; the other fields are empty then
}

// String returns the server as -nameserver takes it.
func (s Server) String() string {
	switch {
	case s.File != "":
		return s.File
	case s.CertName != "":
		return "tls://" + s.Addr.String() + "#" + s.CertName
	case s.TLS:
		return "tls://" + s.Addr.String()
	case s.TCP:
		return "tcp://" + s.Addr.String()
	}
	return s.Addr.String()
}

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
