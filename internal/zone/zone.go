package zone

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/index"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/stats"
	"github.com/rayje/dnsdock/internal/table"
	"github.com/rayje/dnsdock/internal/udpio"
)

const (
	MaxNegative = 5   // seconds for which an NXDOMAIN or NODATA may be cached: the container may start any moment
	MinRR       = 14  // octets of the smallest record that is answered: two pointers, type, class, TTL, length
	MaxWalkers  = 100 // queries in line for those that look at much

)

const (
	Hostmaster = "\x0ahostmaster" // the label before a zone's name, RFC 2142 section 7

	SoaRefresh, SoaRetry, SoaExpire = 3600, 600, 86400 // seconds; for secondaries, of which there are none
)

// A Zone answers DNS queries: ours from the registry, with authority, and
// foreign ones by the forwarder.
type Zone struct {
	Reg   *index.Index
	Fwd   *forward.Forwarder
	Apex  dnsname.Name
	Host  dnsname.Name          // dnsdock.<apex>: our own name
	local map[dnsname.Name]bool // the zones of localZones
	Log   *slog.Logger
	Kept  *replies // for the fast path

	Traffic *stats.Traffic // what was answered

	Walkers chan struct{} // one for each query in line
	Walking *sync.Mutex   // held by the one that looks at much

	Ctx context.Context // of the server's life: dns.Handler has none
}

// New returns a zone for the apex of reg. When ctx is done, the queries
// that are being forwarded end.
func New(ctx context.Context, reg *index.Index, fwd *forward.Forwarder, log *slog.Logger) *Zone {
	apex := reg.Rules.Apex
	return &Zone{Reg: reg, Fwd: fwd, Apex: apex, Host: "\x07dnsdock" + apex, local: localZones(), Log: log, Kept: new(replies), Traffic: new(stats.Traffic),
		Walkers: make(chan struct{}, MaxWalkers), Walking: new(sync.Mutex), Ctx: ctx}
}

// localZones returns the zones that are nobody's outside of a site, and are
// answered here so that no question about them leaves it: reverse zones of
// private and special addresses (RFC 6303 section 4, RFC 7793), test, localhost
// and invalid (RFC 6761 sections 6.2 to 6.4), and onion (RFC 7686 section 2).
func localZones() map[dnsname.Name]bool {
	zones := strings.Fields(`localhost invalid test onion
		0.in-addr.arpa 127.in-addr.arpa 254.169.in-addr.arpa 255.255.255.255.in-addr.arpa
		10.in-addr.arpa 168.192.in-addr.arpa 2.0.192.in-addr.arpa 100.51.198.in-addr.arpa 113.0.203.in-addr.arpa
		d.f.ip6.arpa 8.e.f.ip6.arpa 9.e.f.ip6.arpa a.e.f.ip6.arpa b.e.f.ip6.arpa 8.b.d.0.1.0.0.2.ip6.arpa`)
	for i := 16; i < 32; i++ {
		zones = append(zones, fmt.Sprintf("%d.172.in-addr.arpa", i))
	}
	for i := 64; i < 128; i++ {
		zones = append(zones, fmt.Sprintf("%d.100.in-addr.arpa", i))
	}
	for _, digit := range []string{"0.", "1."} { // :: and ::1
		zones = append(zones, digit+strings.Repeat("0.", 31)+"ip6.arpa")
	}
	all := make(map[dnsname.Name]bool)
	for _, text := range zones {
		n, err := dnsname.Parse(text)
		if err != nil {
			panic(err) // none of them has one
		}
		all[n] = true
	}
	return all
}

// A Client is who sent a query.
type Client struct {
	Addr  netip.Addr
	Local netip.Addr // the address of ours that it asked; not valid if the system does not tell
	alone *bool      // is set where others may get another answer; nil: nobody asks
	Size  int        // octets of a reply that it takes
	Over  stats.Transport

	BeforeWait func() // is called before the answer waits for others, if not nil
}

func (c Client) Viewer() index.Viewer { return index.Viewer{Addr: c.Addr, Local: c.Local} }

