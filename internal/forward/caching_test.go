package forward

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnstest"
)

// ages makes the response in f's cache older.
func ages(t *testing.T, f *Forwarder, qname string, qtype uint16, by time.Duration) {
	t.Helper()
	q := dnscache.NewQuestion(mustName(t, qname), qtype, dnscache.RD)
	old := f.Cache.Get(q)
	if old == nil {
		t.Fatalf("%s is not in the cache", qname)
	}
	old.Born = old.Born.Add(-by)
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
		{"an address", nil, "NOERROR ra; www.example.com. 77 A 192.0.2.1", 77 * time.Second,
			"NOERROR ra; www.example.com. 1 A 192.0.2.1"},
		{"the smallest TTL counts", func(m *dns.Msg) {
			m.Answer = dnstest.Records(t, "www.example.com. 100 IN CNAME web.example.net.\nweb.example.net. 40 IN A 192.0.2.1")
		}, "NOERROR ra; web.example.net. 40 A 192.0.2.1, www.example.com. 100 CNAME web.example.net.", 40 * time.Second,
			"NOERROR ra; web.example.net. 1 A 192.0.2.1, www.example.com. 61 CNAME web.example.net."},
		{"NXDOMAIN", func(m *dns.Msg) { m.Rcode, m.Answer, m.Ns = dns.RcodeNameError, nil, dnstest.Records(t, soa) },
			"NXDOMAIN ra;; example.com. 60 SOA ns.example.com. host.example.com. 1 2 3 4 60", time.Minute,
			"NXDOMAIN ra;; example.com. 1 SOA ns.example.com. host.example.com. 1 2 3 4 60"},
		{"no data", func(m *dns.Msg) { m.Answer, m.Ns = nil, dnstest.Records(t, strings.Replace(soa, " 60", " 5", 1)) },
			"NOERROR ra;; example.com. 5 SOA ns.example.com. host.example.com. 1 2 3 4 5", 5 * time.Second,
			"NOERROR ra;; example.com. 1 SOA ns.example.com. host.example.com. 1 2 3 4 5"},
		{"no data for days", func(m *dns.Msg) {
			m.Answer, m.Ns = nil, dnstest.Records(t, "example.com. 99999 IN SOA ns.example.com. host.example.com. 1 2 3 4 88888")
		}, "NOERROR ra;; example.com. 88888 SOA ns.example.com. host.example.com. 1 2 3 4 88888", time.Hour,
			"NOERROR ra;; example.com. 85289 SOA ns.example.com. host.example.com. 1 2 3 4 88888"},
		{"NXDOMAIN without SOA", dnstest.Rcode(dns.RcodeNameError), "NXDOMAIN ra", 0, ""},
		{"NXDOMAIN with the SOA of others", func(m *dns.Msg) {
			m.Rcode, m.Answer, m.Ns = dns.RcodeNameError, nil, dnstest.Records(t,
				strings.Replace(soa, "example.com.", "example.net.", 1))
		}, "NXDOMAIN ra", 0, ""},
		{"TTL 0", func(m *dns.Msg) { m.Answer[0].Header().Ttl = 0 }, "NOERROR ra; www.example.com. 0 A 192.0.2.1",
			0, ""},
		{"TTL 2^31", func(m *dns.Msg) { m.Answer[0].Header().Ttl = 1 << 31 },
			"NOERROR ra; www.example.com. 0 A 192.0.2.1", 0, ""},
		{"TTL 2^31-1", func(m *dns.Msg) { m.Answer[0].Header().Ttl = 1<<31 - 1 },
			"NOERROR ra; www.example.com. 2147483647 A 192.0.2.1", 24 * time.Hour,
			"NOERROR ra; www.example.com. 2147397248 A 192.0.2.1"},
		{"SERVFAIL", dnstest.Rcode(dns.RcodeServerFailure), "SERVFAIL ra", dnscache.FailureTTL, "SERVFAIL ra"},
		{"truncated", truncated, "NOERROR tc ra", 0, ""},
		{"what was not asked", func(m *dns.Msg) {
			m.Answer = append(m.Answer,
				dnstest.Records(t,
					"bank.example.net. 600 IN A 192.0.2.66\nwww.example.com. 1 IN TXT no\n*.example.com. 3 IN A 192.0.2.67")...)
			m.Ns = dnstest.Records(t, "example.com. 600 IN NS ns.example.net.")
			m.Extra = dnstest.Records(t, "ns.example.net. 600 IN A 192.0.2.68")
		}, "NOERROR ra; www.example.com. 77 A 192.0.2.1", 77 * time.Second, "NOERROR ra; www.example.com. 1 A 192.0.2.1"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			var asked atomic.Int32
			f := newCachingForwarder(t, dnstest.StartUpstream(t, func(q *dns.Msg, from netip.AddrPort) [][]byte {
				asked.Add(1)
				return dnstest.Answer(t, tt.change)(q, from)
			}, nil))
			ask := func(want string, times int32) {
				t.Helper()
				if got := show(reply(t, f, queryFor("www.example.com."))); got != want || asked.Load() != times {
					t.Errorf("got %v, and the upstream was asked %d times; want %v and %d", got, asked.Load(), want,
						times)
				}
			}
			ask(tt.first, 1)
			if tt.good == 0 {
				ask(tt.first, 2)
				return
			}
			ask(tt.first, 1)
			ages(t, f, "www.example.com", dns.TypeA, tt.good-time.Second)
			ask(tt.later, 1)
			ages(t, f, "www.example.com", dns.TypeA, time.Second)
			ask(tt.first, 2)
			f.Cache.Clear()
			ask(tt.first, 3)
		})
	}
}

