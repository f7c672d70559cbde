package forward

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnscache"
)

const (
	upstreamSize = 4096             // octets of a UDP reply that are read; 1,232 are asked for
	resendAfter  = time.Second      // the same UDP query once more: one of the two packets may have got lost
	maxTries     = 50               // queries in a second to an upstream that refuses all: each costs much, and is for nothing
	maxFresh     = 1000             // UDP queries in a second that get a socket, and so a port, of their own
	PoolSize     = 256              // sockets that share the others: a forger has to guess one of so many ports
	SocketUses   = 100              // queries of a shared socket,
	SocketAge    = 10 * time.Second // and for how long it is used: then another port takes its place
	udpIdle      = 2 * time.Second  // after which a shared socket is closed
	tlsIdle      = 30 * time.Second // after which a connection is: a handshake is 2 round trips

	maxStrays = 8                      // replies to one query that wait to be looked at; what comes past that is dropped
	junkTime  = 300 * time.Millisecond // for the true reply to come after a false one, where others can be asked
)

var (
	ErrTimeout = errors.New("no answer in time")
	errClosed  = errors.New("the connection ended")
	errJunk    = errors.New("what came is no reply to the query")
	errAway    = errors.New("it was tried often enough in this second")
)

// A Server is where an upstream is, as -nameserver says.
type Server struct {
	Addr netip.AddrPort
	Tls  bool   // DNS over TLS, RFC 7858
	Name string // in its certificate; empty: its address
	File string // or the path of a resolv.conf, which names others
}

func (s Server) String() string {
	switch {
	case s.File != "":
		return s.File
	case s.Name != "":
		return "tls://" + s.Addr.String() + "#" + s.Name
	case s.Tls:
		return "tls://" + s.Addr.String()
	}
	return s.Addr.String()
}

// An Upstream is a nameserver that answers what is not ours.
type Upstream struct {
	Server
	tls *tls.Config // nil: UDP, and TCP for what is truncated

	Failures atomic.Int32  // in a row
	Retry    atomic.Int64  // nanoseconds since made: when one that failed is tried again
	queries  atomic.Uint64 // in all
	failed   atomic.Uint64 // of these were not answered
	loops    atomic.Bool   // it asked us what we had asked it, and did not answer
	closed   atomic.Bool   // it failed at once, the last time that it failed

	made     time.Time
	MaxFresh int // sockets in a second that are for one query each

	Mu     sync.Mutex // guards what follows
	second int64      // of Unix time, in which
	Fresh  int        // so many were opened
	tries  int        // and it was tried so often after it had failed
	Pool   []*Socket  // poolSize of them, or nil before the first; some are nil
	Link   *Link      // over TLS; nil before the first
}

