package forward

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnswire"
)

const (
	resendAfter = time.Second // of silence: a packet may be lost, or a connection dead
	// for the true reply to come after a false one, if other upstreams can be asked
	junkTime = 300 * time.Millisecond
)

var (
	errTimeout = errors.New("no answer in time")
	errClosed  = errors.New("the connection ended")
	errJunk    = errors.New("what came is no reply to the query")
	errFull    = errors.New("too many queries wait on the connection")
	errAway    = errors.New("it was tried often enough in this second")

	errUnreadable = errors.New("its reply can't be read")
	errFailure    = errors.New("its reply says that it can't help")
	errReferral   = errors.New("it only refers to other nameservers")
	errTruncated  = errors.New("its reply is truncated")
)

// An Upstream is a nameserver that answers what is not ours.
type Upstream struct {
	Server
	tls *tls.Config // nil: no TLS

	health   health
	queries  atomic.Uint64 // in all
	failures atomic.Uint64 // queries without a reply
	loop     loopWatch

	sockets pool // over UDP

	mu   sync.Mutex // guards what follows
	link *link      // over TCP or TLS; nil before the first
}

// newUpstream returns the upstream at s. The certificate of one with TLS must be signed by one of roots, those of
// the system if nil. Over UDP, as many queries in a second as freshPorts says get a port of their own.
func newUpstream(s Server, roots *x509.CertPool, freshPorts int) *Upstream {
	u := &Upstream{Server: s, sockets: pool{addr: net.UDPAddrFromAddrPort(s.Addr), maxFresh: freshPorts}}
	if s.TLS {
		name := s.CertName
		if name == "" {
			name = s.Addr.Addr().WithZone("").String()
		}
		u.tls = &tls.Config{ServerName: name, RootCAs: roots, MinVersion: tls.VersionTLS12,
			ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	}
	return u
}

// A query is a question that is asked of an upstream.
type query struct {
	dnscache.Question
	others bool            // there are other upstreams: after junk the wait is no longer than junkTime
	sent   func(id uint16) // is told the ID; may be nil
	silent func()          // is called after resendAfter without a reply; may be nil
	short  func(*dns.Msg)  // is told a truncated reply, before the upstream is asked over TCP; may be nil
}

// A sentQuery is a query that is out already, in a burst.
type sentQuery struct {
	socket *socket
	waiter *waiter
	at     time.Time
}

// ask sends q, unless it is out already as the one given, and returns the reply to it. The reply is truncated only
// if the upstream can't be asked over TCP. The wait ends with ctx.
func (u *Upstream) ask(ctx context.Context, q query, out *sentQuery) (*dns.Msg, error) {
	r, err := u.askOnce(ctx, q, q.Message(true, u.tls != nil), out)
	if err == nil && lacksEDNS(r) {
		r, err = u.askOnce(ctx, q, q.Message(false, false), nil)
	}
	return r, err
}

// lacksEDNS reports whether r is from a server that does not know EDNS (RFC 6891 section 7).
func lacksEDNS(r *dns.Msg) bool {
	return (r.Rcode == dns.RcodeFormatError || r.Rcode == dns.RcodeNotImplemented) && r.IsEdns0() == nil
}

// askOnce sends the message b, which asks q.
func (u *Upstream) askOnce(ctx context.Context, q query, b []byte, out *sentQuery) (*dns.Msg, error) {
	switch {
	case out != nil:
		defer out.socket.end(out.waiter)
		r, err := out.socket.await(ctx, q, out.waiter, out.at)
		return u.untruncated(ctx, q, b, r, err)
	case !u.health.mayTry():
		return nil, errAway
	case u.TLS || u.TCP:
		return u.sendStream(ctx, q, b)
	}
	s, err := u.sockets.take()
	if err != nil {
		return nil, err
	}
	r, err := s.exchange(ctx, q, b)
	return u.untruncated(ctx, q, b, r, err)
}

// untruncated asks once more over TCP if r is truncated.
func (u *Upstream) untruncated(ctx context.Context, q query, b []byte, r *dns.Msg, err error) (*dns.Msg, error) {
	if err != nil || !r.Truncated {
		return r, err
	}
	if q.short != nil {
		q.short(r)
	}
	if c, err := u.dial(ctx); err == nil {
		if whole, err := newSocket(c, 1).exchange(ctx, q, b); err == nil {
			return whole, nil
		}
	}
	return r, nil
}

// dial makes a connection over TCP, and TLS if that is configured.
func (u *Upstream) dial(ctx context.Context) (net.Conn, error) {
	if u.tls != nil {
		return (&tls.Dialer{Config: u.tls}).DialContext(ctx, "tcp", u.Addr.String())
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", u.Addr.String())
}

// exchange sends the message b for q under a random ID, and waits for the reply.
func (s *socket) exchange(ctx context.Context, q query, b []byte) (*dns.Msg, error) {
	w, err := s.begin(b)
	defer s.end(w)
	if err != nil {
		return nil, err
	}
	if q.sent != nil {
		q.sent(w.id)
	}
	if err := s.write(ctx, w.query); err != nil {
		return nil, fmt.Errorf("%w: %w", errClosed, err)
	}
	return s.await(ctx, q, w, time.Now())
}

// await waits for the reply to the query of w, which was sent at a time, and sends that again if it may have been
// lost. It drops what is no well-formed reply to the query, and waits on, so that who guesses wrong has gained
// nothing.
func (s *socket) await(ctx context.Context, q query, w *waiter, sent time.Time) (*dns.Msg, error) {
	resend := time.NewTimer(time.Until(sent.Add(resendAfter)))
	defer resend.Stop()
	var junk <-chan time.Time
	late := errTimeout
	for {
		select {
		case b, ok := <-w.replies:
			if !ok {
				return nil, s.cause()
			}
			if r, err := readReply(b); err == nil {
				return r, nil
			}
			if late = errJunk; b != nil {
				late = errUnreadable
			}
			if junk == nil && q.others {
				junk = time.After(junkTime)
			}
		case <-resend.C:
			if q.silent != nil {
				q.silent()
			}
			if !s.stream {
				_ = s.write(ctx, w.query) // it may have arrived the first time
			}
		case <-junk:
			return nil, late
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return nil, late
			}
			return nil, ctx.Err()
		}
	}
}

// readReply unpacks the reply b.
func readReply(b []byte) (*dns.Msg, error) {
	if len(b) >= dnswire.HeaderLen && dnswire.IsBareError(b) {
		return &dns.Msg{MsgHdr: dns.MsgHdr{Response: true, Rcode: int(b[3] & 0xf)}}, nil
	}
	return dnswire.UnpackReply(b)
}
