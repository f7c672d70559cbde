package watch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/engine"
	"github.com/rayje/dnsdock/internal/publish"
)

// A fakeEngine answers as an engine does, and misbehaves on demand. What a test
// sets in it is set in update.
type fakeEngine struct {
	mu         sync.Mutex
	containers map[string]*fakeContainer
	streams    map[*fakeStream]bool
	calls      map[string]int           // by the name of the method
	machine    netip.Addr               // at which it was reached; not valid: this one
	down       bool                     // it refuses connections
	downErr    error                    // the error for that; nil: any
	quiet      bool                     // it drops its events without a word
	hang       chan struct{}            // if not nil, calls wait until it is closed
	internal   []string                 // the internal networks; nil: Networks is refused
	images     map[string]publish.Baked // what images set, by ID; the others set nothing
	noImages   bool                     // Image is refused
	bridge     map[string]netip.Addr    // addresses on the bridge, by ID; nil: GatewayBridge is refused
	fakeSwarm

	fakeHooks
}

type fakeHooks struct {
	list    func(ctx context.Context) error            // if not nil, and it returns an error, List does so
	inspect func(ctx context.Context, id string) error // the same for Inspect
}

type fakeContainer struct {
	name, image, state string
	addr               string // IPv4 in the network bridge
	env                map[string]string
	networks           map[string]fakeEndpoint // further ones
	shares             string                  // the container whose network it has
	host               bool                    // it has the host's network
	sick               bool
	labels             map[string]string
	restarts           bool // it has a restart policy
	bindings           []publish.Binding
}

type fakeEndpoint struct{ id, addrs string }

func newFakeEngine() *fakeEngine {
	return &fakeEngine{
		containers: make(map[string]*fakeContainer),
		streams:    make(map[*fakeStream]bool),
		calls:      make(map[string]int),
	}
}

// fakeID makes the ID of 64 digits that begins with prefix.
func fakeID(prefix string) string { return prefix + strings.Repeat("0", 64-len(prefix)) }

// start makes a container running, or changes one, and sends its event.
func (e *fakeEngine) start(prefix, name, addr string, env ...string) {
	c := &fakeContainer{name: name, image: "redis:7", state: "running", addr: addr, env: make(map[string]string)}
	for _, kv := range env {
		k, v, _ := strings.Cut(kv, "=")
		c.env[k] = v
	}
	e.set(prefix, c)
	e.event("start", fakeID(prefix))
}

func (e *fakeEngine) set(prefix string, c *fakeContainer) {
	e.update(func() { e.containers[fakeID(prefix)] = c })
}

// setState changes the state, and takes the address of what does not run.
func (e *fakeEngine) setState(prefix, state string) {
	e.update(func() {
		c := *e.containers[fakeID(prefix)]
		if c.state = state; state == "exited" {
			c.addr = ""
		}
		e.containers[fakeID(prefix)] = &c
	})
}

func (e *fakeEngine) destroy(prefix string) {
	e.update(func() { delete(e.containers, fakeID(prefix)) })
	e.event("destroy", fakeID(prefix))
}

func (e *fakeEngine) event(action, id string) {
	e.send(Event{Type: "container", Action: action, Container: id})
}

func (e *fakeEngine) send(event Event) {
	e.update(func() {
		for s := range e.streams {
			if !e.quiet {
				s.events <- event
			}
		}
	})
}

// endStreams ends all event streams.
func (e *fakeEngine) endStreams() {
	e.update(func() {
		for s := range e.streams {
			close(s.events)
			delete(e.streams, s)
		}
	})
}

// setDown ends all connections and refuses new ones, or accepts again.
func (e *fakeEngine) setDown(down bool) {
	e.update(func() { e.down = down })
	if down {
		e.endStreams()
	}
}

// update changes the engine under its lock.
func (e *fakeEngine) update(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f()
}

func (e *fakeEngine) count(calls ...string) (n int) {
	e.update(func() {
		for _, c := range calls {
			n += e.calls[c]
		}
	})
	return n
}

// enter begins each call, and ends it with an error as a client does.
func (e *fakeEngine) enter(ctx context.Context, call string) error {
	e.mu.Lock()
	e.calls[call]++
	down, hang := e.down, e.hang
	e.mu.Unlock()
	if down {
		return cmp.Or(e.downErr, errors.New("connection refused"))
	}
	if hang == nil {
		return ctx.Err()
	}
	select {
	case <-hang:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(CallTimeout):
		return errors.New("no answer in time")
	}
}

