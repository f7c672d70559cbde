package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/zone"
)

// An upstream that is broken in some way costs the first query little, and
// those after it nothing.
func TestBrokenUpstream(t *testing.T) {
	other, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	one := func(f func(q *dns.Msg) []byte) answerer {
		return func(q *dns.Msg, _ netip.AddrPort) [][]byte { return [][]byte{f(q)} }
	}
	changed := func(change func(*dns.Msg)) answerer { return answer(t, change) }
	for _, tt := range []struct {
		what     string
		udp, tcp answerer // nil: a closed port
		asked    bool     // for each query: it says itself that it can't help
	}{
		{"closed port", nil, nil, false},
		{"silent", silent, nil, false},
		{"wrong ID", changed(func(m *dns.Msg) { m.Id++ }), nil, false},
		{"wrong question", changed(func(m *dns.Msg) { m.Question[0].Name = "w.example.com." }), nil, false},
		{"wrong class", changed(func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }), nil, false},
		{"wrong sender", func(q *dns.Msg, from netip.AddrPort) [][]byte {
			_, _ = other.WriteTo(answerTo(t, q, nil), net.UDPAddrFromAddrPort(from)) // whoever asked may be gone
			return nil
		}, nil, false},
		{"garbage", one(func(*dns.Msg) []byte { return []byte(strings.Repeat("garbage", 20)) }), nil, false},
		{"empty", one(func(*dns.Msg) []byte { return nil }), nil, false},
		{"malformed", one(func(q *dns.Msg) []byte { b := answerTo(t, q, nil); return b[:len(b)-1] }), nil, false},
		{"SERVFAIL", changed(rcode(dns.RcodeServerFailure)), nil, true},
		{"REFUSED", changed(rcode(dns.RcodeRefused)), nil, true},
		{"NOTIMP", changed(rcode(dns.RcodeNotImplemented)), nil, true},
		{"FORMERR", changed(rcode(dns.RcodeFormatError)), nil, true},
		{"BADVERS", changed(func(m *dns.Msg) { m.SetEdns0(1232, false); m.Rcode, m.Answer = dns.RcodeBadVers, nil }), nil, true},
		{"TC, then TCP closed", changed(truncated), nil, true},
		{"TC, then TCP garbage", changed(truncated), one(func(*dns.Msg) []byte { return []byte("garbage") }), true},
	} {
		for _, inBursts := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, in bursts %t", tt.what, inBursts), func(t *testing.T) {
				t.Parallel()
				var asked atomic.Int32
				udp := tt.udp
				if udp != nil {
					udp = func(q *dns.Msg, from netip.AddrPort) [][]byte {
						asked.Add(1)
						return tt.udp(q, from)
					}
				}
				first := startUpstream(t, udp, tt.tcp)
				z := newForwardZone(t, first, startUpstream(t, answer(t, address("192.0.2.2")), nil))
				z.Fwd.Timeout = forward.UpstreamTimeout
				addr := "127.0.0.1:" + serveZone(t, z, "127.0.0.1:0")
				if inBursts {
					alwaysShared(z)
				}
				var times []time.Duration
				for i := range 20 {
					begun := time.Now()
					r := exchange(t, "udp", addr, new(dns.Msg).SetQuestion(fmt.Sprintf("%d.example.com.", i), dns.TypeA))
					times = append(times, time.Since(begun))
					if got, want := showSorted(r), fmt.Sprintf("NOERROR ra; %d.example.com. 77 A 192.0.2.2", i); got != want {
						t.Fatalf("got %v; want %v", got, want)
					}
				}
				rest := slices.Sorted(slices.Values(times[1:]))
				t.Logf("first %v, then the median %v, the worst %v; the broken one was asked %d times", times[0], rest[len(rest)/2], rest[len(rest)-1], asked.Load())
				if !tt.asked && asked.Load() > 3 { // the first query, sent again after a second, and perhaps a look whether it works now
					t.Errorf("the broken upstream was asked %d times; want it left alone", asked.Load())
				}
			})
		}
	}
}

