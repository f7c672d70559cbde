package main

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
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
	"github.com/rayje/dnsdock/internal/index"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/zone"
)

// newCachingZone returns a zone that keeps what upstreams say.
func newCachingZone(t testing.TB, upstreams ...netip.AddrPort) *zone.Zone {
	t.Helper()
	z := newForwardZone(t, upstreams...)
	z.Fwd.Cache = dnscache.New(1 << 20)
	return z
}

// ages makes the response to q in z's cache older.
func ages(t *testing.T, z *zone.Zone, qname string, qtype uint16, by time.Duration) {
	t.Helper()
	q := dnscache.NewQuestion(mustName(t, qname), qtype, dnscache.RD)
	old := z.Fwd.Cache.Get(q)
	if old == nil {
		t.Fatalf("%s is not in the cache", qname)
	}
	aged := &dnscache.Response{Question: q, Flags: old.Flags, Counts: old.Counts, Rrs: old.Rrs, Ttls: old.Ttls, Good: old.Good, Born: old.Born.Add(-by)}
	z.Fwd.Cache.Put(aged)
}

// both returns the reply to req on the slow path, and fails unless the fast
// one gives the same where it answers at all.
func both(t *testing.T, z *zone.Zone, req *dns.Msg) *dns.Msg {
	t.Helper()
	m := reply(z, req, netip.Addr{}, 1232)
	packet, err := req.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if b := dnsserver.NewFastPath(z).Answer(packet, netip.MustParseAddr("127.0.0.1"), dns.MaxMsgSize, nil); b != nil {
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

// What an upstream says is asked for once, for as long as it is good, and its
// TTLs count down.
func TestCache(t *testing.T) {
	const soa = "example.com. 900 IN SOA ns.example.com. host.example.com. 1 2 3 4 60"
	for _, tt := range []struct {
		what   string
		change func(*dns.Msg)
		first  string
		good   time.Duration // 0: not kept
		later  string        // a second before its end
	}{
		{"an address", nil, "NOERROR ra; www.example.com. 77 A 192.0.2.1", 77 * time.Second, "NOERROR ra; www.example.com. 1 A 192.0.2.1"},
		{"the smallest TTL counts", func(m *dns.Msg) {
			m.Answer = rrs(t, "www.example.com. 100 IN CNAME web.example.net.\nweb.example.net. 40 IN A 192.0.2.1")
		}, "NOERROR ra; web.example.net. 40 A 192.0.2.1, www.example.com. 100 CNAME web.example.net.", 40 * time.Second,
			"NOERROR ra; web.example.net. 1 A 192.0.2.1, www.example.com. 61 CNAME web.example.net."},
		{"NXDOMAIN", func(m *dns.Msg) { m.Rcode, m.Answer, m.Ns = dns.RcodeNameError, nil, rrs(t, soa) },
			"NXDOMAIN ra;; example.com. 60 SOA ns.example.com. host.example.com. 1 2 3 4 60", time.Minute,
			"NXDOMAIN ra;; example.com. 1 SOA ns.example.com. host.example.com. 1 2 3 4 60"},
		{"no data", func(m *dns.Msg) { m.Answer, m.Ns = nil, rrs(t, strings.Replace(soa, " 60", " 5", 1)) },
			"NOERROR ra;; example.com. 5 SOA ns.example.com. host.example.com. 1 2 3 4 5", 5 * time.Second,
			"NOERROR ra;; example.com. 1 SOA ns.example.com. host.example.com. 1 2 3 4 5"},
		{"no data for days", func(m *dns.Msg) {
			m.Answer, m.Ns = nil, rrs(t, "example.com. 99999 IN SOA ns.example.com. host.example.com. 1 2 3 4 88888")
		}, "NOERROR ra;; example.com. 88888 SOA ns.example.com. host.example.com. 1 2 3 4 88888", time.Hour,
			"NOERROR ra;; example.com. 85289 SOA ns.example.com. host.example.com. 1 2 3 4 88888"},
		{"NXDOMAIN without SOA", rcode(dns.RcodeNameError), "NXDOMAIN ra", 0, ""},
		{"NXDOMAIN with the SOA of others", func(m *dns.Msg) {
			m.Rcode, m.Answer, m.Ns = dns.RcodeNameError, nil, rrs(t, strings.Replace(soa, "example.com.", "example.net.", 1))
		}, "NXDOMAIN ra", 0, ""},
		{"TTL 0", func(m *dns.Msg) { m.Answer[0].Header().Ttl = 0 }, "NOERROR ra; www.example.com. 0 A 192.0.2.1", 0, ""},
		{"TTL 2^31", func(m *dns.Msg) { m.Answer[0].Header().Ttl = 1 << 31 }, "NOERROR ra; www.example.com. 0 A 192.0.2.1", 0, ""},
		{"TTL 2^31-1", func(m *dns.Msg) { m.Answer[0].Header().Ttl = 1<<31 - 1 }, "NOERROR ra; www.example.com. 2147483647 A 192.0.2.1", 24 * time.Hour,
			"NOERROR ra; www.example.com. 2147397248 A 192.0.2.1"},
		{"SERVFAIL", rcode(dns.RcodeServerFailure), "SERVFAIL ra", dnscache.FailureTTL, "SERVFAIL ra"},
		{"truncated", truncated, "NOERROR tc ra", 0, ""},
		{"what was not asked", func(m *dns.Msg) {
			m.Answer = append(m.Answer, rrs(t, "bank.example.net. 600 IN A 192.0.2.66\nwww.example.com. 1 IN TXT no\n*.example.com. 3 IN A 192.0.2.67")...)
			m.Ns = rrs(t, "example.com. 600 IN NS ns.example.net.")
			m.Extra = rrs(t, "ns.example.net. 600 IN A 192.0.2.68")
		}, "NOERROR ra; www.example.com. 77 A 192.0.2.1", 77 * time.Second, "NOERROR ra; www.example.com. 1 A 192.0.2.1"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			var asked atomic.Int32
			z := newCachingZone(t, startUpstream(t, func(q *dns.Msg, from netip.AddrPort) [][]byte {
				asked.Add(1)
				return answer(t, tt.change)(q, from)
			}, nil))
			ask := func(want string, times int32) {
				t.Helper()
				if got := showSorted(both(t, z, new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA))); got != want || asked.Load() != times {
					t.Errorf("got %v, and the upstream was asked %d times; want %v and %d", got, asked.Load(), want, times)
				}
			}
			ask(tt.first, 1)
			if tt.good == 0 {
				ask(tt.first, 2)
				return
			}
			ask(tt.first, 1)
			ages(t, z, "www.example.com", dns.TypeA, tt.good-time.Second)
			ask(tt.later, 1)
			ages(t, z, "www.example.com", dns.TypeA, time.Second)
			ask(tt.first, 2)
			z.Fwd.Cache.Clear()
			ask(tt.first, 3)
		})
	}
}

