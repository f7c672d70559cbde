package watch

import (
	"context"
	"errors"
	"sync"
)

// networks knows which networks are internal.
type networks struct {
	mu       sync.Mutex      // guards what follows, and is held while the engine is asked
	internal map[string]bool // by ID, podman's by name; nil before the engine is asked on this connection
	refused  bool            // the engine refused to tell, which was logged
}

// begin starts a new connection, on which the networks may be others.
func (n *networks) begin() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.internal = nil
}

// markInternal marks the networks of c that are internal. If the engine refuses
// to tell, none is.
func (w *Watcher) markInternal(ctx context.Context, c *Container) error {
	refused, err := w.networks.mark(ctx, w.engine, c)
	if refused != nil {
		w.log.Warn("internal networks can't be told, and are answered as others are: allow GET /networks",
			"err", refused)
	}
	return err
}

// mark marks the networks of c. It asks the engine if one is new. The first
// time that the engine refuses, it returns that error as refused.
func (n *networks) mark(ctx context.Context, engine Engine, c *Container) (refused, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.isNewLocked(c) {
		if refused, err = n.askLocked(ctx, engine, c); err != nil {
			return nil, err
		}
	}
	for i := range c.Networks {
		if id := c.NetworkIDs[c.Networks[i].Name]; id != "" {
			c.Networks[i].Internal = n.internal[id]
		}
	}
	return refused, nil
}

// isNewLocked reports whether the engine must be asked about a network of c.
// Podman's ID of a network is its name, which another network may have had.
func (n *networks) isNewLocked(c *Container) bool {
	for _, e := range c.Networks {
		id := c.NetworkIDs[e.Name]
		if _, known := n.internal[id]; id != "" && len(e.Addrs) > 0 && (!known || id == e.Name) {
			return true
		}
	}
	return false
}

func (n *networks) askLocked(ctx context.Context, engine Engine, c *Container) (refused, err error) {
	internal, err := engine.Internal(ctx)
	switch {
	case errors.Is(err, ErrRefused):
		if !n.refused {
			refused = err
		}
		n.refused = true
		internal = make(map[string]bool)
	case err != nil:
		return nil, err
	}
	for _, id := range c.NetworkIDs {
		if !internal[id] {
			internal[id] = false // also if it is not told, since it won't be told the next time either
		}
	}
	n.internal = internal
	return refused, nil
}
