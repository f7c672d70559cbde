package zone

import (
	"encoding/binary"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnswire"
)

// The sections of a message that hold records.
const (
	answerSection = iota
	authoritySection
	additionalSection
	sections
)

const (
	questionTail = 4      // bytes of a question behind its name
	pointer      = 0xc000 // the bits of a compression pointer, RFC 1035 section 4.1.4
	maxPointer   = 0x3fff // the last byte that one can point to
	usualSize    = 128    // bytes that the records of most answers take
	maxNames     = 32     // names whose endings are looked for: more cost more time than they save bytes
)

// A packer writes the records of a message behind its question. Sections must
// be written in their order.
type packer struct {
	records []byte
	counts  [sections]uint16

	base  int                     // where records begins in the message
	names []packedName            // those in the message, the question's first
	exact map[dnsname.Name]uint16 // where others are; nil while names has room
	plain bool                    // the records are no message: names are whole, and there is no additional section
}

// A packedName is a name that is in the message.
type packedName struct {
	name dnsname.Name
	at   int
}

// reset drops all records. The question is about n.
func (p *packer) reset(n dnsname.Name) {
	*p = packer{
		records: p.records[:0],
		base:    dnswire.HeaderLen + len(n) + questionTail,
		names:   append(p.names[:0], packedName{n, dnswire.HeaderLen}),
	}
}

// begin begins a record. The caller appends its data, and calls end.
func (p *packer) begin(section int, owner dnsname.Name, rrtype uint16, ttl uint32) (data int) {
	p.counts[section]++
	p.name(owner)
	p.records = binary.BigEndian.AppendUint16(p.records, rrtype)
	p.records = binary.BigEndian.AppendUint16(p.records, dns.ClassINET)
	p.records = binary.BigEndian.AppendUint32(p.records, ttl)
	p.records = append(p.records, 0, 0)
	return len(p.records)
}

// end sets the length of the data that begins at data.
func (p *packer) end(data int) {
	binary.BigEndian.PutUint16(p.records[data-2:], uint16(len(p.records)-data))
}

// uint16s and uint32s append numbers to the data.
func (p *packer) uint16s(list ...uint16) {
	for _, v := range list {
		p.records = binary.BigEndian.AppendUint16(p.records, v)
	}
}

func (p *packer) uint32s(list ...uint32) {
	for _, v := range list {
		p.records = binary.BigEndian.AppendUint32(p.records, v)
	}
}

// text appends s in strings of at most 255 bytes, RFC 1035 section 3.3.14.
func (p *packer) text(s string) {
	for {
		part := s[:min(len(s), 255)]
		p.records = append(append(p.records, byte(len(part))), part...)
		if s = s[len(part):]; s == "" {
			return
		}
	}
}

// name appends n, with a pointer to the longest ending of it that is in the
// message.
func (p *packer) name(n dnsname.Name) {
	for rest := n; rest != dnsname.Root && !p.plain; rest = rest.Parent() {
		if at, ok := p.find(rest); ok {
			p.note(n, len(n)-len(rest))
			p.records = append(p.records, n[:len(n)-len(rest)]...)
			p.uint16s(pointer | at)
			return
		}
	}
	p.whole(n)
}

// whole appends n without a pointer, as data of newer types must be (RFC 3597
// section 4).
func (p *packer) whole(n dnsname.Name) {
	p.note(n, len(n)-1)
	p.records = append(p.records, n...)
}

// find returns where n is in the message, if it is.
func (p *packer) find(n dnsname.Name) (at uint16, ok bool) {
	for _, known := range p.names {
		if known.name.Under(n) {
			return uint16(known.at + len(known.name) - len(n)), true
		}
	}
	at, ok = p.exact[n]
	return at, ok
}

// note notes that the next bytes are n, of which that many are no pointer.
func (p *packer) note(n dnsname.Name, written int) {
	at := p.base + len(p.records)
	switch {
	case written == 0, p.plain, at > maxPointer-len(n):
	case len(p.names) < maxNames:
		p.names = append(p.names, packedName{n, at})
	default:
		if p.exact == nil {
			p.exact = make(map[dnsname.Name]uint16)
		}
		if _, ok := p.exact[n]; !ok {
			p.exact[n] = uint16(at)
		}
	}
}
