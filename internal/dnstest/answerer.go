package dnstest

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// An Answerer is a fake upstream: it returns the packets that go back for the
// query q, in order.
type Answerer func(q *dns.Msg, from netip.AddrPort) [][]byte

// StartUpstream serves a fake upstream on loopback until the test ends. Without
// an Answerer, UDP or TCP is refused.
func StartUpstream(t testing.TB, udp, tcp Answerer) netip.AddrPort {
	t.Helper()
	pc, ln := listenBoth(t)
	var wg sync.WaitGroup
	t.Cleanup(func() {
		_ = pc.Close()
		_ = ln.Close()
		wg.Wait()
	})
	if udp == nil {
		_ = pc.Close()
	} else {
		_ = pc.SetReadBuffer(4 << 20) // as much as the system allows: some tests send a thousand at once
		wg.Go(func() { udp.ServeUDP(pc) })
	}
	if tcp == nil {
		_ = ln.Close()
	} else {
		wg.Go(func() { tcp.serveTCP(ln) })
	}
	return netip.MustParseAddrPort(ln.Addr().String())
}

// StartConcurrent serves a fake upstream on loopback, over UDP only, until the
// test ends. It calls f for each query in a goroutine; nil is no reply.
func StartConcurrent(t testing.TB, f func(q *dns.Msg) []byte) netip.AddrPort {
	t.Helper()
	pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		_ = pc.Close()
		wg.Wait()
	})
	each := func(q *dns.Msg, from netip.AddrPort) [][]byte {
		wg.Go(func() {
			if b := f(q); b != nil {
				_, _ = pc.WriteToUDPAddrPort(b, from) // the client may be gone
			}
		})
		return nil
	}
	wg.Go(func() { Answerer(each).ServeUDP(pc) })
	return netip.MustParseAddrPort(pc.LocalAddr().String())
}

// listenBoth opens one port of loopback for UDP and TCP.
func listenBoth(t testing.TB) (*net.UDPConn, net.Listener) {
	t.Helper()
	const tries = 10 // a port that is free for TCP may be taken for UDP
	var err error
	for range tries {
		ln, e := net.Listen("tcp", "127.0.0.1:0")
		if e != nil {
			t.Fatal(e)
		}
		at := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(ln.Addr().String()))
		pc, e := net.ListenUDP("udp", at)
		if e == nil {
			return pc, ln
		}
		_ = ln.Close()
		err = e
	}
	t.Fatal(err)
	return nil, nil
}

// ServeUDP answers queries to pc until that is closed.
func (f Answerer) ServeUDP(pc *net.UDPConn) {
	buf := make([]byte, dns.MaxMsgSize)
	for {
		n, from, err := pc.ReadFromUDPAddrPort(buf)
		if err != nil {
			return // closed
		}
		q := new(dns.Msg)
		if q.Unpack(buf[:n]) != nil {
			continue
		}
		for _, p := range f(q, from) {
			_, _ = pc.WriteToUDPAddrPort(p, from) // the client may be gone
		}
	}
}

// serveTCP reads one query from each connection, and closes it when the client does.
func (f Answerer) serveTCP(ln net.Listener) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		c, err := ln.Accept()
		if err != nil {
			return // closed
		}
		wg.Go(func() {
			defer c.Close()
			q, err := (&dns.Conn{Conn: c}).ReadMsg()
			if err != nil {
				return
			}
			for _, p := range f(q, netip.MustParseAddrPort(c.RemoteAddr().String())) {
				_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(p))), p...))
			}
			_, _ = io.Copy(io.Discard, c)
		})
	}
}

// Silent is an upstream that does not answer.
func Silent(*dns.Msg, netip.AddrPort) [][]byte { return nil }

// Answer is an upstream that answers 192.0.2.1 with a TTL of 77, changed by
// change if that is not nil.
func Answer(t testing.TB, change func(*dns.Msg)) Answerer {
	return func(q *dns.Msg, _ netip.AddrPort) [][]byte { return [][]byte{AnswerTo(t, q, change)} }
}

// AnswerTo returns the reply of Answer to q.
func AnswerTo(t testing.TB, q *dns.Msg, change func(*dns.Msg)) []byte {
	m := new(dns.Msg).SetReply(q)
	m.RecursionAvailable = true
	h := dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 77}
	m.Answer = []dns.RR{&dns.A{Hdr: h, A: net.IPv4(192, 0, 2, 1)}}
	if change != nil {
		change(m)
	}
	b, err := m.Pack()
	if err != nil {
		t.Errorf("the fake upstream can't pack %v: %v", m, err)
	}
	return b
}

// Rcode makes a reply one of an rcode and without an answer.
func Rcode(rcode int) func(*dns.Msg) {
	return func(m *dns.Msg) { m.Rcode, m.Answer = rcode, nil }
}

// Address gives the answer of a reply another address.
func Address(a string) func(*dns.Msg) {
	return func(m *dns.Msg) { m.Answer[0].(*dns.A).A = net.ParseIP(a) }
}

// Records reads records, a line for each.
func Records(t testing.TB, text string) (list []dns.RR) {
	t.Helper()
	for line := range strings.Lines(text) {
		if rr, err := dns.NewRR(line); err != nil {
			t.Fatal(err)
		} else if rr != nil {
			list = append(list, rr)
		}
	}
	return list
}
