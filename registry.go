package main

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A registry holds what is published and finds it by name and by address.
// Readers of DNS data never lock: they see immutable nodes through tables.
// Writers hold mu.
type registry struct {
	naming naming
	log    *slog.Logger

	live  table[string, *service]       // what is published, by id
	nodes table[name, *node]            // by each name that a service is at or below, the root left out
	addrs table[netip.Addr, []*service] // by each address that is answered
	ttl   atomic.Uint32                 // seconds: the default TTL
	ser   atomic.Uint32                 // SOA serial, grows with each change
	ready atomic.Bool                   // the engine's first list is done

	mu       sync.Mutex          // guards what follows, and every store to the tables
	found    map[string]*service // containers' services as their engines have them, by container id
	exists   map[string]bool     // all containers that are known to exist, running or not
	made     map[string]*service // services made by hand
	overlays map[string]overlay  // what the API did to containers' services, by container id
}

// A node is what the registry knows of one name. It is never written again
// once stored. Every service with the owner name o is in below of each
// ancestor of o and of o itself, and in here of o, and nowhere else.
type node struct {
	here  []*service // whose owner name this is
	below []*service // whose owner name is this or below it
}

// An overlay is what the API did to a container's service. It holds for as
// long as the container exists.
type overlay struct {
	patch
	removed bool
	warned  bool // that its name is left out for now
}

var (
	errNotFound     = errors.New("no such service")
	errAmbiguous    = errors.New("several containers' ids begin so: write more digits")
	errNotPublished = errors.New("the container of this id is not published: it does not run, is ignored, or has no address of its own; choose another id")
)

// newRegistry returns an empty registry with a default TTL in seconds.
func newRegistry(n naming, ttl uint32, log *slog.Logger) *registry {
	r := &registry{
		naming:   n,
		log:      log,
		found:    make(map[string]*service),
		exists:   make(map[string]bool),
		made:     make(map[string]*service),
		overlays: make(map[string]overlay),
	}
	r.ttl.Store(ttl)
	r.ser.Store(uint32(time.Now().Unix())) // grows over restarts too, RFC 1912 section 2.2
	return r
}

// match returns the services that a query for q is answered from, by the
// names rule: all at or below q, and those whose owner name is an ancestor
// of q. One service may be in it twice. The caller must know that q is ours.
//
// Where naming.closest is set, only the closest owner name counts: q itself,
// else what is below it, else the nearest ancestor.
//
// The apex, what is above it, and names of one label answer themselves
// only: they would swallow every unknown name.
func (r *registry) match(q name) []*service {
	if q.wild() {
		return r.matchWild(q)
	}
	var found []*service
	if n, ok := r.nodes.load(q); ok {
		found = n.below
		if r.naming.closest && len(n.here) > 0 {
			return n.here
		}
	}
	for a := q.parent(); r.covers(a, q) && !(r.naming.closest && len(found) > 0); a = a.parent() {
		if n, ok := r.nodes.load(a); ok && len(n.here) > 0 {
			found = append(slices.Clip(found), n.here...)
		}
	}
	return found
}

// matchWild walks all services: a '*' has no node. The closest owner names
// are all that are not shorter than q, else the longest.
func (r *registry) matchWild(q name) (found []*service) {
	labels := q.split()
	closest := -len(labels)
	for _, s := range r.live.all() {
		best := closest - 1
		for _, o := range s.owners {
			if ok, more := matches(labels, o); ok && (more >= 0 || r.covers(o, q)) {
				best = max(best, min(more, 0))
			}
		}
		switch {
		case best < closest:
			continue
		case r.naming.closest && best > closest:
			found, closest = nil, best
		}
		found = append(found, s)
	}
	return found
}

// covers reports whether the owner name a, an ancestor of q, may answer for q.
func (r *registry) covers(a, q name) bool {
	return a != root && a.parent() != root && !(q.under(r.naming.apex) && r.naming.apex.under(a))
}

// cover returns the alias that q is at or below, for a q outside the apex;
// not ok if there is none, so that q is not ours.
func (r *registry) cover(q name) (alias name, ok bool) {
	for a := q; a != root && (a == q || r.covers(a, q)); a = a.parent() {
		if n, ok := r.nodes.load(a); ok && len(n.here) > 0 {
			return a, true
		}
	}
	return "", false
}

// at returns the services that publish the address whose reverse name n is.
func (r *registry) at(n name) []*service {
	if !n.reverse() {
		return nil
	}
	p, ok := n.prefix()
	if !ok || !p.IsSingleIP() {
		return nil
	}
	s, _ := r.addrs.load(p.Addr())
	return s
}

