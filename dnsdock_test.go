package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/engine"
	"github.com/rayje/dnsdock/internal/publish"
)

// patience is how long a test waits for what must come, on a slow machine:
// longer than the 50 s after which a hanging engine is known to be away.
const patience = 2 * time.Minute

// An instance is the whole program, running inside the test.
type instance struct {
	dns  string // where it listens, UDP and TCP
	http string
	log  *logWatch
	stop func() error // ends it and returns what run returned
}

// startDnsdock runs the program with args until the test ends. It listens
// on free ports of loopback unless args say otherwise, and has no upstream.
func startDnsdock(t *testing.T, args ...string) *instance {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	in := &instance{log: newLogWatch()}
	done := make(chan error, 1)
	args = append([]string{"-dns=127.0.0.1:0", "-http=127.0.0.1:0", "-nameserver="}, args...)
	go func() { done <- run(ctx, args, func(string) string { return "" }, in.log, in.log) }()
	in.stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() {
		if err := in.stop(); err != nil {
			t.Errorf("run: %v", err)
		}
		if t.Failed() {
			t.Logf("log of dnsdock:\n%s", in.log)
		}
	})
	in.dns = in.log.value(t, "msg=listening for=dns", "addr")
	in.http = "http://" + in.log.value(t, "msg=listening for=http", "addr")
	return in
}

// ask sends one query over network and returns the reply.
func (in *instance) ask(t *testing.T, network, qname string, qtype uint16) *dns.Msg {
	t.Helper()
	c := dns.Client{Net: network, Timeout: patience}
	r, _, err := c.Exchange(new(dns.Msg).SetQuestion(dns.Fqdn(qname), qtype), in.dns)
	if err != nil {
		t.Fatalf("%s %s over %s: %v", qname, dns.Type(qtype), network, err)
	}
	return r
}

// addrs returns the addresses that qname has, A and AAAA, as text.
func (in *instance) addrs(t *testing.T, qname string) (addrs []string) {
	t.Helper()
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		for _, rr := range in.ask(t, "udp", qname, qtype).Answer {
			switch rr := rr.(type) {
			case *dns.A:
				addrs = append(addrs, rr.A.String())
			case *dns.AAAA:
				addrs = append(addrs, rr.AAAA.String())
			}
		}
	}
	return addrs
}

// A logWatch collects a log, and lets a test wait for a line in it.
type logWatch struct {
	mu   sync.Mutex
	cond *sync.Cond
	buf  bytes.Buffer
	seen int // octets that wait has gone past
}

func newLogWatch() *logWatch {
	l := &logWatch{}
	l.cond = sync.NewCond(&l.mu)
	return l
}

func (l *logWatch) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cond.Broadcast()
	return l.buf.Write(b)
}

func (l *logWatch) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// mark has wait look only at lines that are still to come.
func (l *logWatch) mark() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen = l.buf.Len()
}

// wait returns the first line since the last mark that holds all parts.
func (l *logWatch) wait(t *testing.T, parts ...string) string {
	t.Helper()
	late := false
	timer := time.AfterFunc(patience, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		late = true
		l.cond.Broadcast()
	})
	defer timer.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	for !late {
		for line := range strings.Lines(string(l.buf.Bytes()[l.seen:])) {
			if strings.HasSuffix(line, "\n") && containsAll(line, parts) {
				return line
			}
		}
		l.cond.Wait()
	}
	t.Fatalf("no line with %q in the log:\n%s", parts, l.buf.Bytes()[l.seen:])
	return ""
}

func containsAll(s string, parts []string) bool {
	for _, p := range parts {
		if !strings.Contains(s, p) {
			return false
		}
	}
	return true
}

// value waits for a line with part and returns its attribute key.
func (l *logWatch) value(t *testing.T, part, key string) string {
	t.Helper()
	_, v, _ := strings.Cut(l.wait(t, part), " "+key+"=")
	v, _, _ = strings.Cut(strings.TrimSpace(v), " ")
	return v
}

// query asks by the dig command, and returns the rcode, then what the answers
// hold in order: "NOERROR 172.17.0.2 172.17.0.3". Query is what dig takes:
// a name and a type, or -x and an address.
func (in *instance) query(t *testing.T, query string) string {
	t.Helper()
	host, port, err := net.SplitHostPort(in.dns)
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"@" + host, "-p", port, "+noall", "+comments", "+answer", "+tries=1", "+time=30"}, strings.Fields(query)...)
	out, err := exec.Command("dig", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("dig %s: %v: %s", query, err, out)
	}
	return parseDig(string(out))
}

// parseDig reads what dig +noall +comments +answer prints.
func parseDig(out string) string {
	rcode := "no reply"
	var data []string
	for line := range strings.Lines(out) {
		if _, status, ok := strings.Cut(line, "status: "); ok {
			rcode, _, _ = strings.Cut(status, ",")
		}
		if f := strings.Fields(line); len(f) > 4 && !strings.HasPrefix(line, ";") { // owner, TTL, class, type, data
			data = append(data, strings.Join(f[4:], " "))
		}
	}
	slices.Sort(data)
	return strings.Join(append([]string{rcode}, data...), " ")
}

// want asks once, see query.
func (in *instance) want(t *testing.T, query string, want ...string) {
	t.Helper()
	slices.Sort(want[1:])
	if got := in.query(t, query); got != strings.Join(want, " ") {
		t.Errorf("%s: got %q; want %q", query, got, strings.Join(want, " "))
	}
}

// soon asks until the answer is want, where no line of the log tells that it
// should be.
func (in *instance) soon(t *testing.T, query string, want ...string) {
	t.Helper()
	slices.Sort(want[1:])
	got := ""
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if got = in.query(t, query); got == strings.Join(want, " ") {
			return
		}
	}
	t.Fatalf("%s: got %q; want %q", query, got, strings.Join(want, " "))
}

// ready waits until all that was there at the start is answered.
func (in *instance) ready(t *testing.T) {
	t.Helper()
	in.soon(t, "no.such.container.docker A", "NXDOMAIN")
}

// seen does something, and waits for what dnsdock logs of it.
func (in *instance) seen(t *testing.T, do func(), parts ...string) {
	t.Helper()
	in.log.mark()
	do()
	in.log.wait(t, parts...)
}

// call sends a request to the HTTP API and returns the status and the body.
func (in *instance) call(t *testing.T, method, path, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, in.http+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	reply, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(reply)
}

// The whole program against a fake engine, over each way to reach one.
func TestFakeEngine(t *testing.T) {
	dir := t.TempDir()
	ca := dnstest.NewAuthority(t, dir, "ca.pem")
	until := time.Now().Add(time.Hour)
	cert := ca.Issue(dir, "server.pem", "server-key.pem", "127.0.0.1", until)
	ca.Issue(dir, "cert.pem", "key.pem", "client", until)
	pool := x509.NewCertPool()
	pool.AddCert(ca.Cert)
	mutual := &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}

	for _, c := range []struct {
		what  string
		start func(t *testing.T, e *fakeEngine) (args []string)
	}{
		{"unix", func(t *testing.T, e *fakeEngine) []string {
			socket := filepath.Join(t.TempDir(), "d.sock")
			ln, err := net.Listen("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			srv := &http.Server{Handler: e}
			go func() { _ = srv.Serve(ln) }()
			t.Cleanup(func() { _ = srv.Close() })
			return []string{"-docker=unix://" + socket}
		}},
		{"tcp", func(t *testing.T, e *fakeEngine) []string {
			return []string{"-docker=" + startEngine(t, e, nil).Text}
		}},
		{"tls", func(t *testing.T, e *fakeEngine) []string {
			return []string{"-docker=" + startEngine(t, e, mutual.Clone()).Text, "-tlsverify",
				"-tlscacert=" + filepath.Join(dir, "ca.pem"), "-tlscert=" + filepath.Join(dir, "cert.pem"), "-tlskey=" + filepath.Join(dir, "key.pem")}
		}},
	} {
		t.Run(c.what, func(t *testing.T) {
			e := newFakeEngine()
			e.set("aa", &fakeContainer{name: "a", image: "redis:7", state: "running", addr: "10.0.0.1"})
			in := startDnsdock(t, c.start(t, e)...)
			want := func(qname, want string) {
				t.Helper()
				got := in.addrs(t, qname)
				slices.Sort(got)
				if strings.Join(got, " ") != want {
					t.Errorf("%s: %v; want %s", qname, got, want)
				}
			}
			in.log.wait(t, "service added", fakeID("aa"))
			want("a.redis.docker", "10.0.0.1")

			in.seen(t, func() { e.start("bb", "b", "10.0.0.2") }, "service added", fakeID("bb"))
			want("redis.docker", "10.0.0.1 10.0.0.2")
			in.seen(t, func() { e.setState("aa", "exited"); e.event("die", fakeID("aa")) }, "service removed", fakeID("aa"))
			want("a.redis.docker", "")
			want("b.redis.docker", "10.0.0.2")

			if status, body := in.call(t, "PATCH", "/services/bb00", `{"name":"z"}`); status != http.StatusOK {
				t.Fatalf("PATCH: %d %s", status, body)
			}
			want("z.redis.docker", "10.0.0.2")
			in.seen(t, func() {
				e.set("aa", &fakeContainer{name: "a", image: "redis:7", state: "running", addr: "10.0.0.7"})
				e.endStreams()
			},
				"service added", fakeID("aa")) // by the list of the reconnect
			want("a.redis.docker", "10.0.0.7")
			want("z.redis.docker", "10.0.0.2")
		})
	}
}

