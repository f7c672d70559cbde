package main

import (
	"context"
	"encoding/binary"
	"errors"
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
	"github.com/rayje/dnsdock/internal/dnsserver"
	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/host"
	"github.com/rayje/dnsdock/internal/listener"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/zone"
)

// An answerer is a fake upstream: it returns the packets that go back for
// the query q, in order.
type answerer func(q *dns.Msg, from netip.AddrPort) [][]byte

// startUpstream serves udp and tcp on one free port of loopback until the test ends.
// Where one of them is nil, its port is closed.
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

// serveUpstreamTCP takes one query on each connection and closes it when the
// client does; without packets to send it stays silent.
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

// closedUpstream returns an address of loopback that nobody listens on.
func closedUpstream(t testing.TB) netip.AddrPort { return startUpstream(t, nil, nil) }

// silent is an upstream that takes queries and says nothing.
func silent(*dns.Msg, netip.AddrPort) [][]byte { return nil }

// answer replies to q with 192.0.2.1, after change has worked on the reply.
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

// address answers with the address a.
func address(a string) func(*dns.Msg) {
	return func(m *dns.Msg) { m.Answer[0].(*dns.A).A = net.ParseIP(a) }
}

// raw answers with a record of any data, in hex digits.
func raw(rrtype uint16, data string) func(*dns.Msg) {
	return func(m *dns.Msg) {
		m.Answer = []dns.RR{&dns.RFC3597{Hdr: dns.RR_Header{Name: m.Question[0].Name, Rrtype: rrtype, Class: dns.ClassINET}, Rdata: data}}
	}
}

// loaded returns f with its upstreams.
func loaded(t testing.TB, f *forward.Forwarder) *forward.Forwarder {
	t.Helper()
	if err := f.Load(); err != nil {
		t.Fatal(err)
	}
	return f
}

// servers are those at addrs.
func servers(addrs ...netip.AddrPort) (list []forward.Server) {
	for _, a := range addrs {
		list = append(list, forward.Server{Addr: a})
	}
	return list
}

// newForwardZone returns a zone, of no container, that asks upstreams and
// keeps nothing. A test that is to see a time-out sets the forwarder's own.
func newForwardZone(t testing.TB, upstreams ...netip.AddrPort) *zone.Zone {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	f := loaded(t, forward.New(forward.Routes[forward.Server]{dnsname.Root: servers(upstreams...)}, nil, 0, log))
	f.Timeout = patience
	return zone.New(t.Context(), ix(filledRegistry(t, "docker", 5)), f, log)
}

const shortTimeout = 50 * time.Millisecond // for upstreams that are silent on purpose

