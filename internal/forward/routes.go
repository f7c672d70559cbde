package forward

import (
	"bytes"
	"net/netip"
	"strings"
	"time"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/publish"
)

const (
	UpstreamTimeout = 2 * time.Second         // for one upstream, where there are others; for all of them twice that: clients wait 5 s
	staleTimeout    = 1800 * time.Millisecond // after which a client gets what was good once (RFC 8767 section 5)
	MaxInFlight     = 1000                    // queries that wait for upstreams
	MaxClientFlight = 250                     // of one client; containers behind a proxy are one
	FailuresToLog   = 3                       // in a row: one lost packet is no news
	maxFailures     = 1000                    // that are counted: a flood must not make the number negative
	firstRetry      = time.Second             // until an upstream that failed is tried again: it doubles
	lastRetry       = 32 * time.Second        // with each time that it fails, up to this
	FollowPeriod    = 2 * time.Second         // in which a resolv.conf is looked at
	MaxResolvConf   = 1 << 20                 // octets
	MuchFailed      = 1000                    // questions; less is not worth a walk through the cache
	maxOfFile       = 8                       // nameservers that are taken from it: each has a share of the time
)

// Routes are the upstreams for the names at or below each domain; those of
// the root are for all others. A domain may have none.
type Routes[T any] map[dnsname.Name][]T

// find returns the upstreams for n, those of the longest domain. It is not
// specific if they are for all names.
func (r Routes[T]) find(n dnsname.Name) (upstreams []T, specific bool) {
	for ; n != dnsname.Root; n = n.Parent() {
		if list, ok := r[n]; ok {
			return list, true
		}
	}
	return r[dnsname.Root], false
}

// AnyBelow reports whether a domain of r is below n.
func (r Routes[T]) AnyBelow(n dnsname.Name) bool {
	for domain := range r {
		if domain != dnsname.Root && domain.Under(n) {
			return true
		}
	}
	return false
}

// parseResolvConf returns the nameservers of a resolv.conf, resolv.conf(5).
// What is no address is passed over, as resolvers do.
func parseResolvConf(b []byte) (list []Server) {
	for line := range bytes.Lines(b) {
		fields := strings.Fields(string(line))
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(fields[1]); err == nil && !a.IsUnspecified() {
			list = append(list, Server{Addr: netip.AddrPortFrom(a.Unmap(), 53)})
		}
	}
	return publish.Dedup(list)
}
