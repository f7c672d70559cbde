package watch

import (
	"context"
	"fmt"
	"time"
)

// giveUpAfter is the time for which a deleted socket is tried. An engine that
// stops and starts takes seconds.
const giveUpAfter = 5 * time.Minute

// self is what the engine says of the container that dnsdock itself runs in.
type self struct {
	restarts  bool      // the engine starts it again when dnsdock ends
	lostSince time.Time // when the socket was found to be deleted; zero: it was not
}

// askSelf asks whether a restart policy would start dnsdock again.
func (w *Watcher) askSelf(ctx context.Context) {
	if w.Self == "" {
		return
	}
	if c, err := w.engine.Inspect(ctx, w.Self); err == nil { // else it is a container of another engine
		w.self.restarts = c.Restarts
	}
}

// giveUp returns an error that ends dnsdock once it has waited long enough for
// an engine that can't come back on this socket, and if the engine starts
// dnsdock again: only that mounts the new socket.
func (w *Watcher) giveUp(reason error) error {
	if !w.status.Load().Lost {
		w.self.lostSince = time.Time{}
		return nil
	}
	if w.self.lostSince.IsZero() {
		w.self.lostSince = time.Now()
	}
	if !w.self.restarts || time.Since(w.self.lostSince) < giveUpAfter {
		return nil
	}
	return fmt.Errorf("engine %s: %w", w.URL, reason)
}
