package index

import (
	"hash/maphash"
	"net/netip"
	"sync/atomic"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/publish"
)

// changeSlots is the number of counters of a kind: 128 KiB. Two names that share one
// cost an answer that could have been kept, in one of so many changes.
const changeSlots = 1 << 15

// Changes tells who keeps answers whether they are still true, without a look
// at what they were made from. All numbers grow after what changed is
// stored, so an answer that was made across a change is not taken for a newer one.
type changes struct {
	seed    maphash.Seed
	version atomic.Uint32              // grows with each change of any kind
	all     atomic.Uint32              // grows with each change that concerns all names
	subtree [changeSlots]atomic.Uint32 // by the hash of a name: grows with each change of a service at or below it
	exact   [changeSlots]atomic.Uint32 // by the hash of an owner name: grows with each change of a service that has it
}

// Version returns a number that grows with each change. With the same version
// all answers are the same.
func (c *changes) Version() uint32 { return c.version.Load() }

// Stamp returns a number that grows with each change of what the name rule finds
// for n: services at or below n, those whose owner name is above n, and
// those with a port or an address of that name. With the same stamp the answer
// is the same, if it was made from nothing else.
func (x *Index) Stamp(n dnsname.Name) uint32 {
	c := &x.changes
	sum := c.all.Load() + c.subtree[c.slot(n)].Load()
	if n.IsReverse() {
		if p, ok := n.Prefix(); ok && p.IsSingleIP() {
			sum += c.subtree[c.slotOf(p.Addr())].Load()
		}
	}
	if label := n.Label(); label != "" && label[0] == '_' { // it may be _port._protocol.name
		parent := n.Parent()
		sum += c.subtree[c.slot(parent)].Load() + c.subtree[c.slot(parent.Parent())].Load()
	}
	for above := n.Parent(); x.answersFor(above, n); above = above.Parent() {
		sum += c.exact[c.slot(above)].Load()
	}
	return sum
}

// slot returns the place of a name's counters.
func (c *changes) slot(n dnsname.Name) uint64 { return maphash.String(c.seed, string(n)) % changeSlots }

// slotOf returns the place of an address's counter.
func (c *changes) slotOf(a netip.Addr) uint64 { return maphash.Comparable(c.seed, a) % changeSlots }

// noteChange notes a change from old to s, whose names are those of paths.
func (c *changes) noteChange(old, s *publish.Service, all ...paths) {
	for _, p := range all {
		for _, names := range []map[dnsname.Name]bool{p.owned, p.second, {p.id: true}} {
			for n, isOwner := range names {
				if n == "" {
					continue
				}
				c.subtree[c.slot(n)].Add(1)
				if isOwner {
					c.exact[c.slot(n)].Add(1)
				}
			}
		}
	}
	for _, service := range []*publish.Service{old, s} {
		if service == nil {
			continue
		}
		for _, a := range service.Addrs {
			c.subtree[c.slotOf(a)].Add(1)
		}
	}
	c.version.Add(1)
}

// noteChangeOfAll notes a change that concerns all names, such as that of
// the default TTL, or of what is known of an engine.
func (c *changes) noteChangeOfAll() {
	c.all.Add(1)
	c.version.Add(1)
}
