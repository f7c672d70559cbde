package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rayje/dnsdock/internal/engine"
	"github.com/rayje/dnsdock/internal/publish"
)

const (
	// CallTimeout is the time for one answer of the engine. A busy engine needs
	// seconds to list 10,000 containers.
	CallTimeout = 10 * time.Second

	// ResyncPeriod is the time between two lists. With CallTimeout it is below
	// the 45 s within which a lost event must be made good.
	ResyncPeriod = 30 * time.Second

	// MaxInspects is the number of inspects that run at the same time. More
	// would only wait for each other in the engine.
	MaxInspects = 4

	retryPeriod = 2 * time.Second // from a failed inspect to the next list
	minBackoff  = 100 * time.Millisecond
	maxBackoff  = time.Second // a dial of a local socket costs nothing, and users wait for what comes after it

	// longLived is the age of a stream whose end needs no pause and no line of
	// the log: the engine restarted, or a proxy cut an idle connection.
	longLived = 5 * time.Second
)

// A Config says what a Watcher makes of an engine's containers.
type Config struct {
	URL    string            // of the engine, as configured
	Naming publish.NameRules // must not change any more

	// Swarms joins the tasks of swarms; nil: they are ordinary containers.
	Swarms *Swarms

	// Published makes clients on no network of a container reach it by the ports
	// that it publishes. Clients of an engine elsewhere always do.
	Published bool

	// SetGuests is told by which addresses those clients of an engine are known that
	// are on networks of several machines, by the address that their queries come from.
	SetGuests func(engine string, guests map[netip.Addr][]netip.Addr)

	// Labels are KEY or KEY=VALUE. Only containers that have all of them are published.
	Labels []string

	// Self is the ID of the container that dnsdock runs in; empty if it runs in none.
	Self string

	// Suffix is added to the IDs of the containers. All engines but the first
	// need one, because cloned machines have the same IDs.
	Suffix string
}

// A Watcher keeps a Sink at what one engine says. Events and lists are only
// hints that a container may have changed: reconcile inspects it and goes by
// its state. So lost, repeated, late and reordered events all end at the truth.
type Watcher struct {
	Config
	engine Engine
	sink   Sink
	log    *slog.Logger

	status atomic.Pointer[engine.Status] // without the counts; Since is zero before the first try
	counts struct{ events, resyncs atomic.Uint64 }

	queue     *queue
	followers followers
	networks  networks
	images    images
	problems  problems
	self      self    // used by Run, and by the first list of a session
	member    *member // of Swarms; nil: there are none

	resyncNow  chan struct{} // of capacity 1: list at once
	resyncSoon chan struct{} // of capacity 1: list within retryPeriod
}

// New returns a Watcher that fills sink from the engine e.
func New(e Engine, cfg Config, sink Sink, log *slog.Logger) *Watcher {
	w := &Watcher{
		Config:     cfg,
		engine:     e,
		sink:       sink,
		log:        log.With("engine", cfg.URL),
		queue:      newQueue(),
		resyncNow:  make(chan struct{}, 1),
		resyncSoon: make(chan struct{}, 1),
	}
	w.networks.bridge.changed = make(chan struct{}, 1)
	w.status.Store(&engine.Status{URL: cfg.URL})
	if cfg.Swarms != nil {
		w.member = cfg.Swarms.join(w)
	}
	return w
}

// Resync has all containers listed at once.
func (w *Watcher) Resync() { wakeUp(w.resyncNow) }

