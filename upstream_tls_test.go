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
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/forward"
)

// tlsServer serves each connection by f until the test ends.
func serveTLS(t *testing.T, cert tls.Certificate, f func(nth int32, c net.Conn)) netip.AddrPort {
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

func read(in *bufio.Reader) (*dns.Msg, error) {
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

func write(t *testing.T, c net.Conn, q *dns.Msg) {
	p := answerTo(t, q, nil)
	_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(p))), p...))
}

// A connection that went dead without a word (a NAT or a firewall forgot it) is
// replaced: the upstream answers on any new one.
func TestTLSDeadConnectionIsReplaced(t *testing.T) {
	dir := t.TempDir()
	ca := dnstest.NewAuthority(t, dir, "ca.pem")
	cert := ca.Issue(dir, "cert.pem", "key.pem", "dns.example", time.Now().Add(time.Hour))
	var conns atomic.Int32
	addr := serveTLS(t, cert, func(nth int32, c net.Conn) {
		conns.Add(1)
		in := bufio.NewReader(c)
		for i := 0; ; i++ {
			q, err := read(in)
			if err != nil {
				return
			}
			if nth > 1 || i == 0 {
				write(t, c, q)
			}
		}
	})
	z := newTLSZone(t, ca, forward.Server{Addr: addr, Name: "dns.example"})
	z.Fwd.Timeout = 200 * time.Millisecond
	var got []string
	for i := range 10 {
		m := reply(z, new(dns.Msg).SetQuestion(fmt.Sprintf("%d.example.com.", i), dns.TypeA), netip.Addr{}, 512)
		got = append(got, dns.RcodeToString[m.Rcode])
	}
	if got[9] != "NOERROR" {
		t.Errorf("got %v with %d connections; want NOERROR again after one failure", got, conns.Load())
	}
}

type stuck struct {
	net.Conn
	writes atomic.Int32
}

func (c *stuck) Write([]byte) (int, error) {
	c.writes.Add(1)
	return 0, errors.New("write timed out")
}

// Where a write fails (as all do after one that timed out) the connection is
// given up, and not tried again and again.
func TestTLSFailedWriteIsNotRepeated(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	c := &stuck{Conn: a}
	u := forward.NewUpstream(forward.Server{Addr: closedUpstream(t), Tls: true}, nil)
	l := &forward.Link{Made: make(chan struct{}), Socket: forward.NewSocket(c, 0)}
	close(l.Made)
	u.Link = l
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	begun := time.Now()
	_, err := u.Ask(ctx, forward.Query{Question: dnscache.NewQuestion(mustName(t, "a.example"), dns.TypeA, dnscache.RD), Until: time.Now().Add(time.Second), Out: func(uint16) {}})
	t.Logf("%d writes in %v: %v", c.writes.Load(), time.Since(begun), err)
	if c.writes.Load() > 2 {
		t.Errorf("got %d writes to a connection that takes none; want one", c.writes.Load())
	}
}

// A server may close a connection at any time (RFC 7766 section 6.2.4): queries
// without an answer go out on another.
func TestTLSClosedWithQueriesOut(t *testing.T) {
	dir := t.TempDir()
	ca := dnstest.NewAuthority(t, dir, "ca.pem")
	cert := ca.Issue(dir, "cert.pem", "key.pem", "dns.example", time.Now().Add(time.Hour))
	addr := serveTLS(t, cert, func(nth int32, c net.Conn) {
		in := bufio.NewReader(c)
		for range 4 {
			q, err := read(in)
			if err != nil {
				return
			}
			write(t, c, q)
		}
		_ = c.(*tls.Conn).CloseWrite()
		_, _ = io.Copy(io.Discard, in)
		_ = c.Close()
	})
	z := newTLSZone(t, ca, forward.Server{Addr: addr, Name: "dns.example"})
	z.Fwd.Timeout = forward.UpstreamTimeout
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
func TestTLSIdleEndsAfterSlowHandshake(t *testing.T) {
	dir := t.TempDir()
	ca := dnstest.NewAuthority(t, dir, "ca.pem")
	cert := ca.Issue(dir, "cert.pem", "key.pem", "dns.example", time.Now().Add(time.Hour))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	asked := make(chan struct{})
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				<-asked
				s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}})
				_, _ = io.Copy(io.Discard, s)
			}()
		}
	}()
	z := newTLSZone(t, ca, forward.Server{Addr: netip.MustParseAddrPort(ln.Addr().String()), Name: "dns.example"})
	z.Fwd.Timeout = 100 * time.Millisecond
	reply(z, new(dns.Msg).SetQuestion("a.example.com.", dns.TypeA), netip.Addr{}, 512)
	close(asked)
	u := (*z.Fwd.Routes.Load())[dnsname.Root][0]
	<-u.Link.Made
	s := u.Link.Socket
	if s == nil {
		t.Fatal(u.Link.Err)
	}
	// as if it was idle for tlsIdle, twice
	s.IsOver(os.ErrDeadlineExceeded)
	if !s.IsOver(os.ErrDeadlineExceeded) {
		t.Errorf("the connection is never idle: %d queries are pending, though nobody waits", s.Pending)
	}
}