// TestRealEngine runs the program beside a Docker Engine of this machine, and
// drives that by the docker command.
func TestRealEngine(t *testing.T) {
	t.Parallel()
	e := findEngine(t)
	e.importApp(t)
	for _, test := range []struct {
		name string
		f    func(*testing.T, *stage)
	}{
		{"life of a container", testLife},
		{"changed address", testChangedAddress},
		{"rename", testRename},
		{"pause", testPause},
		{"networks", testNetworks},
		{"IPv6", testIPv6},
		{"without address", testWithoutAddress},
		{"clients on networks", testClientsOnNetworks},
		{"behind a proxy", testBehindProxy},
		{"point elsewhere", testPointElsewhere},
		{"compose", testCompose},
		{"health", testHealth},
		{"read-only proxy", testReadOnlyProxy},
		{"overrides", testOverrides},
		{"records", testRecords},
		{"images", testImages},
		{"all", testAll},
		{"API", testAPIHolds},
		{"idle", testIdle},
		{"scratch image", testScratchImage},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.f(t, e.newStage(t))
		})
	}
}

func testLife(t *testing.T, s *stage) {
	in := s.dnsdock(t)
	for _, end := range [][]string{{"stop"}, {"kill"}, {"rm", "-f"}} {
		web := s.name("web-" + end[0])
		id := s.run(t, web)
		in.log.wait(t, "service added", id)
		ip := s.ip(t, web)
		in.want(t, s.fqdn(web)+" A", "NOERROR", ip)
		in.want(t, s.fqdn(web)+" AAAA", "NOERROR")
		in.want(t, "any.thing."+strings.ToUpper(s.fqdn(web))+" A", "NOERROR", ip)
		in.want(t, s.fqdn(web)+" A +tcp", "NOERROR", ip)
		in.want(t, "-x "+ip, "NOERROR", s.fqdn(web))
		if end[0] == "kill" {
			s.docker(t, "kill", "--signal=HUP", web) // is no death
			in.want(t, s.fqdn(web)+" A", "NOERROR", ip)
		}
		in.seen(t, func() { s.docker(t, append(end, web)...) }, "service removed", id)
		in.want(t, s.fqdn(web)+" A", "NXDOMAIN")
		if end[0] != "rm" {
			in.seen(t, func() { s.docker(t, "start", web) }, "service added", id)
			in.want(t, s.fqdn(web)+" A", "NOERROR", s.ip(t, web))
			s.docker(t, "restart", "--time=1", web)
			in.soon(t, s.fqdn(web)+" A", "NOERROR", s.ip(t, web))
		}
	}
}

// testChangedAddress restarts a container whose address another one took in
// between.
func testChangedAddress(t *testing.T, s *stage) {
	in := s.dnsdock(t)
	lan := s.network(t, "net")
	web, thief := s.name("web"), s.name("thief")
	id := s.run(t, web, "--network="+lan)
	in.log.wait(t, "service added", id)
	before := s.ip(t, web)
	in.want(t, "-x "+before, "NOERROR", s.fqdn(web))

	in.seen(t, func() { s.docker(t, "stop", web) }, "service removed", id)
	in.log.wait(t, "service added", s.run(t, thief, "--network="+lan))
	if s.engine.podman {
		t.Skip("podman gives a free address to others only after all the rest")
	}
	if got := s.ip(t, thief); got != before {
		t.Fatalf("the second container got %s; want %s, which is free again", got, before)
	}
	in.want(t, "-x "+before, "NOERROR", s.fqdn(thief))
	in.seen(t, func() { s.docker(t, "start", web) }, "service added", id)
	after := s.ip(t, web)
	in.want(t, s.fqdn(web)+" A", "NOERROR", after)
	in.want(t, s.fqdn(thief)+" A", "NOERROR", before)
	in.want(t, "-x "+before, "NOERROR", s.fqdn(thief))
	in.want(t, "-x "+after, "NOERROR", s.fqdn(web))

	// Both change places while the events of both mix.
	s.docker(t, "stop", web, thief)
	s.docker(t, "start", web)
	s.docker(t, "start", thief)
	in.soon(t, s.fqdn(web)+" A", "NOERROR", s.ip(t, web))
	in.soon(t, s.fqdn(thief)+" A", "NOERROR", s.ip(t, thief))
	in.want(t, "-x "+s.ip(t, web), "NOERROR", s.fqdn(web))
}

func testRename(t *testing.T, s *stage) {
	in := s.dnsdock(t)
	a, b, c := s.name("a"), s.name("b"), s.name("c")
	idA, idB := s.run(t, a), s.run(t, b)
	in.log.wait(t, "service added", idA)
	in.log.wait(t, "service added", idB)
	ipA, ipB := s.ip(t, a), s.ip(t, b)
	in.seen(t, func() { s.docker(t, "rename", a, c) }, "service changed", idA)
	in.want(t, s.fqdn(a)+" A", "NXDOMAIN")
	in.want(t, s.fqdn(c)+" A", "NOERROR", ipA)
	in.want(t, "-x "+ipA, "NOERROR", s.fqdn(c))
	in.seen(t, func() { s.docker(t, "rename", b, a) }, "service changed", idB)
	in.want(t, s.fqdn(a)+" A", "NOERROR", ipB)
	in.seen(t, func() { s.docker(t, "rename", c, b) }, "service changed", idA)
	in.want(t, s.fqdn(b)+" A", "NOERROR", ipA)
	in.want(t, s.fqdn(c)+" A", "NXDOMAIN")
}

func testPause(t *testing.T, s *stage) {
	in := s.dnsdock(t)
	web := s.name("web")
	id := s.run(t, web)
	in.log.wait(t, "service added", id)
	in.seen(t, func() { s.pause(t, web) }, "service removed", id)
	in.want(t, s.fqdn(web)+" A", "NXDOMAIN")
	in.seen(t, func() { s.docker(t, "unpause", web) }, "service added", id)
	in.want(t, s.fqdn(web)+" A", "NOERROR", s.ip(t, web))
}

func testNetworks(t *testing.T, s *stage) {
	in := s.dnsdock(t)
	one, two := s.network(t, "one"), s.network(t, "two")
	web := s.name("web")
	id := s.run(t, web, "--network="+one)
	in.log.wait(t, "service added", id)
	first := s.ip(t, web)
	in.seen(t, func() { s.docker(t, "network", "connect", two, web) }, "service changed", id)
	both := strings.Fields(s.inspect(t, web, "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}"))
	in.want(t, s.fqdn(web)+" A", "NOERROR", both[0], both[1])
	for _, ip := range both {
		in.want(t, "-x "+ip, "NOERROR", s.fqdn(web))
	}
	in.seen(t, func() { s.docker(t, "network", "disconnect", two, web) }, "service changed", id)
	in.want(t, s.fqdn(web)+" A", "NOERROR", first)
	second := both[1-slices.Index(both, first)]
	in.want(t, "-x "+second, "REFUSED") // is not ours any more, and there is no upstream
	in.seen(t, func() { s.docker(t, "network", "disconnect", one, web) }, "service removed", id)
	in.want(t, s.fqdn(web)+" A", "NXDOMAIN")
	in.seen(t, func() { s.docker(t, "network", "connect", one, web) }, "service added", id)
	in.want(t, s.fqdn(web)+" A", "NOERROR", s.ip(t, web))
}

func testIPv6(t *testing.T, s *stage) {
	in := s.dnsdock(t)
	six := s.network6(t, "six")
	web := s.name("web")
	id := s.run(t, web, "--network="+six)
	in.log.wait(t, "service added", id)
	ip4 := s.ip(t, web)
	ip6 := s.inspect(t, web, "{{range .NetworkSettings.Networks}}{{.GlobalIPv6Address}}{{end}}")
	in.want(t, s.fqdn(web)+" A", "NOERROR", ip4)
	in.want(t, s.fqdn(web)+" AAAA", "NOERROR", ip6)
	if got := in.addrs(t, s.fqdn(web)); !slices.Equal(got, []string{ip4, ip6}) {
		t.Errorf("asked over UDP: got %v; want %s and %s", got, ip4, ip6)
	}
	in.want(t, "-x "+ip4, "NOERROR", s.fqdn(web))
	in.want(t, "-x "+ip6, "NOERROR", s.fqdn(web))
	in.seen(t, func() { s.docker(t, "kill", web) }, "service removed", id)
	in.want(t, s.fqdn(web)+" AAAA", "NXDOMAIN")
	in.want(t, "-x "+ip6, "NXDOMAIN")
}

// testWithoutAddress has containers that have no address of their own, or are
// ignored, before and after the start of dnsdock.
func testWithoutAddress(t *testing.T, s *stage) {
	var hidden []string
	run := func(name string, args ...string) {
		hidden = append(hidden, s.name(name))
		s.run(t, s.name(name), args...)
	}
	web := s.name("web")
	s.run(t, web)
	s.run(t, s.name("shared"), "--network=container:"+web)
	run("none", "--network=none")
	run("ignored", "--env=DNSDOCK_IGNORE=")
	in := s.dnsdock(t)
	in.ready(t)
	s.run(t, s.name("host"), "--network=host")
	s.run(t, s.name("shared2"), "--network=container:"+s.name("shared"))
	run("none2", "--network=none")
	run("ignored2", "--env=SERVICE_IGNORE=1")
	run("ignored3", "--label=com.dnsdock.ignore=true")
	last := s.name("last")
	in.log.wait(t, "service added", s.run(t, last))
	ip := s.ip(t, web)
	in.want(t, s.fqdn(web)+" A", "NOERROR", ip)
	in.want(t, s.fqdn(last)+" A", "NOERROR", s.ip(t, last))
	in.want(t, s.fqdn(s.name("host"))+" A", "NOERROR", "127.0.0.1") // that was asked
	in.want(t, s.fqdn(s.name("host"))+" AAAA", "NOERROR")
	for _, name := range []string{s.name("shared"), s.name("shared2")} {
		in.soon(t, s.fqdn(name)+" A", "NOERROR", ip)
	}
	in.want(t, "-x "+ip, "NOERROR", s.fqdn(web), s.fqdn(s.name("shared")), s.fqdn(s.name("shared2")))
	for _, name := range hidden {
		in.want(t, s.fqdn(name)+" A", "NXDOMAIN")
	}
	for line := range strings.Lines(in.log.String()) {
		if strings.Contains(line, "level=WARN") && strings.Contains(line, s.prefix) { // other tests run beside this one
			t.Errorf("warned of containers without an address: %s", line)
		}
	}

	// It dies, starts again with another address, and is removed.
	s.docker(t, "stop", web)
	in.soon(t, s.fqdn(s.name("shared"))+" A", "NXDOMAIN")
	in.soon(t, s.fqdn(s.name("shared2"))+" A", "NXDOMAIN")
	thief := s.name("thief")
	s.run(t, thief)
	s.docker(t, "start", web)
	in.soon(t, s.fqdn(s.name("shared"))+" A", "NOERROR", s.ip(t, web))
	in.soon(t, s.fqdn(s.name("shared2"))+" A", "NOERROR", s.ip(t, web))
	if s.engine.podman {
		return // it does not remove what others share
	}
	s.docker(t, "rm", "--force", web)
	in.soon(t, s.fqdn(s.name("shared"))+" A", "NXDOMAIN")
}

