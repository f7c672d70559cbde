//go:build amd64 || arm64 || 386 || arm || riscv64 || loong64

package forward

import (
	"context"
	"math"
	"net"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/udpio"
)

// Bursts are how queries are sent when there are many, from clients over UDP to an upstream over UDP: the goroutine
// that reads the clients' queries sends them on, many by one system call, and the goroutine that reads the
// upstream's socket reads many replies by one system call and answers the clients. So a query costs no goroutine.
// Everything unusual (errors, silence, truncation) falls back to Forwarder.run. They stay because they pay: without
// them forwarding takes 3.2 times dnsmasq's CPU for a query, with them 0.5 to 0.9 (go run ./bench -sections
// forward).

// A Client is who asked a question in a burst.
type Client interface {
	Addr() netip.Addr
	Reply(r *dnscache.Response, out *udpio.Batch) // queues its reply in out
}

// A burst is what a pending has whose query was sent in a burst.
type burst struct {
	ctx      context.Context // of the server's life
	upstream *Upstream
	socket   *socket
	waiter   *waiter
	client   Client
	here     place
	timer    *time.Timer // has Forwarder.run take over
	taken    atomic.Bool // somebody ends the pending, or runs it
}

// batches are batches that are not in use: they are large, and used for microseconds.
var batches = sync.Pool{New: func() any { return udpio.NewBatch(new(net.UDPConn), 0) }}

// A Burst collects questions for upstreams until Flush. It belongs to one goroutine.
type Burst struct {
	fwd *Forwarder
	ctx context.Context // of the server's life

	upstream *Upstream // of the last question; nil before the first since Flush
	socket   *socket
	conn     syscall.RawConn
	out      *udpio.Batch
}

// NewBurst returns an empty burst. When ctx is done, its questions end.
func (f *Forwarder) NewBurst(ctx context.Context) *Burst { return &Burst{fwd: f, ctx: ctx} }

// Ask has an upstream asked q, whose memory the caller may use again. The client that newClient makes gets the
// answer later. It reports false if the caller must call Forwarder.Answer instead.
func (b *Burst) Ask(q dnscache.Question, newClient func() Client) bool {
	g := b.fwd.groupFor(q.Name())
	if g == nil || len(g.upstreams) == 0 || !b.takeSocket(g.upstreams[0]) {
		return false
	}
	query, ok := b.begin(dnscache.Question(strings.Clone(string(q))), g, newClient())
	if query != nil {
		b.out.SendOn(b.conn, append(b.out.Space(), query...), nil)
	}
	return ok
}

// takeSocket makes b.socket a shared socket of u, the same one for questions that come together. It reports false
// while each query can have a socket of its own, and if u is not to be asked in bursts.
func (b *Burst) takeSocket(u *Upstream) bool {
	if u.health.isAway() || u.TLS || u.TCP {
		return false
	}
	if b.upstream == u && b.socket.take() {
		return true
	}
	s := u.sockets.takeShared()
	if s == nil {
		return false
	}
	if b.out == nil {
		b.out = batches.Get().(*udpio.Batch)
	}
	b.upstream, b.socket = u, s
	b.conn, _ = s.Conn.(syscall.Conn).SyscallConn() // fails only for a conn that is nil
	return true
}

// begin makes a pending of q. It returns the query to send, if any, and false if q is out already or too many wait.
func (b *Burst) begin(q dnscache.Question, g *group, c Client) (query []byte, ok bool) {
	here, ok := g.enter(c.Addr())
	if !ok {
		b.socket.end(new(waiter)) // it was taken for nothing
		return nil, false
	}
	p, isNew := b.fwd.join(q, g)
	if !isNew {
		here.leave()
		b.socket.end(new(waiter))
		return nil, false
	}
	p.burst = &burst{ctx: b.ctx, upstream: b.upstream, socket: b.socket, client: c, here: here}
	p.burst.waiter = &waiter{query: q.Message(true, false), pending: p}
	p.burst.timer = time.AfterFunc(math.MaxInt64, p.fail) // it must not fire before all that it needs is set
	if err := b.socket.add(p.burst.waiter); err != nil {
		p.takeOver(nil)
		return nil, true
	}
	p.burst.timer.Reset(min(resendAfter, b.fwd.Timeout))
	p.asked.Store(&asked{b.upstream, p.burst.waiter.id})
	return p.burst.waiter.query, true
}

// Flush sends the questions.
func (b *Burst) Flush() {
	if b.out != nil {
		b.out.Flush()
		batches.Put(b.out)
		b.upstream, b.socket, b.out = nil, nil, nil
	}
}

// complete ends p with a reply if that is a good one. The reply to the client goes to out.
func (p *pending) complete(reply []byte, out *udpio.Batch) {
	defer func() {
		if bug := recover(); bug != nil {
			p.fwd.logBug(p, bug, debug.Stack())
			p.takeOver(nil) // unless the bug came after the end of p
		}
	}()
	r := dnscache.PlainResponse(p.Question, reply)
	if r == nil {
		m, err := readReply(reply)
		if err == nil {
			r, err = readAnswer(p.Question, m)
		}
		if err != nil {
			p.takeOver(reply)
			return
		}
	}
	b := p.burst
	if b.taken.Swap(true) {
		return
	}
	b.timer.Stop()
	b.socket.end(b.waiter)
	b.upstream.queries.Add(1)
	p.fwd.noteReply(b.upstream)
	p.answer = r
	p.fwd.keep(p, r)
	p.fwd.finish(p, out)
}

// fail leaves p to Forwarder.run.
func (p *pending) fail() { p.takeOver(nil) }

// takeOver leaves p to Forwarder.run, with the reply that came, if it is not nil: the query stays out.
func (p *pending) takeOver(reply []byte) {
	b := p.burst
	if b.taken.Swap(true) {
		return
	}
	b.timer.Stop()
	b.socket.detach(b.waiter, reply)
	go p.fwd.run(b.ctx, p, &sentQuery{b.socket, b.waiter, p.begun})
}

// tell ends the wait of the client with r, by out if that is not nil.
func (b *burst) tell(r *dnscache.Response, out *udpio.Batch) {
	b.here.leave()
	if out == nil {
		out = batches.Get().(*udpio.Batch)
		defer func() {
			out.Flush()
			batches.Put(out)
		}()
	}
	b.client.Reply(r, out)
}

// readBursts is read for a socket that queries share. It reads as many replies by one system call as there are, and
// has no memory for them while there are none.
func (s *socket) readBursts() {
	conn, err := s.Conn.(syscall.Conn).SyscallConn()
	if err != nil {
		s.fail(err)
		return
	}
	var b *udpio.Batch
	receive := func(fd uintptr) (done bool) {
		b = batches.Get().(*udpio.Batch)
		if !b.TryRead(fd) {
			batches.Put(b)
			return false
		}
		return true
	}
	for {
		s.extend()
		for {
			err := conn.Read(receive)
			count := 0
			if err == nil {
				if count, err = b.Received(); err != nil {
					batches.Put(b)
				}
			}
			if err != nil {
				if s.isOver(err) {
					return
				}
				break
			}
			for i := range count {
				s.deliver(b.Packet(i), b)
			}
			b.Flush()
			batches.Put(b)
		}
	}
}
