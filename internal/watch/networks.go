package watch

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"

	"github.com/rayje/dnsdock/internal/publish"
)

// ingress is the name that Swarm gives its network for the routing mesh.
const ingress = "ingress"

// networks knows which networks are internal, or Swarm's routing mesh.
type networks struct {
	mu      sync.Mutex // guards what follows, and is held while the engine is asked
	known   Networks   // Kinds is nil before the engine is asked on this connection
	refused bool       // the engine refused to tell, which was logged
	bridge  bridge
}

// begin starts a new connection, on which the networks may be others.
func (n *networks) begin() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.known = Networks{}
}

// markNetworks marks the networks of c that are internal, and removes those of
// Swarm's routing mesh, whose addresses are of no use to clients. If the engine
// refuses to tell, no network is internal, and the mesh is known by its name.
func (w *Watcher) markNetworks(ctx context.Context, c *Container) error {
	refused, err := w.networks.mark(ctx, w.engine, c)
	if refused != nil {
		w.log.Warn("internal networks can't be told, and are answered as others are: allow GET /networks",
			"err", refused)
	}
	c.Outside = w.outside(c)
	return err
}

// has reports whether an address is on a network of the engine, as those of its
// host and of a proxy in a container are. Of an engine that refuses to tell it is unknown.
func (n *networks) has(a netip.Addr) (known, has bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.refused, slices.ContainsFunc(n.known.Subnets, func(p netip.Prefix) bool { return p.Contains(a) })
}

// overlays returns the networks of swarms that the engine has, as far as it was asked.
func (n *networks) overlays() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.known.Overlays
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
			c.Networks[i].Internal, c.Networks[i].Routed = n.known.Kinds[id] == Internal, n.known.Kinds[id] == Routed
		}
	}
	c.Networks = slices.DeleteFunc(c.Networks, func(e publish.Endpoint) bool {
		return n.known.Kinds[c.NetworkIDs[e.Name]] == Ingress || n.refused && e.Name == ingress
	})
	return refused, nil
}

// isNewLocked reports whether the engine must be asked about a network of c.
// Podman's ID of a network is its name, which another network may have had.
func (n *networks) isNewLocked(c *Container) bool {
	if n.known.Kinds == nil {
		return true
	}
	for _, e := range c.Networks {
		id := c.NetworkIDs[e.Name]
		if _, known := n.known.Kinds[id]; id != "" && len(e.Addrs) > 0 && (!known || id == e.Name) {
			return true
		}
	}
	return false
}

func (n *networks) askLocked(ctx context.Context, engine Engine, c *Container) (refused, err error) {
	known, err := engine.Networks(ctx)
	switch {
	case errors.Is(err, ErrRefused):
		if !n.refused {
			refused = err
		}
		n.refused = true
		known = Networks{Kinds: make(map[string]NetworkKind)}
	case err != nil:
		return nil, err
	}
	for _, id := range c.NetworkIDs {
		if _, ok := known.Kinds[id]; !ok {
			known.Kinds[id] = Open // it is not told, and won't be the next time either
		}
	}
	n.known = known
	return refused, nil
}
