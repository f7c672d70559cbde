package zone

import (
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/index"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/zonetest"
)

// Queries that look at very many services do so in turn, and only so many
// wait: others are answered at once, with SERVFAIL where they would have to
// look at as many.
func TestManyInTurn(t *testing.T) {
	reg := zonetest.New(t, "docker", 0, pub("web", "nginx", 0, "10.0.0.1", ""))
	for i := range index.Many + 1 {
		s := reg.Service(t, fmt.Sprint("s", i), fmt.Sprint("s", i), "big", "10.1.0.1")
		s.Ports = []publish.Port{{Number: 80, Proto: "tcp", Name: "http"}}
		reg.Put(s.ID, s)
	}
	z := newResolver(t, reg)
	ask := func(qname string) string {
		return dnstest.Show(reply(z, new(dns.Msg).SetQuestion(qname, dns.TypeA), netip.Addr{}, 512))
	}
	names := []string{
		"web.*.docker.", "0.0.10.in-addr.arpa.", "1.0.1.10.in-addr.arpa.", "docker.", "big.docker.", "*.big.docker.",
		"_80._tcp.big.docker.", "_tcp.big.docker.", "_http._tcp.*.docker.",
	}
	var wg sync.WaitGroup
	z.walking.Lock()
	for i := range maxExpensive {
		wg.Go(func() {
			if n := names[i%len(names)]; !strings.HasPrefix(ask(n), "NOERROR aa") {
				t.Errorf("%s: got %s", n, ask(n))
			}
		})
	}
	for len(z.expensive) < maxExpensive {
		runtime.Gosched()
	}
	for _, n := range names {
		if got := ask(n); got != "SERVFAIL" {
			t.Errorf("%s: got %s; want SERVFAIL", n, got)
		}
	}
	for qname, want := range map[string]string{
		"web.nginx.docker.": "NOERROR aa; web.nginx.docker. 0 A 10.0.0.1", "1.0.0.10.in-addr.arpa.": "NOERROR aa",
		"*.nginx.docker.": "NOERROR aa; *.nginx.docker. 0 A 10.0.0.1", "s1.big.docker.": "NOERROR aa", "_80._tcp.web.nginx.docker.": "NOERROR aa",
		"*.localhost.": "NOERROR aa", "x.nosuch.docker.": "NXDOMAIN aa",
	} {
		if got := ask(qname); !strings.HasPrefix(got, want) {
			t.Errorf("%s: got %s; want %s", qname, got, want)
		}
	}
	z.walking.Unlock()
	wg.Wait()
}
