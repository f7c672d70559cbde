package forward

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/udpio"
)

const (
	patience = dnstest.Patience
	// shortTimeout is that of the first of two upstreams, if one is silent on
	// purpose. Twice this is less than resendAfter.
	shortTimeout = 450 * time.Millisecond
)

// closedUpstream returns an address of loopback on which no program listens.
func closedUpstream(t testing.TB) netip.AddrPort { return dnstest.StartUpstream(t, nil, nil) }

func truncated(m *dns.Msg) { m.Truncated, m.Answer = true, nil }

// raw answers with a record of any data, in hex digits.
func raw(rrtype uint16, data string) func(*dns.Msg) {
	return func(m *dns.Msg) {
		h := dns.RR_Header{Name: m.Question[0].Name, Rrtype: rrtype, Class: dns.ClassINET}
		m.Answer = []dns.RR{&dns.RFC3597{Hdr: h, Rdata: data}}
	}
}

// isProbe reports whether q asks only whether the server is there.
func isProbe(q *dns.Msg) bool { return q.Question[0].Name == "." }

func mustName(t testing.TB, s string) dnsname.Name {
	t.Helper()
	n, err := dnsname.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// servers are those at addrs.
func servers(addrs ...netip.AddrPort) (list []Server) {
	for _, a := range addrs {
		list = append(list, Server{Addr: a})
	}
	return list
}

// loaded returns f with its upstreams.
func loaded(t testing.TB, f *Forwarder) *Forwarder {
	t.Helper()
	logTo(t, f, io.Discard)
	if err := f.Load(); err != nil {
		t.Fatal(err)
	}
	return logTo(t, f, io.Discard)
}

// logTo returns f, which logs to w from now on. A line that is logged while a lock is held fails the test.
func logTo(t testing.TB, f *Forwarder, w io.Writer) *Forwarder {
	locks := []*sync.Mutex{&f.mu, &f.loading, &f.clients.reading}
	for _, g := range f.all() {
		for _, u := range g.upstreams {
			locks = append(locks, &u.mu, &u.health.mu, &u.loop.mu, &u.sockets.mu)
		}
	}
	f.log = slog.New(dnstest.Unlocked(t, w, locks...))
	f.router.log = f.log
	return f
}

// newForwarder returns a forwarder to upstreams that keeps nothing. It waits for them for a long time: a test that
// is to see a timeout sets the forwarder's Timeout.
func newForwarder(t testing.TB, upstreams ...netip.AddrPort) *Forwarder {
	t.Helper()
	f := loaded(t, New(Routes{dnsname.Root: servers(upstreams...)}, nil, 0, slog.New(slog.DiscardHandler)))
	f.Timeout = patience
	return f
}

// newCachingForwarder returns a forwarder that keeps what upstreams say.
func newCachingForwarder(t testing.TB, upstreams ...netip.AddrPort) *Forwarder {
	t.Helper()
	f := newForwarder(t, upstreams...)
	f.Cache = dnscache.New(1 << 20)
	return f
}

// upstream returns upstream i for all names.
func (f *Forwarder) upstream(i int) *Upstream { return f.groupFor(dnsname.Root).upstreams[i] }

// idle reports whether no query waits for an upstream.
func (f *Forwarder) idle() bool { return f.Status().InFlight == 0 }

// query returns a query for A records.
func queryFor(qname string) *dns.Msg { return new(dns.Msg).SetQuestion(qname, dns.TypeA) }

var localhost = netip.MustParseAddr("127.0.0.1")

// questionOf returns what req asks upstreams.
func questionOf(t testing.TB, req *dns.Msg) dnscache.Question {
	t.Helper()
	flags := byte(0)
	if req.RecursionDesired {
		flags |= dnscache.RD
	}
	if req.CheckingDisabled {
		flags |= dnscache.CD
	}
	if opt := req.IsEdns0(); opt != nil && opt.Do() {
		flags |= dnscache.DO
	}
	return dnscache.NewQuestion(mustName(t, req.Question[0].Name), req.Question[0].Qtype, flags)
}

// reply returns what a client on this host is told, as a message.
func reply(t testing.TB, f *Forwarder, req *dns.Msg) *dns.Msg { return replyTo(t, f, req, localhost) }

// replyTo is reply for another client.
func replyTo(t testing.TB, f *Forwarder, req *dns.Msg, client netip.Addr) *dns.Msg {
	t.Helper()
	return asReply(t, req, f.Answer(t.Context(), questionOf(t, req), req.Id, client))
}

// asReply makes a reply to req of what a forwarder returned.
func asReply(t testing.TB, req *dns.Msg, r *dnscache.Response) *dns.Msg {
	t.Helper()
	m := new(dns.Msg).SetReply(req)
	m.RecursionAvailable = true
	if r == nil {
		m.Rcode = dns.RcodeServerFailure
		return m
	}
	said, err := r.Message(r.Age(time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	m.Rcode, m.Truncated, m.Answer, m.Ns = said.Rcode, said.Truncated, said.Answer, said.Ns
	m.AuthenticatedData = said.AuthenticatedData && (req.AuthenticatedData || req.IsEdns0() != nil) // as zone does
	return m
}

// A burstClient gets the answer to what it asked in a burst.
type burstClient struct {
	addr    netip.Addr
	answers chan *dnscache.Response
}

func (c *burstClient) Addr() netip.Addr                             { return c.addr }
func (c *burstClient) Reply(r *dnscache.Response, out *udpio.Batch) { c.answers <- r }

var _ Client = (*burstClient)(nil)

// asker returns reply for f, in bursts if they are wanted. Then all queries share sockets, as they do past maxFresh
// in a second.
func asker(t testing.TB, f *Forwarder, bursts bool) func(req *dns.Msg) *dns.Msg {
	t.Helper()
	if !bursts {
		return func(req *dns.Msg) *dns.Msg { return reply(t, f, req) }
	}
	if runtime.GOOS != "linux" {
		t.Skip("there are no bursts here")
	}
	alwaysShared(f)
	return func(req *dns.Msg) *dns.Msg {
		c := &burstClient{localhost, make(chan *dnscache.Response, 1)}
		b := f.NewBurst(context.Background())
		took := b.Ask(questionOf(t, req), func() Client { return c })
		b.Flush()
		if !took {
			return reply(t, f, req)
		}
		return asReply(t, req, <-c.answers)
	}
}

func alwaysShared(f *Forwarder) {
	for _, g := range f.all() {
		for _, u := range g.upstreams {
			u.sockets.mu.Lock() // readers may be there already
			u.sockets.maxFresh = 0
			u.sockets.mu.Unlock()
		}
	}
}

// show returns what matters of a reply on one line.
func show(m *dns.Msg) string { return dnstest.ShowSorted(m) }

// header returns the header of a record.
func header(owner string, rrtype uint16, ttl uint32) dns.RR_Header {
	return dns.RR_Header{Name: owner, Rrtype: rrtype, Class: dns.ClassINET, Ttl: ttl}
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
