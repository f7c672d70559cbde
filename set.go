package main

import (
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
	*service
	left, right *set
	size        int32  // how many services
	minTTL      int32  // the smallest TTL of their own, in seconds, without those of a CNAME; maxTTL if there is none
	weight      uint32 // of the service; at least that of those below
	own, kinds  kind   // what the service has, and what all have
}

// A kind is what a service has, as bits.
type kind uint16

const (
	hasA       kind = 1 << iota // IPv4 addresses
	hasAAAA                     // IPv6 addresses
	hasTXT                      // TXT records
	hasPorts                    // SRV records
	hasDefault                  // the default TTL
	hasData                     // no CNAME
	hasCNAME                    // and none of the above
	isWell                      // data, and its health check does not fail
	isSick                      // data, and its health check fails
	varies                      // addresses that depend on the client
)

// kinds tells what s has.
func (s *service) kinds() (k kind) {
	if s.cname != "" {
		return hasCNAME
	}
	k = hasData
	for _, a := range s.addrs {
		switch {
		case !a.IsValid():
			k |= hasA | hasAAAA | varies
		case a.Is4():
			k |= hasA
		default:
			k |= hasAAAA
		}
	}
	if len(s.ends) > 1 || len(s.ends) == 1 && s.ends[0].net.Value().internal {
		k |= varies
	}
	if s.sick {
		k |= isSick
	} else {
		k |= isWell
	}
	if len(s.txt) > 0 {
		k |= hasTXT
	}
	if len(s.ports) > 0 {
		k |= hasPorts
	}
	if s.ttl == defaultTTL {
		k |= hasDefault
	}
	return k
}

// one returns the set of s.
func one(s *service) *set { return top(s, s.kinds(), rand.Uint32(), nil, nil) }

// top returns the set of s and what is before and after it.
func top(s *service, own kind, weight uint32, left, right *set) *set {
	t := &set{service: s, left: left, right: right, size: 1, minTTL: maxTTL, weight: weight, own: own, kinds: own}
	if s.ttl != defaultTTL && s.cname == "" {
		t.minTTL = int32(s.ttl)
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
func (t *set) between(left, right *set) *set { return top(t.service, t.own, t.weight, left, right) }

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
	switch c := strings.Compare(s.id, t.id); {
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
	return top(s.service, s.own, t.weight, t.left, t.right)
}

// without returns t without the service of that id, t itself if it has none.
func (t *set) without(id string) *set {
	if t == nil {
		return nil
	}
	switch c := strings.Compare(id, t.id); {
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
func (t *set) get(id string) *service {
	for t != nil {
		switch c := strings.Compare(id, t.id); {
		case c < 0:
			t = t.left
		case c > 0:
			t = t.right
		default:
			return t.service
		}
	}
	return nil
}

// has reports whether a service of t has one of kinds.
func (t *set) has(k kind) bool { return t != nil && t.kinds&k != 0 }

// walk yields those services at the places from to to that have one of
// kinds, and reports whether yield wants more.
func (t *set) walk(k kind, from, to int, yield func(*service) bool) bool {
	if !t.has(k) || from >= t.len() || to <= 0 {
		return true
	}
	at := t.left.len()
	return t.left.walk(k, from, to, yield) &&
		(t.own&k == 0 || at < from || at >= to || yield(t.service)) &&
		t.right.walk(k, from-at-1, to-at-1, yield)
}

// all iterates over the services of t that have one of kinds.
func (t *set) all(k kind) iter.Seq[*service] {
	return func(yield func(*service) bool) { t.walk(k, 0, t.len(), yield) }
}
