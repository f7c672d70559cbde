//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"
)

const typeSOA, typeIXFR, typeAXFR = 6, 251, 252

// transfers measures zone transfers, and queries beside them.
func transfers(ctx context.Context, b *bench) error {
	const count = 100_000
	for _, kind := range kinds("dnsdock") {
		e, err := startEngine(b.dir, count)
		if err != nil {
			return err
		}
		s := &server{name: kind, addr: freePort(), done: make(chan struct{})}
		args := append(b.dnsdock(kind, e, s.addr.Port()), "-transfer=127.0.0.0/8")
		if err := s.start(ctx, server0, args); err != nil {
			return err
		}
		if err = s.await("nosuch.docker", nxDomain); err == nil {
			err = (&transferring{b, s, e}).run(ctx)
		}
		s.stop()
		if err := errors.Join(err, e.close()); err != nil {
			return fmt.Errorf("%w\n%s", err, &s.log)
		}
	}
	return nil
}

// A transferring is a server that gives zones of an engine's containers.
type transferring struct {
	*bench
	s *server
	e *engine
}

// run prints how long transfers take, and then how fast queries are answered beside them.
func (m *transferring) run(ctx context.Context) error {
	s, e := m.s, m.e
	// What reads the zones, and the engine, are this process: beside what asks.
	out, err := exec.CommandContext(ctx, "taskset", "-acp", client1, fmt.Sprint(os.Getpid())).CombinedOutput()
	if err != nil {
		return fmt.Errorf("taskset: %w: %s", err, out)
	}
	title("Zone transfer, %d containers, one processor", len(e.ids))
	fmt.Println("| server | what | ms | CPU ms | records | KB | resident MB then |")
	fmt.Println("|---|---|---|---|---|---|---|")
	var serial uint32
	var axfr time.Duration // processor time of a whole transfer
	for _, w := range []struct {
		name   string
		qtype  uint16
		change bool
	}{
		{"the first AXFR, since all names are answered", typeAXFR, false}, {"AXFR", typeAXFR, false},
		{"IXFR, since a change at dnsdock's engine", typeIXFR, true}, {"the same again", typeIXFR, true},
		{"AXFR", typeAXFR, false},
	} {
		before, begun := s.cpu(), time.Now()
		if w.change {
			e.toggle(0)
		}
		t := transfer{serial: serial}
		for err := error(nil); t.serial == serial && (w.qtype == typeIXFR || t.records == 0); {
			if t, err = transferOnce(s, 2, w.qtype, serial); err != nil && !errors.Is(err, errRefused) {
				return err
			}
			if err != nil || t.records == 1 {
				if time.Since(begun) > time.Minute {
					return fmt.Errorf("no %s for a minute: %w", w.name, err)
				}
				t.serial, t.records = serial, 0
				time.Sleep(10 * time.Millisecond)
			}
		}
		serial, axfr = t.serial, s.cpu()-before
		fmt.Printf("| %s | %s | %.0f | %.0f | %d | %d | %.1f |\n", s.name, w.name, 1000*time.Since(begun).Seconds(),
			1000*axfr.Seconds(), t.records, t.bytes/1024, s.rss())
	}
	return m.besides(ctx, axfr)
}

// besides compares queries beside transfers, of which each takes that processor time, with queries alone.
func (m *transferring) besides(ctx context.Context, axfr time.Duration) error {
	s, e := m.s, m.e
	hits := queries(len(e.ids), hit)
	besides := []string{"nothing", "1 transfer at a time", "10 transfers at a time", "a version a second"}
	busy := []func(context.Context) (int64, error){
		func(context.Context) (int64, error) { return 0, nil },
		func(ctx context.Context) (int64, error) { return transferFor(ctx, s, 1) },
		func(ctx context.Context) (int64, error) { return transferFor(ctx, s, 10) },
		func(ctx context.Context) (int64, error) { return e.toggleFor(ctx), nil },
	}
	var rate, slow, done [4][]figure
	for range *rounds {
		for i := range besides {
			for j, ask := range []load{m.batched(hits, 64), m.paced(hits, 20_000, 990)} {
				f, n, err := beside(ctx, s, ask, busy[i])
				if err != nil {
					return err
				}
				if j == 0 {
					rate[i], done[i] = append(rate[i], f), append(done[i], figure{rate: float64(n) / float64(*seconds)})
				} else {
					slow[i] = append(slow[i], f)
				}
			}
		}
	}
	title("UDP beside zone transfers, %d containers, one processor", len(e.ids))
	fmt.Println("| server | beside | queries/s (64 in flight, batched) | to nothing | zones/s " +
		"| processor that these leave | 20,000 queries/s: p99 µs |")
	fmt.Println("|---|---|---|---|---|---|---|")
	of := func(f figure) float64 { return f.rate }
	for i, name := range besides {
		zones, left := median(done[i], of), "" // that a version takes was not measured
		if i < 3 {
			left = fmt.Sprintf("%.2f", 1-zones*axfr.Seconds())
		}
		fmt.Printf("| %s | %s | %.0f | %.2f | %.1f | %s | %.0f |\n", s.name, name, median(rate[i], of),
			median(rate[i], of)/median(rate[0], of), zones, left,
			median(slow[i], func(f figure) float64 { return f.extra }))
	}
	return nil
}

