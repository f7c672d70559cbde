package dnsserver

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/stats"
	"github.com/rayje/dnsdock/internal/udpio"
	"github.com/rayje/dnsdock/internal/zone"
)

// An Authority decides answers. Its methods may be called at the same time.
type Authority interface {
	// Decide answers req as far as that takes no upstream. It returns nil if a client wants a quick answer that is not.
	Decide(req *dns.Msg, c zone.Client) *zone.Answer
	// Cached returns what upstreams have said to q, nil if that is not known or no longer good. It reports whether
	// upstreams may be asked q.
	Cached(q dnscache.Question) (r *dnscache.Response, foreign bool)
	// IsPlain reports whether a question about n is for upstreams, and Decide has nothing else to say about it.
	IsPlain(n dnsname.Name) bool
	// Serves reports whether a client's queries may be forwarded, and whether that is known without a wait.
	Serves(client netip.Addr) (serves, known bool)
	// ForcedTTL returns the TTL of all forwarded records, or dnscache.OwnTTL.
	ForcedTTL() int64
}

var _ Authority = (*zone.Resolver)(nil)

// Changes says whether a kept answer is still true.
type Changes interface {
	// Version returns a number that grows with each change: with the same version all answers are the same.
	Version() uint32
	// Stamp returns a number that grows with each change of what is found for n alone.
	Stamp(n dnsname.Name) uint32
	// SOASerial returns the serial for SOA records.
	SOASerial() uint32
	// NetworksOf returns a number that two clients have in common if they are on the same networks.
	NetworksOf(client netip.Addr) uint64
}

// A Server answers the queries that come to its sockets.
type Server struct {
	authority Authority
	changes   Changes
	fwd       *forward.Forwarder // asked in bursts
	traffic   *stats.Traffic
	log       *slog.Logger
	ctx       context.Context // ends what is asked in bursts
	answers   *answerCache
}

// New returns a server without sockets. When ctx is done, the queries that
// are being forwarded end.
func New(ctx context.Context, a Authority, c Changes, fwd *forward.Forwarder, traffic *stats.Traffic, log *slog.Logger) *Server {
	return &Server{authority: a, changes: c, fwd: fwd, traffic: traffic, log: log, ctx: ctx, answers: newAnswerCache()}
}

// Run drops kept answers that clients no longer ask for, until ctx is done.
func (s *Server) Run(ctx context.Context) error {
	tick := time.NewTicker(tidyPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.answers.tidy()
		}
	}
}

// logsQueries reports whether each query is logged.
func (s *Server) logsQueries() bool { return s.log.Enabled(s.ctx, slog.LevelDebug) }

// A task is a query on its way to its answer.
type task struct {
	req   *dns.Msg
	from  zone.Client
	over  stats.Transport
	later func(func())       // runs what has to wait for an upstream
	send  func([]byte) error // sends the reply
}

// answer answers a query that no kept answer fits.
func (s *Server) answer(t task) {
	begun := time.Now()
	a := s.authority.Decide(t.req, t.from)
	if !a.IsOpen() {
		s.send(a, t, begun)
		return
	}
	t.later(func() {
		a.Complete()
		s.send(a, t, begun)
	})
}

// answerNow is answer for a client that wants a quick answer. It returns false
// if the answer is not quick.
func (s *Server) answerNow(t task) bool {
	begun := time.Now()
	a := s.authority.Decide(t.req, t.from)
	if a == nil {
		return false
	}
	s.send(a, t, begun)
	return true
}

// send sends an answer that was begun at a time.
func (s *Server) send(a *zone.Answer, t task, begun time.Time) {
	b, err := s.pack(a, t)
	if err == nil {
		err = t.send(b)
	}
	s.note(a, t, time.Since(begun), err)
}

// pack returns a in wire format, in as many bytes as the client takes. It
// keeps the whole answer for the next client if that is allowed.
func (s *Server) pack(a *zone.Answer, t task) ([]byte, error) {
	if basis, ok := a.Basis(); ok && !s.logsQueries() {
		b, err := a.Pack(dns.MaxMsgSize)
		if err != nil {
			return b, err
		}
		s.keep(a.Msg, b, basis, t.from)
		if len(b) <= t.from.Size {
			return b, nil
		}
	}
	return a.Pack(t.from.Size)
}

// note counts and logs an answer. Err is the error of sending it.
func (s *Server) note(a *zone.Answer, t task, took time.Duration, err error) {
	var q dns.Question
	if len(a.Msg.Question) > 0 {
		q = a.Msg.Question[0]
	}
	counts := s.traffic.Shared(t.over)
	counts.Add(a.Kind, a.Msg.Rcode, q.Qtype)
	counts.AddTime(a.Kind, took, 1)
	if s.logsQueries() {
		s.log.Debug("query", "client", t.from.Addr, "over", stats.TransportNames[t.over], "name", q.Name, "type", dns.Type(q.Qtype),
			"rcode", dns.RcodeToString[a.Msg.Rcode], "kind", a.Kind, "answers", len(a.Msg.Answer), "took", took, "err", err)
	}
}

// noteRejected counts and logs the reply to a packet that is no good query.
func (s *Server) noteRejected(reply []byte, from netip.Addr, c *stats.Counts, took time.Duration) {
	rcode := int(reply[3] & 0xf)
	c.Add(stats.Refused, rcode, dns.TypeNone)
	c.AddTime(stats.Refused, took, 1)
	if s.logsQueries() {
		s.log.Debug("query can't be read", "client", from, "rcode", dns.RcodeToString[rcode], "kind", stats.Refused)
	}
}

// ServeDNS implements dns.Handler for queries over UDP.
func (s *Server) ServeDNS(w dns.ResponseWriter, req *dns.Msg) {
	c := zone.Client{Addr: udpio.AddrOf(w.RemoteAddr()), Local: localOf(w.LocalAddr(), w.RemoteAddr()), Size: zone.UDPSize(req)}
	s.answer(task{req, c, stats.UDP, func(f func()) { f() }, func(b []byte) error {
		_, err := w.Write(b)
		return err
	}})
}

// localOf returns the address of ours that a client asked: that of the
// packet if the system tells it, else that of the socket.
func localOf(socket, client net.Addr) netip.Addr {
	if p, ok := client.(udpio.Peer); ok && p.Local.IsValid() {
		return p.Local
	}
	return udpio.AddrOf(socket)
}
