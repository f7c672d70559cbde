package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/udpio"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

const (
	upstreamTimeout = 2 * time.Second         // for one upstream, where there are others; for all of them twice that: clients wait 5 s
	staleTimeout    = 1800 * time.Millisecond // after which a client gets what was good once (RFC 8767 section 5)
	maxInFlight     = 1000                    // queries that wait for upstreams
	maxClientFlight = 250                     // of one client; containers behind a proxy are one
	failuresToLog   = 3                       // in a row: one lost packet is no news
	maxFailures     = 1000                    // that are counted: a flood must not make the number negative
	firstRetry      = time.Second             // until an upstream that failed is tried again: it doubles
	lastRetry       = 32 * time.Second        // with each time that it fails, up to this
	followPeriod    = 2 * time.Second         // in which a resolv.conf is looked at
	maxResolvConf   = 1 << 20                 // octets
	muchFailed      = 1000                    // questions; less is not worth a walk through the cache
	maxOfFile       = 8                       // nameservers that are taken from it: each has a share of the time
)

// A forwarder asks the upstreams what is not ours, and keeps what they say.
type forwarder struct {
	servers  routes[server] // as they were configured
	asks     bool           // there is an upstream at all, or a file that may name one
	clients  *clients
	forceTTL bool
	timeout  time.Duration  // for one upstream
	roots    *x509.CertPool // that sign upstreams' certificates; nil: those of the system
	log      *slog.Logger
	cache    *dnscache.Cache
	isSelf   func(netip.AddrPort) bool // reports whether an address is one of dnsdock's own

	routes atomic.Pointer[routes[*upstream]]

	loading sync.Mutex        // held by load
	files   map[string][]byte // resolv.confs, as they were read last

	failed                 atomic.Uint64 // questions that no upstream answered
	failedLast, failedTidy uint64        // as it was when tidy was called last, and when it tidied up; of tidy
	quiet                  time.Duration // calls of tidy since there was a new one; of tidy

	mu       sync.Mutex // guards what follows
	flights  map[dnscache.Question]*flight
	inFlight int                // queries that wait
	ofClient map[netip.Addr]int // how many of them
	looped   time.Time          // when a loop was logged last
}

// routes are the upstreams for the names at or below each domain; those of
// the root are for all others. A domain may have none.
type routes[T any] map[dnsname.Name][]T

// find returns the upstreams for n, those of the longest domain. It is not
// specific if they are for all names.
func (r routes[T]) find(n dnsname.Name) (upstreams []T, specific bool) {
	for ; n != dnsname.Root; n = n.Parent() {
		if list, ok := r[n]; ok {
			return list, true
		}
	}
	return r[dnsname.Root], false
}

// anyBelow reports whether a domain of r is below n.
func (r routes[T]) anyBelow(n dnsname.Name) bool {
	for domain := range r {
		if domain != dnsname.Root && domain.Under(n) {
			return true
		}
	}
	return false
}

// newForwarder returns a forwarder by routes for the local clients and those
// in allowed, that keeps answers in that many octets. It has no upstreams
// before load.
func newForwarder(servers routes[server], allowed []netip.Prefix, cacheSize int64, log *slog.Logger) *forwarder {
	f := &forwarder{
		servers: servers, clients: &clients{allowed: allowed}, timeout: upstreamTimeout, log: log, cache: dnscache.New(cacheSize),
		isSelf: func(netip.AddrPort) bool { return false }, files: make(map[string][]byte),
		flights: make(map[dnscache.Question]*flight), ofClient: make(map[netip.Addr]int),
	}
	for _, list := range servers {
		f.asks = f.asks || len(list) > 0
	}
	f.routes.Store(new(routes[*upstream]))
	return f
}

// upstreams returns those for n, and whether they are for a domain that it
// is in.
func (f *forwarder) upstreams(n dnsname.Name) (list []*upstream, specific bool) {
	return f.routes.Load().find(n)
}