// Questions that may be answered differently are different.
func TestCacheKey(t *testing.T) {
	var asked atomic.Int32
	z := newCachingZone(t, startUpstream(t, func(q *dns.Msg, from netip.AddrPort) [][]byte {
		asked.Add(1)
		return answer(t, func(m *dns.Msg) { m.AuthenticatedData = true })(q, from)
	}, nil))
	for i, change := range []func(*dns.Msg){
		func(*dns.Msg) {},
		func(m *dns.Msg) { m.Question[0].Name = "w1.example.com." },
		func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeANY },
		func(m *dns.Msg) { m.CheckingDisabled = true },
		func(m *dns.Msg) { m.SetEdns0(1232, true) },
		func(m *dns.Msg) { m.SetEdns0(1232, true); m.CheckingDisabled = true },
	} {
		for _, same := range []func(*dns.Msg){
			func(*dns.Msg) {},
			func(m *dns.Msg) { m.Question[0].Name = strings.ToUpper(m.Question[0].Name) },
			func(m *dns.Msg) { m.AuthenticatedData = true },
		} {
			req := new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA)
			change(req)
			same(req)
			m := both(t, z, req)
			do := req.IsEdns0() != nil
			if asked.Load() != int32(i+1) || m.AuthenticatedData != (req.AuthenticatedData || do) || m.Question[0] != req.Question[0] {
				t.Errorf("%v: the upstream was asked %d times, AD %t; want %d times, and AD where it is asked for", req, asked.Load(), m.AuthenticatedData, i+1)
			}
		}
	}
	req := new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA)
	req.RecursionDesired = false // what an upstream has at hand is not all there is
	before := asked.Load()
	both(t, z, req)
	both(t, z, req)
	if got := asked.Load() - before; got != 2 {
		t.Errorf("without RD: the upstream was asked %d times; want 2", got)
	}
}

