package watch

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rayje/dnsdock/internal/publish"
)

func TestEvents(t *testing.T) {
	inBubble(t, publish.NameRules{}, true, func(w *watched) {
		e := w.engine
		w.want("docker", "")
		if !w.sink.isListed() {
			t.Error("not ready after an empty list")
		}
		if w.logged("engine found") == 0 {
			t.Errorf("an empty engine was found, and the log does not say so:\n%s", w.log)
		}
		e.start("aa", "redis1", "172.17.0.2")
		w.want("redis1.redis.docker", "172.17.0.2")
		e.setState("aa", "paused")
		e.event("pause", fakeID("aa"))
		w.want("redis1.redis.docker", "")
		e.setState("aa", "running")
		e.event("unpause", fakeID("aa"))
		w.want("redis1.redis.docker", "172.17.0.2")
		e.set("aa", &fakeContainer{name: "redis9", image: "redis:7", state: "running", addr: "172.17.0.2"})
		e.event("rename", fakeID("aa"))
		w.want("redis1.redis.docker", "")
		w.want("redis9.redis.docker", "172.17.0.2")
		e.set("aa", &fakeContainer{name: "redis9", image: "redis:7", state: "running", addr: "172.17.0.2",
			networks: map[string]fakeEndpoint{"a": {addrs: "10.0.0.2 fd00::2"}}})
		e.send(Event{Type: "network", Action: "connect", Container: fakeID("aa")})
		w.want("redis9.redis.docker", "10.0.0.2 172.17.0.2 fd00::2")
		e.setState("aa", "exited")
		e.event("die", fakeID("aa"))
		w.want("redis9.redis.docker", "")
		e.start("aa", "redis9", "172.17.0.7")
		w.want("redis9.redis.docker", "172.17.0.7")
		e.destroy("aa")
		w.want("redis9.redis.docker", "")
	})
}

// Lost, repeated, reordered and false events all end at what is.
func TestGoesByState(t *testing.T) {
	inBubble(t, publish.NameRules{}, true, func(w *watched) {
		e := w.engine
		e.start("aa", "a", "10.0.0.1")
		w.want("a.redis.docker", "10.0.0.1")
		e.event("die", fakeID("aa")) // false: it runs
		e.event("destroy", fakeID("aa"))
		e.event("start", fakeID("aa"))
		e.event("start", fakeID("aa"))
		w.want("a.redis.docker", "10.0.0.1")
		e.event("start", fakeID("ee")) // of one that does not exist
		w.want("docker", "10.0.0.1")

		e.update(func() { e.quiet = true })
		e.destroy("aa")
		e.start("bb", "b", "10.0.0.2")
		e.start("cc", "c", "10.0.0.3")
		w.want("docker", "10.0.0.1") // nobody told
		w.wantWithin(45*time.Second, "c.redis.docker", "10.0.0.3")
		w.want("b.redis.docker", "10.0.0.2")
		w.want("a.redis.docker", "")
		e.setState("bb", "exited")
		w.wantWithin(45*time.Second, "b.redis.docker", "")
		e.set("bb", &fakeContainer{name: "b", image: "redis:7", state: "running", addr: "10.0.0.2"})
		w.wantWithin(45*time.Second, "b.redis.docker", "10.0.0.2")
		e.set("bb", &fakeContainer{name: "b", image: "redis:7", state: "running", addr: "10.0.0.9"})
		w.wantWithin(45*time.Second, "b.redis.docker", "10.0.0.9")
	})
}

func TestIdleCost(t *testing.T) {
	inBubble(t, publish.NameRules{}, true, func(w *watched) {
		for i := range 20 {
			name, addr := fmt.Sprintf("c%d", i), fmt.Sprintf("10.0.0.%d", i)
			w.engine.set(fmt.Sprintf("%02x", i), &fakeContainer{name: name, image: "x", state: "running", addr: addr})
		}
		w.engine.set("ff", &fakeContainer{name: "off", image: "x", state: "exited"})
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		before := w.engine.count("List", "Inspect", "Connect")
		const period = 10 * time.Minute
		time.Sleep(period)
		synctest.Wait()
		after := w.engine.count("List", "Inspect", "Connect")
		if most := 2 * int(period/(10*time.Second)); after-before > most || after == before {
			t.Errorf("%d calls in %v; want 1 to %d", after-before, period, most)
		}
	})
}

// While the engine is away nothing changes; when it is back, what changed in
// between is right within 2 s.
func TestReconnects(t *testing.T) {
	inBubble(t, publish.NameRules{}, true, func(w *watched) {
		e := w.engine
		e.start("aa", "a", "10.0.0.1")
		e.start("bb", "b", "10.0.0.2")
		w.want("docker", "10.0.0.1 10.0.0.2")
		for _, away := range []time.Duration{time.Second, time.Minute, 6 * time.Hour} {
			time.Sleep(time.Minute)
			w.engine.setDown(true)
			e.setState("bb", "exited")
			e.set("aa", &fakeContainer{name: "a", image: "redis:7", state: "running", addr: "10.0.0.7"})
			e.set("cc", &fakeContainer{name: "c", image: "redis:7", state: "running", addr: "10.0.0.3"})
			time.Sleep(away)
			w.want("a.redis.docker", "10.0.0.1")
			w.want("b.redis.docker", "10.0.0.2")
			w.want("c.redis.docker", "")
			w.engine.setDown(false)
			w.wantWithin(2*time.Second, "c.redis.docker", "10.0.0.3")
			w.want("a.redis.docker", "10.0.0.7")
			w.want("b.redis.docker", "")

			e.destroy("cc")
			e.start("aa", "a", "10.0.0.1")
			e.start("bb", "b", "10.0.0.2")
			w.want("c.redis.docker", "")
			w.want("b.redis.docker", "10.0.0.2")
		}
		lost, found := w.logged("engine away"), w.logged("engine found")
		if lost != 3 || found != 4 {
			t.Errorf("log says away %d times and found %d times; want 3 and 4", lost, found)
		}
		if got := strings.Join(w.sink.news, " "); got != "found lost found lost found lost found" {
			t.Errorf("the sink was told %s", got)
		}
	})
}

