package zone

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnsname"
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
				text := fmt.Sprintln(strings.TrimSuffix(h.Name, "."), h.Ttl, dns.Type(h.Rrtype),
					strings.TrimPrefix(rr.String(), h.String()))
				want = append(want, strings.ToLower(text))
			}
			slices.Sort(got)
			slices.Sort(want)
			if res.Rcode != dns.RcodeToString[m.Rcode] || !slices.Equal(got, want) {
				t.Errorf("%s %v: got %s %v; want %s %v", qname, dns.Type(qtype), res.Rcode, got,
					dns.RcodeToString[m.Rcode], want)
			}
		}
	}
}

// Second names are told apart from the first, and only where they are what was answered by.
func TestExplainSecondNames(t *testing.T) {
	ix := zonetest.New(t, "docker", 0)
	ix.Rules.Second.Compose = true
	z := newResolver(t, ix)
	ix.PutContainers(t, publish.Container{
		Name: "shop_web_1", Image: "bücher", Networks: []publish.Endpoint{zonetest.Endpoint("a", "10.1.0.1/24")},
		Labels: map[string]string{
			"com.docker.compose.project": "shop", "com.docker.compose.service": "web", "com.docker.compose.container-number": "1",
		},
	})
	f := func(qname, unicode, names, second string) {
		t.Helper()
		n, err := dnsname.ParseQuestion(qname)
		if err != nil {
			t.Fatal(err)
		}
		res, err := z.Explain(n, dns.TypeA, newClientAt("127.0.0.1", "127.0.0.1"))
		if err != nil || len(res.Why) != 1 || len(res.Why[0].Services) != 1 {
			t.Fatalf("%s: got %+v, %v; want one reason with one service", qname, res, err)
		}
		s := res.Why[0].Services[0]
		if got := strings.Join(s.Names, " "); got != names || strings.Join(s.SecondNames, " ") != second {
			t.Errorf("%s: by %q and second names %q; want %q and %q", qname, s.Names, s.SecondNames, names, second)
		}
		if res.Unicode != unicode {
			t.Errorf("%s: got spelling %q; want %q", qname, res.Unicode, unicode)
		}
	}
	f("web.shop.docker", "", "", "1.web.shop.docker")
	f("1.web.shop.docker", "", "", "1.web.shop.docker")
	f("BÜCHER.docker", "bücher.docker", "shop_web_1.xn--bcher-kva.docker", "")
	f("docker", "", "shop_web_1.xn--bcher-kva.docker", "")
}
