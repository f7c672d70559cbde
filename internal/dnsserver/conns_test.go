package dnsserver

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/zonetest"
)

// A client that has its share of connections loses its own, and where all
// are taken the one that is idle for longest makes room.
func TestTCPConnectionsAreShared(t *testing.T) {
	z := newRig(t, zonetest.New(t, "docker", 0, pub("web", "nginx", 0, "10.0.0.1", "")))
	ends := func(c net.Conn) bool {
		_, err := c.Read(make([]byte, 1))
		return errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe)
	}
	synctest.Test(t, func(t *testing.T) {
		ln := dnstest.NewPipeListener()
		srv := z.TCP(ln)
		served := make(chan error, 1)
		go func() { served <- srv.Serve() }()
		dial := func(from string) net.Conn {
			time.Sleep(time.Millisecond) // simulated: none is as old as another
			c := ln.DialFrom(netip.MustParseAddr(from))
			synctest.Wait()
			return c
		}
		ask := func(c net.Conn) {
			t.Helper()
			time.Sleep(time.Millisecond)
			go func() { _, _ = c.Write(frame(dnstest.Pack(t, 7, "web.nginx.docker.", dns.TypeA))) }()
			if m := dnstest.ReadReply(t, c); len(m.Answer) != 1 {
				t.Errorf("got %v; want the address", dnstest.Show(m))
			}
			_ = c.SetReadDeadline(time.Time{})
		}
		other := dial("192.0.2.1")
		first, second := dial("2001:db8::1"), dial("2001:db8::2") // one client: the same /64
		ask(first)
		for i := range maxClientConns - 2 {
			dial(fmt.Sprintf("2001:db8::%x", 3+i))
		}
		ask(dial("2001:db8::ffff"))
		if !ends(second) {
			t.Error("the client's connection that was idle for longest goes on")
		}
		ask(first)
		ask(other)
		for n := 1 + maxClientConns; n < maxConns; n++ {
			dial(fmt.Sprintf("10.%d.0.1", n%250))
		}
		ask(other)
		ask(first)
		third := dial("203.0.113.1")
		ask(third)
		ask(other)
		ask(first)
		srv.mu.Lock()
		if got := len(srv.conns); got != maxConns {
			t.Errorf("got %d connections; want %d", got, maxConns)
		}
		srv.mu.Unlock()
		if err := srv.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

// A connection is used as long as queries come, also where none of them ends
// with a segment.
func TestTCPUsed(t *testing.T) {
	z := newRig(t, zonetest.New(t, "docker", 0, pub("web", "nginx", 0, "10.0.0.1", "")))
	synctest.Test(t, func(t *testing.T) {
		ln := dnstest.NewPipeListener()
		srv := z.TCP(ln)
		served := make(chan error, 1)
		go func() { served <- srv.Serve() }()
		c := ln.DialFrom(netip.MustParseAddr("192.0.2.1"))
		query := frame(dnstest.Pack(t, 7, "web.nginx.docker.", dns.TypeA))
		go func() { _, _ = io.Copy(io.Discard, c) }() // until it is closed
		half := len(query) / 2
		stream := query[:half]
		for range 5 {
			time.Sleep(time.Second)
			if _, err := c.Write(stream); err != nil {
				t.Fatal(err)
			}
			stream = slices.Concat(query[half:], query[:half])
			synctest.Wait()
			srv.mu.Lock()
			for conn := range srv.conns {
				if idle := time.Now().UnixNano() - conn.used.Load(); idle != 0 {
					t.Errorf("idle for %v; want 0", time.Duration(idle))
				}
			}
			srv.mu.Unlock()
		}
		_ = c.Close()
		if err := srv.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}
