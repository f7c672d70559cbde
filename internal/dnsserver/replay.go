package dnsserver

import (
	"encoding/binary"
	"net/netip"
	"time"
	"unsafe"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/stats"
	"github.com/rayje/dnsdock/internal/zone"
)

// A replayer answers queries in wire format with kept answers, without
// allocating. It makes no answers: for a query that no kept answer fits it
// returns nil, and the Authority decides.
//
// A replayer belongs to one goroutine. Its methods accept nil, which answers nothing.
type replayer struct {
	*Server
	missed  dnscache.Question        // what upstreams must be asked for the last query, in the memory of name; empty: nothing
	name    [dnsname.MaxLen + 3]byte // the query's name in lower case, and the rest of the question
	counts  *stats.Counts
	untimed [stats.Kinds]uint64 // answers whose time is not counted yet: reading the clock for each would take half as long again
}

// A source is where the query at hand came from.
type source interface {
	client() netip.Addr
	local() netip.Addr // the address of ours that the client asked
}

// A plainQuery is what a replayer reads of a query.
type plainQuery struct {
	name  dnsname.Name // in the replayer's memory
	qtype uint16
	end   int  // of the question in the query
	size  int  // bytes of a reply that the client takes
	opt   bool // the query has an OPT
	do    byte // 0x80 with the DO bit
	ad    bool // the client wants to know whether the answer was validated
}

// newReplayer returns a replayer that counts in counts; nil if each query is
// to be logged, which only Server.answer does.
func (s *Server) newReplayer(counts *stats.Counts) *replayer {
	if s.logsQueries() {
		return nil
	}
	return &replayer{Server: s, counts: counts}
}

// hasUntimed reports whether took must be called.
func (r *replayer) hasUntimed() bool { return r != nil && r.untimed != [stats.Kinds]uint64{} }

// took counts the time of all answers whose time was not counted yet: each
// took d.
func (r *replayer) took(d time.Duration) {
	for k, n := range r.untimed {
		if n > 0 {
			r.counts.AddTime(stats.Kind(k), d, n)
		}
	}
	r.untimed = [stats.Kinds]uint64{}
}

// answer appends the reply to a query to reply, in at most limit bytes. It
// returns nil if the Authority must decide.
func (r *replayer) answer(query []byte, from source, limit int, reply []byte) (answer []byte) {
	if r == nil {
		return nil
	}
	r.missed = ""
	defer func() {
		if bug := recover(); bug != nil {
			answer = nil // the Authority answers
		}
	}()
	q, ok := r.read(query, limit)
	if !ok {
		return nil
	}
	w := writer{server: r.Server, plainQuery: q, start: len(reply), reply: reply}
	if !w.begin(query, from.client()) {
		return nil
	}
	if e := r.find(&q, from); e != nil {
		ok = w.replay(e)
	} else {
		ok = r.foreign(&w)
	}
	if !ok {
		return nil
	}
	answer = w.finish()
	r.counts.Add(w.kind, int(w.header()[3]&0xf), q.qtype)
	r.untimed[w.kind]++
	return answer
}

// find returns the kept answer to q, nil if there is none that is true.
func (r *replayer) find(q *plainQuery, from source) *entry {
	version := r.changes.Version()
	name := r.name[:len(q.name)]
	e := r.answers.find(name, q.qtype, 0)
	if e != nil && e.by() != 0 { // the answer depends on the client
		e.markUsed()
		e = r.answers.find(name, q.qtype, r.viewOf(e.by(), from))
	}
	if e == nil || !e.isTrue(q.name, version, r.changes) {
		return nil
	}
	return e
}

// viewOf returns a number that two queries have in common if an answer that
// depends on the client is the same for both; never 0.
func (s *Server) viewOf(by zone.By, from source) (view uint64) {
	if by&zone.ByNetwork != 0 {
		view = s.changes.NetworksOf(from.client())
	}
	if by&zone.ByLocal != 0 {
		view += s.answers.hashOf(from.local())
	}
	return view | 1
}

// read reads a query that is as usual: a header without special flags, one
// question without a wildcard, and perhaps an OPT of version 0.
func (r *replayer) read(b []byte, limit int) (q plainQuery, ok bool) {
	const counts = 1 << 48 // of all sections, as one number: one question and nothing else
	if len(b) < dnswire.HeaderLen || b[2]&0xf8 != 0 || binary.BigEndian.Uint64(b[4:])&^1 != counts {
		return q, false
	}
	end := r.readName(b)
	if end < 0 {
		return q, false
	}
	q.name = dnsname.Name(unsafe.String(&r.name[0], end-dnswire.HeaderLen)) // no copy: nothing keeps it
	q.end = end + 4
	if q.end > len(b) || binary.BigEndian.Uint16(b[end+2:]) != dns.ClassINET {
		return q, false
	}
	q.qtype, q.size = binary.BigEndian.Uint16(b[end:]), min(limit, dns.MinMsgSize)
	if limit > dnswire.MaxUDPSize {
		q.size = limit
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
	q.size = min(max(q.size, int(binary.BigEndian.Uint16(opt[3:]))), limit)
	return q, true
}

// readName copies the name of the question in b to r.name, in lower case. It
// returns where the name ends in b; -1 if that is not well-formed or has a wildcard.
func (r *replayer) readName(b []byte) (end int) {
	end = dnswire.HeaderLen
	for {
		if end >= len(b) {
			return -1
		}
		n := int(b[end])
		if n > dnsname.MaxLabelLen || end+1+n > len(b) || end-dnswire.HeaderLen+1+n > dnsname.MaxLen || n == 1 && b[end+1] == '*' {
			return -1
		}
		for i := end; i <= end+n; i++ { // a length is below 64, so never a letter
			c := b[i]
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			r.name[i-dnswire.HeaderLen] = c
		}
		if end += 1 + n; n == 0 {
			return end
		}
	}
}

// foreign writes what upstreams have said, if that is known. Else it notes
// what they must be asked.
func (r *replayer) foreign(w *writer) bool {
	h := w.header()
	if served := h[3]&0x80 != 0; !served || h[2]&dnscache.RD == 0 || zone.IsMeta(w.qtype) {
		return false
	}
	copy(r.name[len(w.name):], []byte{byte(w.qtype >> 8), byte(w.qtype), dnscache.RD | h[3]&dnscache.CD | w.do})
	q := dnscache.Question(unsafe.String(&r.name[0], len(w.name)+3)) // no copy: nothing keeps it
	known, foreign := r.authority.Cached(q)
	switch {
	case known != nil:
		w.kind = stats.Cached
		return w.cached(known, known.Age())
	case foreign:
		r.missed = q
	}
	return false
}

// Replay appends the reply to a query from c to reply; nil if no kept answer fits.
func (s *Server) Replay(query []byte, c zone.Client, reply []byte) []byte {
	return s.newReplayer(s.traffic.Shared(stats.TCP)).answer(query, clientSource(c), c.Size, reply)
}