func TestForwardFailover(t *testing.T) {
	const (
		first  = "NOERROR ra; www.example.com. 77 A 192.0.2.1"
		second = "NOERROR ra; www.example.com. 77 A 192.0.2.2"
	)
	for _, tt := range []struct {
		what    string
		first   answerer // nil: a closed port
		second  answerer
		want    string
		asked   [2]int32
		timeout time.Duration // patience, unless set: then a time-out fails the test
	}{
		{"in order", answer(t, nil), answer(t, address("192.0.2.2")), first, [2]int32{1, 0}, 0},
		{"silent", silent, answer(t, address("192.0.2.2")), second, [2]int32{1, 1}, shortTimeout},
		{"closed port", nil, answer(t, address("192.0.2.2")), second, [2]int32{0, 1}, 0},
		{"SERVFAIL", answer(t, rcode(dns.RcodeServerFailure)), answer(t, address("192.0.2.2")), second, [2]int32{1, 1}, 0},
		{"REFUSED", answer(t, rcode(dns.RcodeRefused)), answer(t, address("192.0.2.2")), second, [2]int32{1, 1}, 0},
		{"NXDOMAIN is an answer", answer(t, rcode(dns.RcodeNameError)), answer(t, nil), "NXDOMAIN ra", [2]int32{1, 0}, 0},
		{"no data is an answer", answer(t, rcode(dns.RcodeSuccess)), answer(t, nil), "NOERROR ra", [2]int32{1, 0}, 0},
		{"SERVFAIL with an answer", answer(t, func(m *dns.Msg) { m.Rcode = dns.RcodeServerFailure }), answer(t, address("192.0.2.2")), second, [2]int32{1, 1}, 0},
		{"a record without data", answer(t, raw(dns.TypeSOA, "")), answer(t, address("192.0.2.2")), second, [2]int32{1, 1}, 0},
		{"a record that ends early", answer(t, raw(dns.TypeSOA, "016100")), answer(t, address("192.0.2.2")), second, [2]int32{1, 1}, 0},
		{"both SERVFAIL", answer(t, rcode(dns.RcodeServerFailure)), answer(t, rcode(dns.RcodeServerFailure)), "SERVFAIL ra", [2]int32{1, 1}, 0},
		{"both REFUSED", answer(t, rcode(dns.RcodeRefused)), answer(t, rcode(dns.RcodeRefused)), "SERVFAIL ra", [2]int32{1, 1}, 0},
		{"both closed", nil, nil, "SERVFAIL ra", [2]int32{}, 0},
		{"both silent", silent, silent, "SERVFAIL ra", [2]int32{1, 1}, shortTimeout},
	} {
		t.Run(tt.what, func(t *testing.T) {
			var asked [2]atomic.Int32
			count := func(i int, f answerer) answerer {
				if f == nil {
					return nil
				}
				return func(q *dns.Msg, from netip.AddrPort) [][]byte {
					asked[i].Add(1)
					return f(q, from)
				}
			}
			z := newForwardZone(t, startUpstream(t, count(0, tt.first), nil), startUpstream(t, count(1, tt.second), nil))
			if tt.timeout != 0 {
				z.Fwd.Timeout = tt.timeout
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience) // of both upstreams together
			defer cancel()
			z.Ctx = ctx
			m := reply(z, new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA), netip.Addr{}, 512)
			if got := showSorted(m); got != tt.want {
				t.Errorf("got %v; want %v", got, tt.want)
			}
			if got := [2]int32{asked[0].Load(), asked[1].Load()}; got != tt.asked {
				t.Errorf("the upstreams were asked %v times; want %v", got, tt.asked)
			}
		})
	}
}

func TestForwardTimeoutDefault(t *testing.T) {
	if got, want := forward.New(nil, nil, 0, nil).Timeout, 2*time.Second; got != want {
		t.Errorf("got %v for an upstream; want %v", got, want)
	}
}

// What does not fit into UDP is asked for again over TCP; where that fails,
// the client gets the truncated answer and may try itself.
func TestForwardTruncated(t *testing.T) {
	const (
		whole = "NOERROR ra; www.example.com. 77 A 192.0.2.9"
		cut   = "NOERROR tc ra"
	)
	wrongID := func(m *dns.Msg) { m.Id++ }
	for _, tt := range []struct {
		what   string
		tcp    answerer // nil: a closed port
		second answerer
		want   string
	}{
		{"TCP answers", answer(t, address("192.0.2.9")), answer(t, nil), whole},
		{"TCP is closed", nil, nil, cut},
		{"TCP is silent", silent, nil, cut},
		{"TCP answers another query", answer(t, wrongID), nil, cut},
		{"TCP is cut too", answer(t, truncated), nil, cut},
		{"TCP says SERVFAIL", answer(t, rcode(dns.RcodeServerFailure)), nil, "SERVFAIL ra"},
		{"TCP sends junk", func(*dns.Msg, netip.AddrPort) [][]byte { return [][]byte{{1, 2, 3}} }, nil, cut},
		{"TCP is closed, the next one answers", nil, answer(t, address("192.0.2.9")), whole},
	} {
		t.Run(tt.what, func(t *testing.T) {
			z := newForwardZone(t, startUpstream(t, answer(t, truncated), tt.tcp), startUpstream(t, tt.second, nil))
			z.Fwd.Timeout = patience
			if strings.Contains(tt.what, "silent") {
				z.Fwd.Timeout = shortTimeout
			}
			m := reply(z, new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA), netip.Addr{}, 512)
			if got := showSorted(m); got != tt.want {
				t.Errorf("got %v; want %v", got, tt.want)
			}
		})
	}
}