// ServeDNS answers one query that came over UDP. It is called at once by many
// goroutines.
func (z *Zone) ServeDNS(w dns.ResponseWriter, req *dns.Msg) {
	c := Client{Addr: udpio.AddrOf(w.RemoteAddr()), Local: udpio.AddrOf(w.LocalAddr()), Size: UDPSize(req)}
	if p, ok := w.RemoteAddr().(udpio.Peer); ok && p.Local.IsValid() {
		c.Local = p.Local
	}
	z.Answer(req, c, func(f func()) { f() }, func(b []byte) error {
		_, err := w.Write(b)
		return err
	})
}

// Answer answers req by send. What has to wait for an upstream is given to
// later.
func (z *Zone) Answer(req *dns.Msg, c Client, later func(func()), send func([]byte) error) {
	begun, serial := time.Now(), z.Reg.Serial.Load()
	c.alone = new(bool)
	m, left := z.Reply(req, c)
	extra, kind := len(m.Extra), kindOf(m, left)
	finish := func() {
		m, b, cached, err := z.Finish(m, req, c, left)
		if cached {
			kind = stats.Cached
		}
		if err == nil {
			if left == nil && len(m.Extra) == extra && !*c.alone { // nothing of it was left out
				z.keep(req, m, b, serial)
			}
			err = send(b)
		}
		z.Note(m, kind, c, time.Since(begun), err)
	}
	if left == nil {
		finish()
	} else {
		later(finish)
	}
}

// kindOf returns what the answer m is made of, with a question left for an
// upstream.
func kindOf(m *dns.Msg, left *dns.Question) stats.Kind {
	switch {
	case left != nil:
		return stats.Forwarded
	case m.Rcode == dns.RcodeRefused, m.Rcode == dns.RcodeFormatError, m.Rcode == dns.RcodeNotImplemented, m.Rcode == dns.RcodeBadVers:
		return stats.Refused
	}
	return stats.Own
}

// Note counts and logs an answer; err is what became of it on its way.
func (z *Zone) Note(m *dns.Msg, k stats.Kind, c Client, took time.Duration, err error) {
	q := dns.Question{}
	if len(m.Question) > 0 {
		q = m.Question[0]
	}
	counts := z.Traffic.Shared(c.Over)
	counts.Add(k, m.Rcode, q.Qtype)
	counts.AddTime(k, took, 1)
	if z.Logs() {
		z.Log.Debug("query", "client", c.Addr, "over", stats.TransportNames[c.Over], "name", q.Name, "type", dns.Type(q.Qtype), "rcode", dns.RcodeToString[m.Rcode],
			"kind", k, "answers", len(m.Answer), "took", took, "err", err)
	}
}

// NoteRejected counts and logs the reply to what screen rejects.
func (z *Zone) NoteRejected(reply []byte, from netip.Addr, c *stats.Counts, took time.Duration) {
	rcode := int(reply[3] & 0xf)
	c.Add(stats.Refused, rcode, dns.TypeNone)
	c.AddTime(stats.Refused, took, 1)
	if z.Logs() {
		z.Log.Debug("query can't be read", "client", from, "rcode", dns.RcodeToString[rcode], "kind", stats.Refused)
	}
}

// Logs reports whether each query is logged.
func (z *Zone) Logs() bool { return z.Log.Enabled(z.Ctx, slog.LevelDebug) }

// keep has b, the answer m to req in wire format, kept for the fast path if
// it is of a kind that is: SRV records, made from the registry of that serial.
func (z *Zone) keep(req, m *dns.Msg, b []byte, serial uint32) {
	if len(m.Answer) == 0 || m.Answer[0].Header().Rrtype != dns.TypeSRV || m.Truncated || len(b) > dnswire.MaxUDPSize || z.Logs() {
		return
	}
	if n, err := dnsname.Parse(req.Question[0].Name); err == nil && !n.HasWildcard() {
		z.Kept.keep(n, serial, b, m.IsEdns0() != nil)
	}
}

// Finish gives m in wire format, after an upstream was asked what is left. It
// returns what became of m too.
func (z *Zone) Finish(m, req *dns.Msg, c Client, left *dns.Question) (final *dns.Msg, b []byte, cached bool, err error) {
	defer func() {
		if bug := recover(); bug != nil {
			final = z.onBug(req, c, bug)
			b, err = final.Pack()
		}
	}()
	if left != nil {
		cached = z.Forward(m, req, *left, c)
	}
	b, err = Pack(m, c.Size)
	if err != nil { // an upstream's record that can be read but not written
		m = z.Blank(req, c, dns.RcodeServerFailure)
		b, err = m.Pack()
	}
	return m, b, cached, err
}

