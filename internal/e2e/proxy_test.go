package e2e

import (
	"context"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// testIdle counts inspects. A container of which a list and an inspect say the
// same is inspected once, and not again after each list.
func testIdle(t *testing.T, s *stage) {
	lan, six := s.network(t, "net"), s.network6(t, "six")
	web := s.name("web")
	ids := map[string]string{"running": s.run(t, web)}
	run := func(name string, args ...string) { ids[name] = s.run(t, s.name(name), args...) }
	run("exited")
	run("static", "--network="+lan, "--ip="+hostAddr(s.subnets[lan], 77))
	run("static exited", "--network="+lan, "--ip="+hostAddr(s.subnets[lan], 78))
	run("IPv6", "--network="+six)
	run("IPv6 exited", "--network="+six)
	run("two networks", "--network="+lan)
	run("host", "--network=host")
	run("none", "--network=none")
	run("shared", "--network=container:"+web)
	run("paused")
	run("renamed")
	run("restarted")
	ids["created"] = s.runCommand(t, "create", s.engine.image, s.name("created"))
	s.docker(t, "stop", ids["exited"], ids["static exited"], ids["IPv6 exited"])
	s.docker(t, "network", "connect", six, ids["two networks"])
	s.pause(t, ids["paused"])
	s.docker(t, "rename", ids["renamed"], s.name("other"))
	s.docker(t, "restart", "--time=1", ids["restarted"])

	p := newCountingProxy(t, s.engine.socket, nil)
	in := startDnsdock(t, "-docker=unix://"+p.socket, "-debug")
	in.ready(t)
	before := p.inspects()
	for range 3 { // dnsdock lists after a cut stream, as it does periodically
		in.seen(t, p.server.CloseClientConnections, "engine found")
	}
	in.log.Wait(t, "service added", s.run(t, s.name("last")))
	after := p.inspects()
	for what, id := range ids {
		if before[id] == 0 || after[id] != before[id] {
			t.Errorf("%s: inspected %d times, and %d times after three lists more; want once",
				what, before[id], after[id])
		}
	}
}

// A countingProxy stands in front of an engine's socket.
type countingProxy struct {
	socket string
	server *httptest.Server

	mu    sync.Mutex
	count map[string]int // inspects by container ID; guarded by mu
}

// newCountingProxy starts one. Only are the requests that pass; nil: all.
func newCountingProxy(t *testing.T, engine string, only *regexp.Regexp) *countingProxy {
	t.Helper()
	p := &countingProxy{socket: filepath.Join(t.TempDir(), "proxy.sock"), count: make(map[string]int)}
	ln, err := net.Listen("unix", p.socket)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", engine)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	pass := &httputil.ReverseProxy{
		Transport:     transport,
		FlushInterval: -1,
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: "docker"}) },
		ErrorHandler:  func(http.ResponseWriter, *http.Request, error) {}, // the client is gone
	}
	p.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if parts := strings.Split(r.URL.Path, "/"); len(parts) >= 3 && parts[len(parts)-1] == "json" {
			p.mu.Lock()
			p.count[parts[len(parts)-2]]++
			p.mu.Unlock()
		}
		if only != nil && !only.MatchString(r.Method+" "+r.URL.Path) {
			http.Error(w, "<html>forbidden</html>", http.StatusForbidden)
			return
		}
		defer func() { _ = recover() }() // ReverseProxy panics when a stream is cut
		pass.ServeHTTP(w, r)
	}))
	_ = p.server.Listener.Close() // which httptest made, on TCP
	p.server.Listener = ln
	p.server.Start()
	t.Cleanup(p.server.Close)
	return p
}

func (p *countingProxy) inspects() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.count)
}

// testReadOnlyProxy has a proxy in front of the engine that lets only those
// requests through that the manual says are enough.
func testReadOnlyProxy(t *testing.T, s *stage) {
	only := regexp.MustCompile(`^GET (/v1\.[0-9]+)?(/_ping|/events|/containers/json|/containers/[^/]+/json)$`)
	p := newCountingProxy(t, s.engine.socket, only)
	in := startDnsdock(t, "-docker=unix://"+p.socket)
	lan := s.network(t, "inside", "--internal")
	web := s.name("web")
	in.log.Wait(t, "service added", s.run(t, web))
	in.want(t, s.fqdn(web)+" A", "NOERROR", s.ip(t, web))
	in.log.Wait(t, "level=WARN", "internal networks can't be told")
	in.seen(t, func() { s.docker(t, "kill", web) }, "service removed")
	in.log.Wait(t, "service added", s.run(t, s.name("only"), "--network="+lan))
	// It can't know that the network is internal.
	in.want(t, s.fqdn(s.name("only"))+" A", "NOERROR", s.ip(t, s.name("only")))
}
