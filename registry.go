package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/table"
	"hash/maphash"
	"iter"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	intern "unique"
)

// A registry holds what is published and finds it by name and by address.
// Readers of DNS data never lock: they see immutable nodes through tables.
// Writers hold mu.
type registry struct {
	naming publish.Naming
	log    *slog.Logger
	feed   *feed // is told of each change

	nodes table.Table[dnsname.Name, *node] // by each name that a service is at or below, the root left out
	hot   hotAnswers                       // from nodes
	addrs table.Table[netip.Addr, *view]   // of the services, by each address that is answered
	ttl   atomic.Uint32                    // seconds: the default TTL
	ser   atomic.Uint32                    // SOA serial, grows with each change
	ready atomic.Bool                      // no zone waits for an engine's first list
	known atomic.Bool                      // the engines that are not away have told what they have, one at least

	zones    []dnsname.Name                                   // the apex, and those of engines with a domain of their own, the longest first; read-only
	settled  table.Table[dnsname.Name, bool]                  // the zones that do not wait, while others do
	compose  table.Table[dnsname.Name, *node]                 // by each name of compose, and those above it up to a zone
	composed atomic.Bool                                      // there are some, or have been
	networks table.Table[intern.Handle[publish.Network], int] // of services, how many

	goneAliases goneAliases  // names that were ours
	away        atomic.Int32 // engines that can't be asked now

	mu       sync.Mutex                  // guards what follows, and every store to the tables
	found    map[string]*publish.Service // of each container that is known to exist its service as its engine has it, by id; nil if it has none
	made     map[string]*publish.Service // services made by hand
	overlays map[string]overlay          // what the API did to containers' services, by container id
	engines  map[string]*engineState
	version  uint64 // grows with each change by the API
	ttlSet   bool   // ttl is from the API

	save func() error // keeps what the API did on disk; nil: nothing does. Read-only after start
}

// An engineState is how far it is known what an engine has.
type engineState struct {
	zone   dnsname.Name // of its containers
	listed bool         // its first list is done
	away   bool         // it was away before that
}

// A node is what the registry knows of one name. It is never written again
// once stored. Every service with the owner name o is in below of each
// ancestor of o and of o itself, and in here of o, and nowhere else.
type node struct {
	below view  // of the services whose owner name is this or below it
	here  *view // of those whose owner name this is; below if that is all, nil if there is none
}

// A view is a set of services that answers are made of, at least one, and
// what the fast path keeps of those answers.
type view struct {
	*set
	kinds  publish.Kind             // those of the set, near at hand
	rrsets [2]atomic.Pointer[rrset] // A and AAAA, or of an address PTR first; nil before they are asked for
}

// newView returns a view of t, nil if that is empty.
func newView(t *set) *view {
	if t == nil {
		return nil
	}
	return &view{set: t, kinds: t.kinds}
}

// has reports whether a service of v has one of kinds.
func (v *view) has(k publish.Kind) bool { return v.kinds&k != 0 }

// An overlay is what the API did to a container's service. It holds for as
// long as the container exists.
type overlay struct {
	publish.Patch
	removed bool
	warned  bool // that its name is left out for now
}

var (
	errNotFound     = errors.New("no such service")
	errAmbiguous    = errors.New("several containers' ids begin so: write more digits")
	errNotPublished = errors.New("the container of this id is not published: it does not run, is ignored, or has no address of its own; choose another id")
)

// newRegistry returns an empty registry with a default TTL in seconds. Zones
// are those of engines with a domain of their own.
func newRegistry(n publish.Naming, ttl uint32, log *slog.Logger, zones ...dnsname.Name) *registry {
	r := &registry{
		naming:   n,
		log:      log,
		feed:     newFeed(),
		found:    make(map[string]*publish.Service),
		made:     make(map[string]*publish.Service),
		overlays: make(map[string]overlay),
		engines:  make(map[string]*engineState),
		zones:    publish.Unique(append(zones, n.Apex)),
		hot:      hotAnswers{seed: maphash.MakeSeed()},
	}
	slices.SortFunc(r.zones, func(a, b dnsname.Name) int {
		return cmp.Or(cmp.Compare(len(b), len(a)), strings.Compare(string(a), string(b)))
	})
	r.ttl.Store(ttl)
	r.ser.Store(uint32(time.Now().Unix())) // grows over restarts too, RFC 1912 section 2.2
	return r
}

