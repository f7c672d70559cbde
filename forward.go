package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

const (
	upstreamTimeout = 2 * time.Second // for one upstream: a client waits 5 s in all
	maxInFlight     = 1000            // forwarded queries at a time, each with a socket of its own
	upstreamSize    = 4096            // octets of a UDP reply that are read; 1,232 are asked for
	failuresToLog   = 3               // in a row: one lost packet is no news
)

// A forwarder asks the upstreams, in order, what is not ours.
type forwarder struct {
	routes   routes[*upstream]
	asks     bool // it has an upstream at all
	clients  *clients
	forceTTL bool
	timeout  time.Duration // for one upstream
	log      *slog.Logger
	slots    chan struct{} // one for each query in flight
}

// routes are the upstreams for the names at or below each domain; those of
// the root are for all others. A domain may have none.
type routes[T any] map[name][]T

// find returns the upstreams for n, those of the longest domain. It is not
// specific if they are for all names.
func (r routes[T]) find(n name) (upstreams []T, specific bool) {
	for ; n != root; n = n.parent() {
		if list, ok := r[n]; ok {
			return list, true
		}
	}
	return r[root], false
}

// anyBelow reports whether a domain of r is below n.
func (r routes[T]) anyBelow(n name) bool {
	for domain := range r {
		if domain != root && domain.under(n) {
			return true
		}
	}
	return false
}

// An upstream is a nameserver that answers what is not ours.
type upstream struct {
	addr     netip.AddrPort
	failures atomic.Int32 // in a row
}

var errForeign = errors.New("the reply is not to our query")

// newForwarder returns a forwarder by routes for the local clients and those
// in allowed.
func newForwarder(addrs routes[netip.AddrPort], allowed []netip.Prefix, forceTTL bool, log *slog.Logger) *forwarder {
	f := &forwarder{
		routes: make(routes[*upstream]), clients: &clients{allowed: allowed}, forceTTL: forceTTL,
		timeout: upstreamTimeout, log: log, slots: make(chan struct{}, maxInFlight),
	}
	known := make(map[netip.AddrPort]*upstream) // so that what is known of one is known on all routes
	for domain, list := range addrs {
		f.routes[domain] = nil
		for _, a := range list {
			if known[a] == nil {
				known[a] = &upstream{addr: a}
			}
			f.routes[domain] = append(f.routes[domain], known[a])
			f.asks = true
		}
	}
	return f
}

// serves reports whether queries of a client may be forwarded at all.
func (f *forwarder) serves(client netip.Addr) bool { return f.asks && f.clients.local(client) }

// servesAsKnown is serves for those who can't wait: it is not known where the
// subnets of this host would have to be read.
func (f *forwarder) servesAsKnown(client netip.Addr) (serves, known bool) {
	if !f.asks || f.clients.always(client) {
		return f.asks, true
	}
	s := f.clients.subnets.Load()
	if s == nil || time.Since(s.read) > subnetsAge {
		return false, false
	}
	return within(s.list, client), true
}

// clients tells whose queries are forwarded, so that a dnsdock on a public
// address is no open resolver: those of hosts nearby and of the ones that are
// allowed by hand.
type clients struct {
	allowed []netip.Prefix
	subnets atomic.Pointer[subnets] // nil before they are asked for
	reading sync.Mutex              // held by the one that reads them anew
}

// subnets are those of this host's interfaces, as they were at some time.
type subnets struct {
	list []netip.Prefix
	read time.Time
}

// subnetsAge is for how long subnets are believed: a network may be new.
const subnetsAge = time.Second

// local reports whether a has a loopback, private (RFC 1918), unique-local
// (RFC 4193) or link-local address, is in a subnet of this host, or allowed.
func (c *clients) local(a netip.Addr) bool { return c.always(a) || within(c.current(), a) }

// always is local, but for the subnets.
func (c *clients) always(a netip.Addr) bool {
	return a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() || within(c.allowed, a)
}

