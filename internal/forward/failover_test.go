package forward

import (
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnstest"
)

func TestForwardFailover(t *testing.T) {
	const (
		first  = "NOERROR ra; www.example.com. 77 A 192.0.2.1"
		second = "NOERROR ra; www.example.com. 77 A 192.0.2.2"
	)
	for _, tt := range []struct {
		what    string
		first   dnstest.Answerer // nil: a closed port
		second  dnstest.Answerer
		want    string
		asked   [2]int32
		timeout time.Duration // patience, unless set: then a time-out fails the test
	}{
		{"in order", dnstest.Answer(t, nil), dnstest.Answer(t, dnstest.Address("192.0.2.2")), first, [2]int32{1, 0}, 0},
		{"silent", dnstest.Silent, dnstest.Answer(t, dnstest.Address("192.0.2.2")), second, [2]int32{1, 1}, shortTimeout},
		{"closed port", nil, dnstest.Answer(t, dnstest.Address("192.0.2.2")), second, [2]int32{0, 1}, 0},
		{"SERVFAIL", dnstest.Answer(t, dnstest.Rcode(dns.RcodeServerFailure)), dnstest.Answer(t, dnstest.Address("192.0.2.2")), second,
			[2]int32{1, 1}, 0},
		{"REFUSED", dnstest.Answer(t, dnstest.Rcode(dns.RcodeRefused)), dnstest.Answer(t, dnstest.Address("192.0.2.2")), second, [2]int32{1, 1}, 0},
		{"NXDOMAIN is an answer", dnstest.Answer(t, dnstest.Rcode(dns.RcodeNameError)), dnstest.Answer(t, nil), "NXDOMAIN ra",
			[2]int32{1, 0}, 0},
		{"no data is an answer", dnstest.Answer(t, dnstest.Rcode(dns.RcodeSuccess)), dnstest.Answer(t, nil), "NOERROR ra", [2]int32{1, 0}, 0},
		{"SERVFAIL with an answer", dnstest.Answer(t, func(m *dns.Msg) { m.Rcode = dns.RcodeServerFailure }),
			dnstest.Answer(t, dnstest.Address("192.0.2.2")), second, [2]int32{1, 1}, 0},
		{"a record without data", dnstest.Answer(t, raw(dns.TypeSOA, "")), dnstest.Answer(t, dnstest.Address("192.0.2.2")), second,
			[2]int32{1, 1}, 0},
		{"a record that ends early", dnstest.Answer(t, raw(dns.TypeSOA, "016100")), dnstest.Answer(t, dnstest.Address("192.0.2.2")), second,
			[2]int32{1, 1}, 0},
		{"both SERVFAIL", dnstest.Answer(t, dnstest.Rcode(dns.RcodeServerFailure)), dnstest.Answer(t, dnstest.Rcode(dns.RcodeServerFailure)),
			"SERVFAIL ra", [2]int32{1, 1}, 0},
		{"both REFUSED", dnstest.Answer(t, dnstest.Rcode(dns.RcodeRefused)), dnstest.Answer(t, dnstest.Rcode(dns.RcodeRefused)), "SERVFAIL ra",
			[2]int32{1, 1}, 0},
		{"both closed", nil, nil, "SERVFAIL ra", [2]int32{}, 0},
		{"both silent", dnstest.Silent, dnstest.Silent, "SERVFAIL ra", [2]int32{1, 1}, shortTimeout},
	} {
		t.Run(tt.what, func(t *testing.T) {
			var asked [2]atomic.Int32
			count := func(i int, f dnstest.Answerer) dnstest.Answerer {
				if f == nil {
					return nil
				}
				return func(q *dns.Msg, from netip.AddrPort) [][]byte {
					if !isProbe(q) {
						asked[i].Add(1)
					}
					return f(q, from)
				}
			}
			f := newForwarder(t, dnstest.StartUpstream(t, count(0, tt.first), nil),
				dnstest.StartUpstream(t, count(1, tt.second), nil))
			if tt.timeout != 0 {
				f.Timeout = tt.timeout
			}
			m := reply(t, f, queryFor("www.example.com."))
			if got := show(m); got != tt.want {
				t.Errorf("got %v; want %v", got, tt.want)
			}
			if got := [2]int32{asked[0].Load(), asked[1].Load()}; got != tt.asked {
				t.Errorf("the upstreams were asked %v times; want %v", got, tt.asked)
			}
		})
	}
}

