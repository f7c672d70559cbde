package dnsserver

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/stats"
	"github.com/rayje/dnsdock/internal/zone"
	"github.com/rayje/dnsdock/internal/zonetest"
)

// uncached returns a server of an empty index with upstreams, which keeps no
// answer of theirs.
func uncached(t testing.TB, upstreams ...netip.AddrPort) rig {
	t.Helper()
	r := forwarding(t, dnstest.Patience, upstreams...)
	r.fwd.Cache = dnscache.New(0)
	return r
}

// reply is the reply to a client on this host, upstreams asked.
func (r rig) reply(req *dns.Msg, local netip.Addr, size int) *dns.Msg {
	return r.replyTo(req, zone.Client{Addr: localhost.Addr, Local: local, Size: size})
}

// replyTo is reply to any client.
func (r rig) replyTo(req *dns.Msg, c zone.Client) *dns.Msg {
	b, err := req.Pack()
	if err != nil {
		panic(err)
	}
	m := new(dns.Msg)
	if err := m.Unpack(r.completed(b, c)); err != nil {
		panic(err)
	}
	return m
}

// completed is the reply to a packet, after upstreams were asked.
func (r rig) completed(packet []byte, c zone.Client) []byte {
	t, ok := r.taskOf(packet, c, dns.MaxMsgSize)
	if !ok {
		_, reply := dnswire.SanitizeQuery(packet)
		return reply
	}
	t.size, t.from.Size = c.Size, c.Size
	a := t.decide()
	a.Complete()
	return t.write(a, nil)
}

func TestForwardedReply(t *testing.T) {
	var asked atomic.Pointer[dns.Msg]
	up := dnstest.StartUpstream(t, func(q *dns.Msg, _ netip.AddrPort) [][]byte {
		asked.Store(q)
		return [][]byte{dnstest.AnswerTo(t, q, func(m *dns.Msg) {
			m.Authoritative, m.AuthenticatedData, m.Zero = true, true, true
			m.Question[0].Name = strings.ToLower(m.Question[0].Name) // some do
			m.Answer = dnstest.Records(t, `www.example.com. 77 IN CNAME Web.example.net.
Web.example.net. 8 IN A 192.0.2.1
Web.example.net. 8 IN A 192.0.2.2`)
			m.Ns = dnstest.Records(t, "example.net. 9 IN NS ns.example.net.")
			m.Extra = append(m.Extra, dnstest.Records(t, "ns.example.net. 10 IN A 192.0.2.53")...)
			if opt := q.IsEdns0(); opt != nil {
				m.SetEdns0(4096, opt.Do())
				m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0123456789abcdef"}}
			}
		})}
	}, nil)
	for _, forceTTL := range []bool{false, true} {
		r := uncached(t, up)
		r.fwd.ForceTTL = forceTTL
		addr := "127.0.0.1:" + serveZone(t, r, "127.0.0.1:0")
		want := "NOERROR ra; wWw.Example.com. 77 CNAME Web.example.net., " +
			"Web.example.net. 8 A 192.0.2.1, Web.example.net. 8 A 192.0.2.2"
		if forceTTL {
			want = strings.NewReplacer(" 77 ", " 5 ", " 8 ", " 5 ").Replace(want)
		}
		for _, network := range []string{"udp", "tcp"} {
			for _, edns := range []bool{false, true} {
				t.Run(fmt.Sprintf("forcettl=%t over %s edns=%t", forceTTL, network, edns), func(t *testing.T) {
					checkForwarded(t, network, addr, edns, want, &asked)
				})
			}
		}
	}
}

// checkForwarded asks with or without EDNS, and checks the reply and what the
// upstream was asked.
func checkForwarded(t *testing.T, network, addr string, edns bool, want string, asked *atomic.Pointer[dns.Msg]) {
	req := new(dns.Msg).SetQuestion("wWw.Example.com.", dns.TypeA)
	req.RecursionDesired, req.CheckingDisabled = edns, edns
	if edns {
		req.SetEdns0(4000, true)
		req.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_SUBNET{
			Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: net.IPv4(10, 0, 0, 0),
		}}
	}
	r := dnstest.Exchange(t, network, addr, req)
	if got := dnstest.Show(r); got != want {
		t.Errorf("\ngot  %v;\nwant %v", got, want)
	}
	if r.Id != req.Id || r.Question[0] != req.Question[0] {
		t.Errorf("got id %d and question %v; want the client's, %d and %v", r.Id, r.Question, req.Id, req.Question)
	}
	if r.AuthenticatedData != edns || r.Zero || r.RecursionDesired != edns {
		t.Errorf("got flags %v; want AD as the upstream's where DO asks for it, RD as the client's, and no Z", r.MsgHdr)
	}
	if !edns && len(r.Extra) != 0 {
		t.Errorf("got additional records %v; want none", r.Extra)
	}
	if edns && (len(r.Extra) != 1 || !isPlainOPT(r.IsEdns0(), true)) {
		t.Errorf("got additional records %v; want one OPT of our own, and nothing else", r.Extra)
	}
	q := asked.Load()
	sameFlags := q.RecursionDesired == edns && q.CheckingDisabled == edns && !q.Response
	if !strings.EqualFold(q.Question[0].Name, req.Question[0].Name) || !sameFlags {
		t.Errorf("the upstream was asked %v; want the client's question and flags", q)
	}
	if opt := q.IsEdns0(); !isPlainOPT(opt, edns) {
		t.Errorf("the upstream was sent %v; want an OPT of our own, with DO as the client's", opt)
	}
}