// An asker asks from inside of a network, by dig in a container there.
type asker struct {
	*stage
	what    string // for the log
	network string // "": on the host
	server  string // address of dnsdock as it is seen from there
	port    string
}

// ask returns the rcode and the answers' data, in the order that they came in.
func (a *asker) ask(t *testing.T, query string) string {
	t.Helper()
	args := append([]string{"@" + a.server, "-p", a.port, "+noall", "+comments", "+answer", "+tries=3", "+time=5"}, strings.Fields(query)...)
	var out string
	if a.network == "" {
		b, err := exec.Command("dig", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("dig %s: %v: %s", args, err, b)
		}
		out = string(b)
	} else {
		out = a.inside(t, a.network, nil, "dig", args...)
	}
	rcode := "no reply"
	var data []string
	for line := range strings.Lines(out) {
		if _, status, ok := strings.Cut(line, "status: "); ok {
			rcode, _, _ = strings.Cut(status, ",")
		}
		if f := strings.Fields(line); len(f) > 4 && !strings.HasPrefix(line, ";") {
			data = append(data, strings.Join(f[4:], " "))
		}
	}
	return strings.Join(append([]string{rcode}, data...), " ")
}

func (a *asker) want(t *testing.T, query, want string) {
	t.Helper()
	got := a.ask(t, query)
	t.Logf("| %s | %s | %s |", a.what, strings.ReplaceAll(query, a.prefix+"-", ""), got)
	if got != want {
		t.Errorf("%s, %s: got %q; want %q", a.what, query, got, want)
	}
}

// inside runs a program of this host in a container on a network.
func (s *stage) inside(t *testing.T, network string, more []string, program string, args ...string) string {
	t.Helper()
	if lib, _ := os.Readlink("/lib"); lib != "usr/lib" {
		t.Skip("programs of this host can't run in a container: /lib is not in /usr")
	}
	return s.docker(t, slices.Concat([]string{"run", "--rm", "--label=" + s.prefix, "--label=com.dnsdock.ignore=", "--network=" + network, "--security-opt=label=disable",
		"--volume=/usr:/usr:ro", "--entrypoint=/usr/bin/" + program}, more, []string{s.engine.image}, args)...)
}

// on is the address of a container on a network, of either family; gateway is
// the host's there.
func (s *stage) on(t *testing.T, container, network string) (ip4, ip6, gateway string) {
	t.Helper()
	out := strings.Split(s.inspect(t, container, `{{with index .NetworkSettings.Networks "`+network+`"}}{{.IPAddress}}|{{.GlobalIPv6Address}}|{{.Gateway}}{{end}}`), "|")
	if len(out) != 3 {
		t.Fatalf("%s on %s: got %q", container, network, out)
	}
	return out[0], out[1], out[2]
}

// bridge is what the engine calls the default network.
func (s *stage) bridge() string {
	if s.engine.podman {
		return "podman"
	}
	return "bridge"
}

// testClientsOnNetworks runs dnsdock on the host, and asks from each network
// about containers on several.
func testClientsOnNetworks(t *testing.T, s *stage) {
	s.hostOnly(t)
	in := s.dnsdock(t, "-dns=:0")
	_, port, _ := net.SplitHostPort(in.log.value(t, "msg=listening for=dns addr=[::]", "addr"))
	one, two, inside, six := s.network(t, "one"), s.network(t, "two"), s.network(t, "an-inside", "--internal"), s.network6(t, "six")
	gateway := func(network string) string { return hostAddr(s.subnets[network], 1) }
	multi, only, hosted, shared, far := s.name("multi"), s.name("only"), s.name("hosted"), s.name("shared"), s.name("far")
	id := s.run(t, multi, "--network="+two)
	for _, network := range []string{one, inside, six} {
		s.docker(t, "network", "connect", network, multi)
	}
	s.run(t, only, "--network="+inside)
	s.run(t, hosted, "--network=host")
	s.run(t, shared, "--network=container:"+multi)
	s.run(t, far)
	multi1, _, _ := s.on(t, multi, one)
	multi2, _, _ := s.on(t, multi, two)
	multiIn, _, _ := s.on(t, multi, inside)
	multi6, multi66, _ := s.on(t, multi, six)
	onlyIn := s.ip(t, only)
	_, _, bridge := s.on(t, far, s.bridge())
	everywhere := "NOERROR " + strings.Join([]string{multi1, multi6, multi2}, " ") // by name
	in.log.wait(t, "service", id)
	in.soon(t, s.fqdn(multi)+" A", "NOERROR", multi1, multi2, multi6)
	in.soon(t, s.fqdn(shared)+" A", "NOERROR", multi1, multi2, multi6)
	in.soon(t, s.fqdn(hosted)+" A", "NOERROR", "127.0.0.1")

	for _, c := range []struct {
		what, network, server                       string
		multi, multi6, only, hosted, shared, theFar string
	}{
		{"host", "", "127.0.0.1", everywhere, multi66, "", "127.0.0.1", everywhere, s.ip(t, far)},
		{"default bridge", s.bridge(), bridge, everywhere, multi66, "", bridge, everywhere, s.ip(t, far)},
		{"network one", one, gateway(one), "NOERROR " + multi1, "", "", gateway(one), "NOERROR " + multi1, s.ip(t, far)},
		{"network two", two, gateway(two), "NOERROR " + multi2, "", "", gateway(two), "NOERROR " + multi2, s.ip(t, far)},
		{"internal network", inside, gateway(inside), "NOERROR " + multiIn, "", onlyIn, gateway(inside), "NOERROR " + multiIn, s.ip(t, far)},
		{"IPv6 network, by IPv4", six, gateway(six), "NOERROR " + multi6, multi66, "", gateway(six), "NOERROR " + multi6, s.ip(t, far)},
	} {
		if s.engine.podman && c.network == inside {
			continue // the host has no address there
		}
		a := &asker{s, c.what, c.network, c.server, port}
		a.want(t, s.fqdn(multi)+" A", c.multi)
		a.want(t, s.fqdn(multi)+" AAAA", strings.TrimSpace("NOERROR "+c.multi6))
		a.want(t, s.fqdn(only)+" A", strings.TrimSpace("NOERROR "+c.only))
		a.want(t, s.fqdn(hosted)+" A", "NOERROR "+c.hosted)
		a.want(t, s.fqdn(shared)+" A", c.shared)
		a.want(t, s.fqdn(far)+" A +tcp", "NOERROR "+c.theFar)
	}
	gateway6 := s.docker(t, "network", "inspect", `--format={{range .IPAM.Config}}{{.Subnet}} {{end}}`, six)
	for text := range strings.FieldsSeq(gateway6) {
		if base, ok := strings.CutSuffix(text, "::/64"); ok {
			a := &asker{s, "IPv6 network, by IPv6", six, base + "::1", port}
			a.want(t, s.fqdn(multi)+" A", "NOERROR "+multi6)
			a.want(t, s.fqdn(multi)+" AAAA", "NOERROR "+multi66)
			a.want(t, s.fqdn(hosted)+" AAAA", "NOERROR "+netip.MustParseAddr(base+"::1").String())
		}
	}
	limited := s.dnsdock(t, "-network="+two+","+inside)
	limited.soon(t, s.fqdn(multi)+" A", "NOERROR", multi2)
	limited.ready(t)
	limited.want(t, s.fqdn(far)+" A", "NXDOMAIN")
}

