package dnsserver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/zone"
	"github.com/rayje/dnsdock/internal/zonetest"
)

// Several messages on one connection, also in one segment, and cut anywhere.
func TestTCPConnection(t *testing.T) {
	z := newRig(t, zonetest.New(t, "docker", 0, pub("web", "nginx", 0, "10.0.0.1", "")))
	c, err := net.Dial("tcp", "127.0.0.1:"+serveZone(t, z, "127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(dnstest.Patience)); err != nil {
		t.Fatal(err)
	}
	var stream []byte
	const n = 300 // more than the library's own bound for a connection
	for id := range n {
		req := new(dns.Msg).SetQuestion("web.nginx.docker.", dns.TypeA)
		req.Id = uint16(id)
		b, err := req.Pack()
		if err != nil {
			t.Fatal(err)
		}
		stream = append(binary.BigEndian.AppendUint16(stream, uint16(len(b))), b...)
	}
	for len(stream) > 0 {
		k := min(len(stream), 777)
		if _, err := c.Write(stream[:k]); err != nil {
			t.Fatal(err)
		}
		stream = stream[k:]
	}
	for id := range n {
		r, err := (&dns.Conn{Conn: c}).ReadMsg()
		if err != nil {
			t.Fatalf("reply %d: %v", id, err)
		}
		if int(r.Id) != id || len(r.Answer) != 1 {
			t.Fatalf("got reply %d: %v; want reply %d with an address", r.Id, dnstest.Show(r), id)
		}
	}
}

// Clients that hold a connection and do not talk, talk half, or never read
// cost the others nothing.
func TestTCPSlowClients(t *testing.T) {
	was := dnstest.LoadNow()
	t.Run("clients", func(t *testing.T) {
		var addrs []string
		for i := range 3000 {
			addrs = append(addrs, fmt.Sprintf("10.1.%d.%d", i/250, i%250))
		}
		z := newRig(t, zonetest.New(t, "docker", 0,
			pub("web", "nginx", 0, "10.0.0.1", ""),
			pub("many", "redis", 0, strings.Join(addrs, " "), "")))
		addr := "127.0.0.1:" + serveZone(t, z, "127.0.0.1:0")
		dial := func() net.Conn {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			return c
		}
		for range 200 {
			dial()
		}
		if _, err := dial().Write([]byte{0xff, 0xff}); err != nil { // a length and no body
			t.Fatal(err)
		}
		if _, err := dial().Write([]byte{0xff}); err != nil {
			t.Fatal(err)
		}
		// One that asks for 50 kB each time and never reads, until nothing more can be sent.
		many, err := new(dns.Msg).SetQuestion("many.redis.docker.", dns.TypeA).Pack()
		if err != nil {
			t.Fatal(err)
		}
		many = append(binary.BigEndian.AppendUint16(nil, uint16(len(many))), many...)
		deaf := dial()
		full := make(chan error, 1)
		go func() {
			for {
				if _, err := deaf.Write(many); err != nil {
					full <- err
					return
				}
			}
		}()
		for range 50 {
			for _, network := range []string{"udp", "tcp"} {
				if r := dnstest.Exchange(t, network, addr,
					new(dns.Msg).SetQuestion("web.nginx.docker.", dns.TypeA)); len(r.Answer) != 1 {
					t.Fatalf("over %s: got %v; want the address", network, dnstest.Show(r))
				}
			}
		}
		_ = deaf.Close() // ends the writer
		<-full
	})
	was.ReturnsTo(t)
}

// Every connection ends by itself, whatever its client does or not.
func TestTCPTimeouts(t *testing.T) {
	query, err := new(dns.Msg).SetQuestion("web.nginx.docker.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	query = append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)
	for _, tt := range []struct {
		what  string
		send  []byte
		reads bool // the client takes what comes
	}{
		{"says nothing", nil, true},
		{"sends half a length", []byte{0}, true},
		{"sends a length and no body", []byte{0xff, 0xff}, true},
		{"asks once and stays", query, true},
		{"asks and reads nothing", query, false},
	} {
		t.Run(tt.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := dnstest.NewPipeListener()
				srv := newRig(t, zonetest.New(t, "docker", 0, pub("web", "nginx", 0, "10.0.0.1", ""))).TCP(ln)
				served := make(chan error, 1)
				go func() { served <- srv.Serve() }()
				c := ln.Dial()
				begun := time.Now()
				if _, err := c.Write(tt.send); err != nil {
					t.Fatal(err)
				}
				if !tt.reads {
					time.Sleep(time.Minute) // simulated
				}
				if _, err := io.Copy(io.Discard, c); err != nil && !errors.Is(err, io.ErrClosedPipe) {
					t.Fatal(err)
				}
				if took := time.Since(begun); took > time.Minute {
					t.Errorf("the connection ended after %v; want less than a minute", took)
				}
				if err := srv.Shutdown(t.Context()); err != nil {
					t.Errorf("shutdown: %v", err)
				}
				if err := <-served; err != nil {
					t.Errorf("serve: %v", err)
				}
			})
		})
	}
}

