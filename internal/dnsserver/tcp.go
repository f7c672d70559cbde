package dnsserver

import (
	"bufio"
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/limit"
	"github.com/rayje/dnsdock/internal/stats"
	"github.com/rayje/dnsdock/internal/udpio"
	"github.com/rayje/dnsdock/internal/zone"
)

const (
	maxConns       = 1000            // TCP connections at a time
	maxClientConns = 200             // connections of one client; all containers behind a proxy are one client
	tcpFirst       = 2 * time.Second // for a new client to begin its first query
	tcpIdle        = 8 * time.Second // for a client to begin its next query, RFC 7766 section 6.2.3
	tcpRead        = 2 * time.Second // for the rest of a query that has begun
	tcpWrite       = 5 * time.Second // for a client to take replies
	tcpBuffer      = 16 << 10        // bytes of replies that are written together
	workerIdle     = time.Second     // after which a goroutine without a connection ends
)

// A TCP answers DNS over TCP. It answers pipelined queries at once, and a query
// that waits for an upstream when its answer is there, so that no query waits
// for another (RFC 7766 section 6.2.1.1).
type TCP struct {
	server *Server
	ln     net.Listener
	ending chan struct{} // closed by Shutdown
	wg     sync.WaitGroup
	idle   chan *tcpConn // to workers without a connection

	mu       sync.Mutex         // guards what follows
	conns    map[*tcpConn]bool  // nil once the server ended
	ofClient map[netip.Addr]int // number of conns, by network
}

// A tcpConn is a connection from a client.
type tcpConn struct {
	net.Conn
	network netip.Addr   // of the client: the bounds are for that
	used    atomic.Int64 // when the connection was accepted, or queries last came, in Unix nanoseconds
	*buffers
}

// buffers serve one connection, and then the next one.
type buffers struct {
	replay *replayer
	in     *bufio.Reader

	mu  sync.Mutex // guards what follows, and is held while it is written
	out []byte     // replies, each behind its length, that are not written yet
}

// TCP returns a server for ln, which it owns from then on.
func (s *Server) TCP(ln net.Listener) *TCP {
	return &TCP{
		server: s, ln: ln, ending: make(chan struct{}), idle: make(chan *tcpConn),
		conns: make(map[*tcpConn]bool), ofClient: make(map[netip.Addr]int),
	}
}

// Serve accepts connections until Shutdown, then returns nil.
func (s *TCP) Serve() error {
	retry := retrier{log: s.server.log, message: "accepting DNS connections fails", addr: s.ln.Addr(), ending: s.ending}
	for {
		c, err := s.ln.Accept()
		if retry.isOver(err) {
			if err == nil {
				_ = c.Close() // nothing was read
			}
			return nil
		}
		if err == nil {
			s.add(c)
		}
	}
}

// Shutdown ends the server: it reads no more, and waits for the answers to
// what it has read until ctx is done.
func (s *TCP) Shutdown(ctx context.Context) error {
	err := s.ln.Close()
	close(s.ending)
	s.mu.Lock()
	conns := s.conns
	s.conns = nil
	for c := range conns {
		_ = c.SetReadDeadline(time.Unix(1, 0)) // fails where it is closed already
	}
	s.mu.Unlock()
	stop := context.AfterFunc(ctx, func() {
		for c := range conns {
			_ = c.Close()
		}
	})
	defer stop()
	s.wg.Wait()
	return err
}

// add serves a connection. If there are too many, of its client or in all, the
// one that has been idle longest is closed.
func (s *TCP) add(nc net.Conn) {
	c := &tcpConn{Conn: nc, network: limit.Network(udpio.AddrOf(nc.RemoteAddr()))}
	c.used.Store(time.Now().UnixNano())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil {
		_ = nc.Close() // nothing was read
		return
	}
	switch {
	case s.ofClient[c.network] >= maxClientConns:
		s.dropLocked(s.oldestLocked(func(o *tcpConn) bool { return o.network == c.network }))
	case len(s.conns) >= maxConns:
		s.dropLocked(s.oldestLocked(func(*tcpConn) bool { return true }))
	}
	s.conns[c] = true
	s.ofClient[c.network]++
	select {
	case s.idle <- c:
	default:
		s.wg.Go(func() { s.work(c) })
	}
}