// Only the reply to our query is taken: whoever guesses wrong has won nothing.
func TestForwardChecksReply(t *testing.T) {
	fakes := map[string]func(q *dns.Msg) []byte{
		"wrong ID": func(q *dns.Msg) []byte { return answerTo(t, q, func(m *dns.Msg) { m.Id++ }) },
		"wrong name": func(q *dns.Msg) []byte {
			return answerTo(t, q, func(m *dns.Msg) { m.Question[0].Name = "www.example.net." })
		},
		"longer name": func(q *dns.Msg) []byte {
			return answerTo(t, q, func(m *dns.Msg) { m.Question[0].Name = "a.www.example.com." })
		},
		"wrong type": func(q *dns.Msg) []byte {
			return answerTo(t, q, func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAAAA })
		},
		"wrong class": func(q *dns.Msg) []byte {
			return answerTo(t, q, func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS })
		},
		"no question": func(q *dns.Msg) []byte { return answerTo(t, q, func(m *dns.Msg) { m.Question = nil }) },
		"two questions": func(q *dns.Msg) []byte {
			return answerTo(t, q, func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) })
		},
		"a query":         func(q *dns.Msg) []byte { return answerTo(t, q, func(m *dns.Msg) { m.Response = false }) },
		"another opcode":  func(q *dns.Msg) []byte { return answerTo(t, q, func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }) },
		"cut in a record": func(q *dns.Msg) []byte { b := answerTo(t, q, nil); return b[:len(b)-3] },
		"5 octets":        func(q *dns.Msg) []byte { return answerTo(t, q, nil)[:5] },
		"no octet":        func(q *dns.Msg) []byte { return []byte{} },
		"junk":            func(q *dns.Msg) []byte { return []byte(strings.Repeat("junk", 100)) },
		"a header only":   func(q *dns.Msg) []byte { return answerTo(t, q, nil)[:12] },
		"a pointer loop":  func(q *dns.Msg) []byte { return append(answerTo(t, q, nil)[:12], "\xc0\x0c\x00\x01\x00\x01"...) },
	}
	req := func() *dns.Msg { return new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA) }
	for _, what := range publish.SortedKeys(fakes) {
		t.Run(what, func(t *testing.T) {
			t.Run("first", func(t *testing.T) {
				z := newForwardZone(t, startUpstream(t, func(q *dns.Msg, _ netip.AddrPort) [][]byte {
					return [][]byte{fakes[what](q), fakes[what](q), answerTo(t, q, address("192.0.2.2"))}
				}, nil))
				m := reply(z, req(), netip.Addr{}, 512)
				if got, want := showSorted(m), "NOERROR ra; www.example.com. 77 A 192.0.2.2"; got != want {
					t.Errorf("got %v; want %v", got, want)
				}
			})
			t.Run("only", func(t *testing.T) {
				z := newForwardZone(t, startUpstream(t, func(q *dns.Msg, _ netip.AddrPort) [][]byte {
					return [][]byte{fakes[what](q)}
				}, nil))
				z.Fwd.Timeout = shortTimeout
				if got, want := showSorted(reply(z, req(), netip.Addr{}, 512)), "SERVFAIL ra"; got != want {
					t.Errorf("got %v; want %v", got, want)
				}
			})
		})
	}
	t.Run("another sender", func(t *testing.T) {
		other, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		for _, tt := range []struct {
			last [][]byte
			want string
		}{
			{[][]byte{nil}, "NOERROR ra; www.example.com. 77 A 192.0.2.2"},
			{nil, "SERVFAIL ra"},
		} {
			z := newForwardZone(t, startUpstream(t, func(q *dns.Msg, from netip.AddrPort) [][]byte {
				if _, err := other.WriteTo(answerTo(t, q, address("192.0.2.66")), net.UDPAddrFromAddrPort(from)); err != nil {
					t.Error(err)
				}
				if tt.last == nil {
					return nil
				}
				return [][]byte{answerTo(t, q, address("192.0.2.2"))}
			}, nil))
			if tt.last == nil {
				z.Fwd.Timeout = shortTimeout
			}
			if got := showSorted(reply(z, req(), netip.Addr{}, 512)); got != tt.want {
				t.Errorf("got %v; want %v", got, tt.want)
			}
		}
	})
	t.Run("the question in other letter case", func(t *testing.T) {
		z := newForwardZone(t, startUpstream(t, answer(t, func(m *dns.Msg) { m.Question[0].Name = "WWW.example.COM." }), nil))
		if got, want := showSorted(reply(z, req(), netip.Addr{}, 512)), "NOERROR ra; www.example.com. 77 A 192.0.2.1"; got != want {
			t.Errorf("got %v; want %v", got, want)
		}
	})
}

