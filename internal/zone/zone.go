package zone

import (
	"context"
	"log/slog"
	"slices"
	"sync"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/index"
	"github.com/rayje/dnsdock/internal/stats"
)

// A Resolver decides the answer to each query, in this order:
//
//  1. Whose is the name? A name at or below the apex, an engine's domain or a live alias is ours.
//  2. A local name (localhost, the reverse zones of private addresses) stays here, unless a nameserver is set for it.
//  3. Own names: the name rule finds the services at, below and above the name, and those with a port of that name.
//  4. Only where no own name matches: second names (Compose's, host names), host.<domain>, then an alias "*".
//  5. The name of dnsdock itself is the address that was asked, unless a service has that name.
//  6. A service with a CNAME stands for its target: the resolution starts again with the target.
//  7. Any other name is forwarded, unless it was an alias not long ago: then it is NXDOMAIN.
type Resolver struct {
	Reg *index.Index
	Fwd *forward.Forwarder
	// Secondaries are the further nameservers in the NS records of zones. Read-only after start.
	Secondaries []dnsname.Name

	apex  dnsname.Name
	host  dnsname.Name          // dnsdock.<apex>: the name of dnsdock itself
	local map[dnsname.Name]bool // the zones of localZones
	log   *slog.Logger
	ctx   context.Context // ends the forwarding of queries

	expensive chan struct{} // semaphore: at most maxExpensive queries wait for walking
	walking   sync.Mutex    // held by the query that walks very many services
}

// New returns a resolver for the apex of reg. When ctx is done, the queries
// that are being forwarded end.
func New(ctx context.Context, reg *index.Index, fwd *forward.Forwarder, log *slog.Logger) *Resolver {
	return &Resolver{
		Reg: reg, Fwd: fwd, apex: reg.Rules.Apex, host: "\x07dnsdock" + reg.Rules.Apex, local: localZones(),
		log: log, ctx: ctx, expensive: make(chan struct{}, maxExpensive),
	}
}

// A decision is the work on one answer.
type decision struct {
	*Resolver
	*Answer
	trace *trace // nil for queries: only Explain wants to know why
}

// Decide answers q as far as that takes no upstream. The caller completes an
// open answer by Complete.
func (z *Resolver) Decide(q Query, c Client) *Answer {
	a := z.decide(q, c, nil)
	if a.slow || c.Quick && a.IsOpen() {
		return nil
	}
	return a
}

func (z *Resolver) decide(q Query, c Client, t *trace) (a *Answer) {
	a = &Answer{Kind: stats.Own, resolver: z, query: q, client: c}
	a.records = make([]byte, 0, usualSize)
	a.reset(q.Name)
	defer a.recoverFrom("decide")
	if rcode := check(q); rcode != dns.RcodeSuccess {
		t.note(q.Name, "questions of this type are not answered, whatever the name")
		a.Rcode, a.Kind = rcode, stats.Refused
		return a
	}
	d := &decision{Resolver: z, Answer: a, trace: t}
	d.basis = Basis{Version: z.Reg.Version(), Stamp: z.Reg.Stamp(q.Name), ByStamp: true}
	d.keep = !q.Name.HasWildcard() && !IsMeta(q.Type)
	d.resolve(q)
	return a
}

// check returns the rcode with which q is refused; RcodeSuccess if it is not.
func check(q Query) (rcode int) {
	switch {
	case q.Type == dns.TypeOPT, q.Type == dns.TypeTSIG: // these are never asked for
		return dns.RcodeFormatError
	case q.Type == dns.TypeTKEY, q.Type == dns.TypeMAILA, q.Type == dns.TypeMAILB:
		return dns.RcodeNotImplemented
	case q.Class != dns.ClassINET, q.Type == dns.TypeAXFR, q.Type == dns.TypeIXFR:
		return dns.RcodeRefused
	}
	return dns.RcodeSuccess
}

// IsMeta reports whether a type is no type of data, RFC 6895 section 3.1.
// Questions of such types are answered by rules of their own.
func IsMeta(qtype uint16) bool { return qtype == dns.TypeOPT || 128 <= qtype && qtype <= 255 }

// resolve answers q along CNAMEs. What an upstream must be asked it leaves
// open: q itself if that is not ours, or q about a CNAME's target.
func (d *decision) resolve(q Query) {
	for len(d.chain) < forward.MaxChain && !slices.Contains(d.chain, q.Name) {
		chained := len(d.chain) > 0
		d.chain = append(d.chain, q.Name)
		top, ok := d.zoneFor(q)
		if !ok {
			d.foreign(q, chained)
			return
		}
		d.Authoritative = true
		next := d.ours(q, top)
		if next == "" {
			return
		}
		d.readOther()
		q.Name = next
	}
	d.trace.repeat(q.Name)
}

// authority returns the highest name at or above n that we answer for: a
// zone, an alias outside of the zones, a local zone, or a known address's own
// name. It returns false if n is not ours. A local zone that has a
// nameserver of its own is not ours.
func (z *Resolver) authority(n dnsname.Name) (top dnsname.Name, ok bool) {
	if top, ok := z.Reg.ZoneOf(n); ok {
		return top, true
	}
	if top, ok := z.Reg.AliasFor(n); ok {
		return top, true
	}
	for top = n; top != dnsname.Root && !z.local[top]; {
		top = top.Parent()
	}
	if _, routed := z.Fwd.HasRoute(n); top != dnsname.Root && !routed {
		return top, true
	}
	return n, z.Reg.At(n) != nil
}

// zoneFor is authority for q: a DS record is in the zone above the one that
// it is about (RFC 4035 section 3.1.4.1), which is asked for it if it can be.
func (d *decision) zoneFor(q Query) (top dnsname.Name, ok bool) {
	top, ok = d.authority(q.Name)
	if !ok || q.Type != dns.TypeDS || q.Name != top {
		return top, ok
	}
	d.keep = false // it depends on whether the client is served
	if above, ours := d.authority(q.Name.Parent()); ours {
		return above, true
	}
	if has, _ := d.Fwd.HasRoute(q.Name); has && d.Fwd.Serves(d.client.Addr) {
		return "", false
	}
	return top, true
}

// recoverFrom turns a panic into one SERVFAIL instead of the end of the
// daemon. It is deferred.
func (a *Answer) recoverFrom(what string) {
	if bug := recover(); bug != nil {
		a.resolver.log.Error("query answered with SERVFAIL because of a bug in dnsdock: please report it",
			"while", what, "name", a.query.Name, "type", dns.Type(a.query.Type), "bug", bug)
		a.fail(dns.RcodeServerFailure)
		a.open, a.keep = nil, false
	}
}