func TestForwardTimeoutDefault(t *testing.T) {
	if got, want := New(nil, nil, 0, nil).Timeout, 2*time.Second; got != want {
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
		tcp    dnstest.Answerer // nil: a closed port
		second dnstest.Answerer
		want   string
	}{
		{"TCP answers", dnstest.Answer(t, dnstest.Address("192.0.2.9")), dnstest.Answer(t, nil), whole},
		{"TCP is closed", nil, nil, cut},
		{"TCP is silent", dnstest.Silent, nil, cut},
		{"TCP answers another query", dnstest.Answer(t, wrongID), nil, cut},
		{"TCP is cut too", dnstest.Answer(t, truncated), nil, cut},
		{"TCP says SERVFAIL", dnstest.Answer(t, dnstest.Rcode(dns.RcodeServerFailure)), nil, "SERVFAIL ra"},
		{"TCP sends junk", func(*dns.Msg, netip.AddrPort) [][]byte { return [][]byte{{1, 2, 3}} }, nil, cut},
		{"TCP is closed, the next one answers", nil, dnstest.Answer(t, dnstest.Address("192.0.2.9")), whole},
	} {
		t.Run(tt.what, func(t *testing.T) {
			first := dnstest.StartUpstream(t, dnstest.Answer(t, truncated), tt.tcp)
			f := newForwarder(t, first, dnstest.StartUpstream(t, tt.second, nil))
			f.Timeout = patience
			if strings.Contains(tt.what, "silent") {
				f.Timeout = shortTimeout
			}
			m := reply(t, f, queryFor("www.example.com."))
			if got := show(m); got != tt.want {
				t.Errorf("got %v; want %v", got, tt.want)
			}
		})
	}
}

// An upstream without EDNS is asked without it.
func TestUpstreamWithoutEDNS(t *testing.T) {
	var asked atomic.Int32
	f := newForwarder(t, dnstest.StartUpstream(t, func(q *dns.Msg, from netip.AddrPort) [][]byte {
		asked.Add(1)
		if q.IsEdns0() != nil {
			return dnstest.Answer(t, dnstest.Rcode(dns.RcodeFormatError))(q, from)
		}
		return dnstest.Answer(t, nil)(q, from)
	}, nil))
	if got, want := show(reply(t, f,
		queryFor("www.example.com."))), "NOERROR ra; www.example.com. 77 A 192.0.2.1"; got != want ||
		asked.Load() != 2 {
		t.Errorf("got %v after %d queries; want %v after 2", got, asked.Load(), want)
	}
}

// Good upstreams that are slow, as with a cold cache, answer also where there
// are several.
func TestSeveralSlowUpstreams(t *testing.T) {
	for _, tt := range []struct {
		n      int
		slow   time.Duration
		bursts bool
	}{{1, 3200 * time.Millisecond, false}, {1, 3200 * time.Millisecond, true}, {2, 1500 * time.Millisecond,
		false}, {2, 1500 * time.Millisecond, true}, {3, 1500 * time.Millisecond, false}, {3, 1500 * time.Millisecond, true}, {4, 1200 * time.Millisecond, false}, {8, 900 * time.Millisecond, false}} {
		t.Run(fmt.Sprint(tt), func(t *testing.T) {
			t.Parallel()
			var ups []netip.AddrPort
			for range tt.n {
				ups = append(ups, slowUpstream(t, tt.slow))
			}
			f := newForwarder(t, ups...)
			f.Timeout = UpstreamTimeout
			ask := asker(t, f, tt.bursts)
			begun := time.Now()
			r := ask(queryFor("www.example.com."))
			t.Log(show(r), time.Since(begun))
			if r.Rcode != 0 {
				t.Errorf("got %v after %v", show(r), time.Since(begun))
			}
		})
	}
}

// slowUpstream answers each query after some time, all at once.
func slowUpstream(t *testing.T, by time.Duration) netip.AddrPort {
	return dnstest.StartConcurrent(t, func(q *dns.Msg) []byte {
		if !isProbe(q) {
			time.Sleep(by) // it stands for a real look-up
		}
		return dnstest.AnswerTo(t, q, nil)
	})
}
