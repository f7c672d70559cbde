// Package index finds services by name and by address, and chooses the addresses
// that a client gets. Readers never lock. It knows neither messages, nor where
// services come from.
package index

import (
	"cmp"
	"hash/maphash"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	intern "unique"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/table"
)

const (
	Many = 256 // services, which are looked at in some tens of microseconds
)

// An Index finds services by name and by address. Readers never lock: they see
// immutable nodes through tables. Those who change it hold a lock of their own.
type Index struct {
	Rules publish.NameRules
	changes

	Nodes  table.Table[dnsname.Name, *Node] // by each name that a service is at or below, the root left out
	Addrs  table.Table[netip.Addr, *View]   // of the services, by each address that is answered
	TTL    atomic.Uint32                    // seconds: the default TTL
	Serial atomic.Uint32                    // SOA serial, grows with each change
	Ready  atomic.Bool                      // no zone waits for an engine's first list
	Known  atomic.Bool                      // the engines that are not away have told what they have, one at least

	Zones    []dnsname.Name                                   // the apex, and those of engines with a domain of their own, the longest first; read-only
	Settled  table.Table[dnsname.Name, bool]                  // the zones that do not wait, while others do
	Compose  table.Table[dnsname.Name, *Node]                 // by each name of compose, and those above it up to a zone
	composed atomic.Bool                                      // there are some, or have been
	Networks table.Table[intern.Handle[publish.Network], int] // of services, how many

	Removed removedAliases // names that were ours
	Away    atomic.Int32   // engines that can't be asked now
}

// New returns an empty index with a default TTL in seconds. Zones are those
// of engines with a domain of their own.
func New(n publish.NameRules, ttl uint32, zones ...dnsname.Name) *Index {
	r := &Index{Rules: n, Zones: publish.Dedup(append(zones, n.Apex)), changes: changes{seed: maphash.MakeSeed()}}
	slices.SortFunc(r.Zones, func(a, b dnsname.Name) int {
		return cmp.Or(cmp.Compare(len(b), len(a)), strings.Compare(string(a), string(b)))
	})
	r.TTL.Store(ttl)
	r.Serial.Store(uint32(time.Now().Unix())) // grows over restarts too, RFC 1912 section 2.2
	return r
}

// SOASerial returns the serial for SOA records.
func (r *Index) SOASerial() uint32 { return r.Serial.Load() }

// A Node is what the registry knows of one name. It is never written again
// once stored. Every service with the owner name o is in below of each
// ancestor of o and of o itself, and in here of o, and nowhere else.
type Node struct {
	Subtree View  // of the services whose owner name is this or below it
	Exact   *View // of those whose owner name this is; below if that is all, nil if there is none
}

// A View is a set of services that answers are made of, at least one.
type View struct {
	*Set
	kinds publish.Kind // those of the set, near at hand
}

// NewView returns a view of t, nil if that is empty.
func NewView(t *Set) *View {
	if t == nil {
		return nil
	}
	return &View{Set: t, kinds: t.kinds}
}

// Has reports whether a service of v has one of kinds.
func (v *View) Has(k publish.Kind) bool { return v.kinds&k != 0 }

// Published returns all that is published: each service has a full name,
// which is at or below the apex or, where there are several, the root.
func (r *Index) Published() *Set {
	top := r.Rules.Apex
	if len(r.Zones) > 1 {
		top = dnsname.Root
	}
	if n, ok := r.Nodes.Load(top); ok {
		return n.Subtree.Set
	}
	return nil
}

// ZoneOf returns the zone that n is in: the apex, or an engine's own domain.
func (r *Index) ZoneOf(n dnsname.Name) (zone dnsname.Name, ok bool) {
	for _, z := range r.Zones {
		if n.Under(z) {
			return z, true
		}
	}
	return "", false
}

// IsAboveZone reports whether n is a zone or above one.
func (r *Index) IsAboveZone(n dnsname.Name) bool {
	return slices.ContainsFunc(r.Zones, func(zone dnsname.Name) bool { return zone.Under(n) })
}

func (r *Index) IsZone(n dnsname.Name) bool { return slices.Contains(r.Zones, n) }

