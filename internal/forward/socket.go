package forward

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/udpio"
)

const (
	udpSize    = 4096             // bytes of a UDP reply that are read; 1,232 are asked for
	udpIdle    = 2 * time.Second  // after which a shared UDP socket is closed
	streamIdle = 30 * time.Second // after which a connection is closed: a TLS handshake takes 2 round trips
	writeTime  = 2 * time.Second  // for a peer to take a query over a stream
	maxPending = 1 << 15          // queries on a socket: every second ID is free still, so that one is soon found
	maxStrays  = 8                // replies to one query that wait to be looked at; further ones are dropped
)

// A socket is a connected socket of an upstream, and the queries that wait for replies on it. It closes itself once
// it is not needed any more.
type socket struct {
	net.Conn
	stream  bool          // TCP or TLS: messages have their length in front
	idle    time.Duration // after which it closes itself
	limit   int           // queries that it is used for; 0: any number
	born    time.Time
	writing chan struct{} // holds one element while a stream is written

	mu      sync.Mutex // guards what follows
	used    int        // for how many queries
	pending int        // of which are not answered; not counted if limit is 0
	ticked  int        // the value of used at the last look whether it is idle
	heard   time.Time  // when a message was read last; zero before the first
	waiting map[uint16]*waiter
	err     error // why it takes no more queries
}

// A waiter waits for the reply to a query.
type waiter struct {
	id    uint16
	query []byte
	// gets the reply at once, instead of replies; nil of all but bursts; guarded by the socket's mu
	pending *pending
	replies chan []byte // a nil message is one to another query; closed when the socket is
}

// newSocket returns a socket that is used for limit queries, 0 for any number. The first of them counts already.
// Its reader ends with the socket.
func newSocket(c net.Conn, limit int) *socket {
	_, isUDP := c.(*net.UDPConn)
	s := &socket{
		Conn: c, stream: !isUDP, idle: udpIdle, limit: limit, born: time.Now(), writing: make(chan struct{}, 1),
		used: 1, pending: 1, waiting: make(map[uint16]*waiter),
	}
	if s.stream {
		s.idle = streamIdle
	}
	if isUDP && limit > 1 {
		go s.readBursts()
	} else {
		go s.read()
	}
	return s
}

// take counts a query that is going to be sent. It reports false if the caller must take another socket instead.
func (s *socket) take() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.limit > 0 && time.Since(s.born) >= socketAge {
		s.used = s.limit
	}
	if s.err != nil || s.limit > 0 && s.used >= s.limit {
		s.closeUsedLocked()
		return false
	}
	s.used++
	s.pending++
	return true
}

// closeUsedLocked closes s if it was used as often as it may be and no query waits. The reader then ends.
func (s *socket) closeUsedLocked() {
	if s.limit > 0 && s.used >= s.limit && s.pending <= 0 {
		_ = s.Conn.Close()
	}
}

// begin gives query an ID that no other query on s has, and a waiter. The caller must call end, whatever the error.
func (s *socket) begin(query []byte) (*waiter, error) {
	w := &waiter{query: query, replies: make(chan []byte, maxStrays)}
	return w, s.add(w)
}

func (s *socket) add(w *waiter) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return s.err
	case len(s.waiting) >= maxPending:
		return errFull
	}
	for w.id = randomUint16(); s.waiting[w.id] != nil; w.id = randomUint16() {
	}
	binary.BigEndian.PutUint16(w.query, w.id)
	s.waiting[w.id] = w
	return nil
}

// randomUint16 returns a number that strangers can't guess.
func randomUint16() uint16 {
	var b [2]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.BigEndian.Uint16(b[:])
}

// end forgets w, and the query that take counted.
func (s *socket) end(w *waiter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting[w.id] == w {
		delete(s.waiting, w.id)
	}
	s.pending--
	s.closeUsedLocked()
}

// detach makes w, which belongs to a burst, get its replies through its channel, and gives it a first one if that
// is not nil.
func (s *socket) detach(w *waiter, first []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.pending, w.replies = nil, make(chan []byte, maxStrays)
	if first != nil {
		w.replies <- bytes.Clone(first)
	}
	if s.waiting[w.id] != w { // the socket failed meanwhile
		close(w.replies)
	}
}

