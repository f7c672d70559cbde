package forward

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnstest"
)

// startTLSUpstream is an upstream by DNS over TLS. It closes a connection
// after that many queries, and counts connections.
func startTLSUpstream(t *testing.T, cert tls.Certificate, queries int, f dnstest.Answerer) (addr netip.AddrPort,
	conns *atomic.Int32) {
	t.Helper()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	conns = new(atomic.Int32)
	var wg sync.WaitGroup
	t.Cleanup(func() {
		_ = ln.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return // closed
			}
			conns.Add(1)
			stop := make(chan struct{})
			t.Cleanup(func() { _ = c.Close(); <-stop })
			go func() {
				defer close(stop)
				defer c.Close()
				in := bufio.NewReader(c)
				for range queries {
					var size [2]byte
					if _, err := io.ReadFull(in, size[:]); err != nil {
						return
					}
					b := make([]byte, binary.BigEndian.Uint16(size[:]))
					if _, err := io.ReadFull(in, b); err != nil {
						return
					}
					q := new(dns.Msg)
					if err := q.Unpack(b); err != nil || len(b)%128 != 0 {
						t.Errorf("got a query of %d bytes, %v; want it padded", len(b), err)
						return
					}
					for _, p := range f(q, netip.AddrPort{}) {
						_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(p))), p...))
					}
				}
			}()
		}
	})
	return netip.MustParseAddrPort(ln.Addr().String()), conns
}

// newTLSForwarder returns a forwarder to an upstream over TLS, whose certificate must be signed by a.
func newTLSForwarder(t *testing.T, a *dnstest.Authority, s Server) *Forwarder {
	t.Helper()
	s.TLS = true
	f := New(Routes{dnsname.Root: {s}}, nil, 0, slog.New(slog.DiscardHandler))
	f.Timeout = patience
	f.roots = x509.NewCertPool()
	f.roots.AddCert(a.Cert)
	return loaded(t, f)
}

// Queries share a connection over TLS, and where that was closed get another.
func TestTLSUpstream(t *testing.T) {
	dir := t.TempDir()
	ca := dnstest.NewAuthority(t, dir, "ca.pem")
	cert := ca.Issue(dir, "cert.pem", "key.pem", "dns.example", time.Now().Add(time.Hour))
	addr, conns := startTLSUpstream(t, cert, 10, dnstest.Answer(t, nil))
	f := newTLSForwarder(t, ca, Server{Addr: addr, CertName: "dns.example"})
	ask := func(i int) {
		t.Helper()
		m := reply(t, f, queryFor(fmt.Sprintf("%d.example.com.", i)))
		if got, want := show(m), fmt.Sprintf("NOERROR ra; %d.example.com. 77 A 192.0.2.1", i); got != want {
			t.Errorf("got %v; want %v", got, want)
		}
	}
	for i := range 10 {
		ask(i)
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("got %d connections for 10 queries; want one", n)
	}
	for i := range 90 {
		ask(i)
	}
	if n := conns.Load(); n != 10 {
		t.Errorf("got %d connections for 100 queries, of an upstream that closes after 10; want 10", n)
	}
}

// An upstream over TLS that is not who it should be is not asked.
func TestTLSUpstreamIsVerified(t *testing.T) {
	dir := t.TempDir()
	ca, other := dnstest.NewAuthority(t, dir, "ca.pem"), dnstest.NewAuthority(t, dir, "other.pem")
	hour := time.Now().Add(time.Hour)
	for _, tt := range []struct {
		what string
		cert tls.Certificate
		name string
		good bool
	}{
		{"good", ca.Issue(dir, "1", "1k", "dns.example", hour), "dns.example", true},
		{"by address", ca.Issue(dir, "2", "2k", "127.0.0.1", hour), "", true},
		{"wrong name", ca.Issue(dir, "3", "3k", "dns.example", hour), "dns.example.net", false},
		{"name for an address", ca.Issue(dir, "4", "4k", "dns.example", hour), "", false},
		{"expired", ca.Issue(dir, "5", "5k", "dns.example", time.Now().Add(-time.Minute)), "dns.example", false},
		{"another authority", other.Issue(dir, "6", "6k", "dns.example", hour), "dns.example", false},
	} {
		addr, _ := startTLSUpstream(t, tt.cert, 10, dnstest.Answer(t, nil))
		f := newTLSForwarder(t, ca, Server{Addr: addr, CertName: tt.name})
		want := "SERVFAIL ra"
		if tt.good {
			want = "NOERROR ra; www.example.com. 77 A 192.0.2.1"
		}
		if got := show(reply(t, f, queryFor("www.example.com."))); got != want {
			t.Errorf("%s: got %v; want %v", tt.what, got, want)
		}
	}
}

