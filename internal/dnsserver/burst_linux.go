//go:build amd64 || arm64 || 386 || arm || riscv64 || loong64

package dnsserver

import (
	"bytes"
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/stats"
	"github.com/rayje/dnsdock/internal/udpio"
	"github.com/rayje/dnsdock/internal/zone"
)

// A waitingClient is a client whose query is out in a burst.
type waitingClient struct {
	conn   *packetConn
	addr   netip.Addr
	packet []byte // the query
	plainQuery
	to      udpio.FarEnd
	arrived time.Time
}

// ask asks an upstream what packet i asks, with others in a burst. It returns
// false if the Authority must see to it: everything unusual.
func (p *packetConn) ask(i int) (ok bool) {
	q := p.replay.missed
	if !p.server.authority.IsPlain(q.Name()) {
		return false
	}
	return p.burst.Ask(q, func() forward.Client {
		packet := bytes.Clone(p.batch.Packet(i))
		c := &waitingClient{conn: p, addr: p.client(), packet: packet, to: p.batch.FarEnd(i), arrived: p.begun.Add(p.arrived)}
		c.plainQuery, _ = p.replay.read(packet, dnswire.MaxUDPSize) // ok: it was before
		c.name = ""                                                 // it is in the replayer's memory
		return c
	})
}

// Addr implements forward.Client.
func (c *waitingClient) Addr() netip.Addr { return c.addr }

var _ forward.Client = (*waitingClient)(nil)

// Reply sends the client r, with others by out.
func (c *waitingClient) Reply(r *dnscache.Response, out *udpio.Batch) {
	server := c.conn.server
	w := writer{server: server, plainQuery: c.plainQuery, reply: out.Space()}
	if w.begin(c.packet, c.addr) && w.cached(r, r.Age()) {
		kind, counts := stats.Forwarded, server.traffic.Shared(stats.UDP)
		if r.Age() > time.Since(c.arrived) {
			kind = stats.Cached
		}
		counts.Add(kind, r.Rcode(), c.qtype)
		counts.AddTime(kind, time.Since(c.arrived), 1)
		out.SendOn(c.conn.batch.Conn, w.finish(), &c.to)
		return
	}
	go c.truncate(r)
}

// truncate sends the client r, which is too large for it, as the Authority makes it fit.
func (c *waitingClient) truncate(r *dnscache.Response) {
	query, _ := dnswire.SanitizeQuery(c.packet)
	req := new(dns.Msg)
	if req.Unpack(query) != nil { // a replayer reads less
		return
	}
	server, to := c.conn.server, udpio.NewPeer(udpio.AddrPort(&c.to.Name), c.to.Control)
	from := zone.Client{Addr: c.addr, Local: to.Local, Size: zone.UDPSize(req)}
	a := server.authority.Decide(req, from)
	if a.IsOpen() {
		a.Relay(r)
	}
	if b, err := a.Pack(from.Size); err == nil {
		_, _ = c.conn.WriteTo(b, to) // the client can't be told
		server.note(a, task{from: from, over: stats.UDP}, time.Since(c.arrived), nil)
	}
}
