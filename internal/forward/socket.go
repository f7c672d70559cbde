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

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/udpio"
)

// A Socket is a connected socket of an upstream, and the queries that wait for
// replies on it. It closes itself when it is of no use any more.
type Socket struct {
	net.Conn
	stream bool          // TCP or TLS: messages have a length before them
	idle   time.Duration // after which it closes itself
	most   int           // queries that it is used for; 0: any number
	Born   time.Time

	Mu      sync.Mutex         // guards what follows, and is held while a stream is written
	Used    int                // for how many queries
	Pending int                // of which are not answered; not counted where any number is sent
	heard   time.Time          // when a message was read last; zero before the first
	ticked  int                // used, when it was last in danger of being idle
	Waiting map[uint16]*Waiter // by the ID
	err     error              // why it is closed
}

// A Waiter waits for the reply to a query.
type Waiter struct {
	id      uint16
	Query   []byte
	flight  *Flight     // to be told, and not replies; nil of all but bursts
	Replies chan []byte // nil is one to another query; closed when the socket is
}

// NewSocket returns a socket that is used for that many queries, 0 for any
// number, the first of which is to be sent. Its reader ends with it.
func NewSocket(c net.Conn, most int) *Socket {
	_, isUDP := c.(*net.UDPConn)
	s := &Socket{Conn: c, stream: !isUDP, idle: udpIdle, most: most, Born: time.Now(), Used: 1, Pending: 1, Waiting: make(map[uint16]*Waiter)}
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

// Take counts a query that is going to be sent; it is not ok where another
// socket is to be taken instead.
func (s *Socket) Take() (ok bool) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if s.most > 0 && time.Since(s.Born) >= SocketAge {
		s.Used = s.most
	}
	if s.err != nil || s.most > 0 && s.Used >= s.most {
		s.closeLocked()
		return false
	}
	s.Used++
	s.Pending++
	return true
}

// closeLocked closes s if it is used up and nobody waits; the reader sees it.
func (s *Socket) closeLocked() {
	if s.most > 0 && s.Used >= s.most && s.Pending <= 0 {
		_ = s.Conn.Close()
	}
}

// exchange sends the message b for q under a random ID, and waits for its
// reply. What is no well-formed reply to it is dropped and the wait goes on,
// so that whoever guesses wrong has won nothing.
func (s *Socket) exchange(ctx context.Context, q Query, b []byte) (*dns.Msg, error) {
	w, err := s.begin(b)
	defer s.End(w)
	if err != nil {
		return nil, err
	}
	q.Out(w.id)
	if err := s.write(w.Query); err != nil {
		return nil, fmt.Errorf("%w: %w", errClosed, err)
	}
	wake := time.NewTimer(min(resendAfter, time.Until(q.Until)))
	defer wake.Stop()
	late := ErrTimeout
	for {
		select {
		case reply, ok := <-w.Replies:
			if !ok {
				return nil, s.cause()
			}
			r := new(dns.Msg)
			switch {
			case reply != nil && r.Unpack(reply) == nil && Relayable(r):
				return r, nil
			case s.stream: // the other end of a connection won't do better
				return nil, errJunk
			case q.Others && late != errJunk:
				q.Until = earlier(q.Until, time.Now().Add(junkTime))
				wake.Reset(time.Until(q.Until))
				late = errJunk
			}
		case <-wake.C:
			left := time.Until(q.Until)
			if left <= 0 {
				return nil, late
			}
			wake.Reset(left)
			if !s.stream {
				_ = s.write(w.Query) // it may have arrived the first time
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
func (s *Socket) begin(b []byte) (*Waiter, error) {
	w := &Waiter{Query: b, Replies: make(chan []byte, maxStrays)}
	return w, s.add(w)
}

// add gives w an ID and has it wait.
func (s *Socket) add(w *Waiter) error {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if s.err != nil {
		return s.err
	}
	for w.id = randomUint16(); s.Waiting[w.id] != nil; w.id = randomUint16() {
	}
	binary.BigEndian.PutUint16(w.Query, w.id)
	s.Waiting[w.id] = w
	return nil
}

// randomUint16 returns a number that nobody can guess.
func randomUint16() uint16 {
	var b [2]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.BigEndian.Uint16(b[:])
}

// End forgets w.
func (s *Socket) End(w *Waiter) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if s.Waiting[w.id] == w {
		delete(s.Waiting, w.id)
	}
	s.Pending--
	s.closeLocked()
}

func (s *Socket) cause() error {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return s.err
}

// write sends a message.
func (s *Socket) write(b []byte) error {
	if s.stream {
		s.Mu.Lock()
		defer s.Mu.Unlock()
		_ = s.SetWriteDeadline(time.Now().Add(UpstreamTimeout)) // fails where the write does
		b = append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
	}
	_, err := s.Conn.Write(b)
	if err != nil && s.stream { // the next message would begin in the middle of this one
		s.giveUpLocked(err)
	}
	return err
}

// heardSince reports whether a message was read after that time.
func (s *Socket) heardSince(t time.Time) bool {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return s.heard.After(t)
}

func (s *Socket) giveUpUnlessHeardSince(t time.Time, err error) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if !s.heard.After(t) {
		s.giveUpLocked(err)
	}
}

// giveUpLocked has no query sent on s any more; its reader tells those who wait.
func (s *Socket) giveUpLocked(err error) {
	if s.err == nil {
		s.err = fmt.Errorf("%w: %w", errClosed, err)
		go s.Conn.Close() // over TLS it says so, which may take its time
	}
}

// Read gives replies to those who wait for them, until s fails or is idle.
func (s *Socket) read() {
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
				s.Deliver(reply, nil)
				continue
			}
			if s.IsOver(err) {
				return
			}
			break
		}
	}
}