// anyBelow reports whether a reverse name of a published address is below n.
// It walks all addresses.
func (r *registry) anyBelow(n name) bool {
	p, ok := n.prefix()
	if !ok || p.IsSingleIP() {
		return false
	}
	for a := range r.addrs.all() {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// rrset returns the addresses of services, IPv4 or IPv6, without duplicates
// (RFC 2181 section 5), and the TTL in seconds that they share: the
// smallest of the services' (section 5.2). The order rotates. There are at
// most that many addresses, from a random service on, so that a name of
// 10,000 services costs no more than its reply holds.
func (r *registry) rrset(services []*service, v4 bool, most int) (addrs []netip.Addr, ttl uint32) {
	ttl = r.minTTL(services)
	if len(services) == 0 {
		return nil, ttl
	}
	seen := make(map[netip.Addr]bool)
	first := rand.IntN(len(services)) // a counter would stand still for clients that ask A and AAAA in turn
collect:
	for i := range services {
		all := services[(first+i)%len(services)].addrs
		if len(all) == 0 { // it has a CNAME
			continue
		}
		turn := rand.IntN(len(all))
		for j := range all {
			a := all[(turn+j)%len(all)]
			if a.Is4() != v4 || seen[a] {
				continue
			}
			if len(addrs) == most {
				break collect
			}
			seen[a] = true
			addrs = append(addrs, a)
		}
	}
	if len(addrs) == 0 {
		return nil, ttl
	}
	turn := rand.IntN(len(addrs)) // once more: those of the other family and repeated ones were passed over
	return slices.Concat(addrs[turn:], addrs[:turn]), ttl
}

// minTTL returns the smallest TTL of services in seconds; the default where
// there is none.
func (r *registry) minTTL(services []*service) uint32 {
	ttl := uint32(maxTTL)
	for _, s := range services {
		if s.ttl == defaultTTL {
			ttl = min(ttl, r.ttl.Load())
		} else {
			ttl = min(ttl, uint32(s.ttl))
		}
	}
	if len(services) == 0 {
		return r.ttl.Load()
	}
	return ttl
}

// put publishes a container's service as its engine has it now. A nil
// service says that the container exists but is not published.
func (r *registry) put(id string, s *service) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.exists[id] = true
	if s == nil {
		delete(r.found, id)
	} else {
		r.found[id] = s
	}
	r.settleLocked(id)
}

// forget withdraws the service of a container that does not exist any more,
// and drops what the API did to it.
func (r *registry) forget(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.exists, id)
	delete(r.found, id)
	delete(r.overlays, id)
	r.settleLocked(id)
}

// last returns the addresses that the container's engine gave last.
func (r *registry) last(id string) []netip.Addr {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.found[id]; s != nil {
		return s.addrs
	}
	return nil
}

// lookup returns the service that id names: in full, or for a container the
// first 4 hex digits or more. Errors: errNotFound, errAmbiguous.
func (r *registry) lookup(id string) (*service, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lookupLocked(id)
}

func (r *registry) lookupLocked(id string) (*service, error) {
	id, err := r.fullIDLocked(id)
	if err != nil {
		return nil, err
	}
	s, ok := r.live.load(id)
	if !ok {
		return nil, errNotFound
	}
	return s, nil
}

