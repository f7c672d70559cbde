package watch

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rayje/dnsdock/internal/publish"
)

// What an engine answers wrongly costs at most the container that it is about.
func TestGarbage(t *testing.T) {
	inBubble(t, publish.NameRules{}, true, func(w *watched) {
		e := w.engine
		e.start("aa", "a", "10.0.0.1")
		w.want("docker", "10.0.0.1")
		for _, bad := range []error{errors.New("reply is not the expected JSON"), errors.New("500 Internal Server Error"), ErrRefused} {
			e.update(func() {
				e.inspect = func(_ context.Context, id string) error {
					if strings.HasPrefix(id, "aa") {
						return bad
					}
					return nil
				}
			})
			e.event("start", fakeID("aa"))
			e.start("bb", "b", "10.0.0.2")
			w.want("docker", "10.0.0.1 10.0.0.2")
			e.destroy("bb") // its end is seen all the same
			w.want("docker", "10.0.0.1")
		}
		e.update(func() { e.inspect = func(context.Context, string) error { return errors.New("no") } })
		e.event("die", fakeID("aa"))
		w.want("docker", "10.0.0.1")
		e.update(func() { e.inspect = nil; e.quiet = true })
		e.destroy("aa") // unseen, after inspects that failed
		w.wantWithin(45*time.Second, "a.redis.docker", "")

		e.update(func() { e.quiet = false })
		e.start("bb", "b", "10.0.0.2")
		w.want("docker", "10.0.0.2")
		e.send(Event{Type: "garbage"}) // it ends the stream
		time.Sleep(5 * time.Second)
		e.start("cc", "c", "10.0.0.3")
		w.wantWithin(2*time.Second, "c.redis.docker", "10.0.0.3")
		e.destroy("cc")
		w.want("docker", "10.0.0.2")
		for _, event := range []Event{{}, {Type: "network", Action: "connect"}} {
			e.send(event)
			w.want("docker", "10.0.0.2")
		}
		for _, bad := range []string{"not the expected JSON", "slow"} {
			e.update(func() {
				e.list = func(context.Context) error {
					if bad == "slow" {
						time.Sleep(CallTimeout)
					}
					return errors.New(bad)
				}
			})
			time.Sleep(2 * time.Minute)
			w.want("docker", "10.0.0.2")
			if got, want := w.logged("engine away"), w.logged("engine found"); got != want {
				t.Errorf("list %q: log says away %d times; want %d", bad, got, want)
			}
			e.update(func() { e.list = nil })
			time.Sleep(time.Minute)
		}
		e.start("cc", "c", "10.0.0.3")
		w.wantWithin(2*time.Second, "c.redis.docker", "10.0.0.3")
	})
}

// A reply about another container changes neither of the two.
func TestReplyAboutAnother(t *testing.T) {
	inBubble(t, publish.NameRules{}, true, func(w *watched) {
		w.engine.start("aa", "a", "10.0.0.1")
		w.want("docker", "10.0.0.1")
		w.engine.start("bb", fakeID("cc"), "10.0.0.2") // a name that looks like an ID
		w.engine.event("start", fakeID("cc"))
		synctest.Wait()
		if n := w.logged("the reply is about"); n != 1 {
			t.Errorf("logged %d times; want once:\n%s", n, w.log)
		}
		w.want("docker", "10.0.0.1 10.0.0.2")
	})
}

func TestRetriesInspect(t *testing.T) {
	inBubble(t, publish.NameRules{}, true, func(w *watched) {
		w.engine.update(func() { w.engine.inspect = func(context.Context, string) error { return errors.New("busy") } })
		w.engine.start("aa", "a", "10.0.0.1")
		w.want("a.redis.docker", "")
		if w.logged("busy") == 0 {
			t.Errorf("the reason is not in the log:\n%s", w.log)
		}
		w.engine.update(func() { w.engine.inspect = nil })
		w.wantWithin(5*time.Second, "a.redis.docker", "10.0.0.1")
		w.engine.update(func() {
			w.engine.inspect = func(context.Context, string) error { return errors.New("broken") }
		})
		w.engine.event("start", fakeID("aa"))
		before := w.engine.count("List")
		time.Sleep(time.Hour)
		if n := w.engine.count("List") - before; n > 130 {
			t.Errorf("%d lists in an hour; want no more than usual, about 120", n)
		}
		if n := w.logged("broken"); n != 1 {
			t.Errorf("logged %d times; want once", n)
		}
		w.engine.update(func() { w.engine.inspect = nil })
		w.wantWithin(45*time.Second, "a.redis.docker", "10.0.0.1")
		time.Sleep(time.Minute)
		if w.logged("can be inspected again") == 0 {
			t.Errorf("the end of it is not in the log:\n%s", w.log)
		}
	})
}

