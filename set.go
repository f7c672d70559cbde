package main

import (
	"github.com/rayje/dnsdock/internal/publish"
	"iter"
	"math/rand/v2"
	"strings"
)

// A set holds services, each once, in the order of their ids. nil is the
// empty one.
//
// It is a treap: a tree in that order, kept in balance by random weights. It
// is never written again, and one that differs by a service shares all but
// the path to it, so a change costs the same in a set of ten and of 100,000.
type set struct {
	*publish.Service
	left, right *set
	size        int32        // how many services
	minTTL      int32        // the smallest TTL of their own, in seconds, without those of a CNAME; maxTTL if there is none
	weight      uint32       // of the service; at least that of those below
	own, kinds  publish.Kind // what the service has, and what all have
}

// one returns the set of s.
func one(s *publish.Service) *set { return top(s, s.Kinds(), rand.Uint32(), nil, nil) }

// top returns the set of s and what is before and after it.
func top(s *publish.Service, own publish.Kind, weight uint32, left, right *set) *set {
	t := &set{Service: s, left: left, right: right, size: 1, minTTL: publish.MaxTTL, weight: weight, own: own, kinds: own}
	if s.TTL != publish.DefaultTTL && s.CNAME == "" {
		t.minTTL = int32(s.TTL)
	}
	for _, side := range []*set{left, right} {
		if side != nil {
			t.size += side.size
			t.minTTL = min(t.minTTL, side.minTTL)
			t.kinds |= side.kinds
		}
	}
	return t
}

// between returns the top of t between other sides.
func (t *set) between(left, right *set) *set { return top(t.Service, t.own, t.weight, left, right) }

// len is how many services t has.
func (t *set) len() int {
	if t == nil {
		return 0
	}
	return int(t.size)
}

// with returns t with the one service of s, in the place of the one with its
// id if there is one.
func (t *set) with(s *set) *set {
	if t == nil {
		return s
	}
	switch c := strings.Compare(s.ID, t.ID); {
	case c < 0:
		l := t.left.with(s)
		if l.weight > t.weight {
			return l.between(l.left, t.between(l.right, t.right))
		}
		return t.between(l, t.right)
	case c > 0:
		r := t.right.with(s)
		if r.weight > t.weight {
			return r.between(t.between(t.left, r.left), r.right)
		}
		return t.between(t.left, r)
	}
	return top(s.Service, s.own, t.weight, t.left, t.right)
}

// without returns t without the service of that id, t itself if it has none.
func (t *set) without(id string) *set {
	if t == nil {
		return nil
	}
	switch c := strings.Compare(id, t.ID); {
	case c < 0:
		if l := t.left.without(id); l != t.left {
			return t.between(l, t.right)
		}
		return t
	case c > 0:
		if r := t.right.without(id); r != t.right {
			return t.between(t.left, r)
		}
		return t
	}
	return join(t.left, t.right)
}

// join returns the set of l and r, all of which are after those of l.
func join(l, r *set) *set {
	switch {
	case l == nil:
		return r
	case r == nil:
		return l
	case l.weight > r.weight:
		return l.between(l.left, join(l.right, r))
	}
	return r.between(join(l, r.left), r.right)
}

// get returns the service of that id, nil if t has none.
func (t *set) get(id string) *publish.Service {
	for t != nil {
		switch c := strings.Compare(id, t.ID); {
		case c < 0:
			t = t.left
		case c > 0:
			t = t.right
		default:
			return t.Service
		}
	}
	return nil
}

// has reports whether a service of t has one of kinds.
func (t *set) has(k publish.Kind) bool { return t != nil && t.kinds&k != 0 }

// walk yields those services at the places from to to that have one of
// kinds, and reports whether yield wants more.
func (t *set) walk(k publish.Kind, from, to int, yield func(*publish.Service) bool) bool {
	if !t.has(k) || from >= t.len() || to <= 0 {
		return true
	}
	at := t.left.len()
	return t.left.walk(k, from, to, yield) &&
		(t.own&k == 0 || at < from || at >= to || yield(t.Service)) &&
		t.right.walk(k, from-at-1, to-at-1, yield)
}

// all iterates over the services of t that have one of kinds.
func (t *set) all(k publish.Kind) iter.Seq[*publish.Service] {
	return func(yield func(*publish.Service) bool) { t.walk(k, 0, t.len(), yield) }
}
