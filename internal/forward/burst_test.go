package forward

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnstest"
)

// Many clients at once, in bursts: each gets the answer to its own question.
func TestBursts(t *testing.T) {
	f := newForwarder(t, dnstest.StartUpstream(t, func(q *dns.Msg, _ netip.AddrPort) [][]byte {
		var i byte
		_, _ = fmt.Sscan(q.Question[0].Name, &i)
		switch i % 7 {
		case 1:
			return [][]byte{dnstest.AnswerTo(t, q, dnstest.Rcode(dns.RcodeNameError))}
		case 2:
			return [][]byte{dnstest.AnswerTo(t, q, truncated)}
		case 3:
			return [][]byte{dnstest.AnswerTo(t, q, dnstest.Rcode(dns.RcodeServerFailure))}
		case 4:
			return [][]byte{dnstest.AnswerTo(t, q, func(m *dns.Msg) {
				for range 60 {
					m.Answer = append(m.Answer, m.Answer[0])
				}
				m.Compress = true
			})}
		}
		return [][]byte{dnstest.AnswerTo(t, q, func(m *dns.Msg) { m.Answer[0].(*dns.A).A = net.IPv4(192, 0, 2, i) })}
	}, dnstest.Answer(t, dnstest.Address("192.0.2.99"))))
	ask := asker(t, f, true)
	var wg sync.WaitGroup
	for w := range 20 {
		wg.Go(func() {
			for i := range 50 {
				i := byte(i*20 + w)
				qname := fmt.Sprintf("%d.%d.example.com.", i, w)
				want := map[byte]string{1: "NXDOMAIN ra", 2: "NOERROR ra; " + qname + " 77 A 192.0.2.99",
					3: "SERVFAIL ra"}[i%7]
				r := ask(queryFor(qname))
				if want == "" {
					want = fmt.Sprintf("NOERROR ra; %s 77 A 192.0.2.%d", qname, i)
				}
				if i%7 == 4 {
					if len(r.Answer) != 61 {
						t.Errorf("%s: got %d records; want 61", qname, len(r.Answer))
					}
				} else if got := show(r); got != want {
					t.Errorf("got %v; want %v", got, want)
				}
			}
		})
	}
	wg.Wait()
	waitFor(t, f.idle)
}

// What is stale goes out where no upstream answers, and not because the first
// one can't tell all by UDP.
func TestStaleInBursts(t *testing.T) {
	for what, ups := range map[string][]netip.AddrPort{
		"TC": {dnstest.StartUpstream(t, dnstest.Answer(t, truncated), dnstest.Answer(t, dnstest.Address("192.0.2.9")))},
		"SERVFAIL": {dnstest.StartUpstream(t, dnstest.Answer(t, dnstest.Rcode(dns.RcodeServerFailure)), nil),
			dnstest.StartUpstream(t, dnstest.Answer(t, dnstest.Address("192.0.2.9")), nil)},
		"no EDNS": {dnstest.StartUpstream(t, func(q *dns.Msg, from netip.AddrPort) [][]byte {
			if q.IsEdns0() != nil {
				return dnstest.Answer(t, dnstest.Rcode(dns.RcodeFormatError))(q, from)
			}
			return dnstest.Answer(t, dnstest.Address("192.0.2.9"))(q, from)
		}, nil)},
	} {
		for _, bursts := range []bool{false, true} {
			f := newCachingForwarder(t, ups...)
			ask := asker(t, f, bursts)
			stale(t, f, queryFor("www.example.com."), "77 IN A 192.0.2.1", 77*time.Second)
			r := ask(queryFor("www.example.com."))
			if got, want := show(r), "NOERROR ra; www.example.com. 77 A 192.0.2.9"; got != want {
				t.Errorf("%s, in bursts %t: got %v; want %v", what, bursts, got, want)
			}
		}
	}
}

// A large answer is asked for once.
func TestLargeAnswerInBurstsOnce(t *testing.T) {
	for _, bursts := range []bool{false, true} {
		var asked atomic.Int32
		f := newForwarder(t, dnstest.StartUpstream(t, func(q *dns.Msg, from netip.AddrPort) [][]byte {
			asked.Add(1)
			return dnstest.Answer(t, func(m *dns.Msg) {
				for range 60 {
					m.Answer = append(m.Answer, m.Answer[0])
				}
				m.Compress = true
			})(q, from)
		}, nil))
		r := asker(t, f, bursts)(queryFor("www.example.com."))
		if asked.Load() != 1 || len(r.Answer) != 61 {
			t.Errorf("in bursts %t: asked %d times, got %d records", bursts, asked.Load(), len(r.Answer))
		}
	}
}

// A client has no more queries out than the bound, those with something stale included.
func TestBoundOfStale(t *testing.T) {
	t.Parallel()
	f := newForwarder(t, dnstest.StartUpstream(t, dnstest.Answer(t, dnstest.Rcode(dns.RcodeServerFailure)), nil),
		dnstest.StartUpstream(t, dnstest.Silent, nil))
	f.Cache = dnscache.New(64 << 20)
	f.Timeout = UpstreamTimeout
	const names = 4000
	ask := asker(t, f, true)
	var wg sync.WaitGroup
	defer wg.Wait()
	most := 0
	for i := range names {
		q := queryFor(fmt.Sprintf("n%d.example.com.", i))
		stale(t, f, q, "77 IN A 192.0.2.1", 77*time.Second)
		wg.Go(func() {
			if r := ask(q); len(r.Answer) != 1 {
				t.Errorf("got %v; want the stale address", show(r))
			}
		})
		if i%50 == 0 || i == names-1 {
			f.mu.Lock()
			most = max(most, len(f.pending))
			f.mu.Unlock()
		}
	}
	if most > maxClientWaiting {
		t.Errorf("one client had %d queries out; want %d at most", most, maxClientWaiting)
	}
}

// stale makes f's cache have an answer to q that was good for a time, an hour ago.
func stale(t *testing.T, f *Forwarder, q *dns.Msg, rr string, good time.Duration) {
	t.Helper()
	m := q.Copy()
	m.Answer = dnstest.Records(t, q.Question[0].Name+" "+rr)
	old, err := dnscache.NewResponse(questionOf(t, q), m, good)
	if err != nil {
		t.Fatal(err)
	}
	old.Born = old.Born.Add(-time.Hour)
	f.Cache.Put(old)
}
