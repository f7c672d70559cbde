package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/engine"
	"github.com/rayje/dnsdock/internal/feed"
	"github.com/rayje/dnsdock/internal/index"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/watch"
)

// A registry decides what is published under each ID: from what engines say and
// from what the API changed. It alone writes to the index.
type registry struct {
	names   publish.NameRules
	index   *index.Index
	feed    *feed.Feed // gets each change
	log     *slog.Logger
	save    func() error // writes what the API changed to disk; nil: it is not kept. Read-only after start
	dropped func()       // is called with mu held after a change by the API was dropped. Read-only after start

	// services holds by ID a *held or, where an engine says all and to save memory,
	// the *publish.Service. Readers never lock; see held.
	services sync.Map

	mu      sync.Mutex              // guards what follows, and each change of services and index; see unlock
	engines map[string]*engineState // by URL
	version uint64                  // grows with each change by the API
	ttlSet  bool                    // the API set the default TTL
	made    int                     // services made by hand
	kept    bool                    // the state file had some
	lines   []func()                // each writes a line of the log

	gateways gateways
}

// maxMade bounds the memory that services made by hand take: 10,000 take 20 MB.
const maxMade = 10000

// gateways caches the addresses by which containers reach the host.
type gateways struct {
	changes atomic.Uint64 // grows with each change of what engines say

	mu  sync.Mutex // guards what follows
	at  uint64     // the value of changes when all was read
	all map[netip.Addr]bool
}

// A held value is all that is known under one ID. It is never written again
// once it is stored.
type held struct {
	exists     bool             // an engine has a container with this ID
	fromEngine *publish.Service // what that container publishes by itself; nil: nothing
	fromAPI    *publish.Service // a service made by hand; nil: there is none
	change     *change          // what the API changed of the container's service; nil: nothing
	tooLong    bool             // the name that the API set is left out for now, and that was logged
	published  *publish.Service // what follows from all this; nil: nothing
}

// A change is what the API changed of a container's service. It holds for as
// long as the container exists.
type change struct {
	publish.Patch
	removed bool // nothing is published
}

// An engineState says how far the containers of an engine are known.
type engineState struct {
	zone   dnsname.Name // in which its containers are named
	tried  bool         // it was found, or found to be away
	up     bool         // it answers
	listed bool         // the containers of its first list are published
	known  bool         // so are those of a list since it was found last
}

var (
	errNotFound     = errors.New("no such service")
	errTooManyMade  = fmt.Errorf("there are %d services made by hand, and no more can be: delete some", maxMade)
	errAmbiguous    = errors.New("several containers' ids begin so: write more digits")
	errNotPublished = errors.New("the container of this id is not published: " +
		"it does not run, is ignored, or has no address of its own; choose another id")
)

// newRegistry returns an empty registry with a default TTL in seconds. Zones
// are the domains that single engines have.
func newRegistry(names publish.NameRules, ttl uint32, log *slog.Logger, zones ...dnsname.Name) *registry {
	return &registry{
		names:   names,
		index:   index.New(names, ttl, zones...),
		feed:    feed.New(),
		log:     log,
		engines: make(map[string]*engineState),
		dropped: func() {},
	}
}

// unlock unlocks mu and writes the lines of the log that came up under it:
// whoever reads the log may be slow, and must not stop others.
func (r *registry) unlock() {
	lines := r.lines
	r.lines = nil
	r.mu.Unlock()
	for _, write := range lines {
		write()
	}
}

func (r *registry) logLocked(level slog.Level, msg string, args ...any) {
	r.lines = append(r.lines, func() { r.log.Log(context.Background(), level, msg, args...) })
}

// held returns a copy of what is known under an ID.
func (r *registry) held(id string) held {
	v, _ := r.services.Load(id)
	return heldOf(v)
}

// heldOf returns what a value of services says.
func heldOf(v any) held {
	switch v := v.(type) {
	case *held:
		return *v
	case *publish.Service:
		return held{exists: true, fromEngine: v, published: v}
	}
	return held{}
}

// everything iterates over what is known, by ID.
func (r *registry) everything(yield func(id string, h held) bool) {
	r.services.Range(func(id, v any) bool { return yield(id.(string), heldOf(v)) })
}

// all returns what is published, sorted by ID.
func (r *registry) all() iter.Seq[*publish.Service] {
	var list []*publish.Service
	for _, h := range r.everything {
		if h.published != nil {
			list = append(list, h.published)
		}
	}
	slices.SortFunc(list, func(a, b *publish.Service) int { return cmp.Compare(a.ID, b.ID) })
	return slices.Values(list)
}

// lookup returns what is published under an ID, which may be shortened if it is
// a container's. Errors: errNotFound, errAmbiguous.
func (r *registry) lookup(id string) (*publish.Service, error) {
	id, err := r.fullID(id)
	if err != nil {
		return nil, err
	}
	if s := r.held(id).published; s != nil {
		return s, nil
	}
	return nil, errNotFound
}

// minIDDigits is the length from which a text may be a shortened ID.
const minIDDigits = 4

