package main

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/host"
)

// A resolv.conf that now names only dnsdock itself (as that of a host which
// uses it) names nobody: what it said last goes on.
func TestResolvConfOfOwnAddressOnly(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	_ = os.WriteFile(file, []byte("nameserver 192.0.2.53\n"), 0o644)
	f := forward.New(forward.Routes[forward.Server]{dnsname.Root: {{File: file}}}, nil, 0, slog.New(slog.DiscardHandler))
	f.IsSelf = func(a netip.AddrPort) bool { return a.Addr().IsLoopback() }
	loaded(t, f)
	_ = os.WriteFile(file, []byte("nameserver 127.0.0.1\n"), 0o644)
	err := f.Load()
	if list, _ := f.Upstreams(mustName(t, "www.example")); len(list) != 1 {
		t.Errorf("got upstreams %v (error %v); want the one from before: now all names are REFUSED", list, err)
	}
}

// A path that is no file does not hang dnsdock.
func TestResolvConfFIFO(t *testing.T) {
	file := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(file, 0o644); err != nil {
		t.Skip(err)
	}
	done := make(chan error, 1)
	go func() { _, err := host.ReadFile(file, forward.MaxResolvConf); done <- err }()
	select {
	case <-done:
	case <-time.After(2 * time.Second):
		w, _ := os.OpenFile(file, os.O_WRONLY, 0)
		w.Close()
		t.Error("reading a pipe as resolv.conf hangs the start")
	}
}

// A resolv.conf of many lines does not leave each upstream no time at all.
func TestResolvConfOfManyLines(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	var text strings.Builder
	for i := range 200 {
		fmt.Fprintf(&text, "nameserver 192.0.2.%d\n", i)
	}
	_ = os.WriteFile(file, []byte(text.String()), 0o644)
	f := loaded(t, forward.New(forward.Routes[forward.Server]{dnsname.Root: {{File: file}}}, nil, 0, slog.New(slog.DiscardHandler)))
	if list, _ := f.Upstreams(mustName(t, "www.example")); len(list) > 8 {
		t.Errorf("got %d upstreams: each has %v", len(list), 2*f.Timeout/time.Duration(len(list)))
	}
}

// slowUpstream answers each query after some time, all at once.
func slowUpstream(t *testing.T, by time.Duration) netip.AddrPort {
	pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pc.Close() })
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := pc.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			q := new(dns.Msg)
			if q.Unpack(buf[:n]) != nil {
				continue
			}
			time.AfterFunc(by, func() { _, _ = pc.WriteToUDPAddrPort(answerTo(t, q, nil), from) })
		}
	}()
	return netip.MustParseAddrPort(pc.LocalAddr().String())
}

// Good upstreams that are slow, as with a cold cache, answer also where there
// are several.
func TestSeveralSlowUpstreams(t *testing.T) {
	for _, tt := range []struct {
		n      int
		slow   time.Duration
		bursts bool
	}{{1, 3200 * time.Millisecond, false}, {1, 3200 * time.Millisecond, true}, {2, 1500 * time.Millisecond, false}, {2, 1500 * time.Millisecond, true}, {3, 1500 * time.Millisecond, false}, {3, 1500 * time.Millisecond, true}, {4, 1200 * time.Millisecond, false}, {8, 900 * time.Millisecond, false}} {
		t.Run(fmt.Sprint(tt), func(t *testing.T) {
			t.Parallel()
			var ups []netip.AddrPort
			for range tt.n {
				ups = append(ups, slowUpstream(t, tt.slow))
			}
			z := newForwardZone(t, ups...)
			z.Fwd.Timeout = forward.UpstreamTimeout
			addr := "127.0.0.1:" + serveZone(t, z, "127.0.0.1:0")
			if tt.bursts {
				alwaysShared(z)
			}
			begun := time.Now()
			r := exchange(t, "udp", addr, new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA))
			t.Log(showSorted(r), time.Since(begun))
			if r.Rcode != 0 {
				t.Errorf("got %v after %v", showSorted(r), time.Since(begun))
			}
		})
	}
}

