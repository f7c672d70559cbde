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
		c := &waitingClient{conn: u, addr: u.client(), to: u.batch.FarEnd(i), arrived: u.begun.Add(u.arrived)}
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
	w := writer{server: server, query: c.query, reply: out.Space()}
	w.begin(true) // else the query would not be forwarded
	w.cached(r)
	kind, counts := stats.Forwarded, server.traffic.Shared(stats.UDP)
	if r.Age() > time.Since(c.arrived) {
		kind = stats.Cached
	}
	counts.Add(kind, r.Rcode(), c.Type)
	counts.AddTime(kind, time.Since(c.arrived), 1)
	out.SendOn(c.conn.batch.Conn, w.finish(), &c.to)
}