// work serves a connection, and then others: a grown stack and the buffers cost
// as much as the rest of a short connection.
func (s *TCP) work(c *tcpConn) {
	counts := s.server.traffic.Take(stats.TCP)
	b := &buffers{replay: s.server.newReplayer(counts), in: bufio.NewReaderSize(nil, dnswire.MaxQuery)}
	for {
		c.buffers = b
		b.in.Reset(c.Conn)
		s.serveConn(c)
		b.out = b.out[:0] // the client may have gone away before it took all
		s.mu.Lock()
		s.dropLocked(c)
		s.mu.Unlock()
		select {
		case c = <-s.idle:
		case <-s.ending:
			return
		case <-time.After(workerIdle):
			return
		}
	}
}

// dropLocked closes a connection.
func (s *TCP) dropLocked(c *tcpConn) {
	if s.conns[c] {
		delete(s.conns, c)
		if s.ofClient[c.network]--; s.ofClient[c.network] == 0 {
			delete(s.ofClient, c.network)
		}
	}
	_ = c.Close() // it may be closed already
}

// oldestLocked returns the connection that has been idle longest, of those for
// which is returns true. There must be one.
func (s *TCP) oldestLocked(is func(*tcpConn) bool) (oldest *tcpConn) {
	for c := range s.conns {
		if is(c) && (oldest == nil || c.used.Load() < oldest.used.Load()) {
			oldest = c
		}
	}
	return oldest
}

// serveConn answers the queries of c until c is idle for too long, sends what is
// no message, or takes no replies. It returns when all queries are answered.
func (s *TCP) serveConn(c *tcpConn) {
	flush := func() { _ = c.flush() } // its error is the next read's
	from := zone.Client{Addr: c.client(), Local: c.local(), Size: dns.MaxMsgSize, BeforeWait: flush}
	var waiting sync.WaitGroup
	defer waiting.Wait()
	for idle := tcpFirst; ; idle = tcpIdle {
		b, err := s.read(c, idle)
		if err != nil {
			return
		}
		if c.answer(b) {
			continue
		}
		if s.server.takes(b, true) {
			if s.transfer(c, b, from) != nil {
				return
			}
			continue
		}
		packet, reply := dnswire.SanitizeQuery(b)
		t := task{Server: s.server, from: from, over: stats.TCP, begun: time.Now()}
		var ok bool
		switch t.query, ok = c.replay.read(packet, dns.MaxMsgSize); {
		case reply != nil:
			took := time.Since(time.Unix(0, c.used.Load()))
			s.server.noteRejected(reply, from.Addr, s.server.traffic.Shared(stats.TCP), took)
			_ = c.send(reply) // its error is the next read's
		case !ok: // a packet that must not be answered
		case t.version != 0:
			reply = t.writeBadVersion(nil)
			t.note(stats.Refused, dns.RcodeBadVers, reply, c.send(reply))
		default:
			t.serve(c, &waiting)
		}
	}
}

// serve answers a query over TCP at once, or if an upstream must be asked,
// when its answer is there. Few can wait: the forwarder has a bound for each
// client.
func (t *task) serve(c *tcpConn, waiting *sync.WaitGroup) {
	send := func(a *zone.Answer) {
		reply := t.write(a, nil)
		t.note(a.Kind, a.Rcode, reply, c.send(reply))
	}
	a := t.decide()
	if !a.IsOpen() {
		send(a)
		return
	}
	t.keep()
	_ = c.flush() // its error is the next read's
	waiting.Go(func() {
		a.Complete()
		send(a)
		_ = c.flush() // the client went away
	})
}

