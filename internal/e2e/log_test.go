package e2e

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rayje/dnsdock/internal/dnstest"
)

// While nobody reads the log, which gets more lines than pipes and memory take, dnsdock answers, follows its engine,
// serves HTTP and forwards. What is lost is counted.
func TestLogThatNobodyReads(t *testing.T) {
	t.Parallel()
	up := startUpstream(t)
	e := dnstest.NewEngine()
	e.Set("aa", &dnstest.Container{Name: "web", Image: "redis:7", State: "running", Addr: "10.0.0.1"})
	p := startProcess(t, "-dns=127.0.0.1:0", "-http=127.0.0.1:0", "-docker="+e.ServeUnix(t), "-debug",
		"-nameserver="+up)
	in := newInstance(t, p)
	in.log.Wait(t, "service added", dnstest.ID("aa"))
	release := in.log.Hold()
	defer release()
	const queries = 12000 // lines of 150 bytes
	in.flood(t, queries)
	e.Start("bb", "bad", "10.0.0.2", "DNSDOCK_TTL=soon", "DNSDOCK_IPADDRESS=nowhere?")
	in.soon(t, "bad.redis.docker A", "NOERROR", "10.0.0.2")
	for what, err := range map[string]error{
		"TCP": in.burst(t, "tcp", 1), "HTTP": in.get("/services"), "forwarded": in.exchange("udp", "n.example.", "192.0.2.1"),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	release()
	lost, err := strconv.Atoi(in.log.Value(t, "lines are missing here", "lines"))
	if err != nil {
		t.Fatal(err)
	}
	in.log.Mark()
	if err := in.burst(t, "udp", 1); err != nil {
		t.Error(err)
	}
	in.log.Wait(t, "msg=query")
	if n := strings.Count(in.log.String(), "over=udp name=web.redis.docker"); n+lost < queries || lost == 0 {
		t.Errorf("%d lines about queries, and %d are said to be missing; want %d in all", n, lost, queries)
	}
}

// flood asks so many times, and waits for the answers. On a slow machine some take more than a second, or are lost.
func (in *instance) flood(t *testing.T, count int) {
	t.Helper()
	end := time.Now().Add(dnstest.Patience)
	for answered := 0; answered < count; {
		if err := in.burst(t, "udp", 20); err == nil {
			answered += 20
		} else if time.Now().After(end) {
			t.Fatalf("after %d answers: %v", answered, err)
		}
	}
}

// A log that nobody reads does not hold up the end, and neither does one whose reader has ended.
func TestEndWithoutReaderOfLog(t *testing.T) {
	t.Parallel()
	in, p := startFaulty(t, "-debug", "-nameserver=")
	release := in.log.Hold()
	defer release()
	in.flood(t, 2000) // more lines than a pipe takes
	begun := time.Now()
	p.signal(t, syscall.SIGTERM)
	hasEnded := func() bool { return errors.Is(p.cmd.Process.Signal(syscall.Signal(0)), os.ErrProcessDone) }
	for look := time.Tick(10 * time.Millisecond); !hasEnded(); {
		if <-look; time.Since(begun) > dnstest.Patience {
			t.Fatal("it does not end")
		}
	}
	if took := time.Since(begun); took > 8*time.Second {
		t.Errorf("the end took %v; docker stop waits 10 s", took)
	}
}

// A log whose reader has ended, as in a shell's pipe, does not end dnsdock.
func TestLogWithoutReader(t *testing.T) {
	t.Parallel()
	e := dnstest.NewEngine()
	e.Set("aa", &dnstest.Container{Name: "web", Image: "redis:7", State: "running", Addr: "10.0.0.1"})
	dnstest.Needs(t, "go", "sh")
	binary, err := built()
	if err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(t.TempDir(), "log")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Skip(err)
	}
	p := startCommand(t, "sh", "-c", `log=$1; shift; exec "$@" 2>"$log"`, "sh", fifo, binary, "-debug",
		"-dns=127.0.0.1:0", "-http=127.0.0.1:0", "-docker="+e.ServeUnix(t), "-nameserver=")
	r, err := os.Open(fifo)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(p.log, r) }() // until r is closed
	in := newInstance(t, p)
	in.log.Wait(t, "service added", dnstest.ID("aa"))
	_ = r.Close()
	in.flood(t, 2000)
	p.signal(t, syscall.SIGTERM)
	if code := p.wait(t); code != 0 {
		t.Errorf("exit code %d; want 0", code)
	}
}
