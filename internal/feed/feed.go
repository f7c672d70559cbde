// Package feed tells listeners what changes, and waits for none of them. What a
// change is about is anybody's: it knows neither services nor engines.
package feed

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"sync"

	"github.com/rayje/dnsdock/internal/limit"
)

const (
	MaxListeners       = 32  // clients of /events
	MaxClientListeners = 8   // of one client; a browser opens 6 connections at most
	MaxUnread          = 256 // changes that wait for a client; it is told if there were more
)

// A Feed tells its listeners what changes, and waits for none of them.
type Feed struct {
	clients *limit.PerClient
	run     string // differs in each run of the program, as the numbers begin anew

	mu        sync.Mutex // guards what follows
	number    uint64     // of the last change
	listeners map[*Listener]bool
}

// A Listener is a client of /events.
type Listener struct {
	client  netip.Addr
	Changes chan Change // sent to under the feed's lock only
	missed  bool        // there was no room for a change; guarded by the feed's lock
}

// A Change is one that listeners are told of. What it is about is never
// written again.
type Change struct {
	Number uint64
	Event  string
	ID     string // of the service, if it is about one
	About  any    // the service, an engineStatus or the default TTL
}

var ErrTooMany = errors.New("too many clients listen to /events: close some of them")

func New() *Feed {
	return &Feed{clients: limit.New(MaxClientListeners, MaxListeners), run: rand.Text()[:8], listeners: make(map[*Listener]bool)}
}

// Publish tells all listeners of a change. A listener that has not taken the
// last maxUnread of them is told instead that it missed some.
func (f *Feed) Publish(event, id string, about any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.number++
	for l := range f.listeners {
		if l.missed {
			continue // until it is told so
		}
		select {
		case l.Changes <- Change{f.number, event, id, about}:
		default:
			l.missed = true
		}
	}
}

// Listen returns a new listener, and the number of the last change before it.
// The caller closes it by leave.
func (f *Feed) Listen(client netip.Addr) (l *Listener, number uint64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.clients.Take(client); err != nil {
		return nil, 0, fmt.Errorf("%w: %w", ErrTooMany, err)
	}
	l = &Listener{client: client, Changes: make(chan Change, MaxUnread)}
	f.listeners[l] = true
	return l, f.number, nil
}

func (f *Feed) Leave(l *Listener) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.listeners, l)
	f.clients.Release(l.client)
}

// Count returns how many listen.
func (f *Feed) Count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.listeners)
}

// CatchUp returns a change that stands for all until now if l missed some.
func (f *Feed) CatchUp(l *Listener) (c Change, missed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !l.missed {
		return c, false
	}
	l.missed = false
	for len(l.Changes) > 0 {
		<-l.Changes // older than what the client is about to read
	}
	return Change{Number: f.number, Event: "missed"}, true
}

// IDOf is the id of an event, by which a client says what it had last.
func (f *Feed) IDOf(number uint64) string { return f.run + "-" + strconv.FormatUint(number, 10) }
