package dnscache

import (
	"container/list"
	"encoding/binary"
	"errors"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnswire"
)

const (
	MaxCached      = 24 * time.Hour  // for which a response is fresh, and then stale (RFC 8767 section 5)
	MaxNegativeTTL = time.Hour       // for which an upstream's NXDOMAIN or NODATA is fresh (RFC 2308 section 5)
	FailureTTL     = 5 * time.Second // for which a failure is remembered: RFC 9520 section 3.2 has 1 s to 5 minutes
	staleTTL       = 30              // seconds: the TTL of records in a stale answer (RFC 8767 section 4)
	responseSpace  = 350             // bytes of a response beside its question and records, the tables' share included
)

// A Response is what upstreams said to a question, in wire format: all that follows the question in a message, without
// the OPT record. Names in it are compressed by the question. Only used and recheck change after it was made.
type Response struct {
	Question Question
	Born     time.Time
	Good     time.Duration  // since Born, for which it is fresh; 0: it is only for those who wait for it now
	Targets  []dnsname.Name // of the CNAMEs that it follows, in their order
	EDE      []byte         // extended DNS errors (RFC 8914), as options of an OPT record
	Open     bool           // upstreams said nothing about the last target

	flags   [2]byte // of the header: TC; AD and the rcode
	counts  [6]byte // of the sections
	records []byte
	ttls    []uint16 // where in records the TTLs are

	used    atomic.Bool   // since it was last in danger of being dropped
	recheck atomic.Int64  // nanoseconds since born: until then no upstream is asked, as they failed
	place   *list.Element // in the cache, whose lock guards it
}

// NewResponse makes a response of all records of m that is fresh for that long.
func NewResponse(q Question, m *dns.Msg, good time.Duration) (*Response, error) {
	m.Compress = true
	m.Question = []dns.Question{{Name: q.Name().String(), Qtype: q.Qtype(), Qclass: dns.ClassINET}}
	b, err := m.Pack()
	if err != nil {
		return nil, err
	}
	start := dnswire.HeaderLen + len(q) + 1
	r := &Response{Question: q, Good: good, records: b[start:], Born: time.Now()}
	r.flags = [2]byte{b[2] & 0x02, b[3] & 0x2f}
	copy(r.counts[:], b[6:])
	for off := start; off < len(b); {
		rr, ok := dnswire.ReadRecord(b, off)
		if !ok {
			return nil, errors.New("the library packed what is no record")
		}
		r.ttls = append(r.ttls, uint16(rr.TTLAt-start))
		off = rr.End
	}
	return r, nil
}

// PlainResponse makes a response of a reply to q whose answer is addresses of the name itself, as most are, without the
// library, which takes microseconds for one. It leaves out all records but these. It returns nil for any other reply.
func PlainResponse(q Question, b []byte) *Response {
	size := addressSize(q.Qtype())
	if size == 0 || b[2]&0x02 != 0 || b[3]&0xf != dns.RcodeSuccess {
		return nil
	}
	start, count := dnswire.HeaderLen+len(q)+1, int(binary.BigEndian.Uint16(b[6:]))
	if count == 0 || start > len(b) {
		return nil
	}
	r := &Response{
		Question: q, Good: MaxCached, flags: [2]byte{0, b[3] & 0x20}, Born: time.Now(),
		ttls: make([]uint16, 0, min(count, len(b)/size)),
	}
	copy(r.counts[:], b[6:8])
	off := start
	for i := range dnswire.Count(b) {
		rr, ok := dnswire.ReadRecord(b, off)
		if !ok {
			return nil
		}
		off = rr.End
		if i >= count {
			if rr.Type == dns.TypeOPT && (rr.TTL>>24 != 0 || rr.Data < rr.End) { // it has more of the rcode, or options
				return nil
			}
			continue
		}
		isOwner := binary.BigEndian.Uint16(b[rr.Owner:]) == 0xc000|dnswire.HeaderLen
		isAddress := rr.Type == q.Qtype() && rr.Class == dns.ClassINET && rr.End-rr.Data == size
		if !isOwner || !isAddress || rr.TTL > dnswire.MaxTTL {
			return nil
		}
		r.Good = min(r.Good, time.Duration(rr.TTL)*time.Second)
		r.ttls = append(r.ttls, uint16(rr.TTLAt-start))
		if i == count-1 {
			r.records = append([]byte(nil), b[start:off]...)
		}
	}
	if off != len(b) {
		return nil
	}
	return r
}