// rrs parses records, one on a line.
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

// The answer goes back under the client's ID, with the name as it wrote it.
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

// A large answer is whole over TCP, and fits the client's size over UDP.
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

// What an upstream adds must not keep a reply from being cut to the client's
// size.
func TestOPTInAnswerIsNotRelayed(t *testing.T) {
	opt := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT, Class: 1232}}
	for what, change := range map[string]func(*dns.Msg){
		"answer":    func(m *dns.Msg) { m.Answer = append(m.Answer, opt) },
		"authority": func(m *dns.Msg) { m.Ns = append(m.Ns, opt) },
	} {
		z := newForwardZone(t, startUpstream(t, answer(t, change), nil), startUpstream(t, answer(t, address("192.0.2.2")), nil))
		m := reply(z, new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA), netip.Addr{}, 512)
		if got, want := showSorted(m), "NOERROR ra; www.example.com. 77 A 192.0.2.2"; got != want {
			t.Errorf("%s: got %v; want %v of the next upstream", what, got, want)
		}
	}
}

func TestForwardedTSIG(t *testing.T) {
	z := newForwardZone(t, startUpstream(t, answer(t, func(m *dns.Msg) {
		for i := range 60 {
			m.Answer = append(m.Answer, rrs(t, fmt.Sprintf("www.example.com. 77 IN A 10.1.0.%d", i))...)
		}
		m.Extra = []dns.RR{
			&dns.TSIG{Hdr: dns.RR_Header{Name: "key.", Rrtype: dns.TypeTSIG, Class: dns.ClassANY}, Algorithm: "hmac-sha256."},
			&dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT, Class: 1232}}, // behind it, so that no TSIG ends the message
		}
		m.Compress = true
	}), nil))
	m, b, err := packed(z, new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA), netip.Addr{}, 512)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > 512 || !m.Truncated {
		t.Errorf("got %d octets, TC %t; want at most 512, and TC", len(b), m.Truncated)
	}
	if len(m.Extra) != 0 {
		t.Errorf("got %v; want no TSIG: it is between us and the upstream", m.Extra)
	}
}

