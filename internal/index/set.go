package index

import (
	"iter"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"

	"github.com/rayje/dnsdock/internal/publish"
)

const (
	// Many is a number of services that are looked at in some tens of
	// microseconds. A walk over more lets others run in between.
	Many = 256

	// maxPart is the number of services that are copied and looked at for a
	// change: 1 KiB, and a microsecond.
	maxPart = 128
)

// A Set holds services, each once, sorted by ID. nil is the empty set. It is
// never written again: a change makes a new Set. A large one is made of parts,
// which the new Set shares with the old one but for one of them.
type Set struct {
	services []*publish.Service // nil if there are parts
	parts    []*Set             // sets without parts, in order; nil: services has all
	size     int32              // number of services
	minTTL   int32              // the smallest TTL of their own in seconds, not counting those of a CNAME; else MaxTTL
	kinds    publish.Kind       // what they have, together
}

// Singleton returns the set of one service.
func Singleton(s *publish.Service) *Set { return newSet([]*publish.Service{s}) }

// newSet returns the set of services, which are sorted. It may have one part only.
func newSet(services []*publish.Service) *Set {
	if len(services) == 0 {
		return nil
	}
	t := &Set{services: services, size: int32(len(services)), minTTL: publish.MaxTTL}
	for _, s := range services {
		t.kinds |= s.Kinds()
		if s.TTL != publish.DefaultTTL && s.CNAME == "" {
			t.minTTL = min(t.minTTL, int32(s.TTL))
		}
	}
	return t
}

// joined returns the set of parts, which are sorted.
func joined(parts []*Set) *Set {
	switch len(parts) {
	case 0:
		return nil
	case 1:
		return parts[0]
	}
	t := &Set{parts: parts, minTTL: publish.MaxTTL}
	for _, p := range parts {
		t.size += p.size
		t.minTTL = min(t.minTTL, p.minTTL)
		t.kinds |= p.kinds
	}
	return t
}

// search returns where in a set without parts the service with that ID is, or
// would be.
func (t *Set) search(id string) (at int, found bool) {
	compare := func(s *publish.Service, id string) int { return strings.Compare(s.ID, id) }
	return slices.BinarySearchFunc(t.services, id, compare)
}

// part returns the index of the part that has the service with that ID, or
// would have it: the last one that does not begin after it.
func (t *Set) part(id string) int {
	compare := func(p *Set, id string) int { return strings.Compare(p.services[0].ID, id) }
	at, found := slices.BinarySearchFunc(t.parts, id, compare)
	if found {
		return at
	}
	return max(at-1, 0)
}

// with returns t with the one service of single, in place of the service with
// its ID if there is one.
func (t *Set) with(single *Set) *Set {
	if t == nil {
		return single
	}
	s := single.services[0]
	if t.parts != nil {
		at := t.part(s.ID)
		next := t.parts[at].with(single)
		if next.parts == nil {
			return joined(slices.Concat(t.parts[:at], []*Set{next}, t.parts[at+1:]))
		}
		return joined(slices.Concat(t.parts[:at], next.parts, t.parts[at+1:]))
	}
	at, found := t.search(s.ID)
	after := at
	if found {
		after++
	}
	if t.size == 1 && found {
		return single
	}
	services := slices.Concat(t.services[:at], single.services, t.services[after:])
	switch {
	case len(services) <= maxPart && found:
		return newSet(services)
	case len(services) <= maxPart: // what the others have is known
		return &Set{
			services: services, size: t.size + 1,
			minTTL: min(t.minTTL, single.minTTL), kinds: t.kinds | single.kinds,
		}
	}
	half := len(services) / 2
	return joined([]*Set{newSet(services[:half:half]), newSet(slices.Clip(services[half:]))})
}

// without returns t without the service with that ID: t itself if there is none.
func (t *Set) without(id string) *Set {
	if t == nil {
		return nil
	}
	if t.parts != nil {
		at := t.part(id)
		switch next := t.parts[at].without(id); next {
		case t.parts[at]:
			return t
		case nil:
			return joined(slices.Concat(t.parts[:at], t.parts[at+1:]))
		default:
			return joined(slices.Concat(t.parts[:at], []*Set{next}, t.parts[at+1:]))
		}
	}
	at, found := t.search(id)
	if !found {
		return t
	}
	return newSet(slices.Concat(t.services[:at], t.services[at+1:]))
}

// Len returns the number of services.
func (t *Set) Len() int {
	if t == nil {
		return 0
	}
	return int(t.size)
}

// Has reports whether a service of t has one of kinds.
func (t *Set) Has(k publish.Kind) bool { return t != nil && t.kinds&k != 0 }

// withPrefix returns the services whose ID begins so.
func (t *Set) withPrefix(prefix string) (list []*publish.Service) {
	if t == nil {
		return nil
	}
	parts := []*Set{t}
	if t.parts != nil {
		parts = t.parts[t.part(prefix):]
	}
	for _, p := range parts {
		at, _ := p.search(prefix)
		for _, s := range p.services[at:] {
			if !strings.HasPrefix(s.ID, prefix) {
				return list
			}
			list = append(list, s)
		}
	}
	return list
}

// walk yields those services at the places from to to that have one of kinds,
// and reports whether yield wants more.
func (t *Set) walk(k publish.Kind, from, to int, yield func(*publish.Service) bool) bool {
	if !t.Has(k) || from >= t.Len() || to <= 0 {
		return true
	}
	for _, p := range t.parts {
		if !p.walk(k, from, to, yield) {
			return false
		}
		from, to = from-p.Len(), to-p.Len()
	}
	if t.parts != nil {
		return true
	}
	for _, s := range t.services[max(from, 0):min(to, len(t.services))] {
		if s.Kinds()&k != 0 && !yield(s) {
			return false
		}
	}
	return true
}

// All iterates over the services of t that have one of kinds, by ID.
func (t *Set) All(k publish.Kind) iter.Seq[*publish.Service] {
	return func(yield func(*publish.Service) bool) { t.walk(k, 0, t.Len(), yield) }
}

// AnyHas reports whether a service of sets has one of kinds.
func AnyHas(sets []*Set, k publish.Kind) bool {
	return slices.ContainsFunc(sets, func(t *Set) bool { return t.Has(k) })
}

// Shuffled iterates over those services of sets that have one of kinds, starting
// at a random one, so that over several queries every service gets its turn even
// if a reply holds only some.
func Shuffled(sets []*Set, k publish.Kind) iter.Seq[*publish.Service] {
	return func(take func(*publish.Service) bool) {
		yield := Pausing(take)
		total := 0
		for _, t := range sets {
			total += t.Len()
		}
		if total == 0 {
			return
		}
		first := rand.IntN(total) // a counter would stand still for clients that ask A and AAAA in turn
		_ = walkAll(sets, k, first, total, yield) && walkAll(sets, k, 0, first, yield)
	}
}

// Pausing wraps yield to let other goroutines run after every Many services, so
// that a long walk does not hold the processor.
func Pausing(yield func(*publish.Service) bool) func(*publish.Service) bool {
	count := 0
	return func(s *publish.Service) bool {
		if count++; count%Many == 0 {
			runtime.Gosched()
		}
		return yield(s)
	}
}

// walkAll is Set.walk over several sets, one after the other.
func walkAll(sets []*Set, k publish.Kind, from, to int, yield func(*publish.Service) bool) bool {
	for _, t := range sets {
		if !t.walk(k, from, to, yield) {
			return false
		}
		from, to = from-t.Len(), to-t.Len()
	}
	return true
}
