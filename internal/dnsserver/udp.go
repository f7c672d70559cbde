package dnsserver

import (
	"context"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/stats"
	"github.com/rayje/dnsdock/internal/udpio"
	"github.com/rayje/dnsdock/internal/zone"
)

// A UDP answers DNS over UDP. It reads packets in batches and answers most in
// place; what takes longer has a goroutine of its own. Replies leave from the
// address that the query came to, also on a host with several addresses.
type UDP struct {
	*Server
	conn    *net.UDPConn
	counts  *stats.Counts
	replay  *replayer
	batch   *udpio.Batch
	read    func() (count int, err error) // batch.Read; tests have others
	at      int                           // the packet of batch at hand
	single  bool                          // all goroutines share one processor
	arrived time.Time                     // when batch was read
	burst   *forward.Burst

	ending  chan struct{} // closed by Shutdown
	ended   chan struct{} // closed when Serve has returned
	waiting sync.WaitGroup
}

// UDP returns a server for conn, which it owns from then on.
func (s *Server) UDP(conn *net.UDPConn) *UDP {
	counts, batch := s.traffic.Take(stats.UDP), udpio.NewBatch(conn, udpio.WantDestinations(conn))
	return &UDP{
		Server: s, conn: conn, counts: counts, replay: s.newReplayer(counts), batch: batch, read: batch.Read,
		single: runtime.GOMAXPROCS(0) == 1, burst: s.fwd.NewBurst(s.ctx),
		ending: make(chan struct{}), ended: make(chan struct{}),
	}
}

// Serve answers queries until Shutdown, then returns nil.
func (u *UDP) Serve() error {
	defer close(u.ended)
	retry := retrier{log: u.log, message: "reading queries over UDP fails", addr: u.conn.LocalAddr(), ending: u.ending}
	for {
		count, err := u.read()
		if retry.isOver(err) {
			return nil
		}
		if err != nil {
			continue
		}
		u.arrived = time.Now() // one look at the clock for all packets of the batch
		for u.at = range count {
			u.handle(u.batch.Packet(u.at))
		}
		u.batch.Flush()
		u.burst.Flush()
		if u.replay.hasUntimed() {
			u.replay.took(time.Since(u.arrived))
		}
		if u.single && count == udpio.BatchSize { // more packets may wait, and other goroutines want to run too
			runtime.Gosched()
		}
	}
}

// Shutdown ends the server: it reads no more, and waits for the answers to
// what it has read until ctx is done.
func (u *UDP) Shutdown(ctx context.Context) error {
	close(u.ending)
	_ = u.conn.SetReadDeadline(time.Unix(1, 0)) // fails only if it is closed
	done := make(chan struct{})
	go func() {
		<-u.ended
		u.waiting.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
	return u.conn.Close()
}

// handle answers the packet at hand.
func (u *UDP) handle(packet []byte) {
	if reply := u.replay.answer(packet, u, dnswire.MaxUDPSize, u.batch.Space()); reply != nil {
		u.batch.Send(u.at, reply)
		return
	}
	if u.replay.missed != "" && u.ask(u.at) {
		return
	}
	if u.takes(packet, false) {
		u.transfer(packet)
		return
	}
	packet, reply := dnswire.SanitizeQuery(packet)
	switch {
	case packet != nil:
		u.decide(packet)
	case reply != nil:
		u.noteRejected(reply, u.client(), u.counts, time.Since(u.arrived))
		u.batch.Send(u.at, append(u.batch.Space(), reply...))
	}
}

// decide answers a query that no kept answer fits.
func (u *UDP) decide(packet []byte) {
	from := zone.Client{Addr: u.client(), Local: u.local()}
	t := task{Server: u.Server, from: from, over: stats.UDP, begun: u.arrived}
	var ok bool
	if t.query, ok = u.replay.read(packet, dnswire.MaxUDPSize); !ok {
		return // SanitizeQuery leaves none that can't be read
	}
	if t.from.Size = t.size; t.version != 0 {
		reply := t.writeBadVersion(u.batch.Space())
		t.note(stats.Refused, int(reply[3]&0xf), reply, nil)
		u.batch.Send(u.at, reply)
		return
	}
	if _, known := u.authority.Serves(t.from.Addr); known && u.replay.missed == "" {
		t.from.Quick = true
		if a := t.decide(); a != nil {
			reply := t.write(a, u.batch.Space())
			t.note(a.Kind, a.Rcode, reply, nil)
			u.batch.Send(u.at, reply)
			return
		}
		t.from.Quick = false
	}
	t.keep()
	peer := u.batch.Peer(u.at)
	u.waiting.Go(func() {
		a := t.decide()
		a.Complete()
		reply := t.write(a, nil)
		_, err := udpio.WriteTo(u.conn, reply, peer)
		t.note(a.Kind, a.Rcode, reply, err)
	})
}

// client returns the sender of the packet at hand.
func (u *UDP) client() netip.Addr { return u.batch.From(u.at).Addr() }

// local returns the address of ours that the packet at hand came to.
func (u *UDP) local() netip.Addr {
	if a := u.batch.Peer(u.at).Local; a.IsValid() {
		return a
	}
	return udpio.AddrOf(u.conn.LocalAddr())
}

func (u *UDP) now() time.Time { return u.arrived }

var _ source = (*UDP)(nil)

// A Batch has room for the queries that are read and the replies that are sent.
var (
	_ = [1]struct{}{}[udpio.MaxIn-dnswire.MaxQuery]
	_ = [1]struct{}{}[udpio.MaxOut-dnswire.MaxUDPSize]
)
