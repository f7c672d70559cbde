package dnsserver

import (
	"log/slog"
	"testing"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/stats"
	"github.com/rayje/dnsdock/internal/zone"
	"github.com/rayje/dnsdock/internal/zonetest"
)

// A bug of ours costs one query, over UDP and over TCP.
func TestPanicIsServfail(t *testing.T) {
	log := dnstest.NewLog()
	ix := zonetest.New(t, "docker", 0)
	ix.PutBroken(t, "web", "nginx")
	logger := slog.New(slog.NewTextHandler(log, nil))
	fwd := forward.New(nil, nil, 0, logger)
	z := zone.New(t.Context(), ix.Index, fwd, logger)
	addr := "127.0.0.1:" + serveZone(t, rig{New(t.Context(), z, ix.Index, fwd, new(stats.Traffic), logger), z, ix},
		"127.0.0.1:0")
	for _, network := range []string{"udp", "tcp"} {
		if r := dnstest.Exchange(t, network, addr,
			new(dns.Msg).SetQuestion("web.nginx.docker.", dns.TypeA)); r.Rcode != dns.RcodeServerFailure {
			t.Errorf("over %s: got %v; want SERVFAIL", network, dnstest.Show(r))
		}
	}
	log.Wait(t, "level=ERROR", "bug in dnsdock")
}