// published returns all that is published: each service has a full name,
// which is at or below the apex or, where there are several, the root.
func (r *registry) published() *set {
	top := r.naming.Apex
	if len(r.zones) > 1 {
		top = dnsname.Root
	}
	if n, ok := r.nodes.Load(top); ok {
		return n.below.set
	}
	return nil
}

// zoneOf returns the zone that n is in: the apex, or an engine's own domain.
func (r *registry) zoneOf(n dnsname.Name) (zone dnsname.Name, ok bool) {
	for _, z := range r.zones {
		if n.Under(z) {
			return z, true
		}
	}
	return "", false
}

// isAboveZone reports whether n is a zone or above one.
func (r *registry) isAboveZone(n dnsname.Name) bool {
	return slices.ContainsFunc(r.zones, func(zone dnsname.Name) bool { return zone.Under(n) })
}

func (r *registry) isZone(n dnsname.Name) bool { return slices.Contains(r.zones, n) }

// isReady reports whether all is known of the zone that n is in.
func (r *registry) isReady(n dnsname.Name) bool {
	if r.ready.Load() {
		return true
	}
	zone, ok := r.zoneOf(n)
	if !ok {
		return r.known.Load()
	}
	ok, _ = r.settled.Load(zone)
	return ok
}

// isKnown reports whether the engines have told what they have, but for those
// that are away.
func (r *registry) isKnown() bool { return r.ready.Load() || r.known.Load() }

// addEngine makes a zone wait for an engine.
func (r *registry) addEngine(engine string, zone dnsname.Name) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.engines[engine] = &engineState{zone: zone}
}

// engineFound notes that the first list of an engine is done, and drops what the API
// did to those of its containers that are gone: isGone tells by their ids.
func (r *registry) engineFound(engine string, isGone func(id string) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range r.overlays {
		if isGone(id) {
			delete(r.overlays, id)
		}
	}
	if e := r.engines[engine]; e != nil {
		e.listed = true
	}
	r.settleZonesLocked()
}

// engineAway notes that an engine can't be reached.
func (r *registry) engineAway(engine string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.engines[engine]; e != nil {
		e.away = true
	}
	r.settleZonesLocked()
}

// settleZonesLocked finds the zones that wait no more: an engine of theirs has
// told what it has, and each other one has too, or is away.
func (r *registry) settleZonesLocked() {
	listed, waits := make(map[dnsname.Name]bool), make(map[dnsname.Name]bool)
	anyListed, anyWaits := false, false
	for _, e := range r.engines {
		anyListed, anyWaits = anyListed || e.listed, anyWaits || !e.listed && !e.away
		listed[e.zone] = listed[e.zone] || e.listed
		waits[e.zone] = waits[e.zone] || !e.listed && !e.away
	}
	if anyListed && !anyWaits {
		r.known.Store(true)
	}
	all := true
	for _, zone := range r.zones {
		_, isWaiting := waits[zone]
		done := !isWaiting || !waits[zone] && listed[zone] // one without an engine has what is made by hand
		if done {
			r.settled.Store(zone, true)
		}
		all = all && done
	}
	if all {
		r.ready.Store(true)
	}
}

// match returns what a query for q is answered from, by the names rule: all
// at or below q, and those whose owner name is an ancestor of q, nearest
// first. It is appended to views, so that the fast path needs no memory. One
// service may be in several. The caller must know that q is ours.
//
// Where naming.closest is set, only the closest owner name counts: q itself,
// else what is below it, else the nearest ancestor.
//
// The apex, what is above it, and names of one label answer themselves
// only: they would swallow every unknown name.
func (r *registry) match(q dnsname.Name, views []*view) []*view {
	asked := q
	if q.HasWildcard() {
		if q = r.trim(q); q.HasWildcard() {
			return append(views, r.matchWild(asked, q)...)
		}
	}
	if n, ok := r.nodes.Load(q); ok {
		if r.naming.Closest && n.here != nil {
			return append(views, n.here)
		}
		views = append(views, &n.below)
	}
	for a := q.Parent(); r.covers(a, q) && !(r.naming.Closest && len(views) > 0); a = a.Parent() {
		if n, ok := r.nodes.Load(a); ok && n.here != nil {
			views = append(views, n.here)
		}
	}
	if len(views) == 0 && r.composed.Load() {
		return r.matchCompose(asked, q, views)
	}
	return views
}

