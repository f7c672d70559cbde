package main

import (
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/engine"
	"github.com/rayje/dnsdock/internal/feed"
	"github.com/rayje/dnsdock/internal/index"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/watch"
)

// A registry decides what is published: of what engines say and what the API
// did. Writers hold mu.
type registry struct {
	*index.Index
	log  *slog.Logger
	feed *feed.Feed // is told of each change

	mu       sync.Mutex                  // guards what follows, and every change of the index
	found    map[string]*publish.Service // of each container that is known to exist its service as its engine has it, by id; nil if it has none
	made     map[string]*publish.Service // services made by hand
	overlays map[string]overlay          // what the API did to containers' services, by container id
	engines  map[string]*engineState
	version  uint64 // grows with each change by the API
	ttlSet   bool   // ttl is from the API

	save func() error // keeps what the API did on disk; nil: nothing does. Read-only after start
}

// An engineState says how far the containers of an engine are known.
type engineState struct {
	zone   dnsname.Name // of its containers
	listed bool         // its first list is published
	up     bool         // it answers
	tried  bool         // it was found or lost before
}

// An overlay is what the API did to a container's service. It holds for as
// long as the container exists.
type overlay struct {
	publish.Patch
	removed bool
	warned  bool // that its name is left out for now
}

var _ watch.Sink = (*registry)(nil)

var (
	errNotFound     = errors.New("no such service")
	errAmbiguous    = errors.New("several containers' ids begin so: write more digits")
	errNotPublished = errors.New("the container of this id is not published: it does not run, is ignored, or has no address of its own; choose another id")
)

// newRegistry returns an empty registry with a default TTL in seconds. Zones
// are those of engines with a domain of their own.
func newRegistry(n publish.NameRules, ttl uint32, log *slog.Logger, zones ...dnsname.Name) *registry {
	return &registry{
		Index:    index.New(n, ttl, zones...),
		log:      log,
		feed:     feed.New(),
		found:    make(map[string]*publish.Service),
		made:     make(map[string]*publish.Service),
		overlays: make(map[string]overlay),
		engines:  make(map[string]*engineState),
	}
}

// addEngine makes a zone wait for an engine.
func (r *registry) addEngine(engine string, zone dnsname.Name) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.engines[engine] = &engineState{zone: zone}
	r.Away.Add(1)
}

// Listed implements watch.Sink. It drops what the API did to containers of the
// engine that do not exist any more.
func (r *registry) Listed(engine string, isGone func(id string) bool) {
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

// SetEngine implements watch.Sink.
func (r *registry) SetEngine(s engine.Status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.engines[s.URL]
	if e == nil {
		return
	}
	switch {
	case s.Up && !e.up:
		r.Away.Add(-1)
	case !s.Up && e.up:
		r.Away.Add(1)
	}
	e.up, e.tried = s.Up, true
	r.settleZonesLocked()
	if s.Up {
		r.feed.Publish("engine-found", "", s)
	} else {
		r.feed.Publish("engine-lost", "", s)
	}
}

// settleZonesLocked finds the zones that wait no more: an engine of theirs has
// told what it has, and each other one has too, or is away.
func (r *registry) settleZonesLocked() {
	listed, waits := make(map[dnsname.Name]bool), make(map[dnsname.Name]bool)
	anyListed, anyWaits := false, false
	for _, e := range r.engines {
		anyListed, anyWaits = anyListed || e.listed, anyWaits || !e.listed && !(e.tried && !e.up)
		listed[e.zone] = listed[e.zone] || e.listed
		waits[e.zone] = waits[e.zone] || !e.listed && !(e.tried && !e.up)
	}
	if anyListed && !anyWaits {
		r.Known.Store(true)
	}
	all := true
	for _, zone := range r.Zones {
		_, isWaiting := waits[zone]
		done := !isWaiting || !waits[zone] && listed[zone] // one without an engine has what is made by hand
		if done {
			r.Settled.Store(zone, true)
		}
		all = all && done
	}
	if all {
		r.Ready.Store(true)
	}
}

// Put implements watch.Sink: it publishes a container's service as its engine has it now. A nil
// service says that the container exists but is not published.
func (r *registry) Put(id string, s *publish.Service) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old := r.found[id]; old == nil || !old.Equal(s) { // else one of the two would be kept for nothing
		r.found[id] = s
	}
	r.settleLocked(id, true)
}

// Forget implements watch.Sink: it withdraws the service of a container that does not exist any more,
// and drops what the API did to it.
func (r *registry) Forget(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.found, id)
	delete(r.overlays, id)
	r.settleLocked(id, true)
}

// Endpoints implements watch.Sink: it returns the addresses that the container's engine gave last.
func (r *registry) Endpoints(id string) []publish.Endpoint {
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
	if s := r.Published().Get(id); s != nil {
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
	had := r.Published().Get(id) != nil
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
	return r.Published().Get(old.ID), nil
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
func (r *registry) namingOf(s *publish.Service) publish.NameRules {
	n := r.Rules
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
	old := r.Published().Get(id)
	s := r.wantLocked(id)
	if s.Equal(old) {
		return
	}
	var alone *index.Set // of s; the sets that have no other share it
	if s != nil {
		alone = index.Singleton(s)
	}
	r.SwapNamesLocked(old, alone)
	r.SwapAddrsLocked(old, alone)
	r.NoteRemovedLocked(old, s, died)
	r.Serial.Add(1)
	switch {
	case old == nil:
		r.feed.Publish("service-added", id, s)
		r.log.Info("service added", "id", id, "names", publish.FirstFew(s.OwnerNames), "addrs", publish.AddrTexts(publish.FirstFew(s.Addrs)))
	case s == nil:
		r.feed.Publish("service-removed", id, old)
		r.log.Info("service removed", "id", id, "names", publish.FirstFew(old.OwnerNames))
	default:
		r.feed.Publish("service-changed", id, s)
		r.log.Info("service changed", "id", id, "names", publish.FirstFew(s.OwnerNames), "addrs", publish.AddrTexts(publish.FirstFew(s.Addrs)))
	}
}

// setTTL sets the default TTL in seconds.
func (r *registry) setTTL(ttl uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.version++
	r.ttlSet = true
	r.TTL.Store(ttl)
	r.Hot.Epoch.Add(1)
	r.Serial.Add(1)
	r.feed.Publish("ttl-changed", "", ttl)
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
