package dnscache

import (
	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnswire"
)

const (
	Padding = 128 // octets of which an encrypted query is a multiple (RFC 8467 section 4.1)
)

// A Question is all of a query that makes a difference to upstreams: a name in
// wire format, the type in two octets, and the flags in one.
type Question string

// The Flags of a question, as they are in messages.
const (
	RD = 0x01 // recursion is desired
	CD = 0x10 // checking is disabled
	DO = 0x80 // DNSSEC is understood
)

func NewQuestion(n dnsname.Name, qtype uint16, flags byte) Question {
	return Question(n) + Question([]byte{byte(qtype >> 8), byte(qtype), flags})
}

func (q Question) Name() dnsname.Name { return dnsname.Name(q[:len(q)-3]) }

func (q Question) Qtype() uint16 { return uint16(q[len(q)-3])<<8 | uint16(q[len(q)-2]) }

func (q Question) Flags() byte { return q[len(q)-1] }

// Message returns q as a query, without an ID. AD asks whether the answer was
// validated (RFC 6840 section 5.7).
func (q Question) Message(edns, padded bool) []byte {
	n := q.Name()
	b := make([]byte, dnswire.HeaderLen, dnswire.HeaderLen+len(n)+4+dnswire.OPTLen+Padding)
	b[2], b[3], b[5] = q.Flags()&RD, 0x20|q.Flags()&CD, 1
	b = append(b, n...)
	b = append(b, byte(q.Qtype()>>8), byte(q.Qtype()), 0, byte(dns.ClassINET))
	if !edns {
		return b
	}
	b[11] = 1
	b = append(b, 0, 0, byte(dns.TypeOPT), dnswire.MaxUDPSize>>8, dnswire.MaxUDPSize&0xff, 0, 0, q.Flags()&DO, 0, 0, 0)
	if padded {
		const option = 4 // octets before its data
		n := Padding - 1 - (len(b)+option+Padding-1)%Padding
		b[len(b)-1] = byte(option + n)
		b = append(b, 0, byte(dns.EDNS0PADDING), 0, byte(n))
		b = append(b, make([]byte, n)...)
	}
	return b
}
