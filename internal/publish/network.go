package publish

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// A Network is what is known of one by a container that is on it.
type Network struct {
	Name     string
	V4, V6   IPNet
	Internal bool // reached from inside only
}

// An IPNet is a network in one family; not valid where it has none.
type IPNet struct {
	netip.Prefix
	Gateway netip.Addr // the host, or a proxy of its that hides who asks; may be not valid
}

// Has reports whether a client is on the network.
func (n Network) Has(client netip.Addr) bool { return n.V4.has(client) || n.V6.has(client) }

func (n Network) hasGateway() bool { return n.V4.Gateway.IsValid() || n.V6.Gateway.IsValid() }

func (s IPNet) has(client netip.Addr) bool { return s.Contains(client) && client != s.Gateway }

// An Endpoint is a container's end of a network. Addresses without a network
// are set by hand.
type Endpoint struct {
	Network
	Addrs    []netip.Addr
	Priority int // of its gateway
}

// HostNetwork returns the end of a container that has the host's network.
func HostNetwork() Endpoint {
	return Endpoint{Network: Network{Name: "host"}, Addrs: []netip.Addr{{}}}
}

// gatewayFirst puts the network that has the default gateway before the
// others, which are by name: it is the one of the highest priority, then
// the first by name, of those that are not internal and have a gateway.
func gatewayFirst(list []Endpoint) []Endpoint {
	if len(list) < 2 {
		return list
	}
	first := slices.MinFunc(list, func(a, b Endpoint) int {
		return cmp.Or(cmp.Compare(TrueFirst(!a.Internal), TrueFirst(!b.Internal)), cmp.Compare(TrueFirst(a.hasGateway()), TrueFirst(b.hasGateway())),
			cmp.Compare(b.Priority, a.Priority), strings.Compare(a.Name, b.Name))
	}).Name
	slices.SortStableFunc(list, func(a, b Endpoint) int {
		return cmp.Or(cmp.Compare(TrueFirst(a.Name == first), TrueFirst(b.Name == first)), strings.Compare(a.Name, b.Name))
	})
	return list
}