// onBug makes of a panic one SERVFAIL, and not the end of the daemon.
func (z *Zone) onBug(req *dns.Msg, c Client, bug any) *dns.Msg {
	z.Log.Error("query answered with SERVFAIL because of a bug in dnsdock: please report it", "query", req.Question, "bug", bug)
	return z.Blank(req, c, dns.RcodeServerFailure)
}

// Pack gives m in wire format, in at most size octets. It leaves out address
// records of the additional section first, of which only whole RRsets help
// (RFC 2181 section 9), then what goes by TC.
func Pack(m *dns.Msg, size int) ([]byte, error) {
	m.Compress = true
	if b, err := m.Pack(); err != nil || len(b) <= size {
		return b, err
	}
	if m.Len() > size {
		opt, extra := SplitOPT(m.Extra)
		n := sort.Search(len(extra), func(n int) bool {
			m.Extra = slices.Concat(extra[:n+1], opt)
			return m.Len() > size
		})
		for n > 0 && n < len(extra) && sameRRset(extra[n-1], extra[n]) {
			n--
		}
		m.Extra = slices.Concat(extra[:n], opt)
	}
	m.Truncate(size)
	m.Compress = true
	return m.Pack()
}

// SplitOPT tells what is about the message from what is about names.
func SplitOPT(extra []dns.RR) (opt, others []dns.RR) {
	for _, rr := range extra {
		if rr.Header().Rrtype == dns.TypeOPT {
			opt = append(opt, rr)
		} else {
			others = append(others, rr)
		}
	}
	return opt, others
}

func sameRRset(a, b dns.RR) bool {
	x, y := a.Header(), b.Header()
	return x.Rrtype == y.Rrtype && x.Name == y.Name
}

// Blank returns a reply to req without records, but an OPT if req has one.
func (z *Zone) Blank(req *dns.Msg, c Client, rcode int) *dns.Msg {
	m := new(dns.Msg).SetReply(req)
	m.RecursionAvailable = z.Fwd.Serves(c.Addr)
	m.Rcode = rcode
	if opt := req.IsEdns0(); opt != nil {
		m.SetEdns0(dnswire.MaxUDPSize, opt.Do())
	}
	return m
}

// UDPSize is how many octets the client of req takes over UDP, RFC 6891
// section 6.2.
func UDPSize(req *dns.Msg) int {
	if opt := req.IsEdns0(); opt != nil {
		return min(max(int(opt.UDPSize()), dns.MinMsgSize), dnswire.MaxUDPSize)
	}
	return dns.MinMsgSize
}

// Reply makes the answer to req as far as it is ours, and returns the
// question that is left for an upstream, if any. It may be larger than the
// client's size, which only bounds the work.
func (z *Zone) Reply(req *dns.Msg, c Client) (m *dns.Msg, left *dns.Question) {
	defer func() {
		if bug := recover(); bug != nil {
			m, left = z.onBug(req, c, bug), nil
		}
	}()
	m = z.Blank(req, c, dns.RcodeSuccess)
	if opt := req.IsEdns0(); opt != nil && opt.Version() != 0 {
		m.Rcode = dns.RcodeBadVers
		return m, nil
	}
	if len(req.Question) != 1 {
		m.Rcode = dns.RcodeFormatError
		return m, nil
	}
	q := req.Question[0]
	n, err := dnsname.Parse(q.Name)
	switch {
	case err != nil, q.Qtype == dns.TypeOPT, q.Qtype == dns.TypeTSIG: // these are never asked for
		m.Rcode = dns.RcodeFormatError
	case q.Qtype == dns.TypeTKEY, q.Qtype == dns.TypeMAILA, q.Qtype == dns.TypeMAILB:
		m.Rcode = dns.RcodeNotImplemented
	case q.Qclass != dns.ClassINET, q.Qtype == dns.TypeAXFR, q.Qtype == dns.TypeIXFR:
		m.Rcode = dns.RcodeRefused
	default:
		return m, z.resolve(m, n, c)
	}
	return m, nil
}

