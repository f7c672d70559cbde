package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/udpio"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

const (
	upstreamSize = 4096             // octets of a UDP reply that are read; 1,232 are asked for
	resendAfter  = time.Second      // the same UDP query once more: one of the two packets may have got lost
	maxTries     = 50               // queries in a second to an upstream that refuses all: each costs much, and is for nothing
	maxFresh     = 1000             // UDP queries in a second that get a socket, and so a port, of their own
	poolSize     = 256              // sockets that share the others: a forger has to guess one of so many ports
	socketUses   = 100              // queries of a shared socket,
	socketAge    = 10 * time.Second // and for how long it is used: then another port takes its place
	udpIdle      = 2 * time.Second  // after which a shared socket is closed
	tlsIdle      = 30 * time.Second // after which a connection is: a handshake is 2 round trips

	maxStrays = 8                      // replies to one query that wait to be looked at; what comes past that is dropped
	junkTime  = 300 * time.Millisecond // for the true reply to come after a false one, where others can be asked
)

var (
	errTimeout = errors.New("no answer in time")
	errClosed  = errors.New("the connection ended")
	errJunk    = errors.New("what came is no reply to the query")
	errAway    = errors.New("it was tried often enough in this second")
)

// A server is where an upstream is, as -nameserver says.
type server struct {
	addr netip.AddrPort
	tls  bool   // DNS over TLS, RFC 7858
	name string // in its certificate; empty: its address
	file string // or the path of a resolv.conf, which names others
}

func (s server) String() string {
	switch {
	case s.file != "":
		return s.file
	case s.name != "":
		return "tls://" + s.addr.String() + "#" + s.name
	case s.tls:
		return "tls://" + s.addr.String()
	}
	return s.addr.String()
}

// An upstream is a nameserver that answers what is not ours.
type upstream struct {
	server
	tls *tls.Config // nil: UDP, and TCP for what is truncated

	failures atomic.Int32  // in a row
	retry    atomic.Int64  // nanoseconds since made: when one that failed is tried again
	queries  atomic.Uint64 // in all
	failed   atomic.Uint64 // of these were not answered
	loops    atomic.Bool   // it asked us what we had asked it, and did not answer
	closed   atomic.Bool   // it failed at once, the last time that it failed

	made     time.Time
	maxFresh int // sockets in a second that are for one query each

	mu     sync.Mutex // guards what follows
	second int64      // of Unix time, in which
	fresh  int        // so many were opened
	tries  int        // and it was tried so often after it had failed
	pool   []*socket  // poolSize of them, or nil before the first; some are nil
	link   *link      // over TLS; nil before the first
}

