package watch

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"

	"github.com/rayje/dnsdock/internal/publish"
)

// A bridge knows the containers that are on networks of several machines. Their
// queries come from an address on another network, Docker's docker_gwbridge, by
// which such containers reach their machine.
type bridge struct {
	changed chan struct{} // of capacity 1: ask the engine
	refused bool          // the engine refused to tell, which was logged; used by followBridge only

	mu       sync.Mutex              // guards what follows
	overlays map[string][]netip.Addr // by ID: the addresses that the container has on such networks
	asked    bool                    // the engine was asked for the addresses on the bridge
}

// set notes on which networks of several machines a container is.
func (b *bridge) set(id string, networks []publish.Endpoint) {
	var addrs []netip.Addr
	for _, e := range networks {
		if e.Routed {
			addrs = append(addrs, e.Addrs...)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if slices.Equal(b.overlays[id], addrs) {
		return
	}
	if b.overlays == nil {
		b.overlays = make(map[string][]netip.Addr)
	}
	if b.overlays[id] = addrs; addrs == nil {
		delete(b.overlays, id)
	}
	wakeUp(b.changed)
}

// isIdle reports whether there is nothing to ask, and nothing that was told before.
func (b *bridge) isIdle() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	idle := len(b.overlays) == 0 && !b.asked
	b.asked = len(b.overlays) > 0
	return idle
}

// guests returns by which addresses a client is known, if its queries come
// from one of those that containers have on the bridge.
func (b *bridge) guests(onBridge map[string]netip.Addr) map[netip.Addr][]netip.Addr {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make(map[netip.Addr][]netip.Addr)
	for id, addrs := range b.overlays {
		if a := onBridge[id]; a.IsValid() {
			all[a] = append([]netip.Addr{a}, addrs...)
		}
	}
	return all
}

// followBridge keeps the sink at who the clients on the bridge are, until ctx is
// done. The bridges of other machines have the same addresses, so they are not asked for.
func (w *Watcher) followBridge(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.networks.bridge.changed:
		}
		if w.networks.bridge.isIdle() {
			continue
		}
		var onBridge map[string]netip.Addr
		if !w.machine().IsValid() {
			var err error
			if onBridge, err = w.engine.GatewayBridge(ctx); err != nil && !errors.Is(err, ErrRefused) {
				w.log.Debug("clients on the bridge to this machine can't be told", "err", err)
				continue // until the next list
			}
			if err != nil && !w.networks.bridge.refused {
				w.networks.bridge.refused = true
				w.log.Warn("clients on overlay networks can't be told from others: allow GET /networks/docker_gwbridge",
					"err", err)
			}
		}
		w.SetGuests(w.URL, w.networks.bridge.guests(onBridge))
	}
}