// readFrame reads a message of a stream. The end of its time is an error of its
// own only before the first octet.
func (s *Socket) readFrame(in *bufio.Reader) ([]byte, error) {
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

// IsOver ends s, for which nothing was read by reason of err, unless that is
// only the end of its time, and it was of use since the last time.
func (s *Socket) IsOver(err error) bool {
	s.Mu.Lock()
	idle := (s.most == 0 || s.Pending <= 0) && len(s.Waiting) == 0 && s.Used == s.ticked
	s.ticked = s.Used
	s.Mu.Unlock()
	if errors.Is(err, os.ErrDeadlineExceeded) && !idle {
		return false
	}
	s.fail(err)
	return true
}

// Deliver gives a reply to the one whose query it is to: its ID and question
// are. On a socket of one query that one hears of all others too. What clients
// get of it is sent with out.
func (s *Socket) Deliver(b []byte, out *udpio.Batch) {
	w := s.waiterFor(b)
	switch {
	case w == nil:
	case w.flight != nil:
		copy(b[dnswire.HeaderLen:], dnswire.Question(w.Query)) // in our letter case: names point to it
		w.flight.land(b, out)
	default:
		b = bytes.Clone(b)
		copy(b[dnswire.HeaderLen:], dnswire.Question(w.Query))
		w.give(b)
	}
}

func (s *Socket) waiterFor(b []byte) *Waiter {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	s.heard = time.Now()
	if len(b) >= dnswire.HeaderLen {
		if w := s.Waiting[binary.BigEndian.Uint16(b)]; w != nil && dnswire.IsReply(b, w.Query) {
			return w
		}
	}
	if s.most == 1 {
		for _, w := range s.Waiting {
			w.give(nil)
		}
	}
	return nil
}

func (w *Waiter) give(reply []byte) {
	select {
	case w.Replies <- reply:
	default:
	}
}

// fail closes s: all who wait are told, and no query is sent any more.
func (s *Socket) fail(err error) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	s.err = fmt.Errorf("%w: %w", errClosed, err)
	go s.Conn.Close() // a second time, maybe; over TLS it says so, which may take its time
	for _, w := range s.Waiting {
		if w.flight != nil {
			go w.flight.fall(s.err)
		} else {
			close(w.Replies)
		}
	}
	clear(s.Waiting)
}
