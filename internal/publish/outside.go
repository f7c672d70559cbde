package publish

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// An Outside is what clients on none of a service's networks are answered: the
// machine that publishes its ports. It is never written again.
type Outside struct {
	Addrs []netip.Addr    // of the machine; not valid: the host's
	Ports []PublishedPort // by number; none: all ports are the machine's, as on the host's network
}

// A PublishedPort is a port of a container at the machine that publishes it.
type PublishedPort struct {
	Number    uint16 // in the container
	Proto     string // "tcp", "udp" or "sctp"
	Published uint16 // on the machine
}

func (o *Outside) equal(p *Outside) bool {
	if o == nil || p == nil {
		return o == p
	}
	return slices.Equal(o.Addrs, p.Addrs) && slices.Equal(o.Ports, p.Ports)
}

// at returns the ports of the machine that lead to p.
func (o *Outside) at(p Port) (numbers []uint16) {
	if len(o.Ports) == 0 {
		return []uint16{p.Number}
	}
	for _, q := range o.Ports {
		if q.Number == p.Number && q.Proto == p.Proto {
			numbers = append(numbers, q.Published)
		}
	}
	return numbers
}

// NumbersFor returns where a client reaches a port of s: at the port itself, or
// at those that the machine publishes for it. It returns none if the port is
// not published to a client outside.
func (s *Service) NumbersFor(p Port, client ...netip.Addr) []uint16 {
	if s.IsOutside(client...) {
		return s.Outside.at(p)
	}
	return []uint16{p.Number}
}

// IsOutside reports whether a client is answered the machine that publishes the ports of s.
func (s *Service) IsOutside(client ...netip.Addr) bool {
	if s.Outside == nil {
		return false
	}
	_, near := s.AddrsFor(client...)
	return !near
}

// A Binding is a published port with the address of the machine that it is bound to.
type Binding struct {
	Addr netip.Addr // unspecified or not valid: all addresses
	PublishedPort
}

// NewOutside returns what clients outside reach of bindings at a machine that
// has these addresses, of which one that is not valid is the host's. Ports that
// are bound to the loopback interface count only if the machine's address is on it;
// those that are bound to another address are answered with that one, if there
// are no others. Docker may choose another port for IPv6 than for IPv4: it is the
// one for IPv4 then, unless the machine has none. It returns nil if nothing can be reached.
func NewOutside(machine []netip.Addr, bindings []Binding) *Outside {
	var here, there Outside
	is4 := func(a netip.Addr) bool { return !a.IsValid() || a.Is4() }
	hasOnly6 := !slices.ContainsFunc(machine, is4)
	isOther := func(b Binding) bool { // of the family that is not wanted, where the other has the port too
		return b.Addr.IsValid() && b.Addr.IsUnspecified() && b.Addr.Is4() == hasOnly6 &&
			slices.ContainsFunc(bindings, func(c Binding) bool {
				return c.Addr.IsUnspecified() && c.Addr.Is4() != hasOnly6 && c.Number == b.Number && c.Proto == b.Proto
			})
	}
	for _, b := range bindings {
		switch {
		case isOther(b):
		case !b.Addr.IsValid() || b.Addr.IsUnspecified() || slices.Contains(machine, b.Addr):
			here.Addrs, here.Ports = machine, append(here.Ports, b.PublishedPort)
		case !b.Addr.IsLoopback():
			there.Addrs, there.Ports = append(there.Addrs, b.Addr), append(there.Ports, b.PublishedPort)
		}
	}
	if here.Ports == nil {
		here = there
	}
	if here.Ports == nil {
		return nil
	}
	return &Outside{Dedup(here.Addrs), SortPorts(here.Ports)}
}

// SortPorts sorts ports by number and leaves out those that come twice: most
// are bound for IPv4 and for IPv6. It changes list.
func SortPorts(list []PublishedPort) []PublishedPort {
	slices.SortStableFunc(list, func(p, q PublishedPort) int {
		return cmp.Or(cmp.Compare(p.Number, q.Number), strings.Compare(p.Proto, q.Proto),
			cmp.Compare(p.Published, q.Published))
	})
	return slices.Compact(list)
}