// alwaysShared has all queries of a zone share sockets, as they do past
// maxFresh in a second.
func alwaysShared(z *zone.Zone) {
	for _, list := range *z.Fwd.Routes.Load() {
		for _, u := range list {
			u.Mu.Lock() // the readers may be there already
			u.MaxFresh = 0
			u.Mu.Unlock()
		}
	}
}

// A true reply that comes after junk, and one that comes twice, are taken once.
func TestJunkAndDuplicates(t *testing.T) {
	for _, inBursts := range []bool{false, true} {
		z := newForwardZone(t, startUpstream(t, func(q *dns.Msg, _ netip.AddrPort) [][]byte {
			good := answerTo(t, q, nil)
			return [][]byte{{}, []byte("junk"), answerTo(t, q, func(m *dns.Msg) { m.Id++ }), answerTo(t, q, func(m *dns.Msg) { m.Question[0].Qtype = 99 }),
				good[:len(good)-3], good, good, good}
		}, nil), startUpstream(t, answer(t, address("192.0.2.2")), nil))
		addr := "127.0.0.1:" + serveZone(t, z, "127.0.0.1:0")
		if inBursts {
			alwaysShared(z)
		}
		for i := range 50 {
			r := exchange(t, "udp", addr, new(dns.Msg).SetQuestion(fmt.Sprintf("%d.example.com.", i), dns.TypeA))
			if got, want := showSorted(r), fmt.Sprintf("NOERROR ra; %d.example.com. 77 A 192.0.2.1", i); got != want {
				t.Fatalf("in bursts %t: got %v; want %v", inBursts, got, want)
			}
		}
	}
}

// An upstream without EDNS is asked without it.
func TestUpstreamWithoutEDNS(t *testing.T) {
	var asked atomic.Int32
	z := newForwardZone(t, startUpstream(t, func(q *dns.Msg, from netip.AddrPort) [][]byte {
		asked.Add(1)
		if q.IsEdns0() != nil {
			return answer(t, rcode(dns.RcodeFormatError))(q, from)
		}
		return answer(t, nil)(q, from)
	}, nil))
	if got, want := showSorted(reply(z, new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA), netip.Addr{}, 512)), "NOERROR ra; www.example.com. 77 A 192.0.2.1"; got != want || asked.Load() != 2 {
		t.Errorf("got %v after %d queries; want %v after 2", got, asked.Load(), want)
	}
}

// Whatever is in a reply, all of it that answers the question comes back.
func TestLargeAndLongReplies(t *testing.T) {
	many := func(m *dns.Msg) { // as much as a message can hold
		m.Answer, m.Compress = nil, true
		for i := range 4090 {
			m.Answer = append(m.Answer, &dns.A{Hdr: zone.Header(m.Question[0].Name, dns.TypeA, 60), A: net.IPv4(10, 0, byte(i>>8), byte(i))})
		}
	}
	chainOf := func(n int) func(*dns.Msg) {
		return func(m *dns.Msg) {
			a := m.Answer[0].(*dns.A)
			m.Answer = nil
			for i := range n {
				m.Answer = append(m.Answer, &dns.CNAME{Hdr: zone.Header(a.Hdr.Name, dns.TypeCNAME, 60), Target: fmt.Sprintf("c%d.example.com.", i)})
				a.Hdr.Name = fmt.Sprintf("c%d.example.com.", i)
			}
			slices.Reverse(m.Answer) // in any order
			m.Answer = append(m.Answer, a)
		}
	}
	loop := func(m *dns.Msg) {
		m.Answer = rrs(t, "www.example.com. 60 IN CNAME a.example.com.\na.example.com. 60 IN CNAME www.example.com.")
	}
	for _, tt := range []struct {
		what    string
		change  func(*dns.Msg)
		records int
	}{{"65,535 octets", many, 4090}, {"a chain", chainOf(5), 6}, {"a chain without end", chainOf(100), forward.MaxChain}, {"a loop", loop, forward.MaxChain}} {
		for _, inBursts := range []bool{false, true} {
			z := newForwardZone(t, startUpstream(t, func(q *dns.Msg, from netip.AddrPort) [][]byte {
				if b := answerTo(t, q, tt.change); len(b) < 1232 {
					return [][]byte{b}
				}
				return answer(t, truncated)(q, from)
			}, answer(t, tt.change)))
			addr := "127.0.0.1:" + serveZone(t, z, "127.0.0.1:0")
			if inBursts {
				alwaysShared(z)
			}
			if r := exchange(t, "tcp", addr, new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA)); len(r.Answer) != tt.records || r.Rcode != 0 {
				t.Errorf("%s, in bursts %t: got %d records; want %d", tt.what, inBursts, len(r.Answer), tt.records)
			}
			r := exchange(t, "udp", addr, new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA))
			if len(r.Answer) == 0 || r.Truncated != (len(r.Answer) < tt.records) {
				t.Errorf("%s over UDP, in bursts %t: got %d records, TC %t", tt.what, inBursts, len(r.Answer), r.Truncated)
			}
		}
	}
}

