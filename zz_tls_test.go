package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// tlsServer serves each connection by f until the test ends.
func zzTLSServer(t *testing.T, cert tls.Certificate, f func(nth int32, c net.Conn)) netip.AddrPort {
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for n := int32(1); ; n++ {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = c.Close() })
			go f(n, c)
		}
	}()
	return netip.MustParseAddrPort(ln.Addr().String())
}

func zzRead(in *bufio.Reader) (*dns.Msg, error) {
	var size [2]byte
	if _, err := io.ReadFull(in, size[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(in, b); err != nil {
		return nil, err
	}
	q := new(dns.Msg)
	return q, q.Unpack(b)
}

func zzWrite(t *testing.T, c net.Conn, q *dns.Msg) {
	p := answerTo(t, q, nil)
	_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(p))), p...))
}

// A connection that went dead without a word (a NAT or a firewall forgot it) is
// replaced: the upstream answers on any new one.
func TestZZTLSDeadConnectionIsReplaced(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t, dir, "ca.pem")
	cert := ca.issue(dir, "cert.pem", "key.pem", "dns.example", time.Now().Add(time.Hour))
	var conns atomic.Int32
	addr := zzTLSServer(t, cert, func(nth int32, c net.Conn) {
		conns.Add(1)
		in := bufio.NewReader(c)
		for i := 0; ; i++ {
			q, err := zzRead(in)
			if err != nil {
				return
			}
			if nth > 1 || i == 0 {
				zzWrite(t, c, q)
			}
		}
	})
	z := newTLSZone(t, ca, server{addr: addr, name: "dns.example"})
	z.fwd.timeout = 200 * time.Millisecond
	var got []string
	for i := range 10 {
		m := reply(z, new(dns.Msg).SetQuestion(fmt.Sprintf("%d.example.com.", i), dns.TypeA), netip.Addr{}, 512)
		got = append(got, dns.RcodeToString[m.Rcode])
	}
	if got[9] != "NOERROR" {
		t.Errorf("got %v with %d connections; want NOERROR again after one failure", got, conns.Load())
	}
}

type zzStuck struct {
	net.Conn
	writes atomic.Int32
}

func (c *zzStuck) Write([]byte) (int, error) {
	c.writes.Add(1)
	return 0, errors.New("write timed out")
}

// Where a write fails (as all do after one that timed out) the connection is
// given up, and not tried again and again.
func TestZZTLSFailedWriteIsNotRepeated(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	c := &zzStuck{Conn: a}
	u := newUpstream(server{addr: closedUpstream(t), tls: true}, nil)
	l := &link{made: make(chan struct{}), socket: newSocket(c, 0)}
	close(l.made)
	u.link = l
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	begun := time.Now()
	_, err := u.ask(ctx, query{newQuestion(mustName(t, "a.example"), dns.TypeA, questionRD), time.Now().Add(time.Second), false, func(uint16) {}})
	t.Logf("%d writes in %v: %v", c.writes.Load(), time.Since(begun), err)
	if c.writes.Load() > 2 {
		t.Errorf("got %d writes to a connection that takes none; want one", c.writes.Load())
	}
}

// A server may close a connection at any time (RFC 7766 section 6.2.4): queries
// without an answer go out on another.
func TestZZTLSClosedWithQueriesOut(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t, dir, "ca.pem")
	cert := ca.issue(dir, "cert.pem", "key.pem", "dns.example", time.Now().Add(time.Hour))
	addr := zzTLSServer(t, cert, func(nth int32, c net.Conn) {
		in := bufio.NewReader(c)
		for range 4 {
			q, err := zzRead(in)
			if err != nil {
				return
			}
			zzWrite(t, c, q)
		}
		_ = c.(*tls.Conn).CloseWrite()
		_, _ = io.Copy(io.Discard, in)
		_ = c.Close()
	})
	z := newTLSZone(t, ca, server{addr: addr, name: "dns.example"})
	z.fwd.timeout = upstreamTimeout
	var wg sync.WaitGroup
	var bad atomic.Int32
	for i := range 12 {
		wg.Go(func() {
			m := reply(z, new(dns.Msg).SetQuestion(fmt.Sprintf("%d.example.com.", i), dns.TypeA), netip.Addr{}, 512)
			if m.Rcode != 0 {
				bad.Add(1)
			}
		})
	}
	wg.Wait()
	if bad.Load() > 0 {
		t.Errorf("%d of 12 queries were told SERVFAIL, of an upstream that answers 4 on each connection", bad.Load())
	}
}

// A connection that nobody uses ends, also where those who asked for it did
// not wait until it was there.
func TestZZTLSIdleEndsAfterSlowHandshake(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t, dir, "ca.pem")
	cert := ca.issue(dir, "cert.pem", "key.pem", "dns.example", time.Now().Add(time.Hour))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				time.Sleep(500 * time.Millisecond)
				s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}})
				_, _ = io.Copy(io.Discard, s)
			}()
		}
	}()
	z := newTLSZone(t, ca, server{addr: netip.MustParseAddrPort(ln.Addr().String()), name: "dns.example"})
	z.fwd.timeout = 100 * time.Millisecond
	reply(z, new(dns.Msg).SetQuestion("a.example.com.", dns.TypeA), netip.Addr{}, 512)
	u := (*z.fwd.routes.Load())[root][0]
	<-u.link.made
	s := u.link.socket
	if s == nil {
		t.Fatal(u.link.err)
	}
	// as if it was idle for tlsIdle, twice
	over := s.isOver(zzDeadline{}) || s.isOver(zzDeadline{})
	if !over {
		t.Errorf("the connection is never idle: %d queries are pending, though nobody waits", s.pending)
	}
}

type zzDeadline struct{}

func (zzDeadline) Error() string     { return "deadline" }
func (zzDeadline) Is(err error) bool { return err.Error() == "i/o timeout" }
