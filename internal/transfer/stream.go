package transfer

import (
	"encoding/binary"
	"runtime"
	"time"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/tsig"
)

// maxMessage is the size in bytes at which a message of a transfer ends, before its last record: compression pointers
// reach 16 KiB.
const maxMessage = 15 << 10

// A stream writes the messages of one transfer (RFC 5936 section 2.2).
type stream struct {
	write   func([]byte) error
	session *tsig.Session // signs each message; nil: they are not signed
	b       []byte
	head    int          // bytes of header and question, which each message begins with
	zone    dnsname.Name // the name of the question
	last    dnsname.Name // the owner of the last record of b
	lastAt  int          // where it is in b

	records, bytes int
}

// newStream returns a stream of replies to a query with one question.
func newStream(query []byte, zone dnsname.Name, session *tsig.Session, write func([]byte) error) *stream {
	end, _ := dnswire.SkipQuestions(query) // ok: it was read before
	s := &stream{write: write, session: session, zone: zone, head: end}
	s.b = append(make([]byte, 0, maxMessage+1<<10), query[:end]...)
	clear(s.b[2:dnswire.HeaderLen])
	s.b[2], s.b[5] = 0x84, 1 // QR and AA, one question
	return s
}

// add adds a record, and writes a message where it is full.
func (s *stream) add(owner dnsname.Name, rr string) error {
	if len(s.b)+len(owner)+len(rr) > maxMessage {
		if err := s.flush(); err != nil {
			return err
		}
	}
	s.records++
	binary.BigEndian.PutUint16(s.b[6:], binary.BigEndian.Uint16(s.b[6:])+1)
	pointer := func(at int) { s.b = binary.BigEndian.AppendUint16(s.b, 0xc000|uint16(at)) }
	switch {
	case owner == s.last:
		pointer(s.lastAt)
	case owner == s.zone:
		pointer(dnswire.HeaderLen)
	default:
		s.last, s.lastAt = owner, len(s.b)
		s.b = append(s.b, owner[:len(owner)-len(s.zone)]...)
		pointer(dnswire.HeaderLen)
	}
	s.b = append(s.b, rr...)
	return nil
}

// flush writes what there is as a message, if it has a record.
func (s *stream) flush() error {
	if len(s.b) == s.head {
		return nil
	}
	b := s.b
	if s.session != nil {
		b = s.session.Sign(b, time.Now())
	}
	s.bytes += len(b)
	err := s.write(b)
	runtime.Gosched() // queries go before the next message
	s.b, s.last = s.b[:s.head], ""
	clear(s.b[6:dnswire.HeaderLen])
	return err
}

// refuse writes a reply with an rcode and no records.
func (s *stream) refuse(rcode int) error {
	b := s.b[:s.head]
	b[2], b[3] = 0x80, byte(rcode)
	if s.session != nil {
		b = s.session.Sign(b, time.Now())
	}
	return s.write(b)
}