// isPlainOPT reports whether opt is one as dnsdock makes it, with or without DO.
func isPlainOPT(opt *dns.OPT, do bool) bool {
	return opt != nil && opt.UDPSize() == dnswire.MaxUDPSize && opt.Do() == do && len(opt.Option) == 0
}

func TestForwardedSize(t *testing.T) {
	truncate := func(m *dns.Msg) { m.Truncated, m.Answer = true, nil }
	large := func(m *dns.Msg) {
		m.Answer = nil
		for i := range 500 {
			record := fmt.Sprintf("%s 77 IN A 10.1.%d.%d", m.Question[0].Name, i/250, i%250)
			m.Answer = append(m.Answer, dnstest.Records(t, record)...)
		}
		m.Compress = true
	}
	r := uncached(t, dnstest.StartUpstream(t, dnstest.Answer(t, truncate), dnstest.Answer(t, large)))
	addr := "127.0.0.1:" + serveZone(t, r, "127.0.0.1:0")
	for _, tt := range []struct{ asked, limit int }{{-1, 512}, {0, 512}, {1000, 1000}, {65535, 1232}} {
		req := new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA)
		if tt.asked >= 0 {
			req.SetEdns0(uint16(tt.asked), false)
		}
		b, err := req.Pack()
		if err != nil {
			t.Fatal(err)
		}
		reply := dnstest.RawUDP(t, addr, req.Id, b)[0]
		m := new(dns.Msg)
		if err := m.Unpack(reply); err != nil {
			t.Fatal(err)
		}
		if len(reply) > tt.limit || len(reply) < tt.limit-16 || !m.Truncated {
			t.Errorf("size %d: got %d bytes, TC %t; want at most %d, nearly as many, and TC",
				tt.asked, len(reply), m.Truncated, tt.limit)
		}
	}
	m := dnstest.Exchange(t, "tcp", addr, new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA))
	if len(m.Answer) != 500 || m.Truncated {
		t.Errorf("over TCP: got %d records, TC %t; want all 500", len(m.Answer), m.Truncated)
	}
}

func TestForwardShutdown(t *testing.T) {
	arrived := make(chan struct{}, 2)
	hold := func(*dns.Msg, netip.AddrPort) [][]byte {
		arrived <- struct{}{}
		return nil
	}
	r := uncached(t, dnstest.StartUpstream(t, hold, nil))
	r.fwd.Timeout = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	log := slog.New(slog.DiscardHandler)
	z := zone.New(ctx, r.ix.Index, r.fwd, log)
	r = rig{New(ctx, z, r.ix.Index, r.fwd, r.traffic, log), z, r.ix}
	var wg sync.WaitGroup
	t.Run("server", func(t *testing.T) { // its end is that of the server too
		addr := "127.0.0.1:" + serveZone(t, r, "127.0.0.1:0")
		t.Cleanup(cancel)
		for _, network := range []string{"udp", "tcp"} {
			c, err := dns.Dial(network, addr)
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(dnstest.Patience))
				if err := c.WriteMsg(new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA)); err != nil {
					t.Error(err)
				}
				r, err := c.ReadMsg()
				if err != nil || r.Rcode != dns.RcodeServerFailure {
					t.Errorf("over %s: got %v, %v; want SERVFAIL at the end", network, r, err)
				}
			})
			<-arrived
		}
	})
	wg.Wait()
}

