package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/listener"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/zone"
)

type answerer func(q *dns.Msg, from netip.AddrPort) [][]byte

func startUpstream(t testing.TB, udp, tcp answerer) netip.AddrPort {
	t.Helper()
	socks, err := listener.Open([]string{"127.0.0.1:0"}, "")
	if err != nil {
		t.Fatal(err)
	}
	pc, ln := socks.UDP[0], socks.TCP[0]
	(&listener.Set{UDP: socks.UDP[1:]}).Close()
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
		wg.Go(func() { serveUpstreamUDP(pc, udp) })
	}
	if tcp == nil {
		_ = ln.Close()
	} else {
		wg.Go(func() { serveUpstreamTCP(ln, tcp) })
	}
	return netip.MustParseAddrPort(ln.Addr().String())
}

func serveUpstreamUDP(pc *net.UDPConn, f answerer) {
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
			_, _ = pc.WriteToUDPAddrPort(p, from) // whoever asked may be gone
		}
	}
}

func serveUpstreamTCP(ln net.Listener, f answerer) {
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

func closedUpstream(t testing.TB) netip.AddrPort { return startUpstream(t, nil, nil) }

func silent(*dns.Msg, netip.AddrPort) [][]byte { return nil }

func answer(t testing.TB, change func(*dns.Msg)) answerer {
	return func(q *dns.Msg, _ netip.AddrPort) [][]byte {
		return [][]byte{answerTo(t, q, change)}
	}
}

func answerTo(t testing.TB, q *dns.Msg, change func(*dns.Msg)) []byte {
	m := new(dns.Msg).SetReply(q)
	m.RecursionAvailable = true
	m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 77}, A: net.IPv4(192, 0, 2, 1)}}
	if change != nil {
		change(m)
	}
	b, err := m.Pack()
	if err != nil {
		t.Errorf("the fake upstream can't pack %v: %v", m, err)
	}
	return b
}

func rcode(rcode int) func(*dns.Msg) {
	return func(m *dns.Msg) { m.Rcode, m.Answer = rcode, nil }
}

func truncated(m *dns.Msg) { m.Truncated, m.Answer = true, nil }

func address(a string) func(*dns.Msg) {
	return func(m *dns.Msg) { m.Answer[0].(*dns.A).A = net.ParseIP(a) }
}

func raw(rrtype uint16, data string) func(*dns.Msg) {
	return func(m *dns.Msg) {
		m.Answer = []dns.RR{&dns.RFC3597{Hdr: dns.RR_Header{Name: m.Question[0].Name, Rrtype: rrtype, Class: dns.ClassINET}, Rdata: data}}
	}
}

func loaded(t testing.TB, f *forward.Forwarder) *forward.Forwarder {
	t.Helper()
	if err := f.Load(); err != nil {
		t.Fatal(err)
	}
	return f
}

func servers(addrs ...netip.AddrPort) (list []forward.Server) {
	for _, a := range addrs {
		list = append(list, forward.Server{Addr: a})
	}
	return list
}

func newForwardZone(t testing.TB, upstreams ...netip.AddrPort) *zone.Resolver {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	f := loaded(t, forward.New(forward.Routes{dnsname.Root: servers(upstreams...)}, nil, 0, log))
	f.Timeout = patience
	return zone.New(t.Context(), ix(filledRegistry(t, "docker", 5)), f, log)
}

const shortTimeout = 50 * time.Millisecond // for upstreams that are silent on purpose

