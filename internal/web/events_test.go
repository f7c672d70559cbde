package web

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/engine"
	"github.com/rayje/dnsdock/internal/publish"
)

// eventServer serves a site by pipes.
func eventServer(t *testing.T, s *site) (client *http.Client, srv *http.Server, end context.CancelFunc) {
	t.Helper()
	ctx, end := context.WithCancel(t.Context())
	ln := dnstest.NewPipeListener()
	srv = NewServer(ctx, s.handler(), discard)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	t.Cleanup(func() {
		end()
		_ = srv.Close()
		<-served
	})
	dial := func(context.Context, string, string) (net.Conn, error) { return ln.Dial(), nil }
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: dial}}, srv, end
}

// Listeners are told of each change, for as long as they listen. Time is simulated.
func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		of := newSite(t)
		client, srv, end := eventServer(t, of)
		s := dnstest.ListenEvents(t, client, "http://docker", "")
		if got := s.Resp.Header.Get("Content-Type"); got != "text/event-stream" {
			t.Errorf("got content type %q", got)
		}
		hello := s.Want("hello")
		of.put("id1", "web", "nginx", "172.17.0.2", "")
		added := s.Want("service-changed", "id1", "web.nginx.docker", "172.17.0.2")
		of.put("id1", "web", "nginx", "172.17.0.2", "", func(s *publish.Service) { s.TTL = 7 })
		s.Want("service-changed", "id1", `"ttl":7`)
		of.remove("id1")
		s.Want("service-removed", "id1", "web.nginx.docker")
		of.feed.Publish("ttl-changed", "", uint32(9))
		s.Want("ttl-changed", `"ttl":9`)
		of.feed.Publish("engine-lost", "", engine.Status{URL: "unix:///x", Error: "a\nb"})
		last := s.Want("engine-lost", "unix:///x", `a\nb`)
		if hello == added || added == last {
			t.Errorf("ids are not unlike: %s %s %s", hello, added, last)
		}

		// Longer than any time for a request or a reply.
		time.AfterFunc(20*time.Minute, func() { of.feed.Publish("ttl-changed", "", uint32(10)) })
		last = s.Want("ttl-changed", `"ttl":10`)

		// Who comes back is told whether there is more than it knows.
		for id, want := range map[string]string{last: "hello", added: "missed", "nonsense": "missed"} {
			back := dnstest.ListenEvents(t, client, "http://docker", id)
			back.Want(want)
			_ = back.Resp.Body.Close()
		}

		// The end of the server ends the stream, and does not wait for it.
		begun := time.Now()
		end()
		if _, _, _, err := s.Next(); err == nil {
			t.Error("the stream goes on")
		}
		if err := srv.Shutdown(t.Context()); err != nil || time.Since(begun) > time.Second {
			t.Errorf("shutdown: %v after %v", err, time.Since(begun))
		}
		synctest.Wait()
		if got := of.feed.Count(); got != 0 {
			t.Errorf("%d listeners are left", got)
		}
	})
}

// Listeners that do not read hold nobody up. They are told that they missed
// something, and closed if they do not read at all.
func TestEventsSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		of := newSite(t)
		client, _, _ := eventServer(t, of)
		s := dnstest.ListenEvents(t, client, "http://docker", "")
		const unread = 2560 // ten times what the feed keeps for a listener
		for i := range uint32(unread) {
			of.feed.Publish("ttl-changed", "", i)
		}
		s.Want("hello")
		number, missed := 0, 0
		for number < unread {
			event, id, _, err := s.Next()
			if err != nil {
				t.Fatalf("after %d: %v", number, err)
			}
			_, text, _ := strings.Cut(id, "-")
			was := number
			if _, err := fmt.Sscan(text, &number); err != nil {
				t.Fatal(err)
			}
			if event == "missed" {
				missed++
			} else if number != was+1 {
				t.Fatalf("after event %d comes %d, and nothing says that some were missed", was, number)
			}
		}
		if missed == 0 {
			t.Error("a client that read nothing missed nothing")
		}
		of.feed.Publish("ttl-changed", "", uint32(1))
		s.Want("ttl-changed")
		of.feed.Publish("ttl-changed", "", uint32(2))
		time.Sleep(2 * eventTimeout) // the next heartbeat stays unread
		time.Sleep(2 * heartbeat)
		synctest.Wait()
		if got := of.feed.Count(); got != 0 {
			t.Errorf("%d listeners are left; want none, as it does not read", got)
		}
	})
}

// The reply to HEAD has no body, so it ends at once, and nobody listens: else
// the next request on its connection would wait for ever.
func TestEventsHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		of := newSite(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w, done := httptest.NewRecorder(), make(chan struct{})
		go func() {
			defer close(done)
			of.handler().ServeHTTP(w, httptest.NewRequestWithContext(ctx, "HEAD", "http://localhost/events", nil))
		}()
		synctest.Wait()
		select {
		case <-done:
			if got := w.Header().Get("Content-Type"); w.Code != 200 || got != "text/event-stream" {
				t.Errorf("got %d, content type %q", w.Code, got)
			}
		default:
			t.Errorf("the request goes on, with %d listeners", of.feed.Count())
		}
	})
}
