package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnstest"
)

// A fault is a system call of the program that fails, by strace.
type fault struct {
	call  string // or several by commas
	errno string
	path  string // only calls on this file; empty: all calls
}

func (f fault) String() string { return f.call + " " + f.errno }

// An injection has calls of a running program fail.
type injection struct {
	cmd *exec.Cmd
	out string // file with the calls
	log *dnstest.Log
}

// inject has calls fail from now on: all, or with once the first one of each
// thread. It skips the test where strace can't do that.
func (p *process) inject(t *testing.T, f fault, once bool) *injection {
	t.Helper()
	dnstest.Needs(t, "strace")
	i := &injection{out: filepath.Join(t.TempDir(), "calls"), log: dnstest.NewLog()}
	what := "inject=" + f.call + ":error=" + f.errno
	if once {
		what += ":when=1"
	}
	args := []string{"-f", "-p", strconv.Itoa(p.cmd.Process.Pid), "-o", i.out, "-e", "trace=" + f.call, "-e", what}
	if f.path != "" {
		args = append(args, "-P", f.path)
	}
	i.cmd = exec.Command("strace", args...)
	i.cmd.Stderr, i.cmd.SysProcAttr = i.log, endsWithTests()
	if err := i.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(dnstest.Patience); !strings.Contains(i.log.String(), "attached"); {
		text := i.log.String()
		if strings.Contains(text, "Operation not permitted") || strings.Contains(text, "nvalid") {
			_ = i.cmd.Wait() // its log says why it ended
			t.Skipf("strace can't make system calls fail: %s", text)
		}
		if time.Now().After(end) {
			t.Fatalf("strace does not attach: %s", i.log)
		}
	}
	return i
}

// count returns how many calls failed so far.
func (i *injection) count() int {
	text, _ := os.ReadFile(i.out) // empty until the first call
	return bytes.Count(text, []byte("(INJECTED)"))
}

// end has the calls work again.
func (i *injection) end(t *testing.T) {
	t.Helper()
	if err := i.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Errorf("strace: %v", err)
	}
	_ = i.cmd.Wait() // it ends by the signal
}

// TestSystemCallsFail has system calls of the program fail, once and for a
// while. The program goes on, what does not need the call works meanwhile, and
// afterwards everything does.
func TestSystemCallsFail(t *testing.T) {
	t.Parallel()
	udp := func(t *testing.T, in *instance) error { return in.burst(t, "udp", 20) }
	tcp := func(t *testing.T, in *instance) error { return in.burst(t, "tcp", 1) }
	http := func(_ *testing.T, in *instance) error { return in.get("/services") }
	none := func(*testing.T, *instance) error { return nil }
	var next atomic.Int32
	forwarded := func(t *testing.T, in *instance) error {
		return in.exchange("udp", fmt.Sprintf("n%d.example.", next.Add(1)), "192.0.2.1")
	}
	for _, c := range []struct {
		fault
		needs func(*testing.T, *instance) error // fails while the calls do
		other func(*testing.T, *instance) error // works meanwhile
	}{
		{fault{"recvmmsg,recvmsg", "ENOMEM", ""}, udp, tcp},
		{fault{"recvmmsg,recvmsg", "ENOBUFS", ""}, udp, tcp},
		{fault{"recvmmsg,recvmsg", "EPERM", ""}, udp, http},
		{fault{"sendmmsg,sendmsg", "ENOBUFS", ""}, udp, tcp},
		{fault{"sendmmsg,sendmsg", "EPERM", ""}, udp, tcp},
		{fault{"sendmmsg,sendmsg", "ENOMEM", ""}, udp, http},
		{fault{"accept4", "EMFILE", ""}, tcp, udp},
		{fault{"accept4", "ENOBUFS", ""}, http, udp},
		{fault{"accept4", "ECONNABORTED", ""}, tcp, udp},
		{fault{"accept4", "EPERM", ""}, http, udp},
		{fault{"accept4", "ENOMEM", ""}, tcp, udp},
		{fault{"epoll_ctl", "ENOMEM", ""}, tcp, udp},
		{fault{"epoll_ctl", "ENOSPC", ""}, http, udp},
		{fault{"connect", "ENETUNREACH", ""}, forwarded, udp},
		{fault{"connect", "EAGAIN", ""}, forwarded, tcp},
		{fault{"socket", "EMFILE", ""}, forwarded, udp},
		{fault{"socket", "ENOBUFS", ""}, forwarded, http},
		{fault{"getsockname", "ENOBUFS", ""}, forwarded, udp},
		{fault{"setsockopt", "ENOMEM", ""}, forwarded, none},
	} {
		for _, once := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s once=%t", c.fault, once), func(t *testing.T) {
				t.Parallel()
				testFault(t, c.fault, once, c.needs, c.other)
			})
		}
	}
}

