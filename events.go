package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"github.com/rayje/dnsdock/internal/publish"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

const (
	maxListeners       = 32               // clients of /events
	maxClientListeners = 8                // of one client; a browser opens 6 connections at most
	maxUnread          = 256              // changes that wait for a client; it is told if there were more
	beat               = 15 * time.Second // between signs of life: proxies cut what is silent for a minute
	eventTimeout       = 10 * time.Second // for a client to take what is sent
)

// A feed tells its listeners what changes, and waits for none of them.
type feed struct {
	run string // differs in each run of the program, as the numbers begin anew

	mu        sync.Mutex // guards what follows
	number    uint64     // of the last change
	listeners map[*listener]bool
}

// A listener is a client of /events.
type listener struct {
	client  netip.Addr
	changes chan change // sent to under the feed's lock only
	missed  bool        // there was no room for a change; guarded by the feed's lock
}

// A change is one that listeners are told of. What it is about is never
// written again.
type change struct {
	number uint64
	event  string
	id     string // of the service, if it is about one
	about  any    // the service, an engineStatus or the default TTL
}

var errListeners = errors.New("too many clients listen to /events: close some of them")

func newFeed() *feed { return &feed{run: rand.Text()[:8], listeners: make(map[*listener]bool)} }

// publish tells all listeners of a change. A listener that has not taken the
// last maxUnread of them is told instead that it missed some.
func (f *feed) publish(event, id string, about any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.number++
	for l := range f.listeners {
		if l.missed {
			continue // until it is told so
		}
		select {
		case l.changes <- change{f.number, event, id, about}:
		default:
			l.missed = true
		}
	}
}

// listen returns a new listener, and the number of the last change before it.
// The caller closes it by leave.
func (f *feed) listen(client netip.Addr) (l *listener, number uint64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ofClient := 0
	for o := range f.listeners {
		if o.client == client {
			ofClient++
		}
	}
	if len(f.listeners) >= maxListeners || ofClient >= maxClientListeners {
		return nil, 0, errListeners
	}
	l = &listener{client: client, changes: make(chan change, maxUnread)}
	f.listeners[l] = true
	return l, f.number, nil
}

func (f *feed) leave(l *listener) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.listeners, l)
}

// count returns how many listen.
func (f *feed) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.listeners)
}

// catchUp returns a change that stands for all until now if l missed some.
func (f *feed) catchUp(l *listener) (c change, missed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !l.missed {
		return c, false
	}
	l.missed = false
	for len(l.changes) > 0 {
		<-l.changes // older than what the client is about to read
	}
	return change{number: f.number, event: "missed"}, true
}

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
	l, number, err := f.listen(remoteAddr(r))
	if err != nil {
		w.Header().Set("Retry-After", "10")
		writeError(w, http.StatusServiceUnavailable, err)
		return
	}
	defer f.leave(l)
	to := http.NewResponseController(w)
	_ = to.SetReadDeadline(time.Time{}) // else it ends with the time for a request; only a test's writer has none
	first := change{number: number, event: "hello"}
	if last := r.Header.Get("Last-Event-ID"); last != "" && last != f.idOf(number) { // it comes back, and was away when something changed
		first.event = "missed"
	}
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	b := f.append([]byte("retry: 1000\n"), first)
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
		case c := <-l.changes:
			b = f.append(b, c)
		}
		for n := len(l.changes); n > 0 && len(b) < maxBody; n-- { // together, which is less work with many
			b = f.append(b, <-l.changes)
		}
		if c, missed := f.catchUp(l); missed {
			b = f.append(b, c)
		}
	}
}

// idOf is the id of an event, by which a client says what it had last.
func (f *feed) idOf(number uint64) string { return f.run + "-" + strconv.FormatUint(number, 10) }

// append appends c as an event.
func (f *feed) append(b []byte, c change) []byte {
	var data any = struct{}{}
	switch v := c.about.(type) {
	case *publish.Service:
		data = map[string]any{"id": c.id, "service": toJSON(v)}
	case engineStatus:
		data = v
	case uint32:
		data = map[string]uint32{"ttl": v}
	}
	text, _ := json.Marshal(data) // no error: it is strings and numbers; and one line
	return fmt.Appendf(b, "id: %s\nevent: %s\ndata: %s\n\n", f.idOf(c.number), c.event, bytes.TrimSpace(text))
}