// DNS over TLS with unbound, which has a certificate of ours.
func TestTLSWithUnbound(t *testing.T) {
	dnstest.Needs(t, "unbound")
	dir := t.TempDir()
	ca := dnstest.NewAuthority(t, dir, "ca.pem")
	for _, tt := range []struct {
		what, name string
		until      time.Duration
		good       bool
	}{{"good", "dns.example", time.Hour, true}, {"wrong name", "dns.example.net", time.Hour, false}, {"expired",
		"dns.example", -time.Minute, false}} {
		ca.Issue(dir, "cert.pem", "key.pem", "dns.example", time.Now().Add(tt.until))
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := netip.MustParseAddrPort(ln.Addr().String())
		_ = ln.Close() // unbound takes it
		conf := filepath.Join(dir, "unbound.conf")
		if err := os.WriteFile(conf, fmt.Appendf(nil, `server:
  interface: 127.0.0.1@%d
  tls-port: %[1]d
  tls-service-key: "%s/key.pem"
  tls-service-pem: "%[2]s/cert.pem"
  chroot: ""
  username: ""
  pidfile: ""
  directory: "%[2]s"
  use-syslog: no
  local-zone: "example.com." static
  local-data: "www.example.com. 60 A 192.0.2.1"
remote-control:
  control-enable: no
`, addr.Port(), dir), 0o600); err != nil {
			t.Fatal(err)
		}
		unbound := exec.CommandContext(t.Context(), "unbound", "-d", "-c", conf)
		if err := unbound.Start(); err != nil {
			t.Fatal(err)
		}
		waitFor(t, func() bool {
			c, err := net.Dial("tcp", addr.String())
			if err == nil {
				_ = c.Close()
			}
			return err == nil
		})
		f := newTLSForwarder(t, ca, Server{Addr: addr, CertName: tt.name})
		want := "SERVFAIL ra"
		if tt.good {
			want = "NOERROR ra; www.example.com. 60 A 192.0.2.1"
		}
		for range 3 {
			if got := show(reply(t, f, queryFor("www.example.com."))); got != want {
				t.Errorf("%s: got %v; want %v", tt.what, got, want)
			}
		}
		_ = unbound.Process.Kill()
		_ = unbound.Wait() // it was killed
	}
}

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
	p := dnstest.AnswerTo(t, q, nil)
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
	f := newTLSForwarder(t, ca, Server{Addr: addr, CertName: "dns.example"})
	f.Timeout = 200 * time.Millisecond
	var got []string
	for i := range 10 {
		m := reply(t, f, queryFor(fmt.Sprintf("%d.example.com.", i)))
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
	u := newUpstream(Server{Addr: closedUpstream(t), TLS: true}, nil, maxFresh)
	u.link = &link{made: make(chan struct{}), socket: newSocket(c, 0)}
	close(u.link.made)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	begun := time.Now()
	_, err := u.ask(ctx, query{Question: questionOf(t, queryFor("a.example."))}, nil)
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
	f := newTLSForwarder(t, ca, Server{Addr: addr, CertName: "dns.example"})
	f.Timeout = UpstreamTimeout
	var wg sync.WaitGroup
	var bad atomic.Int32
	for i := range 12 {
		wg.Go(func() {
			m := reply(t, f, queryFor(fmt.Sprintf("%d.example.com.", i)))
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
	f := newTLSForwarder(t, ca, Server{Addr: netip.MustParseAddrPort(ln.Addr().String()), CertName: "dns.example"})
	f.Timeout = 100 * time.Millisecond
	reply(t, f, queryFor("a.example.com."))
	close(asked)
	u := f.upstream(0)
	u.mu.Lock()
	l := u.link
	u.mu.Unlock()
	<-l.made
	s := l.socket
	if s == nil {
		t.Fatal(l.err)
	}
	waitFor(t, func() bool { // until a probe has ended too
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.waiting) == 0
	})
	// as if it was idle for streamIdle, twice
	s.isOver(os.ErrDeadlineExceeded)
	if !s.isOver(os.ErrDeadlineExceeded) {
		t.Errorf("the connection is never idle: %d queries are pending, though nobody waits", s.pending)
	}
}

// A connection with very many queries takes no more, instead of a search for an ID that is free.
func TestFullConnection(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	s := newSocket(a, 0)
	defer a.Close()
	for i := range maxPending {
		if _, err := s.begin(make([]byte, 12)); err != nil {
			t.Fatalf("query %d: %v", i, err)
		}
	}
	w, err := s.begin(make([]byte, 12))
	if !errors.Is(err, errFull) {
		t.Errorf("got %v; want %v", err, errFull)
	}
	if s.end(w); len(s.waiting) != maxPending {
		t.Errorf("%d queries wait; want %d", len(s.waiting), maxPending)
	}
}