func (e *fakeEngine) List(ctx context.Context, each func(id string, f Fingerprint)) error {
	if err := e.enter(ctx, "List"); err != nil {
		return err
	}
	e.mu.Lock()
	hook := e.list
	e.mu.Unlock()
	if hook != nil {
		if err := hook(ctx); err != nil {
			return err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, c := range e.containers {
		each(id, c.container(id).Fingerprint)
	}
	return nil
}

func (e *fakeEngine) Inspect(ctx context.Context, ref string) (*Container, error) {
	if err := e.enter(ctx, "Inspect"); err != nil {
		return nil, err
	}
	e.mu.Lock()
	hook := e.inspect
	e.mu.Unlock()
	if hook != nil {
		if err := hook(ctx, ref); err != nil {
			return nil, err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, c := range e.containers {
		if id == ref || c.name == ref {
			return c.container(id), nil
		}
	}
	return nil, ErrGone
}

func (e *fakeEngine) GatewayBridge(ctx context.Context) (map[string]netip.Addr, error) {
	if err := e.enter(ctx, "GatewayBridge"); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.bridge == nil {
		return nil, fmt.Errorf("inspect network: %w", ErrRefused)
	}
	return e.bridge, nil
}

func (e *fakeEngine) Machine() netip.Addr { return e.machine }

func (e *fakeEngine) Networks(ctx context.Context) (n Networks, err error) {
	if err := e.enter(ctx, "Networks"); err != nil {
		return n, err
	}
	if e.internal == nil {
		return n, fmt.Errorf("list networks: %w", ErrRefused)
	}
	all := map[string]NetworkKind{"id-mesh": Ingress, "mesh": Ingress, "id-lan": Routed, "lan": Routed}
	for _, name := range e.internal {
		all["id-"+name], all[name] = Internal, Internal
	}
	return Networks{Kinds: all, Subnets: []netip.Prefix{netip.MustParsePrefix("172.17.0.0/16")}, Overlays: e.overlays}, nil
}

func (e *fakeEngine) Image(ctx context.Context, id string) (publish.Baked, error) {
	if err := e.enter(ctx, "Image"); err != nil {
		return publish.Baked{}, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.noImages {
		return publish.Baked{}, fmt.Errorf("inspect image: %w", ErrRefused)
	}
	return e.images[id], nil
}

// container returns what a client makes of c.
func (c *fakeContainer) container(id string) *Container {
	networks := []publish.Endpoint{newEndpoint("bridge", c.addr)}
	ids := make(map[string]string)
	for _, name := range publish.SortedKeys(c.networks) {
		networks = append(networks, newEndpoint(name, c.networks[name].addrs))
		ids[name] = c.networks[name].id
	}
	if c.shares != "" {
		networks = nil
	}
	p := &publish.Container{
		ID: id, Name: c.name, Image: c.image, ImageID: "sha256:01", State: c.state, Sick: c.sick,
		Env: c.env, Labels: c.labels, Networks: slices.Clone(networks), Borrowed: publish.Borrowed{Shares: c.shares},
	}
	if c.host {
		p.Networks = []publish.Endpoint{publish.HostNetwork()}
	}
	var ports []publish.PublishedPort
	for _, b := range c.bindings {
		ports = append(ports, b.PublishedPort)
	}
	return &Container{
		Container: p, NetworkIDs: ids, Restarts: c.restarts, Bindings: c.bindings,
		Fingerprint: NewFingerprint(c.name, c.state, c.sick, networks, ports),
	}
}

func newEndpoint(network, addrs string) publish.Endpoint {
	e := publish.Endpoint{Network: publish.Network{Name: network}}
	for text := range strings.FieldsSeq(addrs) {
		e.Addrs = append(e.Addrs, netip.MustParseAddr(text))
	}
	return e
}

type fakeStream struct {
	ctx    context.Context
	events chan Event
}

func (e *fakeEngine) Connect(ctx context.Context) (string, Stream, error) {
	if err := e.enter(ctx, "Connect"); err != nil {
		return "", nil, err
	}
	s := &fakeStream{ctx, make(chan Event, 1024)}
	e.update(func() { e.streams[s] = true })
	context.AfterFunc(ctx, func() { e.update(func() { delete(e.streams, s) }) })
	return "1.41", s, nil
}

func (s *fakeStream) Next() (Event, error) {
	select {
	case <-s.ctx.Done():
		return Event{}, s.ctx.Err()
	case e, ok := <-s.events:
		if !ok {
			return Event{}, io.ErrUnexpectedEOF
		}
		if e == (Event{Type: "garbage"}) {
			return Event{}, errors.New("no event")
		}
		return e, nil
	}
}

func (s *fakeStream) Close() {}

// A fakeSink holds what was put, and answers names by the linear rule: label by
// label from the right, the shorter name decides.
type fakeSink struct {
	mu       sync.Mutex
	services map[string]*publish.Service // by ID; nil for a container that publishes nothing
	listed   bool
	news     []string // "found" and "lost"
	gone     []string // IDs that were forgotten
	guests   map[netip.Addr][]netip.Addr
	puts     int
	isShared bool // by several engines, of which one may not have been asked yet
}

func (k *fakeSink) Put(id string, s *publish.Service) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if s != nil && s.ID != id {
		panic(fmt.Sprintf("put %s under %s", s.ID, id))
	}
	k.services[id] = s
	k.puts++
}

func (k *fakeSink) setGuests(_ string, guests map[netip.Addr][]netip.Addr) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.guests = guests
}

func (k *fakeSink) Forget(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.services, id)
	k.gone = append(k.gone, id)
}

func (k *fakeSink) Endpoints(id string) []publish.Endpoint {
	k.mu.Lock()
	defer k.mu.Unlock()
	if s := k.services[id]; s != nil {
		return s.Endpoints()
	}
	return nil
}

func (k *fakeSink) SetEngine(s engine.Status) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.news = append(k.news, map[bool]string{true: "found", false: "lost"}[s.Up])
}

func (k *fakeSink) Listed(_ string, isGone func(string) bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.listed = true
	for id := range k.services {
		if isGone(id) {
			panic(id + " was put and is gone")
		}
	}
	if !isGone(fakeID("dead")) && !k.isShared || isGone(fakeID("dead")+"@other") {
		panic("isGone knows more than the engine has")
	}
}

func (k *fakeSink) isListed() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.listed
}

