package watch

import (
	"fmt"
	"testing"
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