// load reads the resolv.confs, and makes the routes anew if they say something
// new. Its error is that of a file that can't be read, or that names nobody:
// then what it said last goes on.
func (f *forwarder) load() (err error) {
	f.loading.Lock()
	defer f.loading.Unlock()
	changed := *f.routes.Load() == nil
	nameservers := make(map[string][]server)
	for _, list := range f.servers {
		for _, s := range list {
			if s.file == "" {
				continue
			}
			b, e := readSmall(s.file, maxResolvConf)
			if e == nil && len(f.nameservers(b)) == 0 {
				e = fmt.Errorf("%s names no nameserver but dnsdock itself: write a line such as: nameserver 192.0.2.53", s.file)
			}
			if e != nil {
				err = e
				b = f.files[s.file]
			}
			if !bytes.Equal(b, f.files[s.file]) {
				f.files[s.file], changed = b, true
			}
			nameservers[s.file] = f.nameservers(b)
		}
	}
	if changed {
		f.setRoutes(nameservers)
	}
	return err
}

// tidy gives memory back once a flood of failures is over.
func (f *forwarder) tidy() {
	failed := f.failed.Load()
	if f.quiet++; failed != f.failedLast {
		f.failedLast, f.quiet = failed, 0
	}
	if failed-f.failedTidy < muchFailed || f.quiet*followPeriod <= dnscache.FailureTTL { // what is kept of the last ones is still good
		return
	}
	f.failedTidy = failed
	f.cache.DropDead()
	debug.FreeOSMemory()
}

// setRoutes makes the routes, with what files name. What is known of an
// upstream goes on for all routes; what was answered by others is dropped.
func (f *forwarder) setRoutes(nameservers map[string][]server) {
	known := make(map[server]*upstream)
	for _, list := range *f.routes.Load() {
		for _, u := range list {
			known[u.server] = u
		}
	}
	next := make(routes[*upstream])
	for domain, list := range f.servers {
		next[domain] = nil
		for _, s := range list {
			all := []server{s}
			if s.file != "" {
				all = nameservers[s.file]
				f.log.Info("nameservers read", "file", s.file, "upstreams", all)
			}
			for _, s := range all {
				if known[s] == nil {
					known[s] = newUpstream(s, f.roots)
				}
				next[domain] = append(next[domain], known[s])
			}
		}
	}
	f.routes.Store(&next)
	f.cache.Clear()
}

// readSmall reads a file, and nothing that may have no end, or more octets.
func readSmall(path string, most int64) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular() || info.Size() > most:
		return nil, fmt.Errorf("%s is no file of at most %d octets", path, most)
	}
	return os.ReadFile(path)
}

// nameservers returns those of a resolv.conf that are not dnsdock itself, the
// first ones of many.
func (f *forwarder) nameservers(b []byte) []server {
	list := slices.DeleteFunc(parseResolvConf(b), func(s server) bool { return f.isSelf(s.addr) })
	return list[:min(len(list), maxOfFile)]
}

// parseResolvConf returns the nameservers of a resolv.conf, resolv.conf(5).
// What is no address is passed over, as resolvers do.
func parseResolvConf(b []byte) (list []server) {
	for line := range bytes.Lines(b) {
		fields := strings.Fields(string(line))
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(fields[1]); err == nil && !a.IsUnspecified() {
			list = append(list, server{addr: netip.AddrPortFrom(a.Unmap(), 53)})
		}
	}
	return publish.Unique(list)
}

// run loads the resolv.confs again from time to time, and tidies up, until ctx
// is done.
func (f *forwarder) run(ctx context.Context) error {
	failing := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(followPeriod):
		}
		f.tidy()
		err := f.load()
		if err != nil && !failing {
			f.log.Warn("nameservers can't be read: what was read before goes on", "err", err)
		}
		failing = err != nil
	}
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

// enter counts a query of a client that is going to wait; it is not ok where
// too many do, of its own or in all.
func (f *forwarder) enter(client netip.Addr) (ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.inFlight >= maxInFlight || f.ofClient[client] >= maxClientFlight {
		return false
	}
	f.inFlight++
	f.ofClient[client]++
	return true
}