// Up to 1,000 queries in a second have a port of their own; those past that
// share many ports, each for no more than 100 queries or 10 seconds.
func TestUpstreamPorts(t *testing.T) {
	var mu sync.Mutex
	ports, ids := make(map[uint16]int), make(map[uint16]bool)
	z := newForwardZone(t, startUpstream(t, func(q *dns.Msg, from netip.AddrPort) [][]byte {
		mu.Lock()
		defer mu.Unlock()
		ports[from.Port()]++
		ids[q.Id] = true
		return [][]byte{answerTo(t, q, nil)}
	}, nil))
	ask := func(count int) {
		t.Helper()
		mu.Lock()
		clear(ports)
		clear(ids)
		mu.Unlock()
		for i := range count {
			if m := reply(z, new(dns.Msg).SetQuestion(fmt.Sprintf("%d.example.com.", i), dns.TypeA), netip.Addr{}, 512); len(m.Answer) != 1 {
				t.Fatalf("got %v; want an answer", show(m))
			}
		}
	}
	ask(400)
	mu.Lock()
	if len(ports) < 390 || len(ids) < 390 {
		t.Errorf("got %d ports and %d IDs in 400 queries; want 390 of each", len(ports), len(ids))
	}
	mu.Unlock()
	u := (*z.Fwd.Routes.Load())[dnsname.Root][0]
	shared := make(map[*forward.Socket]bool)
	count := 0
	for range 30_000 { // as if they were asked
		s := sharedSocket(t, u)
		shared[s] = true
		count++
		s.End(new(forward.Waiter))
	}
	for s := range shared {
		s.Mu.Lock()
		used := s.Used
		s.Mu.Unlock()
		if used > forward.SocketUses {
			t.Errorf("a socket was used %d times", used)
		}
	}
	// 30,000 by 100 are 300 at least; of 256 that are drawn at random some are not used up.
	if len(shared) < 300 || len(shared) > 30_000/forward.SocketUses+forward.PoolSize {
		t.Errorf("got %d shared sockets in %d queries; want %d to %d", len(shared), count, 300, 30_000/forward.SocketUses+forward.PoolSize)
	}
	old := sharedSocket(t, u)
	old.End(new(forward.Waiter))
	for _, s := range u.Pool {
		if s != nil {
			s.Mu.Lock()
			s.Born = s.Born.Add(-forward.SocketAge)
			s.Mu.Unlock()
		}
	}
	for range 2000 {
		s := sharedSocket(t, u)
		if shared[s] {
			t.Fatal("a socket is used after 10 s")
		}
		s.End(new(forward.Waiter))
	}
}

