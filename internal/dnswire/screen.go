// Package dnswire reads and checks DNS messages as octets, without the library:
// what clients may send, what a reply must repeat, and how streams frame them.
// It knows nothing of names, services or sockets.
package dnswire

import (
	"encoding/binary"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnsname"
)

const (
	HeaderLen = 12
	OPTLen    = 11 // octets of an OPT record without options

	flagQR, flagRD, flagAD, flagCD = 1 << 15, 1 << 8, 1 << 5, 1 << 4
	opcodeMask                     = 0xf << 11
)

// Screen reads a message from a client, strictly, and returns of a query what
// counts: its header with the flags that a client may set, the question, and
// a bare OPT record if it has one. All else in it is ignored, but has to
// be well-formed. The result is in place of b. For what can't be answered
// it returns the reply instead, and neither for what must not be: less than a
// header, and replies, as two servers would go on for ever.
//
// RFC 1035 section 4.1, RFC 6891 section 6.
func Screen(b []byte) (query, reply []byte) {
	if len(b) < HeaderLen {
		return nil, nil
	}
	flags, questions := binary.BigEndian.Uint16(b[2:]), binary.BigEndian.Uint16(b[4:])
	if flags&flagQR != 0 {
		return nil, nil
	}
	end, ok := HeaderLen, true
	for range questions {
		if end, ok = plainQuestion(b, end); !ok {
			break
		}
	}
	var opt []byte
	if ok {
		opt, ok = walk(b, end)
	}
	switch {
	case flags&opcodeMask != dns.OpcodeQuery<<11:
		return nil, Reject(b, HeaderLen, opt, dns.RcodeNotImplemented)
	case questions != 1:
		return nil, Reject(b, HeaderLen, opt, dns.RcodeFormatError)
	case !ok:
		return nil, Reject(b, end, opt, dns.RcodeFormatError)
	}
	binary.BigEndian.PutUint16(b[2:], flags&(flagRD|flagAD|flagCD))
	return finish(b, end, opt), nil
}

// Reject makes b, whose question ends at end, a reply without records.
func Reject(b []byte, end int, opt []byte, rcode uint16) []byte {
	flags := binary.BigEndian.Uint16(b[2:])
	binary.BigEndian.PutUint16(b[2:], flagQR|flags&(opcodeMask|flagRD)|rcode)
	if opt != nil {
		binary.BigEndian.PutUint16(opt[3:], MaxUDPSize)
		opt[5], opt[6], opt[7], opt[8] = 0, 0, opt[7]&0x80, 0 // version 0, and DO as it was
	}
	return finish(b, end, opt)
}

// finish makes b, whose question ends at end, a message of that and opt.
func finish(b []byte, end int, opt []byte) []byte {
	clear(b[4:HeaderLen])
	if end > HeaderLen {
		b[5] = 1
	}
	b = b[:end]
	if opt != nil {
		b[11] = 1
		b = append(b, opt[:OPTLen-2]...) // where it was, or before
		b = append(b, 0, 0)
	}
	return b
}

// plainQuestion returns where the question at off ends. It is not ok, and ends
// with the header, if it is none, or its name is compressed: nothing comes
// before the first name of a message.
func plainQuestion(b []byte, off int) (end int, ok bool) {
	for start := off; off < len(b) && b[off] <= dnsname.MaxLabelLen && off-start < dnsname.MaxLen; off += 1 + int(b[off]) {
		if b[off] == 0 {
			if end = off + 1 + 4; end <= len(b) { // type and class
				return end, true
			}
			break
		}
	}
	return HeaderLen, false
}

// walk passes the records from off on. It returns the OPT record, nil if
// there is none, and whether all is well-formed and ends with b.
func walk(b []byte, off int) (opt []byte, ok bool) {
	const typeAt, lengthAt, fixed = 0, 8, 10
	others := int(binary.BigEndian.Uint16(b[6:])) + int(binary.BigEndian.Uint16(b[8:]))
	for i := range others + int(binary.BigEndian.Uint16(b[10:])) {
		_, body, err := dns.UnpackDomainName(b, off)
		if err != nil || body+fixed > len(b) {
			return opt, false
		}
		rdata := body + fixed
		next := rdata + int(binary.BigEndian.Uint16(b[body+lengthAt:]))
		if next > len(b) {
			return opt, false
		}
		if binary.BigEndian.Uint16(b[body+typeAt:]) == dns.TypeOPT {
			if opt != nil || i < others || b[off] != 0 { // one, in the additional section, at the root
				return opt, false
			}
			opt = append(opt, b[off:off+OPTLen]...)
			if version := opt[6]; version == 0 && !AreOptions(b[rdata:next]) {
				return opt, false
			}
		}
		off = next
	}
	return opt, off == len(b)
}

// AreOptions reports whether b is a list of EDNS options, whatever they are.
func AreOptions(b []byte) bool {
	for len(b) >= 4 {
		n := 4 + int(binary.BigEndian.Uint16(b[2:]))
		if n > len(b) {
			return false
		}
		b = b[n:]
	}
	return len(b) == 0
}
