package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/config"
	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/stats"
	"github.com/rayje/dnsdock/internal/web"
	"github.com/rayje/dnsdock/internal/zone"
)

// resolveZone is a zone with names of all kinds and upstreams, none of which
// may be asked.
func resolveZone(t testing.TB) *zone.Zone {
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
		z     *zone.Zone
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
			r := call(t, newAPI(tt.z, regOf(tt.z), &web.WriteAuth{}), "GET", "/resolve?"+tt.query, "")
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

// What /resolve says is what DNS answers.
func TestResolveIsWhatDNSAnswers(t *testing.T) {
	z := fastZone(t)
	h := newAPI(z, regOf(z), &web.WriteAuth{})
	for _, qname := range []string{"web.nginx.docker", "x.only4.nginx.docker", "nginx.docker", "docker", "*.docker", "a.b.docker", "more.than.docker", "many.redis.docker", "front.nginx.docker",
		"loop.loop.docker", "shop.example.com", "com", "nosuch.docker", "dnsdock.docker", "_http._tcp.nginx.docker", "2.0.17.172.in-addr.arpa", "localhost", "www.example.com"} {
		for _, qtype := range []string{"A", "AAAA", "SRV", "PTR", "TXT", "MX", "SOA", "NS", "ANY", "CNAME", "HTTPS"} {
			var res zone.Resolution
			if r := call(t, h, "GET", "/resolve?name="+qname+"&type="+qtype+"&client=127.0.0.1", ""); json.Unmarshal(r.Body.Bytes(), &res) != nil {
				t.Fatalf("%s %s: got %d %s", qname, qtype, r.Code, r.Body)
			}
			m := new(dns.Msg)
			if err := m.Unpack(slowly(z, packQuery(t, 1, qname+".", dns.StringToType[qtype]), netip.MustParseAddr("127.0.0.1"), dns.MaxMsgSize)); err != nil {
				t.Fatal(err)
			}
			var got, want []string
			for _, a := range res.Answers {
				got = append(got, strings.ToLower(fmt.Sprintln(a.Name, a.TTL, a.Type, a.Data)))
			}
			for _, rr := range m.Answer {
				h := rr.Header()
				want = append(want, strings.ToLower(fmt.Sprintln(strings.TrimSuffix(h.Name, "."), h.Ttl, dns.Type(h.Rrtype), strings.TrimPrefix(rr.String(), h.String()))))
			}
			slices.Sort(got)
			slices.Sort(want)
			if res.Rcode != dns.RcodeToString[m.Rcode] || !slices.Equal(got, want) {
				t.Errorf("%s %s: got %s %v; want %s %v", qname, qtype, res.Rcode, got, dns.RcodeToString[m.Rcode], want)
			}
		}
	}
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

// Many bad clients at once: slow ones, idle ones, and those that send too
// much. DNS and the API go on, and the memory comes back.
func TestHTTPFloods(t *testing.T) {
	in := startDnsdock(t, "-docker=unix://"+t.TempDir()+"/docker.sock")
	addr := strings.TrimPrefix(in.http, "http://")
	works := func(when string) {
		t.Helper()
		if got := in.addrs(t, "dnsdock.docker"); !slices.Equal(got, []string{"127.0.0.1"}) {
			t.Errorf("%s: DNS answers %v", when, got)
		}
		c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
		r, err := c.Get(in.http + "/services")
		if err != nil || r.StatusCode != http.StatusOK {
			t.Fatalf("%s: GET /services: %v %v", when, r, err)
		}
		_ = r.Body.Close()
	}
	used := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	open := func(n int, send string) (conns []net.Conn) {
		t.Helper()
		for range n {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, c)
			if _, err := io.WriteString(c, send); err != nil {
				continue // it made room for others
			}
		}
		return conns
	}
	works("before")
	before, goroutines := used(), runtime.NumGoroutine()

	slow := open(150, "GET /services HTTP/1.1\r\nHost: docker\r\nX: ")
	works("beside 150 that never end their header")
	idle := open(1000, "GET /ttl HTTP/1.1\r\nHost: docker\r\n\r\n")
	works("beside 1,000 idle ones")
	silent := open(1000, "")
	works("beside 1,000 that say nothing")
	if got := runtime.NumGoroutine(); got > goroutines+2*256+100 {
		t.Errorf("%d goroutines; want about 2 for each of 256 connections", got)
	}
	bodies := open(300, "PUT /services/x HTTP/1.1\r\nHost: docker\r\nContent-Length: 1000\r\n\r\n{")
	works("beside 300 that never send their body")

	huge := make([]byte, 32<<20)
	for _, tt := range []struct {
		what, method, path, header string
		body                       func() io.Reader
		status                     int
	}{
		{"a body of 32 MB", "PUT", "/services/x", "", func() io.Reader { return bytes.NewReader(huge) }, 413},
		{"a chunked body of 32 MB", "PATCH", "/services/x", "", func() io.Reader { return io.MultiReader(bytes.NewReader(huge)) }, 413},
		{"a body of 32 MB for a path that has none", "POST", "/nosuch", "", func() io.Reader { return bytes.NewReader(huge) }, 404},
		{"JSON a million deep", "PUT", "/services/x", "", func() io.Reader { return strings.NewReader(strings.Repeat("[", 1_000_000)) }, 400},
		{"JSON a hundred thousand deep in a property", "PUT", "/services/x", "", func() io.Reader { return strings.NewReader(`{"name":` + strings.Repeat(`{"a":`, 100_000)) }, 400},
		{"a header of 2 MB", "GET", "/services", strings.Repeat("x", 2<<20), func() io.Reader { return nil }, 431},
		{"a path of 1 MB", "GET", "/services/" + strings.Repeat("x", 1<<20), "", func() io.Reader { return nil }, 431},
		{"a name of 10 kB", "GET", "/resolve?name=" + strings.Repeat("x.", 5000), "", func() io.Reader { return nil }, 400},
	} {
		for range 3 {
			req, err := http.NewRequestWithContext(t.Context(), tt.method, in.http+tt.path, tt.body())
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("X", tt.header)
			r, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
			if err != nil { // it was cut off while it sent what nobody reads
				if tt.status == 413 || tt.status == 404 || tt.status == 431 {
					continue
				}
				t.Fatalf("%s: %v", tt.what, err)
			}
			_ = r.Body.Close()
			if r.StatusCode != tt.status {
				t.Errorf("%s: got %s; want %d", tt.what, r.Status, tt.status)
			}
		}
		works("after " + tt.what)
	}
	for _, c := range slices.Concat(slow, idle, silent, bodies) {
		_ = c.Close()
	}
	for end := time.Now().Add(patience); runtime.NumGoroutine() > goroutines+20 && time.Now().Before(end); {
		works("while they go")
	}
	if after := used(); after > before+8<<20 {
		t.Errorf("%d KiB are used; want about the %d KiB from before", after>>10, before>>10)
	}
}

// HTTP on a socket in the file system.
func TestHTTPSocket(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "api.sock")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: file, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	_ = stale.Close()
	if _, err := os.Stat(file); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	log, done := newLogWatch(), make(chan error, 1)
	args := []string{"-dns=127.0.0.1:0", "-http=unix://" + file, "-docker=unix://" + dir + "/docker.sock"}
	go func() { done <- run(ctx, args, environ(nil), log, log) }()
	log.wait(t, "msg=listening for=http")
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("the socket: %v, %v; want mode 0660", info.Mode(), err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", file)
	}}}
	req, _ := http.NewRequestWithContext(t.Context(), "PUT", "http://any.host.at.all/set/ttl", strings.NewReader("7"))
	if r, err := client.Do(req); err != nil || r.StatusCode != 200 {
		t.Errorf("PUT: %v %v", r, err)
	}
	if err := run(t.Context(), append(args, "-healthcheck"), environ(nil), log, log); err != nil {
		t.Errorf("-healthcheck: %v", err)
	}
	if err := run(t.Context(), args, environ(nil), log, log); err == nil || !strings.Contains(err.Error(), "another program listens there") {
		t.Errorf("a second one: %v; want it to be told that there is one", err)
	}
	bad := append(args, "-healthcheck", "-http-token-file="+dir+"/nothere", "-nameserver="+dir+"/nothere") // dnsdock goes on when they go
	if err := run(t.Context(), bad, environ(nil), log, log); err != nil {
		t.Errorf("-healthcheck while files can't be read: %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after the end: %v; want no socket", err)
	}
	if err := run(t.Context(), append(args, "-healthcheck"), environ(nil), log, log); err == nil {
		t.Error("-healthcheck of one that has ended: no error")
	}
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), args, environ(nil), log, log); err == nil || !strings.Contains(err.Error(), "it is no socket") {
		t.Errorf("on a file: %v", err)
	}
	if b, _ := os.ReadFile(file); string(b) != "precious" {
		t.Error("the file is gone")
	}
	args[1] = "-http=unix://" + dir + "/nosuch/api.sock"
	if err := run(t.Context(), args, environ(nil), log, log); err == nil || !strings.Contains(err.Error(), "make the directory first") {
		t.Errorf("without a directory: %v", err)
	}
}