// beside runs a load while something else is done, and returns how often that was.
func beside(
	ctx context.Context, s *server, ask load, busy func(context.Context) (int64, error),
) (f figure, n int64, err error) {
	during, end := context.WithCancel(ctx)
	defer end()
	var failed error
	var wg sync.WaitGroup
	wg.Go(func() { n, failed = busy(during) })
	f, err = ask(ctx, s)
	end()
	wg.Wait()
	return f, n, errors.Join(err, failed)
}

// toggle stops a container of the engine, or starts it again.
func (e *engine) toggle(i int) {
	id, action := e.ids[i], "die"
	if _, ok := e.stopped.LoadAndDelete(id); ok {
		action = "start"
	} else {
		e.stopped.Store(id, true)
	}
	e.events <- fmt.Sprintf(`{"Type":"container","Action":%q,"Actor":{"ID":%q}}`+"\n", action, id)
}

// toggleFor changes containers until ctx is done, and returns how many seconds began in which it did.
func (e *engine) toggleFor(ctx context.Context) (n int64) {
	for i := 0; ; i++ {
		e.toggle(i % 1000)
		if i%100 == 0 {
			n++
		}
		select {
		case <-ctx.Done():
			return n
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// transferFor transfers the zone again and again, that many times at once, until ctx is done.
func transferFor(ctx context.Context, s *server, atOnce int) (n int64, err error) {
	var done atomic.Int64
	var failed atomic.Value
	var wg sync.WaitGroup
	for i := range atOnce {
		wg.Go(func() {
			for ctx.Err() == nil && failed.Load() == nil {
				if _, err := transferOnce(s, byte(2+i/2), typeAXFR, 0); err != nil { // two from each address
					failed.Store(err)
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	err, _ = failed.Load().(error)
	return done.Load(), err
}

// A transfer is a zone or a difference that was read.
type transfer struct {
	serial         uint32
	records, bytes int
}

var errRefused = errors.New("the transfer was refused")

// transferOnce transfers the zone from 127.0.0.host.
func transferOnce(s *server, host byte, qtype uint16, serial uint32) (t transfer, err error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, host)}, Timeout: 5 * time.Second}
	c, err := d.Dial("tcp", s.addr.String())
	if err != nil {
		return t, err
	}
	defer c.Close()
	q := query(7, "docker", qtype)
	head := len(q)
	if qtype == typeIXFR {
		q[9] = 1 // an SOA in the authority section, of which only the serial is of use
		q = append(q, 0xc0, 12, 0, typeSOA, 0, 1, 0, 0, 0, 0, 0, 22, 0, 0)
		q = append(binary.BigEndian.AppendUint32(q, serial), make([]byte, 16)...)
	}
	if _, err := c.Write(append([]byte{byte(len(q) >> 8), byte(len(q))}, q...)); err != nil {
		return t, err
	}
	var soa []byte // the first record, which is the last one too
	var b [1<<16 + 2]byte
	for {
		if err := c.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			return t, err
		}
		if _, err := io.ReadFull(c, b[:2]); err != nil {
			return t, err
		}
		m := b[2 : 2+binary.BigEndian.Uint16(b[:])]
		if _, err := io.ReadFull(c, m); err != nil {
			return t, err
		}
		if m[3]&0xf != noError {
			return t, errRefused
		}
		t.bytes, t.records = t.bytes+len(m), t.records+int(binary.BigEndian.Uint16(m[6:]))
		if soa == nil {
			end := head + 12 + int(binary.BigEndian.Uint16(m[head+10:]))
			soa = bytes.Clone(m[head:end])
			t.serial = binary.BigEndian.Uint32(soa[len(soa)-20:])
		}
		if bytes.HasSuffix(m, soa) && (t.records > 1 || qtype == typeIXFR) {
			return t, nil
		}
	}
}
