package zone

import (
	"context"
	"log/slog"
	"slices"
	"sync"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/index"
	"github.com/rayje/dnsdock/internal/stats"
)

// A Resolver decides the answer to each query, in this order:
//
//  1. Whose is the name? A name at or below the apex, an engine's domain or a live alias is ours.
//  2. A local name (localhost, the reverse zones of private addresses) stays here, unless a nameserver is set for it.
//  3. Own names: the name rule finds the services at, below and above the name, and those with a port of that name.
//  4. Second names (those of Compose) are looked up only where no own name matches.
//  5. The name of dnsdock itself is the address that was asked, unless a service has that name.
//  6. A service with a CNAME stands for its target: the resolution starts again with the target.
//  7. Any other name is forwarded, unless it was an alias not long ago: then it is NXDOMAIN.
type Resolver struct {
	Reg   *index.Index
	Fwd   *forward.Forwarder
	apex  dnsname.Name
	host  dnsname.Name          // dnsdock.<apex>: the name of dnsdock itself
	local map[dnsname.Name]bool // the zones of localZones
	log   *slog.Logger
	ctx   context.Context // ends the forwarding of queries

	Traffic *stats.Traffic // what was answered

	expensive chan struct{} // semaphore: at most maxExpensive queries wait for walking
	walking   sync.Mutex    // held by the query that walks very many services
}

// New returns a resolver for the apex of reg. When ctx is done, the queries
// that are being forwarded end.
func New(ctx context.Context, reg *index.Index, fwd *forward.Forwarder, log *slog.Logger) *Resolver {
	return &Resolver{
		Reg: reg, Fwd: fwd, apex: reg.Rules.Apex, host: "\x07dnsdock" + reg.Rules.Apex, local: localZones(), log: log, ctx: ctx,
		expensive: make(chan struct{}, maxExpensive), Traffic: new(stats.Traffic),
	}
}

// A decision is the work on one answer.
type decision struct {
	*Resolver
	*Answer
	trace *trace // nil for queries: only Explain wants to know why
}

// Decide answers req as far as that takes no upstream. The caller completes
// an open answer by Complete.
func (z *Resolver) Decide(req *dns.Msg, c Client) *Answer {
	a := z.decide(req, c, nil)
	if a.slow || c.Quick && a.IsOpen() {
		return nil
	}
	return a
}

func (z *Resolver) decide(req *dns.Msg, c Client, t *trace) (a *Answer) {
	defer func() {
		if bug := recover(); bug != nil {
			a = z.onBug(req, c, bug)
		}
	}()
	a = z.blank(req, c, dns.RcodeSuccess)
	n, rcode := check(req)
	if rcode != dns.RcodeSuccess {
		t.note(n, "questions of this type are not answered, whatever the name")
		a.Msg.Rcode, a.Kind = rcode, stats.Refused
		return a
	}
	d := &decision{Resolver: z, Answer: a, trace: t}
	d.version, d.stamp = z.Reg.Version(), z.Reg.Stamp(n)
	d.keep = !n.HasWildcard() && !IsMeta(req.Question[0].Qtype)
	d.resolve(n)
	return a
}

// check returns the name that req asks about, and with which rcode req is
// refused: RcodeSuccess if it can be answered.
func check(req *dns.Msg) (n dnsname.Name, rcode int) {
	if opt := req.IsEdns0(); opt != nil && opt.Version() != 0 {
		return "", dns.RcodeBadVers
	}
	if len(req.Question) != 1 {
		return "", dns.RcodeFormatError
	}
	q := req.Question[0]
	n, err := dnsname.Parse(q.Name)
	switch {
	case err != nil, q.Qtype == dns.TypeOPT, q.Qtype == dns.TypeTSIG: // these are never asked for
		return n, dns.RcodeFormatError
	case q.Qtype == dns.TypeTKEY, q.Qtype == dns.TypeMAILA, q.Qtype == dns.TypeMAILB:
		return n, dns.RcodeNotImplemented
	case q.Qclass != dns.ClassINET, q.Qtype == dns.TypeAXFR, q.Qtype == dns.TypeIXFR:
		return n, dns.RcodeRefused
	}
	return n, dns.RcodeSuccess
}

// IsMeta reports whether a type is no type of data, RFC 6895 section 3.1.
// Questions of such types are answered by rules of their own.
func IsMeta(qtype uint16) bool { return qtype == dns.TypeOPT || 128 <= qtype && qtype <= 255 }

// resolve answers the question, which is about n, along CNAMEs. What an
// upstream must be asked it leaves open: the question itself if that is not
// ours, or the question about a CNAME's target.
func (d *decision) resolve(n dnsname.Name) {
	q := d.Msg.Question[0]
	var chain []dnsname.Name
	for len(chain) < forward.MaxChain && !slices.Contains(chain, n) {
		top, ok := d.authority(n)
		if !ok {
			d.foreign(n, q, len(chain) > 0)
			return
		}
		d.Msg.Authoritative = true
		chain = append(chain, n)
		next := d.ours(q, n, top)
		if next == "" {
			return
		}
		d.readOther()
		n, q.Name = next, next.String()
	}
	d.trace.repeat(n)
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

// onBug turns a panic into one SERVFAIL instead of the end of the daemon.
func (z *Resolver) onBug(req *dns.Msg, c Client, bug any) *Answer {
	z.log.Error("query answered with SERVFAIL because of a bug in dnsdock: please report it", "query", req.Question, "bug", bug)
	return z.blank(req, c, dns.RcodeServerFailure)
}

// blank returns a reply to req without records, with an OPT if req has one.
func (z *Resolver) blank(req *dns.Msg, c Client, rcode int) *Answer {
	m := new(dns.Msg).SetReply(req)
	m.RecursionAvailable = z.Fwd.Serves(c.Addr)
	m.Rcode = rcode
	if opt := req.IsEdns0(); opt != nil {
		m.SetEdns0(dnswire.MaxUDPSize, opt.Do())
	}
	return &Answer{Msg: m, Kind: stats.Own, resolver: z, req: req, client: c}
}