// testFault has calls fail, and has the program do what needs them and what
// does not.
func testFault(t *testing.T, f fault, once bool, needs, other func(*testing.T, *instance) error) {
	in, p := startFaulty(t, "-nameserver="+startUpstream(t))
	i := p.inject(t, f, once)
	enough := 3
	if once {
		enough = 1
	}
	for p.runs(t) && i.count() < enough {
		_ = needs(t, in) // it may fail
	}
	if err := other(t, in); err != nil {
		t.Errorf("meanwhile: %v", err)
	}
	eventually := func(when string) {
		t.Helper()
		var err error
		for end := time.Now().Add(dnstest.Patience / 4); p.runs(t) && time.Now().Before(end); {
			if err = needs(t, in); err == nil {
				return
			}
		}
		t.Errorf("%s: %v", when, err)
	}
	if once {
		eventually("after the first calls")
	}
	i.end(t)
	eventually("afterwards")
	if err := other(t, in); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	const most = 10 // when it begins and when it ends, for each socket
	if got := strings.Count(in.log.String(), "level=WARN") + strings.Count(in.log.String(), "level=ERROR"); got > most {
		t.Errorf("%d warnings; want %d at most", got, most)
	}
}

// runs fails the test if the program has ended.
func (p *process) runs(t *testing.T) bool {
	t.Helper()
	select {
	case <-p.ended:
		t.Fatalf("dnsdock has ended: %v\n%s", p.err, p.log)
	default:
	}
	return true
}

// startFaulty runs the program on a fake engine with the container
// web.redis.docker, 10.0.0.1.
func startFaulty(t *testing.T, args ...string) (*instance, *process) {
	t.Helper()
	e := dnstest.NewEngine()
	e.Set("aa", &dnstest.Container{Name: "web", Image: "redis:7", State: "running", Addr: "10.0.0.1"})
	args = append([]string{"-dns=127.0.0.1:0", "-http=127.0.0.1:0", "-docker=" + e.ServeUnix(t)}, args...)
	p := startProcess(t, args...)
	in := newInstance(t, p)
	in.log.Wait(t, "service added", dnstest.ID("aa"))
	in.log.Wait(t, "engine found")
	return in, p
}

// exchange asks for the address of a name, for a second at most.
func (in *instance) exchange(network, name, want string) error {
	c := dns.Client{Net: network, Timeout: time.Second}
	r, _, err := c.Exchange(new(dns.Msg).SetQuestion(name, dns.TypeA), in.dns)
	if err != nil {
		return err
	}
	if len(r.Answer) == 1 {
		if a, ok := r.Answer[0].(*dns.A); ok && a.A.String() == want {
			return nil
		}
	}
	return fmt.Errorf("%s: got %v; want %s", name, r, want)
}

// burst asks so many times at once by one socket, so that packets come and
// leave together.
func (in *instance) burst(t *testing.T, network string, count int) error {
	if network == "tcp" {
		return in.exchange("tcp", "web.redis.docker.", "10.0.0.1")
	}
	c, err := net.Dial("udp", in.dns)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	for i := range count {
		q := new(dns.Msg).SetQuestion("web.redis.docker.", dns.TypeA)
		q.Id = uint16(i)
		b, err := q.Pack()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(b); err != nil {
			return err
		}
	}
	b := make([]byte, 512)
	for range count {
		if _, err := c.Read(b); err != nil {
			return err
		}
	}
	return nil
}

// get asks the API once, by a connection of its own, for a second at most.
func (in *instance) get(path string) error {
	c, err := net.DialTimeout("tcp", strings.TrimPrefix(in.http, "http://"), time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, "GET "+path+" HTTP/1.0\r\nHost: localhost\r\n\r\n"); err != nil {
		return err
	}
	b, err := io.ReadAll(c)
	if err == nil && !bytes.Contains(b, []byte("web")) {
		err = errors.New(string(b))
	}
	return err
}
