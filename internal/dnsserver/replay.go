package dnsserver

import (
	"net/netip"
	"time"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/stats"
	"github.com/rayje/dnsdock/internal/zone"
)

// A replayer answers queries in wire format with kept answers, without
// allocating. It makes no answers: for a query that no kept answer fits it
// returns nil, and the Authority decides.
//
// A replayer belongs to one goroutine.
type replayer struct {
	*Server
	reader
	isOff   bool              // each query is to be logged
	missed  dnscache.Question // what upstreams must be asked for the last query, in the reader's memory; empty: nothing
	counts  *stats.Counts
	untimed [stats.Kinds]uint64 // answers whose time is not counted yet: looking at the clock for each is slow
}

// A source is where the query at hand came from.
type source interface {
	client() netip.Addr
	local() netip.Addr // the address of ours that the client asked
	now() time.Time    // about now: at the earliest when the query was read
}

// newReplayer returns a replayer that counts in counts.
func (s *Server) newReplayer(counts *stats.Counts) *replayer {
	return &replayer{Server: s, counts: counts, isOff: s.logsQueries()}
}

// hasUntimed reports whether took must be called.
func (r *replayer) hasUntimed() bool { return r.untimed != [stats.Kinds]uint64{} }

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
func (r *replayer) answer(packet []byte, from source, limit int, reply []byte) (answer []byte) {
	r.missed = ""
	defer func() {
		if bug := recover(); bug != nil {
			answer = nil // the Authority answers
		}
	}()
	q, ok := r.read(packet, limit)
	if !ok || !q.plain || r.isOff {
		return nil
	}
	w := writer{server: r.Server, query: q, start: len(reply), reply: reply}
	serves, known := r.authority.Serves(from.client())
	if !known {
		return nil
	}
	w.begin(serves)
	if e := r.find(&q, from); e != nil {
		ok = !e.isUsedUp()
		w.setHeader(true, e.rcode())
		w.replay(e)
	} else {
		ok = r.foreign(&w, from, serves)
	}
	if !ok {
		return nil
	}
	answer = w.finish()
	r.counts.Add(w.kind, int(w.header()[3]&0xf), q.Type)
	r.untimed[w.kind]++
	return answer
}

// find returns the kept answer to q, nil if there is none that is true.
func (r *replayer) find(q *query, from source) *entry {
	version := r.changes.Version()
	name := r.name[:len(q.Name)]
	e := r.answers.find(name, q.Type, 0)
	if e != nil && e.by() != 0 { // the answer depends on the client
		e.markUsed()
		e = r.answers.find(name, q.Type, r.viewOf(e.by(), from))
	}
	if e == nil || !e.isTrue(q.Name, version, r.changes) {
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

// foreign writes what upstreams have said, if that is known. Else it notes
// what they must be asked.
func (r *replayer) foreign(w *writer, from source, serves bool) bool {
	if !serves || w.Flags&dnscache.RD == 0 || zone.IsMeta(w.Type) {
		return false
	}
	q := r.upstream(&w.query)
	now := from.now()
	known, foreign := r.authority.Cached(q, now)
	switch {
	case known != nil:
		w.kind = stats.Cached
		w.cached(known, now)
		return true
	case foreign:
		r.missed = q
	}
	return false
}
