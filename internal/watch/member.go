package watch

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/rayje/dnsdock/internal/engine"
	"github.com/rayje/dnsdock/internal/swarm"
)

const (
	// swarmTimeout is the time in which an engine answers what it is asked of its
	// swarm, and in which more of a list comes. While a leader is missing, managers answer after 11 to 20 s.
	swarmTimeout = 5 * time.Second

	retryManager = 30 * time.Second // until a manager that failed is asked before the others again
	quietLoss    = 20 * time.Second // of a view that managers don't tell: elections take 15 s at most
	leaveTime    = 10 * time.Second // from which an engine has left its swarm: one that is stopped says so too

	minPause, maxPause, minHinted = time.Second, 30 * time.Second, 100 * time.Millisecond
)

// A member is an engine that may be of a swarm. Its Swarms guards what changes.
type member struct {
	*Swarms
	w    *Watcher
	wake chan struct{} // of capacity 1: it may be its turn

	info      swarm.Info
	isAsked   bool                     // for info
	connected bool                     // it is followed now
	cluster   *cluster                 // nil: it is of no swarm
	own       map[string]string        // IDs of its tasks, by those of their containers
	heard     map[string][]swarm.Heard // by ID of the task, on all networks
	overlays  int                      // that heard is from
	pace      pace                     // of asking for heard
	failed    time.Time                // when it did not tell the view; zero: it did
	refused   map[string]bool          // calls that were refused, and what else is logged once
	left      time.Time                // when it was first of no swarm, though it was of one; zero: it is not
	polls     struct {
		count     uint64
		last, all time.Duration // that they took
	}
}

// join adds an engine, the next in the order of -docker.
func (h *Swarms) join(w *Watcher) *member {
	m := &member{
		Swarms: h, w: w, wake: make(chan struct{}, 1), own: make(map[string]string), refused: make(map[string]bool),
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.members = append(h.members, m)
	return m
}

// refuse notes that a call was refused. It logs that once on each connection.
func (m *member) refuse(call, consequence string, err error) {
	m.warnOnce(call, consequence+": allow GET "+call, err)
}

func (m *member) warnOnce(about, text string, err error) {
	m.mu.Lock()
	isNews := !m.refused[about]
	m.refused[about] = true
	m.mu.Unlock()
	if isNews {
		m.w.log.Warn(text, "err", err)
	}
}

func (m *member) isRefused(call string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.refused[call]
}

// hint notes that an event may have changed what the managers say.
func (m *member) hint(n News) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pace.hint()
	if c := m.cluster; c != nil {
		c.pace.hint()
		c.isOld = c.isOld || n == AnyNews
		if chosen := m.chosenLocked(c); chosen != nil {
			wakeUp(chosen.wake)
		}
	}
	wakeUp(m.wake)
}

// ask asks the engine what it is in its swarm. An engine that does not say goes on
// being what it was.
func (m *member) ask(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, swarmTimeout)
	defer cancel()
	info, err := m.w.engine.SwarmInfo(ctx)
	switch {
	case errors.Is(err, ErrRefused):
		m.refuse("/info", "it can't be told whether there is a swarm, with tasks on other nodes", err)
		info = swarm.Info{}
	case err != nil:
		m.w.log.Debug("the engine does not say whether it is of a swarm", "err", err)
		m.mu.Lock()
		m.isAsked = true
		m.mu.Unlock()
		return
	}
	if m.isRefused("/tasks") || m.isRefused("/services") {
		info.Role = min(info.Role, swarm.Worker)
	}
	m.apply(m.setInfo(info)...)
}

// setInfo notes what the engine is in its swarm, and returns the keys of what may be
// answered otherwise now.
func (m *member) setInfo(info swarm.Info) (keys []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	isFirst := !m.isAsked || !m.connected
	m.isAsked, m.connected = true, true
	if !m.isCredibleLocked(info) {
		return nil
	}
	old, was := m.cluster, m.info
	m.info = info
	switch {
	case info.Role == swarm.NoRole:
		m.cluster = nil
	case old == nil || !was.IsSame(info):
		m.cluster = m.clusterOfLocked(info)
	}
	if m.cluster != old || was.Role != info.Role || was.Addr != info.Addr || isFirst {
		for _, key := range m.own {
			keys = append(keys, key)
		}
		for key := range m.heard {
			keys = append(keys, key)
		}
		for _, c := range []*cluster{old, m.cluster} {
			if c != nil {
				keys = slices.AppendSeq(keys, c.view.Keys())
			}
		}
		if m.cluster == nil {
			m.heard = nil
		}
		m.wakeAllLocked()
	}
	if m.cluster != nil && !m.cluster.isTried {
		m.w.queue.await()
	}
	return keys
}

