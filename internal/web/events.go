package web

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/rayje/dnsdock/internal/feed"
)

const (
	heartbeat    = 15 * time.Second // proxies cut a connection that is silent for a minute
	eventTimeout = 10 * time.Second // for a client to take what is sent
	maxTogether  = 1 << 20          // bytes of events that are written together
)

// Events serves what changes as server-sent events until the client or the server ends:
// https://html.spec.whatwg.org/multipage/server-sent-events.html. It replies 503 if too many clients listen.
type Events struct {
	Feed   *feed.Feed
	Encode func(feed.Change) any // returns the event's data, which is sent as JSON
}

var _ http.Handler = (*Events)(nil)

// ServeHTTP implements http.Handler.
func (e *Events) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // else nginx would hold events back
	if r.Method == http.MethodHead {
		return // the reply ends with the header
	}
	l, number, err := e.Feed.Listen(ClientAddr(r))
	if err != nil {
		w.Header().Set("Retry-After", "10")
		WriteError(w, http.StatusServiceUnavailable, err)
		return
	}
	defer e.Feed.Leave(l)
	first := feed.Change{Number: number, Event: "hello"}
	if last := r.Header.Get("Last-Event-ID"); last != "" && last != e.Feed.IDOf(number) {
		first.Event = "missed" // it comes back, and something changed while it was away
	}
	e.stream(w, r, l, e.append([]byte("retry: 1000\n"), first))
}

// stream sends b, and then the changes that l hears of.
func (e *Events) stream(w http.ResponseWriter, r *http.Request, l *feed.Listener, b []byte) {
	to := http.NewResponseController(w)
	_ = to.SetReadDeadline(time.Time{}) // the server's would end the stream; fails only for writers of tests
	ticker := time.NewTicker(heartbeat)
	defer ticker.Stop()
	for {
		_ = to.SetWriteDeadline(time.Now().Add(eventTimeout)) // instead of the server's, which is for a whole reply
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
			b = e.append(b, c)
		}
		for n := len(l.Changes); n > 0 && len(b) < maxTogether; n-- { // one write for many changes
			b = e.append(b, <-l.Changes)
		}
		if c, missed := e.Feed.CatchUp(l); missed {
			b = e.append(b, c)
		}
	}
}

// append appends c as an event.
func (e *Events) append(b []byte, c feed.Change) []byte {
	data := e.Encode(c)
	if data == nil {
		data = struct{}{}
	}
	text, _ := json.Marshal(data) // one line; no error: it is strings and numbers
	return fmt.Appendf(b, "id: %s\nevent: %s\ndata: %s\n\n", e.Feed.IDOf(c.Number), c.Event, bytes.TrimSpace(text))
}
