package forward

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnstest"
)

// A referral is no answer: the next upstream is asked, and without one the answer is SERVFAIL.
func TestReferral(t *testing.T) {
	ns := func(m *dns.Msg) {
		m.RecursionAvailable, m.Answer = false, nil
		m.Ns = dnstest.Records(t, "sub.example.com. 300 IN NS ns.sub.example.com.")
	}
	and := func(change func(*dns.Msg)) func(*dns.Msg) {
		return func(m *dns.Msg) { ns(m); change(m) }
	}
	const second, noData = "NOERROR ra; www.example.com. 77 A 192.0.2.2", "NOERROR ra"
	const soa = "example.com. 60 IN SOA a.example.com. b.example.com. 1 2 3 4 60"
	for _, tt := range []struct {
		what   string
		change func(*dns.Msg)
		want   string // with a second upstream
	}{
		{"a referral", ns, second},
		{"one with glue", and(func(m *dns.Msg) { m.Extra = dnstest.Records(t, "ns.sub.example.com. 300 IN A 192.0.2.3") }),
			second},
		{"RA", and(func(m *dns.Msg) { m.RecursionAvailable = true }), noData},
		{"AA", and(func(m *dns.Msg) { m.Authoritative = true }), noData},
		{"a SOA too", and(func(m *dns.Msg) { m.Ns = append(m.Ns, dnstest.Records(t, soa)...) }), "NOERROR ra;; " +
			strings.Replace(soa, " IN", "", 1)},
		{"NXDOMAIN", and(func(m *dns.Msg) { m.Rcode = dns.RcodeNameError }), "NXDOMAIN ra"},
		{"an answer", and(func(m *dns.Msg) { m.Answer = dnstest.Records(t, "www.example.com. 7 IN A 192.0.2.1") }),
			"NOERROR ra; www.example.com. 7 A 192.0.2.1"},
	} {
		for _, bursts := range []bool{false, true} {
			first := dnstest.StartUpstream(t, dnstest.Answer(t, tt.change), nil)
			other := dnstest.StartUpstream(t, dnstest.Answer(t, dnstest.Address("192.0.2.2")), nil)
			f := newCachingForwarder(t, first, other)
			if got := show(asker(t, f, bursts)(queryFor("www.example.com."))); got != tt.want {
				t.Errorf("%s, in bursts %t: got %v; want %v", tt.what, bursts, got, tt.want)
			}
			if tt.want != second {
				continue
			}
			f = newCachingForwarder(t, first)
			if got := show(asker(t, f, bursts)(queryFor("www.example.com."))); got != "SERVFAIL ra" ||
				f.upstream(0).health.isAway() {
				t.Errorf("%s alone, in bursts %t: got %v; want SERVFAIL", tt.what, bursts, got)
			}
		}
	}
}

// A reply of a bare header with an error counts, and after FORMERR and NOTIMP the question is asked without EDNS at
// once.
func TestBareErrors(t *testing.T) {
	for _, code := range []int{dns.RcodeFormatError, dns.RcodeNotImplemented, dns.RcodeServerFailure,
		dns.RcodeRefused} {
		for _, bursts := range []bool{false, true} {
			for _, bare := range []bool{false, true} {
				fail := func(q *dns.Msg) []byte {
					return dnstest.AnswerTo(t, q, func(m *dns.Msg) {
						if dnstest.Rcode(code)(m); bare {
							m.Question = nil
						}
					})
				}
				f := newForwarder(t, dnstest.StartUpstream(t, func(q *dns.Msg, _ netip.AddrPort) [][]byte {
					if q.IsEdns0() != nil {
						return [][]byte{fail(q)}
					}
					return [][]byte{dnstest.AnswerTo(t, q, dnstest.Address("192.0.2.9"))}
				}, nil), dnstest.StartUpstream(t, dnstest.Answer(t, dnstest.Address("192.0.2.2")), nil))
				want := "NOERROR ra; www.example.com. 77 A 192.0.2.2"
				if code == dns.RcodeFormatError || code == dns.RcodeNotImplemented {
					want = strings.Replace(want, "2.2", "2.9", 1)
				}
				begun := time.Now()
				got := show(asker(t, f, bursts)(queryFor("www.example.com.")))
				if got != want || time.Since(begun) > patience/8 || f.upstream(0).health.isAway() {
					t.Errorf("%s, bare %t, in bursts %t: got %v after %v; want %v at once",
						dns.RcodeToString[code], bare, bursts, got, time.Since(begun), want)
				}
			}
		}
	}
}

