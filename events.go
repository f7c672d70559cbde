package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/rayje/dnsdock/internal/engine"
	"github.com/rayje/dnsdock/internal/feed"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/servicejson"
)

const (
	beat         = 15 * time.Second // between signs of life: proxies cut what is silent for a minute
	eventTimeout = 10 * time.Second // for a client to take what is sent
)

// events: GET /events, server-sent events:
// https://html.spec.whatwg.org/multipage/server-sent-events.html
//
// 200 with what changes, until the client or the server ends; 503 where too
// many listen.
func (a *api) events(w http.ResponseWriter, r *http.Request) {
	f := a.reg.feed
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would keep it back
	if r.Method == http.MethodHead {
		return // its reply ends with the header
	}
	l, number, err := f.Listen(remoteAddr(r))
	if err != nil {
		w.Header().Set("Retry-After", "10")
		writeError(w, http.StatusServiceUnavailable, err)
		return
	}
	defer f.Leave(l)
	to := http.NewResponseController(w)
	_ = to.SetReadDeadline(time.Time{}) // else it ends with the time for a request; only a test's writer has none
	first := feed.Change{Number: number, Event: "hello"}
	if last := r.Header.Get("Last-Event-ID"); last != "" && last != f.IDOf(number) { // it comes back, and was away when something changed
		first.Event = "missed"
	}
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	b := appendEvent(f, []byte("retry: 1000\n"), first)
	for {
		_ = to.SetWriteDeadline(time.Now().Add(eventTimeout)) // in place of the one for a whole reply
		if _, err := w.Write(b); err != nil || to.Flush() != nil {
			return
		}
		b = b[:0]
		select {
		case <-r.Context().Done():
			return
		case <-ticker.C:
			b = append(b, ":\n\n"...)
		case c := <-l.Changes:
			b = appendEvent(f, b, c)
		}
		for n := len(l.Changes); n > 0 && len(b) < maxBody; n-- { // together, which is less work with many
			b = appendEvent(f, b, <-l.Changes)
		}
		if c, missed := f.CatchUp(l); missed {
			b = appendEvent(f, b, c)
		}
	}
}

// appendEvent appends c, a change of f, as an event.
func appendEvent(f *feed.Feed, b []byte, c feed.Change) []byte {
	var data any = struct{}{}
	switch v := c.About.(type) {
	case *publish.Service:
		data = map[string]any{"id": c.ID, "service": servicejson.Of(v)}
	case engine.Status:
		data = v
	case uint32:
		data = map[string]uint32{"ttl": v}
	}
	text, _ := json.Marshal(data) // no error: it is strings and numbers; and one line
	return fmt.Appendf(b, "id: %s\nevent: %s\ndata: %s\n\n", f.IDOf(c.Number), c.Event, bytes.TrimSpace(text))
}
