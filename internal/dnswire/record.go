package dnswire

import (
	"encoding/binary"

	"github.com/rayje/dnsdock/internal/dnsname"
)

// A Record is a resource record of a message (RFC 1035 section 3.2.1), given by where its parts are, so that walking
// over records copies nothing and unpacks no names.
type Record struct {
	Owner       int // where the owner name begins
	Type, Class uint16
	TTL         uint32
	TTLAt       int // where the four bytes of the TTL are
	Data, End   int // the data is b[Data:End]
}

// ReadRecord reads the record of message b at off. It reports false if the record is not well-formed or does not end
// in b. What a compressed name points to is not checked: most records are only passed over, and a packet full of
// pointers to pointers must cost no more than another one.
func ReadRecord(b []byte, off int) (r Record, ok bool) {
	const fixed = 2 + 2 + 4 + 2 // type, class, TTL, length of the data
	at, _, ok := skipName(b, off)
	if !ok || at+fixed > len(b) {
		return r, false
	}
	r = Record{
		Owner: off,
		Type:  binary.BigEndian.Uint16(b[at:]),
		Class: binary.BigEndian.Uint16(b[at+2:]),
		TTL:   binary.BigEndian.Uint32(b[at+4:]),
		TTLAt: at + 4,
		Data:  at + fixed,
	}
	r.End = r.Data + int(binary.BigEndian.Uint16(b[at+8:]))
	return r, r.End <= len(b)
}

// Count returns how many records the header of b says there are, in all three sections.
func Count(b []byte) int {
	count := func(at int) int { return int(binary.BigEndian.Uint16(b[at:])) }
	return count(6) + count(8) + count(10)
}

// skipName returns where the name at off ends, and whether a compression pointer ends it.
func skipName(b []byte, off int) (end int, compressed, ok bool) {
	for start := off; off < len(b) && off-start < dnsname.MaxLen; off += 1 + int(b[off]) {
		switch n := b[off]; {
		case n == 0:
			return off + 1, false, true
		case n >= 0xc0:
			return off + 2, true, off+2 <= len(b)
		case n > dnsname.MaxLabelLen:
			return off, false, false
		}
	}
	return off, false, false
}

// SkipQuestions returns where the questions of a message end, which has HeaderLen bytes or more. It reports false if
// one is not well-formed.
func SkipQuestions(b []byte) (end int, ok bool) {
	end, ok = HeaderLen, true
	for range binary.BigEndian.Uint16(b[4:]) {
		if end, ok = skipQuestion(b, end); !ok {
			return HeaderLen, false
		}
	}
	return end, true
}

// skipQuestion returns where the question at off ends. It reports false if the question is not well-formed, or its name
// is compressed: nothing comes before the first name of a message.
func skipQuestion(b []byte, off int) (end int, ok bool) {
	const typeAndClass = 4
	end, compressed, ok := skipName(b, off)
	end += typeAndClass
	return end, ok && !compressed && end <= len(b)
}
