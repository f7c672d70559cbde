package forward

import (
	"context"
	"errors"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/udpio"
)

// A pending is a question that upstreams are being asked. All clients that ask it meanwhile wait for the one
// answer: more than one query for it would help those who forge replies.
type pending struct {
	dnscache.Question
	fwd        *Forwarder
	group      *group
	begun      time.Time
	generation uint32 // of the cache then: an answer from before the cache was emptied is not kept

	done   chan struct{} // closed when answer is there
	answer *dnscache.Response

	asked  atomic.Pointer[asked] // the last query that was sent; nil before the first
	joined atomic.Bool           // another query asked the same meanwhile
	// closed once a loop is proven; nil before one is suspected; guarded by the forwarder's mu
	looped chan struct{}
	probe  *loopProbe // nil, unless the question is a probe for a loop

	burst *burst // nil, unless the query was sent in a burst
}

// asked is a query to an upstream.
type asked struct {
	upstream *Upstream
	id       uint16
}

// join returns the pending for q. If it is new, the caller must run it.
func (f *Forwarder) join(q dnscache.Question, g *group) (p *pending, isNew bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.pending[q]; p != nil {
		p.joined.Store(true)
		return p, false
	}
	p = &pending{Question: q, fwd: f, group: g, begun: time.Now(), generation: f.Cache.Generation(),
		done: make(chan struct{})}
	f.pending[q] = p
	return p, true
}

// run asks upstreams for the answer to p, and keeps it. If out is not nil, the first of them was asked already.
func (f *Forwarder) run(ctx context.Context, p *pending, out *sentQuery) {
	p.answer = dnscache.Failed(p.Question)
	defer func() {
		if bug := recover(); bug != nil {
			f.logBug(p, bug, debug.Stack())
		}
		f.finish(p, nil)
	}()
	a := newAttempts(p, out)
	answer := a.run(ctx)
	if ctx.Err() == nil {
		p.answer = f.keep(p, answer)
	}
	f.retry(ctx, a.order, p.Question)
}

// finish ends p, whose answer is there.
func (f *Forwarder) finish(p *pending, out *udpio.Batch) {
	f.mu.Lock()
	delete(f.pending, p.Question)
	f.mu.Unlock()
	close(p.done)
	if p.burst != nil {
		p.burst.tell(p.answer, out)
	}
}

// keep keeps a while it is good, and returns the answer to give: if a is a failure, a stale answer if there is one.
func (f *Forwarder) keep(p *pending, a *dnscache.Response) *dnscache.Response {
	if a.Rcode() == dns.RcodeServerFailure {
		if old := f.Cache.Get(p.Question); old != nil && old.At(old.Age(time.Now())) != dnscache.Dead {
			old.Tire()
			return old
		}
	}
	hadAll := p.Flags()&dnscache.RD != 0 // without it upstreams tell only what they have at hand
	if a.Good > 0 && hadAll && p.generation == f.Cache.Generation() {
		f.Cache.Put(a)
	}
	return a
}

func (f *Forwarder) logBug(p *pending, bug any, stack []byte) {
	f.log.Error("bug: the upstreams' answer is left out", "name", p.Name(), "bug", bug, "stack", string(stack))
}

// attempts are the ways to get the answer to one pending: its upstreams in order, those that are away last.
type attempts struct {
	*pending
	order []*Upstream
	out   *sentQuery    // the query to the first of order, if it was sent already
	noted []atomic.Bool // that the attempt has had no reply

	mu       sync.Mutex         // guards what follows
	fallback *dnscache.Response // the best answer so far that is not good: truncated, or a failure with its reason
	from     int                // the upstream that fallback is from
}

func newAttempts(p *pending, out *sentQuery) *attempts {
	n := len(p.group.upstreams)
	a := &attempts{pending: p, order: slices.Clone(p.group.upstreams), out: out, noted: make([]atomic.Bool, n)}
	rank := func(u *Upstream) int {
		switch {
		case out != nil && u == p.burst.upstream:
			return 0
		case u.health.isAway():
			return 2
		}
		return 1
	}
	slices.SortStableFunc(a.order, func(x, y *Upstream) int { return rank(x) - rank(y) })
	return a
}

// run returns the first good answer, else the best of the others.
func (a *attempts) run(ctx context.Context) *dnscache.Response {
	all := 2 * a.fwd.Timeout
	limited, cancel := context.WithDeadline(ctx, a.begun.Add(all))
	defer cancel()
	r, err := contest[*dnscache.Response]{
		tries:    len(a.order),
		patience: func(i int) time.Duration { return share(all, time.Since(a.begun), i, len(a.order)) },
		late:     func(i int, begun time.Time) { a.miss(i, begun, errTimeout) },
		try:      a.try,
	}.run(limited)
	if err == nil {
		return r
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fallback != nil {
		return a.fallback
	}
	failed := dnscache.Failed(a.Question)
	failed.EDE = dnscache.ExtendedError(dns.ExtendedErrorCodeNoReachableAuthority)
	return failed
}

// share returns how long upstream i of n may take until the next one is asked too, if some of the time for all of
// them is over. The first one gets half of it, to look things up.
func share(all, over time.Duration, i, n int) time.Duration {
	switch i {
	case n - 1:
		return all // until the end
	case 0:
		return all/2 - over
	}
	return (all - over) / time.Duration(n-i)
}

// try asks upstream i. An error says that another upstream may have a better answer.
func (a *attempts) try(ctx context.Context, i int) (answer *dnscache.Response, err error) {
	defer func() {
		if bug := recover(); bug != nil {
			a.fwd.logBug(a.pending, bug, debug.Stack())
			err = errUnreadable
		}
	}()
	u := a.order[i]
	q := query{
		Question: a.Question,
		others:   i < len(a.order)-1,
		sent:     func(id uint16) { a.asked.Store(&asked{u, id}) },
		silent:   func() { a.fwd.probeHealth(u) },
		short:    func(r *dns.Msg) { _, _ = a.read(i, r) }, // for the case that all else takes too long
	}
	var out *sentQuery
	if i == 0 {
		out = a.out
	}
	begun := time.Now()
	r, err := u.ask(ctx, q, out)
	if errors.Is(err, errAway) {
		return nil, err
	}
	u.queries.Add(1)
	switch {
	case errors.Is(err, context.Canceled):
		return nil, err
	case err == nil, errors.Is(err, errUnreadable):
		a.fwd.noteReply(u)
	default:
		a.miss(i, begun, err)
	}
	if err != nil {
		return nil, err
	}
	return a.read(i, r)
}

// read makes an answer of a reply of upstream i.
func (a *attempts) read(i int, r *dns.Msg) (*dnscache.Response, error) {
	answer, err := readAnswer(a.Question, r)
	if err == nil {
		return answer, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if answer != nil && (a.fallback == nil || a.from == i || errors.Is(err, errTruncated)) {
		a.fallback, a.from = answer, i
	}
	return nil, err
}

// miss notes once that attempt i, which began at a time, has had no reply.
func (a *attempts) miss(i int, begun time.Time, err error) {
	if a.noted[i].Swap(true) {
		return
	}
	u := a.order[i]
	u.failures.Add(1)
	a.fwd.noteMiss(u, a.pending, begun, err)
}