// Where no upstream answers, what was good once is answered for a day.
func TestServeStale(t *testing.T) {
	var works atomic.Bool
	var asked atomic.Int32
	z := newCachingZone(t, startUpstream(t, func(q *dns.Msg, from netip.AddrPort) [][]byte {
		asked.Add(1)
		if works.Load() {
			return answer(t, address("192.0.2.2"))(q, from)
		}
		return answer(t, rcode(dns.RcodeServerFailure))(q, from)
	}, nil))
	ask := func(what, want string, times int32) {
		t.Helper()
		if got := showSorted(both(t, z, new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA))); got != want || asked.Load() != times {
			t.Errorf("%s: got %v, asked %d times; want %v and %d", what, got, asked.Load(), want, times)
		}
	}
	works.Store(true)
	ask("at first", "NOERROR ra; www.example.com. 77 A 192.0.2.2", 1)
	works.Store(false)
	ages(t, z, "www.example.com", dns.TypeA, 23*time.Hour)
	const stale = "NOERROR ra; www.example.com. 30 A 192.0.2.2"
	ask("after its time", stale, 2)
	ask("again at once: no upstream is asked so soon", stale, 2)
	ages(t, z, "www.example.com", dns.TypeA, dnscache.FailureTTL)
	ask("some seconds later", stale, 3)
	ages(t, z, "www.example.com", dns.TypeA, 2*time.Hour)
	ask("after more than a day", "SERVFAIL ra", 4)
	works.Store(true)
	z.Fwd.Cache.Clear()
	ask("an upstream answers", "NOERROR ra; www.example.com. 77 A 192.0.2.2", 5)
	ages(t, z, "www.example.com", dns.TypeA, time.Hour)
	ask("it still does", "NOERROR ra; www.example.com. 77 A 192.0.2.2", 6)
}

// A client does not wait for an upstream that takes long, where there is
// something to answer.
func TestServeStaleSoon(t *testing.T) {
	var silence atomic.Bool
	z := newCachingZone(t, startUpstream(t, func(q *dns.Msg, from netip.AddrPort) [][]byte {
		if silence.Load() {
			return nil
		}
		return answer(t, nil)(q, from)
	}, nil))
	req := new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA)
	both(t, z, req)
	ages(t, z, "www.example.com", dns.TypeA, time.Hour)
	silence.Store(true)
	begun := time.Now()
	if got, want := showSorted(both(t, z, req)), "NOERROR ra; www.example.com. 30 A 192.0.2.1"; got != want {
		t.Errorf("got %v; want %v", got, want)
	}
	if took := time.Since(begun); took > z.Fwd.Timeout {
		t.Errorf("took %v, as long as the upstream; want less", took)
	}
}

// Equal questions that are out at a time are one query to an upstream.
func TestFlightsAreShared(t *testing.T) {
	up, asked, release := heldUpstream(t)
	z := newCachingZone(t, up)
	var wg sync.WaitGroup
	const clients = 100
	for i := range clients {
		wg.Go(func() {
			m := replyTo(z, new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA), netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}))
			if got, want := showSorted(m), "NOERROR ra; www.example.com. 77 A 192.0.2.1"; got != want {
				t.Errorf("got %v; want %v", got, want)
			}
		})
	}
	<-asked
	waitFor(t, func() bool {
		z.Fwd.Mu.Lock()
		defer z.Fwd.Mu.Unlock()
		return z.Fwd.InFlight == clients
	})
	close(release)
	wg.Wait()
	if len(asked) > 0 {
		t.Errorf("the upstream was asked %d times; want once", 1+len(asked))
	}
}

// waitFor waits until something is so.
func waitFor(t testing.TB, is func() bool) {
	t.Helper()
	for late := time.Now().Add(patience); !is(); runtime.Gosched() {
		if time.Now().After(late) {
			t.Fatal("it does not become so")
		}
	}
}

