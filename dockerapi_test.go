package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/engine"
	"github.com/rayje/dnsdock/internal/index"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/zone"
)

// A fakeEngine is an http.Handler that answers the four calls as an engine
// does, and misbehaves on demand.
type fakeEngine struct {
	mu         sync.Mutex
	version    string
	containers map[string]*fakeContainer
	streams    map[chan string]bool // lines of each open event stream; closed to end it
	calls      map[string]int       // by path without version, ids as {id}
	quiet      bool                 // drops its events without a word
	list       func() string        // answers a list instead
	inspect    func(id string) (status int, body string)
	hang       chan struct{} // while not nil, calls wait until it is closed
	internal   []string      // the networks that are; nil: GET /networks is refused
}

type fakeContainer struct {
	name, image, state string
	addr               string // IPv4 in the network bridge
	env                []string
	started            string                  // RFC 3339
	networks           map[string]endpointJSON // further ones
	mode               string                  // of its network
	health             string
	labels             map[string]string
}

// status is what a list says.
func (c *fakeContainer) status() string {
	if c.health == "" {
		return "Up 2 hours"
	}
	return "Up 2 hours (" + strings.Replace(c.health, "starting", "health: starting", 1) + ")"
}

func newFakeEngine() *fakeEngine {
	return &fakeEngine{
		version:    "1.41",
		containers: make(map[string]*fakeContainer),
		streams:    make(map[chan string]bool),
		calls:      make(map[string]int),
	}
}

// fakeID makes the id of 64 digits that begins with prefix.
func fakeID(prefix string) string { return prefix + strings.Repeat("0", 64-len(prefix)) }

// start makes a container running, or changes one, and sends its event.
func (e *fakeEngine) start(prefix, name, addr string, env ...string) {
	e.set(prefix, &fakeContainer{name: name, image: "redis:7", state: "running", addr: addr, env: env})
	e.event("start", fakeID(prefix))
}

func (e *fakeEngine) set(prefix string, c *fakeContainer) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.containers[fakeID(prefix)] = c
}

// setState changes the state, and takes the address of what does not run.
func (e *fakeEngine) setState(prefix, state string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := *e.containers[fakeID(prefix)]
	if c.state = state; state == "exited" {
		c.addr = ""
	}
	e.containers[fakeID(prefix)] = &c
}

func (e *fakeEngine) destroy(prefix string) {
	e.mu.Lock()
	delete(e.containers, fakeID(prefix))
	e.mu.Unlock()
	e.event("destroy", fakeID(prefix))
}

func (e *fakeEngine) event(action, id string) {
	e.send(fmt.Sprintf(`{"Type":"container","Action":%q,"Actor":{"ID":%q,"Attributes":{}}}`, action, id))
}

func (e *fakeEngine) send(line string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for c := range e.streams {
		if !e.quiet {
			c <- line
		}
	}
}

// endStreams closes all event streams.
func (e *fakeEngine) endStreams() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for c := range e.streams {
		close(c)
		delete(e.streams, c)
	}
}

// update changes the engine under its lock.
func (e *fakeEngine) update(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f()
}

func (e *fakeEngine) count(call string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.calls[call]
}

func (c *fakeContainer) endpoints() map[string]endpointJSON {
	if c.mode != "" { // "host", or "container:" and an id
		return nil
	}
	all := map[string]endpointJSON{"bridge": {IPAddress: c.addr}}
	for n, e := range c.networks {
		all[n] = e
	}
	return all
}

func (e *fakeEngine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	e.mu.Lock()
	path, versioned := strings.CutPrefix(path, "/v"+e.version)
	if e.version == "" {
		versioned = true
	}
	id, isInspect := strings.CutPrefix(path, "/containers/")
	id, isInspect2 := strings.CutSuffix(id, "/json")
	switch {
	case isInspect && isInspect2:
		e.calls["/containers/{id}/json"]++
	default:
		e.calls[path]++
	}
	hang, list, inspect := e.hang, e.list, e.inspect
	e.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-r.Context().Done():
			return
		}
	}
	switch {
	case r.Method != "GET":
		http.Error(w, "read only", http.StatusForbidden)
	case path == "/_ping":
		w.Header().Set("Api-Version", e.version)
		fmt.Fprint(w, "OK")
	case !versioned:
		http.Error(w, `{"message":"client version is wrong"}`, http.StatusBadRequest)
	case path == "/containers/json":
		if list != nil {
			fmt.Fprint(w, list())
			return
		}
		e.serveList(w)
	case path == "/networks" && e.internal != nil:
		list := []any{}
		for _, n := range e.internal {
			list = append(list, map[string]any{"Id": "id-" + n, "Name": n, "Internal": true})
		}
		_ = json.NewEncoder(w).Encode(list)
	case path == "/events":
		e.serveEvents(w, r)
	case isInspect && isInspect2:
		if inspect != nil {
			if status, body := inspect(id); status != 0 {
				w.WriteHeader(status)
				fmt.Fprint(w, body)
				return
			}
		}
		e.serveInspect(w, id)
	default:
		http.Error(w, `{"message":"forbidden"}`, http.StatusForbidden)
	}
}

func (e *fakeEngine) serveList(w http.ResponseWriter) {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := []any{}
	for id, c := range e.containers {
		list = append(list, map[string]any{
			"Id": id, "Names": []string{"/other/link", "/" + c.name}, "State": c.state, "Status": c.status(),
			"NetworkSettings": map[string]any{"Networks": c.endpoints()},
		})
	}
	_ = json.NewEncoder(w).Encode(list)
}

func (e *fakeEngine) serveInspect(w http.ResponseWriter, id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.containers[id]
	for other, named := range e.containers {
		if named.name == id {
			id, c = other, named
		}
	}
	if c == nil {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintf(w, `{"message":"No such container: %s"}`, id)
		return
	}
	state := map[string]any{"Status": c.state, "StartedAt": c.started}
	if c.health != "" {
		state["Health"] = map[string]any{"Status": c.health}
	}
	_ = json.NewEncoder(w).Encode(map[string]any{
		"Id": id, "Name": "/" + c.name, "Image": "sha256:01", "State": state,
		"Config":          map[string]any{"Image": c.image, "Env": c.env, "Labels": c.labels},
		"HostConfig":      map[string]any{"NetworkMode": c.mode},
		"NetworkSettings": map[string]any{"Networks": c.endpoints()},
	})
}

