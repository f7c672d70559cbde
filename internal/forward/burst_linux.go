//go:build amd64 || arm64 || 386 || arm || riscv64 || loong64

// Package forward asks other nameservers: which of them for which names, what to
// do when they fail, and who may ask. It knows neither services nor zones.
package forward

import (
	"context"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/udpio"
)

// A burst is what a flight is when many are out, which began with a query over
// UDP: it is sent, together with others, by the goroutine that reads the
// clients' queries, and its reply is read, and the client answered, by the one
// that reads the socket of the upstream. So a query costs few system calls and
// no goroutine. All that is out of the ordinary is left to fly.
type burst struct {
	ctx      context.Context
	upstream *Upstream
	socket   *Socket
	waiter   *Waiter
	timer    *time.Timer // resends or ends it, the first time after it is set
	begun    time.Time
	resent   bool // for the timer alone
	client   Client
	over     bool // it landed or fell; guarded by the forwarder's lock
}

// Bursts are batches that nobody uses: they are large, and used for microseconds.
var Bursts = sync.Pool{New: func() any { return udpio.NewBatch(new(net.UDPConn), 0) }}

// Depart has q asked of u over s, which was taken for it, for a client. It
// returns the query to be sent, if any; it is not ok where q is out already or
// too many wait.
func (f *Forwarder) Depart(ctx context.Context, q dnscache.Question, u *Upstream, s *Socket, c Client) (query []byte, ok bool) {
	who := Subnet(c.Address())
	if !f.enter(who) {
		s.End(new(Waiter)) // it was taken for nothing
		return nil, false
	}
	t, mine := f.board(q)
	if !mine {
		f.leave(who)
		s.End(new(Waiter)) // it was taken for nothing
		return nil, false
	}
	t.burst = &burst{ctx: ctx, upstream: u, socket: s, client: c, begun: time.Now()}
	t.waiter = &Waiter{Query: t.Question.Message(true, false), flight: t}
	t.timer = time.AfterFunc(min(resendAfter, t.patience()), t.late)
	if err := s.add(t.waiter); err != nil {
		t.fall(err)
		return nil, true
	}
	t.at.Store(&outing{u, t.waiter.id})
	return t.waiter.Query, true
}

// A burstClient is one whose query is out in a burst.
type Client interface {
	Address() netip.Addr
	Tell(r *dnscache.Response, out *udpio.Batch) // sends it r, by out if that is not nil
}

// patience is how long the first of all upstreams has, as in askAll.
func (t *Flight) patience() time.Duration {
	upstreams, _ := t.fwd.Upstreams(t.Name())
	return t.fwd.share(t.fwd.inAll(), len(upstreams), len(upstreams))
}

// late sends t's query once more, which may have got lost, and the next time
// ends it.
func (t *Flight) late() {
	left := t.patience() - time.Since(t.begun)
	if t.resent || left <= 0 {
		t.fall(ErrTimeout)
		return
	}
	t.resent = true
	_ = t.socket.write(t.waiter.Query)
	t.timer.Reset(left)
}

// claim reports whether t is the caller's to end.
func (t *Flight) claim() bool {
	t.fwd.Mu.Lock()
	defer t.fwd.Mu.Unlock()
	if t.over {
		return false
	}
	t.over = true
	return true
}

// land ends t with a reply if that is a good one; the client's goes to out.
func (t *Flight) land(reply []byte, out *udpio.Batch) {
	defer func() {
		if bug := recover(); bug != nil {
			t.fwd.noteBug(t, bug)
			t.fall(errJunk) // unless the bug came after its end
		}
	}()
	r := dnscache.PlainResponse(t.Question, reply)
	if r == nil {
		m := new(dns.Msg)
		if m.Unpack(reply) != nil || !Relayable(m) {
			return // it may still come
		}
		var err error
		if r, err = t.fwd.Read(t.Question, m); err != nil || IsFailure(m.Rcode) || m.Truncated {
			t.fall(nil)
			return
		}
	}
	if !t.claim() {
		return
	}
	t.timer.Stop()
	t.socket.End(t.waiter)
	t.fwd.Note(t.upstream, t, nil)
	t.answer = r
	t.fwd.Keep(t, r)
	t.fwd.arrive(t, out)
}

// fall leaves t to fly, after its query failed or what came was no answer.
func (t *Flight) fall(err error) {
	if !t.claim() {
		return
	}
	t.timer.Stop()
	t.socket.End(t.waiter)
	t.fwd.Note(t.upstream, t, err)
	go t.fwd.fly(t.ctx, t)
}

// Raw is the connection of a UDP socket.
func (s *Socket) Raw() syscall.RawConn {
	conn, _ := s.Conn.(syscall.Conn).SyscallConn() // fails only for a conn that is nil
	return conn
}

// readBursts is read, of as many replies by one system call as there are. It has no memory
// for them while there are none.
func (s *Socket) readBursts() {
	conn, err := s.Conn.(syscall.Conn).SyscallConn()
	if err != nil {
		s.fail(err)
		return
	}
	var b *udpio.Batch
	receive := func(fd uintptr) (done bool) {
		b = Bursts.Get().(*udpio.Batch)
		b.Reset()
		if !b.Recvmmsg(fd) {
			Bursts.Put(b)
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
				Bursts.Put(b)
			}
			if err != nil {
				if s.IsOver(err) {
					return
				}
				break
			}
			for i := range b.Got {
				s.Deliver(b.Packet(i), b)
			}
			b.Flush()
			Bursts.Put(b)
		}
	}
}
