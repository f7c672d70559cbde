package main

import (
	"context"
	"crypto/rand"
	"io"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnstest"
)

const patience = dnstest.Patience

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

// A logWatch is a dnstest.Log.
type logWatch struct{ *dnstest.Log }

func newLogWatch() *logWatch { return &logWatch{dnstest.NewLog()} }

func (l *logWatch) mark() { l.Mark() }

func (l *logWatch) wait(t *testing.T, parts ...string) string {
	t.Helper()
	return l.Wait(t, parts...)
}

func (l *logWatch) value(t *testing.T, part, key string) string {
	t.Helper()
	return l.Value(t, part, key)
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

func containsAll(s string, parts []string) bool {
	return !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(s, p) })
}

func random() string { return strings.ToLower(rand.Text()[:8]) }
