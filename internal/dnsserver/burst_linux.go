//go:build amd64 || arm64 || 386 || arm || riscv64 || loong64

// Package dnsserver serves a zone over UDP, with a fast path in front of it, and
// over TCP.
package dnsserver

import (
	"bytes"
	"net/netip"
	"syscall"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/stats"
	"github.com/rayje/dnsdock/internal/udpio"
	"github.com/rayje/dnsdock/internal/zone"
)

// Bursts stay because they pay: without them dnsdock forwards with 3.2 times
// dnsmasq's CPU per query, with them 0.5 to 0.9 (go run ./bench -sections forward).

// A waitingClient is one whose query is out in a burst.
type waitingClient struct {
	conn   *packetConn
	addr   netip.Addr
	packet []byte // its query
	plainQuery
	to      udpio.FarEnd
	arrived time.Time
}

// asked are the queries to an upstream that a packetConn has not sent yet.
type asked struct {
	upstream *forward.Upstream
	socket   *forward.Socket
	conn     syscall.RawConn
	out      *udpio.Batch
}

// ask has an upstream asked what packet i asks, with others in a burst. It
// is not ok where the zone is to see to it: all that is out of the ordinary.
func (p *packetConn) ask(i int) (ok bool) {
	z := p.fast.Zone
	q := p.fast.missed
	if _, ours := z.Authority(q.Name()); ours {
		return false
	}
	upstreams, routed := z.Fwd.Upstreams(q.Name())
	if len(upstreams) == 0 || !routed && q.Name().IsSingle() {
		return false
	}
	s := p.socketOf(upstreams[0])
	if s == nil {
		return false
	}
	c := &waitingClient{conn: p, addr: p.batch.From(i).Addr(), packet: bytes.Clone(p.batch.Packet(i)), to: p.batch.FarEnd(i), arrived: p.begun.Add(p.arrived)}
	c.plainQuery, _ = p.fast.read(p.batch.Packet(i), dnswire.MaxUDPSize) // ok: it was before
	c.name = ""                                                          // it is in the fast path's memory
	query, ok := z.Fwd.Depart(z.Ctx, dnscache.Question(bytes.Clone([]byte(q))), upstreams[0], s, c)
	if query != nil {
		p.asked.out.SendOn(p.asked.conn, append(p.asked.out.Space(), query...), nil)
	}
	return ok
}

// Address is where the query is from.
func (c *waitingClient) Address() netip.Addr { return c.addr }

// socketOf returns a shared socket of u: one for as many queries as
// come together.
func (p *packetConn) socketOf(u *forward.Upstream) *forward.Socket {
	if p.asked != nil && p.asked.upstream == u && p.asked.socket.Take() {
		return p.asked.socket
	}
	s := u.Shared()
	if s == nil {
		return nil
	}
	if p.asked == nil {
		p.asked = &asked{out: forward.Bursts.Get().(*udpio.Batch)}
	}
	p.asked.upstream, p.asked.socket = u, s
	p.asked.conn = s.Raw()
	return s
}

// flush sends the replies, and the queries to upstreams, that are queued.
func (p *packetConn) flush() {
	p.batch.Flush()
	if p.asked != nil {
		p.asked.out.Flush()
		forward.Bursts.Put(p.asked.out)
		p.asked = nil
	}
}

// Tell sends the client r, by out if that is not nil.
func (c *waitingClient) Tell(r *dnscache.Response, out *udpio.Batch) {
	if out == nil {
		out = forward.Bursts.Get().(*udpio.Batch)
		defer func() {
			out.Flush()
			forward.Bursts.Put(out)
		}()
	}
	z := c.conn.fast.Zone
	w := writer{zone: z, plainQuery: c.plainQuery, reply: out.Space()}
	if w.begin(c.packet, c.addr) && w.cached(r, time.Since(r.Born)) {
		kind, counts := stats.Forwarded, z.Traffic.Shared(stats.UDP)
		if r.Born.Before(c.arrived) {
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
	if said, err := r.Message(time.Since(r.Born)); err == nil && left != nil {
		z.Relay(m, req, said, *left)
	}
	if m, b, _, err := z.Finish(m, req, from, nil); err == nil {
		_, _ = c.conn.WriteTo(b, to) // it can't be told
		z.Note(m, stats.Forwarded, from, time.Since(c.arrived), nil)
	}
}