func rrs(t testing.TB, text string) (list []dns.RR) {
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

func TestForwardedReply(t *testing.T) {
	var asked atomic.Pointer[dns.Msg]
	up := startUpstream(t, func(q *dns.Msg, _ netip.AddrPort) [][]byte {
		asked.Store(q)
		return [][]byte{answerTo(t, q, func(m *dns.Msg) {
			m.Authoritative, m.AuthenticatedData, m.Zero = true, true, true
			m.Question[0].Name = strings.ToLower(m.Question[0].Name) // some do
			m.Answer = rrs(t, "www.example.com. 77 IN CNAME Web.example.net.\nWeb.example.net. 8 IN A 192.0.2.1\nWeb.example.net. 8 IN A 192.0.2.2")
			m.Ns = rrs(t, "example.net. 9 IN NS ns.example.net.")
			m.Extra = append(m.Extra, rrs(t, "ns.example.net. 10 IN A 192.0.2.53")...)
			if opt := q.IsEdns0(); opt != nil {
				m.SetEdns0(4096, opt.Do())
				m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0123456789abcdef"}}
			}
		})}
	}, nil)
	for _, forceTTL := range []bool{false, true} {
		z := newForwardZone(t, up)
		z.Fwd.ForceTTL = forceTTL
		addr := "127.0.0.1:" + serveZone(t, z, "127.0.0.1:0")
		want := "NOERROR ra; wWw.Example.com. 77 CNAME Web.example.net., Web.example.net. 8 A 192.0.2.1, Web.example.net. 8 A 192.0.2.2"
		if forceTTL {
			want = "NOERROR ra; wWw.Example.com. 5 CNAME Web.example.net., Web.example.net. 5 A 192.0.2.1, Web.example.net. 5 A 192.0.2.2"
		}
		for _, network := range []string{"udp", "tcp"} {
			for _, edns := range []bool{false, true} {
				t.Run(fmt.Sprintf("forcettl=%t over %s edns=%t", forceTTL, network, edns), func(t *testing.T) {
					req := new(dns.Msg).SetQuestion("wWw.Example.com.", dns.TypeA)
					req.RecursionDesired, req.CheckingDisabled = edns, edns
					if edns {
						req.SetEdns0(4000, true)
						req.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: net.IPv4(10, 0, 0, 0)}}
					}
					r := exchange(t, network, addr, req)
					if got := strings.TrimRight(show(r), ",;"); got != want {
						t.Errorf("\ngot  %v;\nwant %v", got, want)
					}
					if r.Id != req.Id || r.Question[0] != req.Question[0] {
						t.Errorf("got id %d and question %v; want the client's, %d and %v", r.Id, r.Question, req.Id, req.Question)
					}
					if r.AuthenticatedData != edns || r.Zero || r.RecursionDesired != edns {
						t.Errorf("got flags %v; want AD as the upstream's where DO asks for it, RD as the client's, and no Z", r.MsgHdr)
					}
					if opt := r.IsEdns0(); !edns && len(r.Extra) != 0 || edns && (len(r.Extra) != 1 || !opt.Do() || len(opt.Option) != 0 || opt.UDPSize() != dnswire.MaxUDPSize) {
						t.Errorf("got additional records %v; want one OPT of our own if one was sent, and nothing else", r.Extra)
					}
					q := asked.Load()
					if !strings.EqualFold(q.Question[0].Name, req.Question[0].Name) || q.RecursionDesired != edns || q.CheckingDisabled != edns || q.Response {
						t.Errorf("the upstream was asked %v; want the client's question and flags", q)
					}
					if opt := q.IsEdns0(); opt == nil || opt.UDPSize() != dnswire.MaxUDPSize || opt.Do() != edns || len(opt.Option) != 0 {
						t.Errorf("the upstream was sent %v; want an OPT of our own, with DO as the client's", opt)
					}
				})
			}
		}
	}
}

func TestForwardedSize(t *testing.T) {
	large := func(m *dns.Msg) {
		m.Answer = nil
		for i := range 500 {
			m.Answer = append(m.Answer, rrs(t, fmt.Sprintf("%s 77 IN A 10.1.%d.%d", m.Question[0].Name, i/250, i%250))...)
		}
		m.Compress = true
	}
	z := newForwardZone(t, startUpstream(t, answer(t, truncated), answer(t, large)))
	addr := "127.0.0.1:" + serveZone(t, z, "127.0.0.1:0")
	for _, tt := range []struct{ asked, limit int }{{-1, 512}, {0, 512}, {1000, 1000}, {65535, 1232}} {
		req := new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA)
		if tt.asked >= 0 {
			req.SetEdns0(uint16(tt.asked), false)
		}
		b, err := req.Pack()
		if err != nil {
			t.Fatal(err)
		}
		reply := rawUDP(t, addr, req.Id, b)[0]
		m := new(dns.Msg)
		if err := m.Unpack(reply); err != nil {
			t.Fatal(err)
		}
		if len(reply) > tt.limit || len(reply) < tt.limit-16 || !m.Truncated {
			t.Errorf("size %d: got %d octets, TC %t; want at most %d, nearly as many, and TC", tt.asked, len(reply), m.Truncated, tt.limit)
		}
	}
	if r := exchange(t, "tcp", addr, new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA)); len(r.Answer) != 500 || r.Truncated {
		t.Errorf("over TCP: got %d records, TC %t; want all 500", len(r.Answer), r.Truncated)
	}
}