func testOverrides(t *testing.T, s *stage) {
	in := s.dnsdock(t)
	p := s.prefix
	for _, test := range []struct {
		name  string
		args  []string
		names []string
	}{
		{"alias", []string{"--env=DNSDOCK_ALIAS=DB-" + p + ".docker, " + p + ".example.com."},
			[]string{p + "-alias.app", "db-" + p, p + ".example.com"}},
		{"named", []string{"--env=DNSDOCK_NAME=one", "--env=DNSDOCK_IMAGE=img-" + p, "--env=SERVICE_NAME=no", "--env=SERVICE_TAGS=no"},
			[]string{"one.img-" + p, "img-" + p}},
		{"registrator", []string{"--env=SERVICE_NAME=mysql-" + p, "--env=SERVICE_TAGS=master,slave", "--env=SERVICE_REGION=us2"},
			[]string{"master.mysql-" + p + ".us2"}},
		{"untagged", []string{"--env=SERVICE_NAME=plain-" + p, "--env=SERVICE_TAGS="}, []string{"plain-" + p}},
		{"labels", []string{"--label=com.dnsdock.name=two", "--label=com.dnsdock.image=lab-" + p,
			"--label=com.dnsdock.alias=lab." + p + ".example.org", "--label=com.dnsdock.region=eu"},
			[]string{"two.lab-" + p + ".eu", "lab." + p + ".example.org"}},
		{"both", []string{"--label=com.dnsdock.name=label", "--env=DNSDOCK_NAME=env", "--label=com.dnsdock.image=both-" + p},
			[]string{"env.both-" + p}},
		{"badly", []string{"--env=DNSDOCK_TTL=soon", "--env=DNSDOCK_ALIAS=*,.,good." + p + ".example.net"},
			[]string{p + "-badly.app", "good." + p + ".example.net"}},
	} {
		name := s.name(test.name)
		in.log.wait(t, "service added", s.run(t, name, test.args...))
		for _, n := range test.names {
			if !strings.Contains(n, ".example.") {
				n += ".docker"
			}
			in.want(t, n+" A", "NOERROR", s.ip(t, name))
		}
	}
	in.want(t, "below."+p+".example.com A", "NOERROR", s.ip(t, s.name("alias")))
	in.want(t, "no.img-"+p+".docker A", "NXDOMAIN")
	in.want(t, "label.both-"+p+".docker A", "NXDOMAIN")
	in.want(t, "example.com A", "REFUSED") // what is above an alias is not ours
	in.log.wait(t, "level=WARN", "container="+s.name("badly"), "source=DNSDOCK_TTL", "value=soon")

	host := s.name("host")
	in.log.wait(t, "service added", s.run(t, host, "--network=host", "--env=DNSDOCK_IPADDRESS=198.51.100.7,2001:db8::7", "--env=DNSDOCK_TTL=77"))
	in.want(t, s.fqdn(host)+" A", "NOERROR", "198.51.100.7")
	in.want(t, s.fqdn(host)+" AAAA", "NOERROR", "2001:db8::7")
	if got := in.ask(t, "udp", s.fqdn(host), dns.TypeA).Answer[0].Header().Ttl; got != 77 {
		t.Errorf("TTL: got %d; want 77", got)
	}
	lan := s.network(t, "net")
	web := s.name("prefix")
	id := s.run(t, web, "--env=DNSDOCK_PREFIX="+s.subnets[lan])
	in.seen(t, func() { s.docker(t, "network", "connect", lan, web) }, "service added", id)
	in.want(t, s.fqdn(web)+" A", "NOERROR", s.inspect(t, web, `{{(index .NetworkSettings.Networks "`+lan+`").IPAddress}}`))
}

func testRecords(t *testing.T, s *stage) {
	in := s.dnsdock(t)
	web, front, bare := s.name("web"), s.name("front"), s.name("bare")
	in.log.wait(t, "service added", s.run(t, web, "--expose=80", "--expose=443/tcp", "--expose=53/udp", "--publish=127.0.0.1::8081",
		"--env=SERVICE_80_NAME=http", "--env=SERVICE_443_IGNORE=1", "--env=SERVICE_9000_NAME=metrics", "--label=com.dnsdock.txt=v=1, it's \"me\"\nowner=me"))
	in.log.wait(t, "service added", s.run(t, front, "--label=com.dnsdock.cname="+s.fqdn(web)))
	in.log.wait(t, "service added", s.run(t, bare, "--net=none", "--env=DNSDOCK_CNAME=www.example.com"))
	in.want(t, "_http._tcp."+s.fqdn(web)+" SRV", "NOERROR", "0 1 80 "+s.fqdn(web))
	in.want(t, "_80._tcp."+s.fqdn(web)+" SRV", "NOERROR", "0 1 80 "+s.fqdn(web))
	in.want(t, "_53._udp."+s.fqdn(web)+" SRV", "NOERROR", "0 1 53 "+s.fqdn(web))
	in.want(t, "_8081._tcp."+s.fqdn(web)+" SRV", "NOERROR", "0 1 8081 "+s.fqdn(web))
	in.want(t, "_metrics._tcp."+s.fqdn(web)+" SRV", "NOERROR", "0 1 9000 "+s.fqdn(web))
	in.want(t, "_443._tcp."+s.fqdn(web)+" SRV", "NOERROR")
	in.want(t, s.fqdn(web)+" TXT", "NOERROR", `"owner=me"`, `"v=1, it's \"me\""`)
	in.want(t, s.fqdn(front)+" A", "NOERROR", s.fqdn(web), s.ip(t, web))
	in.want(t, s.fqdn(front)+" CNAME", "NOERROR", s.fqdn(web))
	in.want(t, s.fqdn(bare)+" AAAA", "NOERROR", "www.example.com.")
	in.want(t, "-x "+s.ip(t, web), "NOERROR", s.fqdn(web)) // and not the one with the CNAME, whose address is its own
	in.want(t, "-x "+s.ip(t, front), "NXDOMAIN")
	in.seen(t, func() { s.docker(t, "kill", web) }, "service removed", s.fqdn(web))
	in.want(t, s.fqdn(front)+" A", "NXDOMAIN", s.fqdn(web))
}

func testImages(t *testing.T, s *stage) {
	in := s.dnsdock(t)
	id := s.docker(t, "image", "inspect", "--format={{.Id}}", s.engine.image)
	hex := strings.TrimPrefix(id, "sha256:")
	ref := "registry.test:5000/team/" + s.prefix + ":v1"
	s.docker(t, "tag", s.engine.image, ref)
	t.Cleanup(func() { s.docker(t, "rmi", ref) })
	for i, test := range []struct{ image, part string }{
		{s.engine.image, "app."},
		{ref, s.prefix + "."},
		{id, ""},
		{hex, ""},
		{hex[:12], ""},
		{hex[:7], ""},
	} {
		if s.engine.podman && test.part == "" {
			continue // it gives the image's name for an ID
		}
		name := s.name("img" + strconv.Itoa(i))
		in.log.wait(t, "service added", s.runImage(t, test.image, name))
		in.want(t, name+"."+test.part+"docker A", "NOERROR", s.ip(t, name))
		in.want(t, "-x "+s.ip(t, name), "NOERROR", name+"."+test.part+"docker.")
	}
	in.want(t, s.prefix+".docker A", "NOERROR", s.ip(t, s.name("img1")))
}

func testAll(t *testing.T, s *stage) {
	in := s.dnsdock(t, "-all")
	lan := s.network(t, "net")
	static, dynamic, paused, created := s.name("static"), s.name("dynamic"), s.name("paused"), s.name("created")
	idStatic := s.run(t, static, "--network="+lan, "--ip="+hostAddr(s.subnets[lan], 77))
	idDynamic := s.run(t, dynamic)
	idPaused := s.run(t, paused)
	in.log.wait(t, "service added", idStatic)
	in.log.wait(t, "service added", idDynamic)
	in.log.wait(t, "service added", idPaused)
	ipStatic, ipDynamic, ipPaused := s.ip(t, static), s.ip(t, dynamic), s.ip(t, paused)
	s.pause(t, paused)
	s.docker(t, "stop", static, dynamic)
	if s.engine.podman {
		t.Skip("podman does not tell the address of a container that never ran")
	}
	s.runCommand(t, "create", s.engine.image, created, "--network="+lan, "--ip="+hostAddr(s.subnets[lan], 78))
	in.soon(t, s.fqdn(created)+" A", "NOERROR", hostAddr(s.subnets[lan], 78))
	in.want(t, s.fqdn(static)+" A", "NOERROR", ipStatic)
	in.want(t, s.fqdn(dynamic)+" A", "NOERROR", ipDynamic) // the engine forgot it, dnsdock did not
	in.want(t, s.fqdn(paused)+" A", "NOERROR", ipPaused)

	later := s.dnsdock(t, "-all")
	later.ready(t)
	later.want(t, s.fqdn(static)+" A", "NOERROR", ipStatic)
	later.want(t, s.fqdn(dynamic)+" A", "NXDOMAIN")
	later.want(t, s.fqdn(paused)+" A", "NOERROR", ipPaused)
	later.want(t, s.fqdn(created)+" A", "NOERROR", hostAddr(s.subnets[lan], 78))

	in.seen(t, func() { s.docker(t, "rm", static) }, "service removed", idStatic)
	in.want(t, s.fqdn(static)+" A", "NXDOMAIN")
	in.seen(t, func() { s.docker(t, "rm", dynamic) }, "service removed", idDynamic)
	in.want(t, s.fqdn(dynamic)+" A", "NXDOMAIN")
	s.docker(t, "unpause", paused)
	in.want(t, s.fqdn(paused)+" A", "NOERROR", ipPaused)
	in.seen(t, func() { s.docker(t, "rm", "-f", paused) }, "service removed", idPaused)
	in.want(t, s.fqdn(paused)+" A", "NXDOMAIN")
}