func TestForwardFreshPortAndID(t *testing.T) {
	const n = 50
	var mu sync.Mutex
	ports, ids := make(map[uint16]bool), make(map[uint16]bool)
	inOrder, last := 0, uint16(0)
	z := newForwardZone(t, startUpstream(t, func(q *dns.Msg, from netip.AddrPort) [][]byte {
		mu.Lock()
		defer mu.Unlock()
		ports[from.Port()], ids[q.Id] = true, true
		if q.Id == last+1 {
			inOrder++
		}
		last = q.Id
		return [][]byte{answerTo(t, q, nil)}
	}, nil))
	for range n {
		req := new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA)
		req.Id = 4711
		if m := reply(z, req, netip.Addr{}, 512); len(m.Answer) != 1 || m.Id != 4711 {
			t.Fatalf("got %v; want an answer under id 4711", m)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	// By chance 50 of 28,232 ports, or of 65,536 ids, hold one pair in 20 runs, and three pairs in 50,000.
	if len(ports) < n-4 {
		t.Errorf("got %d source ports in %d queries; want nearly as many", len(ports), n)
	}
	if len(ids) < n-4 || inOrder > 2 {
		t.Errorf("got %d ids in %d queries, %d of them one more than the last; want random ones", len(ids), n, inOrder)
	}
}

// Queries in flight are bounded, those of a client too: past the bound it gets
// SERVFAIL at once, and afterwards all is as before.
func TestForwardBound(t *testing.T) {
	was := loadNow()
	t.Run("flood", func(t *testing.T) {
		var answers atomic.Bool
		z := newForwardZone(t, startUpstream(t, func(q *dns.Msg, _ netip.AddrPort) [][]byte {
			if !answers.Load() {
				return nil
			}
			return [][]byte{answerTo(t, q, nil)}
		}, nil))
		flood, stop := context.WithCancel(t.Context())
		defer stop()
		held := zone.New(flood, z.Reg, z.Fwd, z.Log)
		ask := func(z *zone.Zone, client, qname string) string {
			return showSorted(replyTo(z, new(dns.Msg).SetQuestion(qname, dns.TypeA), netip.MustParseAddr(client)))
		}
		inFlight := func(client string) int {
			z.Fwd.Mu.Lock()
			defer z.Fwd.Mu.Unlock()
			if client != "" {
				return z.Fwd.OfClient[netip.MustParseAddr(client)]
			}
			return z.Fwd.InFlight
		}
		var wg sync.WaitGroup
		fill := func(client string, count int) {
			t.Helper()
			for i := range count {
				wg.Go(func() { ask(held, client, fmt.Sprintf("%d.example.com.", i%100)) }) // some wait for others' answers
			}
			late := time.Now().Add(patience)
			for inFlight(client) < count {
				if time.Now().After(late) {
					t.Fatalf("got %d queries of %s in flight; want %d", inFlight(client), client, count)
				}
				runtime.Gosched()
			}
		}
		refused := func(client string) {
			t.Helper()
			was := inFlight("")
			for i := range 50 {
				if got, want := ask(z, client, fmt.Sprintf("%d.example.net.", i)), "SERVFAIL ra"; got != want {
					t.Fatalf("%s past the bound: got %v; want %v", client, got, want)
				}
				if got := inFlight(""); got != was { // it did not wait for one of them
					t.Fatalf("got %d queries in flight; want %d", got, was)
				}
			}
		}
		fill("10.0.0.1", forward.MaxClientFlight)
		refused("10.0.0.1")
		for i := 2; i <= forward.MaxInFlight/forward.MaxClientFlight; i++ {
			fill(fmt.Sprintf("10.0.0.%d", i), forward.MaxClientFlight)
		}
		refused("10.0.0.9")
		m := reply(z, new(dns.Msg).SetQuestion("docker.", dns.TypeSOA), netip.Addr{}, 512)
		if len(m.Answer) != 1 {
			t.Errorf("our own names meanwhile: got %v; want the SOA", show(m))
		}
		answers.Store(true)
		stop()
		wg.Wait()
		if got, want := ask(z, "10.0.0.1", "www.example.com."), "NOERROR ra; www.example.com. 77 A 192.0.2.1"; got != want {
			t.Errorf("afterwards: got %v; want %v", got, want)
		}
	})
	was.returnsTo(t)
}

// Ours is never forwarded, whatever the type and whether it exists or not; a
// reverse name only if its address is not known, and one of a single label
// only for what those ask who look things up themselves.
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
		z = zone.New(t.Context(), z.Reg, z.Fwd, z.Log)
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
			{"printer.", false},
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
				want := tt.forwarded || zone.IsOfTLD(qtype) && (tt.qname == "docker." || tt.qname == "printer.")
				if forwarded := slices.Equal(asked, []string{tt.qname}); forwarded != want || !forwarded && len(asked) > 0 {
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

// The end of the program does not wait for upstreams.
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
	z.Ctx = ctx
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

// An upstream that stops answering is logged once, and once when it answers
// again.
func TestForwardLog(t *testing.T) {
	log := newLogWatch()
	var answers atomic.Bool
	up := startUpstream(t, func(q *dns.Msg, _ netip.AddrPort) [][]byte {
		if answers.Load() {
			return [][]byte{answerTo(t, q, nil)}
		}
		return [][]byte{{1}} // junk, and then nothing
	}, nil)
	z := newForwardZone(t, up)
	z.Fwd.Timeout = 10 * time.Millisecond
	z.Fwd.Log = slog.New(slog.NewTextHandler(log, nil))
	ask := func() { reply(z, new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA), netip.Addr{}, 512) }
	for range 2 * forward.FailuresToLog {
		ask()
	}
	log.wait(t, "level=WARN", "upstream="+up.String())
	answers.Store(true)
	z.Fwd.Timeout = patience
	ask()
	ask()
	log.wait(t, "level=INFO", "upstream="+up.String())
	if got := strings.Count(log.String(), "\n"); got != 2 {
		t.Errorf("got %d lines; want 2:\n%s", got, log)
	}
}

// withID makes p a reply under id, and otherwise leaves it as it is.
func withID(p []byte, id uint16) []byte {
	p = slices.Clone(p)
	if len(p) >= 4 {
		binary.BigEndian.PutUint16(p, id)
		p[2] |= 0x80 // QR
		p[2] &^= 0x78 | 0x02
	}
	return p
}

// Whatever an upstream sends, the client gets a reply that fits, and the
// next query its answer.
func TestCorpusReplies(t *testing.T) {
	packets := corpus(t)
	was := loadNow()
	t.Run("replies", func(t *testing.T) {
		var wg sync.WaitGroup
		workers := 4
		for w := range workers {
			var packet atomic.Pointer[[]byte]
			var overTCP atomic.Bool
			evil := func(q *dns.Msg, _ netip.AddrPort) [][]byte {
				return [][]byte{withID(*packet.Load(), q.Id), answerTo(t, q, nil)}
			}
			z := newForwardZone(t, startUpstream(t, func(q *dns.Msg, from netip.AddrPort) [][]byte {
				if overTCP.Load() {
					return answer(t, truncated)(q, from)
				}
				return evil(q, from)
			}, evil))
			z.Fwd.Timeout = forward.UpstreamTimeout // one packet of so many may get lost
			wg.Go(func() {
				for i := w; i < len(packets); i += workers {
					req := new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA)
					p := packets[i]
					m := new(dns.Msg)
					if m.Unpack(p) == nil && len(m.Question) == 1 && m.Question[0].Qclass == dns.ClassINET {
						req.Question = m.Question
					}
					packet.Store(&p)
					overTCP.Store(i/workers%8 == 0)
					m, b, err := packed(z, req, netip.Addr{}, 512)
					if err != nil || len(b) > 512 || m.Id != req.Id || m.Question[0] != req.Question[0] {
						t.Errorf("after %x: got %v, %v, %d octets; want a reply of at most 512", p, m, err, len(b))
						return
					}
					if err := new(dns.Msg).Unpack(b); err != nil {
						t.Errorf("after %x: got %x: %v", p, b, err)
					}
				}
			})
		}
		wg.Wait()
	})
	was.returnsTo(t)
}

