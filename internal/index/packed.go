package index

import (
	"encoding/binary"
	"hash/maphash"
	"sync/atomic"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnswire"
)

const (
	MaxPacked = 256 // addresses of an rrset: more than any reply over UDP holds, and 4 KiB
)

// An Rrset is what a view answers to one type, in wire format. It is never
// written again.
type RRset struct {
	RRs   []byte   // whole records; a pointer to the question is their owner
	ttl   uint32   // the default TTL of the registry that it was made with
	Count uint16   // of records, at least one
	Size  uint16   // octets of each; 0 where they differ
	few   [32]byte // where rrs is if it is as short: with the rest it is a line of the processor's cache
}

// Packed returns the records of a view that has some of the type, A, AAAA
// or, of an address, PTR; nil if they are too many to be packed.
func (r *Index) Packed(v *View, qtype uint16) *RRset {
	at := v.Rrset(qtype)
	s := at.Load()
	if s == nil || s.ttl != r.TTL.Load() {
		s = r.Pack(v, qtype)
		at.Store(s)
	}
	if s.Count == 0 {
		return nil
	}
	return s
}

// Pack makes what packed keeps; without records where they are too many, or
// depend on the client.
func (r *Index) Pack(v *View, qtype uint16) *RRset {
	s := &RRset{ttl: r.TTL.Load()}
	if v.Len() > MaxPacked {
		return s
	}
	s.RRs = s.few[:0]
	views := []*View{v}
	if qtype == dns.TypePTR {
		for _, o := range MostSpecific(v, MaxPacked) {
			s.add(qtype, r.MinTTL(views), []byte(o))
		}
		if s.Count == MaxPacked {
			return &RRset{ttl: s.ttl}
		}
		return s
	}
	addrs, ttl, differs := r.Rrset(views, qtype == dns.TypeA, MaxPacked+1, Viewer{})
	if len(addrs) > MaxPacked || differs { // by client: these are the zone's to answer
		return &RRset{ttl: s.ttl}
	}
	for _, a := range addrs {
		s.add(qtype, ttl, a.AsSlice())
	}
	s.Size = uint16(len(s.RRs) / max(len(addrs), 1))
	return s
}

// add adds a record.
func (s *RRset) add(qtype uint16, ttl uint32, data []byte) {
	s.RRs = binary.BigEndian.AppendUint16(s.RRs, 0xc000|dnswire.HeaderLen)
	s.RRs = binary.BigEndian.AppendUint16(s.RRs, qtype)
	s.RRs = binary.BigEndian.AppendUint16(s.RRs, dns.ClassINET)
	s.RRs = binary.BigEndian.AppendUint32(s.RRs, ttl)
	s.RRs = binary.BigEndian.AppendUint16(s.RRs, uint16(len(data)))
	s.RRs = append(s.RRs, data...)
	s.Count++
}

// hotAnswers are answers of one address to names that are nodes, each kept
// where the hash of its name says. All that is read of one lies together: a
// look-up of node, view and records reads memory at ten places, of which with
// many names each is far away.
//
// A change of a service clears what it may change: the places of all names at
// or above its owner names, and all of them if others are below one.
type hotAnswers struct {
	seed    maphash.Seed
	slots   atomic.Pointer[[]atomic.Pointer[hotAnswer]] // a power of 2; nil before the first change
	changes atomic.Uint32                               // of services
	Epoch   atomic.Uint32                               // grows when no answer is good any more
}

// A hotAnswer is never written again.
type hotAnswer struct {
	epoch         uint32
	qtype         uint16
	nameLen, size uint8
	data          [56]byte // name and record, of that many octets: with the rest a line of the processor's cache
}

const minHot, maxHot = 1 << 8, 1 << 17 // slots

// A hotSlot is the place of one answer, and how all was when it was looked at.
type hotSlot struct {
	*hotAnswers
	at             *atomic.Pointer[hotAnswer] // nil: none for the type
	was            *hotAnswer
	qtype          uint16
	changes, epoch uint32
}

// Find returns the place of the answer to a query.
func (h *hotAnswers) Find(n dnsname.Name, qtype uint16) hotSlot {
	s := hotSlot{hotAnswers: h, qtype: qtype, changes: h.changes.Load(), epoch: h.Epoch.Load()}
	if slots := h.slots.Load(); slots != nil && (qtype == dns.TypeA || qtype == dns.TypeAAAA) {
		s.at = h.slot(*slots, n, qtype)
		s.was = s.at.Load()
	}
	return s
}

func (h *hotAnswers) slot(slots []atomic.Pointer[hotAnswer], n dnsname.Name, qtype uint16) *atomic.Pointer[hotAnswer] {
	return &slots[(maphash.String(h.seed, string(n))+uint64(qtype))&uint64(len(slots)-1)]
}

// Record returns the record of the answer if it is there.
func (s *hotSlot) Record(n dnsname.Name) []byte {
	a := s.was
	if a == nil || a.epoch != s.epoch || a.qtype != s.qtype || string(a.data[:a.nameLen]) != string(n) {
		return nil
	}
	return a.data[a.nameLen:][:a.size]
}

// IsFree reports whether there is a place, and no other answer in it.
func (s *hotSlot) IsFree() bool { return s.at != nil && (s.was == nil || s.was.epoch != s.epoch) }

// Keep keeps an answer, made since find for a free place, if it is of one
// record and short, and reports whether it is.
func (s *hotSlot) Keep(n dnsname.Name, answer *RRset) bool {
	if answer.Count != 1 || len(n)+len(answer.RRs) > len(hotAnswer{}.data) {
		return false
	}
	a := &hotAnswer{epoch: s.epoch, qtype: s.qtype, nameLen: uint8(len(n)), size: uint8(len(answer.RRs))}
	copy(a.data[copy(a.data[:], n):], answer.RRs)
	if s.at.CompareAndSwap(s.was, a) && s.hotAnswers.changes.Load() != s.changes {
		s.at.CompareAndSwap(a, nil) // it may be from before the change
	}
	return true
}

// change forgets the answers to names, all of them if the change is to others
// too. There are count services now.
func (h *hotAnswers) change(count int, all bool, names ...map[dnsname.Name]bool) {
	h.changes.Add(1)
	slots := h.slots.Load()
	switch {
	case slots == nil || len(*slots) < min(2*count, maxHot):
		size := minHot
		for size < min(2*count, maxHot) {
			size *= 2
		}
		next := make([]atomic.Pointer[hotAnswer], size)
		h.slots.Store(&next)
	case all:
		h.Epoch.Add(1)
	default:
		for _, list := range names {
			for n := range list {
				h.slot(*slots, n, dns.TypeA).Store(nil)
				h.slot(*slots, n, dns.TypeAAAA).Store(nil)
			}
		}
	}
}