// A stream that a proxy cuts now and then is opened again at once, without
// noise and without a hot loop.
func TestStreamCut(t *testing.T) {
	inBubble(t, publish.NameRules{}, true, func(w *watched) {
		e := w.engine
		e.start("aa", "a", "10.0.0.1")
		w.want("a.redis.docker", "10.0.0.1")
		time.Sleep(10 * time.Second)
		e.update(func() { e.quiet = true })
		e.start("bb", "b", "10.0.0.2")
		e.update(func() { e.quiet = false })
		e.endStreams()
		w.want("b.redis.docker", "10.0.0.2") // at once
		if n := e.count("Connect"); n != 2 {
			t.Errorf("%d streams; want 2", n)
		}
		if w.logged("away") > 0 {
			t.Errorf("log:\n%s", w.log)
		}
		// An engine that ends each stream at once.
		stop := time.Now().Add(time.Minute)
		for time.Now().Before(stop) {
			synctest.Wait()
			e.endStreams()
			time.Sleep(5 * time.Millisecond)
		}
		if n := e.count("Connect"); n > 200 || n < 50 {
			t.Errorf("%d streams in a minute; want 50 to 200", n)
		}
		w.want("docker", "10.0.0.1 10.0.0.2")
	})
}

// An engine that hangs with its stream open is noticed; when it goes on,
// all is right again.
func TestHang(t *testing.T) {
	inBubble(t, publish.NameRules{}, true, func(w *watched) {
		e := w.engine
		e.start("aa", "a", "10.0.0.1")
		w.want("a.redis.docker", "10.0.0.1")
		for range 3 {
			time.Sleep(time.Minute)
			hang := make(chan struct{})
			e.update(func() { e.hang = hang; e.quiet = true })
			e.setState("aa", "exited")
			e.set("bb", &fakeContainer{name: "b", image: "redis:7", state: "running", addr: "10.0.0.2"})
			time.Sleep(10 * time.Minute)
			w.want("docker", "10.0.0.1")
			e.update(func() { e.hang = nil; e.quiet = false })
			close(hang)
			w.wantWithin(2*time.Second, "b.redis.docker", "10.0.0.2")
			w.want("a.redis.docker", "")
			e.destroy("bb")
			e.start("aa", "a", "10.0.0.1")
			w.want("docker", "10.0.0.1")
		}
	})
}

func TestEngineComesLate(t *testing.T) {
	inBubble(t, publish.NameRules{}, false, func(w *watched) {
		w.engine.set("aa", &fakeContainer{name: "a", image: "redis:7", state: "running", addr: "10.0.0.1"})
		time.Sleep(time.Hour)
		synctest.Wait()
		if w.sink.isListed() {
			t.Error("ready without an engine")
		}
		if n := w.logged("engine away"); n != 1 {
			t.Errorf("log says away %d times; want once", n)
		}
		w.engine.setDown(false)
		w.wantWithin(2*time.Second, "a.redis.docker", "10.0.0.1")
		if !w.sink.isListed() {
			t.Error("not ready")
		}
	})
}

// Ready is what makes an unknown name NXDOMAIN: not before each container
// of the first list was looked at, the engine's being lost between or not.
func TestReadiness(t *testing.T) {
	inBubble(t, publish.NameRules{}, false, func(w *watched) {
		e := w.engine
		for i := range 20 {
			name := fmt.Sprintf("c%d", i)
			e.set(fmt.Sprintf("%02x", i), &fakeContainer{name: name, image: "x", state: "running", addr: "10.0.0.1"})
		}
		stuck := make(chan struct{})
		e.update(func() {
			e.inspect = func(ctx context.Context, id string) error {
				if strings.HasPrefix(id, "05") {
					select {
					case <-stuck:
					case <-ctx.Done():
					}
				}
				return ctx.Err()
			}
		})
		w.engine.setDown(false)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		w.want("c4.x.docker", "10.0.0.1") // one that takes long delays no other
		if w.sink.isListed() {
			t.Error("ready with a container that was not inspected yet")
		}
		w.engine.setDown(true) // and lost in the middle of it
		time.Sleep(time.Second)
		synctest.Wait()
		if w.sink.isListed() {
			t.Error("ready after the engine was lost")
		}
		e.update(func() { e.inspect = nil })
		close(stuck)
		w.engine.setDown(false)
		w.wantWithin(2*time.Second, "c5.x.docker", "10.0.0.1")
		if !w.sink.isListed() {
			t.Error("not ready")
		}
	})
}