// resolve answers the question of m, which is about n, along CNAMEs. It
// returns what is left to ask an upstream, if anything: the question itself
// where it is not ours, or that of a CNAME's target.
func (z *Zone) resolve(m *dns.Msg, n dnsname.Name, c Client) (left *dns.Question) {
	q := m.Question[0]
	var chain []dnsname.Name
	for len(chain) < forward.MaxChain && !slices.Contains(chain, n) {
		top, ok := z.Authority(n)
		if !ok {
			if alias, ok := z.Reg.RecentlyRemoved(n); ok {
				m.Authoritative, m.Rcode = true, dns.RcodeNameError
				m.Ns = append(m.Ns, z.soa(ending(q.Name, alias.Labels()), alias, 0))
				return nil
			}
			return z.foreign(m, n, q, len(chain) > 0)
		}
		m.Authoritative = true
		chain = append(chain, n)
		next := z.answerOurs(m, q, n, top, c)
		if next == "" {
			break
		}
		n, q.Name = next, next.String()
	}
	return nil
}

// foreign returns q, which is about n, if an upstream is to be asked. Else m
// is REFUSED, or ends with the CNAME, as the client can follow it elsewhere.
func (z *Zone) foreign(m *dns.Msg, n dnsname.Name, q dns.Question, chained bool) (left *dns.Question) {
	has, routed := z.Fwd.HasRoute(n)
	switch {
	case m.RecursionAvailable && has && !routed && n.IsSingle() && !IsOfTLD(q.Qtype): // a host of this site, of which nobody outside knows
		if _, above := z.Reg.Nodes.Load(n); !above && !z.Reg.IsAboveZone(n) && !z.Fwd.HasRouteBelow(n) {
			m.Rcode = dns.RcodeNameError
		}
	case m.RecursionAvailable && has && (!chained || m.RecursionDesired):
		return &q
	case !chained:
		m.Rcode = dns.RcodeRefused
	}
	return nil
}

// IsOfTLD reports whether top-level domains have records of a type, which
// those ask for who look things up themselves.
func IsOfTLD(qtype uint16) bool {
	return qtype == dns.TypeNS || qtype == dns.TypeSOA || qtype == dns.TypeDS || qtype == dns.TypeDNSKEY
}