// answer returns the addresses of qname, IPv4 first and then in order, with
// spaces between. Those of sick containers are left out if there are others.
func (k *fakeSink) answer(qname string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	found := map[bool]map[netip.Addr]bool{true: {}, false: {}} // by whether the container is sick
	for _, s := range k.services {
		if s == nil || !slices.ContainsFunc(s.OwnerNames, func(o dnsname.Name) bool { return matches(qname, o) }) {
			continue
		}
		addrs, _ := s.AddrsFor(netip.Addr{})
		for _, a := range addrs {
			found[s.Sick][a] = true
		}
	}
	best := found[false]
	if len(best) == 0 {
		best = found[true]
	}
	return strings.Join(publish.AddrTexts(slices.SortedFunc(maps.Keys(best), netip.Addr.Compare)), " ")
}

// A watched engine is one that a Watcher follows in simulated time.
type watched struct {
	*testing.T
	engine  *fakeEngine
	sink    *fakeSink
	log     *dnstest.Log
	watcher *Watcher
}

// inBubble runs f while a Watcher follows a fake engine. Up says whether the
// engine answers from the beginning.
func inBubble(t *testing.T, n publish.NameRules, up bool, f func(w *watched)) {
	inBubbleOf(t, n, up, true, f)
}

// inBubbleOf is inBubble, with -swarm or without.
func inBubbleOf(t *testing.T, n publish.NameRules, up, isSwarm bool, f func(w *watched)) {
	synctest.Test(t, func(t *testing.T) {
		w := &watched{
			T: t, engine: newFakeEngine(), log: dnstest.NewLog(),
			sink: &fakeSink{services: make(map[string]*publish.Service)},
		}
		w.engine.setDown(!up)
		n.Apex = "\x06docker\x00"
		swarms := NewSwarms(w.sink, w.sink.setSwarm)
		cfg := Config{URL: "fake", Naming: n, Swarms: swarms, SetGuests: w.sink.setGuests}
		if !isSwarm {
			cfg.Swarms = nil
		}
		w.watcher = New(w.engine, cfg, w.sink, slog.New(slog.DiscardHandler))
		w.watcher.log = slog.New(dnstest.Unlocked(t, w.log,
			&w.watcher.queue.mu, &w.watcher.followers.mu, &w.watcher.networks.mu, &w.watcher.images.mu,
			&w.watcher.problems.mu, &w.watcher.networks.bridge.mu, &swarms.mu, &swarms.problems.mu))
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := w.watcher.Run(ctx); err != nil {
				t.Errorf("Run: %v", err)
			}
		})
		f(w)
		cancel()
		wg.Wait()
	})
}

// want checks that qname answers want once everything has settled.
func (w *watched) want(qname, want string) {
	w.Helper()
	synctest.Wait()
	if got := w.sink.answer(qname); got != want {
		w.Errorf("%s: %q; want %q", qname, got, want)
	}
}

// wantWithin waits for at most d of simulated time until qname answers want.
func (w *watched) wantWithin(d time.Duration, qname, want string) {
	w.Helper()
	begun := time.Now()
	for time.Since(begun) < d {
		synctest.Wait()
		if w.sink.answer(qname) == want {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	w.want(qname, want)
}

// wantNoInspects checks that five idle minutes need none.
func (w *watched) wantNoInspects() {
	w.Helper()
	before := w.engine.count("Inspect")
	time.Sleep(5 * time.Minute)
	synctest.Wait()
	if after := w.engine.count("Inspect"); after != before {
		w.Errorf("%d inspects in five idle minutes; want none", after-before)
	}
}
