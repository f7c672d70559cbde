package index

import (
	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/publish"
)

// A Match is what the name rule finds for a name.
type Match struct {
	Kind MatchKind
	Sets []*Set // one service may be in several
	// Exact are the services at the name itself, and Below those at or below it,
	// which is Sets[0] then. Exact is nil if there are none, Below if the name has
	// a '*' in the middle, or nothing is at it or below.
	Exact, Below *Set
}

// A MatchKind says which names match. A kind is tried only where those before
// it find nothing.
type MatchKind int

const (
	byOwnerName  MatchKind = iota // or there is no match
	BySecondName                  // names that a container has anyway
	ByHost                        // the name of the host
	ByCatchAll                    // an alias '*'
)

// Match returns the services that a query for q is answered from, by the name
// rule: all at or below q, and those whose owner name is an ancestor of q, the
// nearest first. The caller must know that q is ours.
//
// With NameRules.Closest only the closest owner name counts: q itself, else what
// is below it, else the nearest ancestor.
//
// The apex, what is above it, and names of one label answer only themselves:
// they would swallow every unknown name.
func (x *names) Match(q dnsname.Name) Match {
	asked := q
	if q = x.Trim(q); q.HasWildcard() {
		owned := func(s *publish.Service) []dnsname.Name { return s.OwnerNames }
		if sets := x.walkWild(q, owned, x.zones.answersFor, x.rules.Closest); len(sets) > 0 {
			return Match{Sets: sets}
		}
		return x.matchOther(asked)
	}
	var m Match
	if n, ok := x.owned.Load(q); ok {
		m.Exact, m.Below = n.exact, n.subtree
		if x.rules.Closest && n.exact != nil {
			m.Below = n.exact
		}
		m.Sets = append(m.Sets, m.Below)
	}
	for a := q.Parent(); x.zones.answersFor(a, q) && !(x.rules.Closest && len(m.Sets) > 0); a = a.Parent() {
		if n, _ := x.owned.Load(a); n.exact != nil {
			m.Sets = append(m.Sets, n.exact)
		}
	}
	if len(m.Sets) == 0 {
		return x.matchOther(asked)
	}
	return m
}

// Trim removes from q those '*' in front that make no difference: what is at or
// below their parent is what they match, unless only the closest names count
// or the parent answers only itself.
func (x *names) Trim(q dnsname.Name) dnsname.Name {
	for !x.rules.Closest && q.Label() == "*" {
		parent := q.Parent()
		if n, _ := x.owned.Load(parent); n.exact != nil && !x.zones.answersFor(parent, q) {
			break
		}
		q = parent
	}
	return q
}

// walkWild returns the services one of whose names matches q. It looks at all
// services, because a '*' in the middle has no node. The closest names are all
// that are not shorter than q, else the longest.
func (x *names) walkWild(q dnsname.Name, names func(*publish.Service) []dnsname.Name,
	answers func(a, q dnsname.Name) bool, onlyClosest bool) (found []*Set) {
	labels := q.Split()
	closest := -len(labels)
	for s := range Shuffled([]*Set{x.Published(), x.nameless.Load()}, publish.HasData|publish.HasCNAME) {
		best := closest - 1
		for _, o := range names(s) {
			if ok, more := dnsname.Matches(labels, o); ok && (more >= 0 || answers(o, q)) {
				best = max(best, min(more, 0))
			}
		}
		switch {
		case best < closest:
			continue
		case onlyClosest && best > closest:
			found, closest = nil, best
		}
		found = append(found, Singleton(s))
	}
	return found
}

// Answers returns a function that reports whether an owner name answers for q.
func (x *names) Answers(q dnsname.Name) func(owner dnsname.Name) bool {
	labels := q.Split()
	return func(o dnsname.Name) bool {
		ok, more := dnsname.Matches(labels, o)
		return ok && (more >= 0 || x.zones.answersFor(o, q))
	}
}

// AliasFor returns the alias that q is at or below, for a q outside of all
// zones. It reports false if there is none, so that q is not ours.
func (x *names) AliasFor(q dnsname.Name) (alias dnsname.Name, ok bool) {
	for a := q; a != dnsname.Root && (a == q || x.zones.answersFor(a, q)); a = a.Parent() {
		if n, _ := x.owned.Load(a); n.exact != nil {
			return a, true
		}
	}
	return "", false
}