// Authority returns the highest name above n that we answer for: the apex,
// an alias outside of it, a local zone, or a known address's own name. It is
// not ok where n is not ours: an upstream may be configured for a local zone.
func (z *Zone) Authority(n dnsname.Name) (top dnsname.Name, ok bool) {
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

// A found is what there is at a name of ours.
type found struct {
	exists   bool
	isZone   bool             // it is the top of a zone, with SOA and NS
	isStatic bool             // no container changes it
	isHost   bool             // it is our own name, and no container's
	loopback bool             // it is localhost, or below
	views    []*index.View    // by the names rule; without data where there is a cname
	hasData  bool             // a service of views has no CNAME
	cname    *publish.Service // whose CNAME it is instead
	ports    []servicePort
	owners   *index.View // of whose address it is the name; nil if of nobody's
}

// A servicePort is one SRV record.
type servicePort struct {
	*publish.Service
	publish.Port
}

// inTurn waits for the turn of a question about n, whose highest name of
// ours is top, if much may have to be looked at for it: with 100,000 services
// that is some milliseconds, and shall not be at once for many. The caller
// calls done. It is not ok where too many wait.
func (z *Zone) inTurn(n, top dnsname.Name, c Client) (done func(), ok bool) {
	if !z.isMuch(n, top) {
		return func() {}, true
	}
	select {
	case z.Walkers <- struct{}{}:
	default:
		return nil, false
	}
	if c.BeforeWait != nil {
		c.BeforeWait()
	}
	z.Walking.Lock()
	return func() {
		z.Walking.Unlock()
		<-z.Walkers
	}, true
}

// isMuch reports whether an answer about n looks at all services, at all
// addresses, or at very many of the services below a name.
func (z *Zone) isMuch(n, top dnsname.Name) bool {
	if n.IsReverse() {
		p, ok := n.Prefix()
		v := z.Reg.At(n)
		return ok && !p.IsSingleIP() || v != nil && v.Len() > index.Many
	}
	if !z.Reg.IsZone(top) && z.local[top] {
		return false
	}
	if n.HasWildcard() {
		if n = z.Reg.Trim(n); n.HasWildcard() {
			return true
		}
	}
	for range 3 { // itself, or _port._protocol before it
		for _, nodes := range []*table.Table[dnsname.Name, *index.Node]{&z.Reg.Nodes, &z.Reg.Compose} {
			if at, ok := nodes.Load(n); ok && at.Subtree.Len() > index.Many {
				return true
			}
		}
		if label := n.Label(); label == "" || label[0] != '_' {
			break
		}
		n = n.Parent()
	}
	return false
}

// Find looks up n, whose highest name of ours is top.
func (z *Zone) find(n, top dnsname.Name) (f found) {
	f.isZone = n == top && (z.Reg.IsZone(top) || z.local[top])
	switch {
	case n.IsReverse():
		f.owners = z.Reg.At(n)
		f.exists = f.isZone || f.owners != nil || z.Fwd.HasRouteBelow(n) || z.Reg.AnyBelow(n)
		return f
	case !z.Reg.IsZone(top) && z.local[top]:
		f.isStatic, f.loopback = true, top == dnsname.Localhost
		f.exists = f.isZone || f.loopback || z.Reg.IsAboveZone(n) || z.Fwd.HasRouteBelow(n)
		return f
	}
	var hasPorts bool
	f.views = z.Reg.Match(n, nil)
	f.hasData = index.AnyHas(f.views, publish.HasData)
	f.isHost = n == z.Host && !f.hasData
	f.ports, hasPorts = z.findPorts(n, top)
	f.exists = f.isZone || f.isHost || hasPorts || len(f.views) > 0 || z.Reg.IsAboveCompose(n) || z.Reg.IsAboveZone(n)
	if !f.isZone && n != z.Host && index.AnyHas(f.views, publish.HasCNAME) { // a zone has SOA and NS, and a CNAME must not be named by these
		f.cname = z.cnameOf(n, f.views)
	}
	return f
}

// cnameOf returns which CNAME n, which is answered from views, is: that of
// the closest owner name at or above n, unless a service with addresses is
// closer; or one of those below n if there is nothing else. Of several it is
// always the same.
func (z *Zone) cnameOf(n dnsname.Name, views []*index.View) (best *publish.Service) {
	at, ok := z.Reg.Nodes.Load(n)
	if !ok {
		at, ok = z.Reg.Compose.Load(n)
		ok = ok && views[0] == &at.Subtree
	}
	if ok { // its view is the first; what is at n itself counts before all, what is below it after all
		below := views[0]
		views = slices.Clone(views[1:])
		if at.Exact != nil {
			views = slices.Insert(views, 0, at.Exact)
		}
		views = append(views, below)
	}
	mixed := func(i int) bool { return n.HasWildcard() || ok && i == len(views)-1 } // of any depth
	for i, v := range views {
		switch {
		case v.Has(publish.HasData) && (mixed(i) || !v.Has(publish.HasCNAME)):
			return nil
		case !v.Has(publish.HasCNAME):
			continue
		}
		for s := range v.All(publish.HasCNAME) {
			if best == nil || cmp.Or(cmp.Compare(publish.TrueFirst(!s.Sick), publish.TrueFirst(!best.Sick)), strings.Compare(string(s.CNAME), string(best.CNAME))) < 0 {
				best = s
			}
		}
		if !n.HasWildcard() {
			break
		}
	}
	return best
}

// findPorts returns what a name _port._protocol.name finds: the services at
// name, by the names rule, that have such a port. Port is a number or a name.
// It exists if it has some, and so does _protocol.name then.
func (z *Zone) findPorts(n, top dnsname.Name) (list []servicePort, exists bool) {
	label, proto, rest := n.Label(), n.Parent().Label(), n.Parent().Parent()
	between := !isProtoLabel(proto) && isProtoLabel(label)
	if between {
		proto, rest = label, n.Parent()
	}
	if !isProtoLabel(proto) || !rest.Under(top) {
		return nil, false
	}
	for s := range index.Shuffled(z.Reg.Match(rest, nil), publish.HasPorts) {
		for _, p := range s.Ports {
			if proto != "_"+p.Proto || !between && !p.IsAt(label) {
				continue
			}
			if between {
				return nil, true
			}
			list = append(list, servicePort{s, p})
		}
	}
	isWell := func(p servicePort) bool { return !p.Sick }
	if slices.ContainsFunc(list, isWell) {
		list = slices.DeleteFunc(list, func(p servicePort) bool { return p.Sick })
	}
	return list, len(list) > 0
}

func isProtoLabel(label string) bool {
	return label != "" && label[0] == '_' && publish.IsProto(label[1:])
}

// answerOurs answers q, the question about n, whose highest name of ours is
// top. Where n is a CNAME that q goes on with, it returns its target.
func (z *Zone) answerOurs(m *dns.Msg, q dns.Question, n, top dnsname.Name, c Client) (next dnsname.Name) {
	ready := z.Reg.IsReady(n) // before find: what is published between the two is not missed
	done, ok := z.inTurn(n, top, c)
	if !ok {
		m.Authoritative, m.Answer, m.Rcode = false, nil, dns.RcodeServerFailure
		return ""
	}
	defer done()
	f := z.find(n, top)
	if f.cname != nil {
		h := Header(q.Name, dns.TypeCNAME, z.Reg.TTLOf(f.cname))
		m.Answer = append(m.Answer, &dns.CNAME{Hdr: h, Target: f.cname.CNAME.String()})
		if q.Qtype == dns.TypeCNAME || q.Qtype == dns.TypeANY {
			return ""
		}
		return f.cname.CNAME
	}
	before := len(m.Answer)
	z.addRecords(m, q, n, f, c)
	switch {
	case len(m.Answer) > before:
	case !ready && !f.isHost && !f.isStatic && !f.hasData && f.owners == nil && len(f.ports) == 0:
		z.notReady(m)
	default:
		if !f.exists {
			m.Rcode = dns.RcodeNameError
		}
		m.Ns = append(m.Ns, z.soa(ending(q.Name, top.Labels()), top, MaxNegative)) // makes it cacheable, RFC 2308 section 3
	}
	return ""
}

// notReady makes m say that nobody knows yet, RFC 8914 section 4.15.
func (z *Zone) notReady(m *dns.Msg) {
	m.Authoritative, m.Answer = false, nil
	m.Rcode = dns.RcodeServerFailure
	if opt := m.IsEdns0(); opt != nil {
		opt.Option = append(opt.Option, &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeNotReady})
	}
}