// testAPIHolds has what the API did to a container's service survive a restart
// of the container, and end with the container.
func testAPIHolds(t *testing.T, s *stage) {
	in := s.dnsdock(t)
	patched, replaced, deleted := s.name("patched"), s.name("replaced"), s.name("deleted")
	ids := make(map[string]string)
	for _, name := range []string{patched, replaced, deleted} {
		ids[name] = s.run(t, name)
		in.log.wait(t, "service added", ids[name])
	}
	api := func(method, id, body string, want int) {
		t.Helper()
		if got, reply := in.call(t, method, "/services/"+id, body); got != want {
			t.Errorf("%s %s: got %d %s; want %d", method, body, got, reply, want)
		}
	}
	alias := "alias-" + s.prefix + ".docker"
	api("PATCH", ids[patched][:12], `{"ttl": 33, "alias": "`+alias+`"}`, 200)
	api("PUT", ids[replaced], `{"name": "new", "image": "`+s.prefix+`", "ip": "198.51.100.9"}`, 200)
	api("DELETE", ids[deleted][:12], "", 204)
	api("PUT", "hand-"+s.prefix, `{"name": "hand", "image": "`+s.prefix+`", "ip": "2001:db8::9"}`, 201)
	holds := func() {
		t.Helper()
		in.want(t, alias+" A", "NOERROR", s.ip(t, patched))
		in.want(t, s.fqdn(patched)+" A", "NOERROR", s.ip(t, patched))
		if got := in.ask(t, "udp", alias, dns.TypeA).Answer; len(got) != 1 || got[0].Header().Ttl != 33 {
			t.Errorf("patched: got %v; want one record with TTL 33", got)
		}
		in.want(t, "new."+s.prefix+".docker A", "NOERROR", "198.51.100.9")
		in.want(t, s.fqdn(replaced)+" A", "NXDOMAIN")
		in.want(t, s.fqdn(deleted)+" A", "NXDOMAIN")
		in.want(t, "hand."+s.prefix+".docker AAAA", "NOERROR", "2001:db8::9")
	}
	holds()
	in.seen(t, func() { s.docker(t, "stop", deleted, patched, replaced) }, "service removed", ids[replaced])
	in.soon(t, alias+" A", "NXDOMAIN")
	in.want(t, "hand."+s.prefix+".docker AAAA", "NOERROR", "2001:db8::9")
	in.seen(t, func() { s.docker(t, "start", deleted, replaced, patched) }, "service added", ids[patched])
	in.soon(t, "new."+s.prefix+".docker A", "NOERROR", "198.51.100.9")
	holds()
	in.seen(t, func() { s.docker(t, "rm", "-f", deleted, patched, replaced) }, "service removed", ids[replaced])
	in.soon(t, alias+" A", "NXDOMAIN")

	// The same names again are other containers.
	for _, name := range []string{patched, replaced, deleted} {
		in.log.wait(t, "service added", s.run(t, name))
		in.want(t, s.fqdn(name)+" A", "NOERROR", s.ip(t, name))
	}
	in.want(t, alias+" A", "NXDOMAIN")
	in.want(t, "new."+s.prefix+".docker A", "NXDOMAIN")
	api("DELETE", "hand-"+s.prefix, "", 204)
	in.want(t, "hand."+s.prefix+".docker AAAA", "NXDOMAIN")
}

// testIdle counts what is asked of the engine: where a list and an inspect
// tell the same of a container, it is inspected once and not with each list.
func testIdle(t *testing.T, s *stage) {
	lan, six := s.network(t, "net"), s.network6(t, "six")
	web := s.name("web")
	ids := map[string]string{"running": s.run(t, web)}
	run := func(name string, args ...string) { ids[name] = s.run(t, s.name(name), args...) }
	run("exited")
	run("static", "--network="+lan, "--ip="+hostAddr(s.subnets[lan], 77))
	run("static exited", "--network="+lan, "--ip="+hostAddr(s.subnets[lan], 78))
	run("IPv6", "--network="+six)
	run("IPv6 exited", "--network="+six)
	run("two networks", "--network="+lan)
	run("host", "--network=host")
	run("none", "--network=none")
	run("shared", "--network=container:"+web)
	run("paused")
	run("renamed")
	run("restarted")
	ids["created"] = s.runCommand(t, "create", s.engine.image, s.name("created"))
	s.docker(t, "stop", ids["exited"], ids["static exited"], ids["IPv6 exited"])
	s.docker(t, "network", "connect", six, ids["two networks"])
	s.pause(t, ids["paused"])
	s.docker(t, "rename", ids["renamed"], s.name("other"))
	s.docker(t, "restart", "--time=1", ids["restarted"])

	p := newCountingProxy(t, s.engine.socket)
	in := startDnsdock(t, "-docker=unix://"+p.socket, "-debug")
	in.ready(t)
	before := p.inspects()
	for range 3 { // a cut stream is followed by a list, as a period of idling is
		in.seen(t, p.server.CloseClientConnections, "engine found")
	}
	in.log.wait(t, "service added", s.run(t, s.name("last")))
	after := p.inspects()
	for what, id := range ids {
		if before[id] == 0 || after[id] != before[id] {
			t.Errorf("%s: inspected %d times, and %d times after three lists more; want once", what, before[id], after[id])
		}
	}
}

// A countingProxy is in front of an engine's socket.
type countingProxy struct {
	socket string
	server *httptest.Server

	mu    sync.Mutex
	count map[string]int // inspects by the container's id

	only *regexp.Regexp // what is let through; nil: all. Before the first call
}

func newCountingProxy(t *testing.T, engine string) *countingProxy {
	t.Helper()
	p := &countingProxy{socket: filepath.Join(t.TempDir(), "proxy.sock"), count: make(map[string]int)}
	ln, err := net.Listen("unix", p.socket)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", engine)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	pass := &httputil.ReverseProxy{
		Transport:     transport,
		FlushInterval: -1,
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: "docker"}) },
		ErrorHandler:  func(http.ResponseWriter, *http.Request, error) {}, // the client went away
	}
	p.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if parts := strings.Split(r.URL.Path, "/"); len(parts) >= 3 && parts[len(parts)-1] == "json" {
			p.mu.Lock()
			p.count[parts[len(parts)-2]]++
			p.mu.Unlock()
		}
		if p.only != nil && !p.only.MatchString(r.Method+" "+r.URL.Path) {
			http.Error(w, "<html>forbidden</html>", http.StatusForbidden)
			return
		}
		defer func() { _ = recover() }() // ReverseProxy panics when a stream is cut
		pass.ServeHTTP(w, r)
	}))
	_ = p.server.Listener.Close() // the one of TCP that it came with
	p.server.Listener = ln
	p.server.Start()
	t.Cleanup(p.server.Close)
	return p
}

func (p *countingProxy) inspects() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.count)
}

// hostOnly skips the test where containers can't be reached from here.
func (s *stage) hostOnly(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" || strings.Contains(s.docker(t, "info", "--format={{.SecurityOptions}}"), "rootless") {
		t.Skip("addresses of containers can't be reached from here")
	}
}

// scratch runs dnsdock in an image of nothing else, as nobody.
func (s *stage) scratch(t *testing.T, flags string, args ...string) (server string, in *instance) {
	t.Helper()
	s.hostOnly(t)
	needs(t, "getent", "stat")
	group, err := exec.Command("stat", "--format=%g", s.engine.socket).Output()
	if err != nil {
		t.Fatal(err)
	}
	ref := "dnsdock-test-" + s.prefix + "/dnsdock:1"
	s.engine.importImage(t, ref, "dnsdock", goBuild(t, s.engine.arch, "."))
	server = s.name("dns")
	user := "--user=65532:65532"
	if s.engine.podman {
		user = "--user=0"                                 // whose alone the socket is
		args = append(args, "--cap-add=NET_BIND_SERVICE") // as ports below 1024 are not for everyone there
	}
	s.runImage(t, ref+" -nameserver= "+flags, server, append([]string{user, "--group-add=" + strings.TrimSpace(string(group)), "--cap-drop=ALL",
		"--read-only", "--security-opt=no-new-privileges", "--security-opt=label=disable", "--volume=" + s.engine.socket + ":/var/run/docker.sock"}, args...)...)
	t.Cleanup(func() { s.docker(t, "rm", "--force", server) }) // before its image, which would stay without a name
	in = &instance{dns: s.ip(t, server) + ":53", http: "http://" + s.ip(t, server), log: s.logs(t, server)}
	in.log.wait(t, "engine found")
	in.ready(t)
	return server, in
}

// testBehindProxy runs dnsdock in a container on one network. Those on others
// reach it by a published port, and so by the engine's proxy, which hides them.
func testBehindProxy(t *testing.T, s *stage) {
	s.hostOnly(t)
	one, two := s.network(t, "one"), s.network(t, "two")
	at := hostAddr(s.subnets[one], 1)
	server, in := s.scratch(t, "", "--network="+one, "--publish="+at+":5353:53/udp", "--publish="+at+":5353:53/tcp")
	multi, hosted := s.name("multi"), s.name("hosted")
	s.run(t, multi, "--network="+two)
	s.docker(t, "network", "connect", one, multi)
	s.run(t, hosted, "--network=host")
	multi1, _, _ := s.on(t, multi, one)
	multi2, _, _ := s.on(t, multi, two)
	in.soon(t, s.fqdn(multi)+" A", "NOERROR", multi1, multi2)
	in.soon(t, s.fqdn(hosted)+" A", "NOERROR", at)
	for _, c := range []struct{ what, network, server, port, want string }{
		{"host, container's own address", "", s.ip(t, server), "53", "NOERROR " + multi1 + " " + multi2},
		{"host, published port", "", at, "5353", "NOERROR " + multi1 + " " + multi2},
		{"network one, container's own address", one, s.ip(t, server), "53", "NOERROR " + multi1},
		{"network two, published port", two, at, "5353", "NOERROR " + multi1 + " " + multi2},
		{"default bridge, published port", s.bridge(), at, "5353", "NOERROR " + multi1 + " " + multi2},
	} {
		if s.engine.podman && c.network == two {
			continue // it has no proxy for that, and its firewall lets nothing through
		}
		a := &asker{s, c.what, c.network, c.server, c.port}
		a.want(t, s.fqdn(multi)+" A", c.want)
		a.want(t, s.fqdn(multi)+" A +tcp", c.want)
		a.want(t, s.fqdn(hosted)+" A", "NOERROR "+at)
	}
}

// testPointElsewhere has names that are answered with the address of another
// container, or of the host.
func testPointElsewhere(t *testing.T, s *stage) {
	in := s.dnsdock(t)
	proxy, site, atHost := s.name("proxy"), s.name("site"), s.name("at-host")
	lan := s.network(t, "net")
	in.log.wait(t, "service added", s.run(t, atHost, "--network="+lan, "--label=com.dnsdock.ip_addr=host"))
	s.run(t, site, "--network="+lan, "--label=com.dnsdock.ip_addr=container:"+proxy)
	last := s.name("last")
	in.log.wait(t, "service added", s.run(t, last))
	in.soon(t, s.fqdn(site)+" A", "NXDOMAIN")
	in.want(t, s.fqdn(atHost)+" A", "NOERROR", "127.0.0.1")
	s.run(t, proxy)
	in.soon(t, s.fqdn(site)+" A", "NOERROR", s.ip(t, proxy))
	s.docker(t, "stop", proxy)
	in.soon(t, s.fqdn(site)+" A", "NXDOMAIN")
	s.run(t, s.name("thief"))
	s.docker(t, "start", proxy)
	in.soon(t, s.fqdn(site)+" A", "NOERROR", s.ip(t, proxy))
	s.docker(t, "rename", proxy, s.name("old"))
	in.soon(t, s.fqdn(site)+" A", "NXDOMAIN")
	s.run(t, proxy)
	in.soon(t, s.fqdn(site)+" A", "NOERROR", s.ip(t, proxy))
}

