package watch

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/rayje/dnsdock/internal/swarm"
)

// A cluster is one swarm, of which engines are followed. Its Swarms guards it.
type cluster struct {
	view      *swarm.View
	began     time.Time // when the newest list of tasks was asked for; zero: there is none
	isTried   bool      // managers were asked, or there are none
	isPolling bool      // one of them is asked
	isOld     bool      // services and nodes may have changed
	hasGap    bool      // a task is of a service or on a node that managers do not list
	listed    time.Time // when these were asked for last
	pace      pace      // of polls
	failing   time.Time // when no manager told the view first; zero: the last one did
	isLost    bool      // that was logged
	err       error     // of that
	since     time.Time // when isUp changed last
}

func newCluster() *cluster { return &cluster{view: swarm.NewView(), isOld: true} }

// isKnown reports whether a manager has told the view.
func (c *cluster) isKnown() bool { return !c.began.IsZero() }

// isUp reports whether the view is told.
func (c *cluster) isUp() bool { return c.isKnown() && !c.isLost && !c.isOverdue() }

// isOverdue reports whether no manager has told the view for longer than an election takes.
func (c *cluster) isOverdue() bool { return !c.failing.IsZero() && time.Since(c.failing) >= quietLoss }

// forget forgets the view.
func (c *cluster) forget() {
	c.view, c.began, c.isOld, c.isLost = swarm.NewView(), time.Time{}, true, false
}

// A pace is how often something is asked: at most 5% of the time, sooner after an event.
type pace struct {
	next, hinted time.Time
	isHinted     bool
}

func (p *pace) hint() { p.isHinted = true }

// begin notes that it is asked now: an event after that is another hint.
func (p *pace) begin() { p.isHinted = false }

// due returns when to ask next.
func (p *pace) due() time.Time {
	if p.isHinted {
		return p.hinted
	}
	return p.next
}

// done notes that something was asked, and how long it took from the first octet of the reply on:
// to wait for that is no work.
func (p *pace) done(took time.Duration) {
	now := time.Now()
	p.next = now.Add(min(max(20*took, minPause), maxPause))
	p.hinted = now.Add(min(max(2*took, minHinted), maxPause))
}

// begin begins a poll, if it is the turn of m, and returns the cluster to be polled, else nil.
func (m *member) begin() *cluster {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.cluster
	if c == nil || m.chosenLocked(c) != m || c.isPolling || time.Until(c.pace.due()) > 0 {
		return nil
	}
	c.isPolling = true
	c.pace.begin()
	return c
}

// end notes how a poll ended.
func (m *member) end(ctx context.Context, c *cluster, err error) {
	m.mu.Lock()
	c.isPolling, m.failed = false, time.Time{}
	switch {
	case ctx.Err() != nil: // the connection was lost, which the engine's own state tells
	case err == nil:
		c.err, c.failing = nil, time.Time{}
	default:
		m.failed, c.err = time.Now(), err
		if c.failing.IsZero() {
			c.failing = m.failed
		}
		c.pace.done(0)
	}
	if next := m.chosenLocked(c); err != nil && next != nil && next != m && next.failed.IsZero() {
		c.pace.next = time.Time{} // another manager is asked at once
	}
	listed, isNews := m.triedLocked(c), c.turn()
	m.wakeAllLocked()
	isUp, id := c.isUp(), m.info.Cluster
	var services, tasks, nodes int
	if isNews {
		services, tasks, nodes = c.view.Counts()
	}
	m.mu.Unlock()
	switch {
	case !isNews:
	case isUp:
		m.w.log.Info("swarm found", "cluster", id, "services", services, "tasks", tasks, "nodes", nodes)
		m.announce(m.w.Status())
	default:
		m.w.log.Warn("swarm away: its managers don't tell its tasks, and what is known goes on being answered",
			"cluster", id, "err", err)
		m.announce(m.w.Status())
	}
	m.tellListed(listed)
	if err != nil && ctx.Err() == nil {
		m.ask(ctx) // it may be no manager any more
	}
}