// Questions that may be answered differently are different.
func TestCacheKey(t *testing.T) {
	var asked atomic.Int32
	f := newCachingForwarder(t, dnstest.StartUpstream(t, func(q *dns.Msg, from netip.AddrPort) [][]byte {
		asked.Add(1)
		return dnstest.Answer(t, func(m *dns.Msg) { m.AuthenticatedData = true })(q, from)
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
			req := queryFor("www.example.com.")
			change(req)
			same(req)
			m := reply(t, f, req)
			do := req.IsEdns0() != nil
			if asked.Load() != int32(i+1) || m.AuthenticatedData != (req.AuthenticatedData || do) ||
				m.Question[0] != req.Question[0] {
				t.Errorf("%v: the upstream was asked %d times, AD %t; want %d times, and AD where it is asked for",
					req, asked.Load(), m.AuthenticatedData, i+1)
			}
		}
	}
	req := queryFor("www.example.com.")
	req.RecursionDesired = false // what an upstream has at hand is not all there is
	before := asked.Load()
	reply(t, f, req)
	reply(t, f, req)
	if got := asked.Load() - before; got != 2 {
		t.Errorf("without RD: the upstream was asked %d times; want 2", got)
	}
}

// Where no upstream answers, what was good once is answered for a day.
func TestServeStale(t *testing.T) {
	var works atomic.Bool
	var asked atomic.Int32
	f := newCachingForwarder(t, dnstest.StartUpstream(t, func(q *dns.Msg, from netip.AddrPort) [][]byte {
		asked.Add(1)
		if works.Load() {
			return dnstest.Answer(t, dnstest.Address("192.0.2.2"))(q, from)
		}
		return dnstest.Answer(t, dnstest.Rcode(dns.RcodeServerFailure))(q, from)
	}, nil))
	ask := func(what, want string, times int32) {
		t.Helper()
		if got := show(reply(t, f, queryFor("www.example.com."))); got != want || asked.Load() != times {
			t.Errorf("%s: got %v, asked %d times; want %v and %d", what, got, asked.Load(), want, times)
		}
	}
	works.Store(true)
	ask("at first", "NOERROR ra; www.example.com. 77 A 192.0.2.2", 1)
	works.Store(false)
	ages(t, f, "www.example.com", dns.TypeA, 23*time.Hour)
	const stale = "NOERROR ra; www.example.com. 30 A 192.0.2.2"
	ask("after its time", stale, 2)
	ask("again at once: no upstream is asked so soon", stale, 2)
	ages(t, f, "www.example.com", dns.TypeA, dnscache.FailureTTL)
	ask("some seconds later", stale, 3)
	ages(t, f, "www.example.com", dns.TypeA, 2*time.Hour)
	ask("after more than a day", "SERVFAIL ra", 4)
	works.Store(true)
	f.Cache.Clear()
	ask("an upstream answers", "NOERROR ra; www.example.com. 77 A 192.0.2.2", 5)
	ages(t, f, "www.example.com", dns.TypeA, time.Hour)
	ask("it still does", "NOERROR ra; www.example.com. 77 A 192.0.2.2", 6)
}

// A client does not wait for an upstream that takes long, where there is
// something to answer.
func TestServeStaleSoon(t *testing.T) {
	t.Parallel()
	var silence atomic.Bool
	f := newCachingForwarder(t, dnstest.StartUpstream(t, func(q *dns.Msg, from netip.AddrPort) [][]byte {
		if silence.Load() {
			return nil
		}
		return dnstest.Answer(t, nil)(q, from)
	}, nil))
	req := queryFor("www.example.com.")
	reply(t, f, req)
	ages(t, f, "www.example.com", dns.TypeA, time.Hour)
	silence.Store(true)
	begun := time.Now()
	if got, want := show(reply(t, f, req)), "NOERROR ra; www.example.com. 30 A 192.0.2.1"; got != want {
		t.Errorf("got %v; want %v", got, want)
	}
	if took := time.Since(begun); took > f.Timeout {
		t.Errorf("took %v, as long as the upstream; want less", took)
	}
}

// Equal questions that are out at a time are one query to an upstream.
func TestFlightsAreShared(t *testing.T) {
	up, asked, release := heldUpstream(t)
	f := newCachingForwarder(t, up)
	var wg sync.WaitGroup
	const clients = 100
	for i := range clients {
		wg.Go(func() {
			m := replyTo(t, f, queryFor("www.example.com."), netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}))
			if got, want := show(m), "NOERROR ra; www.example.com. 77 A 192.0.2.1"; got != want {
				t.Errorf("got %v; want %v", got, want)
			}
		})
	}
	<-asked
	waitFor(t, func() bool {
		return f.Status().InFlight == clients
	})
	close(release)
	wg.Wait()
	if len(asked) > 0 {
		t.Errorf("the upstream was asked %d times; want once", 1+len(asked))
	}
}

