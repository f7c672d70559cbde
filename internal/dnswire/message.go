package dnswire

import (
	"encoding/binary"
	"io"

	"github.com/miekg/dns"
)

const (
	HeaderLen  = 12        // bytes, RFC 1035 section 4.1.1
	OPTLen     = 11        // bytes of an OPT record without options, RFC 6891 section 6.1.2
	MaxTTL     = 1<<31 - 1 // seconds, RFC 2181 section 8
	MaxUDPSize = 1232      // bytes of a UDP reply: what passes everywhere unfragmented (DNS Flag Day 2020)
	MaxQuery   = 4096      // bytes of a UDP query that are read; no honest query is near it

	flagQR, flagRD, flagAD, flagCD = 1 << 15, 1 << 8, 1 << 5, 1 << 4
	opcodeMask                     = 0xf << 11
)

// ReadMessage reads a message of a stream, which has its length in front (RFC 1035 section 4.2.2).
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

// IsReply reports whether b, of HeaderLen bytes or more, is a reply that has the question of query, whose name must be
// in lower case. The caller compares the IDs.
func IsReply(b, query []byte) bool {
	q := Question(query)
	if !isResponse(b) || b[4] != 0 || b[5] != 1 || len(b) < HeaderLen+len(q) {
		return false
	}
	for i, c := range b[HeaderLen:][:len(q)] {
		if i < len(q)-4 && 'A' <= c && c <= 'Z' { // of the name
			c += 'a' - 'A'
		}
		if c != q[i] {
			return false
		}
	}
	return true
}

// IsBareError reports whether b, of HeaderLen bytes or more, is a reply without a question that says that the server
// can't answer: some servers reply so to what they don't understand.
func IsBareError(b []byte) bool {
	if !isResponse(b) || b[4] != 0 || b[5] != 0 {
		return false
	}
	switch b[3] & 0xf {
	case dns.RcodeFormatError, dns.RcodeServerFailure, dns.RcodeNotImplemented, dns.RcodeRefused:
		return true
	}
	return false
}

// isResponse reports whether the header of b is one of a response to a query of the standard opcode.
func isResponse(b []byte) bool { return binary.BigEndian.Uint16(b[2:])&(flagQR|opcodeMask) == flagQR }

// Question returns the question of a message that is known to be well-formed and to have one.
func Question(b []byte) []byte {
	end, _ := skipQuestion(b, HeaderLen)
	return b[HeaderLen:end]
}

// AppendOPT appends an OPT record without options to a message, whose counts the caller sets. The argument do is 0x80
// to set the DO bit, else 0.
func AppendOPT(b []byte, do byte) []byte {
	return append(b, 0, 0, byte(dns.TypeOPT), MaxUDPSize>>8, MaxUDPSize&0xff, 0, 0, do, 0, 0, 0)
}
