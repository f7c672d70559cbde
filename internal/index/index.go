package index

import (
	"cmp"
	"hash/maphash"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/table"
)

// An Index finds services by name and by address. Readers never lock: they see
// immutable nodes and sets through tables. Its writer is one at a time, and holds
// a lock of its own.
type Index struct {
	Rules publish.NameRules // read-only
	zones
	state
	names
	addresses
	removed removedAliases
	changes
	Touched touched
}

// New returns an empty index with a default TTL in seconds. Zones are the
// domains that single engines have.
func New(rules publish.NameRules, ttl uint32, domains ...dnsname.Name) *Index {
	x := &Index{
		Rules:     rules,
		zones:     zones{publish.Dedup(append(domains, rules.Apex))},
		changes:   changes{seed: maphash.MakeSeed()},
		addresses: addresses{networks: make(map[network]int)},
	}
	slices.SortFunc(x.Zones, func(a, b dnsname.Name) int {
		return cmp.Or(cmp.Compare(len(b), len(a)), strings.Compare(string(a), string(b)))
	})
	x.state.zones, x.names.zones, x.names.rules = &x.zones, &x.zones, &x.Rules
	x.hosts = hostServices(rules, x.Zones)
	x.TTL.Store(ttl)
	x.Serial.Store(uint32(time.Now().Unix())) // grows over restarts too, RFC 1912 section 2.2
	return x
}

// zones are the domains that names of containers end in.
type zones struct {
	Zones []dnsname.Name // the apex, and domains that single engines have, the longest first; read-only
}

// ZoneOf returns the zone that n is in: the apex, or an engine's own domain.
func (z *zones) ZoneOf(n dnsname.Name) (zone dnsname.Name, ok bool) {
	for _, zone := range z.Zones {
		if n.Under(zone) {
			return zone, true
		}
	}
	return "", false
}

// IsAboveZone reports whether n is a zone or above one.
func (z *zones) IsAboveZone(n dnsname.Name) bool {
	return slices.ContainsFunc(z.Zones, func(zone dnsname.Name) bool { return zone.Under(n) })
}

// IsZone reports whether n is the apex, or an engine's own domain.
func (z *zones) IsZone(n dnsname.Name) bool { return slices.Contains(z.Zones, n) }

// answersFor reports whether the owner name a, an ancestor of q, may answer for q.
func (z *zones) answersFor(a, q dnsname.Name) bool {
	if a == dnsname.Root || a.Parent() == dnsname.Root {
		return false
	}
	for _, zone := range z.Zones {
		if q.Under(zone) && zone.Under(a) {
			return false
		}
	}
	return true
}

// state is what changes of an index beside services.
type state struct {
	TTL    atomic.Uint32 // seconds: the default TTL
	Serial atomic.Uint32 // SOA serial, grows with each change
	Ready  atomic.Bool   // all is known: each engine is connected and its containers are listed
	Known  atomic.Bool   // each engine has listed its containers or is away, and one has listed them
	Away   atomic.Int32  // engines that can't be asked now

	// Paced says that whoever transfers zones sets Serial, because it must not run ahead of the clock: it would not
	// grow over a restart then. Read-only after start.
	Paced bool

	zones   *zones
	listed  table.Table[dnsname.Name, bool] // zones of which enough is known for a transfer
	settled table.Table[dnsname.Name, bool] // zones of which all is known, while it is not of others

	listing   table.Table[dnsname.Name, bool] // zones of which an engine's first list is being read
	isListing atomic.Bool                     // there is one
}

// SOASerial returns the serial for SOA records.
func (s *state) SOASerial() uint32 { return s.Serial.Load() }

// bump notes that the records of a zone change.
func (s *state) bump() {
	if !s.Paced {
		s.Serial.Add(1)
	}
}

// IsListed reports whether the containers of each engine of a zone that answers were published once, so that a copy of
// the zone is worth having.
func (s *state) IsListed(zone dnsname.Name) bool {
	ok, _ := s.listed.Load(zone)
	return ok
}

// IsReady reports whether all is known of the zone that n is in.
func (s *state) IsReady(n dnsname.Name) bool {
	if s.Ready.Load() {
		return true
	}
	zone, ok := s.zones.ZoneOf(n)
	if !ok {
		return s.Known.Load()
	}
	ok, _ = s.settled.Load(zone)
	return ok
}

// IsListing reports whether the first list of an engine, whose containers may
// have the name n too, is being read.
func (s *state) IsListing(n dnsname.Name) bool {
	if !s.isListing.Load() {
		return false
	}
	zone, ok := s.zones.ZoneOf(n)
	if !ok { // an alias may be any engine's
		return true
	}
	listing, _ := s.listing.Load(zone)
	return listing
}

// IsKnown reports whether each engine has listed its containers, or is away.
func (s *state) IsKnown() bool { return s.Ready.Load() || s.Known.Load() }