// addRecords adds what n has of the type that q asks for, and to the
// additional section the addresses that are asked for next.
func (z *Zone) addRecords(m *dns.Msg, q dns.Question, n dnsname.Name, f found, c Client) {
	most := c.Size/MinRR + 1 // one more than can fit: that makes it truncated
	add := func(rr dns.RR) { m.Answer = append(m.Answer, rr) }
	switch q.Qtype {
	case dns.TypeA, dns.TypeAAAA:
		m.Answer = append(m.Answer, z.addrs(q.Name, n, f, q.Qtype, c)...)
	case dns.TypePTR:
		if f.owners == nil {
			break
		}
		h := Header(q.Name, q.Qtype, z.Reg.MinTTL([]*index.View{f.owners}))
		for _, o := range index.MostSpecific(f.owners, most) {
			add(&dns.PTR{Hdr: h, Ptr: o.String()})
		}
	case dns.TypeMX:
		if f.hasData || f.isHost {
			add(&dns.MX{Hdr: Header(q.Name, q.Qtype, z.Reg.MinTTL(f.views)), Mx: q.Name})
			addExtra(m, z.bothAddrs(q.Name, n, f, c))
		}
	case dns.TypeTXT:
		h := Header(q.Name, q.Qtype, z.Reg.MinTTL(f.views))
		for _, text := range allTXT(f.views, c.Size) {
			add(&dns.TXT{Hdr: h, Txt: charStrings(text)})
		}
	case dns.TypeSRV:
		z.addSRV(m, q.Name, f.ports, most, c)
	case dns.TypeSOA:
		if f.isZone {
			add(z.soa(q.Name, n, MaxNegative))
		}
	case dns.TypeNS:
		if f.isZone {
			add(&dns.NS{Hdr: Header(q.Name, q.Qtype, z.Reg.TTL.Load()), Ns: z.Host.String()})
			addExtra(m, z.bothAddrs(z.Host.String(), z.Host, z.find(z.Host, z.Apex), c))
		}
	case dns.TypeANY:
		if f.isZone || f.isHost || f.loopback || f.hasData || f.owners != nil || len(f.ports) > 0 {
			add(&dns.HINFO{Hdr: Header(q.Name, dns.TypeHINFO, z.Reg.TTL.Load()), Cpu: "RFC8482"}) // section 4.2
		}
	}
}

