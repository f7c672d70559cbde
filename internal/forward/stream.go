package forward

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/miekg/dns"
)

// A link is a connection over TCP or TLS that all queries share, or the attempt to get one.
type link struct {
	made   chan struct{} // closed when what follows is known
	socket *socket
	err    error
}

// sendStream sends b over the connection that there is. A connection on which nothing comes for resendAfter may be
// dead without anyone saying so: then b is sent over a new one too, and the first reply counts (RFC 7766 section
// 6.2.4).
func (u *Upstream) sendStream(ctx context.Context, q query, b []byte) (*dns.Msg, error) {
	begun := time.Now()
	r, err := contest[*dns.Msg]{
		tries:    2,
		patience: func(i int) time.Duration { return resendAfter },
		try: func(ctx context.Context, i int) (*dns.Msg, error) {
			if i > 0 && !u.retireLink(begun) {
				return nil, errTimeout // the connection is alive, and the answer takes long
			}
			return u.sendLink(ctx, q, bytes.Clone(b))
		},
	}.run(ctx)
	if errors.Is(err, errTimeout) {
		u.retireLink(begun)
	}
	return r, err
}

// sendLink sends b over the connection. If that is closed, as servers do at any time, it takes a new one, unless
// nothing ever came over the last one.
func (u *Upstream) sendLink(ctx context.Context, q query, b []byte) (*dns.Msg, error) {
	for {
		l := u.connection()
		select {
		case <-l.made:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return nil, errTimeout
			}
			return nil, ctx.Err()
		}
		if l.err != nil {
			return nil, l.err
		}
		r, err := l.socket.exchange(ctx, q, b)
		if err == nil || !errors.Is(err, errClosed) || !l.socket.heardSince(time.Time{}) {
			return r, err
		}
	}
}

// connection returns the connection, which may still be in the making: as several queries may wait for it, none of
// them ends that.
func (u *Upstream) connection() *link {
	u.mu.Lock()
	defer u.mu.Unlock()
	if l := u.link; l != nil {
		select {
		case <-l.made:
			if l.err == nil && l.socket.take() {
				return l
			}
		default:
			return l
		}
	}
	l := &link{made: make(chan struct{})}
	u.link = l
	go func() {
		defer close(l.made)
		ctx, cancel := context.WithTimeout(context.Background(), UpstreamTimeout)
		defer cancel()
		c, err := u.dial(ctx)
		if l.err = err; err == nil {
			l.socket = newSocket(c, 0)
		}
	}()
	return l
}

// retireLink has the next query sent over a new connection, if nothing came over the present one since a time. It
// reports false if something did, or if a connection is being made.
func (u *Upstream) retireLink(since time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	l := u.link
	if l == nil {
		return true
	}
	select {
	case <-l.made:
	default:
		return false
	}
	switch {
	case l.err != nil || l.socket.born.After(since): // it is new
		return true
	case l.socket.heardSince(since):
		return false
	}
	l.socket.retire()
	return true
}
