package forward

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnstest"
)

// An upstream that is broken in some way costs the first query little, and
// those after it nothing.
func TestBrokenUpstream(t *testing.T) {
	other, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	one := func(f func(q *dns.Msg) []byte) dnstest.Answerer {
		return func(q *dns.Msg, _ netip.AddrPort) [][]byte { return [][]byte{f(q)} }
	}
	changed := func(change func(*dns.Msg)) dnstest.Answerer { return dnstest.Answer(t, change) }
	for _, tt := range []struct {
		what     string
		udp, tcp dnstest.Answerer // nil: a closed port
		asked    bool             // for each query: it says itself that it can't help
	}{
		{"closed port", nil, nil, false},
		{"silent", dnstest.Silent, nil, false},
		{"wrong ID", changed(func(m *dns.Msg) { m.Id++ }), nil, false},
		{"wrong question", changed(func(m *dns.Msg) { m.Question[0].Name = "w.example.com." }), nil, false},
		{"wrong class", changed(func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }), nil, false},
		{"wrong sender", func(q *dns.Msg, from netip.AddrPort) [][]byte {
			_, _ = other.WriteTo(dnstest.AnswerTo(t, q, nil), net.UDPAddrFromAddrPort(from)) // whoever asked may be gone
			return nil
		}, nil, false},
		{"garbage", one(func(*dns.Msg) []byte { return []byte(strings.Repeat("garbage", 20)) }), nil, false},
		{"empty", one(func(*dns.Msg) []byte { return nil }), nil, false},
		{"malformed", one(func(q *dns.Msg) []byte { b := dnstest.AnswerTo(t, q, nil); return b[:len(b)-1] }), nil, true},
		{"SERVFAIL", changed(dnstest.Rcode(dns.RcodeServerFailure)), nil, true},
		{"REFUSED", changed(dnstest.Rcode(dns.RcodeRefused)), nil, true},
		{"NOTIMP", changed(dnstest.Rcode(dns.RcodeNotImplemented)), nil, true},
		{"FORMERR", changed(dnstest.Rcode(dns.RcodeFormatError)), nil, true},
		{"BADVERS", changed(func(m *dns.Msg) {
			m.SetEdns0(1232, false)
			m.Rcode, m.Answer = dns.RcodeBadVers,
				nil
		}), nil, true},
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
						if !isProbe(q) {
							asked.Add(1)
						}
						return tt.udp(q, from)
					}
				}
				first := dnstest.StartUpstream(t, udp, tt.tcp)
				other := dnstest.StartUpstream(t, dnstest.Answer(t, dnstest.Address("192.0.2.2")), nil)
				f := newForwarder(t, first, other)
				f.Timeout = UpstreamTimeout
				ask := asker(t, f, inBursts)
				var times []time.Duration
				for i := range 20 {
					begun := time.Now()
					r := ask(queryFor(fmt.Sprintf("%d.example.com.", i)))
					times = append(times, time.Since(begun))
					if got, want := show(r), fmt.Sprintf("NOERROR ra; %d.example.com. 77 A 192.0.2.2",
						i); got != want {
						t.Fatalf("got %v; want %v", got, want)
					}
				}
				rest := slices.Sorted(slices.Values(times[1:]))
				t.Logf("first %v, then the median %v, the worst %v; the broken one was asked %d times", times[0],
					rest[len(rest)/2], rest[len(rest)-1], asked.Load())
				// those until a probe has had no reply either, and perhaps a look whether it works now
				if !tt.asked && asked.Load() > 8 {
					t.Errorf("the broken upstream was asked %d times; want it left alone", asked.Load())
				}
			})
		}
	}
}

// A true reply that comes after junk, and one that comes twice, are taken once.
func TestJunkAndDuplicates(t *testing.T) {
	for _, inBursts := range []bool{false, true} {
		f := newForwarder(t, dnstest.StartUpstream(t, func(q *dns.Msg, _ netip.AddrPort) [][]byte {
			good := dnstest.AnswerTo(t, q, nil)
			return [][]byte{{}, []byte("junk"), dnstest.AnswerTo(t, q, func(m *dns.Msg) { m.Id++ }),
				dnstest.AnswerTo(t, q, func(m *dns.Msg) { m.Question[0].Qtype = 99 }),
				good[:len(good)-3], good, good, good}
		}, nil), dnstest.StartUpstream(t, dnstest.Answer(t, dnstest.Address("192.0.2.2")), nil))
		ask := asker(t, f, inBursts)
		for i := range 50 {
			r := ask(queryFor(fmt.Sprintf("%d.example.com.", i)))
			if got, want := show(r), fmt.Sprintf("NOERROR ra; %d.example.com. 77 A 192.0.2.1", i); got != want {
				t.Fatalf("in bursts %t: got %v; want %v", inBursts, got, want)
			}
		}
	}
}

