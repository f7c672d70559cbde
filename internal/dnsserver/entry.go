package dnsserver

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/zone"
)

const (
	maxBody    = 256 * 28 // bytes of the records of a kept answer: 256 IPv6 addresses
	maxReplays = 64       // of an answer whose order the Authority chose: then it is decided again, in another order

	entrySize = 64 // bytes of an entry
	moreSize  = 64 // bytes of a more, without its body

	soaSerialFromEnd = 20 // bytes from an SOA's serial to the end of the record, RFC 1035 section 3.3.13
)

// An entry is a kept answer to one question. It and the name of a short answer
// are one line of the processor's cache. Only its state is written again.
type entry struct {
	state   atomic.Uint32 // the version at which the answer was last found true, and isUsed
	stamp   uint32        // of its name, when the answer was decided
	more    *more         // nil: a short answer, of addresses in data
	qtype   uint16
	nameLen uint8
	size    uint8    // bytes of the records in data
	data    [44]byte // the name if it fits, and the records of a short answer
}

// A more is what an entry has whose answer is not short.
type more struct {
	body       []byte       // the name if it does not fit in the entry, and the records
	view       uint64       // of the clients that the answer is for; 0: for all
	replays    atomic.Int32 // how often the answer may still be replayed, if it is limited
	recordSize uint16       // bytes of each record; 0: the records stay in their order
	counts     [6]byte      // of the sections, as in a header
	rcode      byte
	by         zone.By // not 0: the answers to the question are kept by view, and this entry has none
	byStamp    bool    // the answer is true while the stamp of its name is the same
	limited    bool
	hasSOA     bool // the last record is an SOA, in which the serial must be the current one
}

// isUsed is the bit of a state that says that clients asked for the answer since
// the last tidy. The version is above it.
const isUsed = 1

// stateOf returns the state of an answer that was found true at a version, and used.
func stateOf(version uint32) uint32 { return version<<1 | isUsed }

// name returns the name of the question.
func (e *entry) name() []byte {
	if int(e.nameLen) > len(e.data) {
		return e.more.body[:e.nameLen]
	}
	return e.data[:e.nameLen]
}

// records returns the records of the answer.
func (e *entry) records() []byte {
	switch {
	case e.more == nil:
		return e.data[e.nameLen:][:e.size]
	case int(e.nameLen) > len(e.data):
		return e.more.body[e.nameLen:]
	}
	return e.more.body
}

// view returns which clients the answer is for.
func (e *entry) view() uint64 {
	if e.more == nil {
		return 0
	}
	return e.more.view
}

// by returns which properties of the client the answers to the question depend on.
func (e *entry) by() zone.By {
	if e.more == nil {
		return 0
	}
	return e.more.by
}

// answers reports whether e is for a question.
func (e *entry) answers(name []byte, qtype uint16, view uint64) bool {
	return e.qtype == qtype && int(e.nameLen) == len(name) && bytes.Equal(e.name(), name) && e.view() == view
}

// isTrue reports whether the answer, to a question about n, is still the same
// at a version.
func (e *entry) isTrue(n dnsname.Name, version uint32, c Changes) bool {
	state := stateOf(version)
	switch was := e.state.Load(); {
	case was == state:
		return true
	case was|isUsed == state:
	case e.more != nil && !e.more.byStamp, c.Stamp(n) != e.stamp:
		return false
	}
	e.state.Store(state)
	return true
}

// markUsed makes wasUsed true.
func (e *entry) markUsed() {
	if !e.wasUsed() {
		e.state.Or(isUsed)
	}
}

// wasUsed reports whether the answer was asked for since the last tidy.
func (e *entry) wasUsed() bool { return e.state.Load()&isUsed != 0 }

// forgetUse makes wasUsed false, and reports what it was.
func (e *entry) forgetUse() bool { return e.state.And(^uint32(isUsed))&isUsed != 0 }