// sharedSocket returns a shared socket of u, for one query.
func sharedSocket(t *testing.T, u *forward.Upstream) *forward.Socket {
	t.Helper()
	u.Mu.Lock()
	defer u.Mu.Unlock()
	s, err := u.SharedLocked()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Shared sockets that nobody uses are closed, and what was out on them ends.
func TestSharedSocketsEnd(t *testing.T) {
	was := loadNow()
	t.Run("flood", func(t *testing.T) {
		z := newForwardZone(t, startUpstream(t, silent, nil))
		z.Fwd.Timeout = shortTimeout
		addr := "127.0.0.1:" + serveZone(t, z, "127.0.0.1:0")
		alwaysShared(z)
		c, err := net.Dial("udp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		const queries = 2000 // of which some are past the bound, and answered at once
		for i := range queries {
			if _, err := c.Write(packQuery(t, uint16(i), fmt.Sprintf("%d.example.com.", i), dns.TypeA)); err != nil {
				t.Fatal(err)
			}
		}
		_ = c.SetReadDeadline(time.Now().Add(patience))
		buf := make([]byte, 512)
		failed := 0
		for !z.Idle() || failed == 0 {
			n, err := c.Read(buf)
			if err != nil {
				t.Fatalf("after %d replies: %v", failed, err)
			}
			if n > 3 && buf[3]&0xf == dns.RcodeServerFailure {
				failed++
			}
		}
		t.Logf("%d of %d were told SERVFAIL; a packet may get lost", failed, queries)
	})
	was.returnsTo(t)
}

// Many clients at once, in bursts: each gets the answer to its own question.
func TestBursts(t *testing.T) {
	z := newForwardZone(t, startUpstream(t, func(q *dns.Msg, _ netip.AddrPort) [][]byte {
		var i byte
		_, _ = fmt.Sscan(q.Question[0].Name, &i)
		switch i % 7 {
		case 1:
			return [][]byte{answerTo(t, q, rcode(dns.RcodeNameError))}
		case 2:
			return [][]byte{answerTo(t, q, truncated)}
		case 3:
			return [][]byte{answerTo(t, q, rcode(dns.RcodeServerFailure))}
		case 4:
			return [][]byte{answerTo(t, q, func(m *dns.Msg) {
				for range 60 {
					m.Answer = append(m.Answer, m.Answer[0])
				}
				m.Compress = true
			})}
		}
		return [][]byte{answerTo(t, q, func(m *dns.Msg) { m.Answer[0].(*dns.A).A = net.IPv4(192, 0, 2, i) })}
	}, answer(t, address("192.0.2.99"))))
	addr := "127.0.0.1:" + serveZone(t, z, "127.0.0.1:0")
	alwaysShared(z)
	var wg sync.WaitGroup
	for w := range 20 {
		wg.Go(func() {
			for i := range 50 {
				i := byte(i*20 + w)
				qname := fmt.Sprintf("%d.%d.example.com.", i, w)
				want := map[byte]string{1: "NXDOMAIN ra", 2: "NOERROR ra; " + qname + " 77 A 192.0.2.99", 3: "SERVFAIL ra"}[i%7]
				r := exchange(t, "udp", addr, new(dns.Msg).SetQuestion(qname, dns.TypeA))
				if want == "" {
					want = fmt.Sprintf("NOERROR ra; %s 77 A 192.0.2.%d", qname, i)
				}
				if i%7 == 4 {
					if !r.Truncated || len(r.Answer) == 0 {
						t.Errorf("%s: got %d records, TC %t; want some, and TC", qname, len(r.Answer), r.Truncated)
					}
				} else if got := showSorted(r); got != want {
					t.Errorf("got %v; want %v", got, want)
				}
			}
		})
	}
	wg.Wait()
	waitFor(t, z.Idle)
}

// Two that have each other as their upstream don't ask for ever: the client is
// told SERVFAIL, and the log once.
func TestForwardingLoop(t *testing.T) {
	log := newLogWatch()
	zones := [2]*zone.Zone{newForwardZone(t), newForwardZone(t)}
	var addrs [2]netip.AddrPort
	for i, z := range zones {
		z.Fwd.Asks = true // before its first query
		z.Fwd.Timeout = 200 * time.Millisecond
		addrs[i] = netip.MustParseAddrPort("127.0.0.1:" + serveZone(t, z, "127.0.0.1:0"))
	}
	zones[0].Fwd.Log = slog.New(slog.NewTextHandler(log, nil))
	for i, z := range zones {
		z.Fwd.Servers = forward.Routes[forward.Server]{dnsname.Root: servers(addrs[1-i])}
		z.Fwd.SetRoutes(nil)
	}
	for i := range 5 {
		r := exchange(t, "udp", addrs[0].String(), new(dns.Msg).SetQuestion(fmt.Sprintf("%d.example.com.", i), dns.TypeA))
		if got, want := showSorted(r), "SERVFAIL ra"; got != want {
			t.Errorf("got %v; want %v", got, want)
		}
	}
	log.wait(t, "forwarding loop", "upstream="+addrs[1].String())
	if n := strings.Count(log.String(), "forwarding loop"); n != 1 {
		t.Errorf("got %d lines about it; want one:\n%s", n, log)
	}
}

// Our own query, sent back here as a packet filter does that has all queries
// sent to dnsdock, is SERVFAIL at once.
func TestOwnQueryComesBack(t *testing.T) {
	log := newLogWatch()
	var back atomic.Pointer[zone.Zone]
	echo := make(chan string, 10)
	z := newForwardZone(t, startUpstream(t, func(q *dns.Msg, _ netip.AddrPort) [][]byte {
		m := replyTo(back.Load(), q, netip.MustParseAddr("10.9.9.9"))
		echo <- showSorted(m)
		m.Id = q.Id
		b, err := m.Pack()
		if err != nil {
			t.Error(err)
		}
		return [][]byte{b}
	}, nil))
	z.Fwd.Log = slog.New(slog.NewTextHandler(log, nil))
	back.Store(z)
	for range 2 {
		if got, want := showSorted(reply(z, new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA), netip.Addr{}, 512)), "SERVFAIL ra"; got != want {
			t.Errorf("got %v; want %v", got, want)
		}
		if got, want := <-echo, "SERVFAIL ra"; got != want {
			t.Errorf("the echo got %v; want %v", got, want)
		}
	}
	if n := strings.Count(log.String(), "forwarding loop"); n != 1 {
		t.Errorf("got %d lines about it; want one:\n%s", n, log)
	}
}

// A resolv.conf is followed when it changes; dnsdock's own addresses in it are
// left out, and what can't be used changes nothing.
func TestResolvConf(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	own := netip.MustParseAddrPort("127.0.0.1:53")
	write("# a comment\nsearch example.com\nnameserver 127.0.0.1\nnameserver  192.0.2.53 # first\nnameserver 2001:db8::53\nnameserver fe80::1%eth0\nnameserver nonsense\nnameserver\nnameserver 192.0.2.53\noptions ndots:5\n")
	f := forward.New(forward.Routes[forward.Server]{dnsname.Root: {{File: file}, {Addr: netip.MustParseAddrPort("9.9.9.9:53")}}, mustName(t, "corp.example"): {{File: file}}}, nil, 0, slog.New(slog.DiscardHandler))
	f.IsSelf = func(a netip.AddrPort) bool { return a == own }
	show := func() string {
		return fmt.Sprint((*f.Routes.Load())[dnsname.Root], (*f.Routes.Load())[mustName(t, "corp.example")])
	}
	const first = "[192.0.2.53:53 [2001:db8::53]:53 [fe80::1%eth0]:53 9.9.9.9:53] [192.0.2.53:53 [2001:db8::53]:53 [fe80::1%eth0]:53]"
	loaded(t, f)
	if got := show(); got != first {
		t.Errorf("got %v; want %v", got, first)
	}
	kept := (*f.Routes.Load())[dnsname.Root][0]
	for what, text := range map[string]string{"empty": "", "no nameserver": "search example.com\n"} {
		write(text)
		if err := f.Load(); err == nil || !strings.Contains(err.Error(), "nameserver 192.0.2.53") {
			t.Errorf("%s: got error %v; want one that says what to write", what, err)
		}
		if got := show(); got != first {
			t.Errorf("%s: got %v; want what was there before", what, got)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := f.Load(); err == nil || show() != first {
		t.Errorf("no file: got %v, %v; want an error, and what was there before", err, show())
	}
	write("nameserver 192.0.2.53\nnameserver 192.0.2.54")
	loaded(t, f)
	if got, want := show(), "[192.0.2.53:53 192.0.2.54:53 9.9.9.9:53] [192.0.2.53:53 192.0.2.54:53]"; got != want {
		t.Errorf("got %v; want %v", got, want)
	}
	if (*f.Routes.Load())[dnsname.Root][0] != kept {
		t.Error("an upstream that stays is another one now: what is known of it is lost")
	}
}

// startTLSUpstream is an upstream by DNS over TLS. It closes a connection
// after that many queries, and counts connections.
func startTLSUpstream(t *testing.T, cert tls.Certificate, queries int, f answerer) (addr netip.AddrPort, conns *atomic.Int32) {
	t.Helper()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	conns = new(atomic.Int32)
	var wg sync.WaitGroup
	t.Cleanup(func() {
		_ = ln.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return // closed
			}
			conns.Add(1)
			stop := make(chan struct{})
			t.Cleanup(func() { _ = c.Close(); <-stop })
			go func() {
				defer close(stop)
				defer c.Close()
				in := bufio.NewReader(c)
				for range queries {
					var size [2]byte
					if _, err := io.ReadFull(in, size[:]); err != nil {
						return
					}
					b := make([]byte, binary.BigEndian.Uint16(size[:]))
					if _, err := io.ReadFull(in, b); err != nil {
						return
					}
					q := new(dns.Msg)
					if err := q.Unpack(b); err != nil || len(b)%dnscache.Padding != 0 {
						t.Errorf("got a query of %d octets, %v; want it padded", len(b), err)
						return
					}
					for _, p := range f(q, netip.AddrPort{}) {
						_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(p))), p...))
					}
				}
			}()
		}
	})
	return netip.MustParseAddrPort(ln.Addr().String()), conns
}

