package zone

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/zonetest"
)

// newRouted returns a resolver with names of all kinds, and with upstreams that nothing may ask.
func newRouted(t testing.TB) *Resolver {
	t.Helper()
	ix := zonetest.New(t, "docker", 60,
		pub("web", "nginx", 30, "172.17.0.2 fd00::2", "shop.example.com"),
		pub("one", "redis", publish.DefaultTTL, "172.17.0.3", ""),
		pub("two", "redis", publish.DefaultTTL, "172.17.0.4", "db.one.redis.docker"))
	ix.Publish(t,
		`{"name":"srv","image":"img","ip":"10.2.0.1","ports":["80/tcp=http"],"txt":["a"]}`,
		`{"name":"in","image":"cname","cname":"one.redis.docker"}`,
		`{"name":"out","image":"cname","cname":"www.example.org"}`,
		`{"name":"loop","image":"cname","cname":"loop.cname.docker"}`)
	ix.Serial.Store(zonetest.Serial)
	closed := forward.Server{Addr: netip.MustParseAddrPort("192.0.2.53:53")}
	corp := forward.Server{Addr: netip.MustParseAddrPort("10.0.0.53:853"), TLS: true, CertName: "ns.corp.example"}
	routed := forward.Routes{
		dnsname.Root: {closed}, zonetest.Name(t, "corp.example"): {corp, closed}, zonetest.Name(t, "blocked.test"): nil,
	}
	log := slog.New(bugHandler{slog.DiscardHandler})
	fwd := forward.New(routed, nil, 1<<20, log)
	if err := fwd.Load(); err != nil {
		t.Fatal(err)
	}
	return New(t.Context(), ix.Index, fwd, log)
}