func (f *forwarder) leave(client netip.Addr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.inFlight--
	if f.ofClient[client]--; f.ofClient[client] == 0 {
		delete(f.ofClient, client)
	}
}

// A flight is a question that is out. All who ask it meanwhile wait for the
// one answer: more than one query for it would help who forges replies.
type flight struct {
	dnscache.Question
	fwd    *forwarder
	done   chan struct{} // closed when answer is there
	answer *dnscache.Response
	since  uint32                 // how often the cache was emptied before: what is older than the last time is not kept
	echoed atomic.Bool            // it came back from its upstream, perhaps
	at     atomic.Pointer[outing] // the query that is out; nil before the first
	*burst                        // nil of a flight that fly alone flies
}

// An outing is a query of a flight that is out.
type outing struct {
	*upstream
	id uint16
}

// answer returns what upstreams say to q. It takes f.inAll() at most, and
// no time at all where too many wait: then it is nil.
func (f *forwarder) answer(ctx context.Context, q dnscache.Question, id uint16, client netip.Addr) *dnscache.Response {
	old := f.cache.Get(q)
	was := dnscache.Dead
	if old != nil {
		if was = old.At(time.Since(old.Born)); was >= dnscache.Tired {
			return old
		}
	}
	who := subnet(client)
	if !f.enter(who) {
		if was == dnscache.Stale {
			return old
		}
		return nil
	}
	t, mine := f.board(q)
	switch {
	case mine && was == dnscache.Dead:
		defer f.leave(who)
		f.fly(ctx, t)
		return t.answer
	case mine:
		go func() {
			defer f.leave(who)
			f.fly(ctx, t)
		}()
	default:
		defer f.leave(who)
		if f.isEcho(t, id, client) {
			return dnscache.Failed(q)
		}
	}
	var late <-chan time.Time
	if was == dnscache.Stale {
		timer := time.NewTimer(staleTimeout)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-t.done:
		return t.answer
	case <-late:
		return old
	}
}

// subnet returns a, of an IPv6 address its /64: who has one address there has all.
func subnet(a netip.Addr) netip.Addr {
	if a.Is6() {
		p, _ := a.Prefix(64) // no error: it is IPv6
		a = p.Addr()
	}
	return a
}

// board returns the flight of q, which is the caller's to fly if it is new.
func (f *forwarder) board(q dnscache.Question) (t *flight, mine bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if t, ok := f.flights[q]; ok {
		return t, false
	}
	t = &flight{Question: q, fwd: f, done: make(chan struct{}), since: f.cache.Clears.Load()}
	f.flights[q] = t
	return t, true
}

// isEcho reports whether a client's query is t's own, that came back to us: by
// its ID, where a packet filter sends all queries here, or because it comes from
// the upstream that is being asked. Clients may have that one's address too, so
// it is believed only of an upstream that came with nothing else before.
func (f *forwarder) isEcho(t *flight, id uint16, client netip.Addr) bool {
	at := t.at.Load()
	if at == nil {
		return false
	}
	fromUpstream := at.addr.Addr().WithZone("") == client
	if fromUpstream {
		t.echoed.Store(true)
	}
	if at.id != id && !(fromUpstream && at.loops.Load()) {
		return false
	}
	f.noteLoop(at.upstream, t.Name())
	return true
}

// noteLoop logs that an upstream asks us, once in a minute.
func (f *forwarder) noteLoop(u *upstream, n dnsname.Name) {
	u.loops.Store(true)
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.looped) > time.Minute {
		f.looped = time.Now()
		f.log.Warn("forwarding loop: the upstream asks dnsdock: give one of the two another nameserver", "upstream", u, "name", n)
	}
}

