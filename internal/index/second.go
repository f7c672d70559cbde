package index

import (
	"net/netip"
	"slices"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/publish"
)

const (
	hostLabel = "\x04host"
	selfLabel = "\x07dnsdock"
)

// matchOther finds q where no owner name matches: by the second names, by the
// name of the host, else by an alias '*'.
func (x *names) matchOther(q dnsname.Name) Match {
	zone, ok := x.zones.ZoneOf(q)
	if !ok || q == zone {
		return Match{}
	}
	if m := x.matchSecond(q, zone); len(m.Sets) > 0 {
		return m
	}
	top := q // the name at or above q with one label more than its zone
	for top.Parent() != zone {
		top = top.Parent()
	}
	if t := x.byShortID(top, zone); t != nil {
		return Match{Kind: BySecondName, Sets: []*Set{t}}
	}
	if t := x.hosts[zone]; t != nil && top == hostLabel+zone {
		return Match{Kind: ByHost, Sets: []*Set{t}}
	}
	if t, _ := x.catchAll.Load(zone); t != nil && !q.Under(selfLabel+x.rules.Apex) {
		return Match{Kind: ByCatchAll, Sets: []*Set{t}}
	}
	return Match{}
}

// matchSecond finds q among the second names: those at or below it, else the
// nearest one above it that is not closed. A q directly under its zone is answered from what has
// that very name, because the name of a project is nothing that a service has.
// Each '*' in front is as if it were left out.
func (x *names) matchSecond(q, zone dnsname.Name) Match {
	isDirect := q.Parent() == zone
	for q.Label() == "*" && q.Parent() != zone {
		q = q.Parent()
	}
	if q.HasWildcard() {
		labels := q.Labels()
		second := func(s *publish.Service) []dnsname.Name {
			closed := s.ClosedNames()
			isOut := func(n dnsname.Name) bool {
				return isDirect && n.Parent() != zone || closed[n] && n.Labels() < labels
			}
			return slices.DeleteFunc(slices.Clone(s.SecondNames), isOut)
		}
		always := func(_, _ dnsname.Name) bool { return true }
		return Match{Kind: BySecondName, Sets: x.walkWild(q, second, always, true)}
	}
	n := x.secondAt(q)
	if isDirect {
		n.subtree = n.exact
	}
	if n.subtree != nil {
		return Match{Kind: BySecondName, Sets: []*Set{n.subtree}, Exact: n.exact, Below: n.subtree}
	}
	for a := q.Parent(); len(a) > len(zone); a = a.Parent() {
		if n, _ := x.second.Load(a); n.open != nil {
			return Match{Kind: BySecondName, Sets: []*Set{n.open}}
		}
	}
	return Match{}
}

// IsAboveSecond reports whether n, which nothing answers, is above a second
// name: then it exists (RFC 8020).
func (x *names) IsAboveSecond(n dnsname.Name) bool {
	return x.secondAt(n).subtree != nil
}

// secondAt returns the node of a second name. Where there are virtual addresses alone, there is nothing.
func (x *names) secondAt(n dnsname.Name) node {
	at, _ := x.second.Load(n)
	const real = publish.HasData | publish.HasCNAME
	if !at.subtree.Has(real) {
		return node{}
	}
	if !at.exact.Has(real) {
		at.exact = nil
	}
	return at
}

// shortID returns the digits of a container's ID that docker ps shows. It is
// empty for what has no such ID.
func shortID(s *publish.Service) string {
	short := s.ID[:min(len(s.ID), publish.ShortIDLen)]
	if s.IsByHand() || short == s.ID || !publish.IsHex(short, publish.ShortIDLen) {
		return ""
	}
	return short
}

// byShortID returns the containers in a zone whose short ID is the first label
// of n. It is nil if there are none. All services are sorted by ID, so that
// these names take no memory.
func (x *names) byShortID(n, zone dnsname.Name) *Set {
	id := n.Label()
	if !x.rules.Second.ID || len(id) != publish.ShortIDLen || !publish.IsHex(id, publish.ShortIDLen) {
		return nil
	}
	list := x.Published().withPrefix(id)
	list = slices.DeleteFunc(list, func(s *publish.Service) bool {
		own, _ := x.zones.ZoneOf(s.FullName())
		return own != zone || shortID(s) != id
	})
	return newSet(list)
}

// hostServices returns the host as a service of each zone, if it has a name.
func hostServices(rules publish.NameRules, zones []dnsname.Name) map[dnsname.Name]*Set {
	if !rules.Second.Host {
		return nil
	}
	hosts := make(map[dnsname.Name]*Set)
	for _, zone := range zones {
		t := Singleton(&publish.Service{
			ID: "host", ContainerLabel: "host", TTL: publish.DefaultTTL, Extras: new(publish.Extras),
			Addrs: []netip.Addr{{}}, OwnerNames: []dnsname.Name{hostLabel + zone},
		})
		t.kinds |= publish.Varies
		hosts[zone] = t
	}
	return hosts
}

// isHost reports whether s is the host itself, and no container that uses its network.
func (x *names) isHost(s *publish.Service) bool {
	for _, t := range x.hosts {
		if t.services[0] == s {
			return true
		}
	}
	return false
}