// testCompose has names that docker-compose's labels give.
func testCompose(t *testing.T, s *stage) {
	needs(t, "docker-compose")
	in, without := s.dnsdock(t), s.dnsdock(t, "-compose=false")
	dir := t.TempDir()
	file := fmt.Sprintf(`version: "2.4"
services:
  web: {image: %[1]q, labels: {%[2]s: ""}}
  db: {image: %[1]q, labels: {%[2]s: ""}, network_mode: "service:web"}
networks:
  default: {labels: {%[2]s: ""}}
`, s.engine.image, s.prefix)
	if err := os.WriteFile(filepath.Join(dir, "docker-compose.yml"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	compose := func(args ...string) {
		t.Helper()
		cmd := exec.Command("docker-compose", append([]string{"--project-name", s.prefix}, args...)...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "DOCKER_HOST=unix://"+s.engine.socket, "DOCKER_TLS_VERIFY=")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("docker-compose %s: %v: %s", args, err, out)
		}
	}
	compose("up", "--detach", "--scale", "web=2")
	made := func(service, number string) string { // proj_web_1 or, by newer ones, proj-web-1
		t.Helper()
		const label = "--filter=label=com.docker.compose."
		return s.docker(t, "ps", label+"project="+s.prefix, label+"service="+service, label+"container-number="+number, "--format={{.Names}}")
	}
	web1, web2, db := made("web", "1"), made("web", "2"), made("db", "1")
	one, two := s.ip(t, web1), s.ip(t, web2)
	in.soon(t, "web."+s.prefix+".docker A", "NOERROR", one, two)
	in.soon(t, "2.web."+s.prefix+".docker A", "NOERROR", two)
	in.want(t, "1.web."+s.prefix+".docker A", "NOERROR", one)
	in.want(t, "x.1.web."+s.prefix+".docker A", "NOERROR", one)
	shared := strings.TrimPrefix(s.inspect(t, db, "{{.HostConfig.NetworkMode}}"), "container:") // one of the two
	in.soon(t, "db."+s.prefix+".docker A", "NOERROR", s.ip(t, shared))
	in.want(t, s.prefix+".docker A", "NOERROR")
	in.want(t, "3.web."+s.prefix+".docker A", "NXDOMAIN")
	in.want(t, s.fqdn(web1)+" A", "NOERROR", one)
	in.want(t, s.fqdn(db)+" A", "NOERROR", s.ip(t, shared))
	without.soon(t, s.fqdn(web2)+" A", "NOERROR", two)
	without.want(t, "web."+s.prefix+".docker A", "NXDOMAIN")
	if !s.engine.podman { // docker-compose fails to run one there
		compose("run", "--detach", "web")
		in.log.wait(t, "service added", s.prefix, "web", "run")
		in.want(t, "web."+s.prefix+".docker A", "NOERROR", one, two) // and not what ran once
	}

	// A project that is called as an image is.
	s.docker(t, "tag", s.engine.image, "registry.test/"+s.prefix+":1")
	t.Cleanup(func() { s.docker(t, "rmi", "registry.test/"+s.prefix+":1") })
	plain := s.name("plain")
	in.log.wait(t, "service added", s.runImage(t, "registry.test/"+s.prefix+":1", plain))
	in.want(t, s.prefix+".docker A", "NOERROR", s.ip(t, plain))
	in.want(t, "web."+s.prefix+".docker A", "NOERROR", one, two)
	compose("stop", "--timeout=1")
	in.soon(t, "web."+s.prefix+".docker A", "NXDOMAIN")
	in.want(t, s.prefix+".docker A", "NOERROR", s.ip(t, plain))
}

// testHealth has a health check that turns.
func testHealth(t *testing.T, s *stage) {
	in, without := s.dnsdock(t), s.dnsdock(t, "-health=false")
	alias := "web-" + s.prefix + ".docker"
	a, b := s.name("a"), s.name("b")
	for _, name := range []string{a, b} {
		s.create(t, name, map[string]any{
			"Image": s.engine.image, "Labels": map[string]string{s.prefix: "", "com.dnsdock.alias": alias},
			"Healthcheck": map[string]any{"Test": []string{"CMD", "/app", "check"}, "Interval": time.Second, "Timeout": 5 * time.Second, "Retries": 1},
		})
		s.docker(t, "start", name)
	}
	if s.engine.podman {
		defer s.checkHealth(t, a, b)() // it leaves that to timers of systemd
	}
	ipA, ipB := s.ip(t, a), s.ip(t, b)
	in.soon(t, alias+" A", "NOERROR", ipA, ipB) // starting, or healthy
	turn := func(container string, sick bool) {
		t.Helper()
		if sick {
			file := filepath.Join(t.TempDir(), "sick")
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			s.docker(t, "cp", file, container+":/sick")
		} else {
			s.docker(t, "exec", container, "/app", "heal")
		}
	}
	turn(a, true)
	in.soon(t, alias+" A", "NOERROR", ipB)
	in.want(t, s.fqdn(a)+" A", "NOERROR", ipA)
	without.want(t, alias+" A", "NOERROR", ipA, ipB)
	turn(b, true)
	in.soon(t, alias+" A", "NOERROR", ipA, ipB)
	turn(a, false)
	in.soon(t, alias+" A", "NOERROR", ipA)
	turn(b, false)
	in.soon(t, alias+" A", "NOERROR", ipA, ipB)
}

// checkHealth has podman check the health of containers until it is told to end.
func (s *stage) checkHealth(t *testing.T, containers ...string) (end func()) {
	t.Helper()
	needs(t, "curl")
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, c := range containers {
		wg.Go(func() {
			for ctx.Err() == nil {
				_ = exec.CommandContext(ctx, "curl", "--silent", "--unix-socket", s.engine.socket, "http://d/v4.0.0/libpod/containers/"+c+"/healthcheck").Run() // its result is the engine's to keep
			}
		})
	}
	return func() {
		cancel()
		wg.Wait()
	}
}

// testReadOnlyProxy has a proxy in front of the engine that lets nothing through
// but what the manual says: that is enough.
func testReadOnlyProxy(t *testing.T, s *stage) {
	p := newCountingProxy(t, s.engine.socket)
	p.only = regexp.MustCompile(`^GET (/v1\.[0-9]+)?(/_ping|/events|/containers/json|/containers/[^/]+/json)$`)
	in := startDnsdock(t, "-docker=unix://"+p.socket)
	lan := s.network(t, "inside", "--internal")
	web := s.name("web")
	in.log.wait(t, "service added", s.run(t, web))
	in.want(t, s.fqdn(web)+" A", "NOERROR", s.ip(t, web))
	in.log.wait(t, "level=WARN", "internal networks can't be told")
	in.seen(t, func() { s.docker(t, "kill", web) }, "service removed")
	in.log.wait(t, "service added", s.run(t, s.name("only"), "--network="+lan))
	in.want(t, s.fqdn(s.name("only"))+" A", "NOERROR", s.ip(t, s.name("only"))) // as nobody knows that it is inside
}

// testScratchImage runs dnsdock in an image of nothing else, as nobody, and
// asks it from outside and from inside of containers.
func testScratchImage(t *testing.T, s *stage) {
	server, in := s.scratch(t, "")
	web, six := s.name("web"), s.network6(t, "six")
	in.log.wait(t, "service added", s.run(t, web))
	ip := s.ip(t, web)
	in.want(t, s.fqdn(web)+" A", "NOERROR", ip)
	in.want(t, "-x "+ip, "NOERROR", s.fqdn(web))
	in.want(t, server+".dnsdock.docker A", "NOERROR", s.ip(t, server))
	if status, body := in.call(t, "GET", "/services", ""); status != 200 || !strings.Contains(body, web) {
		t.Errorf("GET /services: got %d %s; want 200 with %s", status, body, web)
	}
	client := func(network, server, program string, args ...string) string {
		t.Helper()
		return s.inside(t, network, []string{"--dns=" + server}, program, args...)
	}
	if got := getentAddrs(client("bridge", s.ip(t, server), "getent", "ahosts", s.fqdn(web))); got != ip {
		t.Errorf("getent inside: got %q; want %q", got, ip)
	}
	if got := client("bridge", s.ip(t, server), "dig", "+short", "+tcp", "-x", ip); got != s.fqdn(web) {
		t.Errorf("dig inside: got %q; want %q", got, s.fqdn(web))
	}

	// On a network of one's own the engine's resolver is in between.
	s.docker(t, "network", "connect", six, server)
	dual := s.name("dual")
	in.log.wait(t, "service added", s.run(t, dual, "--network="+six))
	ip4 := s.ip(t, dual)
	ip6 := s.inspect(t, dual, "{{range .NetworkSettings.Networks}}{{.GlobalIPv6Address}}{{end}}")
	at := s.inspect(t, server, `{{(index .NetworkSettings.Networks "`+six+`").IPAddress}}`)
	if got := getentAddrs(client(six, at, "getent", "ahosts", s.fqdn(dual))); got != ip4+" "+ip6 {
		t.Errorf("getent inside of an IPv6 network: got %q; want %q", got, ip4+" "+ip6)
	}
	if got := parseDig(client(six, at, "dig", "+noall", "+comments", "+answer", "gone."+s.name("gone")+".app.docker")); got != "NXDOMAIN" {
		t.Errorf("dig inside of an IPv6 network: got %q; want NXDOMAIN", got)
	}

	s.docker(t, "stop", "--time=10", server) // without it podman kills at once
	if !s.engine.podman {                    // which does not send the end of a log
		in.log.wait(t, "dnsdock ends")
	}
	if got := s.inspect(t, server, "{{.State.ExitCode}}"); got != "0" { // 137: it had to be killed
		t.Errorf("exit code after docker stop: got %s; want 0", got)
	}
}

// getentAddrs returns the addresses that getent ahosts printed, in order.
func getentAddrs(out string) string {
	var addrs []string
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) > 0 {
			addrs = append(addrs, f[0])
		}
	}
	slices.Sort(addrs)
	return strings.Join(slices.Compact(addrs), " ")
}

