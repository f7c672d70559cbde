package dnsserver

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/stats"
	"github.com/rayje/dnsdock/internal/zonetest"
)

// Queries that go to upstreams in bursts are counted as the others are.
func TestBurstsAreCounted(t *testing.T) {
	up := forward.Server{Addr: dnstest.StartUpstream(t, dnstest.Answer(t, nil), nil)}
	fwd := forward.New(forward.Routes{dnsname.Root: {up}}, nil, 1<<20, slog.New(slog.DiscardHandler))
	fwd.FreshPorts = 0 // no query has a socket of its own
	if err := fwd.Load(); err != nil {
		t.Fatal(err)
	}
	r := rigWith(t, zonetest.New(t, "docker", 5), fwd)
	addr := "127.0.0.1:" + serveZone(t, r, "127.0.0.1:0")
	for _, kind := range []stats.Kind{stats.Forwarded, stats.Cached} {
		for i := range 20 {
			dnstest.Exchange(t, "udp", addr, new(dns.Msg).SetQuestion(fmt.Sprintf("n%d.example.org.", i), dns.TypeA))
		}
		if got := r.traffic.ByKind()[kind.String()]; got != 20 {
			t.Errorf("%d are %s; want 20", got, kind)
		}
		var p stats.Exposition
		r.traffic.Write(&p)
		times := fmt.Sprintf(`dnsdock_query_duration_seconds_count{transport="udp",kind="%s"} 20`, kind)
		// Replayed answers are counted after they are sent.
		if kind == stats.Forwarded && !strings.Contains(p.String(), times) {
			t.Errorf("the times that are counted are %s; want %s", p.String(), times)
		}
	}
}

// A query that an upstream is spared is none that it was asked.
func TestAskedAreCounted(t *testing.T) {
	r := uncached(t, dnstest.StartUpstream(t, nil, nil))
	for i := range 200 {
		name := zonetest.Name(t, fmt.Sprintf("n%d.example.org", i))
		got := r.fwd.Answer(t.Context(), dnscache.NewQuestion(name, dns.TypeA, dnscache.RD), 0, localhost.Addr)
		if got == nil || got.Rcode() != dns.RcodeServerFailure {
			t.Fatalf("query %d: got %v", i, got)
		}
	}
	if u := r.fwd.Status().Upstreams[0]; u.Queries != u.Failures || u.Queries == 0 {
		t.Errorf("%d queries, %d failures of an upstream that never answers; want the same", u.Queries, u.Failures)
	}
}
