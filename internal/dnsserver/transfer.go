package dnsserver

import (
	"bytes"
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/stats"
	"github.com/rayje/dnsdock/internal/udpio"
	"github.com/rayje/dnsdock/internal/zone"
)

const (
	transferWrite = 30 * time.Second // for a client to take 16 KiB of a zone
	signatureSize = 372              // bytes of the largest TSIG record, which a UDP reply must have room for
)

// Transfers gives zones to other nameservers, and answers signed queries.
type Transfers interface {
	// Takes reports whether Serve must answer a message.
	Takes(packet []byte, isStream bool) bool
	// Serve answers a message by write. Other questions than those for a zone are answered by ask.
	Serve(packet []byte, client netip.Addr, isStream bool, ask func([]byte) []byte, write func([]byte) error) error
}

// takes reports whether Transfers must answer a message.
func (s *Server) takes(packet []byte, isStream bool) bool {
	return s.Transfers != nil && s.Transfers.Takes(packet, isStream)
}

// asker returns a function that answers a query and waits for the answer. It returns nil for what must not be answered.
func (s *Server) asker(from zone.Client, over stats.Transport, limit int) func(packet []byte) []byte {
	return func(packet []byte) []byte {
		packet, reply := dnswire.SanitizeQuery(packet)
		if packet == nil {
			return reply
		}
		t := task{Server: s, from: from, over: over, begun: time.Now()}
		var ok bool
		switch t.query, ok = new(reader).read(packet, limit); {
		case !ok:
			return nil
		case t.version != 0:
			return t.writeBadVersion(nil)
		}
		t.from.Size = t.size
		a := t.decide()
		a.Complete()
		reply = t.write(a, nil)
		t.note(a.Kind, a.Rcode, reply, nil)
		return reply
	}
}

// transfer serves a message over TCP. It returns an error if the connection is of no more use.
func (s *TCP) transfer(c *tcpConn, packet []byte, from zone.Client) error {
	write := func(b []byte) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if b == nil {
			return nil
		}
		start := len(c.out)
		c.out = append(append(c.out, 0, 0), b...)
		c.setLength(start)
		c.used.Store(time.Now().UnixNano())
		return c.flushLocked(transferWrite)
	}
	return s.server.Transfers.Serve(packet, from.Addr, true, s.server.asker(from, stats.TCP, dns.MaxMsgSize), write)
}

// transfer serves the packet at hand, which is signed.
func (u *UDP) transfer(packet []byte) {
	packet, peer := bytes.Clone(packet), u.batch.Peer(u.at)
	from := zone.Client{Addr: u.client(), Local: u.local()}
	write := func(b []byte) error {
		if b == nil {
			return nil
		}
		_, err := udpio.WriteTo(u.conn, b, peer)
		return err
	}
	u.waiting.Go(func() {
		ask := u.asker(from, stats.UDP, dnswire.MaxUDPSize-signatureSize)
		_ = u.Transfers.Serve(packet, from.Addr, false, ask, write) // UDP promises nothing
	})
}