// addrs returns the address records of n under the name owner.
func (z *Zone) addrs(owner string, n dnsname.Name, f found, qtype uint16, c Client) (list []dns.RR) {
	var addrs []netip.Addr
	v4, ttl := qtype == dns.TypeA, z.Reg.TTL.Load()
	switch {
	case f.loopback && v4:
		addrs = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	case f.loopback:
		addrs = []netip.Addr{netip.IPv6Loopback()}
	case f.isHost && c.Local.IsValid() && c.Local.Is4() == v4:
		addrs = []netip.Addr{c.Local}
	default:
		var differs bool
		addrs, ttl, differs = z.Reg.Rrset(f.views, v4, c.Size/MinRR+1, c.Viewer())
		if differs && c.alone != nil {
			*c.alone = true
		}
	}
	for _, a := range addrs {
		if v4 {
			list = append(list, &dns.A{Hdr: Header(owner, qtype, ttl), A: a.AsSlice()})
		} else {
			list = append(list, &dns.AAAA{Hdr: Header(owner, qtype, ttl), AAAA: a.AsSlice()})
		}
	}
	return list
}

// bothAddrs returns the IPv4 and the IPv6 addresses of n.
func (z *Zone) bothAddrs(owner string, n dnsname.Name, f found, c Client) []dns.RR {
	if f.cname != nil {
		return nil
	}
	return slices.Concat(z.addrs(owner, n, f, dns.TypeA, c), z.addrs(owner, n, f, dns.TypeAAAA, c))
}

// addExtra adds to the additional section. What does not fit, pack leaves out.
func addExtra(m *dns.Msg, rrs []dns.RR) { m.Extra = append(rrs, m.Extra...) }

// addSRV adds ports, from a random one on, with the addresses of the names
// that they point to: the full names of their services.
//
// RFC 2782. All are of one priority and weight: clients choose at random.
func (z *Zone) addSRV(m *dns.Msg, owner string, ports []servicePort, most int, c Client) {
	if len(ports) == 0 {
		return
	}
	ttl := uint32(publish.MaxTTL)
	for _, p := range ports {
		ttl = min(ttl, z.Reg.TTLOf(p.Service))
	}
	h := Header(owner, dns.TypeSRV, ttl)
	type target struct {
		name   dnsname.Name
		number uint16
	}
	seen, hosts := make(map[target]bool), make(map[dnsname.Name]bool)
	var extra []dns.RR
	for i, first := 0, rand.IntN(len(ports)); i < len(ports) && len(m.Answer) < most; i++ {
		p := ports[(first+i)%len(ports)]
		t := target{p.OwnerNames[0], p.Number}
		if seen[t] {
			continue
		}
		seen[t] = true
		host := t.name.String()
		m.Answer = append(m.Answer, &dns.SRV{Hdr: h, Weight: 1, Port: t.number, Target: host})
		if !hosts[t.name] && len(extra) < most {
			hosts[t.name] = true
			top, _ := z.Reg.ZoneOf(t.name)
			extra = append(extra, z.bothAddrs(host, t.name, z.find(t.name, top), c)...)
		}
	}
	addExtra(m, extra)
}

// allTXT returns the TXT records of views, each once, until they have
// size octets.
func allTXT(views []*index.View, size int) (list []string) {
	seen := make(map[string]bool)
	for s := range index.Shuffled(views, publish.HasTXT) {
		for _, text := range s.TXT {
			if seen[text] {
				continue
			}
			seen[text] = true
			list = append(list, text)
			if size -= MinRR - 1 + len(text); size < 0 { // its length, and an octet at least for that of its strings
				return list
			}
		}
	}
	return list
}

