package web

import (
	"bufio"
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

// A stream of /events.
type stream struct {
	t    *testing.T
	resp *http.Response
	r    *bufio.Reader
}

// listen opens /events by client.
func listen(t *testing.T, client *http.Client, url, last string) *stream {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return &stream{t, resp, bufio.NewReader(resp.Body)}
}

// next returns the next event, its id, and its data; comments are passed over.
func (s *stream) next() (event, id, data string, err error) {
	for {
		line, err := s.r.ReadString('\n')
		if err != nil {
			return "", "", "", err
		}
		line = strings.TrimSuffix(line, "\n")
		switch k, v, _ := strings.Cut(line, ": "); {
		case k == "event":
			event = v
		case k == "id":
			id = v
		case k == "data":
			data = v
		case line == "" && event != "":
			return event, id, data, nil
		}
	}
}

// want reads the next event, whose data has these parts, and returns its id.
func (s *stream) want(event string, parts ...string) (id string) {
	s.t.Helper()
	got, id, data, err := s.next()
	if err != nil || got != event || !containsAll(data, parts) {
		s.t.Fatalf("got event %q %s, %v; want %q with %q", got, data, err, event, parts)
	}
	return id
}

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
		s := listen(t, client, "http://docker", "")
		if got := s.resp.Header.Get("Content-Type"); got != "text/event-stream" {
			t.Errorf("got content type %q", got)
		}
		hello := s.want("hello")
		of.put("id1", "web", "nginx", "172.17.0.2", "")
		added := s.want("service-changed", "id1", "web.nginx.docker", "172.17.0.2")
		of.put("id1", "web", "nginx", "172.17.0.2", "", func(s *publish.Service) { s.TTL = 7 })
		s.want("service-changed", "id1", `"ttl":7`)
		of.remove("id1")
		s.want("service-removed", "id1", "web.nginx.docker")
		of.feed.Publish("ttl-changed", "", uint32(9))
		s.want("ttl-changed", `"ttl":9`)
		of.feed.Publish("engine-lost", "", engine.Status{URL: "unix:///x", Error: "a\nb"})
		last := s.want("engine-lost", "unix:///x", `a\nb`)
		if hello == added || added == last {
			t.Errorf("ids are not unlike: %s %s %s", hello, added, last)
		}

		// Longer than any time for a request or a reply.
		time.AfterFunc(20*time.Minute, func() { of.feed.Publish("ttl-changed", "", uint32(10)) })
		last = s.want("ttl-changed", `"ttl":10`)

		// Who comes back is told whether there is more than it knows.
		for id, want := range map[string]string{last: "hello", added: "missed", "nonsense": "missed"} {
			back := listen(t, client, "http://docker", id)
			back.want(want)
			_ = back.resp.Body.Close()
		}

		// The end of the server ends the stream, and does not wait for it.
		begun := time.Now()
		end()
		if _, _, _, err := s.next(); err == nil {
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
		s := listen(t, client, "http://docker", "")
		const unread = 2560 // ten times what the feed keeps for a listener
		for i := range uint32(unread) {
			of.feed.Publish("ttl-changed", "", i)
		}
		s.want("hello")
		number, missed := 0, 0
		for number < unread {
			event, id, _, err := s.next()
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
		s.want("ttl-changed")
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
