package config

import (
	"errors"
	"net/netip"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/publish"
)

// A secondary is one value of -transfer.
type secondary struct {
	net    netip.Prefix
	notify netip.AddrPort // not valid: it is a network
}

// addSecondaries adds those of a list to those who may transfer zones.
func (d *draft) addSecondaries(text string) error {
	var all []secondary
	if err := list(&all, parseSecondary)(text); err != nil {
		return err
	}
	for _, s := range all {
		d.Transfer.Allow = append(d.Transfer.Allow, s.net)
		if s.notify.IsValid() {
			d.Transfer.Notify = append(d.Transfer.Notify, s.notify)
		}
	}
	return nil
}

// parseSecondary reads IP, IP:PORT or a CIDR.
func parseSecondary(text string) (s secondary, err error) {
	const dnsPort = 53
	if a, e := publish.ParseAddr(text); e == nil {
		s.notify = netip.AddrPortFrom(a, dnsPort)
	} else if s.notify, e = netip.ParseAddrPort(text); e != nil {
		if s.net, err = parseCIDR(text); err != nil {
			err = errors.New("write an IP, IP:PORT or a CIDR, as in 192.0.2.53, [2001:db8::53]:5353 or 192.0.2.0/24")
		}
		return s, err
	}
	a := s.notify.Addr().Unmap()
	if a.IsUnspecified() || a.Zone() != "" || s.notify.Port() == 0 {
		return s, errors.New("write the address of a nameserver, as in 192.0.2.53 or 192.0.2.53:5353")
	}
	s.notify = netip.AddrPortFrom(a, s.notify.Port())
	s.net, err = a.Prefix(a.BitLen())
	return s, err
}

// parseServerName reads the name of a nameserver.
func parseServerName(text string) (dnsname.Name, error) {
	labels, err := parseLabels(text)
	n := dnsname.Name(labels) + dnsname.Root
	if err == nil && n != dnsname.Root && len(n) <= dnsname.MaxLen && !isAddr(n) {
		return n, nil
	}
	return "", errors.New("write the name of a nameserver, as in ns1.example.com")
}