// isUsedUp counts a replay, and reports whether the answer must be decided again.
func (e *entry) isUsedUp() bool {
	return e.more != nil && e.more.limited && e.more.replays.Add(-1) < 0
}

// rcode returns the response code of the answer.
func (e *entry) rcode() int {
	if e.more == nil {
		return dns.RcodeSuccess
	}
	return int(e.more.rcode)
}

// space returns how many bytes e takes.
func (e *entry) space() int {
	if e.more == nil {
		return entrySize
	}
	return entrySize + moreSize + cap(e.more.body)
}

// entryOf returns an answer as it is kept. It keeps it for others if that is allowed.
func (t *task) entryOf(a *zone.Answer) *entry {
	basis, keep := a.Basis()
	body, counts := a.Records()
	keep = keep && len(body) <= maxBody && !t.logsQueries()
	name := []byte(t.Name)
	e := &entry{stamp: basis.Stamp, qtype: t.Type, nameLen: uint8(len(name))}
	e.state.Store(stateOf(basis.Version))
	size := recordSize(t.Type, body, counts)
	isShort := size > 0 && a.Rcode == dns.RcodeSuccess && len(name)+len(body) <= len(e.data)
	if isShort && keep && basis.By == 0 && basis.ByStamp {
		e.size = uint8(len(body))
		copy(e.data[copy(e.data[:], name):], body)
		t.answers.put(e)
		return e
	}
	e.more = &more{rcode: byte(a.Rcode), byStamp: basis.ByStamp, hasSOA: a.EndsWithSOA}
	if basis.By != 0 {
		e.more.view = t.viewOf(basis.By, clientSource(t.from))
		size = 0 // the addresses on the client's network stay the first
	}
	e.more.recordSize = uint16(size)
	e.more.limited = size == 0 && counts[0] > 1 && t.Type != dns.TypePTR
	e.more.replays.Store(maxReplays)
	for section, count := range counts {
		binary.BigEndian.PutUint16(e.more.counts[2*section:], count)
	}
	e.setBody(name, body)
	if keep && basis.By != 0 {
		t.answers.put(marker(name, e.qtype, basis))
	}
	if keep {
		t.answers.put(e)
	}
	return e
}

// marker returns an entry that says that the answers to a question depend on the client.
func marker(name []byte, qtype uint16, basis zone.Basis) *entry {
	e := &entry{qtype: qtype, nameLen: uint8(len(name)), more: &more{by: basis.By}}
	e.state.Store(isUsed)
	e.setBody(name, nil)
	return e
}

// setBody sets the name, and the records of an answer that is not short.
func (e *entry) setBody(name, records []byte) {
	if len(name) <= len(e.data) {
		copy(e.data[:], name)
		name = nil
	}
	e.more.body = append(append(make([]byte, 0, len(name)+len(records)), name...), records...)
}

// recordSize returns the bytes of each record if an answer is only addresses
// of the name itself; else 0.
func recordSize(qtype uint16, body []byte, counts [3]uint16) int {
	size := addressRecord(qtype)
	if size == 0 || len(body) == 0 || int(counts[0])*size != len(body) {
		return 0
	}
	for at := 0; at < len(body); at += size {
		owner, rrtype := binary.BigEndian.Uint16(body[at:]), binary.BigEndian.Uint16(body[at+2:])
		if owner != 0xc000|dnswire.HeaderLen || rrtype != qtype {
			return 0
		}
	}
	return size
}

// addressRecord returns the bytes of an address record whose owner is a
// pointer; 0 if qtype is no type of addresses.
func addressRecord(qtype uint16) int {
	const fixed = 12 // bytes before the address
	switch qtype {
	case dns.TypeA:
		return fixed + 4
	case dns.TypeAAAA:
		return fixed + 16
	}
	return 0
}

// A clientSource is a client as the source of a query.
type clientSource zone.Client

func (c clientSource) client() netip.Addr { return c.Addr }

func (c clientSource) local() netip.Addr { return c.Local }

func (clientSource) now() time.Time { return time.Now() }
