package zone

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/zonetest"
)

// What Explain says is what DNS answers.
func TestExplainIsWhatDNSAnswers(t *testing.T) {
	ix := zonetest.New(t, "docker", 60,
		pub("web", "nginx", 30, "172.17.0.2 fd00::2", "shop.example.com com"),
		pub("only4", "nginx", publish.DefaultTTL, "172.17.0.3", "www.shop.example.com"),
		pub("a", "b", 7, "172.17.0.4", "b.docker"),
	)
	ix.Publish(t,
		`{"name":"srv","image":"nginx","ip":"10.2.0.1","ports":["80/tcp=http","53/udp"],"txt":["a","b"]}`,
		`{"name":"front","image":"nginx","cname":"srv.nginx.docker"}`,
		`{"name":"loop","image":"loop","cname":"x.loop.docker"}`)
	z := newResolver(t, ix)
	c := newClientAt("127.0.0.1", "127.0.0.1")
	for _, qname := range []string{
		"web.nginx.docker", "x.only4.nginx.docker", "nginx.docker", "docker", "*.docker", "a.b.docker", "front.nginx.docker", "loop.loop.docker",
		"shop.example.com", "com", "nosuch.docker", "dnsdock.docker", "_http._tcp.nginx.docker", "2.0.17.172.in-addr.arpa", "localhost", "www.example.com",
	} {
		for _, qtype := range []uint16{
			dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypePTR, dns.TypeTXT, dns.TypeMX, dns.TypeSOA, dns.TypeNS, dns.TypeANY, dns.TypeCNAME, dns.TypeHTTPS,
		} {
			res, err := z.Explain(zonetest.Name(t, qname), qtype, c)
			if err != nil {
				t.Fatal(err)
			}
			m := replyTo(z, new(dns.Msg).SetQuestion(qname+".", qtype), c)
			var got, want []string
			for _, a := range res.Answers {
				got = append(got, strings.ToLower(fmt.Sprintln(a.Name, a.TTL, a.Type, a.Data)))
			}
			for _, rr := range m.Answer {
				h := rr.Header()
				text := fmt.Sprintln(strings.TrimSuffix(h.Name, "."), h.Ttl, dns.Type(h.Rrtype), strings.TrimPrefix(rr.String(), h.String()))
				want = append(want, strings.ToLower(text))
			}
			slices.Sort(got)
			slices.Sort(want)
			if res.Rcode != dns.RcodeToString[m.Rcode] || !slices.Equal(got, want) {
				t.Errorf("%s %v: got %s %v; want %s %v", qname, dns.Type(qtype), res.Rcode, got, dns.RcodeToString[m.Rcode], want)
			}
		}
	}
}
