package index

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
)

// guests are clients that are known by other addresses than the one that their
// queries come from: theirs on networks of containers.
type guests struct {
	all atomic.Pointer[map[netip.Addr][]netip.Addr] // nil: there are none

	mu       sync.Mutex // guards byEngine
	byEngine map[string]map[netip.Addr][]netip.Addr
}

// SetGuests sets by which addresses the guests of an engine are known.
func (x *Index) SetGuests(engine string, list map[netip.Addr][]netip.Addr) {
	g := &x.guests
	g.mu.Lock()
	defer g.mu.Unlock()
	if maps.EqualFunc(g.byEngine[engine], list, slices.Equal) {
		return
	}
	if g.byEngine == nil {
		g.byEngine = make(map[string]map[netip.Addr][]netip.Addr)
	}
	g.byEngine[engine] = list
	all := make(map[netip.Addr][]netip.Addr)
	for _, list := range g.byEngine {
		maps.Copy(all, list)
	}
	g.all.Store(&all)
	x.noteChangeOfAll()
}

// placesOf returns the addresses that a guest is known by, and none for another client.
func (g *guests) placesOf(client netip.Addr) []netip.Addr {
	if all := g.all.Load(); all != nil {
		return (*all)[client]
	}
	return nil
}

// Places returns the addresses that a client is known by.
func (g *guests) Places(client netip.Addr) []netip.Addr {
	if places := g.placesOf(client); places != nil {
		return places
	}
	return []netip.Addr{client}
}
