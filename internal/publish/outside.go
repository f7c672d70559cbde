package publish

import (
	"net/netip"
	"slices"
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
func (s *Service) NumbersFor(client netip.Addr, p Port) []uint16 {
	if s.IsOutside(client) {
		return s.Outside.at(p)
	}
	return []uint16{p.Number}
}

// IsOutside reports whether a client is answered the machine that publishes the ports of s.
func (s *Service) IsOutside(client netip.Addr) bool {
	if s.Outside == nil {
		return false
	}
	_, near := s.AddrsFor(client)
	return !near
}
