package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnsserver"
	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/index"
	"github.com/rayje/dnsdock/internal/listener"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/zone"
)

// A pub is a service that a test publishes.
type pub struct {
	name, image string
	ttl         int    // seconds; defaultTTL for that of the registry
	addrs       string // with spaces between
	aliases     string
}

// filledRegistry returns a registry under apex that has seen its engine's
// first list, which held pubs.
func filledRegistry(t testing.TB, apex string, ttl uint32, pubs ...pub) *registry {
	t.Helper()
	reg := newRegistry(publish.NameRules{Apex: mustName(t, apex)}, ttl, slog.New(slog.DiscardHandler))
	for i, p := range pubs {
		s := &publish.Service{ID: fmt.Sprintf("%04x", i), ContainerLabel: p.name, ImageLabel: p.image, TTL: p.ttl}
		for _, a := range strings.Fields(p.addrs) {
			s.Addrs = append(s.Addrs, netip.MustParseAddr(a))
		}
		for _, a := range strings.Fields(p.aliases) {
			s.Aliases = append(s.Aliases, mustName(t, a))
		}
		if err := reg.index.Rules.SetOwnerNames(s); err != nil {
			t.Fatal(err)
		}
		reg.Put(s.ID, s)
	}
	reg.index.Ready.Store(true)
	reg.index.Serial.Store(7)
	return reg
}

// A bugHandler is for a log in which there must be no error: that would be a
// bug that is answered with SERVFAIL, which a test might not see.
type bugHandler struct{ slog.Handler }

func (bugHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelError }

func (bugHandler) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool { panic(a) })
	return nil
}

var testRegistries sync.Map // by index

// ix returns the index of reg, from which regOf finds reg again.
func ix(reg *registry) *index.Index {
	testRegistries.Store(reg.index, reg)
	return reg.index
}

func regOf(z *zone.Resolver) *registry {
	reg, _ := testRegistries.Load(z.Reg)
	return reg.(*registry)
}

// newTestZone returns a zone of reg without upstreams.
func newTestZone(t testing.TB, reg *registry) *zone.Resolver {
	log := slog.New(bugHandler{slog.DiscardHandler})
	return zone.New(t.Context(), ix(reg), forward.New(nil, nil, 0, log), log)
}

// reply is the whole answer of z to a client on this host, upstreams asked.
func reply(z *zone.Resolver, req *dns.Msg, local netip.Addr, size int) *dns.Msg {
	return replyOf(z, req, zone.Client{Addr: netip.MustParseAddr("127.0.0.1"), Local: local, Size: size})
}

// replyTo is reply to another client.
func replyTo(z *zone.Resolver, req *dns.Msg, from netip.Addr) *dns.Msg {
	return replyOf(z, req, zone.Client{Addr: from, Size: 512})
}

func replyOf(z *zone.Resolver, req *dns.Msg, c zone.Client) *dns.Msg {
	b, err := req.Pack()
	if err != nil {
		panic(err)
	}
	m := new(dns.Msg)
	if err := m.Unpack(serverOf(z).Reply(b, c)); err != nil {
		panic(err)
	}
	return m
}

// serverOf returns a server of z without sockets.
func serverOf(z *zone.Resolver) *dnsserver.Server {
	return dnsserver.New(context.Background(), z, z.Reg, z.Fwd, z.Traffic, slog.New(slog.DiscardHandler))
}

func idle(z *zone.Resolver) func() bool {
	return func() bool { return z.Fwd.Status().InFlight == 0 }
}

func header(owner string, rrtype uint16, ttl uint32) dns.RR_Header {
	return dns.RR_Header{Name: owner, Rrtype: rrtype, Class: dns.ClassINET, Ttl: ttl}
}

// packed is reply in wire format.
func packed(z *zone.Resolver, req *dns.Msg, local netip.Addr, size int) (*dns.Msg, []byte, error) {
	b, err := req.Pack()
	if err != nil {
		return nil, nil, err
	}
	b = serverOf(z).Reply(b, zone.Client{Addr: netip.MustParseAddr("127.0.0.1"), Local: local, Size: size})
	m := new(dns.Msg)
	return m, b, m.Unpack(b)
}

