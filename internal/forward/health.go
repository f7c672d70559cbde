package forward

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rayje/dnsdock/internal/dnscache"
)

const (
	// different questions without a reply: one may be lost, or be of a kind that the server ignores
	awayAfter  = 3
	firstRetry = time.Second      // until an upstream that is away is tried again: it doubles
	lastRetry  = 32 * time.Second // with each try that fails, up to this
	// queries in a second to an upstream that is away: each costs much and is likely for nothing
	maxTries = 50
)

// health is whether an upstream answers. Silence about one question is not absence: servers ignore types that they
// don't know, and look-ups take long. An upstream is away once several different questions in a row had no reply,
// or a probe that any server answers had none either. Any reply ends that.
type health struct {
	troubled  atomic.Bool  // a question is in unanswered, or away is set; so that a reply usually need not lock
	away      atomic.Bool  // set with mu held
	lastReply atomic.Int64 // in Unix nanoseconds

	mu         sync.Mutex // guards what follows
	unanswered []dnscache.Question
	refused    bool // the upstream did not only keep silent: nothing can be sent there
	probing    bool // a probe is out
	retryAt    time.Time
	backoff    time.Duration
	second     int64 // of Unix time, in which
	tries      int   // that many queries were sent while the upstream was away
}

func (h *health) isAway() bool { return h.away.Load() }

// answered notes a reply, and reports whether the upstream was away before.
func (h *health) answered() (wasAway bool) {
	h.lastReply.Store(time.Now().UnixNano())
	if !h.troubled.Load() {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	wasAway = h.away.Swap(false)
	h.troubled.Store(false)
	h.unanswered, h.refused, h.backoff = nil, false, 0
	return wasAway
}

// missed notes that q, sent at a time, has no reply. It reports whether the upstream is away from now on. With
// refused nothing could be sent, which does not depend on the question.
func (h *health) missed(q dnscache.Question, sent time.Time, refused bool) (gone bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.heardSince(sent) {
		return false
	}
	h.troubled.Store(true)
	h.refused = h.refused || refused
	if h.away.Load() {
		h.delayLocked()
		return false
	}
	if !slices.Contains(h.unanswered, q) {
		h.unanswered = append(h.unanswered, q)
	}
	isOther := func(o dnscache.Question) bool { return o.Qtype() != h.unanswered[0].Qtype() }
	if len(h.unanswered) > 2*awayAfter {
		h.unanswered = slices.Delete(h.unanswered, 1, 2)
	}
	if len(h.unanswered) < awayAfter || !h.refused && !slices.ContainsFunc(h.unanswered, isOther) {
		return false
	}
	h.leaveLocked()
	return true
}

// probeBegins reports whether the caller must send a probe now: none is out, and the upstream is not away already.
func (h *health) probeBegins() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.probing || h.away.Load() {
		return false
	}
	h.probing = true
	return true
}

// probeEnds notes what came of a probe that was sent at a time. It reports whether the upstream is away from now
// on.
func (h *health) probeEnds(replied bool, sent time.Time) (gone bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.probing = false
	if replied || h.away.Load() || h.heardSince(sent) {
		return false
	}
	h.troubled.Store(true)
	h.leaveLocked()
	return true
}

func (h *health) heardSince(t time.Time) bool { return h.lastReply.Load() > t.UnixNano() }

func (h *health) leaveLocked() {
	h.away.Store(true)
	h.delayLocked()
}

// delayLocked sets when the upstream is tried again.
func (h *health) delayLocked() {
	h.backoff = min(max(2*h.backoff, firstRetry), lastRetry)
	h.retryAt = time.Now().Add(h.backoff)
}

// retries reports whether the caller must try now whether the upstream, which is away, is back. It does so once.
func (h *health) retries() bool {
	if !h.away.Load() {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if !h.away.Load() || now.Before(h.retryAt) {
		return false
	}
	h.retryAt = now.Add(lastRetry) // the try itself moves it
	return true
}

// mayTry reports whether a query may be sent: of those to an upstream that is away, some in each second.
func (h *health) mayTry() bool {
	if !h.away.Load() {
		return true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if now := time.Now().Unix(); now != h.second {
		h.second, h.tries = now, 0
	}
	h.tries++
	return h.tries <= maxTries
}
