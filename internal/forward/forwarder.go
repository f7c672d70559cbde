package forward

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/host"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/udpio"
)

const (
	MaxChain = 16 // CNAMEs that are followed; no honest chain is near it
)

// A Forwarder asks the upstreams what is not ours, and keeps what they say.
type Forwarder struct {
	Servers  Routes[Server] // as they were configured
	Asks     bool           // there is an upstream at all, or a file that may name one
	Clients  *Clients
	ForceTTL bool
	Timeout  time.Duration  // for one upstream
	Roots    *x509.CertPool // that sign upstreams' certificates; nil: those of the system
	Log      *slog.Logger
	Cache    *dnscache.Cache
	IsSelf   func(netip.AddrPort) bool // reports whether an address is one of dnsdock's own

	Routes atomic.Pointer[Routes[*Upstream]]

	loading sync.Mutex        // held by load
	files   map[string][]byte // resolv.confs, as they were read last

	failed                 atomic.Uint64 // questions that no upstream answered
	failedLast, failedTidy uint64        // as it was when tidy was called last, and when it tidied up; of tidy
	quiet                  time.Duration // calls of tidy since there was a new one; of tidy

	Mu       sync.Mutex // guards what follows
	Flights  map[dnscache.Question]*Flight
	InFlight int                // queries that wait
	OfClient map[netip.Addr]int // how many of them
	looped   time.Time          // when a loop was logged last
}

// New returns a forwarder by routes for the local clients and those
// in allowed, that keeps answers in that many octets. It has no upstreams
// before load.
func New(servers Routes[Server], allowed []netip.Prefix, cacheSize int64, log *slog.Logger) *Forwarder {
	f := &Forwarder{
		Servers: servers, Clients: &Clients{Allowed: allowed}, Timeout: UpstreamTimeout, Log: log, Cache: dnscache.New(cacheSize),
		IsSelf: func(netip.AddrPort) bool { return false }, files: make(map[string][]byte),
		Flights: make(map[dnscache.Question]*Flight), OfClient: make(map[netip.Addr]int),
	}
	for _, list := range servers {
		f.Asks = f.Asks || len(list) > 0
	}
	f.Routes.Store(new(Routes[*Upstream]))
	return f
}

// Upstreams returns those for n, and whether they are for a domain that it
// is in.
func (f *Forwarder) Upstreams(n dnsname.Name) (list []*Upstream, specific bool) {
	return f.Routes.Load().find(n)
}

// Load reads the resolv.confs, and makes the routes anew if they say something
// new. Its error is that of a file that can't be read, or that names nobody:
// then what it said last goes on.
func (f *Forwarder) Load() (err error) {
	f.loading.Lock()
	defer f.loading.Unlock()
	changed := *f.Routes.Load() == nil
	nameservers := make(map[string][]Server)
	for _, list := range f.Servers {
		for _, s := range list {
			if s.File == "" {
				continue
			}
			b, e := host.ReadFile(s.File, MaxResolvConf)
			if e == nil && len(f.nameservers(b)) == 0 {
				e = fmt.Errorf("%s names no nameserver but dnsdock itself: write a line such as: nameserver 192.0.2.53", s.File)
			}
			if e != nil {
				err = e
				b = f.files[s.File]
			}
			if !bytes.Equal(b, f.files[s.File]) {
				f.files[s.File], changed = b, true
			}
			nameservers[s.File] = f.nameservers(b)
		}
	}
	if changed {
		f.SetRoutes(nameservers)
	}
	return err
}

// Tidy gives memory back once a flood of failures is over.
func (f *Forwarder) Tidy() {
	failed := f.failed.Load()
	if f.quiet++; failed != f.failedLast {
		f.failedLast, f.quiet = failed, 0
	}
	if failed-f.failedTidy < MuchFailed || f.quiet*FollowPeriod <= dnscache.FailureTTL { // what is kept of the last ones is still good
		return
	}
	f.failedTidy = failed
	f.Cache.DropDead()
	debug.FreeOSMemory()
}

