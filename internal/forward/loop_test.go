package forward

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnstest"
)

// Two that have each other as their upstream don't ask for ever: the client gets SERVFAIL soon, and the log one
// line.
func TestForwardingLoop(t *testing.T) {
	log := dnstest.NewLog()
	var both [2]atomic.Pointer[Forwarder] // which the upstreams read
	var addrs [2]netip.AddrPort
	for i := range both {
		addrs[i] = dnstest.StartConcurrent(t, func(q *dns.Msg) []byte {
			return packReply(t, replyTo(t, both[i].Load(), q, localhost), q)
		})
	}
	for i := range both {
		f := newForwarder(t, addrs[1-i])
		if i == 0 {
			logTo(t, f, log)
		}
		both[i].Store(f)
	}
	for i := range 5 {
		q := queryFor(fmt.Sprintf("%d.example.com.", i))
		if got, want := show(reply(t, both[0].Load(), q)), "SERVFAIL ra"; got != want {
			t.Errorf("got %v; want %v", got, want)
		}
	}
	log.Wait(t, "forwarding loop", "upstream="+addrs[1].String())
	if n := strings.Count(log.String(), "forwarding loop"); n != 1 {
		t.Errorf("got %d lines about it; want one:\n%s", n, log)
	}
}

// packReply packs a reply to q.
func packReply(t *testing.T, m, q *dns.Msg) []byte {
	m.Id = q.Id
	b, err := m.Pack()
	if err != nil {
		t.Error(err)
	}
	return b
}

// Our own query, sent back here as a packet filter does that has all queries sent to dnsdock, gets SERVFAIL soon.
func TestOwnQueryComesBack(t *testing.T) {
	log := dnstest.NewLog()
	var back atomic.Pointer[Forwarder]
	echo := make(chan string, 10)
	up := dnstest.StartConcurrent(t, func(q *dns.Msg) []byte {
		m := replyTo(t, back.Load(), q, netip.MustParseAddr("10.9.9.9"))
		if strings.HasPrefix(q.Question[0].Name, "www.") {
			echo <- show(m)
		}
		return packReply(t, m, q)
	})
	f := newForwarder(t, up)
	logTo(t, f, log)
	back.Store(f)
	for range 2 {
		if got, want := show(reply(t, f, queryFor("www.example.com."))), "SERVFAIL ra"; got != want {
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

// A client on the upstream's host, or one whose ID is by chance that of our query, is no loop: it gets its answer,
// and the upstream one probe at most.
func TestNoLoop(t *testing.T) {
	for _, chance := range []bool{false, true} {
		log := dnstest.NewLog()
		release := make(chan struct{})
		var probes, queries atomic.Int32
		id := make(chan uint16, 1)
		f := newForwarder(t, dnstest.StartConcurrent(t, func(q *dns.Msg) []byte {
			if strings.HasPrefix(q.Question[0].Name, "dnsdock-") {
				probes.Add(1)
				return dnstest.AnswerTo(t, q, dnstest.Rcode(dns.RcodeNameError))
			}
			if queries.Add(1) == 1 {
				id <- q.Id
			}
			<-release
			return dnstest.AnswerTo(t, q, nil)
		}))
		logTo(t, f, log)
		client := localhost
		if chance {
			client = netip.MustParseAddr("10.0.0.9")
		}
		var wg sync.WaitGroup
		ask := func(id uint16) {
			wg.Go(func() {
				q := queryFor("www.example.com.")
				q.Id = id
				if got, want := show(replyTo(t, f, q,
					client)), "NOERROR ra; www.example.com. 77 A 192.0.2.1"; got != want {
					t.Errorf("by chance %t: got %v; want %v", chance, got, want)
				}
			})
		}
		ask(1)
		sent := <-id
		for range 5 {
			ask(sent)
		}
		waitFor(t, func() bool { return probes.Load() == 1 && f.Status().InFlight == 6 })
		close(release)
		wg.Wait()
		if probes.Load() != 1 || log.String() != "" {
			t.Errorf("by chance %t: got %d probes, and the log %q; want one probe, and no word of a loop", chance,
				probes.Load(), log)
		}
	}
}

// Names with room for a probe and without give one of a good length.
func TestRandomBelow(t *testing.T) {
	long := dnsname.Root
	for len(long)+2 <= dnsname.MaxLen {
		long = "\x01a" + long
	}
	for _, n := range []dnsname.Name{dnsname.Root, mustName(t, "www.example.com"), long} {
		a, b := randomBelow(n), randomBelow(n)
		if a == b || len(a) > dnsname.MaxLen || !strings.HasPrefix(a.String(), "dnsdock-") || !n.Under(a.Parent()) {
			t.Errorf("below %v: got %v and %v", n, a, b)
		}
	}
}