// turn notes whether the view is told, and reports whether that is news. Elections
// are none.
func (c *cluster) turn() (isNews bool) {
	wasLost := c.isLost
	c.isLost = c.isOverdue() || c.isLost && !c.failing.IsZero()
	isNews = c.isLost != wasLost || c.since.IsZero() && (c.isKnown() || c.isLost)
	if isNews {
		c.since = time.Now().UTC()
	}
	return isNews
}

// triedLocked notes that it is known now what managers say, if they do. It returns those engines of the
// cluster whose containers are all known with that.
func (m *member) triedLocked(c *cluster) (listed []*member) {
	if c.isTried {
		return nil
	}
	c.isTried = true
	for _, o := range m.members {
		if o.cluster == c && o.w.queue.arrive() {
			listed = append(listed, o)
		}
	}
	return listed
}

// tellListed tells the Sink that the containers of engines are known.
func (h *Swarms) tellListed(list []*member) {
	for _, m := range list {
		h.sink.Listed(m.w.URL, m.w.isGone)
	}
}

// poll asks a manager for the lists, of services and nodes only if these may have
// changed. What changed is put before it returns.
func (m *member) poll(ctx context.Context, c *cluster) error {
	m.mu.Lock()
	view, others := c.view, c.isOld || time.Since(c.listed) >= ResyncPeriod
	m.mu.Unlock()
	if others {
		if err := m.pollOthers(ctx, c, view); err != nil {
			return err
		}
	}
	began := time.Now()
	var news []string
	took, err := m.read(ctx, c, Tasks, view.Tasks(), func() {
		if c.view != view {
			return // it was forgotten meanwhile
		}
		if !c.isKnown() {
			news = slices.AppendSeq(m.unhearLocked(c), view.Keys())
		}
		c.began = began
	})
	if err != nil {
		return err
	}
	m.apply(news...)
	m.mu.Lock()
	c.pace.done(took)
	m.notePollLocked(took)
	had := c.hasGap
	c.hasGap = view.IsIncomplete(!m.refused["/nodes"])
	isNews := c.hasGap && !had && !others
	m.mu.Unlock()
	if isNews {
		return m.pollOthers(ctx, c, view)
	}
	return nil
}

// pollOthers asks for the lists of services and nodes.
func (m *member) pollOthers(ctx context.Context, c *cluster, view *swarm.View) error {
	m.mu.Lock()
	c.isOld, c.listed = false, time.Now()
	m.mu.Unlock()
	_, err := m.read(ctx, c, Services, view.Services(), func() {})
	if err == nil && !m.isRefused("/nodes") {
		_, err = m.read(ctx, c, Nodes, view.Nodes(), func() {})
	}
	if err != nil {
		m.mu.Lock()
		c.isOld = true
		m.mu.Unlock()
	}
	return err
}

var errSlow = errors.New("no answer within 5 s")

// read reads a list of a manager, calls done, and has the Sink say what changed by it. It returns how
// long that took from the first octet of the reply on.
func (m *member) read(
	ctx context.Context, c *cluster, list SwarmList, r *swarm.Reading, done func(),
) (time.Duration, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	slow := time.AfterFunc(swarmTimeout, func() { cancel(errSlow) })
	defer slow.Stop()
	began := time.Now()
	err := m.w.engine.SwarmList(ctx, list, func() { began = time.Now() }, func(raw []byte) error {
		slow.Reset(swarmTimeout)
		return r.Add(raw)
	})
	switch {
	case errors.Is(context.Cause(ctx), errSlow):
		return 0, errSlow
	case errors.Is(err, ErrRefused) && list == Nodes:
		m.refuse("/nodes", "machines of the swarm are not known, and clients outside get addresses on overlays", err)
		return 0, nil
	case errors.Is(err, ErrRefused):
		m.refuse("/"+string(list), "tasks of the swarm are known as on a worker only", err)
		return 0, err
	case err != nil:
		return 0, err
	}
	m.mu.Lock()
	keys, dropped := r.End()
	done()
	if c.isKnown() {
		keys = m.appendOwnLocked(c, keys)
	}
	m.mu.Unlock()
	took := time.Since(began)
	if dropped > 0 {
		m.warnOnce(string(list), "the swarm has too many "+string(list)+": the last ones by ID are left out", nil)
	}
	m.apply(keys...)
	return took, nil
}
