package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnstest"
)

// program is the package that is tested.
const program = "github.com/rayje/dnsdock"

// binaries is the directory of what the tests build.
var binaries string

func TestMain(m *testing.M) {
	dnstest.Parallel(4) // they wait for engines
	code := func() int {
		var err error
		if binaries, err = os.MkdirTemp("", "dnsdock-e2e-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(binaries)
		return m.Run()
	}()
	os.Exit(code)
}

// built builds the program on the first call, with the race detector if the
// tests have it, and returns its path.
var built = sync.OnceValues(func() (string, error) {
	binary := filepath.Join(binaries, "dnsdock")
	args := []string{"build", "-ldflags=-X main.version=v9.8.7", "-o", binary}
	if hasRace {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, program)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return binary, nil
})

// A process is a run of the program.
type process struct {
	cmd    *exec.Cmd
	stdout *bytes.Buffer // not before it has ended
	log    *dnstest.Log  // its standard error
	ended  chan struct{} // closed when it has ended
	err    error         // how it ended; set before ended is closed
}

// startProcess runs the program with args and an empty environment. It is
// killed at the end of the test if it still runs.
func startProcess(t *testing.T, args ...string) *process {
	t.Helper()
	dnstest.Needs(t, "go")
	binary, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return startCommand(t, binary, args...)
}

// startCommand is startProcess for another command, which runs the program.
func startCommand(t *testing.T, name string, args ...string) *process {
	t.Helper()
	return startWith(t, nil, name, args...)
}

// startWith is startCommand with files open, from descriptor 3 on.
func startWith(t *testing.T, files []*os.File, name string, args ...string) *process {
	t.Helper()
	p := &process{
		cmd: exec.Command(name, args...), stdout: new(bytes.Buffer), log: dnstest.NewLog(), ended: make(chan struct{}),
	}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Env = p.stdout, p.log, []string{}
	p.cmd.ExtraFiles, p.cmd.SysProcAttr = files, endsWithTests()
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it has ended in most cases
		<-p.ended
		if t.Failed() {
			t.Logf("log of dnsdock:\n%s", p.log)
		}
	})
	return p
}

// signal sends one to the program.
func (p *process) signal(t *testing.T, sig os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// wait waits for the end of the program, and returns its exit code.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(dnstest.Patience):
		t.Fatalf("dnsdock does not end:\n%s", p.log)
	}
	return p.cmd.ProcessState.ExitCode()
}

// An instance is a run of the program that serves.
type instance struct {
	dns  string // where it listens, UDP and TCP
	http string // the URL of its API
	log  *dnstest.Log
	stop func() error // ends it as docker stop does, and returns an error if it does not exit with 0
}

// startDnsdock runs the program with args until the test ends. It listens
// on free ports of loopback unless args say otherwise, and has no upstream.
func startDnsdock(t *testing.T, args ...string) *instance {
	t.Helper()
	p := startProcess(t, append([]string{"-dns=127.0.0.1:0", "-http=127.0.0.1:0", "-nameserver="}, args...)...)
	return newInstance(t, p)
}

// newInstance waits until the program listens.
func newInstance(t *testing.T, p *process) *instance {
	t.Helper()
	in := &instance{log: p.log}
	in.stop = sync.OnceValue(func() error {
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended, and then err says how
		select {
		case <-p.ended:
			return p.err
		case <-time.After(dnstest.Patience):
			return errors.New("it does not end")
		}
	})
	t.Cleanup(func() {
		if err := in.stop(); err != nil {
			t.Errorf("dnsdock: %v", err)
		}
	})
	in.dns = in.log.Value(t, "msg=listening for=dns", "addr")
	in.http = "http://" + in.log.Value(t, "msg=listening for=http", "addr")
	return in
}

// ask sends one query over network and returns the reply.
func (in *instance) ask(t *testing.T, network, qname string, qtype uint16) *dns.Msg {
	t.Helper()
	c := dns.Client{Net: network, Timeout: dnstest.Patience}
	r, _, err := c.Exchange(new(dns.Msg).SetQuestion(dns.Fqdn(qname), qtype), in.dns)
	if err != nil {
		t.Fatalf("%s %s over %s: %v", qname, dns.Type(qtype), network, err)
	}
	return r
}

// addrs returns the addresses of qname, A and AAAA, as text.
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

// query asks by the dig command, and returns the rcode and the sorted data of
// the answers: "NOERROR 172.17.0.2 172.17.0.3". The argument is what dig
// takes: a name and a type, or -x and an address.
func (in *instance) query(t *testing.T, query string) string {
	t.Helper()
	host, port, err := net.SplitHostPort(in.dns)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"@" + host, "-p", port, "+noall", "+comments", "+answer", "+tries=1", "+time=30"}
	out, err := exec.Command("dig", append(args, strings.Fields(query)...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("dig %s: %v: %s", query, err, out)
	}
	rcode, data := parseDig(string(out))
	slices.Sort(data)
	return strings.Join(append([]string{rcode}, data...), " ")
}

// parseDig reads what dig +noall +comments +answer prints. The data come in
// the order of the reply.
func parseDig(out string) (rcode string, data []string) {
	rcode = "no reply"
	for line := range strings.Lines(out) {
		if _, status, ok := strings.Cut(line, "status: "); ok {
			rcode, _, _ = strings.Cut(status, ",")
		}
		f := strings.Fields(line) // owner, TTL, class, type, data
		if len(f) > 4 && !strings.HasPrefix(line, ";") {
			data = append(data, strings.Join(f[4:], " "))
		}
	}
	return rcode, data
}

// want asks once, and compares with the rcode and the data in any order.
func (in *instance) want(t *testing.T, query string, want ...string) {
	t.Helper()
	slices.Sort(want[1:])
	if got := in.query(t, query); got != strings.Join(want, " ") {
		t.Errorf("%s: got %q; want %q", query, got, strings.Join(want, " "))
	}
}

// soon asks until the answer is want. It is for changes that the log does not
// mention.
func (in *instance) soon(t *testing.T, query string, want ...string) {
	t.Helper()
	slices.Sort(want[1:])
	got := ""
	for end := time.Now().Add(dnstest.Patience); time.Now().Before(end); {
		if got = in.query(t, query); got == strings.Join(want, " ") {
			return
		}
	}
	t.Fatalf("%s: got %q; want %q", query, got, strings.Join(want, " "))
}

// ready waits until all containers that existed at the start are answered.
func (in *instance) ready(t *testing.T) {
	t.Helper()
	in.soon(t, "no.such.container.docker A", "NXDOMAIN")
}

// seen calls do, and waits for a line about it in the log.
func (in *instance) seen(t *testing.T, do func(), parts ...string) {
	t.Helper()
	in.log.Mark()
	do()
	in.log.Wait(t, parts...)
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
