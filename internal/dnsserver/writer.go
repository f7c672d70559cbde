package dnsserver

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/stats"
)

// A writer makes a reply of what is known already.
type writer struct {
	server *Server
	plainQuery
	reply []byte // all of it so far
	start int    // where the reply begins in it
	kind  stats.Kind
}

// begin writes the header, and the question with the bytes that were sent. It
// returns false if only a look at this host's interfaces tells whether the client is local.
func (w *writer) begin(query []byte, client netip.Addr) bool {
	w.reply = append(w.reply, query[:w.end]...)
	h := w.header()
	w.ad = h[3]&0x20 != 0 || w.do != 0
	h[2] = 0x80 | 0x04 | h[2]&0x01 // QR and AA, RD as it was
	h[3] &= 0x10                   // CD as it was
	serves, known := w.server.authority.Serves(client)
	if serves {
		h[3] |= 0x80 // RA
	}
	clear(h[6:dnswire.HeaderLen])
	return known
}

func (w *writer) header() []byte { return w.reply[w.start : w.start+dnswire.HeaderLen] }

// room returns how many bytes the reply may still grow, its OPT aside.
func (w *writer) room() int {
	room := w.size - (len(w.reply) - w.start)
	if w.opt {
		room -= dnswire.OPTLen
	}
	return room
}

// finish writes the OPT, and returns the reply.
func (w *writer) finish() []byte {
	if w.opt {
		w.header()[11]++
		w.reply = append(w.reply, 0, 0, byte(dns.TypeOPT), dnswire.MaxUDPSize>>8, dnswire.MaxUDPSize&0xff, 0, 0, w.do, 0, 0, 0)
	}
	return w.reply
}

// replay writes a kept answer. It returns false if there is no room for it.
func (w *writer) replay(e *entry) bool {
	m := e.more
	if m == nil {
		return w.rotated(e.records(), addressRecord(e.qtype))
	}
	if m.isUsedUp() {
		return false
	}
	h := w.header()
	h[3] |= m.rcode
	records := e.records()
	if m.recordSize > 0 {
		return w.rotated(records, int(m.recordSize))
	}
	if len(records) > w.room() {
		return false
	}
	copy(h[6:], m.counts[:])
	w.reply = append(w.reply, records...)
	if m.hasSOA {
		binary.BigEndian.PutUint32(w.reply[len(w.reply)-soaSerialFromEnd:], w.server.changes.SOASerial())
	}
	return true
}

// rotated writes records of one size, starting at a random one, and as many as fit.
func (w *writer) rotated(records []byte, size int) bool {
	first, n, count := 0, len(records), len(records)/size
	if count > 1 {
		first = rand.IntN(count) * size
	}
	h := w.header()
	if n > w.room() {
		count = max(0, w.room()/size)
		n = count * size
		h[2] |= 0x02 // TC
	}
	binary.BigEndian.PutUint16(h[6:], uint16(count))
	end := min(first+n, len(records))
	w.reply = append(w.reply, records[first:end]...)
	w.reply = append(w.reply, records[:n-(end-first)]...)
	return true
}

// cached writes what upstreams said. It returns false if there is no room for it.
func (w *writer) cached(r *dnscache.Response, age time.Duration) (ok bool) {
	if r.Size() > w.room() {
		return false
	}
	w.reply = r.AppendTo(w.reply, w.start, w.ad, age, w.server.authority.ForcedTTL())
	return true
}