// SetRoutes makes the routes, with what files name. What is known of an
// upstream goes on for all routes; what was answered by others is dropped.
func (f *Forwarder) SetRoutes(nameservers map[string][]Server) {
	known := make(map[Server]*Upstream)
	for _, list := range *f.Routes.Load() {
		for _, u := range list {
			known[u.Server] = u
		}
	}
	next := make(Routes[*Upstream])
	for domain, list := range f.Servers {
		next[domain] = nil
		for _, s := range list {
			all := []Server{s}
			if s.File != "" {
				all = nameservers[s.File]
				f.Log.Info("nameservers read", "file", s.File, "upstreams", all)
			}
			for _, s := range all {
				if known[s] == nil {
					known[s] = NewUpstream(s, f.Roots)
				}
				next[domain] = append(next[domain], known[s])
			}
		}
	}
	f.Routes.Store(&next)
	f.Cache.Clear()
}

// nameservers returns those of a resolv.conf that are not dnsdock itself, the
// first ones of many.
func (f *Forwarder) nameservers(b []byte) []Server {
	list := slices.DeleteFunc(parseResolvConf(b), func(s Server) bool { return f.IsSelf(s.Addr) })
	return list[:min(len(list), maxOfFile)]
}

// Run loads the resolv.confs again from time to time, and tidies up, until ctx
// is done.
func (f *Forwarder) Run(ctx context.Context) error {
	failing := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(FollowPeriod):
		}
		f.Tidy()
		err := f.Load()
		if err != nil && !failing {
			f.Log.Warn("nameservers can't be read: what was read before goes on", "err", err)
		}
		failing = err != nil
	}
}

// Serves reports whether queries of a client may be forwarded at all.
func (f *Forwarder) Serves(client netip.Addr) bool { return f.Asks && f.Clients.Local(client) }

// ServesAsKnown is serves for those who can't wait: it is not known where the
// subnets of this host would have to be read.
func (f *Forwarder) ServesAsKnown(client netip.Addr) (serves, known bool) {
	if !f.Asks || f.Clients.always(client) {
		return f.Asks, true
	}
	s := f.Clients.Subnets.Load()
	if s == nil || time.Since(s.Read) > subnetsAge {
		return false, false
	}
	return within(s.List, client), true
}

// enter counts a query of a client that is going to wait; it is not ok where
// too many do, of its own or in all.
func (f *Forwarder) enter(client netip.Addr) (ok bool) {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	if f.InFlight >= MaxInFlight || f.OfClient[client] >= MaxClientFlight {
		return false
	}
	f.InFlight++
	f.OfClient[client]++
	return true
}

func (f *Forwarder) leave(client netip.Addr) {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	f.InFlight--
	if f.OfClient[client]--; f.OfClient[client] == 0 {
		delete(f.OfClient, client)
	}
}

// A Flight is a question that is out. All who ask it meanwhile wait for the
// one answer: more than one query for it would help who forges replies.
type Flight struct {
	dnscache.Question
	fwd    *Forwarder
	done   chan struct{} // closed when answer is there
	answer *dnscache.Response
	Since  uint32                 // how often the cache was emptied before: what is older than the last time is not kept
	echoed atomic.Bool            // it came back from its upstream, perhaps
	at     atomic.Pointer[outing] // the query that is out; nil before the first
	*burst                        // nil of a flight that fly alone flies
}

// An outing is a query of a flight that is out.
type outing struct {
	*Upstream
	id uint16
}