// matchCompose is match for the names of compose, which are asked for only
// where nothing else matches: so they never add to what another name is
// answered. The project alone is no name of theirs, and answers nothing.
func (r *registry) matchCompose(asked, q dnsname.Name, views []*view) []*view {
	zone, ok := r.zoneOf(q)
	if !ok || asked.Labels() < zone.Labels()+2 {
		return views
	}
	if n, ok := r.compose.Load(q); ok {
		if r.naming.Closest && n.here != nil {
			return append(views, n.here)
		}
		views = append(views, &n.below)
	}
	for a := q.Parent(); len(a) > len(zone) && !(r.naming.Closest && len(views) > 0); a = a.Parent() {
		if n, ok := r.compose.Load(a); ok && n.here != nil {
			views = append(views, n.here)
		}
	}
	return views
}

// isAboveCompose reports whether n, which nothing answers, is the name of a
// project: names are below it, so it exists (RFC 8020).
func (r *registry) isAboveCompose(n dnsname.Name) bool {
	if !r.composed.Load() {
		return false
	}
	_, ok := r.compose.Load(n)
	return ok
}

// trim takes from q the '*' in front that make no difference: what is at or
// below their parent is what they match, unless only the closest names count
// or the parent answers for itself only.
func (r *registry) trim(q dnsname.Name) dnsname.Name {
	for !r.naming.Closest && q.Label() == "*" {
		parent := q.Parent()
		if n, ok := r.nodes.Load(parent); ok && n.here != nil && !r.covers(parent, q) {
			break
		}
		q = parent
	}
	return q
}

// matchWild walks all services: a '*' in the middle has no node. Asked is q
// before it was trimmed.
func (r *registry) matchWild(asked, q dnsname.Name) (found []*view) {
	found = r.walkWild(q, func(s *publish.Service) []dnsname.Name { return s.Owners }, r.covers)
	if zone, ok := r.zoneOf(q); len(found) == 0 && r.composed.Load() && ok && asked.Labels() >= zone.Labels()+2 {
		var one [1]dnsname.Name
		found = r.walkWild(asked, func(s *publish.Service) []dnsname.Name {
			if one[0] = s.Compose; s.Compose == "" {
				return nil
			}
			return one[:]
		}, func(_, q dnsname.Name) bool { return true })
	}
	return found
}

// walkWild returns the services one of whose names matches q. The closest
// names are all that are not shorter than q, else the longest.
func (r *registry) walkWild(q dnsname.Name, names func(*publish.Service) []dnsname.Name, covers func(a, q dnsname.Name) bool) (found []*view) {
	all := newView(r.published())
	if all == nil {
		return nil
	}
	labels := q.Split()
	closest := -len(labels)
	for s := range some([]*view{all}, ^publish.Kind(0)) {
		best := closest - 1
		for _, o := range names(s) {
			if ok, more := dnsname.Matches(labels, o); ok && (more >= 0 || covers(o, q)) {
				best = max(best, min(more, 0))
			}
		}
		switch {
		case best < closest:
			continue
		case r.naming.Closest && best > closest:
			found, closest = nil, best
		}
		found = append(found, newView(one(s)))
	}
	return found
}

// some iterates over those services of views that have one of kinds, from a
// random one on, so that what fits of many is of all by and by.
func some(views []*view, k publish.Kind) iter.Seq[*publish.Service] {
	return func(take func(*publish.Service) bool) {
		yield := pausing(take)
		total := 0
		for _, v := range views {
			total += v.len()
		}
		if total == 0 {
			return
		}
		first := rand.IntN(total) // a counter would stand still for clients that ask A and AAAA in turn
		_ = walkAll(views, k, first, total, yield) && walkAll(views, k, 0, first, yield)
	}
}

// pausing returns yield with pauses, in which others run.
func pausing(yield func(*publish.Service) bool) func(*publish.Service) bool {
	count := 0
	return func(s *publish.Service) bool {
		if count++; count%many == 0 {
			runtime.Gosched()
		}
		return yield(s)
	}
}

// walkAll is set.walk for several.
func walkAll(views []*view, k publish.Kind, from, to int, yield func(*publish.Service) bool) bool {
	for _, v := range views {
		if !v.walk(k, from, to, yield) {
			return false
		}
		from, to = from-v.len(), to-v.len()
	}
	return true
}