// An answer that was asked for before the cache was emptied, or of others than
// are asked now, is not kept.
func TestCacheAfterRoutesChange(t *testing.T) {
	up, asked, release := heldUpstream(t)
	f := newCachingForwarder(t, up)
	done := make(chan struct{})
	go func() {
		defer close(done)
		reply(t, f, queryFor("www.example.com."))
	}()
	<-asked
	other := dnstest.StartUpstream(t, dnstest.Answer(t, dnstest.Address("192.0.2.2")), nil)
	f.configured = Routes{dnsname.Root: servers(other)}
	f.makeGroups()
	close(release)
	<-done
	m := reply(t, f, queryFor("www.example.com."))
	if got, want := show(m), "NOERROR ra; www.example.com. 77 A 192.0.2.2"; got != want {
		t.Errorf("got %v, of the old upstream; want %v", got, want)
	}
}

// Queries that wait are bounded, those of a client too: past the bound it gets SERVFAIL at once, and afterwards all
// is as before.
func TestForwardBound(t *testing.T) {
	was := dnstest.LoadNow()
	t.Run("flood", func(t *testing.T) {
		var answers atomic.Bool
		f := newForwarder(t, dnstest.StartUpstream(t, func(q *dns.Msg, _ netip.AddrPort) [][]byte {
			if !answers.Load() && !isProbe(q) {
				return nil
			}
			return [][]byte{dnstest.AnswerTo(t, q, nil)}
		}, nil))
		flood, stop := context.WithCancel(t.Context())
		defer stop()
		ask := func(ctx context.Context, client, qname string) string {
			q := queryFor(qname)
			return show(asReply(t, q, f.Answer(ctx, questionOf(t, q), q.Id, netip.MustParseAddr(client))))
		}
		var wg sync.WaitGroup
		waiting := 0
		fill := func(client string, count int) {
			t.Helper()
			for i := range count {
				// some wait for others' answers
				wg.Go(func() { ask(flood, client, fmt.Sprintf("%d.example.com.", i%100)) })
			}
			waiting += count
			waitFor(t, func() bool { return f.Status().InFlight == waiting })
		}
		refused := func(client string) {
			t.Helper()
			for i := range 50 {
				if got, want := ask(t.Context(), client,
					fmt.Sprintf("%d.example.net.", i)), "SERVFAIL ra"; got != want {
					t.Fatalf("%s past the bound: got %v; want %v", client, got, want)
				}
				if got := f.Status().InFlight; got != waiting { // it did not wait for one of them
					t.Fatalf("got %d queries that wait; want %d", got, waiting)
				}
			}
		}
		fill("10.0.0.1", maxClientWaiting)
		refused("10.0.0.1")
		for i := 2; i <= maxWaiting/maxClientWaiting; i++ {
			fill(fmt.Sprintf("10.0.0.%d", i), maxClientWaiting)
		}
		refused("10.0.0.9")
		answers.Store(true)
		stop()
		wg.Wait()
		if got, want := ask(t.Context(), "10.0.0.1",
			"www.example.com."), "NOERROR ra; www.example.com. 77 A 192.0.2.1"; got != want {
			t.Errorf("afterwards: got %v; want %v", got, want)
		}
	})
	was.ReturnsTo(t)
}

// heldUpstream answers its queries only after release is closed.
func heldUpstream(t *testing.T) (up netip.AddrPort, asked <-chan struct{}, release chan struct{}) {
	seen := make(chan struct{}, 100)
	release = make(chan struct{})
	up = dnstest.StartConcurrent(t, func(q *dns.Msg) []byte {
		if !isProbe(q) {
			seen <- struct{}{}
			<-release
		}
		return dnstest.AnswerTo(t, q, nil)
	})
	return up, seen, release
}