// read returns the next message (RFC 1035 section 4.2.2), which the next call
// overwrites. Before it waits, it writes all replies. It waits for the first
// byte as long as idle, and for the rest no longer than tcpRead.
func (s *TCP) read(c *tcpConn, idle time.Duration) ([]byte, error) {
	if b, ok := c.buffered(); ok {
		return b, nil
	}
	if err := c.flush(); err != nil {
		return nil, err
	}
	if c.in.Buffered() == 0 {
		if err := s.deadline(c, idle); err != nil {
			return nil, err
		}
		if _, err := c.in.Peek(1); err != nil {
			return nil, err
		}
		if b, ok := c.buffered(); ok {
			c.used.Store(time.Now().UnixNano())
			return b, nil
		}
	}
	c.used.Store(time.Now().UnixNano())
	if err := s.deadline(c, tcpRead); err != nil {
		return nil, err
	}
	return dnswire.ReadMessage(c.in)
}

// buffered returns the next message if all of it has been read.
func (c *tcpConn) buffered() (b []byte, ok bool) {
	all, _ := c.in.Peek(c.in.Buffered()) // no error: it is there
	if len(all) < 2 {
		return nil, false
	}
	end := 2 + int(binary.BigEndian.Uint16(all))
	if len(all) < end {
		return nil, false
	}
	_, _ = c.in.Discard(end) // nor here
	return all[2:end], true
}

// deadline sets how long the next reads may take. It returns an error if the
// server ends.
func (s *TCP) deadline(c *tcpConn, d time.Duration) error {
	if err := c.SetReadDeadline(time.Now().Add(d)); err != nil {
		return err
	}
	select {
	case <-s.ending: // its own deadline may have come before ours
		return net.ErrClosed
	default:
		return nil
	}
}

// client returns the address of the other end.
func (c *tcpConn) client() netip.Addr { return udpio.AddrOf(c.RemoteAddr()) }

// local returns the address of this end.
func (c *tcpConn) local() netip.Addr { return udpio.AddrOf(c.LocalAddr()) }

func (*tcpConn) now() time.Time { return time.Now() }

// answer answers a query with a kept answer, and reports whether one fits. The
// reply is written with others, before the next read that waits.
func (c *tcpConn) answer(query []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	start := len(c.out)
	c.out = append(c.out, 0, 0)
	out := c.replay.answer(query, c, dns.MaxMsgSize, c.out)
	if out == nil {
		c.out = c.out[:start]
		return false
	}
	c.out = out
	return c.endLocked(start) == nil
}

// send writes a message with others, before the next read that waits.
func (c *tcpConn) send(b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	start := len(c.out)
	c.out = append(append(c.out, 0, 0), b...)
	return c.endLocked(start)
}

// endLocked sets the length of the message at start. It writes all messages once they
// fill tcpBuffer.
func (c *tcpConn) endLocked(start int) error {
	c.setLength(start)
	if len(c.out) < tcpBuffer {
		return nil
	}
	return c.flushLocked(tcpWrite)
}

// setLength sets the length of the message at start, which is the last.
func (c *tcpConn) setLength(start int) {
	binary.BigEndian.PutUint16(c.out[start:], uint16(len(c.out)-start-2))
}

// flush writes all messages.
func (c *tcpConn) flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.flushLocked(tcpWrite)
}

// flushLocked writes all messages. It closes the connection of a client that
// does not take them in time, because the next one would begin in the middle of another.
func (c *tcpConn) flushLocked(limit time.Duration) error {
	if len(c.out) == 0 {
		return nil
	}
	now := time.Now()
	if c.replay.hasUntimed() {
		c.replay.took(now.Sub(time.Unix(0, c.used.Load())))
	}
	err := c.SetWriteDeadline(now.Add(limit))
	if err == nil {
		_, err = c.Write(c.out)
	}
	if err != nil {
		_ = c.Close() // the first error says more
	}
	if c.out = c.out[:0]; cap(c.out) > 2*tcpBuffer { // after a large message
		c.out = nil
	}
	return err
}