// anyHas reports whether a service of views has one of kinds.
func anyHas(views []*view, k publish.Kind) bool {
	return slices.ContainsFunc(views, func(v *view) bool { return v.has(k) })
}

// covers reports whether the owner name a, an ancestor of q, may answer for q.
func (r *registry) covers(a, q dnsname.Name) bool {
	if a == dnsname.Root || a.Parent() == dnsname.Root {
		return false
	}
	for _, zone := range r.zones {
		if q.Under(zone) && zone.Under(a) {
			return false
		}
	}
	return true
}

// cover returns the alias that q is at or below, for a q outside the apex;
// not ok if there is none, so that q is not ours.
func (r *registry) cover(q dnsname.Name) (alias dnsname.Name, ok bool) {
	for a := q; a != dnsname.Root && (a == q || r.covers(a, q)); a = a.Parent() {
		if n, ok := r.nodes.Load(a); ok && n.here != nil {
			return a, true
		}
	}
	return "", false
}

// goneAliases are aliases outside of the apex whose container died, and when.
// The world's answer to such a name would be another host's address.
type goneAliases struct {
	table.Table[dnsname.Name, time.Time]
	count atomic.Int32
}

const (
	goneFor = time.Hour // that an alias is nobody's, after its container died
	maxGone = 10_000    // such aliases; past that the next ones are not kept
)

// gone returns the alias that n is at or below, which is outside of the apex and
// of all aliases, if its container died within goneFor. While an
// engine is away, that stays so.
func (r *registry) gone(n dnsname.Name) (alias dnsname.Name, ok bool) {
	if r.goneAliases.count.Load() == 0 {
		return "", false
	}
	for a := n; a != dnsname.Root && (a == n || r.covers(a, n)); a = a.Parent() {
		if died, ok := r.goneAliases.Load(a); ok && (time.Since(died) < goneFor || r.away.Load() > 0) {
			return a, true
		}
	}
	return "", false
}

// noteGoneLocked keeps the aliases that died with a container, and drops those
// that live again or died long ago.
func (r *registry) noteGoneLocked(old, s *publish.Service, died bool) {
	if s != nil {
		for _, o := range s.Owners {
			if _, ok := r.goneAliases.Load(o); ok {
				r.goneAliases.Delete(o)
				r.goneAliases.count.Add(-1)
			}
		}
	}
	if old == nil || !died {
		return
	}
	for _, o := range old.Owners {
		n, ok := r.nodes.Load(o)
		if _, inZone := r.zoneOf(o); inZone || ok && n.here != nil {
			continue
		}
		if r.goneAliases.count.Load() >= maxGone {
			r.dropGoneLocked()
		}
		if r.goneAliases.count.Load() < maxGone {
			if _, had := r.goneAliases.Map.Swap(o, time.Now()); !had {
				r.goneAliases.count.Add(1)
			}
		}
	}
}

// dropGoneLocked drops the aliases that died long ago.
func (r *registry) dropGoneLocked() {
	for a, died := range r.goneAliases.All() {
		if time.Since(died) >= goneFor && r.away.Load() == 0 {
			r.goneAliases.Delete(a)
			r.goneAliases.count.Add(-1)
		}
	}
}

// at returns the view of the services that publish the address whose reverse
// name n is, nil if there is none.
func (r *registry) at(n dnsname.Name) *view {
	if !n.IsReverse() {
		return nil
	}
	p, ok := n.Prefix()
	if !ok || !p.IsSingleIP() {
		return nil
	}
	v, _ := r.addrs.Load(p.Addr())
	return v
}

