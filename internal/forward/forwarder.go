package forward

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/rayje/dnsdock/internal/dnscache"
)

const (
	// until the next upstream is asked too; all have twice that: clients wait 5 s
	UpstreamTimeout = 2 * time.Second
	staleTimeout    = 1800 * time.Millisecond // after which a client gets a stale answer (RFC 8767 section 5)
	dropPeriod      = time.Minute             // in which the cache drops what must not be given any more
)

// A Forwarder asks upstreams what is not ours, and keeps what they say. It is safe for concurrent use.
type Forwarder struct {
	*router
	Cache    *dnscache.Cache
	ForceTTL bool          // forwarded records get the TTL of our own
	Timeout  time.Duration // UpstreamTimeout, unless a test has less

	clients clients
	log     *slog.Logger

	mu      sync.Mutex                     // guards what follows
	pending map[dnscache.Question]*pending // questions that are out
	looped  time.Time                      // when a loop was logged last
}

// New returns a forwarder to the nameservers of routes, for local clients and those in allowed, that keeps answers
// in cacheSize bytes. It has no upstreams before Load.
func New(routes Routes, allowed []netip.Prefix, cacheSize int64, log *slog.Logger) *Forwarder {
	f := &Forwarder{
		Cache:   dnscache.New(cacheSize),
		Timeout: UpstreamTimeout,
		clients: clients{allowed: allowed},
		log:     log,
		pending: make(map[dnscache.Question]*pending),
	}
	f.router = newRouter(routes, log, func() { f.Cache.Clear() })
	return f
}

// Run reads the resolv.confs again from time to time, and drops dead answers, until ctx is done.
func (f *Forwarder) Run(ctx context.Context) error {
	var dropping sync.WaitGroup
	defer dropping.Wait()
	dropping.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(dropPeriod):
				f.Cache.DropDead()
			}
		}
	})
	f.follow(ctx)
	return nil
}

// Serves reports whether queries of a client may be forwarded at all.
func (f *Forwarder) Serves(client netip.Addr) bool {
	return f.hasAny && f.clients.isLocal(client)
}

// ServesAsKnown is Serves for callers that can't wait: known is false if the subnets of this host would have to be
// read first.
func (f *Forwarder) ServesAsKnown(client netip.Addr) (serves, known bool) {
	if !f.hasAny {
		return false, true
	}
	return f.clients.isLocalAsKnown(client)
}

// Answer returns what upstreams say to q, which a client asked under an ID, or said before. It takes twice
// f.Timeout at most. It returns nil, at once, if too many queries wait.
func (f *Forwarder) Answer(ctx context.Context, q dnscache.Question, id uint16,
	client netip.Addr) *dnscache.Response {
	old := f.Cache.Get(q)
	was := dnscache.Dead
	if old != nil {
		if was = old.At(old.Age(time.Now())); was >= dnscache.Tired {
			return old
		}
	}
	g := f.groupFor(q.Name())
	if g == nil || len(g.upstreams) == 0 {
		return dnscache.Failed(q)
	}
	here, ok := g.enter(client)
	switch {
	case !ok && was == dnscache.Stale:
		return old
	case !ok:
		return nil
	}
	p, mine := f.join(q, g)
	if mine && was == dnscache.Dead { // nothing else to wait for
		defer here.leave()
		f.run(ctx, p, nil)
		return p.answer
	}
	if mine {
		go func() {
			defer here.leave()
			f.run(ctx, p, nil)
		}()
	} else {
		defer here.leave()
	}
	var late <-chan time.Time
	if was == dnscache.Stale {
		timer := time.NewTimer(staleTimeout)
		defer timer.Stop()
		late = timer.C
	}
	var looped <-chan struct{}
	if !mine {
		looped = f.checkLoop(p, id, client)
	}
	select {
	case <-p.done:
		return p.answer
	case <-looped:
		return dnscache.Failed(q)
	case <-late:
		return old
	}
}