// fullID completes the shortened ID of a container. It returns any other text
// unchanged.
func (r *registry) fullID(id string) (string, error) {
	if h := r.held(id); h.exists || h.fromAPI != nil || !publish.IsHex(id, minIDDigits) {
		return id, nil
	}
	full := id
	for c, h := range r.everything {
		if !h.exists || !strings.HasPrefix(c, id) {
			continue
		}
		if full != id {
			return "", errAmbiguous
		}
		full = c
	}
	return full, nil
}

// addEngine adds an engine whose containers are named in zone.
func (r *registry) addEngine(url string, zone dnsname.Name) {
	r.mu.Lock()
	defer r.unlock()
	r.engines[url] = &engineState{zone: zone}
	r.updateZonesLocked()
}

var _ watch.Sink = (*registry)(nil)

// SetEngine implements watch.Sink.
func (r *registry) SetEngine(s engine.Status) {
	r.mu.Lock()
	defer r.unlock()
	e := r.engines[s.URL]
	e.tried, e.up, e.known = true, s.Up, e.known && s.Up
	r.updateZonesLocked()
	r.feed.PublishState("engine", s.Up, s)
}

// Listed implements watch.Sink. It drops what the API changed of those
// containers of the engine that do not exist any more.
func (r *registry) Listed(url string, isGone func(id string) bool) {
	r.mu.Lock()
	defer r.unlock()
	for id, h := range r.everything {
		if h.change != nil && !h.exists && isGone(id) {
			h.change = nil
			r.applyLocked(id, h, false)
		}
	}
	e := r.engines[url]
	e.listed, e.known = true, true
	r.updateZonesLocked()
}

// updateZonesLocked tells the index how far each zone is known.
func (r *registry) updateZonesLocked() {
	zones := make(map[dnsname.Name]index.Zone)
	away := 0
	for _, e := range r.engines {
		z := zones[e.zone]
		z.HasEngine, z.Kept = true, r.kept
		z.Listed = z.Listed || e.listed
		z.Waits = z.Waits || !e.listed && (e.up || !e.tried)
		z.Unknown = z.Unknown || !e.known
		zones[e.zone] = z
		if !e.up {
			away++
		}
	}
	r.index.SetZones(zones, away)
}

// Put implements watch.Sink.
func (r *registry) Put(id string, s *publish.Service) {
	r.mu.Lock()
	defer r.unlock()
	h := r.held(id)
	if !h.fromEngine.Equal(s) { // else two equal services would be kept
		h.fromEngine = s
	}
	h.exists = true
	r.applyLocked(id, h, true)
}

// Forget implements watch.Sink. It drops what the API changed of the container.
func (r *registry) Forget(id string) {
	r.mu.Lock()
	defer r.unlock()
	r.applyLocked(id, held{fromAPI: r.held(id).fromAPI}, true)
}

// Endpoints implements watch.Sink.
func (r *registry) Endpoints(id string) []publish.Endpoint {
	if s := r.held(id).fromEngine; s != nil {
		return s.Endpoints()
	}
	return nil
}

// set publishes what p says, all properties of which must be set. If id is a
// container's, that holds for as long as the container exists; else it is a
// service made by hand. Errors: errAmbiguous, errNotPublished, errTooManyMade,
// or what can't be used.
func (r *registry) set(id string, p publish.Patch, now time.Time) (s *publish.Service, isNew bool, err error) {
	r.mu.Lock()
	defer r.unlock()
	id, err = r.fullID(id)
	if err != nil {
		return nil, false, err
	}
	h := r.held(id)
	isNew = h.published == nil
	switch {
	case h.fromAPI == nil && h.exists && h.fromEngine == nil: // a container that died meanwhile does not come back
		return nil, false, errNotPublished
	case h.fromAPI == nil && h.exists:
		s, err = r.namesOf(h.fromEngine).Patched(h.fromEngine, p)
		h.change = &change{Patch: p}
	default:
		if h.fromAPI == nil && r.made >= maxMade {
			return nil, false, errTooManyMade
		}
		base := &publish.Service{ID: id, Extras: new(publish.Extras)}
		base.Origin.Since = now.UTC().Truncate(time.Second)
		if h.fromAPI != nil {
			base.Origin.Since = h.fromAPI.Origin.Since
		}
		s, err = r.names.Patched(base, p)
		h.fromAPI = s
	}
	if err != nil {
		return nil, false, err
	}
	r.version++
	r.applyLocked(id, h, false)
	return s, isNew, nil
}

// update changes the service that id names by p. Errors: errNotFound,
// errAmbiguous, or what can't be used.
func (r *registry) update(id string, p publish.Patch) (*publish.Service, error) {
	r.mu.Lock()
	defer r.unlock()
	old, err := r.lookup(id)
	if err != nil {
		return nil, err
	}
	h := r.held(old.ID)
	if h.fromAPI != nil {
		if h.fromAPI, err = r.names.Patched(h.fromAPI, p); err != nil {
			return nil, err
		}
	} else {
		setsName := p.Name != nil || p.Image != nil // else a name that is left out for now is no reason to refuse p
		if h.change != nil {
			p = h.change.Over(p)
		}
		_, err := r.namesOf(h.fromEngine).Patched(h.fromEngine, p)
		if errors.Is(err, publish.ErrNoAddress) || errors.Is(err, publish.ErrNotOurs) || err != nil && setsName {
			return nil, err
		}
		h.change = &change{Patch: p}
	}
	r.version++
	r.applyLocked(old.ID, h, false)
	return r.held(old.ID).published, nil
}