// fullIDLocked completes the shortened id of a container. What is not one
// is returned as it is.
func (r *registry) fullIDLocked(id string) (string, error) {
	if r.exists[id] || r.made[id] != nil || !isHex(id, 4) {
		return id, nil
	}
	full := id
	for c := range r.exists {
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

// set publishes what p says, all properties of which must be set, under id.
// For a container's id that holds for as long as the container exists; else
// it is a service made by hand. Errors: errAmbiguous, errNotPublished, or
// what can't be used.
func (r *registry) set(id string, p patch) (s *service, isNew bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id, err = r.fullIDLocked(id)
	if err != nil {
		return nil, false, err
	}
	base := r.found[id]
	switch {
	case base == nil && r.exists[id] && r.made[id] == nil:
		return nil, false, errNotPublished // nor does a container that died meanwhile come back
	case base == nil || r.made[id] != nil:
		base = &service{id: id}
	}
	s, err = r.naming.patched(base, p)
	if err != nil {
		return nil, false, err
	}
	_, had := r.live.load(id)
	if base == r.found[id] {
		r.overlays[id] = overlay{patch: p}
	} else {
		r.made[id] = s
	}
	r.settleLocked(id)
	return s, !had, nil
}

// update changes the service that id names by p. Errors: errNotFound,
// errAmbiguous, or what can't be used.
func (r *registry) update(id string, p patch) (*service, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old, err := r.lookupLocked(id)
	if err != nil {
		return nil, err
	}
	if r.made[old.id] != nil {
		s, err := r.naming.patched(old, p)
		if err != nil {
			return nil, err
		}
		r.made[old.id] = s
	} else {
		all := r.overlays[old.id].over(p)
		_, err := r.naming.patched(r.found[old.id], all)
		if errors.Is(err, errNoAddress) || err != nil && (p.name != nil || p.image != nil) { // else a name that is left out for now would refuse a mere TTL
			return nil, err
		}
		r.overlays[old.id] = overlay{patch: all}
	}
	r.settleLocked(old.id)
	s, _ := r.live.load(old.id)
	return s, nil
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
	delete(r.made, s.id)
	if r.exists[s.id] {
		r.overlays[s.id] = overlay{removed: true}
	}
	r.settleLocked(s.id)
	return nil
}

// wantLocked returns what shall be published under id, or nil.
func (r *registry) wantLocked(id string) *service {
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
	t, err := r.naming.patched(s, o.patch)
	if tooLong := err != nil; tooLong != o.warned { // with a part that the container has now
		if tooLong {
			r.log.Warn("name set by the API is left out for now", "container", s.origin.container, "id", id, "err", err)
		}
		r.overlays[id] = overlay{patch: o.patch, warned: tooLong}
	}
	if err != nil {
		o.name, o.image = nil, nil
		t, err = r.naming.patched(s, o.patch)
	}
	if err != nil {
		return s
	}
	return t
}

// settleLocked makes what is published under id what shall be, and logs it.
// New names are stored before old ones go, and a name that stays is swapped
// in one store, so that no query sees a gap.
func (r *registry) settleLocked(id string) {
	old, _ := r.live.load(id)
	s := r.wantLocked(id)
	if s.equal(old) {
		return
	}
	if s != nil {
		r.live.store(id, s)
	}
	r.swapNodesLocked(old, s)
	r.swapAddrsLocked(old, s)
	if s == nil {
		r.live.delete(id)
	}
	r.ser.Add(1)
	switch {
	case old == nil:
		r.log.Info("service added", "id", id, "names", some(s.owners), "addrs", some(s.addrs))
	case s == nil:
		r.log.Info("service removed", "id", id, "names", some(old.owners))
	default:
		r.log.Info("service changed", "id", id, "names", some(s.owners), "addrs", some(s.addrs))
	}
}

// some returns as much of list as fits into a line of the log.
func some[T any](list []T) []T { return list[:min(len(list), 20)] }

func (r *registry) swapNodesLocked(old, s *service) {
	now, before := s.paths(), old.paths()
	for n, isOwner := range now {
		o, ok := r.nodes.load(n)
		if !ok {
			o = &node{}
		}
		var owner *service
		if isOwner {
			owner = s
		}
		r.nodes.store(n, &node{below: swap(o.below, old, s), here: swap(o.here, old, owner)})
	}
	for n := range before {
		if _, ok := now[n]; ok {
			continue
		}
		o, _ := r.nodes.load(n)
		next := &node{below: swap(o.below, old, nil), here: swap(o.here, old, nil)}
		if len(next.below) == 0 {
			r.nodes.delete(n)
		} else {
			r.nodes.store(n, next)
		}
	}
}

func (r *registry) swapAddrsLocked(old, s *service) {
	var now, before []netip.Addr
	if s != nil {
		now = s.addrs
	}
	if old != nil {
		before = old.addrs
	}
	kept := make(map[netip.Addr]bool, len(now))
	for _, a := range now {
		kept[a] = true
		services, _ := r.addrs.load(a)
		r.addrs.store(a, swap(services, old, s))
	}
	for _, a := range before {
		if kept[a] {
			continue
		}
		services, _ := r.addrs.load(a)
		if rest := swap(services, old, nil); len(rest) > 0 {
			r.addrs.store(a, rest)
		} else {
			r.addrs.delete(a)
		}
	}
}

// swap returns list with s in the place of old; appended if old is not in
// it, and nothing in its place if s is nil. It never writes to list.
func swap(list []*service, old, s *service) []*service {
	i := -1
	if old != nil {
		i = slices.Index(list, old)
	}
	switch {
	case i >= 0 && s != nil:
		list = slices.Clone(list)
		list[i] = s
		return list
	case i >= 0:
		return slices.Concat(list[:i], list[i+1:])
	case s != nil:
		return append(slices.Clip(list), s)
	}
	return list
}

// setTTL sets the default TTL in seconds.
func (r *registry) setTTL(ttl uint32) {
	r.ttl.Store(ttl)
	r.ser.Add(1)
}

// A table is a typed sync.Map.
type table[K comparable, V any] struct{ m sync.Map }

func (t *table[K, V]) load(k K) (v V, ok bool) {
	if x, ok := t.m.Load(k); ok {
		return x.(V), true
	}
	return v, false
}

func (t *table[K, V]) store(k K, v V) { t.m.Store(k, v) }

func (t *table[K, V]) delete(k K) { t.m.Delete(k) }

// all iterates as sync.Map.Range does: not a snapshot, but no key twice.
func (t *table[K, V]) all() func(yield func(K, V) bool) {
	return func(yield func(K, V) bool) {
		t.m.Range(func(k, v any) bool { return yield(k.(K), v.(V)) })
	}
}