// FuzzUpstreamReply: whatever an upstream sends, the reply to the client is
// one to its query and fits, and says when it comes from the cache, on either
// path, what it said at first.
func FuzzUpstreamReply(f *testing.F) {
	z := newForwardZone(f, netip.MustParseAddrPort("127.0.0.1:53")) // is not asked
	z.Fwd.Cache = dnscache.New(1 << 20)
	fast := dnsserver.NewFastPath(z)
	local := zone.Client{Addr: netip.MustParseAddr("127.0.0.1")}
	f.Fuzz(func(t *testing.T, data []byte, forceTTL bool) {
		r := new(dns.Msg)
		if r.Unpack(data) != nil || len(r.Question) != 1 {
			return
		}
		req := new(dns.Msg).SetQuestion(r.Question[0].Name, r.Question[0].Qtype)
		if r.IsEdns0() != nil {
			req.SetEdns0(600, true)
		}
		n, err := dnsname.Parse(r.Question[0].Name)
		if err != nil || r.Question[0].Qclass != dns.ClassINET {
			return
		}
		q := dnscache.NewQuestion(n, r.Question[0].Qtype, zone.QuestionFlags(req))
		w := &forward.Waiter{Query: q.Message(true, false), Replies: make(chan []byte, 1)}
		s := &forward.Socket{Waiting: map[uint16]*forward.Waiter{binary.BigEndian.Uint16(data): w}}
		copy(w.Query, data[:2])
		if s.Deliver(data, nil); len(w.Replies) == 0 {
			return
		}
		if r = new(dns.Msg); r.Unpack(<-w.Replies) != nil || !forward.Relayable(r) || forward.IsFailure(r.Rcode) {
			return
		}
		told, err := z.Fwd.Read(q, r)
		if err != nil {
			return
		}
		z.Fwd.ForceTTL = forceTTL
		z.Fwd.Cache.Clear()
		said, err := told.Message(0)
		if err != nil {
			t.Fatalf("%x can't be read: %v", data, err)
		}
		c := local
		for _, c.Size = range []int{dns.MaxMsgSize, zone.UDPSize(req)} {
			m := z.Blank(req, c, dns.RcodeSuccess)
			z.Relay(m, req, said.Copy(), dns.Question{Name: req.Question[0].Name, Qtype: q.Qtype(), Qclass: dns.ClassINET})
			want, err := zone.Pack(m, c.Size)
			if err != nil {
				t.Fatalf("%v can't be packed: %v", m, err)
			}
			checkReply(t, req, want, c.Size)
			if _, left := z.Reply(req, c); left == nil { // ours
				return
			}
			if z.Fwd.Keep(&forward.Flight{Since: z.Fwd.Cache.Clears.Load()}, told); z.Fwd.Cache.Get(q) == nil {
				continue
			}
			packet, err := req.Pack()
			if err != nil {
				return // the library reads names that it can't write
			}
			got := fast.Answer(packet, c.Addr, dns.MaxMsgSize, nil)
			if got == nil {
				continue
			}
			checkReply(t, req, got, dns.MaxMsgSize)
			a, b := new(dns.Msg), new(dns.Msg)
			if err := errors.Join(a.Unpack(got), b.Unpack(want)); err != nil {
				t.Fatal(err)
			}
			if c.Size == dns.MaxMsgSize && !strings.EqualFold(show(a), show(b)) {
				t.Errorf("from the cache: got %v; want %v", show(a), show(b))
			}
		}
	})
}

