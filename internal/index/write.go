package index

import (
	"net/netip"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/publish"
)

// Replace makes s findable in place of old; either may be nil. Callers hold a
// lock of their own. New names are stored before old ones are removed, and a
// name that both have is swapped in one store, so that no query sees a gap.
// died says that old goes because its container ended: its aliases stay ours for
// a while then, so that they are not asked elsewhere.
func (x *Index) Replace(old, s *publish.Service, died bool) {
	var single *Set // the sets that hold nothing but s share it
	if s != nil {
		single = Singleton(s)
	}
	before, now := x.pathsOf(old), x.pathsOf(s)
	swapNames(&x.owned, old, single, before.owned, now.owned)
	swapNames(&x.second, old, single, before.second, now.second)
	x.swapCatchAll(old, single, before.zone, now.zone)
	x.swapAddrs(old, single)
	x.noteRemoved(old, s, died)
	x.Serial.Add(1)
	x.noteChange(old, s, before, now)
	if before.zone != "" || now.zone != "" { // all names that are unknown otherwise
		x.noteChangeOfAll()
	}
}

// SetTTL sets the default TTL in seconds.
func (x *Index) SetTTL(ttl uint32) {
	x.TTL.Store(ttl)
	x.Serial.Add(1)
	x.noteChangeOfAll()
}

// A Zone says how far the containers of a zone's engines are known.
type Zone struct {
	HasEngine bool // else it holds services of the API only
	Listed    bool // the containers of one engine at least are published
	Waits     bool // those of another are not yet, though it may be reached
}

// SetZones notes how far the zones are known, and how many engines are away.
func (x *Index) SetZones(zones map[dnsname.Name]Zone, away int) {
	x.Away.Store(int32(away))
	var any Zone
	all := true
	for _, name := range x.Zones {
		z := zones[name]
		any.Listed, any.Waits = any.Listed || z.Listed, any.Waits || z.Waits
		isKnown := !z.HasEngine || z.Listed && !z.Waits
		if isKnown {
			x.settled.store(name, true)
		}
		all = all && isKnown
	}
	if any.Listed && !any.Waits {
		x.Known.Store(true)
	}
	if all {
		x.Ready.Store(true)
	}
	x.noteChangeOfAll()
}

// paths are the names at or above those of a service. The value of a name
// is true if it is a name of the service itself.
type paths struct {
	owned  map[dnsname.Name]bool
	second map[dnsname.Name]bool // without those at or above the zone
	id     dnsname.Name          // the name of its short ID; empty: none
	zone   dnsname.Name          // where it has the names that are unknown otherwise; empty: nowhere
}

// pathsOf returns the paths of s, none if s is nil.
func (x *Index) pathsOf(s *publish.Service) (p paths) {
	if s == nil {
		return p
	}
	root := func(dnsname.Name) dnsname.Name { return dnsname.Root }
	p.owned = publish.Paths(s.OwnerNames, root)
	if len(x.Zones) > 1 { // for Published
		p.owned[dnsname.Root] = false
	}
	zoneOf := func(n dnsname.Name) dnsname.Name { zone, _ := x.ZoneOf(n); return zone }
	p.second = publish.Paths(s.SecondNames, zoneOf)
	zone := zoneOf(s.OwnerNames[0])
	if id := shortID(s); id != "" && zone != "" {
		p.id = dnsname.Name([]byte{byte(len(id))}) + dnsname.Name(id) + zone
	}
	if s.CatchesAll() {
		p.zone = zone
	}
	return p
}

// swapNames puts the service of single at the names of now, and takes old from
// those of before.
func swapNames(nodes *table[dnsname.Name, node], old *publish.Service, single *Set, before, now map[dnsname.Name]bool) {
	for name, isOwner := range now {
		n, _ := nodes.load(name)
		n.subtree = n.subtree.With(single)
		if isOwner {
			n.exact = n.exact.With(single)
		} else {
			n.exact = n.exact.Without(single.services[0].ID)
		}
		n.share()
		nodes.store(name, n)
	}
	for name := range before {
		if _, ok := now[name]; ok {
			continue
		}
		n, _ := nodes.load(name)
		n.subtree, n.exact = n.subtree.Without(old.ID), n.exact.Without(old.ID)
		n.share()
		if n.subtree != nil {
			nodes.store(name, n)
		} else {
			nodes.remove(name)
		}
	}
}

// share makes one set of the two of n if they hold the same.
func (n *node) share() {
	if n.exact.Len() == n.subtree.Len() {
		n.exact = n.subtree
	}
}

// swapCatchAll puts the service of single where it has the names that are
// unknown otherwise, and takes old from where it has them.
func (x *Index) swapCatchAll(old *publish.Service, single *Set, before, now dnsname.Name) {
	if now != "" {
		t, _ := x.catchAll.load(now)
		x.catchAll.store(now, t.With(single))
	}
	if before != "" && before != now {
		t, _ := x.catchAll.load(before)
		x.catchAll.store(before, t.Without(old.ID))
	}
	if now != before || now != "" {
		x.noteChangeOfAll()
	}
}

// swapAddrs puts the service of single at its addresses, and takes old from its.
func (x *Index) swapAddrs(old *publish.Service, single *Set) {
	var now, before []netip.Addr
	if single != nil {
		now = single.services[0].Addrs
		x.count(single.services[0], 1)
	}
	if old != nil {
		before = old.Addrs
		x.count(old, -1)
	}
	kept := make(map[netip.Addr]bool, len(now))
	for _, a := range now {
		kept[a] = true
		if a.IsValid() { // else it is the host's
			t, _ := x.addrs.load(a)
			x.addrs.store(a, t.With(single))
		}
	}
	for _, a := range before {
		if kept[a] || !a.IsValid() {
			continue
		}
		t, _ := x.addrs.load(a)
		if t = t.Without(old.ID); t != nil {
			x.addrs.store(a, t)
		} else {
			x.addrs.remove(a)
		}
	}
}

// count adds to the number of services on the networks of s.
func (x *Index) count(s *publish.Service, by int) {
	for _, run := range s.NetRuns {
		n, _ := x.networks.load(run.Net)
		if n += by; n > 0 {
			x.networks.store(run.Net, n)
		} else {
			x.networks.remove(run.Net)
		}
	}
}
