//go:build amd64 || arm64 || 386 || arm || riscv64 || loong64

// Package dnsserver serves a zone over UDP, with a fast path in front of it, and
// over TCP.
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

// A waitingClient is one whose query is out in a burst.
type waitingClient struct {
	conn   *packetConn
	addr   netip.Addr
	packet []byte // its query
	plainQuery
	to      udpio.FarEnd
	arrived time.Time
}

// ask has an upstream asked what packet i asks, with others in a burst. It
// is not ok where the zone is to see to it: all that is out of the ordinary.
func (p *packetConn) ask(i int) (ok bool) {
	z := p.fast.Zone
	q := p.fast.missed
	if _, ours := z.Authority(q.Name()); ours {
		return false
	}
	if has, routed := z.Fwd.HasRoute(q.Name()); !has || !routed && q.Name().IsSingle() {
		return false
	}
	return p.burst.Ask(q, func() forward.Client {
		packet := bytes.Clone(p.batch.Packet(i))
		c := &waitingClient{conn: p, addr: p.batch.From(i).Addr(), packet: packet, to: p.batch.FarEnd(i), arrived: p.begun.Add(p.arrived)}
		c.plainQuery, _ = p.fast.read(packet, dnswire.MaxUDPSize) // ok: it was before
		c.name = ""                                               // it is in the fast path's memory
		return c
	})
}

// Addr implements forward.Client.
func (c *waitingClient) Addr() netip.Addr { return c.addr }

var _ forward.Client = (*waitingClient)(nil)

// Reply sends the client r with others by out.
func (c *waitingClient) Reply(r *dnscache.Response, out *udpio.Batch) {
	z := c.conn.fast.Zone
	w := writer{zone: z, plainQuery: c.plainQuery, reply: out.Space()}
	if w.begin(c.packet, c.addr) && w.cached(r, r.Age()) {
		kind, counts := stats.Forwarded, z.Traffic.Shared(stats.UDP)
		if r.Age() > time.Since(c.arrived) {
			kind = stats.Cached
		}
		counts.Add(kind, r.Rcode(), c.qtype)
		counts.AddTime(kind, time.Since(c.arrived), 1)
		out.SendOn(c.conn.batch.Conn, w.finish(), &c.to)
		return
	}
	go c.cut(r)
}

// cut has the zone make a reply of r, which is too large for the client.
func (c *waitingClient) cut(r *dnscache.Response) {
	query, _ := dnswire.SanitizeQuery(c.packet)
	req := new(dns.Msg)
	if req.Unpack(query) != nil { // the fast path reads less
		return
	}
	z, to := c.conn.fast.Zone, udpio.NewPeer(udpio.AddrPort(&c.to.Name), c.to.Control)
	from := zone.Client{Addr: c.addr, Local: to.Local, Size: zone.UDPSize(req)}
	m, left := z.Reply(req, from)
	if said, err := r.Message(r.Age()); err == nil && left != nil {
		z.Relay(m, req, said, *left)
	}
	if m, b, _, err := z.Finish(m, req, from, nil); err == nil {
		_, _ = c.conn.WriteTo(b, to) // it can't be told
		z.Note(m, stats.Forwarded, from, time.Since(c.arrived), nil)
	}
}
