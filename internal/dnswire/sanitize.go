package dnswire

import (
	"encoding/binary"

	"github.com/miekg/dns"
)

// SanitizeQuery reads a message from a client strictly (RFC 1035 section 4.1, RFC 6891 section 6). It overwrites b.
//
// For a good query it returns (query, nil). The query has only what counts: the header with the flags that a client may
// set, the question, and a bare OPT record if the client sent one. All other records are left out, but they must be
// well-formed. For a bad query it returns (nil, reply) with the error that the client gets. It returns (nil, nil) for
// packets that must not be answered: those shorter than a header, and responses, since two servers could otherwise
// answer each other for ever.
func SanitizeQuery(b []byte) (query, reply []byte) {
	if len(b) < HeaderLen {
		return nil, nil
	}
	flags, questions := binary.BigEndian.Uint16(b[2:]), binary.BigEndian.Uint16(b[4:])
	if flags&flagQR != 0 {
		return nil, nil
	}
	end, ok := SkipQuestions(b)
	var opt []byte
	if ok {
		opt, ok = findOPT(b, end)
	}
	switch {
	case flags&opcodeMask != dns.OpcodeQuery<<11:
		return nil, reject(b, HeaderLen, opt, dns.RcodeNotImplemented)
	case questions != 1:
		return nil, reject(b, HeaderLen, opt, dns.RcodeFormatError)
	case !ok:
		return nil, reject(b, end, opt, dns.RcodeFormatError)
	}
	binary.BigEndian.PutUint16(b[2:], flags&(flagRD|flagAD|flagCD))
	return shorten(b, end, opt), nil
}

// reject turns b, whose question ends at end, into a reply that has an rcode and no records.
func reject(b []byte, end int, opt []byte, rcode uint16) []byte {
	flags := binary.BigEndian.Uint16(b[2:])
	binary.BigEndian.PutUint16(b[2:], flagQR|flags&(opcodeMask|flagRD)|rcode)
	if opt != nil {
		binary.BigEndian.PutUint16(opt[3:], MaxUDPSize)
		opt[5], opt[6], opt[7], opt[8] = 0, 0, opt[7]&0x80, 0 // version 0, and DO as it was
	}
	return shorten(b, end, opt)
}

// shorten leaves of b the header, the question, which ends at end, and opt without its options.
func shorten(b []byte, end int, opt []byte) []byte {
	clear(b[4:HeaderLen])
	if end > HeaderLen {
		b[5] = 1
	}
	b = b[:end]
	if opt != nil {
		b[11] = 1
		b = append(b, opt[:OPTLen-2]...) // over itself, or in front of where it was
		b = append(b, 0, 0)
	}
	return b
}

// findOPT walks over all records of b, the first of which is at off. It returns a copy of the first OPT record without
// options (nil if there is none), and whether all records are well-formed and end where b does. There may be one OPT
// record, in the additional section, owned by the root.
func findOPT(b []byte, off int) (opt []byte, ok bool) {
	count := Count(b)
	additional := count - int(binary.BigEndian.Uint16(b[10:]))
	for i := range count {
		r, ok := ReadRecord(b, off)
		if !ok {
			return opt, false
		}
		if r.Type == dns.TypeOPT {
			if opt != nil || i < additional || b[off] != 0 {
				return opt, false
			}
			opt = append(opt, b[off:off+OPTLen]...)
			if version := opt[6]; version == 0 && !AreOptions(b[r.Data:r.End]) {
				return opt, false
			}
		}
		off = r.End
	}
	return opt, off == len(b)
}

// AreOptions reports whether b is a list of EDNS options, known or not (RFC 6891 section 6.1.2).
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
