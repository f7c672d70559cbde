package zone

import (
	"log/slog"
	"net/netip"
	"testing"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/zonetest"
)

// A bug of ours costs one query.
func TestPanicIsServfail(t *testing.T) {
	log := dnstest.NewLog()
	ix := zonetest.New(t, "docker", 0)
	ix.PutBroken(t, "web", "nginx")
	z := newResolver(t, ix)
	z.log = slog.New(slog.NewTextHandler(log, nil))
	req := new(dns.Msg).SetQuestion("web.nginx.docker.", dns.TypeA)
	if m := reply(z, req, netip.Addr{}, 512); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("got %v; want SERVFAIL", dnstest.Show(m))
	}
	log.Wait(t, "level=ERROR", "bug in dnsdock")

	// While a reply is completed, too.
	z = newResolver(t, zonetest.New(t, "docker", 0))
	z.log = slog.New(slog.NewTextHandler(log, nil))
	a := z.Decide(Query{Name: zonetest.Name(t, "web.nginx.docker"), Type: dns.TypeA, Class: dns.ClassINET},
		Client{Size: 512})
	a.open, z.Fwd.Cache = &Query{Name: zonetest.Name(t, "x")}, nil
	if a.Complete(); a.Rcode != dns.RcodeServerFailure || a.IsOpen() {
		t.Errorf("got %+v; want SERVFAIL", a)
	}
}