// addressSize returns how many bytes an address of a type has; 0 if the type is none of addresses.
func addressSize(qtype uint16) int {
	switch qtype {
	case dns.TypeA:
		return 4
	case dns.TypeAAAA:
		return 16
	}
	return 0
}

// Failed returns the response to q if no upstream has one.
func Failed(q Question) *Response {
	return &Response{Question: q, Good: FailureTTL, flags: [2]byte{0, dns.RcodeServerFailure}, Born: time.Now()}
}

// Rcode returns the response code.
func (r *Response) Rcode() int { return int(r.flags[1] & 0xf) }

// Age returns how old r is at a time, which time.Now returned. The monotonic clock stops while a laptop sleeps, and the
// wall clock may be set back, so that the clock counts that went further.
func (r *Response) Age(now time.Time) time.Duration {
	return max(now.Sub(r.Born), time.Duration(now.UnixNano()-r.Born.UnixNano()), 0)
}

// A Freshness says whether a response may be given.
type Freshness int

const (
	Dead  Freshness = iota // it must not be given
	Stale                  // it may be given if no upstream answers
	Tired                  // it is stale, and upstreams did not answer just now
	Fresh
)

// At returns how fresh r is at an age. Failures never become stale.
func (r *Response) At(age time.Duration) Freshness {
	switch {
	case age < r.Good:
		return Fresh
	case age >= r.Good+MaxCached || r.Rcode() == dns.RcodeServerFailure:
		return Dead
	case age < time.Duration(r.recheck.Load()):
		return Tired
	}
	return Stale
}

// Tire makes r, which is stale, be given for FailureTTL without asking an upstream: they all failed.
func (r *Response) Tire() { r.recheck.Store(int64(r.Age(time.Now()) + FailureTTL)) }

// OwnTTL is for AppendTo: the records keep their own TTLs.
const OwnTTL = -1

// AppendTo appends r at an age to a reply that begins at start and ends with its question. If force is not OwnTTL, it
// is the TTL of all records. The AD bit is set only if ad says that the client wants it.
func (r *Response) AppendTo(reply []byte, start int, ad bool, age time.Duration, force int64) []byte {
	h := reply[start:]
	h[2] = h[2]&^0x04 | r.flags[0] // no AA
	h[3] |= r.flags[1]
	if !ad {
		h[3] &^= 0x20
	}
	copy(h[6:dnswire.HeaderLen], r.counts[:])
	at := len(reply)
	reply = append(reply, r.records...)
	for _, off := range r.ttls {
		b := reply[at+int(off):]
		ttl := binary.BigEndian.Uint32(b)
		switch {
		case force != OwnTTL:
			ttl = uint32(force)
		case age < r.Good || r.Good == 0:
			ttl -= min(ttl, uint32(age/time.Second))
		default:
			ttl = min(ttl, staleTTL)
		}
		binary.BigEndian.PutUint32(b, ttl)
	}
	return reply
}

// Message returns r at an age as a message.
func (r *Response) Message(age time.Duration) (*dns.Msg, error) {
	b := make([]byte, dnswire.HeaderLen, dnswire.HeaderLen+len(r.Question)+1+len(r.records))
	b[2], b[5] = 0x80, 1
	return dnswire.UnpackReply(r.AppendTo(r.Question.appendTo(b), 0, true, age, OwnTTL))
}

// space returns about how many bytes of memory r takes.
func (r *Response) space() int64 {
	n := responseSpace + len(r.Question) + cap(r.records) + 2*cap(r.ttls) + cap(r.EDE)
	for _, target := range r.Targets {
		n += 16 + len(target)
	}
	return int64(n)
}