// TestEngineRestart starts the program before its engine, and then restarts
// that.
func TestEngineRestart(t *testing.T) {
	t.Parallel()
	e := newOwnEngine(t)
	in := startDnsdock(t, "-docker=unix://"+e.socket)
	in.log.wait(t, "engine away")
	in.want(t, "web.app.docker A", "SERVFAIL") // nobody knows

	e.start(t)
	in.log.wait(t, "engine found")
	in.ready(t)
	e.importApp(t)
	s := e.newStage(t)
	one, two, off := s.name("one"), s.name("two"), s.name("off")
	for _, args := range [][]string{{one, "--restart=always"}, {two, "--restart=always"}, {off}} {
		in.log.wait(t, "service added", s.run(t, args[0], args[1:]...))
	}
	if got, reply := in.call(t, "PUT", "/services/hand", `{"name": "hand", "image": "made", "ip": "198.51.100.9"}`); got != 201 {
		t.Fatalf("PUT: got %d %s; want 201", got, reply)
	}
	agree := func(names ...string) {
		t.Helper()
		for _, name := range names {
			in.soon(t, s.fqdn(name)+" A", "NOERROR", s.ip(t, name))
			if got := in.query(t, "-x "+s.ip(t, name)); !strings.Contains(got, s.fqdn(name)) {
				t.Errorf("-x %s: got %s; want %s", s.ip(t, name), got, s.fqdn(name))
			}
		}
		in.want(t, "hand.made.docker A", "NOERROR", "198.51.100.9")
	}
	agree(one, two, off)

	// An orderly restart ends all containers, and starts some again.
	in.seen(t, func() { e.stop(t, "TERM") }, "engine away")
	in.want(t, "hand.made.docker A", "NOERROR", "198.51.100.9")
	in.seen(t, func() { e.start(t, "--live-restore") }, "engine found")
	in.soon(t, s.fqdn(off)+" A", "NXDOMAIN")
	agree(one, two)
	shared := s.name("shared")
	s.run(t, shared, "--network=container:"+one)
	in.soon(t, s.fqdn(shared)+" A", "NOERROR", s.ip(t, one))

	// A crash with live-restore: containers live on, and die unseen.
	pid := s.inspect(t, two, "{{.State.Pid}}")
	ips := []string{s.ip(t, one), s.ip(t, two)}
	s.docker(t, "update", "--restart=no", two)
	in.seen(t, func() { e.stop(t, "KILL") }, "engine away")
	sendSignal(t, "KILL", pid)
	in.want(t, s.fqdn(one)+" A", "NOERROR", ips[0])
	in.want(t, s.fqdn(two)+" A", "NOERROR", ips[1]) // as far as anyone knows
	in.want(t, "-x "+ips[0], "NOERROR", s.fqdn(one), s.fqdn(shared))
	in.seen(t, func() { e.start(t, "--live-restore") }, "engine found")
	in.soon(t, s.fqdn(two)+" A", "NXDOMAIN")
	agree(one)
	in.want(t, s.fqdn(shared)+" A", "NOERROR", ips[0])
	s.docker(t, "start", two, off)
	agree(one, two, off)
}

// TestEngineHang stops an engine in its tracks: its sockets stay open, and
// nothing answers.
func TestEngineHang(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a minute until a silent engine is known to hang")
	}
	t.Parallel()
	e := newOwnEngine(t)
	e.start(t)
	e.importApp(t)
	s := e.newStage(t)
	in := s.dnsdock(t)
	in.log.wait(t, "engine found") // one without containers too
	web, dead := s.name("web"), s.name("dead")
	in.log.wait(t, "service added", s.run(t, web))
	id := s.run(t, dead)
	in.log.wait(t, "service added", id)
	ips := []string{s.ip(t, web), s.ip(t, dead)}
	pid := s.inspect(t, dead, "{{.State.Pid}}")

	e.signal(t, "STOP")
	sendSignal(t, "KILL", pid)
	in.want(t, s.fqdn(web)+" A", "NOERROR", ips[0])
	in.want(t, s.fqdn(dead)+" A", "NOERROR", ips[1])
	in.log.wait(t, "engine away")
	in.want(t, s.fqdn(web)+" A", "NOERROR", ips[0])
	in.want(t, s.fqdn(dead)+" A", "NOERROR", ips[1])
	in.want(t, "-x "+ips[0], "NOERROR", s.fqdn(web))

	in.seen(t, func() { e.signal(t, "CONT") }, "service removed", id)
	in.want(t, s.fqdn(dead)+" A", "NXDOMAIN")
	in.want(t, s.fqdn(web)+" A", "NOERROR", ips[0])
	in.log.wait(t, "engine found")
	last := s.name("last")
	in.log.wait(t, "service added", s.run(t, last))
	in.want(t, s.fqdn(last)+" A", "NOERROR", s.ip(t, last))
}

// A liveEngine is a Docker Engine that a test drives by the docker command.
type liveEngine struct {
	socket string
	arch   string // GOARCH of its containers
	podman bool
	image  string // that importApp made
}

// findEngine returns the engine of this machine. It skips the test where
// there is none.
func findEngine(t *testing.T) *liveEngine {
	t.Helper()
	needs(t, "docker", "dig", "go")
	text := cmp.Or(os.Getenv("DOCKER_HOST"), "unix:///var/run/docker.sock")
	u, err := engine.ParseURL(text)
	if err != nil || u.Network != "unix" {
		t.Skipf("the engine of $DOCKER_HOST is not on a unix socket: %s", text)
	}
	e := &liveEngine{socket: u.Addr}
	if err := e.greet(); err != nil {
		t.Skipf("no Docker Engine for Linux containers at %s: %v", text, err)
	}
	return e
}

// greet learns the architecture, or why the engine can't be used.
func (e *liveEngine) greet() error {
	out, err := e.try(nil, "version", "--format={{.Server.Os}}/{{.Server.Arch}} {{range .Server.Components}}{{.Name}} {{end}}")
	if err != nil {
		return err
	}
	out, components, _ := strings.Cut(out, " ")
	e.podman = strings.Contains(components, "Podman")
	var ok bool
	if e.arch, ok = strings.CutPrefix(out, "linux/"); !ok {
		return fmt.Errorf("it is for %s", out)
	}
	return nil
}

// needs skips the test where one of the programs is missing.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("program %s is not installed", p)
		}
	}
}

// try runs the docker command, and returns what it prints.
func (e *liveEngine) try(stdin io.Reader, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker", append([]string{"--host=unix://" + e.socket}, args...)...)
	cmd.Env = append(os.Environ(), "DOCKER_TLS_VERIFY=", "DOCKER_TLS=")
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = stdin, &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return strings.TrimSpace(string(out)), nil
}

func (e *liveEngine) docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := e.try(nil, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// appSource is a program that waits to be told to end. It ends by itself
// too, should a test be killed that would have removed its container.
const appSource = `package main

import (
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) > 1 { // its health check, and the end of what makes that fail
		if os.Args[1] == "heal" {
			_ = os.Remove("/sick")
		}
		if _, err := os.Stat("/sick"); err == nil {
			os.Exit(1)
		}
		return
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	signal.Ignore(syscall.SIGHUP)
	select {
	case <-end:
	case <-time.After(time.Hour):
	}
}
`

// importApp makes the image that containers are run of.
func (e *liveEngine) importApp(t *testing.T) {
	t.Helper()
	src := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(src, []byte(appSource), 0o600); err != nil {
		t.Fatal(err)
	}
	e.image = "dnsdock-test-" + random() + "/app:1"
	e.importImage(t, e.image, "app", goBuild(t, e.arch, src))
}

// create makes a container of what the API takes, for what the docker command
// has no flag: a health check without a shell.
func (s *stage) create(t *testing.T, name string, body map[string]any) {
	t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", s.engine.socket)
	}}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Post("http://docker/containers/create?name="+name, "application/json", bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if reply, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusCreated {
		t.Fatalf("create %s: %s %s", name, resp.Status, reply)
	}
}

// goBuild returns the static binary of a package or file.
func goBuild(t *testing.T, arch, src string) []byte {
	t.Helper()
	dst := filepath.Join(t.TempDir(), "program")
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", dst, src)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	program, err := os.ReadFile(dst)
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// importImage makes an image of one program, and of places for a host's /usr
// to be mounted at.
func (e *liveEngine) importImage(t *testing.T, ref, name string, program []byte) {
	t.Helper()
	var image bytes.Buffer
	w := tar.NewWriter(&image)
	for _, h := range []tar.Header{
		{Name: "usr", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "bin", Typeflag: tar.TypeSymlink, Linkname: "usr/bin"},
		{Name: "lib", Typeflag: tar.TypeSymlink, Linkname: "usr/lib"},
		{Name: "lib64", Typeflag: tar.TypeSymlink, Linkname: "usr/lib64"},
		{Name: name, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(program))},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Write(program); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := e.try(nil, "rmi", "--force", ref); err != nil {
			t.Error(err)
		}
	})
	if _, err := e.try(&image, "import", `--change=ENTRYPOINT ["/`+name+`"]`, "-", ref); err != nil {
		t.Fatal(err)
	}
}

