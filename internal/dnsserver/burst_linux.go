//go:build amd64 || arm64 || 386 || arm || riscv64 || loong64

package dnsserver

import (
	"bytes"
	"net/netip"
	"time"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/stats"
	"github.com/rayje/dnsdock/internal/udpio"
	"github.com/rayje/dnsdock/internal/zone"
)

// A waitingClient is a client whose query is out in a burst.
type waitingClient struct {
	conn *UDP
	addr netip.Addr
	query
	to      udpio.FarEnd
	arrived time.Time
}

// ask asks an upstream what packet i asks, with others in a burst. It returns
// false if the Authority must see to it: everything unusual.
func (u *UDP) ask(i int) (ok bool) {
	q := u.replay.missed
	if !u.authority.IsPlain(q.Name()) {
		return false
	}
	return u.burst.Ask(q, func() forward.Client {
		packet := bytes.Clone(u.batch.Packet(i))
		c := &waitingClient{conn: u, addr: u.client(), to: u.batch.FarEnd(i), arrived: u.arrived}
		c.query, _ = u.replay.read(packet, dnswire.MaxUDPSize) // ok: it was before
		c.Name = ""                                            // it is in the reader's memory
		return c
	})
}

// Addr implements forward.Client.
func (c *waitingClient) Addr() netip.Addr { return c.addr }

var _ forward.Client = (*waitingClient)(nil)

// Reply sends the client r, with others by out.
func (c *waitingClient) Reply(r *dnscache.Response, out *udpio.Batch) {
	server := c.conn.Server
	if !server.authority.IsWhole(r.Question.Name(), r) {
		go c.follow(r)
		return
	}
	now, w := time.Now(), writer{server: server, query: c.query, reply: out.Space()}
	w.begin(true) // else the query would not be forwarded
	w.cached(r, now)
	kind, counts := stats.Forwarded, server.traffic.Shared(stats.UDP)
	if r.Born.Before(c.arrived) {
		kind = stats.Cached
	}
	counts.Add(kind, r.Rcode(), c.Type)
	counts.AddTime(kind, now.Sub(c.arrived), 1)
	out.SendOn(c.conn.batch.Conn(), w.finish(), &c.to)
}

// follow replies with r and what follows from it.
func (c *waitingClient) follow(r *dnscache.Response) {
	peer := c.to.Peer()
	t := task{
		Server: c.conn.Server, query: c.query, over: stats.UDP, begun: c.arrived,
		from: zone.Client{Addr: c.addr, Local: peer.Local, Size: c.size},
	}
	t.Name = r.Question.Name()
	a := t.decide()
	if a.IsOpen() {
		a.Relay(r)
	}
	a.Complete()
	reply := t.write(a, nil)
	_, err := udpio.WriteTo(c.conn.conn, reply, peer)
	t.note(a.Kind, a.Rcode, reply, err)
}
