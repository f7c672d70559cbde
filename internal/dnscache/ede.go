package dnscache

import (
	"encoding/binary"

	"github.com/miekg/dns"
)

// ExtendedError returns an extended DNS error (RFC 8914 section 2) as an option of an OPT record.
func ExtendedError(code uint16, text ...string) []byte {
	const codeSize = 2 // bytes of the error's code
	var t string
	if len(text) > 0 {
		t = text[0]
	}
	b := binary.BigEndian.AppendUint16(nil, dns.EDNS0EDE)
	b = binary.BigEndian.AppendUint16(b, uint16(codeSize+len(t)))
	return append(binary.BigEndian.AppendUint16(b, code), t...)
}
