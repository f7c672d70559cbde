package web

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rayje/dnsdock/internal/dnstest"
)

// Over a real connection: the limits of a request's size.
func TestServer(t *testing.T) {
	h := newSite(t).handler()
	hs := httptest.NewUnstartedServer(h)
	hs.Config = NewServer(t.Context(), h, discard)
	hs.Start()
	defer hs.Close()
	for _, tt := range []struct {
		what, header string
		body         io.Reader
		status       int
	}{
		{"a body", "", strings.NewReader("{}"), 200},
		{"a chunked body", "", io.MultiReader(strings.NewReader("{}")), 200},
		{"a body over 1 MiB", "", bytes.NewReader(make([]byte, 1<<20+1)), 413},
		{"a chunked body over 1 MiB", "", io.MultiReader(bytes.NewReader(make([]byte, 1<<20+1))), 413},
		{"a header of 64 KiB", strings.Repeat("x", 64<<10), strings.NewReader("{}"), 431},
	} {
		t.Run(tt.what, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), "PUT", hs.URL+"/services/x", tt.body)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("X", tt.header)
			r, err := hs.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Body.Close()
			if r.StatusCode != tt.status {
				t.Errorf("got %s; want %d", r.Status, tt.status)
			}
		})
	}
}

// Slow clients are cut off, whatever they do slowly. Time is simulated.
func TestServerSlowClients(t *testing.T) {
	for _, tt := range []struct {
		what, send string
		reads      bool // the client takes what comes
	}{
		{"says nothing", "", true},
		{"never ends its header", "GET /services HTTP/1.1\r\nHost: docker\r\nX: ", true},
		{"never sends its body", "PUT /services/x HTTP/1.1\r\nHost: docker\r\nContent-Length: 100\r\n\r\n{", true},
		{"stays idle", "GET /services HTTP/1.1\r\nHost: docker\r\n\r\n", true},
		{"never reads", "GET /services HTTP/1.1\r\nHost: docker\r\n\r\n", false},
		{"never reads much", "GET /large HTTP/1.1\r\nHost: docker\r\n\r\n", false},
	} {
		t.Run(tt.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := NewServer(t.Context(), newSite(t).handler(), discard)
				ln := dnstest.NewPipeListener()
				served := make(chan error, 1)
				go func() { served <- srv.Serve(ln) }()
				c := ln.Dial()
				begun := time.Now()
				if _, err := io.WriteString(c, tt.send); err != nil {
					t.Fatal(err)
				}
				if !tt.reads {
					time.Sleep(2 * time.Minute) // simulated
				}
				if _, err := io.Copy(io.Discard, c); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(begun); took > 2*time.Minute {
					t.Errorf("the connection ended after %v; want less", took)
				}
				if err := srv.Shutdown(t.Context()); err != nil {
					t.Errorf("shutdown: %v", err)
				}
				if err := <-served; !errors.Is(err, http.ErrServerClosed) {
					t.Errorf("serve: %v", err)
				}
			})
		})
	}
}

// Where a client or all clients have too many connections, the one that is idle for longest is closed: of that client
// alone, if it has too many itself. Time is simulated.
func TestServerDropsIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := NewServer(t.Context(), newSite(t).handler(), discard)
		ln := dnstest.NewPipeListener()
		served := make(chan error, 1)
		go func() { served <- srv.Serve(ln) }()
		var mu sync.Mutex
		// Numbers of the connections that were closed, in order, by client. Guarded by mu.
		ended := make(map[string][]int)
		open := func(client string, n int) {
			for i := range n {
				c := ln.DialFrom(netip.MustParseAddr(client))
				go func() {
					_, _ = io.Copy(io.Discard, c)
					mu.Lock()
					defer mu.Unlock()
					ended[client] = append(ended[client], i)
				}()
				synctest.Wait()
				time.Sleep(time.Microsecond) // else several are idle for the same time
			}
		}
		open("192.0.2.1", 1)
		open("192.0.2.2", maxClientConns+2) // makes room among its own
		if len(ended["192.0.2.1"]) != 0 || len(ended["192.0.2.2"]) != 2 || ended["192.0.2.2"][1] != 1 {
			t.Errorf("closed: %v; want two of the client with too many, the oldest first", ended)
		}
		open("192.0.2.3", maxConns-maxClientConns-1)
		open("192.0.2.4", 1) // all have too many: the oldest of all is closed
		if len(ended["192.0.2.1"]) != 1 || len(ended["192.0.2.3"]) != 0 {
			t.Errorf("closed: %v; want the oldest of all", ended)
		}
		_ = srv.Close()
		<-served
		synctest.Wait()
	})
}
