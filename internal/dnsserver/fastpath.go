package dnsserver

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"time"
	"unsafe"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/index"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/stats"
	"github.com/rayje/dnsdock/internal/udpio"
	"github.com/rayje/dnsdock/internal/zone"
)

// NewUDPServer returns a server of z on conn, and a channel that is closed
// once it can be shut down.
func NewUDPServer(z *zone.Zone, conn *net.UDPConn) (*dns.Server, <-chan struct{}) {
	started := make(chan struct{})
	return &dns.Server{
		Handler:           z,
		PacketConn:        newPacketConn(z, conn),
		UDPSize:           dnswire.MaxQuery,
		NotifyStartedFunc: func() { close(started) },
	}, started
}

// A packetConn is a UDP socket in front of dns.Server. It reads packets in
// batches, answers in place those that the fast path takes, and leaves the
// others to the server. Replies leave from the address that the query came
// to, on a host of several too.
type packetConn struct {
	*net.UDPConn
	zone    *zone.Zone
	counts  *stats.Counts
	fast    *FastPath
	batch   *udpio.Batch
	next    int           // the packet of batch that is to be looked at
	count   int           // packets of batch
	alone   bool          // there is one processor for all goroutines
	begun   time.Time     // when it was made
	arrived time.Duration // after begun: when batch was read
	burst   *forward.Burst
}

// newPacketConn wraps conn, whose owner it becomes.
func newPacketConn(z *zone.Zone, conn *net.UDPConn) *packetConn {
	counts := z.Traffic.Take(stats.UDP)
	return &packetConn{UDPConn: conn, zone: z, counts: counts, fast: NewFastPath(z).countedBy(counts), batch: udpio.NewBatch(conn, udpio.WantDestinations(conn)),
		alone: runtime.GOMAXPROCS(0) == 1, begun: time.Now(), burst: z.Fwd.NewBurst(z.Ctx)}
}

// ReadFrom implements net.PacketConn; the address is a peer. It returns what
// screen leaves of the next query that is not answered here, and answers
// itself what screen rejects.
func (p *packetConn) ReadFrom(b []byte) (n int, addr net.Addr, err error) {
	for {
		for ; p.next < p.count; p.next++ {
			i, packet := p.next, p.batch.Packet(p.next)
			if reply := p.fast.Answer(packet, p.batch.From(i).Addr(), dnswire.MaxUDPSize, p.batch.Space()); reply != nil {
				p.batch.Send(i, reply)
				continue
			}
			if p.fast != nil && p.fast.missed != "" && p.ask(i) {
				continue
			}
			query, reply := dnswire.SanitizeQuery(packet)
			if query != nil {
				p.end()
				p.next++
				return copy(b, query), p.batch.Peer(i), nil
			}
			if reply != nil {
				p.zone.NoteRejected(reply, p.batch.From(i).Addr(), p.counts, time.Since(p.begun)-p.arrived)
				p.batch.Send(i, append(p.batch.Space(), reply...))
			}
		}
		p.end()
		if p.alone && p.count == udpio.BatchSize { // there may be more at once, and others want to run too
			runtime.Gosched()
		}
		p.next = 0
		if p.count, err = p.batch.Read(); err != nil {
			p.count = 0
			return 0, nil, err
		}
		p.arrived = time.Since(p.begun) // one look at the clock for all packets of the batch
	}
}

// end flushes, and counts the time since the queries of the replies arrived.
func (p *packetConn) end() {
	p.batch.Flush()
	p.burst.Flush()
	if p.fast.hasUntimed() {
		p.fast.took(time.Since(p.begun) - p.arrived)
	}
}

// WriteTo implements net.PacketConn; addr is a peer.
func (p *packetConn) WriteTo(b []byte, addr net.Addr) (int, error) {
	return udpio.WriteTo(p.UDPConn, b, addr.(udpio.Peer))
}

// A FastPath answers queries in wire format from what the registry knows,
// without a look at what dns.Server does for each, and without memory. What
// it declines is for zone, with which it never disagrees: it may be another
// order, and another case of names that were not asked for.
//
// It belongs to one goroutine.
type FastPath struct {
	Zone    *zone.Zone
	missed  dnscache.Question        // that the last query asks and upstreams have to answer, in the fastPath's memory; empty if there is none
	name    [dnsname.MaxLen + 3]byte // of the query, in lower case, and the rest of the question
	views   [8]*index.View
	counts  *stats.Counts
	untimed [stats.Kinds]uint64 // answers whose time is still to be counted: with the clock read for each they would take half as long again
}

