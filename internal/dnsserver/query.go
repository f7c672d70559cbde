package dnsserver

import (
	"encoding/binary"
	"unsafe"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/zone"
)

// A query is what is read of a packet: its question, and what the reply needs.
type query struct {
	zone.Query
	end     int    // of the question in the packet
	size    int    // bytes of a reply that the client takes
	opt     bool   // the query has an OPT
	version byte   // of EDNS
	do      byte   // 0x80 with the DO bit
	ad      bool   // the client wants to know whether the answer was validated
	plain   bool   // a kept answer may fit: class IN, no wildcard, EDNS version 0
	packet  []byte // the query itself; the reply begins with its header and question
}

// A reader reads queries, one at a time.
type reader struct {
	name [dnsname.MaxLen + 3]byte // the name in lower case, and the rest of a dnscache.Question
}

// read reads a query that is well-formed and as usual: a header without
// special flags, one question, and perhaps an OPT. Its name is in the reader's
// memory. The reply has at most limit bytes.
func (r *reader) read(b []byte, limit int) (q query, ok bool) {
	const counts = 1 << 48 // of all sections, as one number: one question and nothing else
	if len(b) < dnswire.HeaderLen || b[2]&0xf8 != 0 || binary.BigEndian.Uint64(b[4:])&^1 != counts {
		return q, false
	}
	end, wildcard := r.readName(b)
	q.end = end + 4
	if end < 0 || q.end > len(b) {
		return q, false
	}
	q.Name = dnsname.Name(unsafe.String(&r.name[0], end-dnswire.HeaderLen)) // no copy: keep clones it
	q.Type, q.Class = binary.BigEndian.Uint16(b[end:]), binary.BigEndian.Uint16(b[end+2:])
	q.ID, q.Flags = binary.BigEndian.Uint16(b), b[2]&dnscache.RD|b[3]&dnscache.CD
	q.packet, q.size = b, min(limit, dns.MinMsgSize)
	if limit > dnswire.MaxUDPSize { // over TCP
		q.size = limit
	}
	if b[11] == 0 {
		q.ad, q.plain = b[3]&0x20 != 0, q.Class == dns.ClassINET && !wildcard
		return q, q.end == len(b)
	}
	opt := b[q.end:]
	if len(opt) < dnswire.OPTLen || opt[0] != 0 || binary.BigEndian.Uint16(opt[1:]) != dns.TypeOPT ||
		len(opt) != dnswire.OPTLen+int(binary.BigEndian.Uint16(opt[9:])) || !dnswire.AreOptions(opt[dnswire.OPTLen:]) {
		return q, false
	}
	q.opt, q.version, q.do = true, opt[6], opt[7]&0x80
	q.Flags |= q.do
	q.ad, q.plain = b[3]&0x20 != 0 || q.do != 0, q.Class == dns.ClassINET && !wildcard && q.version == 0
	q.size = min(max(q.size, int(binary.BigEndian.Uint16(opt[3:]))), limit)
	return q, true
}

// readName copies the name of the question in b to r.name, in lower case. It
// returns where the name ends in b, -1 if it is not well-formed.
func (r *reader) readName(b []byte) (end int, wildcard bool) {
	end = dnswire.HeaderLen
	for {
		if end >= len(b) {
			return -1, false
		}
		n := int(b[end])
		if n > dnsname.MaxLabelLen || end+1+n > len(b) || end-dnswire.HeaderLen+1+n > dnsname.MaxLen {
			return -1, false
		}
		wildcard = wildcard || n == 1 && b[end+1] == '*'
		for i := end; i <= end+n; i++ { // a length is below 64, so never a letter
			c := b[i]
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			r.name[i-dnswire.HeaderLen] = c
		}
		if end += 1 + n; n == 0 {
			return end, wildcard
		}
	}
}

// upstream returns q as upstreams are asked it, in the memory of the reader
// that read it.
func (r *reader) upstream(q *query) dnscache.Question {
	copy(r.name[len(q.Name):], []byte{byte(q.Type >> 8), byte(q.Type), q.Flags})
	return dnscache.Question(unsafe.String(&r.name[0], len(q.Name)+3)) // no copy: nothing keeps it
}