func TestForwardedNames(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	up := startUpstream(t, func(q *dns.Msg, _ netip.AddrPort) [][]byte {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, q.Question[0].Name)
		return [][]byte{answerTo(t, q, rcode(dns.RcodeNameError))}
	}, nil)
	for _, ready := range []bool{false, true} {
		z := newForwardZone(t, up)
		z.Reg = ix(filledRegistry(t, "dev.docker", 5, pub{"web", "nginx", 0, "10.0.0.1 fd00::1", "shop.example.com com"}))
		z = zone.New(t.Context(), z.Reg, z.Fwd, slog.New(slog.DiscardHandler))
		z.Reg.Ready.Store(ready)
		for _, tt := range []struct {
			qname     string
			forwarded bool
		}{
			{"web.nginx.dev.docker.", false},
			{"unknown.dev.docker.", false},
			{"DEV.Docker.", false},
			{"dnsdock.dev.docker.", false},
			{"*.unknown.dev.docker.", false},
			{"shop.example.com.", false},
			{"www.shop.example.com.", false},
			{"com.", false},
			{"1.0.0.10.in-addr.arpa.", false},
			{"1." + strings.Repeat("0.", 27) + "0.0.d.f.ip6.arpa.", false},
			{"2.0.0.10.in-addr.arpa.", false},
			{"2." + strings.Repeat("0.", 27) + "0.0.d.f.ip6.arpa.", false},
			{"0.0.10.in-addr.arpa.", false},
			{"localhost.", false},
			{"x.onion.", false},
			{"9.9.9.9.in-addr.arpa.", true},
			{"9.9.9.in-addr.arpa.", true},
			{"in-addr.arpa.", true},
			{"example.com.", true},
			{"docker.", false},
			{"printer.", true}, // NS of it, and no more
			{"www.test.", false},
			{"web.nginx.docker.", true},
			{".", true},
			{"a\\.b\\000\\200.example.com.", true},
		} {
			for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypePTR, dns.TypeTXT, dns.TypeANY, dns.TypeSOA, dns.TypeNS, dns.TypeDS, dns.TypeMX} {
				mu.Lock()
				asked = nil
				mu.Unlock()
				reply(z, new(dns.Msg).SetQuestion(tt.qname, qtype), netip.MustParseAddr("127.0.0.1"), 512)
				mu.Lock()
				isOfTLD := slices.Contains([]uint16{dns.TypeNS, dns.TypeSOA, dns.TypeDS, dns.TypeDNSKEY}, qtype)
				isTop := slices.Contains([]string{"DEV.Docker.", "shop.example.com.", "com.", "localhost."}, tt.qname) // whose DS is above
				want := tt.forwarded || tt.qname == "docker." && isOfTLD || isTop && qtype == dns.TypeDS
				forwarded := len(asked) == 1 && strings.EqualFold(asked[0], tt.qname)
				if forwarded != want || !forwarded && len(asked) > 0 {
					t.Errorf("%s %s, ready %t: upstream was asked %q; want forwarded %t", tt.qname, dns.Type(qtype), ready, asked, want)
				}
				mu.Unlock()
			}
		}
		for _, req := range []*dns.Msg{
			new(dns.Msg).SetAxfr("example.com."),
			new(dns.Msg).SetIxfr("example.com.", 1, "ns.example.com.", "host.example.com."),
			{Question: []dns.Question{{Name: "version.bind.", Qtype: dns.TypeTXT, Qclass: dns.ClassCHAOS}}},
		} {
			mu.Lock()
			asked = nil
			mu.Unlock()
			m := reply(z, req, netip.Addr{}, 512)
			mu.Lock()
			if len(asked) != 0 || m.Rcode != dns.RcodeRefused {
				t.Errorf("%v: got %v, and the upstream was asked %q; want REFUSED and nothing", req.Question, show(m), asked)
			}
			mu.Unlock()
		}
	}
}