// A plainQuery is what a fastPath reads of a query.
type plainQuery struct {
	name  dnsname.Name // in the fastPath's memory
	qtype uint16
	end   int  // of the question in the query
	size  int  // octets of a reply that the client takes
	opt   bool // it sent an OPT
	do    byte // 0x80: with the DO bit
	ad    bool // it wants to know whether the answer was validated
}

// NewFastPath returns a fast path in front of z; nil where z is to see, and
// log, each query.
func NewFastPath(z *zone.Zone) *FastPath {
	if z.Logs() {
		return nil
	}
	return &FastPath{Zone: z, counts: z.Traffic.Shared(stats.TCP)}
}

// countedBy has f count in c.
func (f *FastPath) countedBy(c *stats.Counts) *FastPath {
	if f != nil {
		f.counts = c
	}
	return f
}

// hasUntimed reports whether took is to be called.
func (f *FastPath) hasUntimed() bool { return f != nil && f.untimed != [stats.Kinds]uint64{} }

// took counts the time of all answers that it was not counted of yet: each
// took that long.
func (f *FastPath) took(d time.Duration) {
	for k, n := range f.untimed {
		if n > 0 {
			f.counts.AddTime(stats.Kind(k), d, n)
		}
	}
	f.untimed = [stats.Kinds]uint64{}
}

// Answer appends the reply to a query from a client to reply, in most octets
// at most. It declines with nil.
func (f *FastPath) Answer(query []byte, client netip.Addr, most int, reply []byte) (answer []byte) {
	if f == nil {
		return nil
	}
	f.missed = ""
	defer func() {
		if bug := recover(); bug != nil {
			answer = nil // the zone answers, or meets the bug and says so
		}
	}()
	q, ok := f.read(query, most)
	if !ok {
		return nil
	}
	r := writer{zone: f.Zone, plainQuery: q, start: len(reply), reply: reply}
	if !r.begin(query, client) || !f.fill(&r) {
		return nil
	}
	answer = r.finish()
	f.counts.Add(r.kind, int(r.header()[3]&0xf), q.qtype)
	f.untimed[r.kind]++
	return answer
}

// read reads a query: a header without anything unusual, a question, and
// perhaps an OPT of version 0.
func (f *FastPath) read(b []byte, most int) (q plainQuery, ok bool) {
	const counts = 1 << 48 // of each section, as one number: a question and no more
	if len(b) < dnswire.HeaderLen || b[2]&0xf8 != 0 || binary.BigEndian.Uint64(b[4:])&^1 != counts {
		return q, false
	}
	end := dnswire.HeaderLen
	for {
		if end >= len(b) {
			return q, false
		}
		n := int(b[end])
		if n > dnsname.MaxLabelLen || end+1+n > len(b) || end-dnswire.HeaderLen+1+n > dnsname.MaxLen {
			return q, false
		}
		if n == 1 && b[end+1] == '*' {
			return q, false
		}
		for i := end; i <= end+n; i++ { // a length is below 64, so never a letter
			c := b[i]
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			f.name[i-dnswire.HeaderLen] = c
		}
		if end += 1 + n; n == 0 {
			break
		}
	}
	q.name = dnsname.Name(unsafe.String(&f.name[0], end-dnswire.HeaderLen)) // no copy: nothing keeps it
	q.end = end + 4
	if q.end > len(b) || binary.BigEndian.Uint16(b[end+2:]) != dns.ClassINET {
		return q, false
	}
	q.qtype, q.size = binary.BigEndian.Uint16(b[end:]), min(most, dns.MinMsgSize)
	if most > dnswire.MaxUDPSize {
		q.size = most
	}
	if b[11] == 0 {
		return q, q.end == len(b)
	}
	opt := b[q.end:]
	if len(opt) < dnswire.OPTLen || opt[0] != 0 || binary.BigEndian.Uint16(opt[1:]) != dns.TypeOPT || opt[6] != 0 ||
		len(opt) != dnswire.OPTLen+int(binary.BigEndian.Uint16(opt[9:])) || !dnswire.AreOptions(opt[dnswire.OPTLen:]) {
		return q, false
	}
	q.opt, q.do = true, opt[7]&0x80
	q.size = min(max(q.size, int(binary.BigEndian.Uint16(opt[3:]))), most)
	return q, true
}

