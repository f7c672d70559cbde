package index

import (
	"iter"
	"math/rand/v2"
	"runtime"
	"strings"

	"github.com/rayje/dnsdock/internal/publish"
)

// Shuffled iterates over those services of views that have one of kinds, from a
// random one on, so that what fits of many is of all by and by.
func Shuffled(views []*View, k publish.Kind) iter.Seq[*publish.Service] {
	return func(take func(*publish.Service) bool) {
		yield := Pausing(take)
		total := 0
		for _, v := range views {
			total += v.Len()
		}
		if total == 0 {
			return
		}
		first := rand.IntN(total) // a counter would stand still for clients that ask A and AAAA in turn
		_ = walkAll(views, k, first, total, yield) && walkAll(views, k, 0, first, yield)
	}
}

// Pausing returns yield with pauses, in which others run.
func Pausing(yield func(*publish.Service) bool) func(*publish.Service) bool {
	count := 0
	return func(s *publish.Service) bool {
		if count++; count%Many == 0 {
			runtime.Gosched()
		}
		return yield(s)
	}
}

// walkAll is set.walk for several.
func walkAll(views []*View, k publish.Kind, from, to int, yield func(*publish.Service) bool) bool {
	for _, v := range views {
		if !v.Walk(k, from, to, yield) {
			return false
		}
		from, to = from-v.Len(), to-v.Len()
	}
	return true
}

// A Set holds services, each once, in the order of their ids. nil is the
// empty one.
//
// It is a treap: a tree in that order, kept in balance by random weights. It
// is never written again, and one that differs by a service shares all but
// the path to it, so a change costs the same in a set of ten and of 100,000.
type Set struct {
	*publish.Service
	Left, Right *Set
	size        int32        // how many services
	minTTL      int32        // the smallest TTL of their own, in seconds, without those of a CNAME; maxTTL if there is none
	Weight      uint32       // of the service; at least that of those below
	own, kinds  publish.Kind // what the service has, and what all have
}

// Singleton returns the set of s.
func Singleton(s *publish.Service) *Set { return Top(s, s.Kinds(), rand.Uint32(), nil, nil) }

// Top returns the set of s and what is before and after it.
func Top(s *publish.Service, own publish.Kind, weight uint32, left, right *Set) *Set {
	t := &Set{Service: s, Left: left, Right: right, size: 1, minTTL: publish.MaxTTL, Weight: weight, own: own, kinds: own}
	if s.TTL != publish.DefaultTTL && s.CNAME == "" {
		t.minTTL = int32(s.TTL)
	}
	for _, side := range []*Set{left, right} {
		if side != nil {
			t.size += side.size
			t.minTTL = min(t.minTTL, side.minTTL)
			t.kinds |= side.kinds
		}
	}
	return t
}

// withChildren returns the top of t withChildren other sides.
func (t *Set) withChildren(left, right *Set) *Set {
	return Top(t.Service, t.own, t.Weight, left, right)
}

// Len is how many services t has.
func (t *Set) Len() int {
	if t == nil {
		return 0
	}
	return int(t.size)
}

// With returns t with the one service of s, in the place of the one with its
// id if there is one.
func (t *Set) With(s *Set) *Set {
	if t == nil {
		return s
	}
	switch c := strings.Compare(s.ID, t.ID); {
	case c < 0:
		l := t.Left.With(s)
		if l.Weight > t.Weight {
			return l.withChildren(l.Left, t.withChildren(l.Right, t.Right))
		}
		return t.withChildren(l, t.Right)
	case c > 0:
		r := t.Right.With(s)
		if r.Weight > t.Weight {
			return r.withChildren(t.withChildren(t.Left, r.Left), r.Right)
		}
		return t.withChildren(t.Left, r)
	}
	return Top(s.Service, s.own, t.Weight, t.Left, t.Right)
}

// Without returns t without the service of that id, t itself if it has none.
func (t *Set) Without(id string) *Set {
	if t == nil {
		return nil
	}
	switch c := strings.Compare(id, t.ID); {
	case c < 0:
		if l := t.Left.Without(id); l != t.Left {
			return t.withChildren(l, t.Right)
		}
		return t
	case c > 0:
		if r := t.Right.Without(id); r != t.Right {
			return t.withChildren(t.Left, r)
		}
		return t
	}
	return join(t.Left, t.Right)
}

// join returns the set of l and r, all of which are after those of l.
func join(l, r *Set) *Set {
	switch {
	case l == nil:
		return r
	case r == nil:
		return l
	case l.Weight > r.Weight:
		return l.withChildren(l.Left, join(l.Right, r))
	}
	return r.withChildren(join(l, r.Left), r.Right)
}

// Get returns the service of that id, nil if t has none.
func (t *Set) Get(id string) *publish.Service {
	for t != nil {
		switch c := strings.Compare(id, t.ID); {
		case c < 0:
			t = t.Left
		case c > 0:
			t = t.Right
		default:
			return t.Service
		}
	}
	return nil
}

// Has reports whether a service of t has one of kinds.
func (t *Set) Has(k publish.Kind) bool { return t != nil && t.kinds&k != 0 }

// Walk yields those services at the places from to to that have one of
// kinds, and reports whether yield wants more.
func (t *Set) Walk(k publish.Kind, from, to int, yield func(*publish.Service) bool) bool {
	if !t.Has(k) || from >= t.Len() || to <= 0 {
		return true
	}
	at := t.Left.Len()
	return t.Left.Walk(k, from, to, yield) &&
		(t.own&k == 0 || at < from || at >= to || yield(t.Service)) &&
		t.Right.Walk(k, from-at-1, to-at-1, yield)
}

// All iterates over the services of t that have one of kinds.
func (t *Set) All(k publish.Kind) iter.Seq[*publish.Service] {
	return func(yield func(*publish.Service) bool) { t.Walk(k, 0, t.Len(), yield) }
}