func random() string { return strings.ToLower(rand.Text()[:8]) }

// A stage is all that one test makes on an engine. It goes with the test,
// however that ends.
type stage struct {
	engine  *liveEngine
	prefix  string            // of all names, and the label of all containers and networks
	subnets map[string]string // IPv4, by network
}

func (e *liveEngine) newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{engine: e, prefix: "t" + random(), subnets: make(map[string]string)}
	t.Cleanup(func() { s.clear(t) })
	return s
}

// clear removes all containers and networks.
func (s *stage) clear(t *testing.T) {
	for _, what := range [][2][]string{
		{{"ps", "--all"}, {"rm", "--force", "--volumes"}},
		{{"network", "ls"}, {"network", "rm"}},
	} {
		var err error
		for range 3 { // podman removes a container only after those that share its network
			var ids string
			ids, err = s.engine.try(nil, append(what[0], "--quiet", "--no-trunc", "--filter=label="+s.prefix)...)
			if err == nil && ids != "" {
				_, err = s.engine.try(nil, append(what[1], strings.Fields(ids)...)...)
			}
			if err == nil {
				break
			}
		}
		if err != nil {
			t.Error(err)
		}
	}
}

func (s *stage) docker(t *testing.T, args ...string) string {
	t.Helper()
	return s.engine.docker(t, args...)
}

// name returns a container's or network's name that no other test has.
func (s *stage) name(part string) string { return s.prefix + "-" + strings.ReplaceAll(part, " ", "-") }

// fqdn is the full name that a container is published under.
func (s *stage) fqdn(container string) string { return container + ".app.docker." }

// dnsdock starts the program for the stage's engine.
func (s *stage) dnsdock(t *testing.T, args ...string) *instance {
	t.Helper()
	return startDnsdock(t, append([]string{"-docker=unix://" + s.engine.socket}, args...)...)
}

// run starts a container and returns its id.
func (s *stage) run(t *testing.T, name string, args ...string) string {
	t.Helper()
	return s.runImage(t, s.engine.image, name, args...)
}

// runImage starts a container of an image, that the arguments of its program
// may follow.
func (s *stage) runImage(t *testing.T, image, name string, args ...string) string {
	t.Helper()
	return s.runCommand(t, "run --detach", image, name, args...)
}

func (s *stage) runCommand(t *testing.T, command, image, name string, args ...string) string {
	t.Helper()
	return s.docker(t, slices.Concat(strings.Fields(command), []string{"--name=" + name, "--label=" + s.prefix}, args, strings.Fields(image))...)
}

func (s *stage) inspect(t *testing.T, container, format string) string {
	t.Helper()
	return s.docker(t, "inspect", "--format="+format, container)
}

// ip returns the IPv4 address of a container on one network.
func (s *stage) ip(t *testing.T, container string) string {
	t.Helper()
	ip := s.inspect(t, container, "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")
	if _, err := publish.ParseAddr(ip); err != nil {
		t.Fatalf("container %s has %q; want one address", container, ip)
	}
	return ip
}

// pause has several tries: the freezer of cgroup v1 fails now and then.
func (s *stage) pause(t *testing.T, container string) {
	t.Helper()
	const tries = 10
	var err error
	for range tries {
		if _, err = s.engine.try(nil, "pause", container); err == nil {
			return
		}
	}
	t.Fatal(err)
}

// network makes one with a subnet of those that are for tests of networks
// (RFC 2544), so that it is in nobody's way.
func (s *stage) network(t *testing.T, part string, args ...string) string {
	t.Helper()
	const tries = 20
	var err error
	for range tries {
		b := make([]byte, 2)
		_, _ = rand.Read(b) // can't fail
		name, subnet := s.name(part), fmt.Sprintf("198.%d.%d.0/24", 18+b[0]%2, b[1])
		_, err = s.engine.try(nil, slices.Concat([]string{"network", "create", "--label=" + s.prefix, "--subnet=" + subnet}, args, []string{name})...)
		if err == nil {
			s.subnets[name] = subnet
			return name
		}
		if !strings.Contains(err.Error(), "overlaps") {
			break
		}
	}
	t.Fatal(err)
	return ""
}

// network6 makes one of both families, or skips the test.
func (s *stage) network6(t *testing.T, part string) string {
	t.Helper()
	if _, err := os.Stat("/proc/net/if_inet6"); runtime.GOOS == "linux" && err != nil {
		t.Skip("IPv6 is off")
	}
	b := make([]byte, 6)
	_, _ = rand.Read(b) // can't fail
	return s.network(t, part, "--ipv6", fmt.Sprintf("--subnet=fd%x:%x:%x::/64", b[:1], b[1:3], b[3:5]))
}

// hostAddr is the nth address of a /24.
func hostAddr(subnet string, n int) string {
	return strings.TrimSuffix(subnet, ".0/24") + "." + strconv.Itoa(n)
}

// logs follows what a container logs until it ends, or the test does.
func (s *stage) logs(t *testing.T, container string) *logWatch {
	t.Helper()
	l := newLogWatch()
	cmd := exec.Command("docker", "--host=unix://"+s.engine.socket, "logs", "--follow", container)
	cmd.Stdout, cmd.Stderr = l, l
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("log of container %s:\n%s", container, l)
		}
	})
	return l
}

// sendSignal sends one by the kill command.
func sendSignal(t *testing.T, sig, pid string) {
	t.Helper()
	if out, err := exec.Command("kill", "-"+sig, pid).CombinedOutput(); err != nil {
		t.Fatalf("kill -%s %s: %v: %s", sig, pid, err, out)
	}
}

// An ownEngine is one that the test starts, in a network namespace of its
// own beside that of the machine's engine.
type ownEngine struct {
	liveEngine
	dir   string
	netns string
	cmd   *exec.Cmd
	ended chan struct{} // cmd did
	log   *logWatch
}

// newOwnEngine prepares an engine that is not started. It skips the test
// where that can't be done.
func newOwnEngine(t *testing.T) *ownEngine {
	t.Helper()
	needs(t, "dockerd", "docker", "dig", "go", "ip", "nsenter", "kill", "umount")
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		t.Skip("only root can start an engine")
	}
	dir := t.TempDir()
	e := &ownEngine{dir: dir, netns: "dnsdock-" + random()}
	e.socket = filepath.Join(dir, "docker.sock")
	if err := os.WriteFile(filepath.Join(dir, "daemon.json"), []byte("{}"), 0o600); err != nil { // not the machine's
		t.Fatal(err)
	}
	if out, err := exec.Command("ip", "netns", "add", e.netns).CombinedOutput(); err != nil {
		t.Skipf("no network namespace: %v: %s", err, out)
	}
	t.Cleanup(func() { e.clear(t) })
	return e
}

// start starts the engine and waits until it serves. It tries twice: after
// a crash the first start may fail for what the crash left.
func (e *ownEngine) start(t *testing.T, args ...string) {
	t.Helper()
	isFirst := e.cmd == nil
	for range 2 {
		if e.launch(t, args...) {
			return
		}
	}
	if isFirst {
		t.Skipf("the engine does not start:\n%s", e.log)
	}
	t.Fatalf("the engine does not start again:\n%s", e.log)
}

func (e *ownEngine) launch(t *testing.T, args ...string) (ok bool) {
	t.Helper()
	e.log, e.ended = newLogWatch(), make(chan struct{})
	e.cmd = exec.Command("nsenter", append([]string{"--net=/run/netns/" + e.netns, "dockerd", "--config-file=" + filepath.Join(e.dir, "daemon.json"),
		"--data-root=" + filepath.Join(e.dir, "data"), "--exec-root=" + filepath.Join(e.dir, "exec"),
		"--host=unix://" + e.socket, "--pidfile=" + filepath.Join(e.dir, "pid")}, args...)...)
	e.cmd.Stdout, e.cmd.Stderr = e.log, e.log
	e.cmd.WaitDelay = time.Second // containerd has the pipe too, and may live on
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = e.cmd.Wait() // how it ended is in its log
		close(e.ended)
	}()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		select {
		case <-e.ended:
			return false
		default:
		}
		if e.greet() == nil {
			return true
		}
	}
	e.stop(t, "KILL")
	return false
}

func (e *ownEngine) signal(t *testing.T, sig string) {
	t.Helper()
	sendSignal(t, sig, strconv.Itoa(e.cmd.Process.Pid))
}

// stop sends a signal that ends the engine, and waits until it has ended.
func (e *ownEngine) stop(t *testing.T, sig string) {
	t.Helper()
	e.signal(t, sig)
	select {
	case <-e.ended:
	case <-time.After(patience):
		t.Fatalf("the engine does not end:\n%s", e.log)
	}
}

// clear ends all processes of the engine, and removes what it leaves.
func (e *ownEngine) clear(t *testing.T) {
	if t.Failed() && e.log != nil {
		t.Logf("log of the engine:\n%s", e.log)
	}
	if e.cmd != nil {
		select {
		case <-e.ended:
		default:
			_ = exec.Command("kill", "-TERM", strconv.Itoa(e.cmd.Process.Pid)).Run() // ends its containers too
			select {
			case <-e.ended:
			case <-time.After(patience / 4):
			}
		}
	}
	pids, _ := exec.Command("ip", "netns", "pids", e.netns).Output() // containerd and shims of an engine that was killed
	for _, pid := range strings.Fields(string(pids)) {
		_ = exec.Command("kill", "-KILL", pid).Run() // it may be gone
	}
	mounts, _ := os.ReadFile("/proc/self/mounts")
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], e.dir+"/") {
			_ = exec.Command("umount", "--lazy", f[1]).Run() // one below may have taken it along
		}
	}
	if out, err := exec.Command("ip", "netns", "del", e.netns).CombinedOutput(); err != nil {
		t.Errorf("ip netns del: %v: %s", err, out)
	}
}