// What is said of an answer: of whose names it is, and by which rule.
func TestExplain(t *testing.T) {
	z, starting, closest := newRouted(t), newRouted(t), newRouted(t)
	starting.Reg.Ready.Store(false)
	closest.Reg.Rules.Closest = true
	for _, tt := range []struct {
		z     *Resolver
		query string
		want  string // kind, rcode, answers; reasons; upstreams
	}{
		{z, "name=one.redis.docker", "own NOERROR 172.17.0.3 172.17.0.4; one.redis.docker by one.redis.docker db.one.redis.docker: all names"},
		{z, "name=ONE.Redis.docker.&type=a", "own NOERROR 172.17.0.3 172.17.0.4; one.redis.docker by one.redis.docker db.one.redis.docker: all names"},
		{closest, "name=one.redis.docker", "own NOERROR 172.17.0.3; one.redis.docker by one.redis.docker: the closest"},
		{z, "name=x.web.nginx.docker&type=AAAA", "own NOERROR fd00::2; x.web.nginx.docker by web.nginx.docker: all names"},
		{z, "name=redis.docker&type=AAAA", "own NOERROR; redis.docker: all names"},
		{z, "name=one.*.docker", "own NOERROR 172.17.0.3 172.17.0.4; one.*.docker by one.redis.docker db.one.redis.docker: all names"},
		{z, "name=a.shop.example.com", "own NOERROR 172.17.0.2; a.shop.example.com by shop.example.com: all names"},
		{z, "name=srv.img.docker&type=TXT", "own NOERROR \"a\"; srv.img.docker by srv.img.docker: all names"},
		{z, "name=_http._tcp.img.docker&type=SRV", "own NOERROR 0 1 80 srv.img.docker.; _http._tcp.img.docker by srv.img.docker: these services have such a port"},
		{z, "name=2.0.17.172.in-addr.arpa&type=PTR", "own NOERROR shop.example.com. web.nginx.docker.; 2.0.17.172.in-addr.arpa by web.nginx.docker shop.example.com: it is the name of an address"},
		{z, "name=9.0.17.172.in-addr.arpa&type=PTR", "own NXDOMAIN; 9.0.17.172.in-addr.arpa: it is the name of private addresses"},
		{z, "name=in.cname.docker", "own NOERROR 172.17.0.3 172.17.0.4 one.redis.docker.; in.cname.docker by in.cname.docker: the closest service; one.redis.docker by one.redis.docker db.one.redis.docker: all names"},
		{z, "name=out.cname.docker", "forwarded www.example.org.; out.cname.docker by out.cname.docker: the closest service; www.example.org: it is not ours, so the nameservers of -nameserver are; to 192.0.2.53:53"},
		{z, "name=loop.cname.docker", "own NOERROR loop.cname.docker.; loop.cname.docker by loop.cname.docker: the closest service; loop.cname.docker by loop.cname.docker: the closest service"},
		{z, "name=nosuch.docker", "own NXDOMAIN; nosuch.docker: it is under docker, and no service"},
		{starting, "name=nosuch.docker", "own SERVFAIL; nosuch.docker: nobody knows yet"},
		{starting, "name=1.0.0.10.in-addr.arpa&type=PTR", "own SERVFAIL; 1.0.0.10.in-addr.arpa: nobody knows yet"},
		{z, "name=localhost", "own NOERROR 127.0.0.1; localhost: localhost is"},
		{z, "name=x.onion", "own NXDOMAIN; x.onion: it is nobody's"},
		{z, "name=www.example.org", "forwarded; www.example.org: it is not ours, so the nameservers of -nameserver are; to 192.0.2.53:53"},
		{z, "name=a.corp.example&client=10.0.0.9", "forwarded; a.corp.example: it is not ours, so the nameservers of -nameserver=corp.example= are; to tls://10.0.0.53:853#ns.corp.example 192.0.2.53:53"},
		{z, "name=a.corp.example&client=198.51.100.7", "refused REFUSED; a.corp.example: it is not ours, and nothing is forwarded for this client"},
		{z, "name=a.blocked.test", "refused REFUSED; a.blocked.test: it is not ours, and there is no -nameserver"},
		{z, "name=docker&type=SOA", "own NOERROR dnsdock.docker. hostmaster.docker. 7 60 10 604800 5; docker by web.nginx.docker one.redis.docker two.redis.docker db.one.redis.docker srv.img.docker: all names"},
		{z, "name=docker&type=AXFR", "refused REFUSED; docker: questions of this type"},
		{z, "name=www.example.org&type=AXFR", "refused REFUSED; www.example.org: questions of this type"},
		{z, "name=www.example.org&type=OPT", "refused FORMERR; www.example.org: questions of this type"},
		{z, "name=www.example.org&type=TYPE65", "forwarded; www.example.org: it is not ours, so the nameservers of -nameserver are; to 192.0.2.53:53"},
	} {
		t.Run(tt.query, func(t *testing.T) {
			q, err := url.ParseQuery(tt.query)
			if err != nil {
				t.Fatal(err)
			}
			qtype := dns.StringToType[strings.ToUpper(cmp.Or(q.Get("type"), "A"))]
			if q.Get("type") == "TYPE65" {
				qtype = 65
			}
			c := newClientAt(cmp.Or(q.Get("client"), "127.0.0.1"), "127.0.0.1")
			res, err := tt.z.Explain(zonetest.Name(t, q.Get("name")), qtype, c)
			if err != nil {
				t.Fatal(err)
			}
			got := showResolution(res)
			parts, wants := strings.Split(got, "; "), strings.Split(tt.want, "; ")
			for i := range max(len(parts), len(wants)) {
				if i >= len(parts) || i >= len(wants) || !strings.HasPrefix(parts[i], wants[i]) {
					t.Fatalf("got  %s\nwant %s", got, tt.want)
				}
			}
		})
	}
}

func showResolution(res *Resolution) string {
	var data []string
	for _, a := range res.Answers {
		data = append(data, a.Data)
	}
	slices.Sort(data)
	b := strings.Join(strings.Fields(res.Kind+" "+res.Rcode+" "+strings.Join(data, " ")), " ")
	for _, why := range res.Why {
		b += "; " + why.Name
		var names []string
		for _, s := range why.Services {
			names = append(names, s.Names...)
		}
		if len(names) > 0 {
			b += " by " + strings.Join(names, " ")
		}
		b += ": " + why.Rule
	}
	if len(res.Forward) > 0 {
		b += "; to " + strings.Join(res.Forward, " ")
	}
	return b
}

// A question about 100,000 services names only some of them.
func TestExplainIsBounded(t *testing.T) {
	ix := zonetest.New(t, "docker", 0)
	for i := range 5000 {
		ix.PutContainers(t, publish.Container{
			Name: fmt.Sprintf("c%d", i), Image: fmt.Sprintf("image%d", i%400),
			Networks: []publish.Endpoint{zonetest.Endpoint("a", "10.1.0.1/24")},
		})
	}
	z := newResolver(t, ix)
	res, err := z.Explain(zonetest.Name(t, "docker"), dns.TypeA, newClientAt("127.0.0.1", "127.0.0.1"))
	if err != nil || len(res.Why) != 1 || len(res.Why[0].Services) != maxSources || !res.Why[0].More {
		t.Errorf("got %.300v, %v; want %d services and more", res, err, maxSources)
	}
}