func TestManyOnOneConnection(t *testing.T) {
	r := uncached(t, dnstest.StartUpstream(t, dnstest.Silent, nil))
	r.fwd.Timeout = forward.UpstreamTimeout
	addr := "127.0.0.1:" + serveZone(t, r, "127.0.0.1:0")
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	begun := time.Now()
	for i := range 100 {
		p := dnstest.Pack(t, uint16(i), fmt.Sprintf("%d.example.com.", i), dns.TypeA)
		_, _ = c.Write(append([]byte{byte(len(p) >> 8), byte(len(p))}, p...))
	}
	for i := range 100 {
		dnstest.ReadReply(t, c)
		// One after the other they would take minutes.
		if took := time.Since(begun); took > dnstest.Patience/4 {
			t.Fatalf("reply %d of 100 came after %v", i, took)
		}
	}
}

func TestCNAMEUpstream(t *testing.T) {
	const chain = "away.a.docker. 5 CNAME www.example.com."
	for _, tt := range []struct {
		what   string
		change func(*dns.Msg)
		want   string
	}{
		{"an address", nil, "NOERROR aa ra; " + chain + ", www.example.com. 77 A 192.0.2.1"},
		{"no data", func(m *dns.Msg) { m.Answer = nil }, "NOERROR aa ra; " + chain},
		{"no name", dnstest.Rcode(dns.RcodeNameError), "NXDOMAIN aa ra; " + chain},
		{"a failure", dnstest.Rcode(dns.RcodeServerFailure), "SERVFAIL ra"},
		{"signed", func(m *dns.Msg) { m.AuthenticatedData = true }, "NOERROR aa ra; " + chain + ", www.example.com. 77 A 192.0.2.1"},
		{"a longer chain", func(m *dns.Msg) {
			m.Answer = dnstest.Records(t, "www.example.com. 9 IN CNAME a.example.com.\na.example.com. 8 IN A 192.0.2.9")
		}, "NOERROR aa ra; a.example.com. 8 A 192.0.2.9, " + chain + ", www.example.com. 9 CNAME a.example.com."},
	} {
		t.Run(tt.what, func(t *testing.T) {
			r := uncached(t, dnstest.StartUpstream(t, dnstest.Answer(t, func(m *dns.Msg) {
				if q := m.Question[0]; q.Name != "www.example.com." || q.Qtype != dns.TypeA {
					t.Errorf("the upstream was asked %v", q)
				}
				if tt.change != nil {
					tt.change(m)
					if m.Rcode != dns.RcodeSuccess {
						m.Answer = nil
					}
				}
			}), nil))
			r.ix.Publish(t, `{"name":"away","image":"a","cname":"www.example.com"}`)
			m := r.reply(new(dns.Msg).SetQuestion("away.a.docker.", dns.TypeA), netip.Addr{}, 512)
			if got := dnstest.ShowSorted(m); got != tt.want || m.AuthenticatedData {
				t.Errorf("got %v, AD %t; want %v", got, m.AuthenticatedData, tt.want)
			}
			m = r.reply(new(dns.Msg).SetQuestion("away.a.docker.", dns.TypeCNAME), netip.Addr{}, 512)
			if len(m.Answer) != 1 || m.Rcode != 0 {
				t.Errorf("CNAME: got %v; want the CNAME alone", dnstest.Show(m))
			}
			req := new(dns.Msg).SetQuestion("away.a.docker.", dns.TypeA)
			req.RecursionDesired = false
			if got, want := dnstest.ShowSorted(r.reply(req, netip.Addr{}, 512)), "NOERROR aa ra; "+chain; got != want {
				t.Errorf("RD clear: got %v; want %v", got, want)
			}
		})
	}
}

// A whole answer that upstreams gave before, one of 10,000.
func BenchmarkKept(b *testing.B) {
	r := forwarding(b, dnstest.Patience, netip.MustParseAddrPort("127.0.0.1:1"))
	r.fwd.Cache = dnscache.New(16 << 20)
	var packets [][]byte
	for i := range 10_000 {
		qname := fmt.Sprintf("c%d.image%d.example.", i, i%100)
		packets = append(packets, dnstest.Pack(b, uint16(i), qname, dns.TypeA))
		m := &dns.Msg{Answer: dnstest.Records(b, qname+" 3600 IN A 192.0.2.1")}
		q := dnscache.NewQuestion(zonetest.Name(b, qname), dns.TypeA, dnscache.RD)
		kept, err := dnscache.NewResponse(q, m, time.Hour)
		if err != nil {
			b.Fatal(err)
		}
		r.fwd.Cache.Put(kept)
	}
	f, reply := r.newReplayer(r.traffic.Take(stats.UDP)), make([]byte, 0, dnswire.MaxUDPSize)
	from := source(clientSource(localhost))
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		if f.answer(packets[n%len(packets)], from, dnswire.MaxUDPSize, reply) == nil {
			b.Fatal("not replayed")
		}
	}
}
