package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/host"
)

// A Nameserver answers names that are not ours. It is a server, or a file
// that names servers.
type Nameserver struct {
	Addr     netip.AddrPort
	TCP      bool   // never UDP
	TLS      bool   // DNS over TLS, RFC 7858
	CertName string // the name in its certificate; empty: its address
	File     string // path of a resolv.conf; the other fields are empty then
}

// String returns the nameserver as -nameserver takes it.
func (n Nameserver) String() string {
	switch {
	case n.File != "":
		return n.File
	case n.CertName != "":
		return "tls://" + n.Addr.String() + "#" + n.CertName
	case n.TLS:
		return "tls://" + n.Addr.String()
	case n.TCP:
		return "tcp://" + n.Addr.String()
	}
	return n.Addr.String()
}

// addNameservers sets the flag -nameserver: nameservers with commas between
// them, behind DOMAIN= those for a domain.
func (d *draft) addNameservers(text string) (err error) {
	if d.Forward.Nameservers == nil {
		d.Forward.Nameservers = make(map[dnsname.Name][]Nameserver)
	}
	domain, routes := dnsname.Root, d.Forward.Nameservers
	for item := range strings.SplitSeq(text, ",") {
		if before, after, ok := strings.Cut(item, "="); ok {
			if domain, err = parseRoute(before); err != nil {
				return err
			}
			item = after
		}
		if _, ok := routes[domain]; !ok {
			routes[domain] = nil // a domain may have no nameserver
		}
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		n, err := parseNameserver(item)
		if err != nil {
			return err
		}
		routes[domain] = append(routes[domain], n)
	}
	if _, ok := routes[dnsname.Root]; !ok {
		delete(d.given, "nameserver") // the default stays for all other names
	}
	return nil
}

// parseRoute reads the domain in front of its nameservers.
func parseRoute(text string) (dnsname.Name, error) {
	labels, err := parseLabels(strings.TrimSpace(text))
	if err == nil && labels == "" {
		err = errors.New("write a domain before '=', as in corp.example=10.0.0.53")
	}
	return dnsname.Name(labels) + dnsname.Root, err
}

// parseNameserver reads an address, tcp://ADDRESS, tls://ADDRESS#NAME, or the path of a resolv.conf.
func parseNameserver(text string) (n Nameserver, err error) {
	if strings.HasPrefix(text, "/") {
		return Nameserver{File: text}, nil
	}
	addr, port := text, uint16(53)
	if addr, n.TCP = strings.CutPrefix(text, "tcp://"); !n.TCP {
		addr, n.TLS = strings.CutPrefix(text, "tls://")
	}
	if n.TLS {
		addr, n.CertName, _ = strings.Cut(addr, "#")
		port = 853 // RFC 7858 section 3.1
	}
	if n.Addr, err = parseServerAddr(addr, port); err == nil && n.TLS && strings.Contains(text, "#") {
		labels, e := parseLabels(n.CertName)
		n.CertName = dnsname.Text(dnsname.Name(labels) + dnsname.Root)
		if e != nil || labels == "" {
			err = errors.New("write the name in the nameserver's certificate behind '#'," +
				" as in tls://1.1.1.1:853#cloudflare-dns.com")
		}
	}
	return n, err
}

// parseServerAddr reads IP:PORT, or an IP address with or without brackets.
func parseServerAddr(text string, defaultPort uint16) (netip.AddrPort, error) {
	a, err := netip.ParseAddrPort(text)
	if err != nil {
		if bare, ok := strings.CutPrefix(text, "["); ok && strings.HasSuffix(bare, "]") {
			text = strings.TrimSuffix(bare, "]")
		}
		var ip netip.Addr
		ip, err = netip.ParseAddr(text)
		a = netip.AddrPortFrom(ip, defaultPort)
	}
	if err != nil || a.Port() == 0 || a.Addr().IsUnspecified() {
		return a, errors.New("write the nameserver's IP or IP:PORT, as in 8.8.8.8, 8.8.8.8:53," +
			" [2001:4860:4860::8888]:53, tcp://8.8.8.8 or tls://1.1.1.1#cloudflare-dns.com," +
			" or a path, as /etc/resolv.conf")
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), nil
}

// maxResolvConf bounds a resolv.conf: those in use have a few hundred bytes.
const maxResolvConf = 1 << 20

// checkNameserverFiles returns an error if a resolv.conf can't be read.
func checkNameserverFiles(routes map[dnsname.Name][]Nameserver) error {
	for _, list := range routes {
		for _, n := range list {
			if n.File == "" {
				continue
			}
			if _, err := host.ReadFile(n.File, maxResolvConf); err != nil {
				err = fmt.Errorf("%w: write the path of a file as resolv.conf(5)", err)
				return invalid(n.File, "flag -nameserver", err)
			}
		}
	}
	return nil
}

// checkRoutes returns an error if there are nameservers for a domain that
// dnsdock answers itself.
func (c *Config) checkRoutes() error {
	for domain := range c.Forward.Nameservers {
		for _, zone := range append(c.EngineDomains(), c.Names.Apex) {
			if domain != dnsname.Root && domain.Under(zone) {
				return invalid(dnsname.Text(domain)+"=", "flag -nameserver",
					fmt.Errorf("dnsdock answers names under %s itself: write another domain", zone))
			}
		}
	}
	return nil
}

// refuseSelf returns an error if a nameserver is dnsdock itself, which would
// ask itself for ever.
func (c *Config) refuseSelf() error {
	for _, list := range c.Forward.Nameservers {
		for _, n := range list {
			if addr := c.OwnAddr(n.Addr); addr != "" {
				return invalid(n.String(), "flag -nameserver",
					fmt.Errorf("this is dnsdock itself, at -dns=%s: write another nameserver", addr))
			}
		}
	}
	return nil
}
