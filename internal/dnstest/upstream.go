package dnstest

import (
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnswire"
)

// HeldUpstream answers queries over UDP with an address after release is closed. It reports each query to asked.
func HeldUpstream(t testing.TB) (up netip.AddrPort, asked <-chan struct{}, release chan struct{}) {
	seen := make(chan struct{}, 100)
	release = make(chan struct{})
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	pc, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pc.Close() })
	wg.Go(func() {
		buf := make([]byte, dnswire.MaxQuery)
		for {
			n, from, err := pc.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			q := new(dns.Msg)
			if err := q.Unpack(buf[:n]); err != nil {
				t.Error(err)
				return
			}
			b := answer(t, q)
			seen <- struct{}{}
			wg.Go(func() {
				<-release
				_, _ = pc.WriteToUDPAddrPort(b, from) // the test has ended
			})
		}
	})
	return pc.LocalAddr().(*net.UDPAddr).AddrPort(), seen, release
}

// answer is an upstream's reply to q: an address.
func answer(t testing.TB, q *dns.Msg) []byte {
	m := new(dns.Msg).SetReply(q)
	h := dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 77}
	m.Answer = []dns.RR{&dns.A{Hdr: h, A: net.IPv4(192, 0, 2, 1)}}
	b, err := m.Pack()
	if err != nil {
		t.Error(err)
	}
	return b
}

// ReadReply reads the next message of a TCP connection.
func ReadReply(t testing.TB, c net.Conn) *dns.Msg {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(Patience)); err != nil {
		t.Fatal(err)
	}
	m, err := (&dns.Conn{Conn: c}).ReadMsg()
	if err != nil {
		t.Fatal(err)
	}
	return m
}