// fill writes the answer to r, or declines.
func (f *FastPath) fill(r *writer) bool {
	z, n := f.Zone, r.name
	hot := z.Reg.Hot.Find(n, r.qtype)
	if rr := hot.Record(n); rr != nil {
		r.header()[7] = 1
		r.reply = append(r.reply, rr...)
		return true
	}
	if zone.IsMeta(r.qtype) {
		return false
	}
	top, ok := z.Reg.ZoneOf(n)
	inZone := ok
	if !ok {
		if top, ok = z.Reg.AliasFor(n); !ok {
			return f.foreign(r)
		}
	}
	first, second := n.Label(), n.Parent().Label()
	switch {
	case n == z.Host:
		return false
	case r.qtype == dns.TypeSRV && first != "" && first[0] == '_':
		return r.kept(z.Kept.Find(r.name, z.Reg.Serial.Load()))
	case first != "" && first[0] == '_', second != "" && second[0] == '_': // a port may be there
		return false
	}
	ready := z.Reg.IsReady(n) // before match, as in answerOurs
	views := z.Reg.Match(n, f.views[:0])
	switch isZone := n == top && inZone; {
	case index.AnyHas(views, publish.HasCNAME):
		return false
	case len(views) == 0 && (!ready || !inZone):
		return false
	case len(views) == 0 && !isZone && !z.Reg.IsAboveCompose(n) && !z.Reg.IsAboveZone(n):
		return r.negative(dns.RcodeNameError, top)
	case r.qtype == dns.TypeMX && len(views) > 0, r.qtype == dns.TypeTXT && index.AnyHas(views, publish.HasTXT):
		return false
	case isZone && (r.qtype == dns.TypeSOA || r.qtype == dns.TypeNS):
		return false
	case r.qtype == dns.TypeA && index.AnyHas(views, publish.HasA), r.qtype == dns.TypeAAAA && index.AnyHas(views, publish.HasAAAA):
		if len(views) > 1 {
			return false
		}
		if hot.IsFree() && views[0].Rrset(r.qtype).Load() == nil {
			_, isNode := z.Reg.Nodes.Load(n)
			if s := z.Reg.Pack(views[0], r.qtype); isNode && hot.Keep(n, s) {
				return r.records(s)
			}
		}
		return r.records(z.Reg.Packed(views[0], r.qtype))
	}
	return r.negative(dns.RcodeSuccess, top)
}

// foreign writes what upstreams said, if that is known, or the names of an
// address.
func (f *FastPath) foreign(r *writer) bool {
	z, n, h := f.Zone, r.name, r.header()
	if v := z.Reg.At(n); v != nil {
		return r.qtype == dns.TypePTR && r.records(z.Reg.Packed(v, dns.TypePTR))
	}
	if served := h[3]&0x80 != 0; !served || h[2]&dnscache.RD == 0 {
		return false
	}
	if _, ok := z.Reg.RecentlyRemoved(n); ok {
		return false
	}
	copy(f.name[len(n):], []byte{byte(r.qtype >> 8), byte(r.qtype), dnscache.RD | h[3]&dnscache.CD | r.do})
	q := dnscache.Question(unsafe.String(&f.name[0], len(n)+3)) // no copy: nothing keeps it
	known := z.Fwd.Cache.Get(q)
	if known != nil {
		age := known.Age()
		switch is := known.At(age); {
		case is >= dnscache.Tired:
			r.kind = stats.Cached
			return r.cached(known, age)
		case is == dnscache.Stale: // bursts don't know when that is to be given
			return false
		}
	}
	f.missed = q
	return false
}

// cached writes what upstreams said. It is not ok where there is no room.
func (w *writer) cached(r *dnscache.Response, age time.Duration) (ok bool) {
	if r.Size() > w.room() {
		return false
	}
	w.reply = r.AppendTo(w.reply, w.start, w.ad, age, w.zone.ForcedTTL())
	return true
}