// Names go to the upstreams of the longest domain that they are in.
func TestRoutes(t *testing.T) {
	to := func(a string) forward.Server {
		return forward.Server{Addr: startUpstream(t, answer(t, address(a)), nil)}
	}
	log := slog.New(slog.DiscardHandler)
	first := forward.Server{Addr: closedUpstream(t)}
	f := loaded(t, forward.New(forward.Routes[forward.Server]{
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
	if list, _ := f.Upstreams(mustName(t, "corp.example")); list[0].Failures.Load() == 0 {
		t.Error("the first upstream of corp.example was not asked")
	}
}

// Ours is answered to everyone, what is foreign to local clients only.
func TestForwardForLocalClients(t *testing.T) {
	var asked atomic.Int32
	up := startUpstream(t, func(q *dns.Msg, a netip.AddrPort) [][]byte {
		asked.Add(1)
		return answer(t, nil)(q, a)
	}, nil)
	z := newForwardZone(t, up)
	z.Fwd.Clients.Allowed = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("2001:db8:1::/48")}
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
			m, left := z.Reply(req, c)
			if left != nil {
				z.Forward(m, req, *left, c)
			}
			return showSorted(m)
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

// The subnets of this host are local, also public ones and new ones.
func TestClientsOfOwnSubnets(t *testing.T) {
	var c forward.Clients
	found := false
	for _, p := range host.Addrs("") {
		found = true
		if !c.Local(p.Addr()) || !c.Local(p.Masked().Addr()) {
			t.Errorf("%v is not local", p)
		}
	}
	if !found {
		t.Skip("this host has no address")
	}
	known := []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	c.Subnets.Store(&forward.Subnets{List: known, Read: time.Now()})
	if a := netip.MustParseAddr("198.51.100.9"); !c.Local(a) {
		t.Errorf("%v is not local", a)
	}
	c.Subnets.Store(&forward.Subnets{List: known, Read: time.Now().Add(-time.Hour)})
	if a := netip.MustParseAddr("198.51.100.9"); c.Local(a) {
		t.Errorf("%v is local, by what an hour ago was", a)
	}
}

// A CNAME of ours is followed upstream, with what comes of it.
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