// newTLSZone returns a zone with an upstream over TLS, whose certificate is to
// be signed by a.
func newTLSZone(t *testing.T, a *dnstest.Authority, s forward.Server) *zone.Zone {
	t.Helper()
	s.Tls = true
	z := newForwardZone(t)
	z.Fwd.Asks = true
	z.Fwd.Roots = x509.NewCertPool()
	z.Fwd.Roots.AddCert(a.Cert)
	z.Fwd.Servers = forward.Routes[forward.Server]{dnsname.Root: {s}}
	z.Fwd.SetRoutes(nil)
	return z
}

// Queries share a connection over TLS, and where that was closed get another.
func TestTLSUpstream(t *testing.T) {
	dir := t.TempDir()
	ca := dnstest.NewAuthority(t, dir, "ca.pem")
	cert := ca.Issue(dir, "cert.pem", "key.pem", "dns.example", time.Now().Add(time.Hour))
	addr, conns := startTLSUpstream(t, cert, 10, answer(t, nil))
	z := newTLSZone(t, ca, forward.Server{Addr: addr, Name: "dns.example"})
	ask := func(i int) {
		t.Helper()
		m := reply(z, new(dns.Msg).SetQuestion(fmt.Sprintf("%d.example.com.", i), dns.TypeA), netip.Addr{}, 512)
		if got, want := showSorted(m), fmt.Sprintf("NOERROR ra; %d.example.com. 77 A 192.0.2.1", i); got != want {
			t.Errorf("got %v; want %v", got, want)
		}
	}
	for i := range 10 {
		ask(i)
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("got %d connections for 10 queries; want one", n)
	}
	for i := range 90 {
		ask(i)
	}
	if n := conns.Load(); n != 10 {
		t.Errorf("got %d connections for 100 queries, of an upstream that closes after 10; want 10", n)
	}
}

