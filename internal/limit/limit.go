package limit

import (
	"errors"
	"net/netip"
	"sync"
)

var (
	ErrClient = errors.New("this client holds as many as one client may")
	errAll    = errors.New("all clients together hold as many as there may be")
)

// A PerClient counts what clients hold, and bounds it: for each client, so that none takes the share of the others, and
// for all of them together. A client is a network, see Network. It is safe for concurrent use.
type PerClient struct {
	each, all int // the bounds

	mu    sync.Mutex // guards what follows
	held  map[netip.Addr]int
	total int // the sum of held
}

// New returns a PerClient for which one client may hold each, and all clients together may hold all.
func New(each, all int) *PerClient {
	return &PerClient{each: each, all: all, held: make(map[netip.Addr]int)}
}

// Take counts one more for a client. The caller must call Release for it. If a bound is reached, Take returns ErrClient
// or errAll and counts nothing.
func (l *PerClient) Take(client netip.Addr) error {
	client = Network(client)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.held[client] >= l.each:
		return ErrClient
	case l.total >= l.all:
		return errAll
	}
	l.held[client]++
	l.total++
	return nil
}

// Release gives back what Take counted for a client.
func (l *PerClient) Release(client netip.Addr) {
	client = Network(client)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if l.held[client]--; l.held[client] == 0 {
		delete(l.held, client) // else an attacker with many addresses would fill the memory
	}
}

// Total returns how many all clients hold together.
func (l *PerClient) Total() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
}

// Network returns the network that bounds apply to: the address itself for IPv4, its /64 for IPv6, because a host that
// owns one address of a /64 usually owns them all.
func Network(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if !a.Is6() {
		return a
	}
	p, _ := a.Prefix(64) // no error: an IPv6 address has 128 bits
	return p.Addr()
}
