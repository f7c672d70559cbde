package publish

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"
	"strings"
)

// Endpoints returns the addresses that c is answered with, by the network they
// are on. networks are the values of -network.
func (c *Container) Endpoints(networks []string) []Endpoint {
	return newLabelReader(c).endpoints(networks)
}

// endpoints finds what to answer: what a label sets, else the endpoints on the
// networks that are wanted, without the addresses that the prefix excludes.
func (m *labelReader) endpoints(networks []string) (list []Endpoint) {
	if places := m.places(); len(places) > 0 {
		m.isElsewhere = true
		for _, p := range places {
			if p.Container != "" {
				list = append(list, m.Others[p.Container]...)
			} else {
				list = append(list, Endpoint{Addrs: []netip.Addr{p.Addr}})
			}
		}
		return list
	}
	one := func(string) int { return 1 }
	if own := items(m, ParseNetwork, one, networkSources); len(own) > 0 {
		networks = own
	}
	within := m.prefix()
	for _, e := range m.Networks {
		isOut := func(a netip.Addr) bool { return a.IsValid() && !within(a) }
		e.Addrs = slices.DeleteFunc(slices.Clone(e.Addrs), isOut)
		list = append(list, e)
	}
	return chosen(list, networks)
}

// chosen returns the endpoints on networks that are wanted, the best first; nil: on all. It may change list.
func chosen(list []Endpoint, networks []string) []Endpoint {
	if networks == nil {
		return gatewayFirst(list)
	}
	list = slices.DeleteFunc(list, func(e Endpoint) bool { return !slices.Contains(networks, e.Name) })
	slices.SortStableFunc(list, func(a, b Endpoint) int {
		return cmp.Compare(slices.Index(networks, a.Name), slices.Index(networks, b.Name))
	})
	return list
}

// Reaches returns the names of the containers whose addresses c is answered with.
func (c *Container) Reaches() (names []string) {
	for _, p := range newLabelReader(c).places() {
		if p.Container != "" {
			names = append(names, p.Container)
		}
	}
	return names
}

// places finds what a container is answered with in place of its own addresses.
func (m *labelReader) places() (list []place) {
	for _, source := range addrSources {
		if v, _ := m.value(source); v == "" {
			continue
		} else if err := m.byCreator(source); err != nil {
			m.problem(source, v, err)
			continue
		}
		return items(m, parsePlace, func(place) int { return AddrCost }, []string{source})
	}
	return nil
}

// A place is one of the addresses that a container is answered with in place of
// its own.
type place struct {
	Addr      netip.Addr // not valid: the host's
	Container string     // the container whose addresses they are; empty: Addr is meant
}

// nameChars are those that names of containers and networks are made of.
const nameChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"

// parsePlace reads an address, "host" or "container:NAME".
func parsePlace(s string) (p place, err error) {
	if s == "host" {
		return p, nil
	}
	if name, ok := strings.CutPrefix(s, "container:"); ok {
		// It becomes part of a path: "." and ".." are no names.
		p.Container = strings.TrimPrefix(name, "/")
		isName := p.Container != "" && strings.Trim(p.Container, nameChars) == ""
		if !isName || strings.ContainsAny(p.Container[:1], "_.-") {
			return p, errors.New("write a container's name, as in container:proxy")
		}
		return p, nil
	}
	if p.Addr, err = ParseAddr(s); err != nil {
		err = errors.New("write an IPv4 or IPv6 address, host or container:NAME, " +
			"as in 192.168.0.3, fd00::3 or container:proxy")
	}
	return p, err
}

// ParseAddr reads an IPv4 or IPv6 address without a zone.
func ParseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(strings.TrimSpace(s))
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, errors.New("write an IPv4 or IPv6 address, as in 192.168.0.3 or fd00::3")
	}
	return a.Unmap(), nil
}

// AddrTexts returns addresses as parsePlace reads them.
func AddrTexts(addrs []netip.Addr) []string {
	list := make([]string, 0, len(addrs))
	for _, a := range addrs {
		if a.IsValid() {
			list = append(list, a.String())
		} else {
			list = append(list, "host")
		}
	}
	return list
}

// ParseNetwork reads the name of a network.
func ParseNetwork(s string) (string, error) {
	if strings.ContainsAny(s, " \t=") {
		return "", errors.New("write names of networks with commas between, as in backend,bridge")
	}
	return s, nil
}

// prefix returns the filter that a prefix asks for.
func (m *labelReader) prefix() (within func(netip.Addr) bool) {
	within = func(netip.Addr) bool { return true }
	m.first(func(source, v string) error {
		if err := m.byCreator(source); err != nil {
			return err
		}
		if p, err := netip.ParsePrefix(v); err == nil {
			within = p.Contains
			return nil
		}
		if strings.Trim(strings.ToLower(v), "0123456789abcdef.:") != "" {
			return errors.New("write the beginning of an address or a CIDR, as in 172.17. or 172.17.0.0/16")
		}
		within = func(a netip.Addr) bool { return strings.HasPrefix(a.String(), strings.ToLower(v)) }
		return nil
	}, prefixSources)
	return within
}

// setAddrs sets the addresses of s to those of list, each once: in the order of
// list, but with those of one network together, those of internal networks last,
// and no more than are allowed.
func (s *Service) setAddrs(list []Endpoint) {
	first := make(map[Network]int) // index in list, by network
	for i, e := range slices.Backward(list) {
		first[e.Network] = i
	}
	slices.SortStableFunc(list, func(a, b Endpoint) int {
		return cmp.Or(cmp.Compare(TrueFirst(!a.Internal), TrueFirst(!b.Internal)),
			cmp.Compare(first[a.Network], first[b.Network]))
	})
	seen := make(map[netip.Addr]bool)
	isOnNetwork := false
	for _, e := range list {
		count := 0
		for _, a := range e.Addrs {
			if seen[a] || len(seen) == MaxItems/AddrCost {
				continue
			}
			seen[a] = true
			s.Addrs = append(s.Addrs, a)
			count++
		}
		s.addRun(e.Network, count)
		isOnNetwork = isOnNetwork || count > 0 && e.Network != Network{}
	}
	if !isOnNetwork {
		s.NetRuns = nil
	}
}
