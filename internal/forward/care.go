package forward

import (
	"context"
	"errors"
	"runtime/debug"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnsname"
)

// noteReply notes that u replied, and logs that it is back.
func (f *Forwarder) noteReply(u *Upstream) {
	if u.health.answered() {
		f.log.Info("upstream answers again", "upstream", u)
	}
}

// noteMiss notes that u did not reply to p, which was sent at a time.
func (f *Forwarder) noteMiss(u *Upstream, p *pending, sent time.Time, err error) {
	silent := errors.Is(err, errTimeout) || errors.Is(err, errJunk)
	if u.health.missed(p.Question, sent, !silent) {
		f.logAway(u, err)
		return
	}
	f.probeHealth(u)
	if silent && p.joined.Load() { // it may wait for us, by way of others
		f.probeLoop(u, p)
	}
}

func (f *Forwarder) logAway(u *Upstream, err error) {
	f.log.Warn("upstream does not answer", "upstream", u, "err", err)
}

// probeWait is how long a probe waits for a reply. A first query that has none is sent again after resendAfter,
// when the probe is sent too, and given up after UpstreamTimeout: then it must be known whether the next query is
// to wait as long.
const probeWait = 800 * time.Millisecond

// probeHealth asks u for the nameservers of the root, unless it is doing so already or u is away. Any server
// replies to that somehow, and at once.
func (f *Forwarder) probeHealth(u *Upstream) {
	if !u.health.probeBegins() {
		return
	}
	sent := time.Now()
	q := dnscache.NewQuestion(dnsname.Root, dns.TypeNS, dnscache.RD)
	f.askAside(u, q, probeWait, func(err error) {
		if u.health.probeEnds(isReply(err), sent) {
			f.logAway(u, err)
		}
	})
}

// retry asks those of the upstreams q that went away some time ago, for no client: so no client waits for an
// upstream that still is.
func (f *Forwarder) retry(ctx context.Context, upstreams []*Upstream, q dnscache.Question) {
	if len(upstreams) == 1 || ctx.Err() != nil { // a single one is asked whatever its state
		return
	}
	for _, u := range upstreams {
		if !u.health.retries() {
			continue
		}
		sent := time.Now()
		f.askAside(u, q, UpstreamTimeout, func(err error) {
			if isReply(err) {
				f.noteReply(u)
			} else {
				u.health.missed(q, sent, true)
			}
		})
	}
}

// isReply reports whether err, of Upstream.ask, means that the upstream replied.
func isReply(err error) bool { return err == nil || errors.Is(err, errUnreadable) }

// askAside asks u a question for which no client waits, and calls done with what came of it. The wait is no longer
// than f.Timeout and than limit.
func (f *Forwarder) askAside(u *Upstream, q dnscache.Question, limit time.Duration, done func(error)) {
	go func() {
		err := errUnreadable
		defer func() {
			if bug := recover(); bug != nil {
				f.log.Error("bug: a question to an upstream is left out", "upstream", u, "bug", bug, "stack",
					string(debug.Stack()))
			}
			done(err)
		}()
		ctx, cancel := context.WithTimeout(context.Background(), min(limit, f.Timeout))
		defer cancel()
		_, err = u.ask(ctx, query{Question: q}, nil)
	}()
}
