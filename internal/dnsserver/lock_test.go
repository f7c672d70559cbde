package dnsserver

import (
	"context"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/zonetest"
)

// A lockHandler writes a log. It fails the test if a line is logged while a lock of
// the TCP server, of one of its connections or of kept answers is held.
type lockHandler struct {
	slog.Handler
	t   testing.TB
	log *dnstest.Log
	tcp *TCP
}

func (h *lockHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h *lockHandler) Handle(ctx context.Context, r slog.Record) error {
	_ = dnstest.Unlocked(h.t, h.log, &h.tcp.mu, &h.tcp.server.answers.mu).Handle(ctx, r) // no error: it is in memory
	h.tcp.mu.Lock()
	var conns []*sync.Mutex
	for c := range h.tcp.conns {
		conns = append(conns, &c.mu)
	}
	h.tcp.mu.Unlock()
	return dnstest.Unlocked(h.t, io.Discard, conns...).Handle(ctx, r)
}

// A log that nobody reads stops only who writes to it.
func TestNoLockWhileLogging(t *testing.T) {
	r := newRig(t, zonetest.New(t, "docker", 0, pub("web", "nginx", 0, "10.0.0.1", "")))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	h := &lockHandler{Handler: slog.DiscardHandler, t: t, log: dnstest.NewLog(), tcp: r.TCP(ln)}
	r.log = slog.New(h)
	udp := r.UDP(conn)
	servers := []interface {
		Serve() error
		Shutdown(context.Context) error
	}{h.tcp, udp}
	for _, s := range servers {
		go func() { _ = s.Serve() }() // Shutdown tells
	}
	for network, addr := range map[string]net.Addr{"tcp": ln.Addr(), "udp": conn.LocalAddr()} {
		h.log.Mark()
		for _, opcode := range []int{dns.OpcodeQuery, dns.OpcodeStatus} { // that is no query
			q := new(dns.Msg).SetQuestion("web.nginx.docker.", dns.TypeA)
			q.Opcode = opcode
			dnstest.Exchange(t, network, addr.String(), q)
		}
		h.log.Wait(t, "msg=query", "web.nginx.docker.")
		h.log.Wait(t, "query can't be read")
	}
	for _, s := range servers {
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