// serveZone serves z over UDP and TCP on addr, which ends in port 0, until
// the test ends; it returns the port.
func serveZone(t testing.TB, z *zone.Resolver, addr string) (port string) {
	t.Helper()
	socks, err := listener.Open([]string{addr}, "")
	if err != nil {
		t.Skipf("no address %s here: %v", addr, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	g := newGroup(ctx)
	server := dnsserver.New(t.Context(), z, z.Reg, z.Fwd, z.Traffic, slog.New(slog.DiscardHandler))
	for _, conn := range socks.UDP {
		srv := server.UDP(conn)
		g.serve("dns udp", srv.Serve, nil, srv.Shutdown)
	}
	srv, started := server.TCP(socks.TCP[0]), make(chan struct{})
	close(started)
	g.serve("dns tcp", srv.Serve, started, srv.Shutdown)
	t.Cleanup(func() {
		cancel()
		if err := g.wait(); err != nil {
			t.Errorf("servers on %s: %v", addr, err)
		}
	})
	_, port, err = net.SplitHostPort(socks.TCP[0].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// show gives what matters of a reply on one line: the code, the flags that
// a client sees, the answer in order of its text, and the authority section.
func show(m *dns.Msg) string {
	var b strings.Builder
	b.WriteString(dns.RcodeToString[m.Rcode])
	for _, flag := range []struct {
		set  bool
		text string
	}{{m.Authoritative, " aa"}, {m.Truncated, " tc"}, {m.RecursionAvailable, " ra"}} {
		if flag.set {
			b.WriteString(flag.text)
		}
	}
	for _, section := range [][]dns.RR{m.Answer, m.Ns} {
		b.WriteString(";")
		for _, rr := range section {
			b.WriteString(" " + strings.ReplaceAll(strings.ReplaceAll(rr.String(), "\tIN\t", " "), "\t", " ") + ",")
		}
	}
	return strings.ReplaceAll(b.String(), ",;", ";")
}

// showSorted is show with the answer in a fixed order.
func showSorted(m *dns.Msg) string {
	m = m.Copy()
	slices.SortFunc(m.Answer, func(a, b dns.RR) int { return strings.Compare(a.String(), b.String()) })
	return strings.TrimRight(show(m), ",;")
}

// checkReply fails the test unless b is a reply to req, of at most size
// octets.
func checkReply(t testing.TB, req *dns.Msg, b []byte, size int) {
	t.Helper()
	if len(b) > size {
		t.Errorf("got %d octets; want at most %d", len(b), size)
	}
	m := new(dns.Msg)
	if err := m.Unpack(b); err != nil {
		t.Fatalf("got %x, which can't be read: %v", b, err)
	}
	if !m.Response || m.Id != req.Id || m.Opcode != dns.OpcodeQuery {
		t.Errorf("got header %v; want a reply under id %d", m.MsgHdr, req.Id)
	}
	if !slices.Equal(m.Question, req.Question) {
		t.Errorf("got question %v; want %v", m.Question, req.Question)
	}
	if (m.IsEdns0() != nil) != (req.IsEdns0() != nil) {
		t.Errorf("got OPT %v; want one only if one was sent", m.IsEdns0())
	}
}

// publish makes services by hand in reg, from what the HTTP API takes.
func publishTest(t testing.TB, reg *registry, services ...string) {
	t.Helper()
	h := apiOf(t, reg)
	for i, body := range services {
		if r := call(t, h, "PUT", fmt.Sprintf("/services/made%d", i), body); r.Code != http.StatusCreated {
			t.Fatalf("%s: got status %d, %s", body, r.Code, r.Body)
		}
	}
	reg.index.Serial.Store(7)
}

// What follows stands for names of dnstest.

func exchange(t testing.TB, network, addr string, q *dns.Msg) *dns.Msg {
	t.Helper()
	return dnstest.Exchange(t, network, addr, q)
}

func rawUDP(t testing.TB, addr string, id uint16, packets ...[]byte) [][]byte {
	t.Helper()
	return dnstest.RawUDP(t, addr, id, packets...)
}

func corpus(t testing.TB) [][]byte { return dnstest.Corpus(t) }

type load struct{ dnstest.Load }

func loadNow() load { return load{dnstest.LoadNow()} }

func (was load) returnsTo(t *testing.T) {
	t.Helper()
	was.ReturnsTo(t)
}

func heldUpstream(t *testing.T) (netip.AddrPort, <-chan struct{}, chan struct{}) {
	return dnstest.HeldUpstream(t)
}

func readReply(t testing.TB, c net.Conn) *dns.Msg {
	t.Helper()
	return dnstest.ReadReply(t, c)
}

func packQuery(t testing.TB, id uint16, qname string, qtype uint16) []byte {
	t.Helper()
	q := new(dns.Msg).SetQuestion(qname, qtype)
	q.Id = id
	b, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}
