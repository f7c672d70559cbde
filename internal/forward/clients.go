package forward

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rayje/dnsdock/internal/host"
)

// subnetsAge is how long the subnets of this host are believed: a network may be new.
const subnetsAge = time.Second

// clients knows whose queries are forwarded, so that a dnsdock on a public address is no open resolver: those of
// hosts nearby, and of those that the user allowed.
type clients struct {
	allowed []netip.Prefix
	subnets atomic.Pointer[subnets] // nil before they are first needed
	reading sync.Mutex              // held while the subnets are read again
}

// subnets are those of this host's interfaces at a time.
type subnets struct {
	list []netip.Prefix
	read time.Time
}

// isLocal reports whether a has a loopback, private (RFC 1918), unique-local (RFC 4193) or link-local address, is
// in a subnet of this host, or allowed.
func (c *clients) isLocal(a netip.Addr) bool { return c.isAlwaysLocal(a) || isWithin(c.current(), a) }

// isAlwaysLocal is isLocal without the subnets of this host.
func (c *clients) isAlwaysLocal(a netip.Addr) bool {
	return a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() || isWithin(c.allowed, a)
}

// isLocalAsKnown is isLocal for callers that can't wait: known is false if the subnets would have to be read first.
func (c *clients) isLocalAsKnown(a netip.Addr) (is, known bool) {
	if c.isAlwaysLocal(a) {
		return true, true
	}
	s := c.subnets.Load()
	if s == nil || time.Since(s.read) > subnetsAge {
		return false, false
	}
	return isWithin(s.list, a), true
}

func isWithin(list []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
}

// current returns the subnets. While one caller reads them again, others get those from before.
func (c *clients) current() []netip.Prefix {
	known := c.subnets.Load()
	if known != nil && (time.Since(known.read) <= subnetsAge || !c.reading.TryLock()) {
		return known.list
	}
	if known == nil {
		c.reading.Lock()
	}
	defer c.reading.Unlock()
	next := &subnets{list: host.Addrs(""), read: time.Now()}
	c.subnets.Store(next)
	return next.list
}