// IsReady reports whether all is known of the zone that n is in.
func (r *Index) IsReady(n dnsname.Name) bool {
	if r.Ready.Load() {
		return true
	}
	zone, ok := r.ZoneOf(n)
	if !ok {
		return r.Known.Load()
	}
	ok, _ = r.Settled.Load(zone)
	return ok
}

// IsKnown reports whether the engines have told what they have, but for those
// that are away.
func (r *Index) IsKnown() bool { return r.Ready.Load() || r.Known.Load() }

// AnyHas reports whether a service of views has one of kinds.
func AnyHas(views []*View, k publish.Kind) bool {
	return slices.ContainsFunc(views, func(v *View) bool { return v.Has(k) })
}

// GoneAliases are aliases outside of the apex whose container died, and when.
// The world's answer to such a name would be another host's address.
type removedAliases struct {
	table.Table[dnsname.Name, time.Time]
	Count atomic.Int32
}

const (
	GoneFor = time.Hour // that an alias is nobody's, after its container died
	MaxGone = 10_000    // such aliases; past that the next ones are not kept
)

// RecentlyRemoved returns the alias that n is at or below, which is outside of the apex and
// of all aliases, if its container died within goneFor. While an
// engine is away, that stays so.
func (r *Index) RecentlyRemoved(n dnsname.Name) (alias dnsname.Name, ok bool) {
	if r.Removed.Count.Load() == 0 {
		return "", false
	}
	for a := n; a != dnsname.Root && (a == n || r.AnswersFor(a, n)); a = a.Parent() {
		if died, ok := r.Removed.Load(a); ok && (time.Since(died) < GoneFor || r.Away.Load() > 0) {
			return a, true
		}
	}
	return "", false
}

// noteRemovedLocked keeps the aliases that died with a container, and drops those
// that live again or died long ago.
func (r *Index) noteRemovedLocked(old, s *publish.Service, died bool) {
	if s != nil {
		for _, o := range s.OwnerNames {
			if _, ok := r.Removed.Load(o); ok {
				r.Removed.Delete(o)
				r.Removed.Count.Add(-1)
			}
		}
	}
	if old == nil || !died {
		return
	}
	for _, o := range old.OwnerNames {
		n, ok := r.Nodes.Load(o)
		if _, inZone := r.ZoneOf(o); inZone || ok && n.Exact != nil {
			continue
		}
		if r.Removed.Count.Load() >= MaxGone {
			r.dropGoneLocked()
		}
		if r.Removed.Count.Load() < MaxGone {
			if _, had := r.Removed.Map.Swap(o, time.Now()); !had {
				r.Removed.Count.Add(1)
			}
		}
	}
}

// dropGoneLocked drops the aliases that died long ago.
func (r *Index) dropGoneLocked() {
	for a, died := range r.Removed.All() {
		if time.Since(died) >= GoneFor && r.Away.Load() == 0 {
			r.Removed.Delete(a)
			r.Removed.Count.Add(-1)
		}
	}
}

// At returns the view of the services that publish the address whose reverse
// name n is, nil if there is none.
func (r *Index) At(n dnsname.Name) *View {
	if !n.IsReverse() {
		return nil
	}
	p, ok := n.Prefix()
	if !ok || !p.IsSingleIP() {
		return nil
	}
	v, _ := r.Addrs.Load(p.Addr())
	return v
}