// fly gets t's answer, and keeps it.
func (f *forwarder) fly(ctx context.Context, t *flight) {
	t.answer = dnscache.Failed(t.Question)
	defer func() {
		if bug := recover(); bug != nil {
			f.noteBug(t, bug)
		}
		f.arrive(t, nil)
	}()
	upstreams, _ := f.upstreams(t.Name())
	if a := f.askAll(ctx, t, upstreams); a != nil {
		t.answer = a
	}
	if ctx.Err() == nil {
		t.answer = f.keep(t, t.answer)
	}
	f.retry(ctx, upstreams, t.Question)
}

func (f *forwarder) noteBug(t *flight, bug any) {
	f.log.Error("bug: the upstreams' answer is left out", "name", t.Name(), "bug", bug, "stack", string(debug.Stack()))
}

// arrive ends t, whose answer is there. Clients of a burst are answered by out.
func (f *forwarder) arrive(t *flight, out *udpio.Batch) {
	f.mu.Lock()
	delete(f.flights, t.Question)
	f.mu.Unlock()
	close(t.done)
	if t.burst != nil {
		f.leave(subnet(t.client.addr))
		t.client.tell(t.answer, out)
	}
}

// keep keeps a while it is good, and returns what is to be answered: instead of
// a failure that is, for now, what was good once.
func (f *forwarder) keep(t *flight, a *dnscache.Response) *dnscache.Response {
	if a.Rcode() == dns.RcodeServerFailure {
		f.failed.Add(1)
		if old := f.cache.Get(a.Question); old != nil && old.At(time.Since(old.Born)) != dnscache.Dead {
			old.Recheck.Store(int64(time.Since(old.Born) + dnscache.FailureTTL))
			return old
		}
	}
	hadAll := a.Question.Flags()&dnscache.RD != 0 // else the upstream told only what it had at hand
	if a.Good > 0 && hadAll && t.since == f.cache.Clears.Load() {
		f.cache.Put(a)
	}
	return a
}

