package dnsserver

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/stats"
	"github.com/rayje/dnsdock/internal/zone"
)

// An Authority decides answers. Its methods may be called at the same time.
type Authority interface {
	// Decide answers q as far as that takes no upstream. It returns nil if a client wants a quick answer that is not.
	Decide(q zone.Query, c zone.Client) *zone.Answer
	// Cached returns what upstreams have said to q, nil if that is not known or no longer good. It reports whether
	// upstreams may be asked q.
	Cached(q dnscache.Question, now time.Time) (r *dnscache.Response, foreign bool)
	// IsWhole reports whether a response is all that there is to say to a question about n.
	IsWhole(n dnsname.Name, r *dnscache.Response) bool
	// IsPlain reports whether a question about n is for upstreams, and Decide has nothing else to say about it.
	IsPlain(n dnsname.Name) bool
	// Serves reports whether a client's queries may be forwarded, and whether that is known without a wait.
	Serves(client netip.Addr) (serves, known bool)
	// ServesNow is Serves for those who can wait.
	ServesNow(client netip.Addr) bool
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
	Transfers Transfers // nil: there are none. Read-only after start

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
func New(
	ctx context.Context, a Authority, c Changes, fwd *forward.Forwarder, traffic *stats.Traffic, log *slog.Logger,
) *Server {
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

// noteRejected counts and logs the reply to a packet that is no good query.
func (s *Server) noteRejected(reply []byte, from netip.Addr, c *stats.Counts, took time.Duration) {
	rcode := int(reply[3] & 0xf)
	c.Add(stats.Refused, rcode, dns.TypeNone)
	c.AddTime(stats.Refused, took, 1)
	if s.logsQueries() {
		s.log.Debug("query can't be read", "client", from, "rcode", dns.RcodeToString[rcode], "kind", stats.Refused)
	}
}
