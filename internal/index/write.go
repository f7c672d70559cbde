package index

import (
	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/publish"
)

// Replace makes s findable in place of old; either may be nil. Callers hold a
// lock of their own. New names are stored before old ones are removed, and a
// name that both have is swapped in one store, so that no query sees a gap.
// Died says that old goes because its container ended: its aliases are kept
// from the world for a while then.
func (r *Index) Replace(old, s *publish.Service, died bool) {
	var single *Set // of s; the sets that hold nothing else share it
	if s != nil {
		single = Singleton(s)
	}
	paths := r.swapNamesLocked(old, single)
	r.swapAddrsLocked(old, single)
	r.noteRemovedLocked(old, s, died)
	r.Serial.Add(1)
	r.noteChange(old, s, paths...)
}

// SetTTL sets the default TTL in seconds.
func (r *Index) SetTTL(ttl uint32) {
	r.TTL.Store(ttl)
	r.Serial.Add(1)
	r.noteChangeOfAll()
}

// A Zone says how far the containers of a zone's engines are known.
type Zone struct {
	HasEngine bool // else it holds services of the API only
	Listed    bool // the containers of one engine at least are published
	Waits     bool // those of another are not yet, though it may be reached
}

// SetZones notes how far the zones are known, and how many engines are away.
func (r *Index) SetZones(zones map[dnsname.Name]Zone, away int) {
	r.Away.Store(int32(away))
	var any Zone
	all := true
	for _, name := range r.Zones {
		z := zones[name]
		any.Listed, any.Waits = any.Listed || z.Listed, any.Waits || z.Waits
		isKnown := !z.HasEngine || z.Listed && !z.Waits
		if isKnown {
			r.Settled.Store(name, true)
		}
		all = all && isKnown
	}
	if any.Listed && !any.Waits {
		r.Known.Store(true)
	}
	if all {
		r.Ready.Store(true)
	}
	r.noteChangeOfAll()
}
