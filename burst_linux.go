//go:build amd64 || arm64 || 386 || arm || riscv64 || loong64

package main

import (
	"bytes"
	"context"
	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/stats"
	"github.com/rayje/dnsdock/internal/udpio"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

// A burst is what a flight is when many are out, which began with a query over
// UDP: it is sent, together with others, by the goroutine that reads the
// clients' queries, and its reply is read, and the client answered, by the one
// that reads the socket of the upstream. So a query costs few system calls and
// no goroutine. All that is out of the ordinary is left to fly.
type burst struct {
	ctx      context.Context
	upstream *upstream
	socket   *socket
	waiter   *waiter
	timer    *time.Timer // resends or ends it, the first time after it is set
	begun    time.Time
	resent   bool // for the timer alone
	client   *waitingClient
	over     bool // it landed or fell; guarded by the forwarder's lock
}

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
	upstream *upstream
	socket   *socket
	conn     syscall.RawConn
	out      *udpio.Batch
}

// bursts are batches that nobody uses: they are large, and used for microseconds.
var bursts = sync.Pool{New: func() any { return udpio.NewBatch(new(net.UDPConn), 0) }}

// ask has an upstream asked what packet i asks, with others in a burst. It
// is not ok where the zone is to see to it: all that is out of the ordinary.
func (p *packetConn) ask(i int) (ok bool) {
	z := p.fast.zone
	q := p.fast.missed
	if _, ours := z.authority(q.Name()); ours {
		return false
	}
	upstreams, routed := z.fwd.upstreams(q.Name())
	if len(upstreams) == 0 || !routed && dnsname.IsSingle(q.Name()) {
		return false
	}
	s := p.socketOf(upstreams[0])
	if s == nil {
		return false
	}
	from := p.batch.From(i)
	c := &waitingClient{conn: p, addr: from.Addr(), packet: bytes.Clone(p.batch.Packet(i)), arrived: p.begun.Add(p.arrived)}
	c.plainQuery, _ = p.fast.read(p.batch.Packet(i), dnswire.MaxUDPSize) // ok: it was before
	c.name = ""                                                          // it is in the fast path's memory
	t := z.fwd.depart(dnscache.Question(bytes.Clone([]byte(q))), c)
	if t == nil {
		s.end(new(waiter)) // it was taken for nothing
		return false
	}
	c.to = p.batch.FarEnd(i)
	t.ctx, t.upstream, t.socket = z.ctx, upstreams[0], s
	t.waiter = &waiter{query: t.Question.Message(true, false), flight: t}
	t.timer = time.AfterFunc(min(resendAfter, t.patience()), t.late)
	if err := s.add(t.waiter); err != nil {
		t.fall(err)
		return true
	}
	t.at.Store(&outing{t.upstream, t.waiter.id})
	p.asked.out.SendOn(p.asked.conn, append(p.asked.out.Space(), t.waiter.query...), nil)
	return true
}

// socketOf returns a shared socket of u: one for as many queries as
// come together.
func (p *packetConn) socketOf(u *upstream) *socket {
	if p.asked != nil && p.asked.upstream == u && p.asked.socket.take() {
		return p.asked.socket
	}
	s := u.shared()
	if s == nil {
		return nil
	}
	if p.asked == nil {
		p.asked = &asked{out: bursts.Get().(*udpio.Batch)}
	}
	p.asked.upstream, p.asked.socket = u, s
	p.asked.conn, _ = s.Conn.(syscall.Conn).SyscallConn() // fails only for a conn that is nil
	return s
}

// flush sends the replies, and the queries to upstreams, that are queued.
func (p *packetConn) flush() {
	p.batch.Flush()
	if p.asked != nil {
		p.asked.out.Flush()
		bursts.Put(p.asked.out)
		p.asked = nil
	}
}

// depart returns a flight of q for a client, nil if q is out already or too
// many wait.
func (f *forwarder) depart(q dnscache.Question, c *waitingClient) *flight {
	who := subnet(c.addr)
	if !f.enter(who) {
		return nil
	}
	t, mine := f.board(q)
	if !mine {
		f.leave(who)
		return nil
	}
	t.burst = &burst{client: c, begun: time.Now()}
	return t
}

// patience is how long the first of all upstreams has, as in askAll.
func (t *flight) patience() time.Duration {
	upstreams, _ := t.fwd.upstreams(t.Name())
	return t.fwd.share(t.fwd.inAll(), len(upstreams), len(upstreams))
}

