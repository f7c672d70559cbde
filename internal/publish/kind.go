package publish

import "slices"

// A Kind is a set of bits: what a service has.
type Kind uint16

const (
	HasA       Kind = 1 << iota // IPv4 addresses
	HasAAAA                     // IPv6 addresses
	HasTXT                      // TXT records
	HasPorts                    // SRV records
	HasDefault                  // the default TTL
	HasData                     // no CNAME
	HasCNAME                    // a CNAME, and none of the above
	IsWell                      // data, and its health check does not fail
	IsSick                      // data, and its health check fails
	Varies                      // addresses that depend on the network of the client
	HasHost                     // the host's address, which depends on the address that the client asked
	Runs                        // data, and no stopped container
	HasStopped                  // data of a container that does not run
	IsVIP                       // virtual addresses, which are no data: others have the name

	AnyKind = ^Kind(0) // every service has some of it
)

// Kinds returns what s has.
func (s *Service) Kinds() (k Kind) {
	if s.CNAME != "" {
		return HasCNAME
	}
	k = s.addrKinds()
	if s.VIP != "" {
		return k | IsVIP
	}
	k |= HasData
	if s.Sick {
		k |= IsSick
	} else {
		k |= IsWell
	}
	if s.IsStopped() {
		k |= HasStopped
	} else {
		k |= Runs
	}
	if len(s.TXT) > 0 {
		k |= HasTXT
	}
	if len(s.Ports) > 0 {
		k |= HasPorts
	}
	if s.TTL == DefaultTTL {
		k |= HasDefault
	}
	return k
}

// addrKinds returns what addresses s has.
func (s *Service) addrKinds() (k Kind) {
	addrs := s.Addrs
	if s.Outside != nil {
		addrs = slices.Concat(addrs, s.Outside.Addrs)
	}
	for _, a := range addrs {
		switch {
		case !a.IsValid():
			k |= HasA | HasAAAA | HasHost
		case a.Is4():
			k |= HasA
		default:
			k |= HasAAAA
		}
	}
	if s.Outside != nil || s.VIP != "" || len(s.NetRuns) > 1 || len(s.NetRuns) == 1 && s.NetRuns[0].Internal {
		k |= Varies
	}
	return k
}
