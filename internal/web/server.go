package web

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/rayje/dnsdock/internal/limit"
)

const (
	maxConns       = 256              // some clients and a monitoring system; an idle connection takes 20 KB
	maxClientConns = 128              // half of them: a reverse proxy is one client
	maxHeader      = 16 << 10         // bytes of a request's header; curl sends 100
	readTimeout    = 10 * time.Second // for a request
	writeTimeout   = 30 * time.Second // for a reply: 10,000 services are 4 MB
)

// NewServer returns an HTTP server of h. No client can hold it up: slow requests and replies time
// out, and the number of connections is bounded. The requests' contexts end when ctx is done.
func NewServer(ctx context.Context, h http.Handler, log *slog.Logger) *http.Server {
	conns := &connections{
		clients: limit.New(maxClientConns, maxConns),
		all:     make(map[net.Conn]*connection),
	}
	return &http.Server{
		Handler:           conns.markWorking(h),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnState:         conns.track,
		ConnContext:       conns.withConnection,
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       writeTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug), // faults of clients
	}
}

// connections bounds the connections of a server. If there are too many, it closes the connection
// that has been without a complete request for longest. It does not wrap the listener: a wrapped
// connection could not be closed for writing only, so a client that is refused would see a reset
// instead of its reply.
type connections struct {
	clients *limit.PerClient

	mu  sync.Mutex // guards all, and what its connections hold
	all map[net.Conn]*connection
}

type connection struct {
	client  netip.Addr // its network, see limit.Network
	since   time.Time  // when it was accepted, or became idle
	working bool       // a handler works for it
}

// A connectionKey is the key of a request's *connection in its context.
type connectionKey struct{}

// track is the server's ConnState hook.
func (s *connections) track(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew:
		s.addLocked(c)
	case http.StateIdle:
		if known := s.all[c]; known != nil {
			known.since = time.Now()
		}
	case http.StateClosed, http.StateHijacked:
		s.removeLocked(c)
	}
}

func (s *connections) addLocked(c net.Conn) {
	added := &connection{client: limit.Network(addrOf(c.RemoteAddr().String())), since: time.Now()}
	for err := s.clients.Take(added.client); err != nil; err = s.clients.Take(added.client) {
		oldest := s.oldestLocked(func(o *connection) bool {
			return !errors.Is(err, limit.ErrClient) || o.client == added.client
		})
		s.removeLocked(oldest)
		_ = oldest.Close() // the client sees the end
	}
	s.all[c] = added
}

func (s *connections) removeLocked(c net.Conn) {
	if known := s.all[c]; known != nil {
		s.clients.Release(known.client)
		delete(s.all, c)
	}
}

// oldestLocked returns the connection that is idle for longest among those that match. It returns
// one that a handler works for only if all of them are such. At least one must match.
func (s *connections) oldestLocked(match func(*connection) bool) (oldest net.Conn) {
	for c, known := range s.all {
		if !match(known) {
			continue
		}
		switch first := s.all[oldest]; {
		case first == nil, first.working && !known.working,
			first.working == known.working && known.since.Before(first.since):
			oldest = c
		}
	}
	return oldest
}

// withConnection is the server's ConnContext hook.
func (s *connections) withConnection(ctx context.Context, c net.Conn) context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	return context.WithValue(ctx, connectionKey{}, s.all[c])
}

// markWorking returns next with a note on each connection while next works for it.
func (s *connections) markWorking(next http.Handler) http.Handler {
	set := func(c *connection, working bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		c.working = working
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, _ := r.Context().Value(connectionKey{}).(*connection); c != nil {
			set(c, true)
			defer set(c, false)
		}
		next.ServeHTTP(w, r)
	})
}

// ClientAddr returns the address of the client. It is this host's if the request came through a unix socket.
func ClientAddr(r *http.Request) netip.Addr {
	if a := addrOf(r.RemoteAddr); a.IsValid() {
		return a
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}

// addrOf returns the IP address in HOST:PORT without its zone. It is invalid for the ends of a unix socket.
func addrOf(hostPort string) netip.Addr {
	a, err := netip.ParseAddrPort(hostPort)
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap().WithZone("")
}

// cameByUnixSocket reports whether the client could open a socket in the file system, whose mode says who may.
func cameByUnixSocket(r *http.Request) bool {
	at, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return ok && at.Network() == "unix"
}