// anyBelow reports whether a reverse name of a published address is below n.
// It walks all addresses.
func (r *registry) anyBelow(n dnsname.Name) bool {
	p, ok := n.Prefix()
	if !ok || p.IsSingleIP() {
		return false
	}
	count := 0
	for a := range r.addrs.All() {
		if count++; count%many == 0 {
			runtime.Gosched()
		}
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// rrset returns the addresses of views for a client, IPv4 or IPv6, without
// duplicates (RFC 2181 section 5), and the TTL in seconds that they share: the
// smallest of the services' (section 5.2). Those on the client's network are
// the first, and within that the services' order rotates. There are at
// most that many addresses, from a random service on, so that a name of
// 10,000 services costs no more than its reply holds. It differs where
// another client may get others, or another order.
func (r *registry) rrset(views []*view, v4 bool, most int, c client) (addrs []netip.Addr, ttl uint32, differs bool) {
	family := publish.HasAAAA
	if v4 {
		family = publish.HasA
	}
	well := r.anyWell(views, c)
	isNear := sync.OnceValue(func() bool { return r.isNear(c.addr) }) // is asked for only where there are many
	seen := make(map[netip.Addr]bool)
	var near, far rotation
	var network intern.Handle[publish.Network]
	isFirst := true
	for s := range some(views, family) {
		if s.Sick && well {
			continue
		}
		differs = differs || !isFirst && s.Network() != network
		network, isFirst = s.Network(), false
		list, beside := r.addrsFor(s, c)
		group := &far
		if beside {
			group = &near
		}
		from := group.count
		for _, a := range list {
			if a.IsValid() && a.Is4() == v4 && !seen[a] && group.count < most {
				seen[a] = true
				group.add(a, from)
			}
		}
		if near.count == most || far.count == most && !isNear() {
			break
		}
	}
	addrs = append(near.turned(), far.turned()...)
	return addrs[:min(len(addrs), most)], r.minTTL(views), differs || anyHas(views, publish.Varies)
}

// addrsFor is service.addrsFor, in an order that changes where that does not
// matter, with the host's addresses.
func (r *registry) addrsFor(s *publish.Service, c client) (addrs []netip.Addr, near bool) {
	addrs, near = s.AddrsFor(c.addr)
	if n := len(addrs); n > 1 && len(s.Ends) < 2 {
		turn := rand.IntN(n)
		addrs = slices.Concat(addrs[turn:], addrs[:turn])
	}
	if at := slices.Index(addrs, netip.Addr{}); at >= 0 {
		addrs = slices.Concat(addrs[:at], r.hostAddrs(c.local), addrs[at+1:])
	}
	return addrs, near
}

// hostAddrs returns the addresses of the host: what is configured, else the
// one that a client asked. Where that is a container's, dnsdock is in it, and
// the host is the gateway of its network.
func (r *registry) hostAddrs(asked netip.Addr) (addrs []netip.Addr) {
	if r.naming.Host != nil {
		return r.naming.Host
	}
	if v, ok := r.addrs.Load(asked); ok {
		for s := range v.all(publish.HasData) {
			for _, e := range s.Ends {
				if n := e.Net.Value(); n.V4.Contains(asked) || n.V6.Contains(asked) {
					return []netip.Addr{n.V4.Gateway, n.V6.Gateway}
				}
			}
		}
	}
	return []netip.Addr{asked}
}

// anyWell reports whether a service of views whose health check does not
// fail has an address for the client, where others fail.
func (r *registry) anyWell(views []*view, c client) bool {
	if !anyHas(views, publish.IsSick) {
		return false
	}
	for s := range some(views, publish.IsWell) {
		if addrs, _ := s.AddrsFor(c.addr); len(addrs) > 0 {
			return true
		}
	}
	return false
}

// isNear reports whether a client is on a network of a service. It is not
// worth a search for those beside it if it is not.
func (r *registry) isNear(client netip.Addr) bool {
	for n := range r.networks.All() {
		if n.Value().Has(client) {
			return true
		}
	}
	return false
}

// A rotation is addresses of services, one after the other.
type rotation struct {
	addrs  []netip.Addr
	starts []int // of each service's
	count  int
}

// add adds an address of the service whose begin at from.
func (t *rotation) add(a netip.Addr, from int) {
	if t.count == from {
		t.starts = append(t.starts, from)
	}
	t.addrs = append(t.addrs, a)
	t.count++
}

// turned returns the addresses from a random service on.
func (t *rotation) turned() []netip.Addr {
	if len(t.starts) == 0 {
		return nil
	}
	turn := t.starts[rand.IntN(len(t.starts))]
	return slices.Concat(t.addrs[turn:], t.addrs[:turn])
}

// minTTL returns the smallest TTL of views in seconds, without those of a
// CNAME; the default where there is none.
func (r *registry) minTTL(views []*view) uint32 {
	ttl, standard := uint32(publish.MaxTTL), r.ttl.Load()
	for _, v := range views {
		ttl = min(ttl, uint32(v.minTTL))
		if v.has(publish.HasDefault) {
			ttl = min(ttl, standard)
		}
	}
	if !anyHas(views, publish.HasData) {
		return standard
	}
	return ttl
}

// ttlOf returns the TTL of a service in seconds.
func (r *registry) ttlOf(s *publish.Service) uint32 {
	if s.TTL == publish.DefaultTTL {
		return r.ttl.Load()
	}
	return uint32(s.TTL)
}

// put publishes a container's service as its engine has it now. A nil
// service says that the container exists but is not published.
func (r *registry) put(id string, s *publish.Service) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old := r.found[id]; old == nil || !old.Equal(s) { // else one of the two would be kept for nothing
		r.found[id] = s
	}
	r.settleLocked(id, true)
}

// forget withdraws the service of a container that does not exist any more,
// and drops what the API did to it.
func (r *registry) forget(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.found, id)
	delete(r.overlays, id)
	r.settleLocked(id, true)
}