// remove withdraws the service that id names. A container's does not come back
// for as long as the container exists. Errors: errNotFound, errAmbiguous.
func (r *registry) remove(id string) error {
	r.mu.Lock()
	defer r.unlock()
	s, err := r.lookup(id)
	if err != nil {
		return err
	}
	h := r.held(s.ID)
	h.fromAPI = nil
	if h.exists {
		h.change = &change{removed: true}
	}
	r.version++
	r.applyLocked(s.ID, h, false)
	return nil
}

// namesOf returns the rules by which s is named: in the zone of its engine.
func (r *registry) namesOf(s *publish.Service) publish.NameRules {
	n := r.names
	if e := r.engines[s.Origin.Engine]; e != nil {
		n.Apex = e.zone
	}
	return n
}

// desiredLocked returns what is to be published of h, nil for nothing. The
// error says that a name which the API set can't be, with a part that the
// container has now, and is left out.
func (r *registry) desiredLocked(h held) (*publish.Service, error) {
	switch {
	case h.fromAPI != nil:
		return h.fromAPI, nil
	case h.fromEngine == nil || h.change != nil && h.change.removed:
		return nil, nil
	case h.change == nil:
		return h.fromEngine, nil
	}
	names, p := r.namesOf(h.fromEngine), h.change.Patch
	s, err := names.Patched(h.fromEngine, p)
	if err == nil {
		return s, nil
	}
	p.Name, p.Image = nil, nil
	if s, e := names.Patched(h.fromEngine, p); e == nil {
		return s, err
	}
	return h.fromEngine, err
}

// applyLocked stores h under id and publishes what follows from it. Died says
// that what is no longer published went because its container did.
func (r *registry) applyLocked(id string, h held, died bool) {
	was := r.held(id)
	old := was.published
	if was.fromEngine != h.fromEngine {
		r.gateways.changes.Add(1)
	}
	if h.fromAPI != nil && was.fromAPI == nil {
		r.made++
	} else if h.fromAPI == nil && was.fromAPI != nil {
		r.made--
	}
	if was.change != nil && h.change == nil { // it went with its container
		r.version++
		r.dropped()
	}
	s, err := r.desiredLocked(h)
	if s.Equal(old) {
		s = old
	}
	if err != nil && !h.tooLong {
		r.logLocked(slog.LevelWarn, "name set by the API is left out for now",
			"container", h.fromEngine.Origin.Container, "id", id, "err", err)
	}
	if h.fromEngine != nil {
		h.tooLong = err != nil
	}
	h.published = s
	if s != old {
		r.index.Replace(old, s, died)
	}
	switch h {
	case held{}:
		r.services.Delete(id)
	case heldOf(s):
		r.services.Store(id, s)
	default:
		r.services.Store(id, &h)
	}
	if s != old {
		r.tellLocked(id, old, s)
	}
}

// isGateway reports whether a is the gateway of a network that a container is on. That is the host,
// as containers and their published ports see it.
func (r *registry) isGateway(a netip.Addr) bool {
	g := &r.gateways
	g.mu.Lock()
	defer g.mu.Unlock()
	if now := g.changes.Load(); g.all == nil || g.at != now {
		g.at, g.all = now, make(map[netip.Addr]bool)
		for _, h := range r.everything {
			if h.fromEngine == nil {
				continue
			}
			for _, e := range h.fromEngine.Endpoints() {
				for _, a := range e.HostAddrs() {
					g.all[a] = true
				}
			}
		}
	}
	return g.all[a]
}

// tellLocked tells those who listen, and the log, that s is published under id
// instead of old.
func (r *registry) tellLocked(id string, old, s *publish.Service) {
	what, about := "changed", s
	switch {
	case old == nil:
		what = "added"
	case s == nil:
		what, about = "removed", old
	}
	r.feed.Publish("service-"+what, id, about)
	facts := []any{"id", id, "names", publish.FirstFew(about.MainNames())}
	if s != nil {
		facts = append(facts, "addrs", publish.AddrTexts(publish.FirstFew(s.Addrs)))
	}
	r.logLocked(slog.LevelInfo, "service "+what, facts...)
}

// setTTL sets the default TTL in seconds.
func (r *registry) setTTL(ttl uint32) {
	r.mu.Lock()
	defer r.unlock()
	r.version++
	r.ttlSet = true
	r.index.SetTTL(ttl)
	r.feed.Publish("ttl-changed", "", ttl)
}

// apiVersion returns a number that grows with each change by the API.
func (r *registry) apiVersion() uint64 {
	r.mu.Lock()
	defer r.unlock()
	return r.version
}