// Up to 1,000 queries in a second have a port of their own; those past that
// share many ports, each for no more than 100 queries or 10 seconds.
func TestUpstreamPorts(t *testing.T) {
	var mu sync.Mutex
	ports, ids := make(map[uint16]int), make(map[uint16]bool)
	f := newForwarder(t, dnstest.StartUpstream(t, func(q *dns.Msg, from netip.AddrPort) [][]byte {
		mu.Lock()
		defer mu.Unlock()
		ports[from.Port()]++
		ids[q.Id] = true
		return [][]byte{dnstest.AnswerTo(t, q, nil)}
	}, nil))
	ask := func(count int) {
		t.Helper()
		mu.Lock()
		clear(ports)
		clear(ids)
		mu.Unlock()
		for i := range count {
			if m := reply(t, f, queryFor(fmt.Sprintf("%d.example.com.", i))); len(m.Answer) != 1 {
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
}

// A socket that queries share is used a bounded number of times, and for a
// bounded time.
func TestSharedSocketsAreReplaced(t *testing.T) {
	u := newForwarder(t, dnstest.StartUpstream(t, dnstest.Silent, nil)).upstream(0)
	shared := make(map[*socket]bool)
	count := 0
	for range 30_000 { // as if they were asked
		s := sharedSocket(t, u)
		shared[s] = true
		count++
		s.end(new(waiter))
	}
	for s := range shared {
		s.mu.Lock()
		used := s.used
		s.mu.Unlock()
		if used > socketUses {
			t.Errorf("a socket was used %d times", used)
		}
	}
	// 30,000 by 100 are 300 at least; of 256 that are drawn at random some are not used up.
	if len(shared) < 300 || len(shared) > 30_000/socketUses+poolSize {
		t.Errorf("got %d shared sockets in %d queries; want %d to %d",
			len(shared), count, 300, 30_000/socketUses+poolSize)
	}
	old := sharedSocket(t, u)
	old.end(new(waiter))
	for _, s := range u.sockets.shared {
		if s != nil {
			s.mu.Lock()
			s.born = s.born.Add(-socketAge)
			s.mu.Unlock()
		}
	}
	for range 2000 {
		s := sharedSocket(t, u)
		if shared[s] {
			t.Fatal("a socket is used after 10 s")
		}
		s.end(new(waiter))
	}
}

// sharedSocket returns a shared socket of u, for one query.
func sharedSocket(t *testing.T, u *Upstream) *socket {
	t.Helper()
	u.sockets.mu.Lock()
	defer u.sockets.mu.Unlock()
	s, err := u.sockets.sharedLocked()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestForwardFreshPortAndID(t *testing.T) {
	const n = 50
	var mu sync.Mutex
	ports, ids := make(map[uint16]bool), make(map[uint16]bool)
	inOrder, last := 0, uint16(0)
	f := newForwarder(t, dnstest.StartUpstream(t, func(q *dns.Msg, from netip.AddrPort) [][]byte {
		mu.Lock()
		defer mu.Unlock()
		ports[from.Port()], ids[q.Id] = true, true
		if q.Id == last+1 {
			inOrder++
		}
		last = q.Id
		return [][]byte{dnstest.AnswerTo(t, q, nil)}
	}, nil))
	for range n {
		req := queryFor("www.example.com.")
		req.Id = 4711
		if m := reply(t, f, req); len(m.Answer) != 1 || m.Id != 4711 {
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
		t.Errorf("got %d ids in %d queries, %d of them one more than the last; want random ones", len(ids), n,
			inOrder)
	}
}

// Shared sockets that nobody uses are closed, and what was out on them ends.
func TestSharedSocketsEnd(t *testing.T) {
	t.Parallel()
	was := dnstest.LoadNow()
	t.Run("flood", func(t *testing.T) {
		f := newForwarder(t, dnstest.StartUpstream(t, dnstest.Silent, nil))
		f.Timeout = shortTimeout
		alwaysShared(f)
		const queries = 2000 // of which some are past the bound
		c := &burstClient{localhost, make(chan *dnscache.Response, queries)}
		b := f.NewBurst(t.Context())
		taken := 0
		for i := range queries {
			if b.Ask(questionOf(t, queryFor(fmt.Sprintf("%d.example.com.", i))), func() Client { return c }) {
				taken++
			}
			if i%32 == 0 {
				b.Flush()
			}
		}
		b.Flush()
		for range taken {
			if r := <-c.answers; r.Rcode() != dns.RcodeServerFailure {
				t.Errorf("got rcode %d of a silent upstream; want SERVFAIL", r.Rcode())
			}
		}
		if waitFor(t, f.idle); taken < maxClientFailing || taken > 2*maxClientWaiting {
			t.Errorf("%d of %d were asked; want some, within the bounds", taken, queries)
		}
	})
	was.ReturnsTo(t)
}

// An upstream that refuses all costs little under a flood, and is asked again
// once it answers.
func TestRefusingUpstreamCostsLittle(t *testing.T) {
	f := newForwarder(t, closedUpstream(t))
	for i := range 900 {
		reply(t, f, queryFor(fmt.Sprintf("%d.example.com.", i)))
	}
	p := &f.upstream(0).sockets
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fresh > 100 {
		t.Errorf("%d sockets were opened in this second, each for nothing", p.fresh)
	}
}

// An upstream may fail any number of times.
func TestManyFailures(t *testing.T) {
	var h health
	q := questionOf(t, queryFor("a."))
	for range 5000 {
		h.missed(q, time.Now(), true)
	}
	for i := range 100 {
		h.missed(questionOf(t, queryFor(fmt.Sprint(i, "."))), time.Now(), true)
	}
	if until := time.Until(h.retryAt); !h.isAway() || until <= 0 || until > lastRetry {
		t.Errorf("got away %t, and the next try in %v; want %v at most", h.isAway(), until, lastRetry)
	}
}

// An upstream that was away is asked again by and by, and no client waits for
// that.
func TestUpstreamComesBack(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	first := dnstest.StartUpstream(t, func(q *dns.Msg, from netip.AddrPort) [][]byte {
		asked.Add(1)
		return dnstest.Answer(t, nil)(q, from)
	}, nil)
	f := newForwarder(t, first, dnstest.StartUpstream(t, dnstest.Answer(t, dnstest.Address("192.0.2.2")), nil))
	ask := func() string {
		m := reply(t, f, queryFor("www.example.com."))
		return m.Answer[0].(*dns.A).A.String()
	}
	h := &f.upstream(0).health
	h.mu.Lock()
	h.leaveLocked()
	h.troubled.Store(true)
	h.retryAt = time.Now().Add(time.Hour)
	h.mu.Unlock()
	if got := ask(); got != "192.0.2.2" || asked.Load() > 0 {
		t.Errorf("got %v, and the one that is away was asked %d times; want it left alone", got, asked.Load())
	}
	h.mu.Lock()
	h.retryAt = time.Now() // some time later
	h.mu.Unlock()
	if got := ask(); got != "192.0.2.2" {
		t.Errorf("got %v; want the answer of the one that works: no client is to find out", got)
	}
	waitFor(t, func() bool { return ask() == "192.0.2.1" })
}

// An upstream that stops answering is logged once, and once when it answers
// again.
func TestForwardLog(t *testing.T) {
	log := dnstest.NewLog()
	var answers atomic.Bool
	up := dnstest.StartUpstream(t, func(q *dns.Msg, _ netip.AddrPort) [][]byte {
		if answers.Load() {
			return [][]byte{dnstest.AnswerTo(t, q, nil)}
		}
		return [][]byte{{1}} // junk, and then nothing
	}, nil)
	f := newForwarder(t, up)
	f.Timeout = 10 * time.Millisecond
	logTo(t, f, log)
	ask := func() { reply(t, f, queryFor("www.example.com.")) }
	for range 2 * awayAfter {
		ask()
	}
	log.Wait(t, "level=WARN", "upstream="+up.String())
	answers.Store(true)
	f.Timeout = patience
	ask()
	ask()
	log.Wait(t, "level=INFO", "upstream="+up.String())
	if got := strings.Count(log.String(), "\n"); got != 2 {
		t.Errorf("got %d lines; want 2:\n%s", got, log)
	}
}

// BenchmarkAnswer asks one upstream for names that are not kept, one after the other.
func BenchmarkAnswer(b *testing.B) {
	f := newForwarder(b, dnstest.StartUpstream(b, dnstest.Answer(b, nil), nil))
	f.upstream(0).sockets.maxFresh = 1 << 30
	q := questionOf(b, queryFor("www.example.com."))
	b.ReportAllocs()
	for b.Loop() {
		if r := f.Answer(b.Context(), q, 1, localhost); r == nil || r.Rcode() != dns.RcodeSuccess {
			b.Fatal(r)
		}
	}
}
