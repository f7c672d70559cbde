package transfer

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/zonetest"
)

// A secondary that is away, then takes no NOTIFY, and then answers, is told of a version again and again until it does.
// The log says once that it was away, and once that it is back.
func TestNotifyIsRetried(t *testing.T) {
	ix := zonetest.Filled(t, 3)
	s, log := newServer(t, ix)
	s.step(100)
	s.notifyWait = 20 * time.Millisecond
	away, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	to := away.LocalAddr().(*net.UDPAddr)
	target := &target{addr: to.AddrPort(), wake: make(chan struct{}, 1)}
	s.second[target.addr.Addr()] = &Secondary{Addr: target.addr.Addr()}
	_ = away.Close()
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.notifyAll(ctx, target)
	}()
	target.tell()
	log.Wait(t, "level=WARN", "secondary takes no NOTIFY", to.String())
	c, err := net.ListenUDP("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(dnstest.Patience)); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		b := make([]byte, 512)
		n, from, err := c.ReadFromUDPAddrPort(b)
		m := new(dns.Msg)
		if err == nil {
			err = m.Unpack(b[:n])
		}
		if err != nil || m.Opcode != dns.OpcodeNotify || m.Question[0].Name != "docker." {
			t.Fatalf("got %v, %v; want NOTIFY", m, err)
		}
		reply, err := new(dns.Msg).SetReply(m).Pack()
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			reply[0]++ // the reply to another one
		}
		if i != 1 {
			if _, err := c.WriteToUDPAddrPort(reply, from); err != nil {
				t.Fatal(err)
			}
		}
	}
	log.Wait(t, "level=INFO", "secondary takes NOTIFY again")
	end()
	<-ended
	if o := s.Status()[0]; o.NotifyError != "" || o.Notified.IsZero() {
		t.Errorf("got %+v", o)
	}
}