func within(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// current returns the subnets. While one reads them anew, others take those from before.
func (c *clients) current() []netip.Prefix {
	known := c.subnets.Load()
	if known != nil && time.Since(known.read) <= subnetsAge || known != nil && !c.reading.TryLock() {
		return known.list
	}
	if known == nil {
		c.reading.Lock()
	}
	defer c.reading.Unlock()
	next := &subnets{read: time.Now()}
	for _, l := range localAddrs("") {
		if p, err := netip.ParsePrefix(l.String()); err == nil {
			next.list = append(next.list, p)
		}
	}
	c.subnets.Store(next)
	return next.list
}

// forward returns the first good answer of an upstream to q, with the flags
// of req, or nil. It takes f.timeout for each at most, and no time at all when
// maxInFlight others are waiting.
func (f *forwarder) forward(ctx context.Context, req *dns.Msg, q dns.Question) *dns.Msg {
	n, err := parseName(q.Name)
	if err != nil {
		return nil
	}
	upstreams, _ := f.routes.find(n)
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	default:
		return nil
	}
	var cut *dns.Msg // truncated, and TCP failed: better than nothing
	for _, u := range upstreams {
		r, err := u.ask(ctx, f.timeout, question(req, q))
		if ctx.Err() != nil {
			return nil
		}
		f.note(u, err)
		switch {
		case err != nil:
		case r.Rcode == dns.RcodeServerFailure, r.Rcode == dns.RcodeRefused, r.Rcode > 0xf, !relayable(r):
		case r.Truncated:
			cut = r
		default:
			return r
		}
	}
	return cut
}

// note logs when an upstream stops answering, and when it does again.
func (f *forwarder) note(u *upstream, err error) {
	if err != nil {
		if u.failures.Add(1) == failuresToLog {
			f.log.Warn("upstream does not answer", "upstream", u.addr, "err", err)
		}
		return
	}
	if u.failures.Load() != 0 && u.failures.Swap(0) >= failuresToLog {
		f.log.Info("upstream answers again", "upstream", u.addr)
	}
}

// ask sends q over UDP, and once more over TCP where the
// answer was truncated, all within timeout. If TCP fails it returns the truncated one.
func (u *upstream) ask(ctx context.Context, timeout time.Duration, q *dns.Msg) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r, err := u.exchange(ctx, "udp", q)
	if err == nil && r.Truncated {
		if whole, err := u.exchange(ctx, "tcp", q); err == nil {
			return whole, nil
		}
	}
	return r, err
}

// question returns the query for an upstream: ask under a random ID, with the
// flags of req, and an OPT of our own where the client sent one.
func question(req *dns.Msg, ask dns.Question) *dns.Msg {
	q := &dns.Msg{Question: []dns.Question{ask}}
	q.Id = dns.Id()
	q.RecursionDesired = req.RecursionDesired
	q.CheckingDisabled = req.CheckingDisabled
	q.AuthenticatedData = req.AuthenticatedData
	if opt := req.IsEdns0(); opt != nil {
		q.SetEdns0(maxUDPSize, opt.Do())
	}
	return q
}

// exchange sends q from a socket of its own, whose port the system
// chooses at random, and waits for the reply to it until ctx is done.
// Packets that are no reply to q are dropped and the wait goes on, so that
// whoever guesses wrong has won nothing.
func (u *upstream) exchange(ctx context.Context, network string, q *dns.Msg) (*dns.Msg, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, network, u.addr.String()) // connected: only the upstream's packets arrive
	if err != nil {
		return nil, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) }) // wakes the read; can't fail before Close
	defer stop()
	conn := &dns.Conn{Conn: c, UDPSize: upstreamSize}
	if err := conn.WriteMsg(q); err != nil {
		return nil, err
	}
	for {
		r, err := conn.ReadMsg()
		if err == nil && answers(r, q) {
			return r, nil
		}
		if err == nil {
			err = errForeign
		}
		if _, ok := errors.AsType[net.Error](err); ok || network != "udp" {
			return nil, err
		}
	}
}

// answers reports whether r is a reply to q: its ID and question are.
func answers(r, q *dns.Msg) bool {
	if !r.Response || r.Id != q.Id || r.Opcode != dns.OpcodeQuery || len(r.Question) != 1 {
		return false
	}
	a, b := r.Question[0], q.Question[0]
	return a.Qtype == b.Qtype && a.Qclass == b.Qclass && equalNames(a.Name, b.Name)
}

// relayable reports whether r can be written and read again. The library
// reads records that end early, and writes them as what no client can read;
// and OPT and TSIG where they are not allowed, RFC 6891 section 6.1.1.
func relayable(r *dns.Msg) bool {
	for _, rr := range slices.Concat(r.Answer, r.Ns) {
		if t := rr.Header().Rrtype; t == dns.TypeOPT || t == dns.TypeTSIG {
			return false
		}
	}
	r.Compress = true // it came so, and may be too large without
	b, err := r.Pack()
	return err == nil && new(dns.Msg).Unpack(b) == nil
}

// equalNames compares presentation forms that miekg/dns made of the wire, in
// which only the case of ASCII letters can differ.
func equalNames(a, b string) bool { return strings.EqualFold(a, b) }