// askAll asks upstreams, those that fail last, and returns the first good
// answer, nil if there is none.
func (f *forwarder) askAll(ctx context.Context, t *flight, upstreams []*upstream) (cut *dnscache.Response) {
	order := slices.Clone(upstreams)
	rank := func(u *upstream) int {
		if u.failures.Load() > 0 || t.burst != nil && u == t.upstream {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(order, func(a, b *upstream) int { return rank(a) - rank(b) })
	begun := time.Now()
	if t.burst != nil {
		begun = t.begun // some of the time is over
	}
	for i, u := range order {
		left := f.share(f.inAll()-time.Since(begun), len(order)-i, len(order))
		if left <= 0 {
			break
		}
		r, err := u.ask(ctx, query{t.Question, time.Now().Add(left), i < len(order)-1, func(id uint16) { t.at.Store(&outing{u, id}) }})
		if ctx.Err() != nil {
			return nil
		}
		f.note(u, t, err)
		if err != nil || isFailure(r.Rcode) {
			continue
		}
		a, err := f.read(t.Question, r)
		switch {
		case err != nil:
		case r.Truncated:
			cut = a // better than nothing
		default:
			return a
		}
	}
	return cut
}

// inAll is how long all upstreams together may take.
func (f *forwarder) inAll() time.Duration { return 2 * f.timeout }

// share is how much of the time that is left one upstream may take where rest
// of so many are still to be asked: the first is given time to look things up.
func (f *forwarder) share(left time.Duration, rest, upstreams int) time.Duration {
	switch {
	case rest == 1:
		return left
	case rest == upstreams:
		return min(left, f.timeout)
	}
	return min(left/time.Duration(rest), f.timeout)
}

// isFailure reports whether a reply says that the upstream can't help, and
// another may.
func isFailure(rcode int) bool {
	return rcode == dns.RcodeServerFailure || rcode == dns.RcodeRefused || rcode == dns.RcodeNotImplemented || rcode == dns.RcodeFormatError || rcode > 0xf
}

// note logs when an upstream stops answering, and when it does again.
func (f *forwarder) note(u *upstream, t *flight, err error) {
	if errors.Is(err, errAway) {
		return // it was not asked
	}
	u.queries.Add(1)
	if err == nil {
		u.loops.Store(false)
		if u.failures.Load() != 0 && u.failures.Swap(0) >= failuresToLog {
			f.log.Info("upstream answers again", "upstream", u)
		}
		return
	}
	u.failed.Add(1)
	u.closed.Store(!errors.Is(err, errTimeout) && !errors.Is(err, errJunk))
	failures := u.failures.Add(1)
	if failures > maxFailures {
		u.failures.Store(maxFailures) // with others meanwhile it may be a little more
	}
	u.retry.Store(int64(time.Since(u.made) + min(firstRetry<<min(failures-1, 10), lastRetry)))
	if failures == failuresToLog {
		f.log.Warn("upstream does not answer", "upstream", u, "err", err)
	}
	if t.echoed.Load() && errors.Is(err, errTimeout) {
		f.noteLoop(u, t.Name())
	}
}

// retry asks those upstreams q that failed some time ago, for nobody: so no
// client waits for the ones that are still away.
func (f *forwarder) retry(ctx context.Context, upstreams []*upstream, q dnscache.Question) {
	for _, u := range upstreams {
		now, at := time.Since(u.made), u.retry.Load()
		if u.failures.Load() == 0 || len(upstreams) == 1 || int64(now) < at || !u.retry.CompareAndSwap(at, int64(now+lastRetry)) {
			continue
		}
		t := &flight{Question: q}
		go func() {
			defer func() {
				if bug := recover(); bug != nil {
					f.noteBug(t, bug)
				}
			}()
			_, err := u.ask(ctx, query{q, time.Now().Add(f.timeout), false, func(uint16) {}})
			if ctx.Err() == nil {
				f.note(u, t, err)
			}
		}()
	}
}

// read makes an answer of the reply r: what is about q in it, and for how
// long that is good.
func (f *forwarder) read(q dnscache.Question, r *dns.Msg) (*dnscache.Response, error) {
	rrs, last := chain(r.Answer, q.Name().String(), q.Qtype())
	negative := !slices.ContainsFunc(rrs, func(rr dns.RR) bool { return rr.Header().Rrtype == q.Qtype() || q.Qtype() == dns.TypeANY })
	var ns []dns.RR
	good := dnscache.MaxCached
	zone := zoneOfProofs(r, last)
	for _, rr := range r.Ns {
		if rr.Header().Class != dns.ClassINET {
			continue
		}
		switch rr := rr.(type) {
		case *dns.SOA:
			if negative && dns.IsSubDomain(rr.Hdr.Name, last) {
				rr.Hdr.Ttl = min(rr.Hdr.Ttl, rr.Minttl)
				good = dnscache.MaxNegativeTTL
				ns = append(ns, rr)
			}
		case *dns.NSEC, *dns.NSEC3, *dns.RRSIG: // that there is nothing, or nothing closer than a wildcard
			if q.Flags()&dnscache.DO != 0 && zone != "" && dns.IsSubDomain(zone, rr.Header().Name) {
				ns = append(ns, rr)
			}
		}
	}
	if negative && good == dnscache.MaxCached { // nobody says for how long, RFC 2308 section 5
		good = 0
	}
	for _, rr := range slices.Concat(rrs, ns) {
		h := rr.Header()
		if h.Ttl > publish.MaxTTL {
			h.Ttl = 0 // RFC 2181 section 8
		}
		good = min(good, time.Duration(h.Ttl)*time.Second)
	}
	if r.Truncated || r.Rcode != dns.RcodeSuccess && r.Rcode != dns.RcodeNameError {
		good = 0
	}
	return dnscache.NewResponse(q, &dns.Msg{MsgHdr: r.MsgHdr, Answer: rrs, Ns: ns}, good)
}

// zoneOfProofs returns the zone that last is in, by the SOA or a signature in r,
// empty if neither is there.
func zoneOfProofs(r *dns.Msg, last string) string {
	for _, rr := range slices.Concat(r.Ns, r.Answer) {
		zone := ""
		switch rr := rr.(type) {
		case *dns.SOA:
			zone = rr.Hdr.Name
		case *dns.RRSIG:
			zone = rr.SignerName
		}
		if zone != "" && dns.IsSubDomain(zone, last) {
			return zone
		}
	}
	return ""
}

// chain returns the records that a question about owner leads to: the CNAMEs
// from there on, and what is of the type at their end, the name of which it
// returns too. Nothing else is the question's business, and may be forged.
func chain(rrs []dns.RR, owner string, qtype uint16) (kept []dns.RR, last string) {
	for range maxChain {
		next := ""
		found := false
		for _, rr := range rrs {
			h := rr.Header()
			sig, isSig := rr.(*dns.RRSIG)
			of := h.Rrtype
			if isSig && qtype != dns.TypeRRSIG {
				of = sig.TypeCovered
			}
			switch cname, isCNAME := rr.(*dns.CNAME); {
			case h.Class != dns.ClassINET:
			case of == dns.TypeDNAME && dns.IsSubDomain(h.Name, owner) && len(h.Name) < len(owner):
				if !slices.Contains(kept, rr) { // it may be above several
					kept = append(kept, rr)
				}
			case !equalNames(h.Name, owner):
			case of == qtype || qtype == dns.TypeANY:
				found = true
				kept = append(kept, rr)
			case isCNAME && next == "":
				next = cname.Target
				kept = append(kept, rr)
			case isSig && of == dns.TypeCNAME:
				kept = append(kept, rr)
			}
		}
		if found || next == "" {
			return kept, owner
		}
		owner = next
	}
	return kept, owner
}

// equalNames compares presentation forms that miekg/dns made of the wire, in
// which only the case of ASCII letters can differ.
func equalNames(a, b string) bool { return strings.EqualFold(a, b) }

// reload loads the resolv.confs at once.
func (f *forwarder) reload() {
	if err := f.load(); err != nil {
		f.log.Warn("nameservers can't be read: what was read before goes on", "err", err)
	}
}

// An upstreamStatus is what users see of an upstream.
type upstreamStatus struct {
	Addr     string   `json:"addr"`              // as -nameserver has it
	Domains  []string `json:"domains,omitempty"` // of -nameserver=DOMAIN=; none: it is for all names
	Up       bool     `json:"up"`
	Queries  uint64   `json:"queries"`
	Failures uint64   `json:"failures"`
}

// A forwarderStatus is what users see of a forwarder.
type forwarderStatus struct {
	Upstreams []upstreamStatus `json:"upstreams"`
	InFlight  int              `json:"in_flight"`
	Cache     dnscache.Status  `json:"cache"`
}

// status returns how f is, each upstream once, in the order of their addresses.
func (f *forwarder) status() forwarderStatus {
	all, routes := make(map[string]*upstreamStatus), *f.routes.Load()
	for _, domain := range slices.Sorted(maps.Keys(routes)) {
		for _, u := range routes[domain] {
			addr := u.String()
			if all[addr] == nil {
				all[addr] = &upstreamStatus{Addr: addr, Up: u.failures.Load() < failuresToLog, Queries: u.queries.Load(), Failures: u.failed.Load()}
			}
			if domain != dnsname.Root {
				all[addr].Domains = append(all[addr].Domains, dnsname.Text(domain))
			}
		}
	}
	s := forwarderStatus{Upstreams: []upstreamStatus{}, Cache: f.cache.Status()}
	for _, addr := range publish.SortedKeys(all) {
		s.Upstreams = append(s.Upstreams, *all[addr])
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s.InFlight = f.inFlight
	return s
}

// route tells whom n is forwarded to, and for which domain they are.
func (f *forwarder) route(n dnsname.Name) (domain dnsname.Name, addrs []string) {
	routes := *f.routes.Load()
	upstreams, specific := routes.find(n)
	for domain = dnsname.Root; specific && domain == dnsname.Root; n = n.Parent() {
		if _, ok := routes[n]; ok {
			domain = n
		}
	}
	for _, u := range upstreams {
		addrs = append(addrs, u.String())
	}
	return domain, addrs
}
