package dnsserver

import (
	"net"
	"net/netip"
	"runtime"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/stats"
	"github.com/rayje/dnsdock/internal/udpio"
	"github.com/rayje/dnsdock/internal/zone"
)

// UDP returns a server for conn, and a channel that is closed once the server
// can be shut down.
func (s *Server) UDP(conn *net.UDPConn) (*dns.Server, <-chan struct{}) {
	started := make(chan struct{})
	return &dns.Server{
		Handler:           s,
		PacketConn:        s.newPacketConn(conn),
		UDPSize:           dnswire.MaxQuery,
		NotifyStartedFunc: func() { close(started) },
	}, started
}

// A packetConn is a UDP socket in front of dns.Server. It reads packets in
// batches, replays kept answers in place, and leaves the other queries to the
// server. Replies leave from the address that the query came to, also on a
// host with several addresses.
type packetConn struct {
	*net.UDPConn
	server  *Server
	counts  *stats.Counts
	replay  *replayer
	batch   *udpio.Batch
	next    int           // the packet of batch to look at next
	count   int           // packets in batch
	single  bool          // all goroutines share one processor
	begun   time.Time     // when the packetConn was made
	arrived time.Duration // when batch was read, since begun
	burst   *forward.Burst
}

// newPacketConn wraps conn, which it owns from then on.
func (s *Server) newPacketConn(conn *net.UDPConn) *packetConn {
	counts := s.traffic.Take(stats.UDP)
	return &packetConn{
		UDPConn: conn, server: s, counts: counts, replay: s.newReplayer(counts),
		batch: udpio.NewBatch(conn, udpio.WantDestinations(conn)), single: runtime.GOMAXPROCS(0) == 1, begun: time.Now(),
		burst: s.fwd.NewBurst(s.ctx),
	}
}

// ReadFrom implements net.PacketConn; the address is a udpio.Peer. It returns
// the next query that no kept answer fits, without what does not count in it,
// and replies itself to packets that are no good queries.
func (p *packetConn) ReadFrom(b []byte) (n int, addr net.Addr, err error) {
	for {
		for ; p.next < p.count; p.next++ {
			i, packet := p.next, p.batch.Packet(p.next)
			if reply := p.replay.answer(packet, p, dnswire.MaxUDPSize, p.batch.Space()); reply != nil {
				p.batch.Send(i, reply)
				continue
			}
			if p.replay != nil && p.replay.missed != "" && p.ask(i) {
				continue
			}
			query, reply := dnswire.SanitizeQuery(packet)
			if query != nil && !p.quickly(query) {
				p.end()
				p.next++
				return copy(b, query), p.batch.Peer(i), nil
			}
			if reply != nil {
				p.server.noteRejected(reply, p.batch.From(i).Addr(), p.counts, time.Since(p.begun)-p.arrived)
				p.batch.Send(i, append(p.batch.Space(), reply...))
			}
		}
		p.end()
		if p.single && p.count == udpio.BatchSize { // more packets may wait, and other goroutines want to run too
			runtime.Gosched()
		}
		p.next = 0
		if p.count, err = p.batch.Read(); err != nil {
			p.count = 0
			return 0, nil, err
		}
		p.arrived = time.Since(p.begun) // one look at the clock for all packets of the batch
	}
}

// quickly answers a query in place if that takes little time: less than to
// hand it to another goroutine.
func (p *packetConn) quickly(query []byte) bool {
	req := new(dns.Msg)
	if p.replay == nil || p.replay.missed != "" || req.Unpack(query) != nil {
		return false
	}
	from := zone.Client{Addr: p.client(), Local: p.local(), Size: zone.UDPSize(req), Quick: true}
	return p.server.answerNow(task{req: req, from: from, over: stats.UDP, send: func(b []byte) error {
		p.batch.Send(p.next, append(p.batch.Space(), b...))
		return nil
	}})
}

// client returns the sender of the packet at hand.
func (p *packetConn) client() netip.Addr { return p.batch.From(p.next).Addr() }

// local returns the address of ours that the packet at hand came to.
func (p *packetConn) local() netip.Addr { return localOf(p.LocalAddr(), p.batch.Peer(p.next)) }

// end sends what is queued, and counts the time since those queries arrived.
func (p *packetConn) end() {
	p.batch.Flush()
	p.burst.Flush()
	if p.replay.hasUntimed() {
		p.replay.took(time.Since(p.begun) - p.arrived)
	}
}

// WriteTo implements net.PacketConn; addr is a udpio.Peer.
func (p *packetConn) WriteTo(b []byte, addr net.Addr) (int, error) {
	return udpio.WriteTo(p.UDPConn, b, addr.(udpio.Peer))
}