// Silence about one question, or about one type, is not absence; silence about several different ones, and about a
// probe, is.
func TestSilence(t *testing.T) {
	for _, tt := range []struct {
		what   string
		silent func(dns.Question) bool
		asked  []string
		away   bool
	}{
		{"one name", func(q dns.Question) bool { return strings.HasPrefix(q.Name, "dead.") },
			[]string{"dead.example.com. A", "dead.example.com. A", "dead.example.com. AAAA"}, false},
		{"a type", func(q dns.Question) bool { return q.Qtype == dns.TypeHTTPS },
			[]string{"a.example.com. HTTPS", "b.example.com. HTTPS", "c.example.com. HTTPS",
				"d.example.com. HTTPS"}, false},
		{"all but the root", func(q dns.Question) bool { return q.Name != "." },
			[]string{"a.example.com. A", "b.example.com. AAAA", "c.example.com. A"}, true},
		{"all", func(dns.Question) bool { return true }, []string{"a.example.com. A"}, true},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			var works atomic.Bool
			up := dnstest.StartUpstream(t, func(q *dns.Msg, from netip.AddrPort) [][]byte {
				if tt.silent(q.Question[0]) && !works.Load() {
					return nil
				}
				return dnstest.Answer(t, nil)(q, from)
			}, nil)
			other := dnstest.StartUpstream(t, dnstest.Answer(t, dnstest.Rcode(dns.RcodeNameError)), nil)
			f := newForwarder(t, up, other)
			f.Timeout = probeWait
			for _, text := range tt.asked {
				qname, qtype, _ := strings.Cut(text, " ")
				if got := show(reply(t, f, new(dns.Msg).SetQuestion(qname,
					dns.StringToType[qtype]))); got != "NXDOMAIN ra" {
					t.Errorf("%s: got %v; want the second upstream's answer", text, got)
				}
			}
			h := &f.upstream(0).health
			if tt.away {
				waitFor(t, h.isAway)
			} else {
				waitFor(t, func() bool { h.mu.Lock(); defer h.mu.Unlock(); return !h.probing })
				f.Timeout = patience
			}
			want := "NOERROR ra; host.corp.example. 77 A 192.0.2.1"
			if tt.away {
				want = "NXDOMAIN ra"
			}
			if got := show(reply(t, f, queryFor("host.corp.example."))); got != want {
				t.Errorf("afterwards: got %v; want %v", got, want)
			}
		})
	}
}

// A dead upstream of one domain uses up what a client may ask of it, and nothing else.
func TestBoundOfOneDomain(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	dead, good := dnstest.StartUpstream(t, dnstest.Silent, nil), dnstest.StartUpstream(t, dnstest.Answer(t, nil), nil)
	f := loaded(t, New(Routes{dnsname.Root: servers(good), mustName(t, "corp.example"): servers(dead)}, nil, 0, log))
	f.Timeout = patience
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	for i := range 300 {
		go f.Answer(ctx, questionOf(t, queryFor(fmt.Sprintf("%d.corp.example.", i))), 1, localhost)
	}
	waitFor(t, func() bool { return f.Status().InFlight == maxClientWaiting })
	if got, want := show(reply(t, f,
		queryFor("www.example.com."))), "NOERROR ra; www.example.com. 77 A 192.0.2.1"; got != want {
		t.Errorf("another domain meanwhile: got %v; want %v", got, want)
	}
	g := f.groupFor(mustName(t, "corp.example"))
	stop()
	waitFor(t, f.idle)
	g.upstreams[0].health.away.Store(true)
	for range 2 * maxClientFailing {
		if _, ok := g.enter(localhost); !ok {
			break
		}
	}
	if n := g.waiting.Total(); n != maxClientFailing {
		t.Errorf("%d queries of a client wait for upstreams that are away; want %d", n, maxClientFailing)
	}
}