// A writer makes a reply.
type writer struct {
	zone *zone.Zone
	plainQuery
	reply []byte // all of it so far
	start int    // where the reply begins in it
	kind  stats.Kind
}

// begin writes the header and the question, with the octets that were sent.
// It declines where it is to be found out first whether the client is local.
func (r *writer) begin(query []byte, client netip.Addr) bool {
	r.reply = append(r.reply, query[:r.end]...)
	h := r.header()
	r.ad = h[3]&0x20 != 0 || r.do != 0
	h[2] = 0x80 | 0x04 | h[2]&0x01 // QR and AA, RD as it was
	h[3] &= 0x10                   // CD as it was
	serves, known := r.zone.Fwd.ServesAsKnown(client)
	if serves {
		h[3] |= 0x80
	}
	clear(h[6:dnswire.HeaderLen])
	return known
}

func (r *writer) header() []byte { return r.reply[r.start : r.start+dnswire.HeaderLen] }

// room is how many octets the reply may still have, its OPT apart.
func (r *writer) room() int {
	room := r.size - (len(r.reply) - r.start)
	if r.opt {
		room -= dnswire.OPTLen
	}
	return room
}

// finish writes the OPT.
func (r *writer) finish() []byte {
	if r.opt {
		r.header()[11]++
		r.reply = append(r.reply, 0, 0, byte(dns.TypeOPT), dnswire.MaxUDPSize>>8, dnswire.MaxUDPSize&0xff, 0, 0, r.do, 0, 0, 0)
	}
	return r.reply
}

// records writes an rrset, from a random record on where they are of one
// size, and as many as fit.
func (r *writer) records(s *index.RRset) bool {
	if s == nil || s.Size == 0 && len(s.RRs) > r.room() {
		return false
	}
	first, n, size, count := 0, len(s.RRs), int(s.Size), int(s.Count)
	if size > 0 {
		if count > 1 {
			first = rand.IntN(count) * size
		}
		if n > r.room() {
			count = max(0, r.room()/size)
			n = count * size
			r.header()[2] |= 0x02 // TC
		}
	}
	binary.BigEndian.PutUint16(r.header()[6:], uint16(count))
	end := min(first+n, len(s.RRs))
	r.reply = append(r.reply, s.RRs[first:end]...)
	r.reply = append(r.reply, s.RRs[:n-(end-first)]...)
	return true
}

// negative writes that there is nothing, with the SOA of top, as zone.soa
// makes it.
func (r *writer) negative(rcode byte, top dnsname.Name) bool {
	z := r.zone
	ttl := min(z.Reg.TTL.Load(), zone.MaxNegative)
	pointer := uint16(0xc000 | dnswire.HeaderLen + len(r.name) - len(top)) // to top in the question
	h := r.header()
	h[3] |= rcode
	h[9] = 1
	b := binary.BigEndian.AppendUint16(r.reply, pointer)
	b = append(b, 0, byte(dns.TypeSOA), 0, byte(dns.ClassINET))
	b = binary.BigEndian.AppendUint32(b, ttl)
	at := len(b)
	b = append(b, 0, 0)
	if top == z.Apex {
		b = append(b, z.Host[:len(z.Host)-len(top)]...)
		b = binary.BigEndian.AppendUint16(b, pointer)
	} else {
		b = append(b, z.Host...)
	}
	if len(zone.Hostmaster)+len(top) <= dnsname.MaxLen {
		b = append(b, zone.Hostmaster...)
	}
	b = binary.BigEndian.AppendUint16(b, pointer)
	for _, v := range [5]uint32{z.Reg.Serial.Load(), zone.SoaRefresh, zone.SoaRetry, zone.SoaExpire, ttl} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	binary.BigEndian.PutUint16(b[at:], uint16(len(b)-at-2))
	r.reply = b
	return r.room() >= 0
}

// kept writes an answer that was given before. It is not ok where there is none, or no room.
func (r *writer) kept(k *zone.KeptReply) bool {
	if k == nil || len(k.Rest) > r.room() || k.Left.Add(-1) < 0 {
		return false
	}
	copy(r.header()[6:], k.Counts[:])
	r.reply = append(r.reply, k.Rest...)
	return true
}
