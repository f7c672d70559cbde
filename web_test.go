package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/stats"
	"github.com/rayje/dnsdock/internal/web"
	"github.com/rayje/dnsdock/internal/zone"
)

// resolveZone is a zone with names of all kinds and upstreams, none of which
// may be asked.
func resolveZone(t testing.TB) *zone.Resolver {
	t.Helper()
	reg := filledRegistry(t, "docker", 60,
		pub{"web", "nginx", 30, "172.17.0.2 fd00::2", "shop.example.com"},
		pub{"one", "redis", publish.DefaultTTL, "172.17.0.3", ""},
		pub{"two", "redis", publish.DefaultTTL, "172.17.0.4", "db.one.redis.docker"})
	publishTest(t, reg,
		`{"name":"srv","image":"img","ip":"10.2.0.1","ports":["80/tcp=http"],"txt":["a"]}`,
		`{"name":"in","image":"cname","cname":"one.redis.docker"}`,
		`{"name":"out","image":"cname","cname":"www.example.org"}`,
		`{"name":"loop","image":"cname","cname":"loop.cname.docker"}`)
	closed, corp := forward.Server{Addr: netip.MustParseAddrPort("192.0.2.53:53")}, forward.Server{Addr: netip.MustParseAddrPort("10.0.0.53:853"), TLS: true, CertName: "ns.corp.example"}
	routed := forward.Routes{dnsname.Root: {closed}, mustName(t, "corp.example"): {corp, closed}, mustName(t, "blocked.test"): nil}
	log := slog.New(slog.DiscardHandler)
	fwd := forward.New(routed, nil, 1<<20, log)
	if err := fwd.Load(); err != nil {
		t.Fatal(err)
	}
	return zone.New(t.Context(), ix(reg), fwd, log)
}

// What is said of an answer: of whose names it is, and by which rule.
func TestResolve(t *testing.T) {
	z := resolveZone(t)
	starting := resolveZone(t)
	starting.Reg.Ready.Store(false)
	closest := resolveZone(t)
	closest.Reg.Rules.Closest = true
	for _, tt := range []struct {
		z     *zone.Resolver
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
		{z, "name=docker&type=SOA", "own NOERROR dnsdock.docker. hostmaster.docker. 7 3600 600 86400 5; docker by web.nginx.docker one.redis.docker two.redis.docker db.one.redis.docker srv.img.docker: all names"},
		{z, "name=docker&type=AXFR", "refused REFUSED; docker: questions of this type"},
		{z, "name=www.example.org&type=AXFR", "refused REFUSED; www.example.org: questions of this type"},
		{z, "name=www.example.org&type=OPT", "refused FORMERR; www.example.org: questions of this type"},
		{z, "name=www.example.org&type=TYPE65", "forwarded; www.example.org: it is not ours, so the nameservers of -nameserver are; to 192.0.2.53:53"},
		{z, "type=A", "400 parameter name: empty name: write one"},
		{z, "name=a..b", `400 parameter name: "a..b" is no domain name: write labels`},
		{z, "name=docker&type=NONSENSE", "400 parameter type: write a type"},
		{z, "name=docker&type=TYPE65536", "400 parameter type: write a type"},
		{z, "name=docker&client=redis", "400 parameter client: write an IPv4 or IPv6 address"},
		{z, "name=docker&client=fe80::1%25eth0", "400 parameter client: write an IPv4 or IPv6 address"},
	} {
		t.Run(tt.query, func(t *testing.T) {
			r := call(t, newAPI(tt.z, regOf(tt.z), &web.WriteAuth{Open: true}), "GET", "/resolve?"+tt.query, "")
			var res zone.Resolution
			got := ""
			if r.Code != http.StatusOK {
				got = fmt.Sprint(r.Code, " ", errorOf(t, r))
			} else if err := json.Unmarshal(r.Body.Bytes(), &res); err != nil {
				t.Fatal(err)
			} else {
				got = showResolution(res)
			}
			parts, wants := strings.Split(got, "; "), strings.Split(tt.want, "; ")
			for i := range max(len(parts), len(wants)) {
				if i >= len(parts) || i >= len(wants) || !strings.HasPrefix(parts[i], wants[i]) {
					t.Fatalf("got  %s\nwant %s", got, tt.want)
				}
			}
		})
	}
}