// What is stale goes out where no upstream answers, and not because the first
// one can't tell all by UDP.
func TestStaleInBursts(t *testing.T) {
	for what, ups := range map[string][]netip.AddrPort{
		"TC":       {startUpstream(t, answer(t, truncated), answer(t, address("192.0.2.9")))},
		"SERVFAIL": {startUpstream(t, answer(t, rcode(dns.RcodeServerFailure)), nil), startUpstream(t, answer(t, address("192.0.2.9")), nil)},
		"no EDNS": {startUpstream(t, func(q *dns.Msg, from netip.AddrPort) [][]byte {
			if q.IsEdns0() != nil {
				return answer(t, rcode(dns.RcodeFormatError))(q, from)
			}
			return answer(t, address("192.0.2.9"))(q, from)
		}, nil)},
	} {
		for _, bursts := range []bool{false, true} {
			z := newCachingZone(t, ups...)
			addr := "127.0.0.1:" + serveZone(t, z, "127.0.0.1:0")
			if bursts {
				alwaysShared(z)
			}
			q := dnscache.NewQuestion(mustName(t, "www.example.com"), dns.TypeA, dnscache.RD)
			m := new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA)
			m.Answer = rrs(t, "www.example.com. 77 IN A 192.0.2.1")
			old, err := dnscache.NewResponse(q, m, 77*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			old.Born = old.Born.Add(-time.Hour)
			z.Fwd.Cache.Put(old)
			r := exchange(t, "udp", addr, new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA))
			if got, want := showSorted(r), "NOERROR ra; www.example.com. 77 A 192.0.2.9"; got != want {
				t.Errorf("%s, in bursts %t: got %v; want %v", what, bursts, got, want)
			}
		}
	}
}

// No more than maxInFlight are out, those with something stale included.
func TestBoundOfStale(t *testing.T) {
	z := newForwardZone(t, startUpstream(t, answer(t, rcode(dns.RcodeServerFailure)), nil), startUpstream(t, silent, nil))
	z.Fwd.Cache = dnscache.New(64 << 20)
	z.Fwd.Timeout = forward.UpstreamTimeout
	addr := "127.0.0.1:" + serveZone(t, z, "127.0.0.1:0")
	alwaysShared(z)
	const names = 4000
	var packets [][]byte
	for i := range names {
		qname := fmt.Sprintf("n%d.example.com.", i)
		m := new(dns.Msg).SetQuestion(qname, dns.TypeA)
		m.Answer = rrs(t, qname+" 77 IN A 192.0.2.1")
		old, err := dnscache.NewResponse(dnscache.NewQuestion(mustName(t, qname), dns.TypeA, dnscache.RD), m, 77*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		old.Born = old.Born.Add(-time.Hour)
		z.Fwd.Cache.Put(old)
		packets = append(packets, packQuery(t, uint16(i), qname, dns.TypeA))
	}
	c, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	most, mostIn, fds := 0, 0, 0
	for i, p := range packets {
		_, _ = c.Write(p)
		if i%20 == 0 {
			runtime.Gosched()
		}
		if i%50 == 0 || i == names-1 {
			z.Fwd.Mu.Lock()
			most, mostIn = max(most, len(z.Fwd.Flights)), max(mostIn, z.Fwd.InFlight)
			z.Fwd.Mu.Unlock()
			if e, err := os.ReadDir("/proc/self/fd"); err == nil {
				fds = max(fds, len(e))
			}
		}
	}
	t.Logf("at most %d flights, of which %d counted; %d descriptors; from one client", most, mostIn, fds)
	if most > forward.MaxClientFlight {
		t.Errorf("one client had %d queries out; want %d at most", most, forward.MaxClientFlight)
	}
	waitFor(t, z.Idle)
}

// An answer that was asked for before the cache was emptied, or of others than
// are asked now, is not kept.
func TestCacheAfterRoutesChange(t *testing.T) {
	up, asked, release := heldUpstream(t)
	z := newCachingZone(t, up)
	done := make(chan struct{})
	go func() {
		defer close(done)
		reply(z, new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA), netip.Addr{}, 512)
	}()
	<-asked
	z.Fwd.Servers = forward.Routes[forward.Server]{dnsname.Root: servers(startUpstream(t, answer(t, address("192.0.2.2")), nil))}
	z.Fwd.SetRoutes(nil)
	close(release)
	<-done
	m := reply(z, new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA), netip.Addr{}, 512)
	if got, want := showSorted(m), "NOERROR ra; www.example.com. 77 A 192.0.2.2"; got != want {
		t.Errorf("got %v, of the old upstream; want %v", got, want)
	}
}

// An upstream may fail any number of times.
func TestManyFailures(t *testing.T) {
	z := newForwardZone(t, closedUpstream(t))
	u := (*z.Fwd.Routes.Load())[dnsname.Root][0]
	for range 5000 {
		z.Fwd.Note(u, &forward.Flight{Question: dnscache.NewQuestion(mustName(t, "a"), 1, 1)}, forward.ErrTimeout)
	}
	if n := u.Failures.Load(); n >= 5000 {
		t.Errorf("got %d failures: the number grows until it is negative, and the shift by it panics", n)
	}
}