// The cache takes no more memory than it may, keeps what is used, and takes
// nothing where it may have none.
func TestCacheIsBounded(t *testing.T) {
	const most = 8 << 20
	responseTo := func(qname string, addrs int) *dnscache.Response {
		m := &dns.Msg{}
		for i := range addrs {
			m.Answer = append(m.Answer, &dns.A{Hdr: zone.Header(qname, dns.TypeA, 60), A: net.IPv4(10, 0, byte(i>>8), byte(i))})
		}
		r, err := dnscache.NewResponse(dnscache.NewQuestion(mustName(t, qname), dns.TypeA, dnscache.RD), m, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	was := loadNow()
	c := dnscache.New(most)
	hot := responseTo("hot.example.com.", 1)
	c.Put(hot)
	for i := range 100_000 {
		c.Put(responseTo(fmt.Sprintf("%d.flood.example.com.", i), 1+i%5))
		if i%1000 == 0 {
			c.Get(hot.Question)
		}
	}
	now := loadNow()
	count := 0
	for range c.Responses.All() {
		count++
	}
	t.Logf("%d responses in %d octets, by the heap %d", count, c.Size, now.heap-was.heap)
	if c.Size > most || now.heap > was.heap+most*5/4 || count < most/1000 || count != c.Queue.Len() {
		t.Errorf("got %d responses, %d queued, in %d octets, by the heap %d; want no more than %d", count, c.Queue.Len(), c.Size, now.heap-was.heap, most)
	}
	if c.Get(hot.Question) != hot {
		t.Error("what was used all the time is gone")
	}
	if c.Clear(); c.Size != 0 || c.Queue.Len() != 0 || c.Get(hot.Question) != nil {
		t.Error("something is left after clear")
	}
	runtime.KeepAlive(c)
	none := dnscache.New(0)
	if none.Put(hot); none.Get(hot.Question) != nil {
		t.Error("a cache of no size keeps something")
	}
	small := dnscache.New(4096)
	if small.Put(responseTo("large.example.com.", 500)); small.Size != 0 {
		t.Error("a response that is larger than the cache is kept")
	}
}

// Cached answers go out from the fast path without memory.
func TestCacheAllocates(t *testing.T) {
	z := newCachingZone(t, startUpstream(t, answer(t, nil), nil))
	req := new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA)
	reply(z, req, netip.Addr{}, 512)
	packet, err := req.Pack()
	if err != nil {
		t.Fatal(err)
	}
	fast, out, client := dnsserver.NewFastPath(z), make([]byte, 0, 512), netip.MustParseAddr("127.0.0.1")
	if n := testing.AllocsPerRun(100, func() {
		if fast.Answer(packet, client, dnswire.MaxUDPSize, out) == nil {
			t.Fatal("the fast path declines")
		}
	}); n != 0 {
		t.Errorf("got %v allocations; want none", n)
	}
}

// What became ours is not answered from the cache any more, and what was ours
// is nobody's for an hour.
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
	z.Reg.Removed.Store(mustName(t, "shop.example.com"), time.Now().Add(-index.GoneFor))
	z.Reg.Away.Store(1)
	if got := serialless(both(t, z, new(dns.Msg).SetQuestion("shop.example.com.", dns.TypeA))); got != gone {
		t.Errorf("an hour later, without the engine: got %v; want %v", got, gone)
	}
	z.Reg.Away.Store(0)
	ask("an hour later", "shop.example.com.", upstreams)
	regOf(z).Put(id, aliased(t, id, "shop.example.com"))
	ask("a container's again", "shop.example.com.", "NOERROR aa ra; shop.example.com. 5 A 10.0.0.1")
	if err := regOf(z).remove(id); err != nil {
		t.Fatal(err)
	}
	ask("removed by hand", "shop.example.com.", upstreams)
	if n := z.Reg.Removed.Count.Load(); n != 0 {
		t.Errorf("got %d aliases that are gone; want none", n)
	}
}

// aliased is a container's service with an alias.
func aliased(t *testing.T, id, alias string) *publish.Service {
	t.Helper()
	return &publish.Service{ID: id, OwnerNames: []dnsname.Name{mustName(t, "shop.web.docker"), mustName(t, alias)}, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, TTL: publish.DefaultTTL}
}

