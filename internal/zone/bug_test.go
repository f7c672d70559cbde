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

	// While a reply is completed or packed, too.
	for what, f := range map[string]func(a *Answer){
		"completed": func(a *Answer) { a.open, a.resolver.Fwd.Cache = &dns.Question{Name: "x."}, nil; a.Complete() },
		"packed":    func(a *Answer) { a.Msg = nil },
	} {
		log := dnstest.NewLog()
		z := newResolver(t, zonetest.New(t, "docker", 0))
		z.log = slog.New(slog.NewTextHandler(log, nil))
		a := z.Decide(req, Client{Size: 512})
		f(a)
		b, err := a.Pack(512)
		if err != nil || a.Msg == nil || a.Msg.Rcode != dns.RcodeServerFailure {
			t.Errorf("%s: got %v, %v; want SERVFAIL", what, a.Msg, err)
		}
		dnstest.CheckReply(t, req, b, 512)
	}
}
