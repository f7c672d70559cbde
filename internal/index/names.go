package index

import (
	"slices"
	"sync/atomic"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/table"
)

// names find services by name.
type names struct {
	zones *zones
	rules *publish.NameRules

	owned    table.Table[dnsname.Name, node] // by each name that an owner name is at or below
	second   table.Table[dnsname.Name, node] // by each name that a second name is at or below, under its zone
	nameless atomic.Pointer[Set]             // services without owner names, which are not in owned
	catchAll table.Table[dnsname.Name, *Set] // by zone: services that have the names that are unknown otherwise
	hosts    map[dnsname.Name]*Set           // by zone: the host, as a service; read-only
}

// A node is what is known of one name. Every service with the owner name o is in
// the subtree of o and of each ancestor of o, and in exact of o, and nowhere else.
type node struct {
	subtree *Set // services with an owner name at or below the name; nil: there is no such node
	exact   *Set // services with this owner name; nil: none
	open    *Set // of second names: those of exact that answer for names below it; nil: none
}

// Published returns all that has a full name, which is at or below the apex or, if there
// are several zones, the root.
func (x *names) Published() *Set {
	top := x.rules.Apex
	if len(x.zones.Zones) > 1 {
		top = dnsname.Root
	}
	n, _ := x.owned.Load(top)
	return n.subtree
}

// Everything iterates over all that is published, by ID.
func (x *names) Everything(yield func(*publish.Service) bool) {
	rest := slices.Collect(x.nameless.Load().All(publish.AnyKind))
	for s := range x.Published().All(publish.AnyKind) {
		for ; len(rest) > 0 && rest[0].ID < s.ID; rest = rest[1:] {
			if !yield(rest[0]) {
				return
			}
		}
		if !yield(s) {
			return
		}
	}
	for _, s := range rest {
		if !yield(s) {
			return
		}
	}
}

// Len returns the number of services.
func (x *names) Len() int { return x.Published().Len() + x.nameless.Load().Len() }

// HasAtOrBelow reports whether an owner name is n or below it.
func (x *names) HasAtOrBelow(n dnsname.Name) bool {
	_, ok := x.owned.Load(n)
	return ok
}

// CountBelow returns how many services a look-up of n may look at: those with
// an owner name, or those with a second name, at or below n.
func (x *names) CountBelow(n dnsname.Name) int {
	owned, _ := x.owned.Load(n)
	second, _ := x.second.Load(n)
	return max(owned.subtree.Len(), second.subtree.Len())
}

// swap puts the service of single at its names, and takes old from its own. It
// reports whether the names that are unknown otherwise change.
func (x *names) swap(old *publish.Service, single *Set, before, now paths) (unknown bool) {
	swapNames(&x.owned, old, single, before.owned, now.owned, nil)
	swapNames(&x.second, old, single, before.second, now.second, now.closed)
	nameless := x.nameless.Load()
	if old != nil {
		nameless = nameless.without(old.ID)
	}
	if single != nil && len(single.services[0].OwnerNames) == 0 {
		nameless = nameless.with(single)
	}
	x.nameless.Store(nameless)
	return x.swapCatchAll(old, single, before.zone, now.zone)
}

// paths are the names at or above those of a service. The value of a name
// is true if it is a name of the service itself.
type paths struct {
	owned  map[dnsname.Name]bool
	second map[dnsname.Name]bool // without those at or above the zone
	closed map[dnsname.Name]bool // second names that answer for none below them
	id     dnsname.Name          // the name of its short ID; empty: none
	zone   dnsname.Name          // where it has the names that are unknown otherwise; empty: nowhere
}

// pathsOf returns the paths of s, none if s is nil.
func (x *names) pathsOf(s *publish.Service) (p paths) {
	if s == nil {
		return p
	}
	root := func(dnsname.Name) dnsname.Name { return dnsname.Root }
	p.owned = publish.Paths(s.OwnerNames, root)
	if len(x.zones.Zones) > 1 && len(s.OwnerNames) > 0 { // for Published
		p.owned[dnsname.Root] = false
	}
	zoneOf := func(n dnsname.Name) dnsname.Name { zone, _ := x.zones.ZoneOf(n); return zone }
	p.second = publish.Paths(s.SecondNames, zoneOf)
	p.closed = s.ClosedNames()
	p.id = x.pathOfID(s)
	if s.CatchesAll() {
		p.zone = zoneOf(s.FullName())
	}
	return p
}

// pathOfID returns the name of the short ID of s; empty: it has none.
func (x *names) pathOfID(s *publish.Service) (n dnsname.Name) {
	zone, ok := x.zones.ZoneOf(s.FullName())
	if id := shortID(s); ok && id != "" {
		n = dnsname.Name([]byte{byte(len(id))}) + dnsname.Name(id) + zone
	}
	return n
}

// swapNames puts the service of single at the names of now, and takes old from
// those of before. Those of closed answer for none below them; nil: it is not asked.
func swapNames(nodes *table.Table[dnsname.Name, node], old *publish.Service, single *Set,
	before, now, closed map[dnsname.Name]bool) {
	for name, isOwner := range now {
		n, _ := nodes.Load(name)
		same := n.open == n.exact
		n.subtree = n.subtree.with(single)
		if isOwner {
			n.exact = n.exact.with(single)
		} else {
			n.exact = n.exact.without(single.services[0].ID)
		}
		switch {
		case !isOwner || closed == nil || closed[name]:
			n.open = n.open.without(single.services[0].ID)
		case same:
			n.open = n.exact
		default:
			n.open = n.open.with(single)
		}
		n.share()
		nodes.Store(name, n)
	}
	for name := range before {
		if _, ok := now[name]; ok {
			continue
		}
		n, _ := nodes.Load(name)
		n.subtree, n.exact = n.subtree.without(old.ID), n.exact.without(old.ID)
		n.open = n.open.without(old.ID)
		n.share()
		if n.subtree != nil {
			nodes.Store(name, n)
		} else {
			nodes.Remove(name)
		}
	}
}

// share makes one set of those of n that hold the same.
func (n *node) share() {
	if n.exact.Len() == n.subtree.Len() {
		n.exact = n.subtree
	}
	if n.open.Len() == n.exact.Len() {
		n.open = n.exact
	}
}

// swapCatchAll puts the service of single where it has the names that are
// unknown otherwise, and takes old from where it has them. It reports whether
// there was something to do.
func (x *names) swapCatchAll(old *publish.Service, single *Set, before, now dnsname.Name) (changed bool) {
	if now != "" {
		t, _ := x.catchAll.Load(now)
		x.catchAll.Store(now, t.with(single))
	}
	if before != "" && before != now {
		t, _ := x.catchAll.Load(before)
		x.catchAll.Store(before, t.without(old.ID))
	}
	return now != "" || before != ""
}