// The proofs of all zones that signed something in the chain are passed on, and those of others are not.
func TestProofsOfAllZones(t *testing.T) {
	sig := func(owner, covered string, labels int, signer string) string {
		return fmt.Sprintf("%s 300 IN RRSIG %s 13 %d 300 20360101000000 20200101000000 1 %s AAAA\n", owner, covered,
			labels, signer)
	}
	answerText := "x.a.example. 300 IN CNAME t.b.example.\n" + sig("x.a.example.", "CNAME", 2, "a.example.") +
		"t.b.example. 300 IN A 192.0.2.7\n" + sig("t.b.example.", "A", 3, "b.example.")
	good := "a.example. 300 IN NSEC *.a.example. SOA NSEC RRSIG\n" + sig("a.example.", "NSEC", 2, "a.example.") +
		"hash.b.example. 300 IN NSEC3 1 0 0 - 2T7B4G4VSA5SMI47K61MV5BV1A22BOJR A\n" + sig("hash.b.example.",
		"NSEC3", 3, "b.example.")
	bad := "bank.example.net. 300 IN NSEC z.example.net. A\n" + sig("bank.example.net.", "NSEC", 3, "example.net.")
	f := newForwarder(t, dnstest.StartUpstream(t, dnstest.Answer(t,
		func(m *dns.Msg) { m.Answer, m.Ns = dnstest.Records(t, answerText), dnstest.Records(t, good+bad) }), nil))
	for _, do := range []bool{false, true} {
		q := queryFor("x.a.example.")
		want := 0
		if do {
			q.SetEdns0(1232, true)
			want = 4
		}
		if m := reply(t, f, q); len(m.Answer) != 4 || len(m.Ns) != want || strings.Contains(show(m), "bank") {
			t.Errorf("DO %t: got %d and %d records; want 4 and %d: %v", do, len(m.Answer), len(m.Ns), want, show(m))
		}
	}
}

// What the library can't read is passed on as it came, from the cache too.
func TestUnreadableRecords(t *testing.T) {
	const amtrelay = 260
	for _, tt := range []struct {
		rrtype uint16
		data   string
	}{
		{amtrelay, "0a81cb00710f"}, {amtrelay, "0a830572656c6179076578616d706c6503636f6d00"}, {amtrelay,
			"0a01cb00710f"},
		{dns.TypeNXT, "03777777076578616d706c6503636f6d00400000"}, {65280, "00"}, {dns.TypeNSEC,
			"00"}, {dns.TypeTXT, "05"},
	} {
		for _, bursts := range []bool{false, true} {
			f := newCachingForwarder(t, dnstest.StartUpstream(t, dnstest.Answer(t, func(m *dns.Msg) {
				raw(tt.rrtype, tt.data)(m)
				m.Answer[0].Header().Ttl = 60
			}), nil))
			ask := asker(t, f, bursts)
			for range 2 {
				m := ask(new(dns.Msg).SetQuestion("www.example.com.", tt.rrtype))
				b, err := m.Pack()
				if err != nil || len(m.Answer) != 1 || !strings.Contains(fmt.Sprintf("%x", b), tt.data) {
					t.Errorf("type %d %s, in bursts %t: got %v, %v; want it as it came", tt.rrtype, tt.data, bursts,
						m, err)
				}
			}
			if f.upstream(0).health.troubled.Load() {
				t.Errorf("type %d %s: the upstream is taken for absent", tt.rrtype, tt.data)
			}
		}
	}
}

// Reasons of an upstream's error are passed on, and one of our own is given if none replies.
func TestExtendedErrors(t *testing.T) {
	ede := func(code int) func(*dns.Msg) {
		return func(m *dns.Msg) {
			dnstest.Rcode(code)(m)
			m.SetEdns0(1232, false)
			m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeDNSBogus,
				ExtraText: "no RRSIG"}}
		}
	}
	bogus := dnscache.ExtendedError(dns.ExtendedErrorCodeDNSBogus, "no RRSIG")
	for what, tt := range map[string]struct {
		up   []netip.AddrPort
		want []byte
	}{
		"SERVFAIL": {[]netip.AddrPort{dnstest.StartUpstream(t, dnstest.Answer(t, ede(dns.RcodeServerFailure)), nil)},
			bogus},
		"NXDOMAIN": {[]netip.AddrPort{dnstest.StartUpstream(t, dnstest.Answer(t, ede(dns.RcodeNameError)), nil)}, bogus},
		"of the one of both": {[]netip.AddrPort{dnstest.StartUpstream(t, dnstest.Answer(t, ede(dns.RcodeServerFailure)), nil),
			closedUpstream(t)}, bogus},
		"no reply": {[]netip.AddrPort{closedUpstream(t)},
			dnscache.ExtendedError(dns.ExtendedErrorCodeNoReachableAuthority)},
		"no error": {[]netip.AddrPort{dnstest.StartUpstream(t, dnstest.Answer(t, nil), nil)}, nil},
	} {
		f := newForwarder(t, tt.up...)
		r := f.Answer(t.Context(), questionOf(t, queryFor("www.example.com.")), 1, localhost)
		if r == nil || !slices.Equal(r.EDE, tt.want) {
			t.Errorf("%s: got %v; want %x", what, r, tt.want)
		}
	}
}

