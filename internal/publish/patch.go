package publish

import (
	"cmp"
	"errors"
	"net/netip"

	"github.com/rayje/dnsdock/internal/dnsname"
)

// A Patch is what the HTTP API changes of a service; nil leaves a property
// as it is.
type Patch struct {
	Name    *string
	Image   *string
	Addrs   []netip.Addr
	CNAME   *dnsname.Name // not empty: in place of all addresses, and the other way round
	TXT     *[]string
	Ports   *[]Port
	TTL     *int
	Aliases *[]dnsname.Name
}

// Over returns p with what q sets in place of its own.
func (p Patch) Over(q Patch) Patch {
	p.Name, p.Image = cmp.Or(q.Name, p.Name), cmp.Or(q.Image, p.Image)
	p.TXT, p.Ports = cmp.Or(q.TXT, p.TXT), cmp.Or(q.Ports, p.Ports)
	p.TTL, p.Aliases = cmp.Or(q.TTL, p.TTL), cmp.Or(q.Aliases, p.Aliases)
	switch {
	case q.CNAME != nil && *q.CNAME != "":
		p.CNAME, p.Addrs = q.CNAME, nil
	case len(q.Addrs) > 0:
		p.CNAME, p.Addrs = new(dnsname.Name), q.Addrs
	case q.CNAME != nil:
		p.CNAME = q.CNAME
	}
	return p
}

var ErrNoAddress = errors.New(`there would be no address: write one, as in "ip": "192.168.0.3", or a "cname"`)