// newUpstream returns the upstream at s. The certificate of one with TLS is to
// be signed by one of roots, those of the system if nil.
func newUpstream(s server, roots *x509.CertPool) *upstream {
	u := &upstream{server: s, made: time.Now(), maxFresh: maxFresh}
	if s.tls {
		name := s.name
		if name == "" {
			name = s.addr.Addr().WithZone("").String()
		}
		u.tls = &tls.Config{ServerName: name, RootCAs: roots, MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	}
	return u
}

// A query is a question that is asked of an upstream.
type query struct {
	dnscache.Question
	until  time.Time       // when the wait for a reply ends
	others bool            // there are other upstreams: after junk the wait is no longer than junkTime
	out    func(id uint16) // is told the ID
}

// ask sends q, and returns the reply to it, which is truncated where TCP
// fails.
func (u *upstream) ask(ctx context.Context, q query) (*dns.Msg, error) {
	r, err := u.send(ctx, q, q.Message(true, u.tls != nil))
	if err == nil && r.Rcode == dns.RcodeFormatError && r.IsEdns0() == nil { // it knows no EDNS, RFC 6891 section 7
		r, err = u.send(ctx, q, q.Message(false, false))
	}
	return r, err
}

// send sends q as the message b.
func (u *upstream) send(ctx context.Context, q query, b []byte) (*dns.Msg, error) {
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
func (u *upstream) sendTCP(ctx context.Context, q query, b []byte) (*dns.Msg, error) {
	dial, cancel := context.WithDeadline(ctx, q.until)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(dial, "tcp", u.addr.String())
	if err != nil {
		return nil, err
	}
	return newSocket(c, 1).exchange(ctx, q, b)
}

// socket returns a connected UDP socket, on which only the upstream's packets
// arrive. The system chooses its port at random. Up to maxFresh queries in a
// second have one of their own; past that they share poolSize of them.
func (u *upstream) socket() (*socket, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.isFreshLocked() {
		u.fresh++
		return u.dialUDP(1)
	}
	return u.sharedLocked()
}

// isAway reports whether u is not to be asked now: it failed at once, again and
// again. That of one that is silent may be only for some names.
func (u *upstream) isAway() bool {
	if u.failures.Load() < failuresToLog || !u.closed.Load() {
		return false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.isFreshLocked() // begins a second
	u.tries++
	return u.tries > maxTries
}

// isFreshLocked reports whether a query can have a socket of its own now.
func (u *upstream) isFreshLocked() bool {
	if now := time.Now().Unix(); now != u.second {
		u.second, u.fresh, u.tries = now, 0, 0
	}
	return u.fresh < u.maxFresh
}

// shared returns a shared socket; nil where each query can have its own, or
// the upstream is not one to ask over UDP.
func (u *upstream) shared() *socket {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.tls != nil || u.failures.Load() > 0 || u.isFreshLocked() {
		return nil
	}
	s, err := u.sharedLocked()
	if err != nil {
		return nil
	}
	return s
}

func (u *upstream) sharedLocked() (*socket, error) {
	if u.pool == nil {
		u.pool = make([]*socket, poolSize)
	}
	at := &u.pool[randomUint16()%poolSize]
	if *at == nil || !(*at).take() {
		s, err := u.dialUDP(socketUses)
		if err != nil {
			return nil, err
		}
		*at = s
	}
	return *at, nil
}

func (u *upstream) dialUDP(uses int) (*socket, error) {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(u.addr))
	if err != nil {
		return nil, err
	}
	return newSocket(c, uses), nil
}

// A link is a connection over TLS, which all queries share, or the attempt
// to get one.
type link struct {
	made   chan struct{} // closed when what follows is known
	socket *socket
	err    error
}

// sendTLS sends b over the connection that there is. Where that is closed, as
// servers do at any time, it takes a new one, unless none was of any use. One on
// which nothing comes any more is dead, and nobody says so for many minutes.
func (u *upstream) sendTLS(ctx context.Context, q query, b []byte) (*dns.Msg, error) {
	timeout := time.NewTimer(time.Until(q.until))
	defer timeout.Stop()
	for {
		l, begun := u.connection(ctx), time.Now()
		select {
		case <-l.made:
		case <-timeout.C:
			return nil, errTimeout
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if l.err != nil {
			return nil, l.err
		}
		r, err := l.socket.exchange(ctx, q, b)
		if errors.Is(err, errTimeout) {
			l.socket.giveUpUnlessHeardSince(begun, err)
		}
		if err == nil || !errors.Is(err, errClosed) || !l.socket.heardSince(time.Time{}) {
			return r, err
		}
	}
}

// connection returns the connection, which may still be in the making. It ends with ctx, that
// of the program.
func (u *upstream) connection(ctx context.Context) *link {
	u.mu.Lock()
	defer u.mu.Unlock()
	if l := u.link; l != nil {
		select {
		case <-l.made:
			if l.err == nil && l.socket.take() {
				return l
			}
		default:
			return l
		}
	}
	l := &link{made: make(chan struct{})}
	u.link = l
	go func() {
		defer close(l.made)
		ctx, cancel := context.WithTimeout(ctx, upstreamTimeout)
		defer cancel()
		c, err := (&tls.Dialer{Config: u.tls}).DialContext(ctx, "tcp", u.addr.String())
		if l.err = err; err == nil {
			l.socket = newSocket(c, 0)
		}
	}()
	return l
}

// A socket is a connected socket of an upstream, and the queries that wait for
// replies on it. It closes itself when it is of no use any more.
type socket struct {
	net.Conn
	stream bool          // TCP or TLS: messages have a length before them
	idle   time.Duration // after which it closes itself
	most   int           // queries that it is used for; 0: any number
	born   time.Time

	mu      sync.Mutex         // guards what follows, and is held while a stream is written
	used    int                // for how many queries
	pending int                // of which are not answered; not counted where any number is sent
	heard   time.Time          // when a message was read last; zero before the first
	ticked  int                // used, when it was last in danger of being idle
	waiting map[uint16]*waiter // by the ID
	err     error              // why it is closed
}

// A waiter waits for the reply to a query.
type waiter struct {
	id      uint16
	query   []byte
	flight  *flight     // to be told, and not replies; nil of all but bursts
	replies chan []byte // nil is one to another query; closed when the socket is
}

// newSocket returns a socket that is used for that many queries, 0 for any
// number, the first of which is to be sent. Its reader ends with it.
func newSocket(c net.Conn, most int) *socket {
	_, isUDP := c.(*net.UDPConn)
	s := &socket{Conn: c, stream: !isUDP, idle: udpIdle, most: most, born: time.Now(), used: 1, pending: 1, waiting: make(map[uint16]*waiter)}
	if s.stream {
		s.idle = tlsIdle
	}
	if most > 1 {
		go s.readBursts()
	} else {
		go s.read()
	}
	return s
}

// take counts a query that is going to be sent; it is not ok where another
// socket is to be taken instead.
func (s *socket) take() (ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.most > 0 && time.Since(s.born) >= socketAge {
		s.used = s.most
	}
	if s.err != nil || s.most > 0 && s.used >= s.most {
		s.closeLocked()
		return false
	}
	s.used++
	s.pending++
	return true
}

// closeLocked closes s if it is used up and nobody waits; the reader sees it.
func (s *socket) closeLocked() {
	if s.most > 0 && s.used >= s.most && s.pending <= 0 {
		_ = s.Conn.Close()
	}
}

// exchange sends the message b for q under a random ID, and waits for its
// reply. What is no well-formed reply to it is dropped and the wait goes on,
// so that whoever guesses wrong has won nothing.
func (s *socket) exchange(ctx context.Context, q query, b []byte) (*dns.Msg, error) {
	w, err := s.begin(b)
	defer s.end(w)
	if err != nil {
		return nil, err
	}
	q.out(w.id)
	if err := s.write(w.query); err != nil {
		return nil, fmt.Errorf("%w: %w", errClosed, err)
	}
	wake := time.NewTimer(min(resendAfter, time.Until(q.until)))
	defer wake.Stop()
	late := errTimeout
	for {
		select {
		case reply, ok := <-w.replies:
			if !ok {
				return nil, s.cause()
			}
			r := new(dns.Msg)
			switch {
			case reply != nil && r.Unpack(reply) == nil && relayable(r):
				return r, nil
			case s.stream: // the other end of a connection won't do better
				return nil, errJunk
			case q.others && late != errJunk:
				q.until = earlier(q.until, time.Now().Add(junkTime))
				wake.Reset(time.Until(q.until))
				late = errJunk
			}
		case <-wake.C:
			left := time.Until(q.until)
			if left <= 0 {
				return nil, late
			}
			wake.Reset(left)
			if !s.stream {
				_ = s.write(w.query) // it may have arrived the first time
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// begin has b wait for its reply, under an ID that no other query on s has.
// Where it fails it returns a waiter all the same.
func (s *socket) begin(b []byte) (*waiter, error) {
	w := &waiter{query: b, replies: make(chan []byte, maxStrays)}
	return w, s.add(w)
}

// add gives w an ID and has it wait.
func (s *socket) add(w *waiter) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	for w.id = randomUint16(); s.waiting[w.id] != nil; w.id = randomUint16() {
	}
	binary.BigEndian.PutUint16(w.query, w.id)
	s.waiting[w.id] = w
	return nil
}

// randomUint16 returns a number that nobody can guess.
func randomUint16() uint16 {
	var b [2]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.BigEndian.Uint16(b[:])
}

// end forgets w.
func (s *socket) end(w *waiter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting[w.id] == w {
		delete(s.waiting, w.id)
	}
	s.pending--
	s.closeLocked()
}

func (s *socket) cause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// write sends a message.
func (s *socket) write(b []byte) error {
	if s.stream {
		s.mu.Lock()
		defer s.mu.Unlock()
		_ = s.SetWriteDeadline(time.Now().Add(upstreamTimeout)) // fails where the write does
		b = append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
	}
	_, err := s.Conn.Write(b)
	if err != nil && s.stream { // the next message would begin in the middle of this one
		s.giveUpLocked(err)
	}
	return err
}

// heardSince reports whether a message was read after that time.
func (s *socket) heardSince(t time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heard.After(t)
}

func (s *socket) giveUpUnlessHeardSince(t time.Time, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.heard.After(t) {
		s.giveUpLocked(err)
	}
}

// giveUpLocked has no query sent on s any more; its reader tells those who wait.
func (s *socket) giveUpLocked(err error) {
	if s.err == nil {
		s.err = fmt.Errorf("%w: %w", errClosed, err)
		go s.Conn.Close() // over TLS it says so, which may take its time
	}
}

// read gives replies to those who wait for them, until s fails or is idle.
func (s *socket) read() {
	var in *bufio.Reader
	buf := make([]byte, upstreamSize)
	if s.stream {
		in, buf = bufio.NewReader(s.Conn), nil
	}
	for {
		_ = s.SetReadDeadline(time.Now().Add(s.idle)) // fails where the read does
		for {
			reply, err := buf, error(nil)
			if s.stream {
				reply, err = s.readFrame(in)
			} else {
				var n int
				n, err = s.Conn.Read(buf)
				reply = buf[:n]
			}
			if err == nil {
				s.deliver(reply, nil)
				continue
			}
			if s.isOver(err) {
				return
			}
			break
		}
	}
}

// readFrame reads a message of a stream. The end of its time is an error of its
// own only before the first octet.
func (s *socket) readFrame(in *bufio.Reader) ([]byte, error) {
	if _, err := in.Peek(1); err != nil {
		return nil, err
	}
	_ = s.SetReadDeadline(time.Now().Add(s.idle)) // fails where the read does
	b, err := dnswire.ReadMessage(in)
	if err != nil {
		err = fmt.Errorf("in a message: %v", err)
	}
	return b, err
}

// isOver ends s, for which nothing was read by reason of err, unless that is
// only the end of its time, and it was of use since the last time.
func (s *socket) isOver(err error) bool {
	s.mu.Lock()
	idle := (s.most == 0 || s.pending <= 0) && len(s.waiting) == 0 && s.used == s.ticked
	s.ticked = s.used
	s.mu.Unlock()
	if errors.Is(err, os.ErrDeadlineExceeded) && !idle {
		return false
	}
	s.fail(err)
	return true
}

// deliver gives a reply to the one whose query it is to: its ID and question
// are. On a socket of one query that one hears of all others too. What clients
// get of it is sent with out.
func (s *socket) deliver(b []byte, out *udpio.Batch) {
	w := s.waiterFor(b)
	switch {
	case w == nil:
	case w.flight != nil:
		copy(b[dnswire.HeaderLen:], dnswire.Question(w.query)) // in our letter case: names point to it
		w.flight.land(b, out)
	default:
		b = bytes.Clone(b)
		copy(b[dnswire.HeaderLen:], dnswire.Question(w.query))
		w.give(b)
	}
}

func (s *socket) waiterFor(b []byte) *waiter {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = time.Now()
	if len(b) >= dnswire.HeaderLen {
		if w := s.waiting[binary.BigEndian.Uint16(b)]; w != nil && dnswire.IsReply(b, w.query) {
			return w
		}
	}
	if s.most == 1 {
		for _, w := range s.waiting {
			w.give(nil)
		}
	}
	return nil
}

func (w *waiter) give(reply []byte) {
	select {
	case w.replies <- reply:
	default:
	}
}

// fail closes s: all who wait are told, and no query is sent any more.
func (s *socket) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = fmt.Errorf("%w: %w", errClosed, err)
	go s.Conn.Close() // a second time, maybe; over TLS it says so, which may take its time
	for _, w := range s.waiting {
		if w.flight != nil {
			go w.flight.fall(s.err)
		} else {
			close(w.replies)
		}
	}
	clear(s.waiting)
}

// relayable reports whether r can be written and read again. The library
// reads records that end early, and writes them as what no client can read;
// and OPT and TSIG where they are not allowed, RFC 6891 section 6.1.1.
func relayable(r *dns.Msg) bool {
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