// All that is answered is counted once, whichever way.
func TestMetrics(t *testing.T) {
	dead := closedUpstream(t)
	in := startDnsdock(t, "-docker="+dnstest.NewEngine().ServeTCP(t, nil), "-nameserver="+startUpstream(t, answer(t, nil), nil).String()+",corp.test="+dead.String())
	in.ready(t)
	if status, body := in.call(t, "PUT", "/services/x", `{"name":"web","image":"nginx","ip":"10.0.0.1","ports":"80"}`); status != 201 {
		t.Fatal(body)
	}
	before := in.metrics(t)
	for network, transport := range map[string]string{"udp": "udp", "tcp": "tcp"} {
		for i := range 3 {
			in.ask(t, network, "web.nginx.docker", dns.TypeA)
			in.ask(t, network, "web.nginx.docker", 4711)
			in.ask(t, network, "nosuch.docker", dns.TypeAAAA)
			in.ask(t, network, "_80._tcp.web.nginx.docker", dns.TypeSRV)
			fresh := fmt.Sprintf("%s%d.example.org", network, i)
			in.ask(t, network, fresh, dns.TypeA)
			in.ask(t, network, fresh, dns.TypeA)
			if _, body := in.call(t, "GET", "/resolve?name="+fresh, ""); !containsAll(body, []string{`"kind": "cached"`, `"data": "192.0.2.1"`, fresh}) {
				t.Errorf("/resolve of what is kept: got %s", body)
			}
			in.ask(t, network, fmt.Sprintf("%s%d.corp.test", network, i), dns.TypeTXT)
			in.ask(t, network, "docker", dns.TypeAXFR)
			c := dns.Client{Net: network, Timeout: patience}
			m := new(dns.Msg).SetQuestion("docker.", dns.TypeA)
			m.Opcode = dns.OpcodeStatus
			if _, _, err := c.Exchange(m, in.dns); err != nil {
				t.Fatal(err)
			}
		}
		for series, want := range map[string]float64{
			`dnsdock_queries_total{transport="T",type="A",rcode="NOERROR",kind="own"}`:          3,
			`dnsdock_queries_total{transport="T",type="other",rcode="NOERROR",kind="own"}`:      3,
			`dnsdock_queries_total{transport="T",type="AAAA",rcode="NXDOMAIN",kind="own"}`:      3,
			`dnsdock_queries_total{transport="T",type="SRV",rcode="NOERROR",kind="own"}`:        3,
			`dnsdock_queries_total{transport="T",type="A",rcode="NOERROR",kind="forwarded"}`:    3,
			`dnsdock_queries_total{transport="T",type="TXT",rcode="SERVFAIL",kind="forwarded"}`: 3,
			`dnsdock_queries_total{transport="T",type="other",rcode="REFUSED",kind="refused"}`:  3,
			`dnsdock_queries_total{transport="T",type="other",rcode="NOTIMP",kind="refused"}`:   3,
			`dnsdock_query_duration_seconds_count{transport="T",kind="own"}`:                    12,
			`dnsdock_queries_total{transport="T",type="A",rcode="NOERROR",kind="cached"}`:       3,
			`dnsdock_query_duration_seconds_count{transport="T",kind="cached"}`:                 3,
			`dnsdock_query_duration_seconds_count{transport="T",kind="forwarded"}`:              6,
			`dnsdock_query_duration_seconds_count{transport="T",kind="refused"}`:                6,
			`dnsdock_query_duration_seconds_bucket{transport="T",kind="own",le="+Inf"}`:         12,
		} {
			series = strings.ReplaceAll(series, `"T"`, `"`+transport+`"`)
			got := 0.0
			for end := time.Now().Add(patience / 8); got != want && time.Now().Before(end); { // the time of the last ones is counted after they are sent
				got = in.metrics(t)[series] - before[series]
			}
			if got != want {
				t.Errorf("%s grew by %v; want %v", series, got, want)
			}
		}
	}
	m := in.metrics(t)
	for series, want := range map[string]float64{
		`dnsdock_upstream_up{upstream="` + dead.String() + `"}`:             0,
		`dnsdock_upstream_failures_total{upstream="` + dead.String() + `"}`: 6,
		`dnsdock_upstream_queries_total{upstream="` + dead.String() + `"}`:  6,
		`dnsdock_cache_hits_total`:                                          6, `dnsdock_cache_misses_total`: 12, `dnsdock_cache_answers`: 12,
		`dnsdock_services`: 1, `dnsdock_ready`: 1, `dnsdock_forward_in_flight`: 0, `dnsdock_event_listeners`: 0,
	} {
		if got, ok := m[series]; !ok || got != want {
			t.Errorf("%s is %v; want %v", series, got, want)
		}
	}
	_, body := in.call(t, "GET", "/metrics", "")
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skipf("no promtool here: %v", err)
	}
	cmd := exec.CommandContext(t.Context(), promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(body)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

// metrics returns the values of all series.
func (in *instance) metrics(t *testing.T) map[string]float64 {
	t.Helper()
	_, body := in.call(t, "GET", "/metrics", "")
	all := make(map[string]float64)
	for line := range strings.Lines(body) {
		i := strings.LastIndexByte(line, ' ')
		var v float64
		if _, err := fmt.Sscan(line[i:], &v); err == nil && line[0] != '#' {
			all[line[:i]] = v
		}
	}
	return all
}

// Health says that it serves, readiness that the containers are known; an
// engine that goes away later is said only.
func TestHealth(t *testing.T) {
	e := dnstest.NewEngine()
	hang := make(chan struct{})
	e.Update(func() { e.Hang = hang })
	in := startDnsdock(t, "-docker="+e.ServeTCP(t, nil))
	want := func(path string, status int, parts ...string) {
		t.Helper()
		if got, body := in.call(t, "GET", path, ""); got != status || !containsAll(body, parts) {
			t.Errorf("%s: got %d %s; want %d with %q", path, got, body, status, parts)
		}
	}
	want("/healthz", 200, `"ok": true`)
	want("/readyz", 503, `"ready": false`, `"up": false`)
	e.Update(func() { e.Hang = nil })
	close(hang)
	in.ready(t)
	want("/readyz", 200, `"ready": true`, `"up": true`)
	in.seen(t, func() { e.Update(func() { e.Version = "1.1" }); e.EndStreams() }, "engine away")
	want("/readyz", 200, `"ready": true`, `"up": false`, `"error"`)
	want("/healthz", 200)
}

// systemd is told when it serves, and when it ends.
func TestNotify(t *testing.T) {
	for _, name := range []string{filepath.Join(t.TempDir(), "notify"), "@dnsdock-test-" + random()} {
		if name[0] == '@' && runtime.GOOS != "linux" {
			continue
		}
		socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		defer socket.Close()
		_ = socket.SetReadDeadline(time.Now().Add(patience))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		log, done := newLogWatch(), make(chan error, 1)
		go func() {
			done <- run(ctx, []string{"-dns=127.0.0.1:0", "-http=", "-docker=unix:///nonexistent"}, environ([]string{"NOTIFY_SOCKET=" + name}), log, log)
		}()
		for _, want := range []string{"READY=1", "STOPPING=1"} {
			b := make([]byte, 100)
			n, err := socket.Read(b)
			if got := string(b[:n]); err != nil || got != want {
				t.Errorf("got %q, %v; want %s", got, err, want)
			}
			cancel()
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// Each line of a log in JSON is JSON, and says the same as the text.
func TestLogJSON(t *testing.T) {
	var text, lines bytes.Buffer
	for cfg, b := range map[config.Log]*bytes.Buffer{{Debug: true}: &text, {Debug: true, JSON: true}: &lines} {
		log := newLogger(cfg, b)
		z := zone.New(t.Context(), ix(newRegistry(publish.NameRules{Apex: mustName(t, "docker")}, 0, log)), forward.New(nil, nil, 0, log), log)
		regOf(z).Put("x", testService(t, regOf(z), "x", "web", "nginx", "10.0.0.1", "www.docker"))
		_ = slowly(z, packQuery(t, 1, "web.nginx.docker.", dns.TypeA), netip.MustParseAddr("192.0.2.1"), dnswire.MaxUDPSize)
		log.Info("x", "domain", z.Apex, "addr", &net.TCPAddr{IP: net.IP{127, 0, 0, 1}, Port: 53}, "took", time.Second, "err", errors.New("e"), "n", 7)
	}
	want := []map[string]any{
		{"msg": "service added", "id": "x", "names": []any{"web.nginx.docker.", "www.docker."}, "addrs": []any{"10.0.0.1"}, "level": "INFO"},
		{"msg": "query", "client": "192.0.2.1", "name": "web.nginx.docker.", "type": "A", "rcode": "NOERROR", "kind": "own", "over": "udp", "answers": 1.0, "level": "DEBUG", "err": nil},
		{"msg": "x", "domain": "docker.", "addr": "127.0.0.1:53", "took": "1s", "err": "e", "n": 7.0, "level": "INFO"},
	}
	for line := range strings.Lines(lines.String()) {
		var got map[string]any
		if err := json.Unmarshal([]byte(line), &got); err != nil || len(want) == 0 {
			t.Fatalf("%s: %v", line, err)
		}
		for k, v := range want[0] {
			if fmt.Sprint(got[k]) != fmt.Sprint(v) {
				t.Errorf("%s: got %v; want %v", k, got[k], v)
			}
		}
		want = want[1:]
	}
	if len(want) > 0 {
		t.Errorf("the log misses %v", want)
	}
	for _, part := range []string{"client=192.0.2.1", "name=web.nginx.docker.", "type=A", "rcode=NOERROR", "kind=own", "took=", "domain=docker."} {
		if !strings.Contains(text.String(), part) {
			t.Errorf("the text misses %s:\n%s", part, &text)
		}
	}
}

// At the end HTTP ends first, and DNS answers until then, what waits for an
// upstream too.
func TestShutdownOrder(t *testing.T) {
	up, asked, release := heldUpstream(t)
	in := startDnsdock(t, "-docker=unix://"+t.TempDir()+"/docker.sock", "-nameserver="+up.String())
	busy, err := net.Dial("tcp", strings.TrimPrefix(in.http, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	if _, err := io.WriteString(busy, "PUT /services/x HTTP/1.1\r\nHost: docker\r\nContent-Length: 1000\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	answered := make(chan *dns.Msg, 1)
	go func() {
		c := dns.Client{Timeout: patience}
		r, _, _ := c.Exchange(new(dns.Msg).SetQuestion("slow.example.org.", dns.TypeA), in.dns)
		answered <- r
	}()
	<-asked
	ended := make(chan error, 1)
	go func() { ended <- in.stop() }()
	for { // until HTTP takes no more
		c, err := net.Dial("tcp", strings.TrimPrefix(in.http, "http://"))
		if err != nil {
			break
		}
		_ = c.Close()
	}
	for _, network := range []string{"udp", "tcp"} {
		if r := in.ask(t, network, "dnsdock.docker", dns.TypeA); r.Rcode != dns.RcodeSuccess {
			t.Errorf("over %s: %v", network, show(r))
		}
	}
	close(release)
	if r := <-answered; r == nil || r.Rcode != dns.RcodeSuccess {
		t.Errorf("what was forwarded: %v; want its answer", r)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// Queries that go to upstreams in bursts are counted as the others are.
func TestBurstsAreCounted(t *testing.T) {
	z := newForwardZone(t)
	z.Fwd = forward.New(forward.Routes{dnsname.Root: servers(startUpstream(t, answer(t, nil), nil))}, nil, 1<<20, z.Log)
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
