package forward

import (
	"net"
	"sync"
	"time"
)

const (
	maxFresh   = 1000             // UDP queries in a second that get a socket, and so a port, of their own
	poolSize   = 256              // sockets that the other queries share: a forger has to guess one of so many ports
	socketUses = 100              // queries of a shared socket,
	socketAge  = 10 * time.Second // and how long it is used: then a socket with another port takes its place
)

// A pool has the UDP sockets of an upstream. They are connected, so that only the upstream's packets arrive, and
// the system chooses their ports at random.
type pool struct {
	addr *net.UDPAddr

	mu       sync.Mutex // guards what follows
	maxFresh int        // sockets of one query in a second
	second   int64      // of Unix time, in which
	fresh    int        // that many sockets of one query were opened
	shared   []*socket  // poolSize sockets, or none before the first; some are nil
}

// take returns a socket for a query: one of its own, or a shared one if there were many in this second.
func (p *pool) take() (*socket, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isFreshLocked() {
		p.fresh++
		return p.dial(1)
	}
	return p.sharedLocked()
}

// isFreshLocked reports whether a query can have a socket of its own now.
func (p *pool) isFreshLocked() bool {
	if now := time.Now().Unix(); now != p.second {
		p.second, p.fresh = now, 0
	}
	return p.fresh < p.maxFresh
}

// takeShared returns a shared socket; nil while each query can have a socket of its own.
func (p *pool) takeShared() *socket {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isFreshLocked() {
		return nil
	}
	s, err := p.sharedLocked()
	if err != nil {
		return nil // take returns the error
	}
	return s
}

func (p *pool) sharedLocked() (*socket, error) {
	if p.shared == nil {
		p.shared = make([]*socket, poolSize)
	}
	at := &p.shared[randomUint16()%poolSize]
	if *at == nil || !(*at).take() {
		s, err := p.dial(socketUses)
		if err != nil {
			return nil, err
		}
		*at = s
	}
	return *at, nil
}

func (p *pool) dial(uses int) (*socket, error) {
	c, err := net.DialUDP("udp", nil, p.addr)
	if err != nil {
		return nil, err
	}
	return newSocket(c, uses), nil
}
