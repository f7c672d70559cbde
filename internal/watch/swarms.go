package watch

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/rayje/dnsdock/internal/engine"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/swarm"
)

// Swarms joins what engines say of their own tasks with what the managers of their
// swarms say of all tasks, and keeps the Sink at it: each task is one service,
// whoever knows it.
//
// An engine is right about its own containers, and the managers about which
// tasks are to run: a task leaves when either says that it ends.
type Swarms struct {
	sink     Sink
	announce func(engine.Status) // is told that the view of an engine's swarm was found or lost

	mu       sync.Mutex // guards what follows, and all of members and clusters; never held while a line is written
	members  []*member  // the engines, in the order of -docker
	entries  map[string]*entry
	problems problems
}

// An entry is what is known under the ID of a task, or a key of a view.
type entry struct {
	own         *ownTask // nil: no engine that is followed has the container
	put         string   // the ID that the Sink has it under; empty: it has nothing
	busy, again bool     // it is being put, and is to be put again after that
	told        fate     // what managers said of own when it was put
}

// An ownTask is a task that an engine has the container of. It is never written again.
type ownTask struct {
	member  *member
	c       *Container
	machine netip.Addr // of the engine, if that is another than this
	since   time.Time  // when it was first seen to run
}

// NewSwarms returns swarms of no engine. Announce is called when what managers say of
// an engine's swarm is found or lost.
func NewSwarms(sink Sink, announce func(engine.Status)) *Swarms {
	return &Swarms{sink: sink, announce: announce, entries: make(map[string]*entry)}
}

// setOwn notes what an engine says of the container of a task.
func (h *Swarms) setOwn(m *member, c *Container, machine netip.Addr) {
	key := publish.TaskID(c.Labels)
	own := &ownTask{m, c, machine, time.Now()}
	h.mu.Lock()
	m.own[c.ID] = key
	e := h.entryLocked(key)
	if old := e.own; old != nil && old.member == m && old.c.State == c.State && old.c.Since.Equal(c.Since) {
		own.since = old.since
	}
	e.own = own
	h.mu.Unlock()
	h.apply(key)
}

// forgetOwn notes that a container does not exist any more. It reports whether that
// was one of a task.
func (h *Swarms) forgetOwn(m *member, id string) bool {
	h.mu.Lock()
	key, ok := m.own[id]
	if ok {
		delete(m.own, id)
		if e := h.entries[key]; e != nil && e.own != nil && e.own.member == m {
			e.own = nil
		}
	}
	h.mu.Unlock()
	if ok {
		h.apply(key)
	}
	return ok
}

func (h *Swarms) entryLocked(key string) *entry {
	e := h.entries[key]
	if e == nil {
		e = new(entry)
		h.entries[key] = e
	}
	return e
}

// apply has the Sink say what is known under keys. It does not wait for another apply of
// a key, which then does it once more.
func (h *Swarms) apply(keys ...string) {
	for _, key := range keys {
		h.mu.Lock()
		e := h.entryLocked(key)
		e.again = true
		for e.again && !e.busy {
			e.busy, e.again = true, false
			f := h.factsLocked(key, e)
			h.mu.Unlock()
			id := f.tell(h, key, e.put)
			h.mu.Lock()
			e.busy, e.put = false, id
		}
		if !e.busy && e.own == nil && e.put == "" {
			delete(h.entries, key)
		}
		h.mu.Unlock()
	}
}

// facts are what is known under a key, at one moment.
type facts struct {
	own      *ownTask
	fate     fate              // of own
	member   *swarm.Member     // what managers say of the task; nil: nothing
	heard    []swarm.Heard     // what engines tell each other of the task
	stacks   map[string]bool   // for heard
	about    *Watcher          // of the engine that says what is not of an engine's own
	info     swarm.Info        // of the engine that own is of
	extra    *publish.Service  // what is no task
	problems []publish.Problem // of extra
}

// factsLocked returns what is known under a key.
func (h *Swarms) factsLocked(key string, e *entry) (f facts) {
	if f.own = e.own; f.own != nil {
		m := f.own.member
		f.info = m.info
		if c := m.cluster; c != nil && c.isKnown() {
			f.member, f.fate = c.view.Of(key), c.fateOf(key, f.own)
			e.told = f.fate
		}
		return f
	}
	for _, m := range h.members {
		c := m.cluster
		switch {
		case c == nil:
		case c.isKnown():
			if f.member = c.view.Of(key); f.member != nil {
				if f.about = m.w; h.hasEngineLocked(f.member.Task.NodeID) {
					f.member = nil // that engine says whether the container runs
				}
				return f
			}
			if f.extra, f.problems = c.view.Extra(key, m.w.Naming, m.w.URL); f.extra != nil || f.problems != nil {
				f.about = m.w
				return f
			}
		case m.heard[key] != nil:
			f.about, f.heard, f.stacks = m.w, m.heard[key], h.stacksLocked()
			return f
		}
	}
	return f
}

