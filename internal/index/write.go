package index

import (
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
	unknown := x.names.swap(old, single, before, now)
	x.addresses.swap(old, single)
	x.noteRemoved(old, s, died)
	x.bump()
	x.noteChange(old, s, before, now)
	x.Touched.note(before, now)
	for _, other := range append(x.stoppedAt(old), x.stoppedAt(s)...) { // which may lose the address, or get it back
		paths := x.pathsOf(other)
		x.noteChange(other, nil, paths)
		x.Touched.note(paths)
	}
	if unknown {
		x.noteChangeOfAll()
		x.Touched.noteAll()
	}
	if before.zone != "" || now.zone != "" { // all names that are unknown otherwise
		x.noteChangeOfAll()
	}
}

// SetTTL sets the default TTL in seconds.
func (x *Index) SetTTL(ttl uint32) {
	x.TTL.Store(ttl)
	x.bump()
	x.noteChangeOfAll()
	x.Touched.noteAll()
}

// A Zone says how far the containers of a zone's engines are known.
type Zone struct {
	HasEngine bool // else it holds services of the API only
	Listed    bool // the containers of one engine at least are published
	Kept      bool // services of the API are known from before the start
	Waits     bool // those of another are not yet, though it may be reached
	Unknown   bool // those of an engine may have changed: it is away, or not listed since
}

// SetZones notes how far the zones are known, and how many engines are away.
func (x *Index) SetZones(zones map[dnsname.Name]Zone, away int) {
	x.Away.Store(int32(away))
	var any Zone
	all := true
	for _, name := range x.Zones {
		z := zones[name]
		any.Listed, any.Waits = any.Listed || z.Listed, any.Waits || z.Waits
		isKnown := !z.HasEngine || !z.Unknown
		x.settled.Store(name, isKnown)
		x.listing.Store(name, z.Waits)
		isListed := !z.HasEngine || (z.Listed || z.Kept) && !z.Waits
		if isListed && !x.IsListed(name) {
			x.Touched.noteAll() // they were not read meanwhile
		}
		x.listed.Store(name, isListed)
		all = all && isKnown
	}
	if any.Listed && !any.Waits {
		x.Known.Store(true)
	}
	x.Ready.Store(all)
	x.isListing.Store(any.Waits)
	x.noteChangeOfAll()
}