// The aliases that are gone have a bound.
func TestGoneAliasesAreBounded(t *testing.T) {
	z := newTestZone(t, filledRegistry(t, "docker", 5))
	z.Log = slog.New(slog.DiscardHandler)
	s := aliased(t, "id", "x.example.com")
	for i := range index.MaxGone + 100 {
		s.OwnerNames = append(s.OwnerNames, mustName(t, fmt.Sprintf("%d.example.com", i)))
	}
	regOf(z).Put("id", s)
	regOf(z).Forget("id")
	if n := z.Reg.Removed.Count.Load(); n != index.MaxGone {
		t.Errorf("got %d; want %d", n, index.MaxGone)
	}
	for n := range z.Reg.Removed.All() {
		z.Reg.Removed.Store(n, time.Now().Add(-index.GoneFor))
	}
	s = aliased(t, "id2", "y.example.com")
	regOf(z).Put("id2", s)
	regOf(z).Forget("id2")
	if n := z.Reg.Removed.Count.Load(); n != 1 {
		t.Errorf("after an hour: got %d; want 1", n)
	}
}

// FuzzPlainResponse: what is read without the library is what is read with it.
func FuzzPlainResponse(f *testing.F) {
	z := newForwardZone(f, netip.MustParseAddrPort("127.0.0.1:53")) // is not asked
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		m := new(dns.Msg).SetQuestion("www.example.com.", qtype)
		m.Response, m.AuthenticatedData, m.Compress = true, true, true
		m.Answer = rrs(f, map[uint16]string{dns.TypeA: "www.example.com. 5 IN A 192.0.2.1\nwww.example.com. 7 IN A 192.0.2.2", dns.TypeAAAA: "www.example.com. 5 IN AAAA ::1"}[qtype])
		m.Ns = rrs(f, "example.com. 5 IN NS ns.example.com.")
		m.Extra = rrs(f, "ns.example.com. 5 IN A 192.0.2.3")
		m.SetEdns0(1232, false)
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, qtype == dns.TypeAAAA)
	}
	f.Fuzz(func(t *testing.T, data []byte, six bool) {
		qtype := dns.TypeA
		if six {
			qtype = dns.TypeAAAA
		}
		q := dnscache.NewQuestion(mustName(t, "www.example.com"), qtype, dnscache.RD)
		if len(data) < dnswire.HeaderLen || !dnswire.IsReply(data, q.Message(true, false)) {
			return
		}
		data = append([]byte(nil), data...)
		copy(data[dnswire.HeaderLen:], dnswire.Question(q.Message(true, false)))
		r := dnscache.PlainResponse(q, data)
		if r == nil {
			return
		}
		got, err := r.Message(0)
		if err != nil {
			t.Fatalf("%x: %v", data, err)
		}
		m := new(dns.Msg)
		if m.Unpack(data) != nil || !forward.Relayable(m) || m.Rcode > 0xf {
			return // what was left out is malformed, or an OPT that has an owner
		}
		m.Ns = nil // as in a positive answer, but for signatures
		with, err := z.Fwd.Read(q, m)
		if err != nil {
			t.Fatalf("%x: %v", data, err)
		}
		want, err := with.Message(0)
		if err != nil {
			t.Fatalf("%x: %v", data, err)
		}
		if show(got) != show(want) || got.AuthenticatedData != want.AuthenticatedData || r.Good != with.Good {
			t.Errorf("%x:\ngot  %v, good for %v\nwant %v, for %v", data, show(got), r.Good, show(want), with.Good)
		}
	})
}

// After a flood of names that no upstream answers nothing of it is left.
func TestFailuresAreTidiedUp(t *testing.T) {
	z := newCachingZone(t, startUpstream(t, answer(t, rcode(dns.RcodeServerFailure)), nil))
	for i := range forward.MuchFailed + 100 {
		reply(z, new(dns.Msg).SetQuestion(fmt.Sprintf("%d.example.com.", i), dns.TypeA), netip.Addr{}, 512)
	}
	good, err := dnscache.NewResponse(dnscache.NewQuestion(mustName(t, "www.example.com"), dns.TypeA, dnscache.RD), &dns.Msg{Answer: rrs(t, "www.example.com. 77 IN A 192.0.2.1")}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	z.Fwd.Cache.Put(good)
	for _, r := range z.Fwd.Cache.Responses.All() {
		r.Born = r.Born.Add(-dnscache.FailureTTL) // as if so long ago
	}
	for range dnscache.FailureTTL/forward.FollowPeriod + 2 {
		z.Fwd.Tidy()
	}
	if n := z.Fwd.Cache.Queue.Len(); n != 1 || z.Fwd.Cache.Size != good.Space() || z.Fwd.Cache.Get(good.Question) != good {
		t.Errorf("got %d responses in %d octets; want the good one alone", n, z.Fwd.Cache.Size)
	}
}
