package feed

import (
	"crypto/rand"
	"fmt"
	"net/netip"
	"strconv"
	"sync"

	"github.com/rayje/dnsdock/internal/limit"
)

const (
	maxListeners       = 32  // in all
	maxClientListeners = 8   // of one client; a browser opens 6 connections at most
	maxUnread          = 256 // changes that wait for a listener; if there are more, it hears that it missed some
)

// A Feed passes changes on to listeners. It knows nothing about what changes.
type Feed struct {
	run     string // different in each run of the program, because numbers start at 0 in each
	clients *limit.PerClient

	mu        sync.Mutex // guards what follows
	number    uint64     // of the last change
	listeners map[*Listener]bool
}

// A Listener receives changes. Leave ends it.
type Listener struct {
	Changes chan Change // receives what changes
	client  netip.Addr
	missed  bool // there was no room for a change; guarded by the feed's lock
}

// A Change says what changed. About must not be written again.
type Change struct {
	Number uint64
	Event  string
	ID     string // of the service, if the change is about one
	About  any
}

// New returns a feed without listeners.
func New() *Feed {
	return &Feed{
		run:       rand.Text()[:8],
		clients:   limit.New(maxClientListeners, maxListeners),
		listeners: make(map[*Listener]bool),
	}
}

// PublishState sends the change that something was found or lost, as in engine-lost.
func (f *Feed) PublishState(what string, isFound bool, about any) {
	state := "-lost"
	if isFound {
		state = "-found"
	}
	f.Publish(what+state, "", about)
}

// Publish sends a change to all listeners. A listener with maxUnread changes to read does not get
// it; CatchUp returns one change instead of all that it missed.
func (f *Feed) Publish(event, id string, about any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.number++
	for l := range f.listeners {
		if l.missed {
			continue // until CatchUp
		}
		select {
		case l.Changes <- Change{f.number, event, id, about}:
		default:
			l.missed = true
		}
	}
}

// Listen returns a new listener and the number of the last change before it. It fails if the
// client, or all clients together, have too many listeners.
func (f *Feed) Listen(client netip.Addr) (l *Listener, number uint64, err error) {
	if err := f.clients.Take(client); err != nil {
		return nil, 0, fmt.Errorf("too many clients listen to /events: close some of them: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	l = &Listener{client: client, Changes: make(chan Change, maxUnread)}
	f.listeners[l] = true
	return l, f.number, nil
}

// Leave ends a listener. It must be called once.
func (f *Feed) Leave(l *Listener) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.listeners, l)
	f.clients.Release(l.client)
}

// Count returns how many listeners there are.
func (f *Feed) Count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.listeners)
}

// CatchUp returns one change for all that l missed, if it missed any.
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

// IDOf returns the ID of a change, by which a client says which change it saw last.
func (f *Feed) IDOf(number uint64) string { return f.run + "-" + strconv.FormatUint(number, 10) }