func (s *socket) cause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// write sends a message. Over a stream it waits for its turn, without a lock that others need: a peer that stops
// reading blocks the writer for writeTime.
func (s *socket) write(ctx context.Context, b []byte) error {
	if !s.stream {
		_, err := s.Conn.Write(b)
		return err
	}
	select {
	case s.writing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.writing }()
	if err := s.cause(); err != nil {
		return err
	}
	_ = s.SetWriteDeadline(time.Now().Add(writeTime)) // fails if the write does
	_, err := s.Conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
	if err != nil { // the next message would begin in the middle of this one
		s.giveUp(err)
	}
	return err
}

// heardSince reports whether a message was read after t.
func (s *socket) heardSince(t time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heard.After(t)
}

// giveUp has no further query sent on s, and closes it.
func (s *socket) giveUp(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = fmt.Errorf("%w: %w", errClosed, err)
		go s.Conn.Close() // its reader tells those who wait; over TLS a close takes its time
	}
}

// retire has no further query sent on s. Those that wait go on doing so, and then s is closed.
func (s *socket) retire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = fmt.Errorf("%w: %w", errClosed, errTimeout)
		_ = s.SetReadDeadline(time.Now().Add(udpIdle)) // no longer than the queries wait
	}
}

// read gives replies to those who wait for them until s fails or is idle.
func (s *socket) read() {
	var in *bufio.Reader
	var buf []byte
	if s.stream {
		in = bufio.NewReader(s.Conn)
	} else {
		buf = make([]byte, udpSize)
	}
	for {
		s.extend()
		for {
			reply, err := s.readMessage(in, buf)
			if err != nil {
				if s.isOver(err) {
					return
				}
				break
			}
			s.deliver(reply, nil)
		}
	}
}

// extend gives the reader of s more time.
func (s *socket) extend() {
	_ = s.SetReadDeadline(time.Now().Add(s.idle)) // fails if the read does
}

// readMessage reads a message. Of a stream, the end of the reader's time is an error that isOver knows only before
// the first byte.
func (s *socket) readMessage(in *bufio.Reader, buf []byte) ([]byte, error) {
	if !s.stream {
		n, err := s.Conn.Read(buf)
		return buf[:n], err
	}
	if _, err := in.Peek(1); err != nil {
		return nil, err
	}
	s.extend()
	b, err := dnswire.ReadMessage(in)
	if err != nil {
		err = fmt.Errorf("in a message: %v", err)
	}
	return b, err
}

// isOver ends s after a read that failed, unless only the reader's time is over and s was used since the last time.
func (s *socket) isOver(err error) bool {
	s.mu.Lock()
	unused := (s.limit == 0 || s.pending <= 0) && len(s.waiting) == 0 && s.used == s.ticked
	retired := s.err != nil
	s.ticked = s.used
	s.mu.Unlock()
	if errors.Is(err, os.ErrDeadlineExceeded) && !unused && !retired {
		return false
	}
	s.fail(err)
	return true
}

// deliver gives a reply to the query that has its ID and question. On a socket of one query, that query hears of
// all other packets too. What clients get of a reply is sent with out.
func (s *socket) deliver(b []byte, out *udpio.Batch) {
	w, p := s.waiterFor(b)
	if w == nil {
		return
	}
	if p == nil {
		b = bytes.Clone(b)
	}
	if !dnswire.IsBareError(b) {
		copy(b[dnswire.HeaderLen:], dnswire.Question(w.query)) // in our letter case: names point to it
	}
	if p != nil {
		p.complete(b, out)
	} else {
		w.give(b)
	}
}

// waiterFor returns who waits for reply b; nil if there is none. The pending is that of a burst, else nil.
func (s *socket) waiterFor(b []byte) (*waiter, *pending) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = time.Now()
	if len(b) >= dnswire.HeaderLen {
		w := s.waiting[binary.BigEndian.Uint16(b)]
		if w != nil && (dnswire.IsReply(b, w.query) || dnswire.IsBareError(b)) {
			return w, w.pending
		}
	}
	if s.limit == 1 {
		for _, w := range s.waiting {
			w.give(nil)
		}
	}
	return nil, nil
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
	if s.err == nil {
		s.err = fmt.Errorf("%w: %w", errClosed, err)
	}
	go s.Conn.Close() // a second time, maybe; over TLS a close takes its time
	for _, w := range s.waiting {
		if w.pending != nil {
			go w.pending.fail()
		} else {
			close(w.replies)
		}
	}
	clear(s.waiting)
}