// A query that waits for an upstream delays no other of its connection, and
// its answer comes also where the client has closed its end, and where the
// server ends.
func TestTCPOutOfOrder(t *testing.T) {
	up, asked, release := dnstest.HeldUpstream(t)
	z := forwarding(t, dnstest.Patience, up)
	z.ix.Publish(t, `{"name":"web","image":"nginx","ip":"10.0.0.1"}`)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := z.TCP(ln)
	served, ended := make(chan error, 1), make(chan error, 1)
	go func() { served <- srv.Serve() }()
	busy, half := dialTCP(t, ln.Addr()), dialTCP(t, ln.Addr())
	var stream []byte
	for i := range uint16(10) {
		qname := fmt.Sprintf("%d.example.com.", i) // else they would share one query
		stream = append(stream, frame(dnstest.Pack(t, i, qname, dns.TypeA))...)
		stream = append(stream, frame(dnstest.Pack(t, 100+i, "web.nginx.docker.", dns.TypeA))...)
	}
	if _, err := busy.Write(stream); err != nil {
		t.Fatal(err)
	}
	for i := range uint16(10) { // ours come first, in order
		if m := dnstest.ReadReply(t, busy); m.Id != 100+i || len(m.Answer) != 1 {
			t.Fatalf("got %d, %v; want the answer to %d", m.Id, dnstest.Show(m), 100+i)
		}
	}
	if _, err := half.Write(frame(dnstest.Pack(t, 7, "www.example.com.", dns.TypeA))); err != nil {
		t.Fatal(err)
	}
	if err := half.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	for range 11 {
		<-asked
	}
	go func() { ended <- srv.Shutdown(t.Context()) }()
	if err := <-served; err != nil {
		t.Errorf("serve: %v", err)
	}
	close(release)
	got := make(map[uint16]bool)
	for range 10 {
		m := dnstest.ReadReply(t, busy)
		if got[m.Id] = true; len(m.Answer) != 1 || m.Id > 9 {
			t.Errorf("got %d, %v; want an address", m.Id, dnstest.Show(m))
		}
	}
	if len(got) != 10 {
		t.Errorf("got the answers to %v; want those to 10 queries", got)
	}
	if m := dnstest.ReadReply(t, half); m.Id != 7 || len(m.Answer) != 1 {
		t.Errorf("half-closed: got %d, %v; want an address", m.Id, dnstest.Show(m))
	}
	if err := <-ended; err != nil {
		t.Errorf("shutdown: %v", err)
	}
	if _, err := busy.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after shutdown: got %v; want EOF", err)
	}
}

// dialTCP returns a connection to addr that is closed with the test.
func dialTCP(t *testing.T, addr net.Addr) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn)
}

// Shutdown does not wait for ever.
func TestTCPShutdownIsBounded(t *testing.T) {
	up, asked, release := dnstest.HeldUpstream(t)
	defer close(release)
	z := forwarding(t, 30*time.Millisecond, up)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := z.TCP(ln)
	served := make(chan error, 1)
	go func() { served <- srv.Serve() }()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(frame(dnstest.Pack(t, 7, "www.example.com.", dns.TypeA))); err != nil {
		t.Fatal(err)
	}
	<-asked
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := srv.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// A walkingAuthority decides about wildcards only when it is released, as one
// that waits for its turn to look at many services.
type walkingAuthority struct {
	Authority
	release chan struct{}
}

func (w walkingAuthority) Decide(q zone.Query, c zone.Client) *zone.Answer {
	if q.Name.HasWildcard() {
		c.BeforeWait()
		<-w.release
	}
	return w.Authority.Decide(q, c)
}

// What is answered goes out before the server waits for its turn to look at
// many services.
func TestTCPRepliesDoNotWaitForATurn(t *testing.T) {
	z := newRig(t, zonetest.New(t, "docker", 0, pub("web", "nginx", 0, "10.0.0.1", "")))
	walking := walkingAuthority{z.authority, make(chan struct{})}
	z.authority = walking
	c, err := net.Dial("tcp", "127.0.0.1:"+serveZone(t, z, "127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	stream := append(frame(dnstest.Pack(t, 1, "web.nginx.docker.", dns.TypeA)),
		frame(dnstest.Pack(t, 2, "web.nginx.docker.", dns.TypeMX))...)
	if _, err := c.Write(append(stream, frame(dnstest.Pack(t, 3, "web.*.docker.", dns.TypeA))...)); err != nil {
		t.Fatal(err)
	}
	for id := range uint16(3) {
		if id == 2 {
			close(walking.release)
		}
		if m := dnstest.ReadReply(t, c); m.Id != id+1 || len(m.Answer) != 1 {
			t.Errorf("got %d, %s; want an answer to %d", m.Id, dnstest.Show(m), id+1)
		}
	}
}

func frame(b []byte) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...) }