// last returns the addresses that the container's engine gave last.
func (r *registry) last(id string) []publish.Endpoint {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.found[id]; s != nil {
		return s.Endpoints()
	}
	return nil
}

// lookup returns the service that id names: in full, or for a container the
// first 4 hex digits or more. Errors: errNotFound, errAmbiguous.
func (r *registry) lookup(id string) (*publish.Service, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lookupLocked(id)
}

func (r *registry) lookupLocked(id string) (*publish.Service, error) {
	id, err := r.fullIDLocked(id)
	if err != nil {
		return nil, err
	}
	if s := r.published().get(id); s != nil {
		return s, nil
	}
	return nil, errNotFound
}

// fullIDLocked completes the shortened id of a container. What is not one
// is returned as it is.
func (r *registry) fullIDLocked(id string) (string, error) {
	if r.existsLocked(id) || r.made[id] != nil || !publish.IsHex(id, 4) {
		return id, nil
	}
	full := id
	for c := range r.found {
		if !strings.HasPrefix(c, id) {
			continue
		}
		if full != id {
			return "", errAmbiguous
		}
		full = c
	}
	return full, nil
}

// existsLocked reports whether there is a container of this id.
func (r *registry) existsLocked(id string) bool {
	_, ok := r.found[id]
	return ok
}

// set publishes what p says, all properties of which must be set, under id.
// For a container's id that holds for as long as the container exists; else
// it is a service made by hand. Errors: errAmbiguous, errNotPublished, or
// what can't be used.
func (r *registry) set(id string, p publish.Patch) (s *publish.Service, isNew bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id, err = r.fullIDLocked(id)
	if err != nil {
		return nil, false, err
	}
	base := r.found[id]
	switch {
	case base == nil && r.existsLocked(id) && r.made[id] == nil:
		return nil, false, errNotPublished // nor does a container that died meanwhile come back
	case base == nil || r.made[id] != nil:
		base = &publish.Service{ID: id, Since: time.Now().UTC().Truncate(time.Second)}
		if old := r.made[id]; old != nil {
			base.Since = old.Since
		}
	}
	s, err = r.namingOf(base).Patched(base, p)
	if err != nil {
		return nil, false, err
	}
	had := r.published().get(id) != nil
	r.version++
	if base == r.found[id] {
		r.overlays[id] = overlay{Patch: p}
	} else {
		r.made[id] = s
	}
	r.settleLocked(id, false)
	return s, !had, nil
}

// update changes the service that id names by p. Errors: errNotFound,
// errAmbiguous, or what can't be used.
func (r *registry) update(id string, p publish.Patch) (*publish.Service, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old, err := r.lookupLocked(id)
	if err != nil {
		return nil, err
	}
	r.version++
	if r.made[old.ID] != nil {
		s, err := r.namingOf(old).Patched(old, p)
		if err != nil {
			return nil, err
		}
		r.made[old.ID] = s
	} else {
		all := r.overlays[old.ID].Over(p)
		_, err := r.namingOf(old).Patched(r.found[old.ID], all)
		if errors.Is(err, publish.ErrNoAddress) || err != nil && (p.Name != nil || p.Image != nil) { // else a name that is left out for now would refuse a mere TTL
			return nil, err
		}
		r.overlays[old.ID] = overlay{Patch: all}
	}
	r.settleLocked(old.ID, false)
	return r.published().get(old.ID), nil
}