func TestForwardShutdown(t *testing.T) {
	arrived := make(chan struct{}, 2)
	hold := func(*dns.Msg, netip.AddrPort) [][]byte {
		arrived <- struct{}{}
		return nil
	}
	z := newForwardZone(t, startUpstream(t, hold, nil))
	z.Fwd.Timeout = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	z = zone.New(ctx, z.Reg, z.Fwd, slog.New(slog.DiscardHandler))
	var wg sync.WaitGroup
	t.Run("server", func(t *testing.T) { // its end is that of the server too
		addr := "127.0.0.1:" + serveZone(t, z, "127.0.0.1:0")
		t.Cleanup(cancel)
		for _, network := range []string{"udp", "tcp"} {
			c, err := dns.Dial(network, addr)
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(patience))
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

func withID(p []byte, id uint16) []byte {
	p = slices.Clone(p)
	if len(p) >= 4 {
		binary.BigEndian.PutUint16(p, id)
		p[2] |= 0x80 // QR
		p[2] &^= 0x78 | 0x02
	}
	return p
}

func TestRoutes(t *testing.T) {
	to := func(a string) forward.Server {
		return forward.Server{Addr: startUpstream(t, answer(t, address(a)), nil)}
	}
	log := slog.New(slog.DiscardHandler)
	first := forward.Server{Addr: closedUpstream(t)}
	f := loaded(t, forward.New(forward.Routes{
		dnsname.Root:                        {to("192.0.2.1")},
		mustName(t, "corp.example"):         {first, to("192.0.2.2")},
		mustName(t, "a.corp.example"):       {to("192.0.2.3")},
		mustName(t, "blocked.test"):         nil,
		mustName(t, "10.in-addr.arpa"):      {to("192.0.2.4")},
		mustName(t, "5.10.in-addr.arpa"):    nil,
		mustName(t, "onion"):                {to("192.0.2.5")},
		mustName(t, "shop.example.com"):     {to("192.0.2.6")},
		mustName(t, "168.192.in-addr.arpa"): nil,
	}, nil, 0, log))
	reg := filledRegistry(t, "docker", 5, pub{"web", "nginx", 0, "10.0.0.1 10.5.0.1", "shop.example.com"})
	z := zone.New(t.Context(), ix(reg), f, log)
	for qname, want := range map[string]string{
		"example.com.":              "NOERROR ra; example.com. 77 A 192.0.2.1",
		"corp.example.":             "NOERROR ra; corp.example. 77 A 192.0.2.2",
		"x.Corp.Example.":           "NOERROR ra; x.Corp.Example. 77 A 192.0.2.2",
		"xcorp.example.":            "NOERROR ra; xcorp.example. 77 A 192.0.2.1",
		"b.a.corp.example.":         "NOERROR ra; b.a.corp.example. 77 A 192.0.2.3",
		"x.blocked.test.":           "REFUSED ra",
		"2.0.0.10.in-addr.arpa.":    "NOERROR ra; 2.0.0.10.in-addr.arpa. 77 A 192.0.2.4",
		"10.in-addr.arpa.":          "NOERROR ra; 10.in-addr.arpa. 77 A 192.0.2.4",
		"1.0.0.10.in-addr.arpa.":    "NOERROR aa ra;; 1.0.0.10.in-addr.arpa. 5 SOA dnsdock.docker. hostmaster.1.0.0.10.in-addr.arpa. 7 3600 600 86400 5", // a container's
		"2.0.5.10.in-addr.arpa.":    "REFUSED ra",
		"1.1.168.192.in-addr.arpa.": "REFUSED ra",
		"x.onion.":                  "NOERROR ra; x.onion. 77 A 192.0.2.5",
		"x.shop.example.com.":       "NOERROR aa ra; x.shop.example.com. 0 A 10.0.0.1, x.shop.example.com. 0 A 10.5.0.1",
		"1.16.172.in-addr.arpa.":    "NXDOMAIN aa ra;; 16.172.in-addr.arpa. 5 SOA dnsdock.docker. hostmaster.16.172.in-addr.arpa. 7 3600 600 86400 5",
	} {
		if got := showSorted(reply(z, new(dns.Msg).SetQuestion(qname, dns.TypeA), netip.Addr{}, 512)); got != want {
			t.Errorf("%s:\ngot  %v;\nwant %v", qname, got, want)
		}
	}
}

func TestForwardForLocalClients(t *testing.T) {
	var asked atomic.Int32
	up := startUpstream(t, func(q *dns.Msg, a netip.AddrPort) [][]byte {
		asked.Add(1)
		return answer(t, nil)(q, a)
	}, nil)
	z := newForwardZone(t, up)
	allowed := []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("2001:db8:1::/48")}
	z.Fwd = loaded(t, forward.New(forward.Routes{dnsname.Root: servers(up)}, allowed, 0, slog.New(slog.DiscardHandler)))
	publishTest(t, regOf(z), `{"name":"away","image":"a","cname":"www.example.com"}`)
	for text, local := range map[string]bool{
		"127.0.0.1": true, "127.9.9.9": true, "10.1.2.3": true, "172.16.0.1": true, "172.31.255.255": true, "192.168.1.1": true, "169.254.1.1": true,
		"::1": true, "fe80::1": true, "fd12::1": true, "fc00::1": true, "203.0.113.255": true, "2001:db8:1:2::3": true,
		"172.32.0.1": false, "192.169.0.1": false, "100.64.0.1": false, "203.0.114.1": false, "8.8.8.8": false, "0.0.0.0": false,
		"2001:db8:2::1": false, "2606:4700::1": false, "::": false, "invalid": false,
	} {
		c := zone.Client{Size: 512}
		c.Addr, _ = netip.ParseAddr(text)
		ask := func(qname string) string {
			asked.Store(0)
			req := new(dns.Msg).SetQuestion(qname, dns.TypeA)
			return showSorted(replyOf(z, req, c))
		}
		foreign, ours, chain := "REFUSED", "NOERROR aa;", "NOERROR aa; away.a.docker. 5 CNAME www.example.com."
		if local {
			foreign, ours, chain = "NOERROR ra; www.example.com. 77 A 192.0.2.1", "NOERROR aa ra;", "NOERROR aa ra; away.a.docker. 5 CNAME www.example.com., www.example.com. 77 A 192.0.2.1"
		}
		if got := ask("www.example.com."); got != foreign || (asked.Load() > 0) != local {
			t.Errorf("%s: got %v, upstream asked %d times; want %v", text, got, asked.Load(), foreign)
		}
		if got := ask("away.a.docker."); got != chain || (asked.Load() > 0) != local {
			t.Errorf("%s: CNAME: got %v, upstream asked %d times; want %v", text, got, asked.Load(), chain)
		}
		if got := ask("dnsdock.docker."); !strings.HasPrefix(got, ours) {
			t.Errorf("%s: our own name: got %v; want %v", text, got, ours)
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
		{"no name", rcode(dns.RcodeNameError), "NXDOMAIN aa ra; " + chain},
		{"a failure", rcode(dns.RcodeServerFailure), "SERVFAIL ra"},
		{"signed", func(m *dns.Msg) { m.AuthenticatedData = true }, "NOERROR aa ra; " + chain + ", www.example.com. 77 A 192.0.2.1"},
		{"a longer chain", func(m *dns.Msg) {
			m.Answer = rrs(t, "www.example.com. 9 IN CNAME a.example.com.\na.example.com. 8 IN A 192.0.2.9")
		}, "NOERROR aa ra; a.example.com. 8 A 192.0.2.9, " + chain + ", www.example.com. 9 CNAME a.example.com."},
	} {
		t.Run(tt.what, func(t *testing.T) {
			z := newForwardZone(t, startUpstream(t, answer(t, func(m *dns.Msg) {
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
			publishTest(t, regOf(z), `{"name":"away","image":"a","cname":"www.example.com"}`)
			m := reply(z, new(dns.Msg).SetQuestion("away.a.docker.", dns.TypeA), netip.Addr{}, 512)
			if got := showSorted(m); got != tt.want || m.AuthenticatedData {
				t.Errorf("got %v, AD %t; want %v", got, m.AuthenticatedData, tt.want)
			}
			if m := reply(z, new(dns.Msg).SetQuestion("away.a.docker.", dns.TypeCNAME), netip.Addr{}, 512); len(m.Answer) != 1 || m.Rcode != 0 {
				t.Errorf("CNAME: got %v; want the CNAME alone", show(m))
			}
			req := new(dns.Msg).SetQuestion("away.a.docker.", dns.TypeA)
			req.RecursionDesired = false
			if got, want := showSorted(reply(z, req, netip.Addr{}, 512)), "NOERROR aa ra; "+chain; got != want {
				t.Errorf("RD clear: got %v; want %v", got, want)
			}
		})
	}
}

func TestManyOnOneConnection(t *testing.T) {
	z := newForwardZone(t, startUpstream(t, silent, nil))
	z.Fwd.Timeout = forward.UpstreamTimeout
	addr := "127.0.0.1:" + serveZone(t, z, "127.0.0.1:0")
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	begun := time.Now()
	for i := range 100 {
		p := packQuery(t, uint16(i), fmt.Sprintf("%d.example.com.", i), dns.TypeA)
		_, _ = c.Write(append([]byte{byte(len(p) >> 8), byte(len(p))}, p...))
	}
	for i := range 100 {
		readReply(t, c)
		if took := time.Since(begun); took > 5*time.Second {
			t.Fatalf("reply %d of 100 came after %v", i, took)
		}
	}
}

func newCachingZone(t testing.TB, upstreams ...netip.AddrPort) *zone.Resolver {
	t.Helper()
	z := newForwardZone(t, upstreams...)
	z.Fwd.Cache = dnscache.New(1 << 20)
	return z
}

func both(t *testing.T, z *zone.Resolver, req *dns.Msg) *dns.Msg {
	t.Helper()
	m := reply(z, req, netip.Addr{}, 1232)
	packet, err := req.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if b := serverOf(z).Replay(packet, zone.Client{Addr: netip.MustParseAddr("127.0.0.1"), Size: dns.MaxMsgSize}); b != nil {
		fast := new(dns.Msg)
		if err := fast.Unpack(b); err != nil {
			t.Fatal(err)
		}
		if got, want := showSorted(fast), showSorted(m); got != want || fast.AuthenticatedData != m.AuthenticatedData || fast.CheckingDisabled != m.CheckingDisabled {
			t.Errorf("fast path: got %v; want %v", got, want)
		}
	}
	return m
}

func waitFor(t testing.TB, is func() bool) {
	t.Helper()
	for late := time.Now().Add(patience); !is(); runtime.Gosched() {
		if time.Now().After(late) {
			t.Fatal("it does not become so")
		}
	}
}

func TestCacheAndOurs(t *testing.T) {
	z := newCachingZone(t, startUpstream(t, answer(t, nil), nil))
	ask := func(what, qname, want string) {
		t.Helper()
		if got := showSorted(both(t, z, new(dns.Msg).SetQuestion(qname, dns.TypeA))); got != want {
			t.Errorf("%s: got %v; want %v", what, got, want)
		}
	}
	const upstreams = "NOERROR ra; shop.example.com. 77 A 192.0.2.1"
	ask("nobody's", "shop.example.com.", upstreams)
	id := strings.Repeat("a", 64)
	regOf(z).Put(id, aliased(t, id, "shop.example.com"))
	ask("a container's", "shop.example.com.", "NOERROR aa ra; shop.example.com. 5 A 10.0.0.1")
	ask("below it", "a.shop.example.com.", "NOERROR aa ra; a.shop.example.com. 5 A 10.0.0.1")
	regOf(z).Forget(id)
	const gone = "NXDOMAIN aa ra;; shop.example.com. 0 SOA dnsdock.docker. hostmaster.shop.example.com. 2 3600 600 86400 0"
	serialless := func(m *dns.Msg) string { m.Ns[0].(*dns.SOA).Serial = 2; return showSorted(m) }
	for _, qname := range []string{"shop.example.com.", "a.shop.example.com."} {
		if got := serialless(both(t, z, new(dns.Msg).SetQuestion(qname, dns.TypeA))); got != gone {
			t.Errorf("%s after its container died: got %v; want %v", qname, got, gone)
		}
	}
	ask("beside it", "xshop.example.com.", "NOERROR ra; xshop.example.com. 77 A 192.0.2.1")
	regOf(z).Put(id, aliased(t, id, "shop.example.com"))
	ask("a container's again", "shop.example.com.", "NOERROR aa ra; shop.example.com. 5 A 10.0.0.1")
	if err := regOf(z).remove(id); err != nil {
		t.Fatal(err)
	}
	ask("removed by hand", "shop.example.com.", upstreams)
}

func aliased(t *testing.T, id, alias string) *publish.Service {
	t.Helper()
	return &publish.Service{ID: id, OwnerNames: []dnsname.Name{mustName(t, "shop.web.docker"), mustName(t, alias)}, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, TTL: publish.DefaultTTL}
}