func TestAll(t *testing.T) {
	inBubble(t, publish.NameRules{All: true}, true, func(w *watched) {
		e := w.engine
		e.start("aa", "a", "10.0.0.1")
		w.want("a.redis.docker", "10.0.0.1")
		e.setState("aa", "paused")
		e.event("pause", fakeID("aa"))
		w.want("a.redis.docker", "10.0.0.1")
		e.setState("aa", "exited") // the engine takes its address
		e.event("die", fakeID("aa"))
		w.want("a.redis.docker", "10.0.0.1")
		e.start("aa", "a", "10.0.0.5")
		w.want("a.redis.docker", "10.0.0.5")
		e.destroy("aa")
		w.want("a.redis.docker", "")

		c := &fakeContainer{name: "b", image: "redis:7", state: "created", env: map[string]string{"DNSDOCK_IPADDRESS": "10.9.9.9"}}
		e.set("bb", c)
		e.event("create", fakeID("bb"))
		w.want("b.redis.docker", "10.9.9.9")
		e.set("cc", &fakeContainer{name: "c", image: "redis:7", state: "created", networks: map[string]fakeEndpoint{"n": {addrs: "10.8.0.8"}}})
		e.event("create", fakeID("cc"))
		w.want("c.redis.docker", "10.8.0.8")
	})
}

// Each problem is logged once in a container's life.
func TestLogsProblemsOnce(t *testing.T) {
	inBubble(t, publish.NameRules{}, true, func(w *watched) {
		count := func() int {
			synctest.Wait()
			return w.logged("container=a source=DNSDOCK_TTL value=soon")
		}
		w.engine.start("aa", "a", "10.0.0.1", "DNSDOCK_TTL=soon")
		w.want("a.redis.docker", "10.0.0.1")
		w.engine.setState("aa", "exited")
		w.engine.event("die", fakeID("aa"))
		w.engine.start("aa", "a", "10.0.0.1", "DNSDOCK_TTL=soon")
		w.engine.update(func() { w.engine.inspect = func(context.Context, string) error { return errors.New("no") } })
		w.engine.event("start", fakeID("aa"))
		synctest.Wait()
		w.engine.update(func() { w.engine.inspect = nil })
		time.Sleep(5 * time.Minute)
		if n := count(); n != 1 {
			t.Errorf("logged %d times; want once:\n%s", n, w.log)
		}
	})
}

// A storm of events about one container is a few inspects of it.
func TestCoalesces(t *testing.T) {
	inBubble(t, publish.NameRules{}, true, func(w *watched) {
		w.engine.start("aa", "a", "10.0.0.1")
		w.want("a.redis.docker", "10.0.0.1")
		release := make(chan struct{})
		var mu sync.Mutex
		running, most := 0, 0
		w.engine.update(func() {
			w.engine.inspect = func(context.Context, string) error {
				mu.Lock()
				running++
				most = max(most, running)
				mu.Unlock()
				<-release
				mu.Lock()
				running--
				mu.Unlock()
				return nil
			}
		})
		before := w.engine.count("Inspect")
		for range 500 {
			w.engine.event("start", fakeID("aa"))
		}
		for i := range 50 {
			w.engine.start(fmt.Sprintf("b%02x", i), fmt.Sprintf("b%d", i), "10.0.0.2")
		}
		synctest.Wait()
		close(release)
		w.want("b49.redis.docker", "10.0.0.2")
		if n := w.engine.count("Inspect") - before; n > 54 {
			t.Errorf("%d inspects; want at most 54", n)
		}
		if most != MaxInspects {
			t.Errorf("%d inspects at a time; want %d", most, MaxInspects)
		}
	})
}