func (e *fakeEngine) serveEvents(w http.ResponseWriter, r *http.Request) {
	lines := make(chan string, 1024)
	e.mu.Lock()
	e.streams[lines] = true
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		delete(e.streams, lines)
		e.mu.Unlock()
	}()
	flush := w.(http.Flusher).Flush
	flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case line, ok := <-lines:
			if !ok {
				return
			}
			fmt.Fprintln(w, line)
			flush()
		}
	}
}

// A fakeListener is what the fake engine listens on in simulated time. Down,
// it refuses.
type fakeListener struct {
	*pipeListener
	mu   sync.Mutex
	down bool
	open []net.Conn // the engine's ends
}

func (l *fakeListener) dial(context.Context, string, string) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		return nil, errors.New("connection refused")
	}
	engine, client := net.Pipe()
	select {
	case l.conns <- engine:
	case <-l.done:
		return nil, net.ErrClosed
	}
	l.open = append(l.open, engine)
	return client, nil
}

// setDown ends all connections and refuses new ones, or accepts again.
func (l *fakeListener) setDown(down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = down
	if down {
		for _, c := range l.open {
			_ = c.Close()
		}
		l.open = nil
	}
}

// A watch is a watcher on a fake engine in simulated time.
type watch struct {
	*testing.T
	engine *fakeEngine
	ln     *fakeListener
	reg    *registry
	log    *logWatch
}

// inWatch runs f in a bubble in which a watcher watches a fake engine. Up
// says whether the engine answers from the beginning.
func inWatch(t *testing.T, n publish.Naming, up bool, f func(w *watch)) {
	synctest.Test(t, func(t *testing.T) {
		w := &watch{T: t, engine: newFakeEngine(), ln: &fakeListener{pipeListener: newPipeListener()}, log: newLogWatch()}
		w.ln.setDown(!up)
		srv := &http.Server{Handler: w.engine}
		var wg sync.WaitGroup
		wg.Go(func() { _ = srv.Serve(w.ln) })
		n.Apex = mustName(t, "docker")
		log := slog.New(slog.NewTextHandler(w.log, nil))
		w.reg = newRegistry(n, 0, log)
		client := newClient(engine.URL{Text: "fake"}, "http://docker", &http.Transport{DialContext: w.ln.dial})
		ctx, cancel := context.WithCancel(t.Context())
		wg.Go(func() { _ = newWatcher(client, n, w.reg, log).run(ctx) })
		f(w)
		cancel()
		synctest.Wait()
		client.call.CloseIdleConnections()
		_ = srv.Close()
		wg.Wait()
		checkRegistry(t, w.reg)
	})
}

// answer returns what qname answers: addresses with spaces between, IPv4
// first and then in order; "" for none.
func (w *watch) answer(qname string) string {
	w.Helper()
	var all []string
	for _, v4 := range []bool{true, false} {
		addrs, _, _ := w.reg.Rrset(w.reg.Match(mustName(w, qname), nil), v4, 1000, index.Viewer{})
		slices.SortFunc(addrs, netip.Addr.Compare)
		for _, a := range addrs {
			all = append(all, a.String())
		}
	}
	return strings.Join(all, " ")
}

// want holds that qname answers want once everything has settled.
func (w *watch) want(qname, want string) {
	w.Helper()
	synctest.Wait()
	if got := w.answer(qname); got != want {
		w.Errorf("%s: %q; want %q", qname, got, want)
	}
}

