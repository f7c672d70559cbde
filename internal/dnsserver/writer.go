package dnsserver

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"time"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/stats"
)

// The flags of a header, by its bytes.
const (
	flagQR, flagAA, flagTC, flagRD = 0x80, 0x04, 0x02, 0x01 // of byte 2
	flagRA, flagAD, flagCD         = 0x80, 0x20, 0x10       // of byte 3
)

// A writer makes a reply.
type writer struct {
	server *Server
	query
	reply    []byte // all of it so far
	start    int    // where the reply begins in it
	kind     stats.Kind
	extended byte   // the upper bits of the rcode, which are in the OPT
	ede      []byte // extended DNS errors, as options of the OPT
}

// begin writes the header, and the question with the bytes that were sent.
func (w *writer) begin(serves bool) {
	w.reply = append(w.reply, w.packet[:w.end]...)
	h := w.header()
	h[2] = flagQR | h[2]&flagRD
	h[3] &= flagCD
	if serves {
		h[3] |= flagRA
	}
	clear(h[6:dnswire.HeaderLen])
}

// setHeader sets what the header says of an answer of ours.
func (w *writer) setHeader(authoritative bool, rcode int) {
	h := w.header()
	if authoritative {
		h[2] |= flagAA
	}
	h[3] |= byte(rcode & 0xf)
	w.extended = byte(rcode >> 4)
}

func (w *writer) header() []byte { return w.reply[w.start : w.start+dnswire.HeaderLen] }

// room returns how many bytes the reply may still grow, its OPT aside.
func (w *writer) room() int {
	room := w.size - (len(w.reply) - w.start)
	if w.opt {
		room -= dnswire.OPTLen + len(w.ede)
	}
	return room
}

// finish writes the OPT, and returns the reply.
func (w *writer) finish() []byte {
	if !w.opt {
		return w.reply
	}
	w.header()[11]++
	w.reply = dnswire.AppendOPT(w.reply, w.do)
	opt := w.reply[len(w.reply)-dnswire.OPTLen:]
	opt[5] = w.extended
	binary.BigEndian.PutUint16(opt[dnswire.OPTLen-2:], uint16(len(w.ede)))
	w.reply = append(w.reply, w.ede...)
	return w.reply
}

// replay writes the records of an answer, as many as fit.
func (w *writer) replay(e *entry) {
	m, records := e.more, e.records()
	switch {
	case m == nil:
		w.rotated(records, addressRecord(e.qtype))
	case m.recordSize > 0:
		w.rotated(records, int(m.recordSize))
	default:
		copy(w.header()[6:], m.counts[:])
		at := len(w.reply)
		w.reply = append(w.reply, records...)
		if m.hasSOA {
			binary.BigEndian.PutUint32(w.reply[len(w.reply)-soaSerialFromEnd:], w.server.changes.SOASerial())
		}
		w.truncate(at)
	}
}

// rotated writes records of one size, starting at a random one, and as many as fit.
func (w *writer) rotated(records []byte, size int) {
	first, n, count := 0, len(records), len(records)/size
	if count > 1 {
		first = rand.IntN(count) * size
	}
	h := w.header()
	if n > w.room() {
		count = max(0, w.room()/size)
		n = count * size
		h[2] |= flagTC
	}
	binary.BigEndian.PutUint16(h[6:], uint16(count))
	end := min(first+n, len(records))
	w.reply = append(w.reply, records[first:end]...)
	w.reply = append(w.reply, records[:n-(end-first)]...)
}

// cached writes what upstreams said, as it is at a time.
func (w *writer) cached(r *dnscache.Response, now time.Time) {
	at := len(w.reply)
	w.ede = r.EDE
	w.reply = r.AppendTo(w.reply, w.start, w.ad, r.Age(now), w.server.authority.ForcedTTL())
	w.truncate(at)
}

// truncate leaves of the records, which begin at at, as many as fit. It sets
// TC if records of the answer section are left out. Of the additional section
// only whole RRsets stay (RFC 2181 section 9).
func (w *writer) truncate(at int) {
	if w.room() >= 0 {
		return
	}
	limit, b, h := len(w.reply)+w.room(), w.reply, w.header()
	var counts [3]uint16
walk:
	for section := range counts {
		var last dnswire.Record
		set, inSet := at, uint16(0) // where the last RRset begins, and how many of its records stay
		for range binary.BigEndian.Uint16(h[6+2*section:]) {
			rr, ok := dnswire.ReadRecord(b, at)
			if !sameRRset(b, last, rr) {
				set, inSet = at, 0
			}
			if !ok || rr.End > limit {
				switch section {
				case 0:
					h[2] |= flagTC
				case 2:
					at, counts[section] = set, counts[section]-inSet
				}
				break walk
			}
			at, last = rr.End, rr
			counts[section]++
			inSet++
		}
	}
	w.reply = b[:at]
	for section, count := range counts {
		binary.BigEndian.PutUint16(h[6+2*section:], count)
	}
}

// sameRRset reports whether two records of b are of one RRset. Their owners
// are compressed alike.
func sameRRset(b []byte, x, y dnswire.Record) bool {
	const fixed = 10 // bytes between an owner and the data
	return x.Type == y.Type && x.Data > 0 && bytes.Equal(b[x.Owner:x.Data-fixed], b[y.Owner:y.Data-fixed])
}