// An upstream over TLS that is not who it should be is not asked.
func TestTLSUpstreamIsVerified(t *testing.T) {
	dir := t.TempDir()
	ca, other := dnstest.NewAuthority(t, dir, "ca.pem"), dnstest.NewAuthority(t, dir, "other.pem")
	hour := time.Now().Add(time.Hour)
	for _, tt := range []struct {
		what string
		cert tls.Certificate
		name string
		good bool
	}{
		{"good", ca.Issue(dir, "1", "1k", "dns.example", hour), "dns.example", true},
		{"by address", ca.Issue(dir, "2", "2k", "127.0.0.1", hour), "", true},
		{"wrong name", ca.Issue(dir, "3", "3k", "dns.example", hour), "dns.example.net", false},
		{"name for an address", ca.Issue(dir, "4", "4k", "dns.example", hour), "", false},
		{"expired", ca.Issue(dir, "5", "5k", "dns.example", time.Now().Add(-time.Minute)), "dns.example", false},
		{"another authority", other.Issue(dir, "6", "6k", "dns.example", hour), "dns.example", false},
	} {
		addr, _ := startTLSUpstream(t, tt.cert, 10, answer(t, nil))
		z := newTLSZone(t, ca, forward.Server{Addr: addr, Name: tt.name})
		want := "SERVFAIL ra"
		if tt.good {
			want = "NOERROR ra; www.example.com. 77 A 192.0.2.1"
		}
		if got := showSorted(reply(z, new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA), netip.Addr{}, 512)); got != want {
			t.Errorf("%s: got %v; want %v", tt.what, got, want)
		}
	}
}

