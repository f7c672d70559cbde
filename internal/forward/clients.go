package forward

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rayje/dnsdock/internal/host"
)

// Clients tells whose queries are forwarded, so that a dnsdock on a public
// address is no open resolver: those of hosts nearby and of the ones that are
// allowed by hand.
type Clients struct {
	Allowed []netip.Prefix
	Subnets atomic.Pointer[Subnets] // nil before they are asked for
	reading sync.Mutex              // held by the one that reads them anew
}

// Subnets are those of this host's interfaces, as they were at some time.
type Subnets struct {
	List []netip.Prefix
	Read time.Time
}

// subnetsAge is for how long subnets are believed: a network may be new.
const subnetsAge = time.Second

// Local reports whether a has a loopback, private (RFC 1918), unique-local
// (RFC 4193) or link-local address, is in a subnet of this host, or allowed.
func (c *Clients) Local(a netip.Addr) bool { return c.always(a) || within(c.current(), a) }

// always is local, but for the subnets.
func (c *Clients) always(a netip.Addr) bool {
	return a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() || within(c.Allowed, a)
}

func within(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// current returns the subnets. While one reads them anew, others take those from before.
func (c *Clients) current() []netip.Prefix {
	known := c.Subnets.Load()
	if known != nil && time.Since(known.Read) <= subnetsAge || known != nil && !c.reading.TryLock() {
		return known.List
	}
	if known == nil {
		c.reading.Lock()
	}
	defer c.reading.Unlock()
	next := &Subnets{List: host.Addrs(""), Read: time.Now()}
	c.Subnets.Store(next)
	return next.List
}
