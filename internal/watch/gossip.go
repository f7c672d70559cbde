package watch

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/rayje/dnsdock/internal/swarm"
)

// maxOverlays is the number of networks of which an engine is asked what it hears.
const maxOverlays = 64

// listen asks the engine what it hears of the tasks on its networks.
func (m *member) listen(ctx context.Context) {
	if !m.beginHearing() {
		return
	}
	networks := m.w.networks.overlays()
	if len(networks) > maxOverlays {
		m.warnOnce("networks", "the engine has over 64 overlay networks: tasks on the last ones are unknown", nil)
		networks = networks[:maxOverlays]
	}
	began := time.Now()
	heard := make(map[string][]swarm.Heard)
	for _, id := range networks {
		list, err := m.hear(ctx, id)
		if err != nil {
			m.w.log.Debug("the engine does not tell what it hears of a network", "network", id, "err", err)
			heard = nil
			break
		}
		for _, t := range list {
			heard[t.ID()] = append(heard[t.ID()], t)
		}
	}
	keys, listed := m.setHeard(heard, len(networks), time.Since(began))
	m.apply(keys...)
	m.tellListed(listed)
}

// beginHearing begins to ask, and returns false if it is too soon for that.
func (m *member) beginHearing() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if time.Until(m.pace.due()) > 0 {
		return false
	}
	m.pace.begin()
	return true
}

// hear asks the engine what it hears of a network; nothing, where it does not tell.
func (m *member) hear(ctx context.Context, network string) ([]swarm.Heard, error) {
	ctx, cancel := context.WithTimeout(ctx, swarmTimeout)
	defer cancel()
	if m.isRefused("/networks/{id}") {
		return nil, nil
	}
	list, err := m.w.engine.Gossip(ctx, network)
	switch {
	case errors.Is(err, ErrGone):
		return nil, nil
	case errors.Is(err, ErrRefused):
		m.refuse("/networks/{id}", "tasks of other nodes are not known", err)
		return nil, nil
	}
	return list, err
}

// setHeard notes what the engine hears, in place of a view that no manager tells any more;
// nil leaves all as it was. It returns the keys of what may be answered otherwise now, and which engines
// are listed with that.
func (m *member) setHeard(heard map[string][]swarm.Heard, overlays int, took time.Duration) (
	keys []string, listed []*member,
) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pace.done(took)
	c := m.cluster
	if c == nil || c.isKnown() && m.hasManagerLocked(c) {
		return nil, nil
	}
	m.notePollLocked(took)
	listed = m.triedLocked(c)
	if heard == nil {
		return nil, listed
	}
	isSame := func(a, b swarm.Heard) bool {
		return a.Endpoint.Network == b.Endpoint.Network && slices.Equal(a.Endpoint.Addrs, b.Endpoint.Addrs)
	}
	for key, list := range heard {
		if !slices.EqualFunc(list, m.heard[key], isSame) {
			keys = append(keys, key)
		}
	}
	for key := range m.heard {
		if heard[key] == nil {
			keys = append(keys, key)
		}
	}
	m.heard, m.overlays = heard, overlays
	if c.isKnown() {
		keys = slices.AppendSeq(keys, c.view.Keys())
		c.forget()
	}
	return keys, listed
}

// unhearLocked forgets what engines of a cluster hear, since a manager tells all tasks. It
// returns the keys of what was heard.
func (h *Swarms) unhearLocked(c *cluster) (keys []string) {
	for _, m := range h.members {
		if m.cluster == c {
			keys = slices.AppendSeq(keys, maps.Keys(m.heard))
			m.heard = nil
		}
	}
	return keys
}