// Run watches until ctx is done, and returns nil. An engine that is away does
// not end it, and changes nothing that is published. Run returns an error if
// only a restart of dnsdock can find the engine again, and the engine will see
// to that.
func (w *Watcher) Run(ctx context.Context) error {
	backoff := minBackoff
	for {
		lived, err := w.session(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case lived >= longLived:
			w.log.Debug("engine lost", "err", err)
			backoff = minBackoff
			continue
		}
		w.setStatus("", err)
		if err := w.giveUp(err); err != nil {
			return err
		}
		w.log.Debug("no connection to the engine", "err", err, "retry", backoff)
		select {
		case <-ctx.Done():
		case <-time.After(backoff/2 + rand.N(backoff/2)):
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// session connects and works until the engine is lost. It returns how long that
// went well, and always an error.
func (w *Watcher) session(ctx context.Context) (lived time.Duration, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	version, stream, err := w.engine.Connect(ctx)
	if err != nil {
		return 0, err
	}
	defer stream.Close()
	w.queue.begin()
	w.networks.begin()
	var synced time.Time // when the first list was read
	var wg sync.WaitGroup
	wg.Go(func() { cancel(w.read(stream)) })
	wg.Go(func() { w.followBridge(ctx) })
	if w.member != nil {
		wg.Go(func() { w.member.follow(ctx) })
	}
	wg.Go(func() { // after the stream is open, so that no change falls between the two
		err := w.resync(ctx)
		if err == nil {
			synced = time.Now()
			w.setStatus(version, nil)
			w.askSelf(ctx)
			err = w.keepResyncing(ctx)
		}
		cancel(err)
	})
	w.reconcileAll(ctx)
	wg.Wait()
	if !synced.IsZero() {
		lived = time.Since(synced)
	}
	return lived, context.Cause(ctx)
}

// read takes events off the stream as fast as they come: an engine drops them
// without a word if the reader is slow.
func (w *Watcher) read(stream Stream) error {
	for {
		e, err := stream.Next()
		if err != nil {
			return err
		}
		w.counts.events.Add(1)
		if e.Swarm != NoNews && w.member != nil {
			w.member.hint(e.Swarm)
		}
		if e.isWanted() {
			w.log.Debug("event", "type", e.Type, "action", e.Action, "id", e.Container)
			w.queue.add(e.Container)
		}
	}
}

// keepResyncing lists the containers from time to time, and soon after an
// inspect failed. It returns only with an error.
func (w *Watcher) keepResyncing(ctx context.Context) error {
	for next := time.Now().Add(ResyncPeriod); ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.resyncSoon:
			if soon := time.Now().Add(retryPeriod); soon.Before(next) {
				next = soon
			}
			continue
		case <-w.resyncNow:
		case <-time.After(time.Until(next)):
		}
		if err := w.resync(ctx); err != nil {
			return err
		}
		next = time.Now().Add(ResyncPeriod)
	}
}

// resync lists the containers and queues those that changed.
func (w *Watcher) resync(ctx context.Context) error {
	if w.member != nil {
		w.member.ask(ctx)
		w.member.hint(AnyNews)
	}
	w.queue.beginList()
	var changed []string
	err := w.engine.List(ctx, func(id string, f Fingerprint) {
		if !w.queue.isSame(id, f) {
			changed = append(changed, id)
		}
	})
	if err != nil {
		return err
	}
	w.counts.resyncs.Add(1)
	wakeUp(w.networks.bridge.changed)
	if w.queue.endList(changed) {
		w.sink.Listed(w.URL, w.isGone)
	}
	return nil
}

// isGone reports whether id, with the suffix, belongs to a container of this
// engine that does not exist any more.
func (w *Watcher) isGone(id string) bool {
	id, ok := strings.CutSuffix(id, w.Suffix)
	return ok && !strings.Contains(id, "@") && !w.queue.isKnown(id) && !w.Swarms.has(id)
}

// reconcileAll reconciles what is queued until ctx is done, MaxInspects
// containers at a time and never one twice at once. An engine that needs long
// for one container delays no other.
func (w *Watcher) reconcileAll(ctx context.Context) {
	slots := make(chan struct{}, MaxInspects)
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case slots <- struct{}{}:
		}
		id, ok := w.queue.take()
		if !ok {
			<-slots
			select {
			case <-ctx.Done():
				return
			case <-w.queue.ready:
			}
			continue
		}
		wg.Go(func() {
			defer func() { <-slots }()
			w.finish(ctx, id, w.reconcile(ctx, id))
		})
	}
}

// finish ends the reconciling of a container. If it was interrupted it is
// still to be done; if it failed it is tried again after the next list, which
// comes soon for the first failure.
func (w *Watcher) finish(ctx context.Context, id string, err error) {
	switch {
	case ctx.Err() != nil:
		w.queue.interrupt(id)
	case err != nil:
		if w.queue.fail(id) {
			wakeUp(w.resyncSoon)
			w.log.Warn("container can't be inspected: its names stay as they were", "err", err)
		}
	case w.queue.finish(id):
		w.sink.Listed(w.URL, w.isGone)
	}
}

// reconcile makes the sink say of one container what the engine says. If the
// engine does not answer, nothing changes, and it returns an error.
func (w *Watcher) reconcile(ctx context.Context, id string) error {
	c, err := w.engine.Inspect(ctx, id)
	switch {
	case err != nil:
	case c.ID != id:
		err = fmt.Errorf("inspect %.12s: the reply is about %.12q", id, c.ID)
	case !hasLabels(c.Labels, w.Labels): // and so the list does not hold it
		err = ErrGone
	}
	switch {
	case errors.Is(err, ErrGone):
		if !w.Swarms.forgetOwn(w.member, id) {
			w.sink.Forget(id + w.Suffix)
		}
		w.queue.forget(id)
		w.problems.forget(id)
		w.followers.forget(id)
		w.networks.bridge.set(id, nil)
		w.queue.add(w.followers.of(id, "", Fingerprint{})...)
		return nil
	case err != nil:
		return err
	}
	c.ID = id // the same text, once in memory
	if err := w.complete(ctx, c); err != nil {
		return err
	}
	if w.Swarms != nil {
		w.networks.bridge.set(id, c.Networks)
	}
	failedBefore := w.queue.remember(id, c.Fingerprint)
	// Also if it is as before: its followers may have seen a change that was missed here.
	w.queue.add(w.followers.of(id, c.Name, c.Fingerprint)...)
	if w.Swarms != nil && publish.IsTask(c.Labels) {
		w.Swarms.setOwn(w.member, c, w.machine())
	} else {
		s, problems := w.service(c.Container, w.machine())
		w.sink.Put(id+w.Suffix, s)
		defer func() { w.logProblems(c.Name, w.problems.add(id, problems)) }()
	}
	if failedBefore {
		w.log.Info("container can be inspected again", "container", c.Name, "id", id)
	}
	return nil
}