// An upstream at tcp:// is asked over TCP only, and queries share a connection.
func TestTCPUpstream(t *testing.T) {
	var overUDP, conns atomic.Int32
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	addr := netip.MustParseAddrPort(ln.Addr().String())
	pc, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
	if err != nil {
		t.Skip(err)
	}
	defer pc.Close()
	count := func(*dns.Msg, netip.AddrPort) [][]byte { overUDP.Add(1); return nil }
	go dnstest.Answerer(count).ServeUDP(pc)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Add(1)
			go func() {
				defer c.Close()
				for in := bufio.NewReader(c); ; {
					q, err := read(in)
					if err != nil {
						return
					}
					write(t, c, q)
				}
			}()
		}
	}()
	f := loaded(t, New(Routes{dnsname.Root: {{Addr: addr, TCP: true}}}, nil, 0, slog.New(slog.DiscardHandler)))
	for i := range 20 {
		qname := fmt.Sprintf("%d.example.com.", i)
		if got, want := show(reply(t, f, queryFor(qname))), "NOERROR ra; "+qname+" 77 A 192.0.2.1"; got != want {
			t.Errorf("got %v; want %v", got, want)
		}
	}
	if overUDP.Load() != 0 || conns.Load() != 1 {
		t.Errorf("got %d packets and %d connections; want one connection", overUDP.Load(), conns.Load())
	}
}

// A connection on which nothing comes any more costs a query about a second.
func TestHalfOpenConnection(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := dnstest.NewAuthority(t, dir, "ca.pem")
	cert := ca.Issue(dir, "cert.pem", "key.pem", "dns.example", time.Now().Add(time.Hour))
	addr := serveTLS(t, cert, func(nth int32, c net.Conn) {
		for in, i := bufio.NewReader(c), 0; ; i++ {
			q, err := read(in)
			if err != nil {
				return
			}
			if nth > 1 || i == 0 {
				write(t, c, q)
			}
		}
	})
	f := newTLSForwarder(t, ca, Server{Addr: addr, CertName: "dns.example"})
	reply(t, f, queryFor("a.example.com."))
	begun := time.Now()
	m := reply(t, f, queryFor("b.example.com."))
	if took := time.Since(begun); m.Rcode != dns.RcodeSuccess || took > patience/8 ||
		f.upstream(0).health.isAway() {
		t.Errorf("got %v after %v; want an answer after about %v", show(m), took, resendAfter)
	}
}

// A peer that stops reading blocks neither the status nor the judgement of the upstream.
func TestPeerThatStopsReading(t *testing.T) {
	a, b := net.Pipe() // takes nothing while the other end does not read
	defer b.Close()
	f := loaded(t, New(Routes{dnsname.Root: {{Addr: closedUpstream(t), TCP: true}}}, nil, 0,
		slog.New(slog.DiscardHandler)))
	u := f.upstream(0)
	u.link = &link{made: make(chan struct{}), socket: newSocket(a, 0)}
	close(u.link.made)
	ctx, stop := context.WithTimeout(t.Context(), writeTime/2)
	defer stop()
	for range 5 {
		go func() { _, _ = u.ask(ctx, query{Question: questionOf(t, queryFor("a.example."))}, nil) }()
	}
	waitFor(t, func() bool { return len(u.link.socket.writing) == 1 })
	begun := time.Now()
	f.Status()
	u.health.isAway()
	u.link.socket.heardSince(begun)
	u.connection()
	if took := time.Since(begun); took > 3*writeTime/4 {
		t.Errorf("took %v while a write is blocked", took)
	}
}

// The cache is emptied when the servers of a resolv.conf changed, not when a byte did.
func TestResolvConfOfSameServers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("nameserver 192.0.2.53\n")
	f := loaded(t, New(Routes{dnsname.Root: {{File: file}}}, nil, 1<<20, slog.New(slog.DiscardHandler)))
	was := f.Cache.Generation()
	write("# changed\nsearch example.org\nnameserver 192.0.2.53\noptions rotate\n")
	if loaded(t, f); f.Cache.Generation() != was {
		t.Error("the cache was emptied, though the servers are the same")
	}
	write("nameserver 192.0.2.54\n")
	if loaded(t, f); f.Cache.Generation() == was {
		t.Error("the cache was not emptied, though the server is another one")
	}
}
