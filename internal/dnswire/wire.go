package dnswire

import (
	"encoding/binary"
	"io"

	"github.com/rayje/dnsdock/internal/dnsname"
)

const (
	MaxUDPSize = 1232 // octets of a UDP reply: what passes everywhere unfragmented (DNS Flag Day 2020)
	MaxQuery   = 4096 // octets of a UDP query that are read; no honest one is near it
)

// SkipRecord returns where the record at off ends, -1 if that is not in b.
func SkipRecord(b []byte, off int) int {
	for off < len(b) && 0 < b[off] && b[off] <= dnsname.MaxLabelLen {
		off += 1 + int(b[off])
	}
	if off < len(b) && b[off] > dnsname.MaxLabelLen { // a pointer
		off++
	}
	const fixed = 1 + 10 // the end of the name, and all before the data
	if off+fixed > len(b) {
		return -1
	}
	if off += fixed + int(binary.BigEndian.Uint16(b[off+fixed-2:])); off > len(b) {
		return -1
	}
	return off
}

// ReadMessage reads a message of a stream, RFC 1035 section 4.2.2.
func ReadMessage(in io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(in, size[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(size[:]))
	b, err := io.ReadAll(io.LimitReader(in, int64(n))) // takes memory for what came, not for what is claimed
	if err == nil && len(b) < n {
		err = io.ErrUnexpectedEOF
	}
	return b, err
}

// IsReply reports whether b is a reply to the query q: it has its question.
func IsReply(b, q []byte) bool {
	const responseAndOpcode = 0xf8
	q = Question(q)
	if b[2]&responseAndOpcode != 0x80 || b[4] != 0 || b[5] != 1 || len(b) < HeaderLen+len(q) {
		return false
	}
	for i, c := range b[HeaderLen:][:len(q)] {
		if i < len(q)-4 && 'A' <= c && c <= 'Z' { // of the name; q's is in lower case
			c += 'a' - 'A'
		}
		if c != q[i] {
			return false
		}
	}
	return true
}

// Question returns the question of a query that message made.
func Question(q []byte) []byte {
	end := HeaderLen
	for ; q[end] != 0; end += 1 + int(q[end]) {
	}
	return q[HeaderLen : end+1+4]
}