// charStrings splits text into what a TXT record holds, strings of 255
// octets (RFC 1035 section 3.3.14), and escapes what miekg/dns would read as
// an escape.
func charStrings(text string) (list []string) {
	for part := range slices.Chunk([]byte(text), 255) {
		list = append(list, strings.ReplaceAll(string(part), `\`, `\\`))
	}
	return list
}

// Header returns the header of a record.
func Header(owner string, rrtype uint16, ttl uint32) dns.RR_Header {
	return dns.RR_Header{Name: owner, Rrtype: rrtype, Class: dns.ClassINET, Ttl: ttl}
}

// ending returns the last labels of a name, as many as are asked for.
func ending(s string, labels int) string {
	starts := dns.Split(s)
	return s[starts[len(starts)-labels]:]
}

// soa returns the SOA record of the zone top, which owner is, in the case that
// was asked: so all names in it compress. Its TTL and its last field are how
// many seconds a negative answer may be cached: most at most.
func (z *Zone) soa(owner string, top dnsname.Name, most uint32) *dns.SOA {
	ttl := min(z.Reg.TTL.Load(), most)
	ns, mbox := z.Host.String(), owner
	if top == z.Apex {
		ns = "dnsdock." + owner
	}
	if len(Hostmaster)+len(top) <= dnsname.MaxLen { // only a long alias can be longer
		mbox = "hostmaster." + owner
	}
	return &dns.SOA{
		Hdr:     dns.RR_Header{Name: owner, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: ttl},
		Ns:      ns,
		Mbox:    mbox,
		Serial:  z.Reg.Serial.Load(),
		Refresh: SoaRefresh,
		Retry:   SoaRetry,
		Expire:  SoaExpire,
		Minttl:  ttl,
	}
}

// Forward completes m, a reply without records or with CNAMEs, by what
// upstreams answer to q, or have answered before: then it is cached.
func (z *Zone) Forward(m, req *dns.Msg, q dns.Question, c Client) (cached bool) {
	n, _ := dnsname.Parse(q.Name) // no error: it was one before
	begun := time.Now()
	r := z.Fwd.Answer(z.Ctx, dnscache.NewQuestion(n, q.Qtype, QuestionFlags(req)), req.Id, c.Addr)
	cached = r != nil && r.Age() > time.Since(begun)
	if r != nil && r.Rcode() != dns.RcodeServerFailure {
		if said, err := r.Message(r.Age()); err == nil {
			z.Relay(m, req, said, q)
			return cached
		}
	}
	m.Rcode, m.Authoritative, m.Answer = dns.RcodeServerFailure, false, nil
	return cached
}

// QuestionFlags returns those flags of req that make a difference upstream.
func QuestionFlags(req *dns.Msg) (flags byte) {
	if req.RecursionDesired {
		flags |= dnscache.RD
	}
	if req.CheckingDisabled {
		flags |= dnscache.CD
	}
	if opt := req.IsEdns0(); opt != nil && opt.Do() {
		flags |= dnscache.DO
	}
	return flags
}

// Relay adds to m what upstreams said to q.
func (z *Zone) Relay(m, req, said *dns.Msg, q dns.Question) {
	m.Rcode, m.Truncated = said.Rcode, said.Truncated
	asked := req.AuthenticatedData || QuestionFlags(req)&dnscache.DO != 0       // RFC 6840 section 5.8
	m.AuthenticatedData = said.AuthenticatedData && asked && len(m.Answer) == 0 // our CNAMEs are not signed
	for _, rr := range slices.Concat(said.Answer, said.Ns) {
		h := rr.Header()
		if z.Fwd.ForceTTL {
			h.Ttl = z.Reg.TTL.Load()
		}
		if forward.EqualNames(h.Name, q.Name) {
			h.Name = q.Name // in the client's case
		}
	}
	m.Answer, m.Ns = append(m.Answer, said.Answer...), said.Ns
}

// ForcedTTL is the TTL that all forwarded records get, or ownTTL.
func (z *Zone) ForcedTTL() int64 {
	if z.Fwd.ForceTTL {
		return int64(z.Reg.TTL.Load())
	}
	return dnscache.OwnTTL
}
