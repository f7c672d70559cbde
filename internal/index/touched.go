package index

import (
	"iter"
	"sync"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/table"
)

// maxTouched is the number of names that are remembered: 65,536 take 5 MB. Past that all names count as changed.
const maxTouched = 1 << 16

// Touched are the names whose records may have changed since Take was called last. It is for one who keeps a copy
// of whole zones, and does nothing before Watch.
type touched struct {
	mu    sync.Mutex            // guards what follows
	names map[dnsname.Name]bool // true: all names below it too; nil: all names
	wake  chan struct{}         // of capacity 1: there is something to take; nil: nobody watches
}

// Watch begins to note names, all at first. It returns what is sent to when there is something to take.
func (t *touched) Watch() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wake = make(chan struct{}, 1)
	return t.wake
}

// Take returns the names that changed. Those that are true changed with all names below them; nil stands for all names.
func (t *touched) Take() map[dnsname.Name]bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	names := t.names
	t.names = make(map[dnsname.Name]bool)
	return names
}

// note notes the names of services that changed.
func (t *touched) note(all ...paths) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.wake == nil {
		return
	}
	for _, p := range all {
		for _, names := range []map[dnsname.Name]bool{p.owned, p.second, {p.id: true}} {
			for n, isOwner := range names {
				if t.names != nil && n != "" {
					t.names[n] = t.names[n] || isOwner
				}
			}
		}
	}
	t.wakeLocked()
}

// noteAll notes a change of all names.
func (t *touched) noteAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.names = nil
	t.wakeLocked()
}

func (t *touched) wakeLocked() {
	if len(t.names) > maxTouched {
		t.names = nil
	}
	select {
	case t.wake <- struct{}{}:
	default: // it was told, or nobody watches
	}
}

// NamesIn iterates over the names of services in a zone and those between them and the zone, and the zone itself.
// Some may come twice.
func (x *Index) NamesIn(zone dnsname.Name) iter.Seq[dnsname.Name] {
	isIn := func(n dnsname.Name) bool {
		own, _ := x.ZoneOf(n)
		return own == zone && !n.HasWildcard()
	}
	return func(yield func(dnsname.Name) bool) {
		for _, nodes := range []*table.Table[dnsname.Name, node]{&x.owned, &x.second} {
			for n := range nodes.All() {
				if isIn(n) && !yield(n) {
					return
				}
			}
		}
		for s := range x.Published().All(publish.AnyKind) {
			if id := x.pathOfID(s); id != "" && x.rules.Second.ID && isIn(id) && !yield(id) {
				return
			}
		}
		more := []dnsname.Name{zone}
		if x.hosts[zone] != nil {
			more = append(more, hostLabel+zone)
		}
		for _, n := range x.Zones { // those above another zone exist
			for a := n.Parent(); n != zone && n.Under(zone) && a != zone; a = a.Parent() {
				more = append(more, a)
			}
		}
		for _, n := range more {
			if !yield(n) {
				return
			}
		}
	}
}

// HasName reports whether n is one of NamesIn of a zone.
func (x *Index) HasName(n, zone dnsname.Name) bool {
	if own, _ := x.ZoneOf(n); own != zone || n.HasWildcard() {
		return false
	}
	isHost := n == hostLabel+zone && x.hosts[zone] != nil
	return x.HasAtOrBelow(n) || x.IsAboveSecond(n) || x.IsAboveZone(n) || isHost ||
		n.Parent() == zone && x.byShortID(n, zone) != nil
}