// AnyBelow reports whether a reverse name of a published address is below n.
// It walks all addresses.
func (r *Index) AnyBelow(n dnsname.Name) bool {
	p, ok := n.Prefix()
	if !ok || p.IsSingleIP() {
		return false
	}
	count := 0
	for a := range r.Addrs.All() {
		if count++; count%Many == 0 {
			runtime.Gosched()
		}
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// swapNamesLocked swaps the services at their names, and returns all names at or above those.
func (r *Index) swapNamesLocked(old *publish.Service, s *Set) (paths []map[dnsname.Name]bool) {
	now, before := make(map[dnsname.Name]bool), make(map[dnsname.Name]bool)
	apex := func(n dnsname.Name) dnsname.Name { zone, _ := r.ZoneOf(n); return zone }
	composeNow, composeBefore := make(map[dnsname.Name]bool), make(map[dnsname.Name]bool)
	root := func(dnsname.Name) dnsname.Name { return dnsname.Root }
	if old != nil {
		before, composeBefore = publish.Paths(old.OwnerNames, root), publish.Paths(old.SecondNames, apex)
	}
	if s != nil {
		now, composeNow = publish.Paths(s.OwnerNames, root), publish.Paths(s.SecondNames, apex)
	}
	if len(r.Zones) > 1 { // for published
		for _, paths := range []map[dnsname.Name]bool{now, before} {
			if len(paths) > 0 {
				paths[dnsname.Root] = false
			}
		}
	}
	swap(&r.Nodes, old, s, now, before)
	if len(composeNow) > 0 {
		r.composed.Store(true)
	}
	swap(&r.Compose, old, s, composeNow, composeBefore)
	return []map[dnsname.Name]bool{now, before, composeNow, composeBefore}
}

// swap puts the one service of s at the names of now, and takes old from those of before.
func swap(nodes *table.Table[dnsname.Name, *Node], old *publish.Service, s *Set, now, before map[dnsname.Name]bool) {
	for n, isOwner := range now {
		o, _ := nodes.Load(n)
		nodes.Store(n, o.with(s, isOwner))
	}
	for n := range before {
		if _, ok := now[n]; ok {
			continue
		}
		o, _ := nodes.Load(n)
		if next := o.without(old.ID); next != nil {
			nodes.Store(n, next)
		} else {
			nodes.Delete(n)
		}
	}
}

// With returns n, which may be nil, with the one service of s, in the place
// of one of the same id; it is in here too if this is an owner name of it.
func (n *Node) with(s *Set, isOwner bool) *Node {
	var here, below *Set
	if n != nil {
		here, below = n.sets()
	}
	switch below = below.With(s); {
	case isOwner:
		here = here.With(s)
	case here != nil:
		here = here.Without(s.ID)
	}
	return newNode(n, here, below)
}

// Without returns n without the service of that id, nil if nothing is left.
func (n *Node) without(id string) *Node {
	here, below := n.sets()
	if here, below = here.Without(id), below.Without(id); below == nil {
		return nil
	}
	return newNode(n, here, below)
}

func (n *Node) sets() (here, below *Set) {
	if n.Exact != nil {
		here = n.Exact.Set
	}
	return here, n.Subtree.Set
}

// newNode returns the node of the two sets, in the place of n.
func newNode(n *Node, here, below *Set) *Node {
	next := &Node{Subtree: View{Set: below, kinds: below.kinds}}
	switch {
	case here.Len() == below.Len():
		next.Exact = &next.Subtree
	case n != nil && n.Exact != nil && n.Exact.Set == here:
		next.Exact = n.Exact
	default:
		next.Exact = NewView(here)
	}
	return next
}

func (r *Index) swapAddrsLocked(old *publish.Service, s *Set) {
	var now, before []netip.Addr
	if s != nil {
		now = s.Addrs
		r.countLocked(s.Service, 1)
	}
	if old != nil {
		before = old.Addrs
		r.countLocked(old, -1)
	}
	kept := make(map[netip.Addr]bool, len(now))
	for _, a := range now {
		kept[a] = true
		var t *Set
		if v, ok := r.Addrs.Load(a); ok {
			t = v.Set
		}
		if a.IsValid() { // else it is the host's
			r.Addrs.Store(a, NewView(t.With(s)))
		}
	}
	for _, a := range before {
		if kept[a] || !a.IsValid() {
			continue
		}
		v, _ := r.Addrs.Load(a)
		if rest := NewView(v.Without(old.ID)); rest != nil {
			r.Addrs.Store(a, rest)
		} else {
			r.Addrs.Delete(a)
		}
	}
}

// countLocked counts the services on each network.
func (r *Index) countLocked(s *publish.Service, by int) {
	for _, e := range s.NetRuns {
		n, _ := r.Networks.Load(e.Net)
		if n += by; n > 0 {
			r.Networks.Store(e.Net, n)
		} else {
			r.Networks.Delete(e.Net)
		}
	}
}
