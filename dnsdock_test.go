package main

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// patience is how long a test waits for what must come, on a slow machine.
const patience = 30 * time.Second

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
