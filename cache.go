package main

import (
	"bytes"
	fifo "container/list"
	"encoding/binary"
	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/table"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

const (
	maxCached     = 24 * time.Hour  // that a response is believed, and then kept for bad times (RFC 8767 section 5)
	maxNegTTL     = time.Hour       // that an upstream's NXDOMAIN or NODATA is believed (RFC 2308 section 5)
	failureTTL    = 5 * time.Second // that a failure is remembered: RFC 9520 section 3.2 has 1 s to 5 minutes
	staleTTL      = 30              // seconds: the TTL of what is answered after its time (RFC 8767 section 4)
	fixedRR       = 12              // octets of a record whose owner is a pointer, before its data
	responseSpace = 400             // octets of a response beside its question and records, the tables' share included
)

// A question is all of a query that makes a difference to upstreams: a name in
// wire format, the type in two octets, and the flags in one.
type question string

// The flags of a question, as they are in messages.
const (
	questionRD = 0x01 // recursion is desired
	questionCD = 0x10 // checking is disabled
	questionDO = 0x80 // DNSSEC is understood
)

func newQuestion(n dnsname.Name, qtype uint16, flags byte) question {
	return question(n) + question([]byte{byte(qtype >> 8), byte(qtype), flags})
}

func (q question) name() dnsname.Name { return dnsname.Name(q[:len(q)-3]) }
func (q question) qtype() uint16      { return uint16(q[len(q)-3])<<8 | uint16(q[len(q)-2]) }
func (q question) flags() byte        { return q[len(q)-1] }

// A response is what upstreams say to a question, in wire format: all that
// follows the question in a message, without an OPT. Names in it are compressed
// by the question. It is never written again, but for used and recheck.
type response struct {
	question question
	flags    [2]byte // of the header: TC; AD and the rcode
	counts   [6]byte // of the sections
	rrs      []byte
	ttls     []uint16 // where in rrs those of the records are
	born     time.Time
	good     time.Duration // since then; 0: it is for those only who wait for it

	used    atomic.Bool   // since it was last in danger of being dropped
	recheck atomic.Int64  // nanoseconds since born: no upstream is asked before, as they failed
	place   *fifo.Element // in the cache, whose lock guards it
}

// newResponse makes a response of all records of m that is good for that long.
func newResponse(q question, m *dns.Msg, good time.Duration) (*response, error) {
	m.Compress = true
	m.Question = []dns.Question{{Name: q.name().String(), Qtype: q.qtype(), Qclass: dns.ClassINET}}
	b, err := m.Pack()
	if err != nil {
		return nil, err
	}
	start := dnswire.HeaderLen + len(q.name()) + 4
	r := &response{question: q, rrs: b[start:], born: time.Now(), good: good}
	r.flags = [2]byte{b[2] & 0x02, b[3] & 0x2f}
	copy(r.counts[:], b[6:])
	for off := start; off < len(b); {
		_, end, err := dns.UnpackDomainName(b, off)
		if err != nil {
			return nil, err
		}
		r.ttls = append(r.ttls, uint16(end+4-start))
		off = end + 10 + int(binary.BigEndian.Uint16(b[end+8:]))
	}
	return r, nil
}

// plainResponse makes a response of a reply to q whose answer is addresses of the
// name itself, as most are, without the library, which takes microseconds for
// one; nil if it is another. All but these addresses is left out.
func plainResponse(q question, b []byte) *response {
	size := addressSize(q.qtype())
	if size == 0 || b[2]&0x02 != 0 || b[3]&0xf != dns.RcodeSuccess {
		return nil
	}
	start, count := dnswire.HeaderLen+len(q.name())+4, int(binary.BigEndian.Uint16(b[6:]))
	end := start + count*(fixedRR+size)
	if count == 0 || end > len(b) {
		return nil
	}
	r := &response{question: q, flags: [2]byte{0, b[3] & 0x20}, born: time.Now(), good: maxCached, ttls: make([]uint16, 0, count)}
	copy(r.counts[:], b[6:8])
	for off := start; off < end; off += fixedRR + size {
		rr := b[off:]
		if binary.BigEndian.Uint16(rr) != 0xc000|dnswire.HeaderLen || binary.BigEndian.Uint16(rr[2:]) != q.qtype() ||
			binary.BigEndian.Uint16(rr[4:]) != dns.ClassINET || int(binary.BigEndian.Uint16(rr[10:])) != size {
			return nil
		}
		ttl := binary.BigEndian.Uint32(rr[6:])
		if ttl > publish.MaxTTL { // RFC 2181 section 8
			return nil
		}
		r.good = min(r.good, time.Duration(ttl)*time.Second)
		r.ttls = append(r.ttls, uint16(off-start+6))
	}
	off := end
	for range int(binary.BigEndian.Uint16(b[8:])) + int(binary.BigEndian.Uint16(b[10:])) {
		at := off
		if off = dnswire.SkipRecord(b, at); off < 0 || binary.BigEndian.Uint16(b[at+1:]) == dns.TypeOPT && b[at+5] != 0 { // that is the rcode too
			return nil
		}
	}
	if off != len(b) {
		return nil
	}
	r.rrs = bytes.Clone(b[start:end])
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

// failed is the response to q where no upstream has one.
func failed(q question) *response {
	return &response{question: q, flags: [2]byte{0, dns.RcodeServerFailure}, born: time.Now(), good: failureTTL}
}

func (r *response) rcode() int { return int(r.flags[1] & 0xf) }

// A freshness says whether a response may be given.
type freshness int

const (
	dead  freshness = iota // it may not
	stale                  // where no upstream answers
	tired                  // as stale, and upstreams did not answer just now
	fresh
)

// at tells how fresh r is at that age. Failures never become stale.
func (r *response) at(age time.Duration) freshness {
	switch {
	case age < r.good:
		return fresh
	case age >= r.good+maxCached || r.rcode() == dns.RcodeServerFailure:
		return dead
	case age < time.Duration(r.recheck.Load()):
		return tired
	}
	return stale
}

// ownTTL is for write: records have their own TTL.
const ownTTL = -1

// write writes r, of that age, to w, behind the question. Its records have the
// TTL force unless that is ownTTL. It is not ok where there is no room.
func (r *response) write(w *writer, age time.Duration, force int64) (ok bool) {
	if len(r.rrs) > w.room() {
		return false
	}
	h := w.header()
	h[2] = h[2]&^0x04 | r.flags[0] // no AA
	h[3] |= r.flags[1]
	if !w.ad {
		h[3] &^= 0x20
	}
	copy(h[6:], r.counts[:])
	at := len(w.reply)
	w.reply = append(w.reply, r.rrs...)
	for _, off := range r.ttls {
		b := w.reply[at+int(off):]
		ttl := binary.BigEndian.Uint32(b)
		switch {
		case force != ownTTL:
			ttl = uint32(force)
		case age < r.good || r.good == 0:
			ttl -= min(ttl, uint32(age/time.Second))
		default:
			ttl = min(ttl, staleTTL)
		}
		binary.BigEndian.PutUint32(b, ttl)
	}
	return true
}

// message returns r, of that age, as a message.
func (r *response) message(age time.Duration) (*dns.Msg, error) {
	w := writer{plainQuery: plainQuery{size: dns.MaxMsgSize, ad: true}, reply: make([]byte, dnswire.HeaderLen, dnswire.HeaderLen+len(r.question)+4+len(r.rrs))}
	w.header()[5] = 1
	w.reply = append(w.reply, r.question[:len(r.question)-1]...)
	w.reply = append(w.reply, 0, byte(dns.ClassINET))
	m := new(dns.Msg)
	if !r.write(&w, age, ownTTL) {
		return nil, errJunk
	}
	return m, m.Unpack(w.reply)
}

// A cache holds responses, in no more than that many octets. The one that came
// first goes first, unless it was used meanwhile: then it gets a second chance,
// so that a flood of names that nobody asks for twice drives out few others.
type cache struct {
	most      int64
	responses table.Table[question, *response]
	clears    atomic.Uint32 // how often clear was called

	mu    sync.Mutex // guards what follows, and every store to responses
	size  int64
	queue *fifo.List // of *response; the first to go is the last
}

func newCache(most int64) *cache { return &cache{most: most, queue: fifo.New()} }

// get returns the response to q, whatever its age; nil if there is none.
func (c *cache) get(q question) *response {
	r, ok := c.responses.Load(q)
	if ok && !r.used.Load() {
		r.used.Store(true)
	}
	return r
}

// space is about how many octets r takes.
func (r *response) space() int64 {
	return int64(responseSpace + len(r.question) + cap(r.rrs) + 2*cap(r.ttls))
}

// put keeps r, unless it is so large that little else could be kept.
func (c *cache) put(r *response) {
	if r.space() > c.most/8 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if old, ok := c.responses.Load(r.question); ok {
		r.used.Store(old.used.Load())
		c.queue.Remove(old.place)
		c.size -= old.space()
	}
	r.place = c.queue.PushFront(r)
	c.responses.Store(r.question, r)
	c.size += r.space()
	for c.size > c.most {
		place := c.queue.Back()
		last := place.Value.(*response)
		if last.used.Swap(false) {
			c.queue.MoveToFront(place)
			continue
		}
		c.dropLocked(last)
	}
}

// dropDead drops what may not be given any more.
func (c *cache) dropDead() {
	c.mu.Lock()
	defer c.mu.Unlock()
	var next *fifo.Element
	for place := c.queue.Front(); place != nil; place = next {
		next = place.Next()
		if r := place.Value.(*response); r.at(time.Since(r.born)) == dead {
			c.dropLocked(r)
		}
	}
}

// dropLocked drops r, which is kept.
func (c *cache) dropLocked(r *response) {
	c.queue.Remove(r.place)
	c.responses.Delete(r.question)
	c.size -= r.space()
}

// clear drops all responses.
func (c *cache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clears.Add(1)
	c.responses.Map.Clear()
	c.queue.Init()
	c.size = 0
}