func showResolution(res zone.Resolution) string {
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

// A question about 100,000 services names some of them only.
func TestResolveIsBounded(t *testing.T) {
	r := call(t, apiOf(t, filled(t, 5000)), "GET", "/resolve?name=docker", "")
	var res zone.Resolution
	if err := json.Unmarshal(r.Body.Bytes(), &res); err != nil || len(res.Why) != 1 || len(res.Why[0].Services) != zone.MaxSources || !res.Why[0].More {
		t.Errorf("got %.300s; want %d services and more", r.Body, zone.MaxSources)
	}
}

// A stream of /events.
type stream struct {
	t    *testing.T
	resp *http.Response
	r    *bufio.Reader
}

// listen opens /events by client.
func listen(t *testing.T, client *http.Client, url, last string) *stream {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return &stream{t, resp, bufio.NewReader(resp.Body)}
}

// next returns the next event, its id, and its data; comments are passed over.
func (s *stream) next() (event, id, data string, err error) {
	for {
		line, err := s.r.ReadString('\n')
		if err != nil {
			return "", "", "", err
		}
		line = strings.TrimSuffix(line, "\n")
		switch k, v, _ := strings.Cut(line, ": "); {
		case k == "event":
			event = v
		case k == "id":
			id = v
		case k == "data":
			data = v
		case line == "" && event != "":
			return event, id, data, nil
		}
	}
}

// want reads the next event, whose data has these parts, and returns its id.
func (s *stream) want(event string, parts ...string) (id string) {
	s.t.Helper()
	got, id, data, err := s.next()
	if err != nil || got != event || !containsAll(data, parts) {
		s.t.Fatalf("got event %q %s, %v; want %q with %q", got, data, err, event, parts)
	}
	return id
}

// Containers die, the API changes them, and listeners read, all at once: what
// a listener knows in the end is what there is.
func TestEventsBesidePatchAndDeath(t *testing.T) {
	reg := newTestRegistry(t, "docker")
	h := apiOf(t, reg)
	srv := web.NewServer(t.Context(), h, slog.New(slog.DiscardHandler))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	var writers, readers sync.WaitGroup
	known := make([]map[string]bool, 4) // by each listener
	for i := range known {
		s := listen(t, http.DefaultClient, "http://"+ln.Addr().String(), "")
		s.want("hello")
		known[i] = make(map[string]bool)
		readers.Go(func() {
			for !known[i]["end"] {
				event, _, data, err := s.next()
				var about struct{ ID string }
				if err != nil || json.Unmarshal([]byte(data), &about) != nil {
					t.Errorf("listener %d: %s %v", i, data, err)
					return
				}
				switch event {
				case "service-removed":
					delete(known[i], about.ID)
				case "missed": // as a client does
					clear(known[i])
					for s := range reg.index.Published().All(^publish.Kind(0)) {
						known[i][s.ID] = true
					}
				default:
					known[i][about.ID] = true
				}
			}
		})
	}
	for w := range 4 {
		writers.Go(func() {
			for i := range 150 {
				id := fmt.Sprintf("c%d-%d", w, i)
				reg.Put(id, testService(t, reg, id, "web", "nginx", "10.0.0.1"))
				_ = call(t, h, "PATCH", "/services/"+id, `{"ttl":7}`)
				_ = call(t, h, "GET", "/metrics", "")
				if i%3 == 0 {
					continue
				}
				reg.Forget(id)
				_ = call(t, h, "PATCH", "/services/"+id, `{"ttl":8}`)
				if got := call(t, h, "GET", "/services/"+id, "").Code; got != 404 {
					t.Errorf("%s is dead and answers %d", id, got)
				}
			}
		})
	}
	writers.Wait()
	reg.Put("end", testService(t, reg, "end", "end", "nginx", "10.0.0.2"))
	readers.Wait()
	for i := range known {
		if got := len(known[i]); got != 4*50+1 {
			t.Errorf("listener %d knows %d services; want %d", i, got, 4*50+1)
		}
	}
	_ = srv.Close()
	<-served
}

// Queries that go to upstreams in bursts are counted as the others are.
func TestBurstsAreCounted(t *testing.T) {
	z := newForwardZone(t)
	z.Fwd = forward.New(forward.Routes{dnsname.Root: servers(startUpstream(t, answer(t, nil), nil))}, nil, 1<<20, slog.New(slog.DiscardHandler))
	z.Fwd.FreshPorts = 0 // no query has a socket of its own
	loaded(t, z.Fwd)
	addr := "127.0.0.1:" + serveZone(t, z, "127.0.0.1:0")
	for _, kind := range []stats.Kind{stats.Forwarded, stats.Cached} {
		for i := range 20 {
			exchange(t, "udp", addr, new(dns.Msg).SetQuestion(fmt.Sprintf("n%d.example.org.", i), dns.TypeA))
		}
		if got := z.Traffic.ByKind()[kind.String()]; got != 20 {
			t.Errorf("%d are %s; want 20", got, kind)
		}
		var p stats.Exposition
		z.Traffic.Write(&p)
		times := fmt.Sprintf(`dnsdock_query_duration_seconds_count{transport="udp",kind="%s"} 20`, kind)
		if kind == stats.Forwarded && !strings.Contains(p.String(), times) { // those of the fast path are counted after they are sent
			t.Errorf("the times that are counted are %s; want %s", p.String(), times)
		}
	}
}

// A query that an upstream is spared is none that it was asked.
func TestAskedAreCounted(t *testing.T) {
	z := newForwardZone(t, closedUpstream(t))
	for i := range 200 {
		if got := z.Fwd.Answer(t.Context(), dnscache.NewQuestion(mustName(t, fmt.Sprintf("n%d.example.org", i)), dns.TypeA, dnscache.RD), 0, netip.MustParseAddr("127.0.0.1")); got == nil || got.Rcode() != dns.RcodeServerFailure {
			t.Fatalf("query %d: got %v", i, got)
		}
	}
	if u := z.Fwd.Status().Upstreams[0]; u.Queries != u.Failures || u.Queries == 0 {
		t.Errorf("%d queries, %d failures of an upstream that never answers; want the same", u.Queries, u.Failures)
	}
}