// A fate is what managers want of an engine's own task.
type fate int

const (
	goesOn fate = iota
	ends
	isJob // it ends by itself, and has no names of the swarm
)

// fateOf returns the fate of a task. A list of tasks that was asked for before its
// container was there says nothing of it.
func (c *cluster) fateOf(key string, own *ownTask) fate {
	switch {
	case c.view.IsJob(publish.ServiceID(own.c.Labels)):
		return isJob
	case !c.view.Has(key) && c.began.After(own.since):
		return ends
	}
	return goesOn
}

// appendOwnLocked appends to keys, of what changed in the view, those of own tasks that this is about
// too: their service changed, or they are to end now, or to go on.
func (h *Swarms) appendOwnLocked(c *cluster, keys []string) []string {
	changed := make(map[string]bool)
	for _, key := range keys {
		changed[key] = true
	}
	for key, e := range h.entries {
		if own := e.own; own != nil && own.member.cluster == c {
			isOf := changed[swarm.ServiceKey(publish.ServiceID(own.c.Labels))]
			if isOf || e.told != c.fateOf(key, own) {
				keys = append(keys, key)
			}
		}
	}
	return keys
}

// hasEngineLocked reports whether the engine of a node is followed, and answers.
func (h *Swarms) hasEngineLocked(node string) bool {
	return slices.ContainsFunc(h.members, func(m *member) bool {
		return m.connected && m.info.NodeID == node && m.info.Role != swarm.NoRole
	})
}

// stacksLocked returns the stacks of which an engine has a task.
func (h *Swarms) stacksLocked() map[string]bool {
	stacks := make(map[string]bool)
	for _, e := range h.entries {
		if e.own != nil {
			if t := publish.TaskOf(e.own.c.Labels, ""); t != nil && t.Stack != "" {
				stacks[t.Stack] = true
			}
		}
	}
	return stacks
}

// tell has the Sink say what f says, in place of what it says under the ID put. It returns
// the ID that it says it under, empty for nothing. A problem is logged once for each
// container of an engine, and once for each service and its changes.
func (f *facts) tell(h *Swarms, key, put string) (id string) {
	id, s, name, problems := f.service()
	switch {
	case id != "" && (f.own != nil || s != nil):
		h.sink.Put(id, s)
	default:
		id = ""
	}
	if put != "" && put != id {
		h.sink.Forget(put)
	}
	switch {
	case f.own != nil:
		w := f.own.member.w
		w.logProblems(name, w.problems.add(f.own.c.ID, problems))
	case f.member != nil:
		f.about.logProblems(name, h.problems.add(swarm.ServiceKey(f.member.Service.ID), problems))
	case f.about != nil:
		f.about.logProblems(name, h.problems.add(key, problems))
	default:
		h.problems.forget(key)
	}
	return id
}

// service returns what is published of f under which ID, nil for nothing, and the
// problems of what has that name.
func (f *facts) service() (id string, s *publish.Service, name string, problems []publish.Problem) {
	if f.own != nil {
		s, problems = f.ownService()
		return f.own.c.ID + f.own.member.w.Suffix, s, f.own.c.Name, problems
	}
	var c *publish.Container
	switch {
	case f.member != nil:
		c, problems = f.member.Container()
		name = f.member.Service.Name
		if c != nil && !hasLabels(c.Labels, f.about.Labels) {
			return "", nil, "", nil
		}
	case f.heard != nil:
		c = swarm.ContainerOf(f.heard, f.stacks)
		name = c.Task.Service
	case f.extra != nil:
		return f.extra.ID, f.extra, f.extra.Origin.Container, f.problems
	default:
		return "", nil, "", f.problems
	}
	if c == nil {
		return "", nil, name, problems
	}
	s, more := f.about.Naming.ServiceOf(c, f.about.URL)
	if s != nil && f.member != nil {
		if s.Addrs = f.member.AtNode(s.Addrs); len(s.Addrs) == 0 && s.CNAME == "" && s.Outside == nil {
			s = nil
		}
	}
	return c.ID, s, name, append(problems, more...)
}

// ownService returns what a task publishes that an engine has the container of.
func (f *facts) ownService() (*publish.Service, []publish.Problem) {
	if f.fate == ends {
		return nil, nil
	}
	w, c, bindings := f.own.member.w, *f.own.c.Container, slices.Clip(f.own.c.Bindings)
	machine := f.own.machine
	if f.fate != isJob {
		c.Task = publish.TaskOf(c.Labels, f.info.Hostname)
	}
	if f.info.Addr.IsValid() {
		machine = f.info.Addr
	}
	if f.member != nil {
		f.member.Complete(&c)
		bindings = append(bindings, f.member.Bindings()...)
		if a := f.member.Addr(); a.IsValid() {
			machine = a
		}
	}
	addrs := []netip.Addr{machine}
	if w.Naming.Host != nil {
		addrs = w.Naming.Host
	}
	c.Outside = publish.NewOutside(addrs, bindings)
	return w.service(&c, machine)
}