// Containers that newly fail to be inspected do not put the next list off.
func TestListsAmongFailures(t *testing.T) {
	inBubble(t, publish.NameRules{}, true, func(w *watched) {
		e := w.engine
		e.start("aa", "a", "10.0.0.1")
		w.want("a.redis.docker", "10.0.0.1")
		e.update(func() {
			e.inspect = func(_ context.Context, id string) error {
				if strings.HasPrefix(id, "aa") {
					return nil
				}
				return errors.New("no")
			}
		})
		e.update(func() { e.quiet = true })
		e.setState("aa", "exited")
		e.update(func() { e.quiet = false })
		for i := range 60 {
			e.start(fmt.Sprintf("b%02x", i), "b", "10.0.0.2")
			time.Sleep(time.Second)
		}
		w.want("a.redis.docker", "")
	})
}

// A container that ended while nobody watched is forgotten with the next list,
// and one that did not run then is as it is now.
func TestForgetsWhatEndedUnseen(t *testing.T) {
	inBubble(t, publish.NameRules{}, true, func(w *watched) {
		e := w.engine
		e.start("aa", "a", "10.0.0.1")
		e.start("bb", "b", "10.0.0.2")
		w.want("docker", "10.0.0.1 10.0.0.2")
		e.setDown(true)
		e.set("aa", &fakeContainer{name: "a2", image: "redis:7", state: "running", addr: "10.0.0.7"})
		e.destroy("bb")
		time.Sleep(time.Hour)
		e.setDown(false)
		w.wantWithin(2*time.Second, "docker", "10.0.0.7")
		w.want("a2.redis.docker", "10.0.0.7")
		if got := strings.Join(w.sink.gone, " "); got != fakeID("bb") {
			t.Errorf("forgotten: %s; want only bb", got)
		}
		e.setState("aa", "exited")
		e.event("die", fakeID("aa"))
		w.want("docker", "")
		e.start("aa", "a", "10.0.0.1")
		w.want("a.redis.docker", "10.0.0.1")
		if len(w.sink.gone) != 1 {
			t.Errorf("forgotten: %v; want none that only stopped", w.sink.gone)
		}
	})
}

// Containers without the labels are not published, though events or proxies
// tell of them, and lend their addresses all the same.
func TestLabels(t *testing.T) {
	inBubble(t, publish.NameRules{}, true, func(w *watched) {
		w.watcher.Labels = []string{"public", "site=a"}
		e := w.engine
		for prefix, labels := range map[string]map[string]string{
			"a1": {"public": "", "site": "a"}, "a2": {"public": "1"}, "a3": {"public": "", "site": "b"}, "a4": nil,
		} {
			addr := "10.0.0." + prefix[1:]
			e.set(prefix, &fakeContainer{name: prefix, image: "x", state: "running", addr: addr, labels: labels})
			e.event("start", fakeID(prefix))
		}
		w.want("docker", "10.0.0.1")
		e.set("a5", &fakeContainer{
			name: "a5", image: "x", state: "running", shares: fakeID("a4"),
			labels: map[string]string{"public": "", "site": "a"},
		})
		e.event("start", fakeID("a5"))
		w.want("a5.x.docker", "10.0.0.4")
	})
}

// Events that were not asked for cost no inspects.
func TestEventsNotAskedFor(t *testing.T) {
	inBubble(t, publish.NameRules{}, true, func(w *watched) {
		e := w.engine
		e.start("aa", "a", "10.0.0.1")
		w.want("docker", "10.0.0.1")
		before := e.count("Inspect")
		for range 2500 {
			for _, action := range []string{"exec_create: sh -c true", "exec_start: sh -c true", "exec_die", "top"} {
				e.event(action, fakeID("aa"))
			}
			e.send(Event{Type: "image", Action: "create", Container: fakeID("aa")})
			synctest.Wait()
		}
		if n := e.count("Inspect") - before; n != 0 {
			t.Errorf("%d inspects; want none", n)
		}
		e.setState("aa", "exited")
		e.event("health_status: unhealthy", fakeID("aa"))
		w.want("docker", "")
	})
}