// remove withdraws the service that id names; a container's stays away for
// as long as the container exists. Errors: errNotFound, errAmbiguous.
func (r *registry) remove(id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, err := r.lookupLocked(id)
	if err != nil {
		return err
	}
	r.version++
	delete(r.made, s.ID)
	if r.existsLocked(s.ID) {
		r.overlays[s.ID] = overlay{removed: true}
	}
	r.settleLocked(s.ID, false)
	return nil
}

// namingOf returns how s is named: in the zone of its engine.
func (r *registry) namingOf(s *publish.Service) publish.Naming {
	n := r.naming
	if e := r.engines[s.Origin.Engine]; e != nil {
		n.Apex = e.zone
	}
	return n
}

// wantLocked returns what shall be published under id, or nil.
func (r *registry) wantLocked(id string) *publish.Service {
	if s := r.made[id]; s != nil {
		return s
	}
	s := r.found[id]
	o, ok := r.overlays[id]
	if s == nil || o.removed {
		return nil
	}
	if !ok {
		return s
	}
	naming := r.namingOf(s)
	t, err := naming.Patched(s, o.Patch)
	if tooLong := err != nil; tooLong != o.warned { // with a part that the container has now
		if tooLong {
			r.log.Warn("name set by the API is left out for now", "container", s.Origin.Container, "id", id, "err", err)
		}
		r.overlays[id] = overlay{Patch: o.Patch, warned: tooLong}
	}
	if err != nil {
		o.Name, o.Image = nil, nil
		t, err = naming.Patched(s, o.Patch)
	}
	if err != nil {
		return s
	}
	return t
}

// settleLocked makes what is published under id what shall be, and logs it.
// New names are stored before old ones go, and a name that stays is swapped
// in one store, so that no query sees a gap. What the container takes away
// died with it.
func (r *registry) settleLocked(id string, died bool) {
	old := r.published().get(id)
	s := r.wantLocked(id)
	if s.Equal(old) {
		return
	}
	var alone *set // of s; the sets that have no other share it
	if s != nil {
		alone = one(s)
	}
	r.swapNodesLocked(old, alone)
	r.swapAddrsLocked(old, alone)
	r.noteGoneLocked(old, s, died)
	r.ser.Add(1)
	switch {
	case old == nil:
		r.feed.publish("service-added", id, s)
		r.log.Info("service added", "id", id, "names", begin(s.Owners), "addrs", publish.AddrTexts(begin(s.Addrs)))
	case s == nil:
		r.feed.publish("service-removed", id, old)
		r.log.Info("service removed", "id", id, "names", begin(old.Owners))
	default:
		r.feed.publish("service-changed", id, s)
		r.log.Info("service changed", "id", id, "names", begin(s.Owners), "addrs", publish.AddrTexts(begin(s.Addrs)))
	}
}

// begin returns as much of list as fits into a line of the log.
func begin[T any](list []T) []T { return list[:min(len(list), 20)] }

func (r *registry) swapNodesLocked(old *publish.Service, s *set) {
	now, before := make(map[dnsname.Name]bool), old.Paths()
	apex := func(n dnsname.Name) dnsname.Name { zone, _ := r.zoneOf(n); return zone }
	composeNow, composeBefore := make(map[dnsname.Name]bool), old.ComposePaths(apex)
	if s != nil {
		now, composeNow = s.Paths(), s.ComposePaths(apex)
	}
	if len(r.zones) > 1 { // for published
		for _, paths := range []map[dnsname.Name]bool{now, before} {
			if len(paths) > 0 {
				paths[dnsname.Root] = false
			}
		}
	}
	swap(&r.nodes, old, s, now, before)
	if len(composeNow) > 0 {
		r.composed.Store(true)
	}
	swap(&r.compose, old, s, composeNow, composeBefore)
	others := r.coversOthersLocked(now) || r.coversOthersLocked(before)
	r.hot.change(r.published().len(), others, now, before)
}

// swap puts the one service of s at the names of now, and takes old from those of before.
func swap(nodes *table.Table[dnsname.Name, *node], old *publish.Service, s *set, now, before map[dnsname.Name]bool) {
	for n, isOwner := range now {
		o, _ := nodes.Load(n)
		nodes.Store(n, o.with(s, isOwner))
	}
	for n := range before {
		if _, ok := now[n]; ok {
			continue
		}
		o, _ := nodes.Load(n)
		if next := o.without(old.ID); next != nil {
			nodes.Store(n, next)
		} else {
			nodes.Delete(n)
		}
	}
}

