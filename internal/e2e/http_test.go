package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rayje/dnsdock/internal/dnstest"
)

// works checks that DNS and the API go on.
func (in *instance) works(t *testing.T, when string) {
	t.Helper()
	if got := in.addrs(t, "dnsdock.docker"); !slices.Equal(got, []string{"127.0.0.1"}) {
		t.Errorf("%s: DNS answers %v", when, got)
	}
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: dnstest.Patience}
	r, err := c.Get(in.http + "/services")
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%s: GET /services: %v %v", when, r, err)
	}
	_ = r.Body.Close()
}

// open connects n times, and sends a text each time.
func (in *instance) open(t *testing.T, n int, send string) (conns []net.Conn) {
	t.Helper()
	for range n {
		c, err := net.Dial("tcp", strings.TrimPrefix(in.http, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		_, _ = io.WriteString(c, send) // fails if the connection had to make room for others
	}
	return conns
}

// Many bad clients at once: slow ones, idle ones, and those that send too much. DNS and the API go
// on, and the memory comes back.
func TestHTTPFloods(t *testing.T) {
	in := startDnsdock(t, noEngine(t))
	in.works(t, "before")
	goroutines := func() float64 { return in.metrics(t)["go_goroutines"] }
	used := func() float64 { return in.metrics(t)["go_memstats_heap_alloc_bytes"] }
	before, running := used(), goroutines()

	slow := in.open(t, 150, "GET /services HTTP/1.1\r\nHost: docker\r\nX: ")
	in.works(t, "beside 150 that never end their header")
	idle := in.open(t, 1000, "GET /ttl HTTP/1.1\r\nHost: docker\r\n\r\n")
	in.works(t, "beside 1,000 idle ones")
	silent := in.open(t, 1000, "")
	in.works(t, "beside 1,000 that say nothing")
	if got := goroutines(); got > running+2*256+100 {
		t.Errorf("%v goroutines; want about 2 for each of 256 connections", got)
	}
	bodies := in.open(t, 300, "PUT /services/x HTTP/1.1\r\nHost: docker\r\nContent-Length: 1000\r\n\r\n{")
	in.works(t, "beside 300 that never send their body")
	in.sendTooMuch(t)
	for _, c := range slices.Concat(slow, idle, silent, bodies) {
		_ = c.Close()
	}
	end := time.Now().Add(dnstest.Patience)
	for (goroutines() > running+20 || used() > before+8<<20) && time.Now().Before(end) {
		in.works(t, "while they go")
	}
	if got := goroutines(); got > running+20 {
		t.Errorf("%v goroutines; want about the %v from before", got, running)
	}
	if got := used(); got > before+8<<20 {
		t.Errorf("%v bytes are used; want about the %v from before", got, before)
	}
}

// sendTooMuch sends requests that are too large, each several times.
func (in *instance) sendTooMuch(t *testing.T) {
	t.Helper()
	huge := make([]byte, 32<<20)
	for _, tt := range []struct {
		what, method, path, header string
		body                       func() io.Reader
		status                     int
	}{
		{"a body of 32 MB", "PUT", "/services/x", "", func() io.Reader { return bytes.NewReader(huge) }, 413},
		{"a chunked body of 32 MB", "PATCH", "/services/x", "", func() io.Reader { return io.MultiReader(bytes.NewReader(huge)) }, 413},
		{"a body of 32 MB for a path that has none", "POST", "/nosuch", "", func() io.Reader { return bytes.NewReader(huge) }, 404},
		{"JSON a million deep", "PUT", "/services/x", "", func() io.Reader { return strings.NewReader(strings.Repeat("[", 1_000_000)) }, 400},
		{"JSON a hundred thousand deep in a property", "PUT", "/services/x", "", func() io.Reader { return strings.NewReader(`{"name":` + strings.Repeat(`{"a":`, 100_000)) }, 400},
		{"a header of 2 MB", "GET", "/services", strings.Repeat("x", 2<<20), func() io.Reader { return nil }, 431},
		{"a path of 1 MB", "GET", "/services/" + strings.Repeat("x", 1<<20), "", func() io.Reader { return nil }, 431},
		{"a name of 10 kB", "GET", "/resolve?name=" + strings.Repeat("x.", 5000), "", func() io.Reader { return nil }, 400},
	} {
		for range 3 {
			req, err := http.NewRequestWithContext(t.Context(), tt.method, in.http+tt.path, tt.body())
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("X", tt.header)
			r, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
			if err != nil { // it was cut off while it sent what the server does not read
				if tt.status == 413 || tt.status == 404 || tt.status == 431 {
					continue
				}
				t.Fatalf("%s: %v", tt.what, err)
			}
			_ = r.Body.Close()
			if r.StatusCode != tt.status {
				t.Errorf("%s: got %s; want %d", tt.what, r.Status, tt.status)
			}
		}
		in.works(t, "after "+tt.what)
	}
}

// HTTP on a socket in the file system.
func TestHTTPSocket(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "api.sock")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: file, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	_ = stale.Close()
	if _, err := os.Stat(file); err != nil {
		t.Fatal(err)
	}
	args := []string{"-dns=127.0.0.1:0", "-http=unix://" + file, noEngine(t)}
	p := startProcess(t, args...)
	p.log.Wait(t, "msg=listening for=http")
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("the socket: %v, %v; want mode 0660", info.Mode(), err)
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", file)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: dial}}
	req, _ := http.NewRequestWithContext(t.Context(), "PUT", "http://any.host.at.all/set/ttl", strings.NewReader("7"))
	if r, err := client.Do(req); err != nil || r.StatusCode != 200 {
		t.Errorf("PUT: %v %v", r, err)
	}
	check := func(want int, part string, args ...string) {
		t.Helper()
		p := startProcess(t, args...)
		if got := p.wait(t); got != want || !strings.Contains(p.log.String(), part) {
			t.Errorf("%q: got exit code %d, %s; want %d and %q", args, got, p.log, want, part)
		}
	}
	check(0, "", append(args, "-healthcheck")...)
	check(1, "another program listens there", args...)
	// A file that goes away does not end what runs.
	check(0, "", append(args, "-healthcheck", "-http-token-file="+dir+"/nothere", "-nameserver="+dir+"/nothere")...)
	p.signal(t, os.Interrupt)
	if code := p.wait(t); code != 0 {
		t.Errorf("got exit code %d; want 0", code)
	}
	if _, err := os.Lstat(file); !os.IsNotExist(err) {
		t.Errorf("after the end: %v; want no socket", err)
	}
	check(1, "", append(args, "-healthcheck")...)
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	check(1, "it is no socket", args...)
	if b, _ := os.ReadFile(file); string(b) != "precious" {
		t.Error("the file is gone")
	}
	args[1] = "-http=unix://" + dir + "/nosuch/api.sock"
	check(1, "make the directory first", args...)
}

// Health says that the program serves, readiness that the containers are known. An engine that goes
// away later only changes what the reply says.
func TestHealth(t *testing.T) {
	e := dnstest.NewEngine()
	hang := make(chan struct{})
	e.Update(func() { e.Hang = hang })
	in := startDnsdock(t, "-docker="+e.ServeTCP(t, nil))
	want := func(path string, status int, parts ...string) {
		t.Helper()
		got, body := in.call(t, "GET", path, "")
		if got != status {
			t.Errorf("%s: got %d %s; want %d", path, got, body, status)
		}
		for _, part := range parts {
			if !strings.Contains(body, part) {
				t.Errorf("%s: got %s; want it with %s", path, body, part)
			}
		}
	}
	want("/healthz", 200, `"ok": true`)
	want("/readyz", 503, `"ready": false`, `"up": false`)
	e.Update(func() { e.Hang = nil })
	close(hang)
	in.ready(t)
	want("/readyz", 200, `"ready": true`, `"up": true`)
	in.seen(t, func() { e.Update(func() { e.Version = "1.1" }); e.EndStreams() }, "engine away")
	want("/readyz", 200, `"ready": true`, `"up": false`, `"error"`)
	want("/healthz", 200)
}

// metrics returns the values of all series.
func (in *instance) metrics(t *testing.T) map[string]float64 {
	t.Helper()
	_, body := in.call(t, "GET", "/metrics", "")
	all := make(map[string]float64)
	for line := range strings.Lines(body) {
		i := strings.LastIndexByte(line, ' ')
		var v float64
		if _, err := fmt.Sscan(line[i:], &v); err == nil && line[0] != '#' {
			all[line[:i]] = v
		}
	}
	return all
}

// Loopback may change something, and /status says so.
func TestChangesFromLoopback(t *testing.T) {
	in := startDnsdock(t, noEngine(t))
	if status, body := in.call(t, "PUT", "/services/x", manualBody); status != http.StatusCreated {
		t.Errorf("got %d %s from loopback; want 201", status, body)
	}
	if _, body := in.call(t, "GET", "/status", ""); !strings.Contains(body, `"writes": "host"`) {
		t.Errorf("got status %s; want it to say who may change something", body)
	}
}