// NewUpstream returns the upstream at s. The certificate of one with TLS is to
// be signed by one of roots, those of the system if nil.
func NewUpstream(s Server, roots *x509.CertPool) *Upstream {
	u := &Upstream{Server: s, made: time.Now(), MaxFresh: maxFresh}
	if s.Tls {
		name := s.Name
		if name == "" {
			name = s.Addr.Addr().WithZone("").String()
		}
		u.tls = &tls.Config{ServerName: name, RootCAs: roots, MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	}
	return u
}

// A Query is a question that is asked of an upstream.
type Query struct {
	dnscache.Question
	Until  time.Time       // when the wait for a reply ends
	Others bool            // there are other upstreams: after junk the wait is no longer than junkTime
	Out    func(id uint16) // is told the ID
}

// Ask sends q, and returns the reply to it, which is truncated where TCP
// fails.
func (u *Upstream) Ask(ctx context.Context, q Query) (*dns.Msg, error) {
	r, err := u.send(ctx, q, q.Message(true, u.tls != nil))
	if err == nil && r.Rcode == dns.RcodeFormatError && r.IsEdns0() == nil { // it knows no EDNS, RFC 6891 section 7
		r, err = u.send(ctx, q, q.Message(false, false))
	}
	return r, err
}

// send sends q as the message b.
func (u *Upstream) send(ctx context.Context, q Query, b []byte) (*dns.Msg, error) {
	switch {
	case u.isAway():
		return nil, errAway
	case u.tls != nil:
		return u.sendTLS(ctx, q, b)
	}
	s, err := u.socket()
	if err != nil {
		return nil, err
	}
	r, err := s.exchange(ctx, q, b)
	if err == nil && r.Truncated {
		if whole, err := u.sendTCP(ctx, q, b); err == nil {
			return whole, nil
		}
	}
	return r, err
}

// sendTCP sends b over a connection of its own.
func (u *Upstream) sendTCP(ctx context.Context, q Query, b []byte) (*dns.Msg, error) {
	dial, cancel := context.WithDeadline(ctx, q.Until)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(dial, "tcp", u.Addr.String())
	if err != nil {
		return nil, err
	}
	return NewSocket(c, 1).exchange(ctx, q, b)
}

// Socket returns a connected UDP socket, on which only the upstream's packets
// arrive. The system chooses its port at random. Up to maxFresh queries in a
// second have one of their own; past that they share poolSize of them.
func (u *Upstream) socket() (*Socket, error) {
	u.Mu.Lock()
	defer u.Mu.Unlock()
	if u.isFreshLocked() {
		u.Fresh++
		return u.dialUDP(1)
	}
	return u.SharedLocked()
}

// isAway reports whether u is not to be asked now: it failed at once, again and
// again. That of one that is silent may be only for some names.
func (u *Upstream) isAway() bool {
	if u.Failures.Load() < FailuresToLog || !u.closed.Load() {
		return false
	}
	u.Mu.Lock()
	defer u.Mu.Unlock()
	u.isFreshLocked() // begins a second
	u.tries++
	return u.tries > maxTries
}

// isFreshLocked reports whether a query can have a socket of its own now.
func (u *Upstream) isFreshLocked() bool {
	if now := time.Now().Unix(); now != u.second {
		u.second, u.Fresh, u.tries = now, 0, 0
	}
	return u.Fresh < u.MaxFresh
}

// Shared returns a shared socket; nil where each query can have its own, or
// the upstream is not one to ask over UDP.
func (u *Upstream) Shared() *Socket {
	u.Mu.Lock()
	defer u.Mu.Unlock()
	if u.tls != nil || u.Failures.Load() > 0 || u.isFreshLocked() {
		return nil
	}
	s, err := u.SharedLocked()
	if err != nil {
		return nil
	}
	return s
}

func (u *Upstream) SharedLocked() (*Socket, error) {
	if u.Pool == nil {
		u.Pool = make([]*Socket, PoolSize)
	}
	at := &u.Pool[randomUint16()%PoolSize]
	if *at == nil || !(*at).Take() {
		s, err := u.dialUDP(SocketUses)
		if err != nil {
			return nil, err
		}
		*at = s
	}
	return *at, nil
}

func (u *Upstream) dialUDP(uses int) (*Socket, error) {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(u.Addr))
	if err != nil {
		return nil, err
	}
	return NewSocket(c, uses), nil
}

// A Link is a connection over TLS, which all queries share, or the attempt
// to get one.
type Link struct {
	Made   chan struct{} // closed when what follows is known
	Socket *Socket
	Err    error
}

// sendTLS sends b over the connection that there is. Where that is closed, as
// servers do at any time, it takes a new one, unless none was of any use. One on
// which nothing comes any more is dead, and nobody says so for many minutes.
func (u *Upstream) sendTLS(ctx context.Context, q Query, b []byte) (*dns.Msg, error) {
	timeout := time.NewTimer(time.Until(q.Until))
	defer timeout.Stop()
	for {
		l, begun := u.connection(ctx), time.Now()
		select {
		case <-l.Made:
		case <-timeout.C:
			return nil, ErrTimeout
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if l.Err != nil {
			return nil, l.Err
		}
		r, err := l.Socket.exchange(ctx, q, b)
		if errors.Is(err, ErrTimeout) {
			l.Socket.giveUpUnlessHeardSince(begun, err)
		}
		if err == nil || !errors.Is(err, errClosed) || !l.Socket.heardSince(time.Time{}) {
			return r, err
		}
	}
}

// connection returns the connection, which may still be in the making. It ends with ctx, that
// of the program.
func (u *Upstream) connection(ctx context.Context) *Link {
	u.Mu.Lock()
	defer u.Mu.Unlock()
	if l := u.Link; l != nil {
		select {
		case <-l.Made:
			if l.Err == nil && l.Socket.Take() {
				return l
			}
		default:
			return l
		}
	}
	l := &Link{Made: make(chan struct{})}
	u.Link = l
	go func() {
		defer close(l.Made)
		ctx, cancel := context.WithTimeout(ctx, UpstreamTimeout)
		defer cancel()
		c, err := (&tls.Dialer{Config: u.tls}).DialContext(ctx, "tcp", u.Addr.String())
		if l.Err = err; err == nil {
			l.Socket = NewSocket(c, 0)
		}
	}()
	return l
}

// Relayable reports whether r can be written and read again. The library
// reads records that end early, and writes them as what no client can read;
// and OPT and TSIG where they are not allowed, RFC 6891 section 6.1.1.
func Relayable(r *dns.Msg) bool {
	if r.Rcode > 0xf { // BADVERS and such
		return true
	}
	for _, rr := range slices.Concat(r.Answer, r.Ns) {
		if t := rr.Header().Rrtype; t == dns.TypeOPT || t == dns.TypeTSIG {
			return false
		}
	}
	r.Compress = true // it came so, and may be too large without
	b, err := r.Pack()
	return err == nil && new(dns.Msg).Unpack(b) == nil
}
