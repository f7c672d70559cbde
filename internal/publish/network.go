package publish

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// A Network is what a container on it knows of it.
type Network struct {
	Name     string
	V4, V6   IPNet
	Internal bool // only containers on it reach it
	Routed   bool // its gateways are routers elsewhere, not the host
}

// HostAddrs returns the addresses that the host has on the network, as far as they are known.
func (n Network) HostAddrs() (addrs []netip.Addr) {
	for _, a := range []netip.Addr{n.V4.Gateway, n.V6.Gateway} {
		if a.IsValid() && !n.Routed {
			addrs = append(addrs, a)
		}
	}
	return addrs
}

// An IPNet is a network in one address family. It is not valid if the network
// has no addresses of that family.
type IPNet struct {
	netip.Prefix
	// Gateway is the host's address on this network; not valid if unknown. Queries
	// from it are not from a container: Docker's proxy also uses it.
	Gateway netip.Addr
}

// NewIPNet returns the network of an address. It is not valid if the engine does
// not tell it.
func NewIPNet(addr string, bits int, gateway string) (n IPNet) {
	if a, err := ParseAddr(addr); err == nil && bits > 0 {
		n.Prefix, _ = a.Prefix(bits)      // stays invalid if bits is out of range
		n.Gateway, _ = ParseAddr(gateway) // stays invalid if there is none
	}
	return n
}

// Has reports whether a client, which is known by these addresses, is a container on the network.
func (n Network) Has(client ...netip.Addr) bool {
	for _, a := range client {
		if n.V4.has(a) || n.V6.has(a) {
			return true
		}
	}
	return false
}

func (n Network) hasGateway() bool { return n.V4.Gateway.IsValid() || n.V6.Gateway.IsValid() }

func (s IPNet) has(client netip.Addr) bool { return s.Contains(client) && client != s.Gateway }

// An Endpoint connects a container to a network. The network is zero for
// addresses that a label sets.
type Endpoint struct {
	Network
	Addrs    []netip.Addr
	Aliases  []string // docker run --network-alias, and what the engine adds
	Priority int      // of the gateway
}

// HostNetwork returns the endpoint of a container that uses the host's network.
func HostNetwork() Endpoint {
	return Endpoint{Network: Network{Name: "host"}, Addrs: []netip.Addr{{}}}
}

// gatewayFirst puts the network with the default gateway first, and sorts the
// others by name. That network is the one with the highest priority, then the first by
// name, among those that are not internal and have a gateway.
func gatewayFirst(list []Endpoint) []Endpoint {
	if len(list) < 2 {
		return list
	}
	first := slices.MinFunc(list, func(a, b Endpoint) int {
		return cmp.Or(
			cmp.Compare(TrueFirst(!a.Internal), TrueFirst(!b.Internal)),
			cmp.Compare(TrueFirst(a.hasGateway()), TrueFirst(b.hasGateway())),
			cmp.Compare(b.Priority, a.Priority),
			strings.Compare(a.Name, b.Name))
	}).Name
	slices.SortStableFunc(list, func(a, b Endpoint) int {
		return cmp.Or(
			cmp.Compare(TrueFirst(a.Name == first), TrueFirst(b.Name == first)),
			strings.Compare(a.Name, b.Name))
	})
	return list
}