// DNS over TLS with unbound, which has a certificate of ours.
func TestTLSWithUnbound(t *testing.T) {
	dnstest.Needs(t, "unbound")
	dir := t.TempDir()
	ca := dnstest.NewAuthority(t, dir, "ca.pem")
	for _, tt := range []struct {
		what, name string
		until      time.Duration
		good       bool
	}{{"good", "dns.example", time.Hour, true}, {"wrong name", "dns.example.net", time.Hour, false}, {"expired", "dns.example", -time.Minute, false}} {
		ca.Issue(dir, "cert.pem", "key.pem", "dns.example", time.Now().Add(tt.until))
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := netip.MustParseAddrPort(ln.Addr().String())
		_ = ln.Close() // unbound takes it
		conf := filepath.Join(dir, "unbound.conf")
		if err := os.WriteFile(conf, fmt.Appendf(nil, `server:
  interface: 127.0.0.1@%d
  tls-port: %[1]d
  tls-service-key: "%s/key.pem"
  tls-service-pem: "%[2]s/cert.pem"
  chroot: ""
  username: ""
  pidfile: ""
  directory: "%[2]s"
  use-syslog: no
  local-zone: "example.com." static
  local-data: "www.example.com. 60 A 192.0.2.1"
remote-control:
  control-enable: no
`, addr.Port(), dir), 0o600); err != nil {
			t.Fatal(err)
		}
		unbound := exec.CommandContext(t.Context(), "unbound", "-d", "-c", conf)
		if err := unbound.Start(); err != nil {
			t.Fatal(err)
		}
		waitFor(t, func() bool {
			c, err := net.Dial("tcp", addr.String())
			if err == nil {
				_ = c.Close()
			}
			return err == nil
		})
		z := newTLSZone(t, ca, forward.Server{Addr: addr, Name: tt.name})
		want := "SERVFAIL ra"
		if tt.good {
			want = "NOERROR ra; www.example.com. 60 A 192.0.2.1"
		}
		for range 3 {
			if got := showSorted(reply(z, new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA), netip.Addr{}, 512)); got != want {
				t.Errorf("%s: got %v; want %v", tt.what, got, want)
			}
		}
		_ = unbound.Process.Kill()
		_ = unbound.Wait() // it was killed
	}
}

// An upstream that was away is asked again by and by, and no client waits for
// that.
func TestUpstreamComesBack(t *testing.T) {
	var works atomic.Bool
	var asked atomic.Int32
	first := startUpstream(t, func(q *dns.Msg, from netip.AddrPort) [][]byte {
		asked.Add(1)
		if works.Load() {
			return answer(t, nil)(q, from)
		}
		return nil
	}, nil)
	z := newForwardZone(t, first, startUpstream(t, answer(t, address("192.0.2.2")), nil))
	z.Fwd.Timeout = shortTimeout
	ask := func() string {
		m := reply(z, new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA), netip.Addr{}, 512)
		return m.Answer[0].(*dns.A).A.String()
	}
	ask()
	works.Store(true)
	if ask(); asked.Load() != 1 {
		t.Errorf("the one that failed was asked %d times; want once", asked.Load())
	}
	(*z.Fwd.Routes.Load())[dnsname.Root][0].Retry.Store(0) // some time later
	if got := ask(); got != "192.0.2.2" {
		t.Errorf("got %v; want the answer of the one that works: no client is to find out", got)
	}
	waitFor(t, func() bool { return ask() == "192.0.2.1" })
}
