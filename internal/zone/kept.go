package zone

import (
	"bytes"
	"sync/atomic"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/table"
)

const (
	MaxReplies    = 4096 // that are kept, of 1,232 octets at most
	TimesAnswered = 64   // that one of several records is given: then it is made anew, in another order
)

// Replies are the whole answers, made by zone, to names that the registry has
// no node for: those of ports. They are not used any more when anything has
// changed, and dropped when there are too many.
type replies struct {
	table.Table[dnsname.Name, *KeptReply]
	count atomic.Int32 // of what is in the table, at times a little more or less
}

// A KeptReply is what follows the question in a message, without an OPT.
type KeptReply struct {
	serial uint32  // of the registry when it was made
	Counts [6]byte // of the sections
	Rest   []byte
	Left   atomic.Int32 // how often it may still be sent
}

// Find returns the answer to n if it is known, nil if it is not.
func (s *replies) Find(n dnsname.Name, serial uint32) *KeptReply {
	k, ok := s.Load(n)
	if !ok || k.serial != serial || k.Left.Load() <= 0 {
		return nil
	}
	return k
}

// keep keeps b, an answer about n that was made from the registry of that serial.
func (s *replies) keep(n dnsname.Name, serial uint32, b []byte, opt bool) {
	if opt {
		b = b[:len(b)-dnswire.OPTLen]
	}
	k := &KeptReply{serial: serial, Rest: bytes.Clone(b[dnswire.HeaderLen+len(n)+4:])}
	copy(k.Counts[:], b[6:])
	if opt {
		k.Counts[5]--
	}
	k.Left.Store(TimesAnswered)
	if _, had := s.Map.Swap(n, k); !had && s.count.Add(1) > MaxReplies {
		s.Map.Clear()
		s.count.Store(0)
	}
}