// wantWithin waits for at most d of simulated time until qname answers want.
func (w *watch) wantWithin(d time.Duration, qname, want string) {
	w.Helper()
	begun := time.Now()
	for time.Since(begun) < d {
		synctest.Wait()
		if w.answer(qname) == want {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	w.want(qname, want)
}

func TestWatchEvents(t *testing.T) {
	inWatch(t, publish.Naming{}, true, func(w *watch) {
		e := w.engine
		w.want("docker", "")
		if !w.reg.Ready.Load() {
			t.Error("not ready after an empty list")
		}
		if !strings.Contains(w.log.String(), "engine found") {
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
			networks: map[string]endpointJSON{"a": {IPAddress: "10.0.0.2", GlobalIPv6Address: "fd00::2"}}})
		e.send(fmt.Sprintf(`{"Type":"network","Action":"connect","Actor":{"ID":"net","Attributes":{"container":%q}}}`, fakeID("aa")))
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
func TestWatchGoesByState(t *testing.T) {
	inWatch(t, publish.Naming{}, true, func(w *watch) {
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

func TestWatchIdleCost(t *testing.T) {
	inWatch(t, publish.Naming{}, true, func(w *watch) {
		for i := range 20 {
			w.engine.set(fmt.Sprintf("%02x", i), &fakeContainer{name: fmt.Sprintf("c%d", i), image: "x", state: "running", addr: fmt.Sprintf("10.0.0.%d", i)})
		}
		w.engine.set("ff", &fakeContainer{name: "off", image: "x", state: "exited"})
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		before := w.engine.count("/containers/json") + w.engine.count("/containers/{id}/json") + w.engine.count("/_ping") + w.engine.count("/events")
		const period = 10 * time.Minute
		time.Sleep(period)
		synctest.Wait()
		after := w.engine.count("/containers/json") + w.engine.count("/containers/{id}/json") + w.engine.count("/_ping") + w.engine.count("/events")
		if most := 2 * int(period/(10*time.Second)); after-before > most || after == before {
			t.Errorf("%d calls in %v; want 1 to %d", after-before, period, most)
		}
	})
}

// While the engine is away nothing changes; when it is back, what changed in
// between is right within 2 s.
func TestWatchReconnects(t *testing.T) {
	inWatch(t, publish.Naming{}, true, func(w *watch) {
		e := w.engine
		e.start("aa", "a", "10.0.0.1")
		e.start("bb", "b", "10.0.0.2")
		w.want("docker", "10.0.0.1 10.0.0.2")
		for _, away := range []time.Duration{time.Second, time.Minute, 6 * time.Hour} {
			time.Sleep(time.Minute)
			w.ln.setDown(true)
			e.setState("bb", "exited")
			e.set("aa", &fakeContainer{name: "a", image: "redis:7", state: "running", addr: "10.0.0.7"})
			e.set("cc", &fakeContainer{name: "c", image: "redis:7", state: "running", addr: "10.0.0.3"})
			time.Sleep(away)
			w.want("a.redis.docker", "10.0.0.1")
			w.want("b.redis.docker", "10.0.0.2")
			w.want("c.redis.docker", "")
			w.ln.setDown(false)
			w.wantWithin(2*time.Second, "c.redis.docker", "10.0.0.3")
			w.want("a.redis.docker", "10.0.0.7")
			w.want("b.redis.docker", "")

			e.destroy("cc")
			e.start("aa", "a", "10.0.0.1")
			e.start("bb", "b", "10.0.0.2")
			w.want("c.redis.docker", "")
			w.want("b.redis.docker", "10.0.0.2")
		}
		lost, found := strings.Count(w.log.String(), "engine away"), strings.Count(w.log.String(), "engine found")
		if lost != 3 || found != 4 {
			t.Errorf("log says away %d times and found %d times; want 3 and 4", lost, found)
		}
	})
}

// A stream that a proxy cuts now and then is opened again at once, without
// noise and without a hot loop.
func TestWatchStreamCut(t *testing.T) {
	inWatch(t, publish.Naming{}, true, func(w *watch) {
		e := w.engine
		e.start("aa", "a", "10.0.0.1")
		w.want("a.redis.docker", "10.0.0.1")
		time.Sleep(10 * time.Second)
		e.update(func() { e.quiet = true })
		e.start("bb", "b", "10.0.0.2")
		e.update(func() { e.quiet = false })
		e.endStreams()
		w.want("b.redis.docker", "10.0.0.2") // at once
		if n := e.count("/events"); n != 2 {
			t.Errorf("%d streams; want 2", n)
		}
		if strings.Contains(w.log.String(), "away") {
			t.Errorf("log:\n%s", w.log)
		}
		// An engine that ends each stream at once.
		stop := time.Now().Add(time.Minute)
		for time.Now().Before(stop) {
			synctest.Wait()
			e.endStreams()
			time.Sleep(5 * time.Millisecond)
		}
		if n := e.count("/events"); n > 200 || n < 50 {
			t.Errorf("%d streams in a minute; want 50 to 200", n)
		}
		w.want("docker", "10.0.0.1 10.0.0.2")
	})
}

// An engine that hangs with its stream open is noticed; when it goes on,
// all is right again.
func TestWatchHang(t *testing.T) {
	inWatch(t, publish.Naming{}, true, func(w *watch) {
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

func TestWatchEngineComesLate(t *testing.T) {
	inWatch(t, publish.Naming{}, false, func(w *watch) {
		w.engine.set("aa", &fakeContainer{name: "a", image: "redis:7", state: "running", addr: "10.0.0.1"})
		time.Sleep(time.Hour)
		synctest.Wait()
		if w.reg.Ready.Load() {
			t.Error("ready without an engine")
		}
		if n := strings.Count(w.log.String(), "engine away"); n != 1 {
			t.Errorf("log says away %d times; want once", n)
		}
		w.ln.setDown(false)
		w.wantWithin(2*time.Second, "a.redis.docker", "10.0.0.1")
		if !w.reg.Ready.Load() {
			t.Error("not ready")
		}
	})
}

// Ready is what makes an unknown name NXDOMAIN: not before each container
// of the first list was looked at, the engine's being lost between or not.
func TestWatchReadiness(t *testing.T) {
	inWatch(t, publish.Naming{}, false, func(w *watch) {
		e := w.engine
		for i := range 20 {
			e.set(fmt.Sprintf("%02x", i), &fakeContainer{name: fmt.Sprintf("c%d", i), image: "x", state: "running", addr: "10.0.0.1"})
		}
		stuck := make(chan struct{})
		e.update(func() {
			e.inspect = func(id string) (int, string) {
				if strings.HasPrefix(id, "05") {
					<-stuck
				}
				return 0, ""
			}
		})
		w.ln.setDown(false)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		w.want("c4.x.docker", "10.0.0.1") // one that takes long delays no other
		if w.reg.Ready.Load() {
			t.Error("ready with a container that was not inspected yet")
		}
		w.ln.setDown(true) // and lost in the middle of it
		time.Sleep(time.Second)
		synctest.Wait()
		if w.reg.Ready.Load() {
			t.Error("ready after the engine was lost")
		}
		e.update(func() { e.inspect = nil })
		close(stuck)
		w.ln.setDown(false)
		w.wantWithin(2*time.Second, "c5.x.docker", "10.0.0.1")
		if !w.reg.Ready.Load() {
			t.Error("not ready")
		}
	})
}

// What an engine may send wrongly costs at most the container that it is about.
func TestWatchGarbage(t *testing.T) {
	inWatch(t, publish.Naming{}, true, func(w *watch) {
		e := w.engine
		e.start("aa", "a", "10.0.0.1")
		w.want("docker", "10.0.0.1")
		for _, body := range []string{"", "{", "[]", "null", `{"Id":"x"}`, `{"Id":5}`, strings.Repeat("[", 20000)} {
			e.update(func() {
				e.inspect = func(id string) (int, string) {
					if strings.HasPrefix(id, "aa") {
						return 200, body
					}
					return 0, ""
				}
			})
			e.event("start", fakeID("aa"))
			e.start("bb", "b", "10.0.0.2")
			w.want("docker", "10.0.0.1 10.0.0.2")
			e.destroy("bb")
			w.want("docker", "10.0.0.1")
			// Its end is seen all the same.
		}
		for _, status := range []int{500, 403, 301, 204} {
			e.update(func() { e.inspect = func(string) (int, string) { return status, "no" } })
			e.event("die", fakeID("aa"))
			w.want("docker", "10.0.0.1")
		}
		e.update(func() { e.inspect = nil; e.quiet = true })
		e.destroy("aa") // unseen, after inspects that failed
		w.wantWithin(45*time.Second, "a.redis.docker", "")

		e.update(func() { e.quiet = false })
		e.start("bb", "b", "10.0.0.2")
		w.want("docker", "10.0.0.2")
		for _, line := range []string{"garbage", "[]", `{"Type":5}`, "{", `"x"`} {
			e.send(line)
			time.Sleep(5 * time.Second)
			e.start("cc", "c", "10.0.0.3")
			w.wantWithin(2*time.Second, "c.redis.docker", "10.0.0.3")
			e.destroy("cc")
			w.want("docker", "10.0.0.2")
		}
		for _, line := range []string{"{}", `{"Type":"network","Action":"connect"}`, "null", `{"Type":"container","Action":"start","Actor":null}`} {
			e.send(line)
			w.want("docker", "10.0.0.2")
		}
		for _, body := range []string{"", "garbage", "{}", `[{"Id":5}]`, "slow"} {
			e.update(func() {
				e.list = func() string {
					if body == "slow" {
						time.Sleep(2 * callTimeout)
					}
					return body
				}
			})
			time.Sleep(2 * time.Minute)
			w.want("docker", "10.0.0.2")
			if got, want := strings.Count(w.log.String(), "engine away"), strings.Count(w.log.String(), "engine found"); got != want {
				t.Errorf("list %q: log says away %d times; want %d", body, got, want)
			}
			e.update(func() { e.list = nil })
			time.Sleep(time.Minute)
		}
		e.start("cc", "c", "10.0.0.3")
		w.wantWithin(2*time.Second, "c.redis.docker", "10.0.0.3")
	})
}

func TestWatchRetriesInspect(t *testing.T) {
	inWatch(t, publish.Naming{}, true, func(w *watch) {
		w.engine.update(func() { w.engine.inspect = func(string) (int, string) { return 500, `{"message":"busy"}` } })
		w.engine.start("aa", "a", "10.0.0.1")
		w.want("a.redis.docker", "")
		if !strings.Contains(w.log.String(), "busy") {
			t.Errorf("the reason is not in the log:\n%s", w.log)
		}
		w.engine.update(func() { w.engine.inspect = nil })
		w.wantWithin(5*time.Second, "a.redis.docker", "10.0.0.1")
		w.engine.update(func() { w.engine.inspect = func(string) (int, string) { return 500, `{"message":"broken"}` } })
		w.engine.event("start", fakeID("aa"))
		before := w.engine.count("/containers/json")
		time.Sleep(time.Hour)
		if n := w.engine.count("/containers/json") - before; n > 130 {
			t.Errorf("%d lists in an hour; want no more than usual, about 120", n)
		}
		if n := strings.Count(w.log.String(), "broken"); n != 1 {
			t.Errorf("logged %d times; want once", n)
		}
		w.engine.update(func() { w.engine.inspect = nil })
		w.wantWithin(45*time.Second, "a.redis.docker", "10.0.0.1")
		time.Sleep(time.Minute)
		w.log.wait(t, "can be inspected again")
	})
}

func TestWatchAll(t *testing.T) {
	inWatch(t, publish.Naming{All: true}, true, func(w *watch) {
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

		c := &fakeContainer{name: "b", image: "redis:7", state: "created", env: []string{"DNSDOCK_IPADDRESS=10.9.9.9"}}
		e.set("bb", c)
		e.event("create", fakeID("bb"))
		w.want("b.redis.docker", "10.9.9.9")
		ep := endpointJSON{}
		ep.IPAMConfig = &struct{ IPv4Address, IPv6Address string }{"10.8.0.8", ""}
		e.set("cc", &fakeContainer{name: "c", image: "redis:7", state: "created", networks: map[string]endpointJSON{"n": ep}})
		e.event("create", fakeID("cc"))
		w.want("c.redis.docker", "10.8.0.8")
	})
}

// Each problem is logged once in a container's life.
func TestWatchLogsProblemsOnce(t *testing.T) {
	inWatch(t, publish.Naming{}, true, func(w *watch) {
		count := func() int {
			synctest.Wait()
			return strings.Count(w.log.String(), "container=a source=DNSDOCK_TTL value=soon")
		}
		w.engine.start("aa", "a", "10.0.0.1", "DNSDOCK_TTL=soon")
		w.want("a.redis.docker", "10.0.0.1")
		w.engine.setState("aa", "exited")
		w.engine.event("die", fakeID("aa"))
		w.engine.start("aa", "a", "10.0.0.1", "DNSDOCK_TTL=soon")
		w.engine.update(func() { w.engine.inspect = func(string) (int, string) { return 500, "" } })
		w.engine.event("start", fakeID("aa"))
		synctest.Wait()
		w.engine.update(func() { w.engine.inspect = nil })
		time.Sleep(5 * time.Minute)
		if n := count(); n != 1 {
			t.Errorf("logged %d times; want once:\n%s", n, w.log)
		}
	})
}

// What the API did outlives restarts, renames and outages, and ends with
// the container, also when its end is not seen.
func TestWatchKeepsWhatTheAPIDid(t *testing.T) {
	inWatch(t, publish.Naming{}, true, func(w *watch) {
		e := w.engine
		e.start("aa", "a", "10.0.0.1")
		e.start("bb", "b", "10.0.0.2")
		w.want("docker", "10.0.0.1 10.0.0.2")
		part := "z"
		if _, err := w.reg.update(fakeID("aa"), publish.Patch{Name: &part}); err != nil {
			t.Fatal(err)
		}
		if err := w.reg.remove(fakeID("bb")); err != nil {
			t.Fatal(err)
		}
		w.want("z.redis.docker", "10.0.0.1")
		w.ln.setDown(true)
		e.set("aa", &fakeContainer{name: "a2", image: "redis:7", state: "running", addr: "10.0.0.7"})
		time.Sleep(time.Hour)
		w.ln.setDown(false)
		w.wantWithin(2*time.Second, "z.redis.docker", "10.0.0.7")
		w.want("docker", "10.0.0.7")
		e.start("bb", "b", "10.0.0.2") // again
		time.Sleep(time.Hour)
		w.want("docker", "10.0.0.7")

		w.ln.setDown(true)
		e.destroy("aa")
		e.destroy("bb")
		time.Sleep(time.Minute)
		w.ln.setDown(false)
		w.wantWithin(2*time.Second, "docker", "")
		e.start("aa", "a", "10.0.0.1")
		e.start("bb", "b", "10.0.0.2")
		w.want("a.redis.docker", "10.0.0.1")
		w.want("b.redis.docker", "10.0.0.2")
	})
}

// A storm of events about one container is a few inspects of it.
func TestWatchCoalesces(t *testing.T) {
	inWatch(t, publish.Naming{}, true, func(w *watch) {
		w.engine.start("aa", "a", "10.0.0.1")
		w.want("a.redis.docker", "10.0.0.1")
		release := make(chan struct{})
		var mu sync.Mutex
		running, most := 0, 0
		w.engine.update(func() {
			w.engine.inspect = func(string) (int, string) {
				mu.Lock()
				running++
				most = max(most, running)
				mu.Unlock()
				<-release
				mu.Lock()
				running--
				mu.Unlock()
				return 0, ""
			}
		})
		before := w.engine.count("/containers/{id}/json")
		for range 500 {
			w.engine.event("start", fakeID("aa"))
		}
		for i := range 50 {
			w.engine.start(fmt.Sprintf("b%02x", i), fmt.Sprintf("b%d", i), "10.0.0.2")
		}
		synctest.Wait()
		close(release)
		w.want("b49.redis.docker", "10.0.0.2")
		if n := w.engine.count("/containers/{id}/json") - before; n > 54 {
			t.Errorf("%d inspects; want at most 54", n)
		}
		if most != maxInspects {
			t.Errorf("%d inspects at a time; want %d", most, maxInspects)
		}
	})
}

// Containers that newly fail to be inspected do not put the next list off.
func TestWatchListsAmongFailures(t *testing.T) {
	inWatch(t, publish.Naming{}, true, func(w *watch) {
		e := w.engine
		e.start("aa", "a", "10.0.0.1")
		w.want("a.redis.docker", "10.0.0.1")
		e.update(func() {
			e.inspect = func(id string) (int, string) {
				if strings.HasPrefix(id, "aa") {
					return 0, ""
				}
				return 500, "no"
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

// An event without end, or of any length, does not take all memory.
func TestEventWithoutEnd(t *testing.T) {
	endless := io.MultiReader(strings.NewReader(`{"Type":"container","Actor":{"ID":"`), neverEnds{})
	s := newEventStream(io.NopCloser(endless))
	if e, err := s.next(); err == nil {
		t.Errorf("next = %+v; want an error", e)
	}
	var many strings.Builder
	for i := range 3 * maxEvent / 100 {
		fmt.Fprintf(&many, `{"Type":"container","Action":"start","Actor":{"ID":"%0100d"}}`, i)
	}
	s = newEventStream(io.NopCloser(strings.NewReader(many.String())))
	for i := range 3 * maxEvent / 100 {
		if e, err := s.next(); err != nil || e.container() != fmt.Sprintf("%0100d", i) {
			t.Fatalf("event %d: %+v, %v", i, e, err)
		}
	}
}

type neverEnds struct{}

func (neverEnds) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}

func TestContainerOfEvent(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{`{"Type":"container","Action":"start","Actor":{"ID":"c1","Attributes":{"container":"x"}}}`, "c1"},
		{`{"Type":"network","Action":"connect","Actor":{"ID":"n1","Attributes":{"container":"c1"}}}`, "c1"},
		{`{"Type":"network","Action":"connect","Actor":{"ID":"c1","Attributes":{"name":"podman"}}}`, "c1"}, // podman's
		{`{}`, ""},
	} {
		var e event
		if err := json.Unmarshal([]byte(c.line), &e); err != nil || e.container() != c.want {
			t.Errorf("%s: %q, %v; want %q", c.line, e.container(), err, c.want)
		}
	}
}

func TestNegotiate(t *testing.T) {
	for _, c := range []struct{ version, want string }{
		{"1.24", "/v1.24"}, {"1.41", "/v1.41"}, {maxAPI, "/v" + maxAPI}, {"1.99", "/v" + maxAPI}, {"", ""}, {"2.0", ""}, {"x", ""},
	} {
		if got, err := negotiate(c.version); got != c.want || err != nil {
			t.Errorf("negotiate(%q) = %q, %v; want %q", c.version, got, err, c.want)
		}
	}
	if _, err := negotiate("1.23"); err == nil || !strings.Contains(err.Error(), "1.24") {
		t.Errorf("negotiate(1.23): %v; want an error that names 1.24", err)
	}
}

// startEngine serves h on loopback, over TLS where cfg is not nil, and
// returns the engine's URL.
func startEngine(t *testing.T, h http.Handler, cfg *tls.Config) engine.URL {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	if cfg != nil {
		srv.TLS = cfg
		srv.StartTLS()
	} else {
		srv.Start()
	}
	t.Cleanup(srv.Close)
	u, err := engine.ParseURL("tcp://" + srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestAddrsOfEndpoint(t *testing.T) {
	static := &struct{ IPv4Address, IPv6Address string }{"10.0.0.9", "fd00::9"}
	for _, c := range []struct {
		in   endpointJSON
		want string
	}{
		{endpointJSON{}, "[]"},
		{endpointJSON{IPAddress: "10.0.0.1"}, "[10.0.0.1]"},
		{endpointJSON{IPAddress: "10.0.0.1", GlobalIPv6Address: "fd00::1"}, "[10.0.0.1 fd00::1]"},
		{endpointJSON{GlobalIPv6Address: "fd00::1", IPAMConfig: static}, "[fd00::1]"},
		{endpointJSON{IPAMConfig: static}, "[10.0.0.9 fd00::9]"},
		{endpointJSON{IPAddress: "<nil>"}, "[]"},
	} {
		if got := fmt.Sprint(append([]netip.Addr{}, c.in.addrs()...)); got != c.want {
			t.Errorf("%+v: %s; want %s", c.in, got, c.want)
		}
	}
}

// Whatever an engine sends as a list or as events is read to an end.
func FuzzEngine(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := readList(json.NewDecoder(bytes.NewReader(data)))
		if _, ok := all[""]; ok || all == nil && err == nil {
			t.Fatalf("got list %v, %v", all, err)
		}
		s := newEventStream(io.NopCloser(bytes.NewReader(data)))
		for n := 0; ; n++ {
			e, err := s.next()
			if err != nil {
				break
			}
			if n > len(data) {
				t.Fatalf("more events than octets, the last one %+v", e)
			}
			_ = e.container()
		}
	})
}

// A container without a network of its own is answered with the addresses of
// the one whose network it shares, whatever becomes of that.
func TestWatchFollows(t *testing.T) {
	inWatch(t, publish.Naming{}, true, func(w *watch) {
		e := w.engine
		at := func(prefix, name, mode, label string) {
			c := &fakeContainer{name: name, image: "app", state: "running", mode: mode}
			if label != "" {
				c.labels = map[string]string{"com.dnsdock.ip_addr": label}
			}
			e.set(prefix, c)
			e.event("start", fakeID(prefix))
		}
		at("b1", "sidecar", "container:"+fakeID("aa"), "")
		at("b2", "second", "container:"+fakeID("b1"), "") // a chain
		at("b3", "site", "", "container:proxy")
		at("b4", "blog", "", "192.0.2.9,container:site")
		w.want("sidecar.app.docker", "")
		w.want("site.app.docker", "") // and not its own, which nobody is to use
		w.want("blog.app.docker", "192.0.2.9")
		e.start("aa", "main", "10.0.0.1", "DNSDOCK_IGNORE=") // its addresses are there all the same
		w.want("sidecar.app.docker", "10.0.0.1")
		w.want("second.app.docker", "10.0.0.1")
		e.setState("aa", "exited")
		e.event("die", fakeID("aa"))
		w.want("sidecar.app.docker", "")
		w.want("second.app.docker", "")
		e.start("aa", "main", "10.0.0.2", "DNSDOCK_IGNORE=")
		w.want("second.app.docker", "10.0.0.2")
		e.destroy("aa")
		w.want("sidecar.app.docker", "")

		e.start("cc", "proxy", "10.0.0.3")
		w.want("site.app.docker", "10.0.0.3")
		w.want("blog.app.docker", "10.0.0.3 192.0.2.9")
		e.start("cc", "proxy", "10.0.0.4", "DNSDOCK_IPADDRESS=192.0.2.4")
		e.setState("cc", "paused") // the variables of a container do not change, so nobody looks
		e.event("pause", fakeID("cc"))
		w.want("site.app.docker", "")
		e.setState("cc", "running")
		e.event("unpause", fakeID("cc"))
		w.want("site.app.docker", "192.0.2.4")
		e.start("cc", "other", "10.0.0.4")
		w.want("site.app.docker", "")
		e.start("dd", "proxy", "10.0.0.6")
		w.want("site.app.docker", "10.0.0.6")
		w.want("blog.app.docker", "10.0.0.6 192.0.2.9")
		e.update(func() { e.quiet = true })
		e.start("dd", "proxy", "10.0.0.7") // is found by a list
		w.wantWithin(time.Minute, "site.app.docker", "10.0.0.7")
		e.update(func() { e.quiet = false })

		at("dd", "proxy", "host", "")
		synctest.Wait()
		local := zone.Client{Local: netip.MustParseAddr("172.17.0.1")}
		if addrs, _, _ := w.reg.Rrset(w.reg.Match(mustName(w, "site.app.docker"), nil), true, 9, local.Viewer()); fmt.Sprint(addrs) != "[172.17.0.1]" {
			t.Errorf("by a proxy with the host's network: got %v; want the address that was asked", addrs)
		}
	})
}

// A follower that saw the other while that did not run gets its addresses
// back, though nobody else saw it stop.
func TestWatchFollowsRestart(t *testing.T) {
	inWatch(t, publish.Naming{}, true, func(w *watch) {
		e := w.engine
		e.start("aa", "main", "10.0.0.1")
		e.set("bb", &fakeContainer{name: "sidecar", image: "app", state: "running", mode: "container:" + fakeID("aa")})
		e.event("start", fakeID("bb"))
		w.want("sidecar.app.docker", "10.0.0.1")
		e.setState("aa", "exited") // and is still to be inspected
		e.event("start", fakeID("bb"))
		w.want("sidecar.app.docker", "")
		e.start("aa", "main", "10.0.0.1") // as it was
		w.want("sidecar.app.docker", "10.0.0.1")
	})
}

// What leads back to itself, or on and on, comes to an end.
func TestWatchFollowsInCircles(t *testing.T) {
	inWatch(t, publish.Naming{}, true, func(w *watch) {
		e := w.engine
		set := func(prefix, name, mode, label string) {
			e.set(prefix, &fakeContainer{name: name, image: "app", state: "running", mode: mode, labels: map[string]string{"com.dnsdock.ip_addr": label}})
			e.event("start", fakeID(prefix))
		}
		set("a1", "self", "", "container:self")
		set("a2", "ping", "", "container:pong, 10.0.0.2")
		set("a3", "pong", "", "container:ping, 10.0.0.3")
		set("a4", "shared", "container:"+fakeID("a5"), "")
		set("a5", "back", "container:"+fakeID("a4"), "")
		for i := range 40 {
			set(fmt.Sprintf("b%02d", i), fmt.Sprintf("chain%d", i), "", fmt.Sprintf("container:chain%d", i+1))
		}
		var refs []string
		for i := range 3000 {
			refs = append(refs, fmt.Sprintf("container:nosuch%d", i))
		}
		set("cc", "many", "", strings.Join(refs, ","))
		w.want("self.app.docker", "")
		w.want("ping.app.docker", "10.0.0.2 10.0.0.3")
		w.want("pong.app.docker", "10.0.0.2 10.0.0.3")
		w.want("shared.app.docker", "")
		w.want("chain0.app.docker", "")
		e.start("dd", "last", "10.0.0.4")
		w.want("last.redis.docker", "10.0.0.4")
		before := e.count("/containers/{id}/json")
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if after := e.count("/containers/{id}/json"); after != before {
			t.Errorf("%d inspects in five idle minutes; want none", after-before)
		}
	})
}

func TestWatchHealth(t *testing.T) {
	inWatch(t, publish.Naming{Health: true}, true, func(w *watch) {
		e := w.engine
		set := func(prefix, name, addr, health string) {
			e.set(prefix, &fakeContainer{name: name, image: "web", state: "running", addr: addr, health: health})
		}
		set("aa", "a", "10.0.0.1", "healthy")
		set("bb", "b", "10.0.0.2", "starting")
		e.event("start", fakeID("aa"))
		e.event("start", fakeID("bb"))
		w.want("web.docker", "10.0.0.1 10.0.0.2")
		set("bb", "b", "10.0.0.2", "unhealthy")
		e.event("health_status: unhealthy", fakeID("bb"))
		w.want("web.docker", "10.0.0.1")
		w.want("b.web.docker", "10.0.0.2")
		set("aa", "a", "10.0.0.1", "unhealthy")
		w.wantWithin(time.Minute, "web.docker", "10.0.0.1 10.0.0.2") // by a list
		set("bb", "b", "10.0.0.2", "healthy")
		e.event("health_status", fakeID("bb")) // podman's
		w.want("web.docker", "10.0.0.2")
		before := e.count("/containers/{id}/json")
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if after := e.count("/containers/{id}/json"); after != before {
			t.Errorf("%d inspects in five idle minutes; want none", after-before)
		}
	})
}

// Which networks are internal is asked for where that is allowed; where it is
// refused the rest goes on, and the log says so once.
func TestWatchInternalNetworks(t *testing.T) {
	for _, refused := range []bool{false, true} {
		inWatch(t, publish.Naming{}, true, func(w *watch) {
			e := w.engine
			if !refused {
				e.internal = []string{"in", "pod"}
			}
			for i, name := range []string{"a", "b"} {
				end := endpointJSON{IPAddress: fmt.Sprintf("10.0.0.%d", i), IPPrefixLen: 24}
				inside := endpointJSON{NetworkID: "id-in", IPAddress: fmt.Sprintf("10.0.1.%d", i), IPPrefixLen: 24}
				pod := endpointJSON{NetworkID: "pod", IPAddress: fmt.Sprintf("10.0.2.%d", i), IPPrefixLen: 24} // podman's id is the name
				e.set("a"+name, &fakeContainer{name: name, image: "x", state: "running", addr: "10.0.3.1",
					networks: map[string]endpointJSON{"out": end, "in": inside, "pod": pod}})
				e.event("start", fakeID("a"+name))
			}
			want := "10.0.0.0 10.0.3.1"
			if refused {
				want = "10.0.0.0 10.0.1.0 10.0.2.0 10.0.3.1"
			}
			w.want("a.x.docker", want)
			if got := strings.Count(w.log.String(), "internal networks can't be told"); refused && got != 1 || !refused && got != 0 {
				t.Errorf("refused %t: the log says %d times that internal networks can't be told", refused, got)
			}
		})
	}
}

// Several engines, one with a domain of its own, one of them away: each is
// watched by itself.
func TestSeveralEngines(t *testing.T) {
	a, b := newFakeEngine(), newFakeEngine()
	urlB := startEngine(t, b, nil).Text
	for _, e := range []*fakeEngine{a, b} { // of a cloned machine: the ids are the same
		e.set("aa", &fakeContainer{name: "web", image: "nginx", state: "running", addr: map[*fakeEngine]string{a: "10.0.0.1", b: "10.0.0.2"}[e]})
	}
	in := startDnsdock(t, "-docker="+startEngine(t, a, nil).Text, "-docker="+urlB+"=b.example,unix:///nosuch/d.sock")
	in.soon(t, "web.nginx.docker A", "NOERROR", "10.0.0.1")
	in.soon(t, "web.nginx.b.example A", "NOERROR", "10.0.0.2")
	in.log.wait(t, "engine away", "engine=unix:///nosuch/d.sock")
	in.soon(t, "nosuch.docker A", "NXDOMAIN") // the one that is away keeps nobody waiting
	in.soon(t, "nosuch.b.example A", "NXDOMAIN")
	in.want(t, "example A", "REFUSED")
	in.want(t, "b.example A", "NOERROR", "10.0.0.2")
	in.want(t, "docker A", "NOERROR", "10.0.0.1")
	in.want(t, "-x 10.0.0.2", "NOERROR", "web.nginx.b.example.")
	if m := in.ask(t, "udp", "b.example", dns.TypeSOA); !m.Authoritative || len(m.Answer) != 1 || m.Answer[0].Header().Name != "b.example." {
		t.Errorf("SOA of the domain of its own: got %v", m)
	}
	if m := in.ask(t, "udp", "x.y.b.example", dns.TypeA); !m.Authoritative || len(m.Ns) != 1 || m.Ns[0].Header().Name != "b.example." {
		t.Errorf("what does not exist there: got %v; want its SOA", m)
	}
	in.want(t, "b.example NS", "NOERROR", "dnsdock.docker.")

	if status, reply := in.call(t, "GET", "/services", ""); status != 200 || strings.Count(reply, `"container": "web"`) != 2 {
		t.Errorf("GET /services: got %d %s; want both", status, reply)
	}
	if status, _ := in.call(t, "GET", "/services/aa00", ""); status != http.StatusConflict {
		t.Errorf("the id that both have: got %d; want 409", status)
	}
	if status, reply := in.call(t, "PATCH", "/services/"+url.PathEscape(fakeID("aa")+"@"+urlB), `{"alias":"p.docker"}`); status != 200 {
		t.Errorf("PATCH of the second one's: got %d %s", status, reply)
	}
	in.want(t, "p.docker A", "NOERROR", "10.0.0.2")
	in.want(t, "web.nginx.b.example A", "NOERROR", "10.0.0.2") // is still its name
	in.want(t, "web.nginx.docker A", "NOERROR", "10.0.0.1")
	in.seen(t, func() { b.destroy("aa") }, "service removed")
	in.want(t, "web.nginx.b.example A", "NXDOMAIN")
	in.want(t, "web.nginx.docker A", "NOERROR", "10.0.0.1")
}

// A zone whose engines all are away is not known, and the others are.
func TestZoneOfEngineAway(t *testing.T) {
	a := newFakeEngine()
	in := startDnsdock(t, "-docker="+startEngine(t, a, nil).Text+",unix:///nosuch/d.sock=b.docker", "-domain=docker")
	in.soon(t, "nosuch.docker A", "NXDOMAIN")
	in.want(t, "nosuch.b.docker A", "SERVFAIL")
	in.log.wait(t, "engine away")
	in.want(t, "nosuch.b.docker A", "SERVFAIL")
}

// A recording is what an engine answered to scripts/engines.sh -record.
type recording struct {
	Version  string
	List     []json.RawMessage
	Inspect  []json.RawMessage
	Networks json.RawMessage
	Events   []json.RawMessage
}

// ServeHTTP answers as the engine did, to those calls that dnsdock makes.
func (r *recording) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	path := strings.TrimPrefix(req.URL.Path, "/v"+r.Version)
	if path == "/_ping" {
		w.Header().Set("Api-Version", r.Version)
		return
	}
	if path == req.URL.Path {
		http.Error(w, "without its version", http.StatusBadRequest)
		return
	}
	switch path {
	case "/containers/json":
		_ = json.NewEncoder(w).Encode(r.List)
	case "/networks":
		_, _ = w.Write(r.Networks)
	case "/events":
		for _, e := range r.Events {
			_, _ = w.Write(append(e, '\n'))
		}
		w.(http.Flusher).Flush()
		<-req.Context().Done()
	default:
		for _, c := range r.Inspect {
			var j struct{ ID, Name string }
			if json.Unmarshal(c, &j); path == "/containers/"+j.ID+"/json" || path == "/containers"+j.Name+"/json" {
				_, _ = w.Write(c)
				return
			}
		}
		http.Error(w, `{"message":"no such container"}`, http.StatusNotFound)
	}
}

// What each engine was seen to answer makes the same of the same containers.
func TestRecordedEngines(t *testing.T) {
	files, err := filepath.Glob("testdata/engines/*.json")
	if err != nil || len(files) < 5 {
		t.Fatalf("recordings: %v, %v; want five", files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var r recording
			if err := json.Unmarshal(data, &r); err != nil {
				t.Fatal(err)
			}
			n := publish.Naming{Apex: mustName(t, "docker"), Health: true}
			reg := newRegistry(n, 0, slog.New(slog.DiscardHandler))
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			defer wg.Wait()
			defer cancel()
			log := newLogWatch()
			w := newWatcher(newDockerClient(startEngine(t, &r, nil), nil), n, reg, slog.New(slog.NewTextHandler(log, nil)))
			wg.Go(func() { _ = w.run(ctx) })
			log.wait(t, "engine found")
			for !reg.Ready.Load() {
				runtime.Gosched()
			}
			z := newTestZone(t, reg)
			inside := map[string]string{"host": "127.0.0.1", "one": "10.201.1.99", "an-inside": "10.201.2.99", "six": "fd00:201:3::99"}
			for _, c := range []struct{ client, qname, want string }{
				{"host", "multi", "10.201.1 10.201.3"}, {"one", "multi", "10.201.1"}, {"an-inside", "multi", "10.201.2"}, {"six", "multi", "10.201.3"},
				{"host", "shared", "10.201.1 10.201.3"}, {"an-inside", "shared", "10.201.2"}, {"host", "hosted", "127.0.0"},
				{"host", "none", ""}, {"host", "gone", ""}, {"host", "plain", ""},
			} {
				got := answersTo(z, inside[c.client], "127.0.0.1", c.qname+".app.docker.", dns.TypeA)
				var subnets []string
				for _, f := range strings.Fields(got)[1:] {
					subnets = append(subnets, f[:strings.LastIndexByte(f, '.')])
				}
				if text := strings.Join(subnets, " "); text != c.want {
					t.Errorf("%s asks for %s: got %s; want addresses in %q", c.client, c.qname, got, c.want)
				}
			}
			for _, qname := range []string{"renamed", "sick", "m"} {
				if s := reg.Match(mustName(t, strings.Replace(qname+".app.docker", "m.app.", "m.", 1)), nil); len(s) == 0 {
					t.Errorf("%s: not published", qname)
				}
			}
			for s := range reg.Published().All(^publish.Kind(0)) {
				if s.Sick != (s.Name == "sick") {
					t.Errorf("%s: unhealthy %t", s.Name, s.Sick)
				}
				if wantTTL := map[string]int{"renamed": 7}[s.Name]; wantTTL != 0 && s.TTL != wantTTL {
					t.Errorf("%s: TTL %d; want %d", s.Name, s.TTL, wantTTL)
				}
			}
			list, err := w.client.list(ctx)
			if err != nil {
				t.Fatal(err)
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			for id, known := range w.known {
				// A list of podman's does not tell the health: it is inspected with each list while it is unhealthy.
				if s := reg.Published().Get(id); list[id] != known && !(strings.Contains(file, "podman") && s != nil && s.Sick) {
					t.Errorf("%.12s: the list says something else than the inspect", id)
				}
			}
		})
	}
}

// The host of an engine elsewhere is that machine, and not what the client
// asked.
func TestHostOfAnEngineElsewhere(t *testing.T) {
	for url, want := range map[string]string{
		"unix:///var/run/docker.sock": "host", "tcp://127.0.0.1:2375": "host", "tcp://engine.example.com:2376": "host",
		"tcp://203.0.113.5:2376": "203.0.113.5", "tcp://[2001:db8::5]:2376": "2001:db8::5",
	} {
		u, err := engine.ParseURL(url)
		if err != nil {
			t.Fatal(err)
		}
		w := &watcher{client: &dockerClient{engine: u}}
		addrs := []netip.Addr{{}, netip.MustParseAddr("10.0.0.1")}
		if got := publish.AddrTexts(w.ofHost(addrs)); got[0] != want || got[1] != "10.0.0.1" || addrs[0].IsValid() {
			t.Errorf("%s: got %v; want %s", url, got, want)
		}
		w.naming.Host = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
		if got := publish.AddrTexts(w.ofHost(addrs)); got[0] != "host" {
			t.Errorf("%s with -host-address: got %v; want it left to that", url, got)
		}
	}
}
