package dnscache

import (
	"encoding/binary"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnswire"
)

// A Question is everything in a query that makes a difference to upstreams: a name in wire format, the type in two
// bytes, and the flags in one.
type Question string

// The flags of a question, as they are in messages.
const (
	RD = 0x01 // recursion is desired
	CD = 0x10 // checking is disabled
	DO = 0x80 // DNSSEC is understood
)

// padding is the number of bytes of which an encrypted query is a multiple (RFC 8467 section 4.1).
const padding = 128

// NewQuestion returns the question for records of a type at n.
func NewQuestion(n dnsname.Name, qtype uint16, flags byte) Question {
	return Question(n) + Question([]byte{byte(qtype >> 8), byte(qtype), flags})
}

// Name returns the name that is asked about.
func (q Question) Name() dnsname.Name { return dnsname.Name(q[:len(q)-3]) }

// Qtype returns the type that is asked for.
func (q Question) Qtype() uint16 { return uint16(q[len(q)-3])<<8 | uint16(q[len(q)-2]) }

// Flags returns RD, CD and DO as they are set.
func (q Question) Flags() byte { return q[len(q)-1] }

// Message returns q as a query without an ID. It has AD set, which asks whether the answer was validated (RFC 6840
// section 5.7). A padded query needs EDNS.
func (q Question) Message(edns, padded bool) []byte {
	b := make([]byte, dnswire.HeaderLen, dnswire.HeaderLen+len(q)+1+dnswire.OPTLen+padding)
	b[2], b[3], b[5] = q.Flags()&RD, 0x20|q.Flags()&CD, 1
	b = q.appendTo(b)
	if !edns {
		return b
	}
	b[11] = 1
	b = dnswire.AppendOPT(b, q.Flags()&DO)
	if padded {
		const option = 4 // bytes in front of its data
		n := padding - 1 - (len(b)+option+padding-1)%padding
		b[len(b)-1] = byte(option + n)
		b = append(b, 0, byte(dns.EDNS0PADDING), 0, byte(n))
		b = append(b, make([]byte, n)...)
	}
	return b
}

// appendTo appends q as the question section of a message.
func (q Question) appendTo(b []byte) []byte {
	b = append(b, q[:len(q)-1]...)
	return binary.BigEndian.AppendUint16(b, dns.ClassINET)
}