// Answer returns what upstreams say to q. It takes f.inAll() at most, and
// no time at all where too many wait: then it is nil.
func (f *Forwarder) Answer(ctx context.Context, q dnscache.Question, id uint16, client netip.Addr) *dnscache.Response {
	old := f.Cache.Get(q)
	was := dnscache.Dead
	if old != nil {
		if was = old.At(time.Since(old.Born)); was >= dnscache.Tired {
			return old
		}
	}
	who := Subnet(client)
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

// Subnet returns a, of an IPv6 address its /64: who has one address there has all.
func Subnet(a netip.Addr) netip.Addr {
	if a.Is6() {
		p, _ := a.Prefix(64) // no error: it is IPv6
		a = p.Addr()
	}
	return a
}

// board returns the flight of q, which is the caller's to fly if it is new.
func (f *Forwarder) board(q dnscache.Question) (t *Flight, mine bool) {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	if t, ok := f.Flights[q]; ok {
		return t, false
	}
	t = &Flight{Question: q, fwd: f, done: make(chan struct{}), Since: f.Cache.Clears.Load()}
	f.Flights[q] = t
	return t, true
}

// isEcho reports whether a client's query is t's own, that came back to us: by
// its ID, where a packet filter sends all queries here, or because it comes from
// the upstream that is being asked. Clients may have that one's address too, so
// it is believed only of an upstream that came with nothing else before.
func (f *Forwarder) isEcho(t *Flight, id uint16, client netip.Addr) bool {
	at := t.at.Load()
	if at == nil {
		return false
	}
	fromUpstream := at.Addr.Addr().WithZone("") == client
	if fromUpstream {
		t.echoed.Store(true)
	}
	if at.id != id && !(fromUpstream && at.loops.Load()) {
		return false
	}
	f.noteLoop(at.Upstream, t.Name())
	return true
}

// noteLoop logs that an upstream asks us, once in a minute.
func (f *Forwarder) noteLoop(u *Upstream, n dnsname.Name) {
	u.loops.Store(true)
	f.Mu.Lock()
	defer f.Mu.Unlock()
	if time.Since(f.looped) > time.Minute {
		f.looped = time.Now()
		f.Log.Warn("forwarding loop: the upstream asks dnsdock: give one of the two another nameserver", "upstream", u, "name", n)
	}
}

// fly gets t's answer, and keeps it.
func (f *Forwarder) fly(ctx context.Context, t *Flight) {
	t.answer = dnscache.Failed(t.Question)
	defer func() {
		if bug := recover(); bug != nil {
			f.noteBug(t, bug)
		}
		f.arrive(t, nil)
	}()
	upstreams, _ := f.Upstreams(t.Name())
	if a := f.askAll(ctx, t, upstreams); a != nil {
		t.answer = a
	}
	if ctx.Err() == nil {
		t.answer = f.Keep(t, t.answer)
	}
	f.retry(ctx, upstreams, t.Question)
}

func (f *Forwarder) noteBug(t *Flight, bug any) {
	f.Log.Error("bug: the upstreams' answer is left out", "name", t.Name(), "bug", bug, "stack", string(debug.Stack()))
}

// arrive ends t, whose answer is there. Clients of a burst are answered by out.
func (f *Forwarder) arrive(t *Flight, out *udpio.Batch) {
	f.Mu.Lock()
	delete(f.Flights, t.Question)
	f.Mu.Unlock()
	close(t.done)
	if t.burst != nil {
		f.leave(Subnet(t.client.Address()))
		t.client.Tell(t.answer, out)
	}
}

// Keep keeps a while it is good, and returns what is to be answered: instead of
// a failure that is, for now, what was good once.
func (f *Forwarder) Keep(t *Flight, a *dnscache.Response) *dnscache.Response {
	if a.Rcode() == dns.RcodeServerFailure {
		f.failed.Add(1)
		if old := f.Cache.Get(a.Question); old != nil && old.At(time.Since(old.Born)) != dnscache.Dead {
			old.Recheck.Store(int64(time.Since(old.Born) + dnscache.FailureTTL))
			return old
		}
	}
	hadAll := a.Question.Flags()&dnscache.RD != 0 // else the upstream told only what it had at hand
	if a.Good > 0 && hadAll && t.Since == f.Cache.Clears.Load() {
		f.Cache.Put(a)
	}
	return a
}

// askAll asks upstreams, those that fail last, and returns the first good
// answer, nil if there is none.
func (f *Forwarder) askAll(ctx context.Context, t *Flight, upstreams []*Upstream) (cut *dnscache.Response) {
	order := slices.Clone(upstreams)
	rank := func(u *Upstream) int {
		if u.Failures.Load() > 0 || t.burst != nil && u == t.upstream {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(order, func(a, b *Upstream) int { return rank(a) - rank(b) })
	begun := time.Now()
	if t.burst != nil {
		begun = t.begun // some of the time is over
	}
	for i, u := range order {
		left := f.share(f.inAll()-time.Since(begun), len(order)-i, len(order))
		if left <= 0 {
			break
		}
		r, err := u.Ask(ctx, Query{t.Question, time.Now().Add(left), i < len(order)-1, func(id uint16) { t.at.Store(&outing{u, id}) }})
		if ctx.Err() != nil {
			return nil
		}
		f.Note(u, t, err)
		if err != nil || IsFailure(r.Rcode) {
			continue
		}
		a, err := f.Read(t.Question, r)
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
func (f *Forwarder) inAll() time.Duration { return 2 * f.Timeout }

// share is how much of the time that is left one upstream may take where rest
// of so many are still to be asked: the first is given time to look things up.
func (f *Forwarder) share(left time.Duration, rest, upstreams int) time.Duration {
	switch {
	case rest == 1:
		return left
	case rest == upstreams:
		return min(left, f.Timeout)
	}
	return min(left/time.Duration(rest), f.Timeout)
}

// IsFailure reports whether a reply says that the upstream can't help, and
// another may.
func IsFailure(rcode int) bool {
	return rcode == dns.RcodeServerFailure || rcode == dns.RcodeRefused || rcode == dns.RcodeNotImplemented || rcode == dns.RcodeFormatError || rcode > 0xf
}

// Note logs when an upstream stops answering, and when it does again.
func (f *Forwarder) Note(u *Upstream, t *Flight, err error) {
	if errors.Is(err, errAway) {
		return // it was not asked
	}
	u.queries.Add(1)
	if err == nil {
		u.loops.Store(false)
		if u.Failures.Load() != 0 && u.Failures.Swap(0) >= FailuresToLog {
			f.Log.Info("upstream answers again", "upstream", u)
		}
		return
	}
	u.failed.Add(1)
	u.closed.Store(!errors.Is(err, ErrTimeout) && !errors.Is(err, errJunk))
	failures := u.Failures.Add(1)
	if failures > maxFailures {
		u.Failures.Store(maxFailures) // with others meanwhile it may be a little more
	}
	u.Retry.Store(int64(time.Since(u.made) + min(firstRetry<<min(failures-1, 10), lastRetry)))
	if failures == FailuresToLog {
		f.Log.Warn("upstream does not answer", "upstream", u, "err", err)
	}
	if t.echoed.Load() && errors.Is(err, ErrTimeout) {
		f.noteLoop(u, t.Name())
	}
}

// Retry asks those upstreams q that failed some time ago, for nobody: so no
// client waits for the ones that are still away.
func (f *Forwarder) retry(ctx context.Context, upstreams []*Upstream, q dnscache.Question) {
	for _, u := range upstreams {
		now, at := time.Since(u.made), u.Retry.Load()
		if u.Failures.Load() == 0 || len(upstreams) == 1 || int64(now) < at || !u.Retry.CompareAndSwap(at, int64(now+lastRetry)) {
			continue
		}
		t := &Flight{Question: q}
		go func() {
			defer func() {
				if bug := recover(); bug != nil {
					f.noteBug(t, bug)
				}
			}()
			_, err := u.Ask(ctx, Query{q, time.Now().Add(f.Timeout), false, func(uint16) {}})
			if ctx.Err() == nil {
				f.Note(u, t, err)
			}
		}()
	}
}

// Read makes an answer of the reply r: what is about q in it, and for how
// long that is good.
func (f *Forwarder) Read(q dnscache.Question, r *dns.Msg) (*dnscache.Response, error) {
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
		if h.Ttl > dnswire.MaxTTL {
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
	for range MaxChain {
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
			case !EqualNames(h.Name, owner):
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

// EqualNames compares presentation forms that miekg/dns made of the wire, in
// which only the case of ASCII letters can differ.
func EqualNames(a, b string) bool { return strings.EqualFold(a, b) }

// Reload loads the resolv.confs at once.
func (f *Forwarder) Reload() {
	if err := f.Load(); err != nil {
		f.Log.Warn("nameservers can't be read: what was read before goes on", "err", err)
	}
}

// Status returns how f is, each upstream once, in the order of their addresses.
func (f *Forwarder) Status() Status {
	all, routes := make(map[string]*UpstreamStatus), *f.Routes.Load()
	for _, domain := range slices.Sorted(maps.Keys(routes)) {
		for _, u := range routes[domain] {
			addr := u.String()
			if all[addr] == nil {
				all[addr] = &UpstreamStatus{Addr: addr, Up: u.Failures.Load() < FailuresToLog, Queries: u.queries.Load(), Failures: u.failed.Load()}
			}
			if domain != dnsname.Root {
				all[addr].Domains = append(all[addr].Domains, dnsname.Text(domain))
			}
		}
	}
	s := Status{Upstreams: []UpstreamStatus{}, Cache: f.Cache.Status()}
	for _, addr := range publish.SortedKeys(all) {
		s.Upstreams = append(s.Upstreams, *all[addr])
	}
	f.Mu.Lock()
	defer f.Mu.Unlock()
	s.InFlight = f.InFlight
	return s
}

// Route tells whom n is forwarded to, and for which domain they are.
func (f *Forwarder) Route(n dnsname.Name) (domain dnsname.Name, addrs []string) {
	routes := *f.Routes.Load()
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
