package dnscache

import (
	"bytes"
	fifo "container/list"
	"encoding/binary"
	"errors"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnswire"
)

const (
	MaxCached      = 24 * time.Hour  // that a response is believed, and then kept for bad times (RFC 8767 section 5)
	MaxNegativeTTL = time.Hour       // that an upstream's NXDOMAIN or NODATA is believed (RFC 2308 section 5)
	FailureTTL     = 5 * time.Second // that a failure is remembered: RFC 9520 section 3.2 has 1 s to 5 minutes
	staleTTL       = 30              // seconds: the TTL of what is answered after its time (RFC 8767 section 4)
	fixedRR        = 12              // octets of a record whose owner is a pointer, before its data
	responseSpace  = 400             // octets of a response beside its question and records, the tables' share included
)

// A Response is what upstreams say to a question, in wire format: all that
// follows the question in a message, without an OPT. Names in it are compressed
// by the question. It is never written again, but for used and recheck.
type Response struct {
	Question Question
	Flags    [2]byte // of the header: TC; AD and the rcode
	Counts   [6]byte // of the sections
	Rrs      []byte
	Ttls     []uint16 // where in rrs those of the records are
	Born     time.Time
	Good     time.Duration // since then; 0: it is for those only who wait for it

	used    atomic.Bool   // since it was last in danger of being dropped
	Recheck atomic.Int64  // nanoseconds since born: no upstream is asked before, as they failed
	place   *fifo.Element // in the cache, whose lock guards it
}

// NewResponse makes a response of all records of m that is good for that long.
func NewResponse(q Question, m *dns.Msg, good time.Duration) (*Response, error) {
	m.Compress = true
	m.Question = []dns.Question{{Name: q.Name().String(), Qtype: q.Qtype(), Qclass: dns.ClassINET}}
	b, err := m.Pack()
	if err != nil {
		return nil, err
	}
	start := dnswire.HeaderLen + len(q.Name()) + 4
	r := &Response{Question: q, Rrs: b[start:], Born: time.Now(), Good: good}
	r.Flags = [2]byte{b[2] & 0x02, b[3] & 0x2f}
	copy(r.Counts[:], b[6:])
	for off := start; off < len(b); {
		rr, ok := dnswire.ReadRecord(b, off)
		if !ok {
			return nil, errors.New("the library packed what is no record")
		}
		r.Ttls = append(r.Ttls, uint16(rr.TTLAt-start))
		off = rr.End
	}
	return r, nil
}

// PlainResponse makes a response of a reply to q whose answer is addresses of the
// name itself, as most are, without the library, which takes microseconds for
// one; nil if it is another. All but these addresses is left out.
func PlainResponse(q Question, b []byte) *Response {
	size := addressSize(q.Qtype())
	if size == 0 || b[2]&0x02 != 0 || b[3]&0xf != dns.RcodeSuccess {
		return nil
	}
	start, count := dnswire.HeaderLen+len(q.Name())+4, int(binary.BigEndian.Uint16(b[6:]))
	end := start + count*(fixedRR+size)
	if count == 0 || end > len(b) {
		return nil
	}
	r := &Response{Question: q, Flags: [2]byte{0, b[3] & 0x20}, Born: time.Now(), Good: MaxCached, Ttls: make([]uint16, 0, count)}
	copy(r.Counts[:], b[6:8])
	for off := start; off < end; off += fixedRR + size {
		rr := b[off:]
		if binary.BigEndian.Uint16(rr) != 0xc000|dnswire.HeaderLen || binary.BigEndian.Uint16(rr[2:]) != q.Qtype() ||
			binary.BigEndian.Uint16(rr[4:]) != dns.ClassINET || int(binary.BigEndian.Uint16(rr[10:])) != size {
			return nil
		}
		ttl := binary.BigEndian.Uint32(rr[6:])
		if ttl > dnswire.MaxTTL { // RFC 2181 section 8
			return nil
		}
		r.Good = min(r.Good, time.Duration(ttl)*time.Second)
		r.Ttls = append(r.Ttls, uint16(off-start+6))
	}
	off := end
	for range dnswire.Count(b) - count {
		rr, ok := dnswire.ReadRecord(b, off)
		if !ok || rr.Type == dns.TypeOPT && rr.TTL>>24 != 0 { // that is the rcode too
			return nil
		}
		off = rr.End
	}
	if off != len(b) {
		return nil
	}
	r.Rrs = bytes.Clone(b[start:end])
	return r
}

// addressSize is how many octets an address of a type has; 0 if it is of none.
func addressSize(qtype uint16) int {
	switch qtype {
	case dns.TypeA:
		return 4
	case dns.TypeAAAA:
		return 16
	}
	return 0
}

// Failed is the response to q where no upstream has one.
func Failed(q Question) *Response {
	return &Response{Question: q, Flags: [2]byte{0, dns.RcodeServerFailure}, Born: time.Now(), Good: FailureTTL}
}

func (r *Response) Rcode() int { return int(r.Flags[1] & 0xf) }

// A freshness says whether a response may be given.
type freshness int

const (
	Dead  freshness = iota // it may not
	Stale                  // where no upstream answers
	Tired                  // as stale, and upstreams did not answer just now
	fresh
)

// At tells how fresh r is at that age. Failures never become stale.
func (r *Response) At(age time.Duration) freshness {
	switch {
	case age < r.Good:
		return fresh
	case age >= r.Good+MaxCached || r.Rcode() == dns.RcodeServerFailure:
		return Dead
	case age < time.Duration(r.Recheck.Load()):
		return Tired
	}
	return Stale
}

// OwnTTL is for write: records have their own TTL.
const OwnTTL = -1

// AppendTo appends r, of that age, to a reply that begins at start and ends with
// its question. Its records have the TTL force unless that is ownTTL; ad says
// that the client wants to know whether it was validated.
func (r *Response) AppendTo(reply []byte, start int, ad bool, age time.Duration, force int64) []byte {
	h := reply[start:]
	h[2] = h[2]&^0x04 | r.Flags[0] // no AA
	h[3] |= r.Flags[1]
	if !ad {
		h[3] &^= 0x20
	}
	copy(h[6:dnswire.HeaderLen], r.Counts[:])
	at := len(reply)
	reply = append(reply, r.Rrs...)
	for _, off := range r.Ttls {
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

// Size is how many octets appendTo appends.
func (r *Response) Size() int { return len(r.Rrs) }

// Message returns r, of that age, as a message.
func (r *Response) Message(age time.Duration) (*dns.Msg, error) {
	b := make([]byte, dnswire.HeaderLen, dnswire.HeaderLen+len(r.Question)+4+len(r.Rrs))
	b[5] = 1
	b = append(b, r.Question[:len(r.Question)-1]...)
	b = append(b, 0, byte(dns.ClassINET))
	m := new(dns.Msg)
	return m, m.Unpack(r.AppendTo(b, 0, true, age, OwnTTL))
}

// Space is about how many octets r takes.
func (r *Response) Space() int64 {
	return int64(responseSpace + len(r.Question) + cap(r.Rrs) + 2*cap(r.Ttls))
}
