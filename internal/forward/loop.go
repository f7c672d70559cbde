package forward

import (
	"crypto/rand"
	"encoding/hex"
	"net/netip"
	"sync"
	"time"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnsname"
)

const (
	loopWait     = time.Second      // for a probe to come back: it goes the way of a query that came back already
	loopRest     = 10 * time.Second // after a probe that did not come back, until the next one
	loopLogEvery = time.Minute
)

// A loopWatch is the probes for a loop that one upstream gets.
type loopWatch struct {
	mu   sync.Mutex // guards what follows
	out  bool       // a probe is out
	next time.Time  // when the next one may be sent
}

// begins reports whether the caller must send a probe now.
func (w *loopWatch) begins() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.out || time.Now().Before(w.next) {
		return false
	}
	w.out = true
	return true
}

// ends notes whether the probe came back.
func (w *loopWatch) ends(looped bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.out = false
	if !looped {
		w.next = time.Now().Add(loopRest)
	}
}

// A loopProbe is a question for a random name of ours, below the name of a pending that may be going round in a
// loop. A query for it can only be our own, which came back by way of the upstream.
type loopProbe struct {
	upstream *Upstream
	suspect  *pending
	looped   bool // a query for it came; guarded by the forwarder's mu
}

// checkLoop looks at a query that asks what p does, which is out. It may be p's own, that came back to us: then it
// has its ID, where a packet filter sends all queries here, or comes from the upstream that is being asked. So may
// a client's, and only a probe tells. The channel is closed once the loop is proven; it is nil if there is nothing
// to suspect.
func (f *Forwarder) checkLoop(p *pending, id uint16, client netip.Addr) <-chan struct{} {
	if p.probe != nil {
		f.proveLoop(p.probe)
		return nil
	}
	at := p.asked.Load()
	if at == nil || at.id != id && at.upstream.Addr.Addr().WithZone("") != client {
		return nil
	}
	f.mu.Lock()
	if p.looped == nil {
		p.looped = make(chan struct{})
	}
	looped := p.looped
	f.mu.Unlock()
	f.probeLoop(at.upstream, p)
	return looped
}

// probeLoop sends a probe to u, on which p waits, unless one is out or was sent not long ago.
func (f *Forwarder) probeLoop(u *Upstream, p *pending) {
	if !u.loop.begins() {
		return
	}
	q := dnscache.NewQuestion(randomBelow(p.Name()), p.Qtype(), dnscache.RD)
	probe := &pending{Question: q, probe: &loopProbe{upstream: u, suspect: p}, done: make(chan struct{}),
		answer: dnscache.Failed(q)}
	close(probe.done)
	f.mu.Lock()
	f.pending[q] = probe
	f.mu.Unlock()
	f.askAside(u, q, loopWait, func(error) {
		f.mu.Lock()
		delete(f.pending, q)
		looped := probe.probe.looped
		f.mu.Unlock()
		u.loop.ends(looped)
	})
}

// randomBelow returns a name with a random label below n, or below the closest ancestor of n that leaves room for
// it.
func randomBelow(n dnsname.Name) dnsname.Name {
	var random [10]byte
	_, _ = rand.Read(random[:]) // never fails
	label := "dnsdock-" + hex.EncodeToString(random[:])
	for len(n)+1+len(label) > dnsname.MaxLen {
		n = n.Parent()
	}
	return dnsname.Name(string(rune(len(label)))+label) + n
}

// proveLoop takes note that a query for a probe came, and has those queries answered that are in the loop. It logs
// the loop, not more often than once in loopLogEvery.
func (f *Forwarder) proveLoop(probe *loopProbe) {
	if f.noteLoop(probe) {
		f.log.Warn("forwarding loop: the upstream asks dnsdock: give one of the two another nameserver",
			"upstream", probe.upstream, "name", probe.suspect.Name())
	}
}

// noteLoop is proveLoop without the log. It reports whether a line is due.
func (f *Forwarder) noteLoop(probe *loopProbe) (isDue bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if probe.looped {
		return false
	}
	probe.looped = true
	if probe.suspect.looped == nil {
		probe.suspect.looped = make(chan struct{})
	}
	select {
	case <-probe.suspect.looped: // by another probe
	default:
		close(probe.suspect.looped)
	}
	if isDue = time.Since(f.looped) > loopLogEvery; isDue {
		f.looped = time.Now()
	}
	return isDue
}
