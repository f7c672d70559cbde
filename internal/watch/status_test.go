package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rayje/dnsdock/internal/engine"
	"github.com/rayje/dnsdock/internal/publish"
)

// An engine whose socket was deleted is lost for good, which the log says once.
func TestLostEngine(t *testing.T) {
	inBubble(t, publish.NameRules{}, true, func(w *watched) {
		w.engine.set("aa", &fakeContainer{name: "a", image: "x", state: "running", addr: "10.0.0.1"})
		w.engine.event("start", fakeID("aa"))
		w.want("a.x.docker", "10.0.0.1")
		w.engine.setDown(true)
		time.Sleep(10 * time.Second)
		if s := w.watcher.Status(); s.Up || s.Lost {
			t.Errorf("while the engine is away: got %+v", s)
		}
		w.engine.update(func() { w.engine.downErr = fmt.Errorf("ping: %w", engine.ErrSocketDeleted) })
		time.Sleep(10 * time.Second)
		if s := w.watcher.Status(); s.Up || !s.Lost {
			t.Errorf("after the socket was deleted: got %+v; want it lost", s)
		}
		if n := w.logged("engine lost: dnsdock must be restarted"); n != 1 {
			t.Errorf("the log says %d times that the engine is lost; want 1", n)
		}
		w.want("a.x.docker", "10.0.0.1")
		w.engine.update(func() { w.engine.down = false })
		time.Sleep(10 * time.Second)
		if s := w.watcher.Status(); !s.Up || s.Lost {
			t.Errorf("when it is back all the same: got %+v", s)
		}
	})
}

// When its socket was deleted, dnsdock ends after a while if the engine starts it
// again, and goes on answering if not.
func TestGiveUp(t *testing.T) {
	for _, restarts := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			e := newFakeEngine()
			self := fakeID("dd")
			e.set("dd", &fakeContainer{name: "dnsdock", image: "d", state: "running", addr: "10.0.0.9",
				restarts: restarts})
			sink := &fakeSink{services: make(map[string]*publish.Service)}
			cfg := Config{URL: "fake", Naming: publish.NameRules{Apex: "\x06docker\x00"}, Self: self}
			ended := make(chan error, 1)
			ctx, cancel := context.WithCancel(t.Context())
			go func() { ended <- New(e, cfg, sink, slog.New(slog.DiscardHandler)).Run(ctx) }()
			time.Sleep(time.Second)
			e.update(func() { e.downErr = engine.ErrSocketDeleted })
			e.setDown(true)
			time.Sleep(giveUpAfter - time.Minute)
			select {
			case err := <-ended:
				t.Errorf("restarts %t: it ends before its time: %v", restarts, err)
			default:
			}
			time.Sleep(2 * time.Minute)
			select {
			case err := <-ended:
				if !restarts || !errors.Is(err, engine.ErrSocketDeleted) {
					t.Errorf("restarts %t: it ends with %v", restarts, err)
				}
				ended <- nil
			default:
				if restarts {
					t.Error("it does not end")
				}
			}
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("restarts %t: it ends with %v", restarts, err)
			}
		})
	}
}