// isCredibleLocked reports whether what an engine says of itself is to be believed.
func (m *member) isCredibleLocked(info swarm.Info) bool {
	switch {
	case info.Role != swarm.NoRole || m.cluster == nil:
		m.left = time.Time{}
	case m.left.IsZero():
		m.left = time.Now()
	}
	return m.left.IsZero() || time.Since(m.left) >= leaveTime
}

// clusterOfLocked returns the cluster that another engine is of too, or a new one.
func (m *member) clusterOfLocked(info swarm.Info) *cluster {
	for _, o := range m.members {
		if o != m && o.cluster != nil && o.info.IsSame(info) {
			return o.cluster
		}
	}
	return newCluster()
}

func (h *Swarms) wakeAllLocked() {
	for _, m := range h.members {
		wakeUp(m.wake)
	}
}

// has reports whether an ID may be that of a service of a swarm.
func (h *Swarms) has(id string) bool {
	if h == nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.members {
		if !m.isAsked || m.cluster != nil && !m.cluster.isTried {
			return true // it is not known yet
		}
	}
	for _, e := range h.entries {
		if e.put == id {
			return true
		}
	}
	return false
}

// follow keeps the Swarms at what the engine says of its swarm until ctx is done.
func (m *member) follow(ctx context.Context) {
	defer m.disconnect()
	for {
		wait, ok := m.due()
		timer := time.NewTimer(wait)
		var tick <-chan time.Time
		if ok {
			tick = timer.C
		}
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-m.wake:
			timer.Stop()
			continue
		case <-tick:
		}
		if c := m.begin(); c != nil {
			err := m.poll(ctx, c)
			m.end(ctx, c, err)
		}
		if ctx.Err() == nil && m.isListening() {
			m.listen(ctx)
		}
	}
}

func (m *member) disconnect() {
	m.mu.Lock()
	m.connected, m.left = false, time.Time{}
	clear(m.refused)
	var keys []string
	if c := m.cluster; c != nil && c.isKnown() {
		keys = slices.Collect(c.view.Keys()) // the managers say what runs there now
		if m.chosenLocked(c) == nil && c.failing.IsZero() {
			c.failing = time.Now()
		}
	}
	m.wakeAllLocked()
	m.mu.Unlock()
	m.apply(keys...)
}

// due returns how long to wait before the engine is asked next, and false if another
// one is asked.
func (m *member) due() (wait time.Duration, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.cluster
	switch {
	case c == nil || !m.connected:
		return 0, false
	case m.chosenLocked(c) == m:
		return time.Until(c.pace.due()), !c.isPolling
	case m.isListeningLocked():
		return time.Until(m.pace.due()), true
	case m.info.Role == swarm.Manager && !m.failed.IsZero():
		return time.Until(m.failed.Add(retryManager)), true
	}
	return 0, false
}

// chosenLocked returns the manager that is asked: the first that did not fail lately, else
// the one that did so first. It is nil if there is none.
func (h *Swarms) chosenLocked(c *cluster) (chosen *member) {
	for _, m := range h.members {
		switch {
		case m.cluster != c || !m.connected || m.info.Role != swarm.Manager:
		case m.failed.IsZero() || time.Since(m.failed) >= retryManager:
			return m
		case chosen == nil || m.failed.Before(chosen.failed):
			chosen = m
		}
	}
	return chosen
}

// isListening reports whether the engine is asked what it hears: no manager
// has told a view.
func (m *member) isListening() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.isListeningLocked()
}

func (m *member) isListeningLocked() bool {
	c := m.cluster
	return c != nil && (!c.isKnown() || !m.hasManagerLocked(c))
}

// hasManagerLocked reports whether an engine is a manager of c, as far as it said.
func (h *Swarms) hasManagerLocked(c *cluster) bool {
	return slices.ContainsFunc(h.members, func(m *member) bool {
		return m.cluster == c && m.info.Role == swarm.Manager
	})
}

func (m *member) notePollLocked(took time.Duration) {
	m.polls.count++
	m.polls.last, m.polls.all = took, m.polls.all+took
}

// status returns what users see of an engine's swarm; nil if it is of none.
func (h *Swarms) status(m *member) *engine.Swarm {
	if h == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	c := m.cluster
	if c == nil {
		return nil
	}
	s := &engine.Swarm{
		Role: m.info.Role.String(), Cluster: m.info.Cluster, Node: m.info.Hostname,
		Up: c.isUp(), Since: c.since, Polls: m.polls.count, Took: m.polls.last.Seconds(),
		PollSeconds: m.polls.all.Seconds(),
	}
	switch {
	case c.isKnown():
		s.Services, s.Tasks, s.Nodes = c.view.Counts()
	default:
		s.Up = m.connected && m.info.Role == swarm.Worker // which is told no more
		s.Networks, s.Tasks = m.overlays, len(m.heard)
		for _, key := range m.own {
			if m.heard[key] == nil {
				s.Tasks++
			}
		}
	}
	if c.err != nil {
		s.Error = c.err.Error()
	}
	return s
}