// late sends t's query once more, which may have got lost, and the next time
// ends it.
func (t *flight) late() {
	left := t.patience() - time.Since(t.begun)
	if t.resent || left <= 0 {
		t.fall(errTimeout)
		return
	}
	t.resent = true
	_ = t.socket.write(t.waiter.query)
	t.timer.Reset(left)
}

// claim reports whether t is the caller's to end.
func (t *flight) claim() bool {
	t.fwd.mu.Lock()
	defer t.fwd.mu.Unlock()
	if t.over {
		return false
	}
	t.over = true
	return true
}

// land ends t with a reply if that is a good one; the client's goes to out.
func (t *flight) land(reply []byte, out *udpio.Batch) {
	defer func() {
		if bug := recover(); bug != nil {
			t.fwd.noteBug(t, bug)
			t.fall(errJunk) // unless the bug came after its end
		}
	}()
	r := dnscache.PlainResponse(t.Question, reply)
	if r == nil {
		m := new(dns.Msg)
		if m.Unpack(reply) != nil || !relayable(m) {
			return // it may still come
		}
		var err error
		if r, err = t.fwd.read(t.Question, m); err != nil || isFailure(m.Rcode) || m.Truncated {
			t.fall(nil)
			return
		}
	}
	if !t.claim() {
		return
	}
	t.timer.Stop()
	t.socket.end(t.waiter)
	t.fwd.note(t.upstream, t, nil)
	t.answer = r
	t.fwd.keep(t, r)
	t.fwd.arrive(t, out)
}

// fall leaves t to fly, after its query failed or what came was no answer.
func (t *flight) fall(err error) {
	if !t.claim() {
		return
	}
	t.timer.Stop()
	t.socket.end(t.waiter)
	t.fwd.note(t.upstream, t, err)
	go t.fwd.fly(t.ctx, t)
}

// tell sends the client r, by out if that is not nil.
func (c *waitingClient) tell(r *dnscache.Response, out *udpio.Batch) {
	if out == nil {
		out = bursts.Get().(*udpio.Batch)
		defer func() {
			out.Flush()
			bursts.Put(out)
		}()
	}
	z := c.conn.fast.zone
	w := writer{zone: z, plainQuery: c.plainQuery, reply: out.Space()}
	if w.begin(c.packet, c.addr) && w.cached(r, time.Since(r.Born)) {
		kind, counts := stats.Forwarded, z.traffic.Shared(stats.UDP)
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
	query, _ := dnswire.Screen(c.packet)
	req := new(dns.Msg)
	if req.Unpack(query) != nil { // the fast path reads less
		return
	}
	z, to := c.conn.fast.zone, udpio.NewPeer(udpio.AddrPort(&c.to.Name), c.to.Control)
	from := client{addr: c.addr, local: to.Local, size: udpSize(req)}
	m, left := z.reply(req, from)
	if said, err := r.Message(time.Since(r.Born)); err == nil && left != nil {
		z.relay(m, req, said, *left)
	}
	if m, b, _, err := z.finish(m, req, from, nil); err == nil {
		_, _ = c.conn.WriteTo(b, to) // it can't be told
		z.note(m, stats.Forwarded, from, time.Since(c.arrived), nil)
	}
}

// readBursts is read, of as many replies by one system call as there are. It has no memory
// for them while there are none.
func (s *socket) readBursts() {
	conn, err := s.Conn.(syscall.Conn).SyscallConn()
	if err != nil {
		s.fail(err)
		return
	}
	var b *udpio.Batch
	receive := func(fd uintptr) (done bool) {
		b = bursts.Get().(*udpio.Batch)
		b.Reset()
		if !b.Recvmmsg(fd) {
			bursts.Put(b)
			return false
		}
		return true
	}
	for {
		_ = s.SetReadDeadline(time.Now().Add(s.idle)) // fails where the read does
		for {
			err := conn.Read(receive)
			if err == nil && b.Errno != 0 {
				err = os.NewSyscallError("recvmmsg", b.Errno)
				b.Got = udpio.BatchSize
				bursts.Put(b)
			}
			if err != nil {
				if s.isOver(err) {
					return
				}
				break
			}
			for i := range b.Got {
				s.deliver(b.Packet(i), b)
			}
			b.Flush()
			bursts.Put(b)
		}
	}
}
