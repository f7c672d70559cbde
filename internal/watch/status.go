package watch

import (
	"errors"
	"time"

	"github.com/rayje/dnsdock/internal/engine"
)

// Status returns how the engine is.
func (w *Watcher) Status() engine.Status {
	s := *w.status.Load()
	s.Events, s.Resyncs = w.counts.events.Load(), w.counts.resyncs.Load()
	s.Swarm = w.Swarms.status(w.member)
	return s
}

// setStatus notes that the engine answers, by that version of its API, or why
// not. If that is news it tells the sink and writes a line of the log: one for
// the whole time that the engine is away. Only Run calls it, or waits for the
// caller.
func (w *Watcher) setStatus(version string, err error) {
	old := w.status.Load()
	s := &engine.Status{URL: w.URL, Up: err == nil, Since: time.Now().UTC(), API: version}
	if err != nil {
		s.Error, s.Lost = err.Error(), errors.Is(err, engine.ErrSocketDeleted)
	}
	isNews := old.Since.IsZero() || s.Up != old.Up || s.Lost != old.Lost
	if !old.Since.IsZero() && s.Up == old.Up {
		s.Since = old.Since
	}
	w.status.Store(s)
	if !isNews {
		return
	}
	w.sink.SetEngine(w.Status())
	switch {
	case s.Up:
		w.log.Info("engine found", "api", version)
	case s.Lost:
		w.log.Error("engine lost: dnsdock must be restarted, what is known goes on being answered",
			"known", w.queue.knownCount(), "err", err)
	default:
		w.log.Warn("engine away: what is known goes on being answered", "known", w.queue.knownCount(), "err", err)
	}
}