// coversOthersLocked reports whether other names are below one of the owner
// names among paths: they may be answered from it too.
func (r *registry) coversOthersLocked(paths map[dnsname.Name]bool) bool {
	for n, isOwner := range paths {
		if o, ok := r.nodes.Load(n); ok && isOwner && (o.here == nil || o.here.len() < o.below.len()) {
			return true
		}
	}
	return false
}

// with returns n, which may be nil, with the one service of s, in the place
// of one of the same id; it is in here too if this is an owner name of it.
func (n *node) with(s *set, isOwner bool) *node {
	var here, below *set
	if n != nil {
		here, below = n.sets()
	}
	switch below = below.with(s); {
	case isOwner:
		here = here.with(s)
	case here != nil:
		here = here.without(s.ID)
	}
	return newNode(n, here, below)
}

// without returns n without the service of that id, nil if nothing is left.
func (n *node) without(id string) *node {
	here, below := n.sets()
	if here, below = here.without(id), below.without(id); below == nil {
		return nil
	}
	return newNode(n, here, below)
}

func (n *node) sets() (here, below *set) {
	if n.here != nil {
		here = n.here.set
	}
	return here, n.below.set
}

// newNode returns the node of the two sets, in the place of n.
func newNode(n *node, here, below *set) *node {
	next := &node{below: view{set: below, kinds: below.kinds}}
	switch {
	case here.len() == below.len():
		next.here = &next.below
	case n != nil && n.here != nil && n.here.set == here: // with what is packed of it
		next.here = n.here
	default:
		next.here = newView(here)
	}
	return next
}

func (r *registry) swapAddrsLocked(old *publish.Service, s *set) {
	var now, before []netip.Addr
	if s != nil {
		now = s.Addrs
		r.countLocked(s.Service, 1)
	}
	if old != nil {
		before = old.Addrs
		r.countLocked(old, -1)
	}
	kept := make(map[netip.Addr]bool, len(now))
	for _, a := range now {
		kept[a] = true
		var t *set
		if v, ok := r.addrs.Load(a); ok {
			t = v.set
		}
		if a.IsValid() { // else it is the host's
			r.addrs.Store(a, newView(t.with(s)))
		}
	}
	for _, a := range before {
		if kept[a] || !a.IsValid() {
			continue
		}
		v, _ := r.addrs.Load(a)
		if rest := newView(v.without(old.ID)); rest != nil {
			r.addrs.Store(a, rest)
		} else {
			r.addrs.Delete(a)
		}
	}
}

// countLocked counts the services on each network.
func (r *registry) countLocked(s *publish.Service, by int) {
	for _, e := range s.Ends {
		n, _ := r.networks.Load(e.Net)
		if n += by; n > 0 {
			r.networks.Store(e.Net, n)
		} else {
			r.networks.Delete(e.Net)
		}
	}
}

// setTTL sets the default TTL in seconds.
func (r *registry) setTTL(ttl uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.version++
	r.ttlSet = true
	r.ttl.Store(ttl)
	r.hot.epoch.Add(1)
	r.ser.Add(1)
	r.feed.publish("ttl-changed", "", ttl)
}

// overlay has what the API did to containers' services done again.
func (r *registry) overlay(overlays map[string]overlay) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, o := range overlays {
		r.overlays[id] = o
		r.settleLocked(id, false)
	}
	r.version++
}

// apiVersion grows with each change by the API.
func (r *registry) apiVersion() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.version
}

// state returns all that the API did, and the version of that.
func (r *registry) state() (s stateJSON, version uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s = stateJSON{Services: make(map[string]json.RawMessage), Changes: make(map[string]json.RawMessage)}
	if ttl := r.ttl.Load(); r.ttlSet {
		s.TTL = &ttl
	}
	for id, m := range r.made {
		s.Services[id] = encodePatch(publish.Patch{&m.Name, &m.Image, m.Addrs, &m.CNAME, &m.TXT, &m.Ports, &m.TTL, &m.Aliases})
	}
	for _, id := range publish.SortedKeys(r.overlays) {
		if o := r.overlays[id]; o.removed {
			s.Removed = append(s.Removed, id)
		} else {
			s.Changes[id] = encodePatch(o.Patch)
		}
	}
	return s, r.version
}
