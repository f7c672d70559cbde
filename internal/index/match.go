package index

import (
	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/publish"
)

// Match returns what a query for q is answered from, by the names rule: all
// at or below q, and those whose owner name is an ancestor of q, nearest
// first. It is appended to views, and one service may be in several. Second
// reports that no own name matches, so the second names were looked up. The
// caller must know that q is ours.
//
// Where naming.closest is set, only the closest owner name counts: q itself,
// else what is below it, else the nearest ancestor.
//
// The apex, what is above it, and names of one label answer themselves
// only: they would swallow every unknown name.
func (r *Index) Match(q dnsname.Name, views []*View) (found []*View, second bool) {
	asked := q
	if q.HasWildcard() {
		if q = r.Trim(q); q.HasWildcard() {
			wild, second := r.matchWild(asked, q)
			return append(views, wild...), second
		}
	}
	if n, ok := r.Nodes.Load(q); ok {
		if r.Rules.Closest && n.Exact != nil {
			return append(views, n.Exact), false
		}
		views = append(views, &n.Subtree)
	}
	for a := q.Parent(); r.AnswersFor(a, q) && !(r.Rules.Closest && len(views) > 0); a = a.Parent() {
		if n, ok := r.Nodes.Load(a); ok && n.Exact != nil {
			views = append(views, n.Exact)
		}
	}
	if len(views) == 0 && r.composed.Load() {
		views = r.matchCompose(asked, q, views)
		return views, len(views) > 0
	}
	return views, false
}

// matchCompose is match for the names of compose, which are asked for only
// where nothing else matches: so they never add to what another name is
// answered. The project alone is no name of theirs, and answers nothing.
func (r *Index) matchCompose(asked, q dnsname.Name, views []*View) []*View {
	zone, ok := r.ZoneOf(q)
	if !ok || asked.Labels() < zone.Labels()+2 {
		return views
	}
	if n, ok := r.Compose.Load(q); ok {
		if r.Rules.Closest && n.Exact != nil {
			return append(views, n.Exact)
		}
		views = append(views, &n.Subtree)
	}
	for a := q.Parent(); len(a) > len(zone) && !(r.Rules.Closest && len(views) > 0); a = a.Parent() {
		if n, ok := r.Compose.Load(a); ok && n.Exact != nil {
			views = append(views, n.Exact)
		}
	}
	return views
}

// IsAboveCompose reports whether n, which nothing answers, is the name of a
// project: names are below it, so it exists (RFC 8020).
func (r *Index) IsAboveCompose(n dnsname.Name) bool {
	if !r.composed.Load() {
		return false
	}
	_, ok := r.Compose.Load(n)
	return ok
}

// Trim takes from q the '*' in front that make no difference: what is at or
// below their parent is what they match, unless only the closest names count
// or the parent answers for itself only.
func (r *Index) Trim(q dnsname.Name) dnsname.Name {
	for !r.Rules.Closest && q.Label() == "*" {
		parent := q.Parent()
		if n, ok := r.Nodes.Load(parent); ok && n.Exact != nil && !r.AnswersFor(parent, q) {
			break
		}
		q = parent
	}
	return q
}

// matchWild walks all services: a '*' in the middle has no node. Asked is q
// before it was trimmed.
func (r *Index) matchWild(asked, q dnsname.Name) (found []*View, second bool) {
	found = r.walkWild(q, func(s *publish.Service) []dnsname.Name { return s.OwnerNames }, r.AnswersFor)
	if zone, ok := r.ZoneOf(q); len(found) == 0 && r.composed.Load() && ok && asked.Labels() >= zone.Labels()+2 {
		found = r.walkWild(asked, func(s *publish.Service) []dnsname.Name {
			return s.SecondNames
		}, func(_, q dnsname.Name) bool { return true })
		second = len(found) > 0
	}
	return found, second
}

// Answers returns a function that reports whether an owner name answers for q.
func (r *Index) Answers(q dnsname.Name) func(owner dnsname.Name) bool {
	labels := q.Split()
	return func(o dnsname.Name) bool {
		ok, more := dnsname.Matches(labels, o)
		return ok && (more >= 0 || r.AnswersFor(o, q))
	}
}

// walkWild returns the services one of whose names matches q. The closest
// names are all that are not shorter than q, else the longest.
func (r *Index) walkWild(q dnsname.Name, names func(*publish.Service) []dnsname.Name, covers func(a, q dnsname.Name) bool) (found []*View) {
	all := NewView(r.Published())
	if all == nil {
		return nil
	}
	labels := q.Split()
	closest := -len(labels)
	for s := range Shuffled([]*View{all}, ^publish.Kind(0)) {
		best := closest - 1
		for _, o := range names(s) {
			if ok, more := dnsname.Matches(labels, o); ok && (more >= 0 || covers(o, q)) {
				best = max(best, min(more, 0))
			}
		}
		switch {
		case best < closest:
			continue
		case r.Rules.Closest && best > closest:
			found, closest = nil, best
		}
		found = append(found, NewView(Singleton(s)))
	}
	return found
}

// AnswersFor reports whether the owner name a, an ancestor of q, may answer for q.
func (r *Index) AnswersFor(a, q dnsname.Name) bool {
	if a == dnsname.Root || a.Parent() == dnsname.Root {
		return false
	}
	for _, zone := range r.Zones {
		if q.Under(zone) && zone.Under(a) {
			return false
		}
	}
	return true
}

// AliasFor returns the alias that q is at or below, for a q outside the apex;
// not ok if there is none, so that q is not ours.
func (r *Index) AliasFor(q dnsname.Name) (alias dnsname.Name, ok bool) {
	for a := q; a != dnsname.Root && (a == q || r.AnswersFor(a, q)); a = a.Parent() {
		if n, ok := r.Nodes.Load(a); ok && n.Exact != nil {
			return a, true
		}
	}
	return "", false
}
