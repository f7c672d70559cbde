package index

import (
	"cmp"
	"hash/maphash"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	intern "unique"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/publish"
)

// An Index finds services by name and by address. Readers never lock: they see
// immutable nodes and sets through tables. Its writer is one at a time, and holds
// a lock of its own.
type Index struct {
	Rules publish.NameRules // read-only
	Zones []dnsname.Name    // the apex, and domains that single engines have, the longest first; read-only
	state
	changes

	owned    table[dnsname.Name, node]                  // by each name that an owner name is at or below, but the root
	second   table[dnsname.Name, node]                  // by each name that a second name is at or below, under its zone
	catchAll table[dnsname.Name, *Set]                  // by zone: services that have the names that are unknown otherwise
	addrs    table[netip.Addr, *Set]                    // by each address that is answered
	networks table[intern.Handle[publish.Network], int] // number of services on each network
	hosts    map[dnsname.Name]*Set                      // by zone: the host, as a service; read-only
	removed  removedAliases
}

// state is what changes of the index beside services.
type state struct {
	TTL     atomic.Uint32             // seconds: the default TTL
	Serial  atomic.Uint32             // SOA serial, grows with each change
	Ready   atomic.Bool               // no zone waits for an engine's first list
	Known   atomic.Bool               // each engine has listed its containers or is away, and one has listed them
	Away    atomic.Int32              // engines that can't be asked now
	settled table[dnsname.Name, bool] // zones that do not wait, while others do
}

// New returns an empty index with a default TTL in seconds. Zones are the
// domains that single engines have.
func New(rules publish.NameRules, ttl uint32, zones ...dnsname.Name) *Index {
	x := &Index{Rules: rules, Zones: publish.Dedup(append(zones, rules.Apex)), changes: changes{seed: maphash.MakeSeed()}}
	slices.SortFunc(x.Zones, func(a, b dnsname.Name) int {
		return cmp.Or(cmp.Compare(len(b), len(a)), strings.Compare(string(a), string(b)))
	})
	x.hosts = hostServices(rules, x.Zones)
	x.TTL.Store(ttl)
	x.Serial.Store(uint32(time.Now().Unix())) // grows over restarts too, RFC 1912 section 2.2
	return x
}

// A node is what is known of one name. Every service with the owner name o is in
// the subtree of o and of each ancestor of o, and in exact of o, and nowhere else.
type node struct {
	subtree *Set // services with an owner name at or below the name; nil: there is no such node
	exact   *Set // services with this owner name; nil: none
}

// Published returns all that is published: each service has a full name,
// which is at or below the apex or, if there are several zones, the root.
func (x *Index) Published() *Set {
	top := x.Rules.Apex
	if len(x.Zones) > 1 {
		top = dnsname.Root
	}
	n, _ := x.owned.load(top)
	return n.subtree
}

// ZoneOf returns the zone that n is in: the apex, or an engine's own domain.
func (x *Index) ZoneOf(n dnsname.Name) (zone dnsname.Name, ok bool) {
	for _, z := range x.Zones {
		if n.Under(z) {
			return z, true
		}
	}
	return "", false
}

// IsAboveZone reports whether n is a zone or above one.
func (x *Index) IsAboveZone(n dnsname.Name) bool {
	return slices.ContainsFunc(x.Zones, func(zone dnsname.Name) bool { return zone.Under(n) })
}

// IsZone reports whether n is the apex, or an engine's own domain.
func (x *Index) IsZone(n dnsname.Name) bool { return slices.Contains(x.Zones, n) }

// SOASerial returns the serial for SOA records.
func (x *Index) SOASerial() uint32 { return x.Serial.Load() }

// IsReady reports whether all is known of the zone that n is in.
func (x *Index) IsReady(n dnsname.Name) bool {
	if x.Ready.Load() {
		return true
	}
	zone, ok := x.ZoneOf(n)
	if !ok {
		return x.Known.Load()
	}
	ok, _ = x.settled.load(zone)
	return ok
}

// IsKnown reports whether each engine has listed its containers, or is away.
func (x *Index) IsKnown() bool { return x.Ready.Load() || x.Known.Load() }

// HasAtOrBelow reports whether an owner name is n or below it.
func (x *Index) HasAtOrBelow(n dnsname.Name) bool {
	_, ok := x.owned.load(n)
	return ok
}

// CountBelow returns how many services a look-up of n may look at: those with
// an owner name, or those with a second name, at or below n.
func (x *Index) CountBelow(n dnsname.Name) int {
	owned, _ := x.owned.load(n)
	second, _ := x.second.load(n)
	return max(owned.subtree.Len(), second.subtree.Len())
}

// At returns the services that have the address whose reverse name n is. It is
// nil if there are none.
func (x *Index) At(n dnsname.Name) *Set {
	if !n.IsReverse() {
		return nil
	}
	p, ok := n.Prefix()
	if !ok || !p.IsSingleIP() {
		return nil
	}
	t, _ := x.addrs.load(p.Addr())
	return t
}

// AnyBelow reports whether a reverse name of a published address is below n.
// It walks all addresses.
func (x *Index) AnyBelow(n dnsname.Name) bool {
	p, ok := n.Prefix()
	if !ok || p.IsSingleIP() {
		return false
	}
	count := 0
	for a := range x.addrs.all() {
		if count++; count%Many == 0 {
			runtime.Gosched()
		}
		if p.Contains(a) {
			return true
		}
	}
	return false
}