// Nothing outside of the chain is relayed.
func TestOutsideOfTheChain(t *testing.T) {
	const soa = "example.com. 60 IN SOA ns.example.com. host.example.com. 1 2 3 4 60"
	for what, tt := range map[string]struct {
		change func(*dns.Msg)
		want   string
	}{
		"NSEC of others": {func(m *dns.Msg) { m.Ns = rrs(t, "bank.example.net. 60 IN NSEC z.example.net. A") }, "NOERROR ra; www.example.com. 77 A 192.0.2.1"},
		"RRSIG of others": {func(m *dns.Msg) {
			m.Ns = rrs(t, "bank.example.net. 60 IN RRSIG A 8 2 60 20300101000000 20200101000000 1 example.net. AAAA")
		}, "NOERROR ra; www.example.com. 77 A 192.0.2.1"},
		"SOA of class CH": {func(m *dns.Msg) { m.Answer, m.Ns = nil, rrs(t, strings.Replace(soa, " IN ", " CH ", 1)) }, "NOERROR ra"},
		"DNAME twice": {func(m *dns.Msg) {
			m.Answer = rrs(t, "example.com. 60 IN DNAME example.net.\nwww.example.com. 60 IN CNAME b.example.com.\nb.example.com. 60 IN CNAME c.example.com.\nc.example.com. 60 IN A 192.0.2.1")
		}, "NOERROR ra; b.example.com. 60 CNAME c.example.com., c.example.com. 60 A 192.0.2.1, example.com. 60 DNAME example.net., www.example.com. 60 CNAME b.example.com."},
	} {
		z := newForwardZone(t, startUpstream(t, answer(t, tt.change), nil))
		if got := showSorted(reply(z, new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA), netip.Addr{}, 1232)); got != tt.want {
			t.Errorf("%s: got %v; want %v", what, got, tt.want)
		}
	}
}

// A large answer is asked for once, whether it fits the client's UDP or not.
func TestLargeAnswerInBurstsOnce(t *testing.T) {
	for _, bursts := range []bool{false, true} {
		var asked atomic.Int32
		z := newForwardZone(t, startUpstream(t, func(q *dns.Msg, from netip.AddrPort) [][]byte {
			asked.Add(1)
			return answer(t, func(m *dns.Msg) {
				for range 60 {
					m.Answer = append(m.Answer, m.Answer[0])
				}
				m.Compress = true
			})(q, from)
		}, nil))
		addr := "127.0.0.1:" + serveZone(t, z, "127.0.0.1:0")
		if bursts {
			alwaysShared(z)
		}
		r := exchange(t, "udp", addr, new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA))
		if asked.Load() != 1 || !r.Truncated {
			t.Errorf("in bursts %t: asked %d times", bursts, asked.Load())
		}
	}
}

// A BADVERS is a failure, also where addresses come with it.
func TestBadversWithAddress(t *testing.T) {
	for _, bursts := range []bool{false, true} {
		z := newForwardZone(t, startUpstream(t, answer(t, func(m *dns.Msg) { m.SetEdns0(1232, false); m.Rcode = dns.RcodeBadVers; m.Compress = true }), nil))
		addr := "127.0.0.1:" + serveZone(t, z, "127.0.0.1:0")
		if bursts {
			alwaysShared(z)
		}
		if got := showSorted(exchange(t, "udp", addr, new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA))); got != "SERVFAIL ra" {
			t.Errorf("in bursts %t: got %v", bursts, got)
		}
	}
}

// An upstream that refuses all costs little under a flood, and is asked again
// once it answers.
func TestRefusingUpstreamCostsLittle(t *testing.T) {
	z := newForwardZone(t, closedUpstream(t))
	for i := range 900 {
		reply(z, new(dns.Msg).SetQuestion(fmt.Sprintf("%d.example.com.", i), dns.TypeA), netip.Addr{}, 512)
	}
	u := (*z.Fwd.Routes.Load())[dnsname.Root][0]
	u.Mu.Lock()
	defer u.Mu.Unlock()
	if u.Fresh > 100 {
		t.Errorf("%d sockets were opened in this second, each for nothing", u.Fresh)
	}
}

// Who asks much at once over TCP is told within 5 s too.
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
