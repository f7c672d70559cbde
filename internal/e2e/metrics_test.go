package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnstest"
)

// Whatever is answered is counted once, whichever way it is answered.
func TestMetrics(t *testing.T) {
	dead := closedPort(t)
	e := dnstest.NewEngine()
	in := startDnsdock(t, "-docker="+e.ServeTCP(t, nil), "-nameserver="+startUpstream(t)+",corp.test="+dead)
	in.ready(t)
	body := `{"name":"web","image":"nginx","ip":"10.0.0.1","ports":"80"}`
	if status, reply := in.call(t, "PUT", "/services/x", body); status != 201 {
		t.Fatal(reply)
	}
	before := in.metrics(t)
	for _, transport := range []string{"udp", "tcp"} {
		in.askAllKinds(t, transport)
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
			// The time of the last answers is counted after they are sent.
			for end := time.Now().Add(dnstest.Patience / 8); got != want && time.Now().Before(end); {
				got = in.metrics(t)[series] - before[series]
			}
			if got != want {
				t.Errorf("%s grew by %v; want %v", series, got, want)
			}
		}
	}
	m := in.metrics(t)
	for series, want := range map[string]float64{
		`dnsdock_upstream_up{upstream="` + dead + `"}`:             0,
		`dnsdock_upstream_failures_total{upstream="` + dead + `"}`: 6,
		`dnsdock_upstream_queries_total{upstream="` + dead + `"}`:  6,
		`dnsdock_cache_hits_total`:                                 6, `dnsdock_cache_misses_total`: 12, `dnsdock_cache_answers`: 12,
		`dnsdock_services`: 1, `dnsdock_ready`: 1, `dnsdock_forward_in_flight`: 0, `dnsdock_event_listeners`: 0,
	} {
		if got, ok := m[series]; !ok || got != want {
			t.Errorf("%s is %v; want %v", series, got, want)
		}
	}
	_, text := in.call(t, "GET", "/metrics", "")
	checkMetrics(t, text)
}

// askAllKinds asks over one transport, three times each, what is answered in different ways.
func (in *instance) askAllKinds(t *testing.T, network string) {
	t.Helper()
	for i := range 3 {
		in.ask(t, network, "web.nginx.docker", dns.TypeA)
		in.ask(t, network, "web.nginx.docker", 4711)
		in.ask(t, network, "nosuch.docker", dns.TypeAAAA)
		in.ask(t, network, "_80._tcp.web.nginx.docker", dns.TypeSRV)
		fresh := fmt.Sprintf("%s%d.example.org", network, i)
		in.ask(t, network, fresh, dns.TypeA)
		in.ask(t, network, fresh, dns.TypeA)
		_, body := in.call(t, "GET", "/resolve?name="+fresh, "")
		for _, part := range []string{`"kind": "cached"`, `"data": "192.0.2.1"`, fresh} {
			if !strings.Contains(body, part) {
				t.Errorf("/resolve of what is cached: got %s; want it with %s", body, part)
			}
		}
		in.ask(t, network, fmt.Sprintf("%s%d.corp.test", network, i), dns.TypeTXT)
		in.ask(t, network, "docker", dns.TypeAXFR)
		c := dns.Client{Net: network, Timeout: dnstest.Patience}
		m := new(dns.Msg).SetQuestion("docker.", dns.TypeA)
		m.Opcode = dns.OpcodeStatus
		if _, _, err := c.Exchange(m, in.dns); err != nil {
			t.Fatal(err)
		}
	}
}

// checkMetrics has Prometheus' own tool read metrics.
func checkMetrics(t *testing.T, text string) {
	t.Helper()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skipf("no promtool here: %v", err)
	}
	cmd := exec.CommandContext(t.Context(), promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

// At the end HTTP ends first, and DNS answers until then. What waits for an upstream is answered
// too.
func TestShutdownOrder(t *testing.T) {
	tcp, udp := listenBoth(t)
	t.Cleanup(func() { _ = tcp.Close() })
	asked, release := make(chan bool, 10), make(chan bool)
	slow := &dns.Server{PacketConn: udp, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		asked <- true
		<-release
		_ = w.WriteMsg(new(dns.Msg).SetReply(q)) // the test sees a reply that is missing
	})}
	served := make(chan error, 1)
	go func() { served <- slow.ActivateAndServe() }()
	in := startDnsdock(t, noEngine(t), "-nameserver="+udp.LocalAddr().String())
	busy := in.open(t, 1, "PUT /services/x HTTP/1.1\r\nHost: docker\r\nContent-Length: 1000\r\n\r\n{")
	defer busy[0].Close()
	answered := make(chan *dns.Msg, 1)
	go func() {
		c := dns.Client{Timeout: dnstest.Patience}
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
			t.Errorf("over %s: %v", network, r)
		}
	}
	close(release)
	if r := <-answered; r == nil || r.Rcode != dns.RcodeSuccess {
		t.Errorf("what was forwarded: %v; want its answer", r)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	_ = slow.Shutdown()
	<-served
}

// Each line of a log in JSON is JSON, and says the same as the text.
func TestLogJSON(t *testing.T) {
	logOf := func(format string) string {
		e := dnstest.NewEngine()
		e.Set("aa", &dnstest.Container{
			Name: "web", Image: "nginx", State: "running", Addr: "10.0.0.1", Env: []string{"DNSDOCK_ALIAS=www.docker"},
		})
		flags := []string{"-dns=127.0.0.1:0", "-http=", "-nameserver=", "-debug", "-log=" + format}
		p := startProcess(t, append(flags, "-docker="+e.ServeTCP(t, nil))...)
		p.log.Wait(t, "service added")
		var addr string
		for line := range strings.Lines(p.log.String()) {
			var got map[string]any
			if json.Unmarshal([]byte(line), &got) == nil && got["for"] == "dns" {
				addr = got["addr"].(string)
			}
		}
		if format == "text" {
			addr = p.log.Value(t, "msg=listening for=dns", "addr")
		}
		in := &instance{dns: addr}
		in.ask(t, "udp", "web.nginx.docker", dns.TypeA)
		p.log.Wait(t, "msg", "query", "took")
		return p.log.String()
	}
	want := map[string]map[string]any{
		"service added": {"id": dnstest.ID("aa"), "names": []any{"web.nginx.docker.", "www.docker."}, "addrs": []any{"10.0.0.1"}, "level": "INFO"},
		"query": {
			"client": "127.0.0.1", "name": "web.nginx.docker.", "type": "A", "rcode": "NOERROR", "kind": "own",
			"over": "udp", "answers": 1.0, "level": "DEBUG", "err": nil,
		},
		"dnsdock starts": {"domain": "docker.", "level": "INFO"},
	}
	for line := range strings.Lines(logOf("json")) {
		var got map[string]any
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		msg := fmt.Sprint(got["msg"])
		for k, v := range want[msg] {
			if fmt.Sprint(got[k]) != fmt.Sprint(v) {
				t.Errorf("%s: %s: got %v; want %v", msg, k, got[k], v)
			}
		}
		if msg == "query" && !strings.HasSuffix(fmt.Sprint(got["took"]), "s") {
			t.Errorf("took is %v; want a duration with its unit", got["took"])
		}
		delete(want, msg)
	}
	if len(want) > 0 {
		t.Errorf("the log misses %v", want)
	}
	text := logOf("text")
	for _, part := range []string{
		"client=127.0.0.1", "name=web.nginx.docker.", "type=A", "rcode=NOERROR", "kind=own", "took=", "domain=docker.",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("the text misses %s:\n%s", part, text)
		}
	}
}
