//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A soak runs dnsdock for a long time while everything around it changes,
// fails or attacks, and checks every answer.
type soak struct {
	dir      string
	duration time.Duration
	rate     int // questions per second

	withDocker bool // whether a real engine takes part

	log   *os.File
	cmd   *exec.Cmd
	ended chan struct{} // closed when dnsdock has ended

	dns, http string // where it listens
	world     *world
	upstreams *upstreams
	tally     *tally
	quiet     sync.RWMutex // held for writing while all activity has to stop
}

// runSoak parses the flags of the soak and runs it.
func runSoak(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("soak", flag.ExitOnError)
	duration := flags.Duration("duration", time.Hour, "how long it lasts")
	rate := flags.Int("rate", 200, "questions per second")
	race := flags.Bool("race", false, "build dnsdock with the race detector")
	binary := flags.String("binary", "", "the dnsdock to run; empty: build it")
	if err := flags.Parse(args); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "dnsdock-soak-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if *binary == "" {
		*binary = filepath.Join(dir, "dnsdock")
		build := []string{"build", "-o", *binary}
		if *race {
			build = append(build, "-race")
		}
		out, err := exec.CommandContext(ctx, "go", append(build, "github.com/rayje/dnsdock")...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("go build: %w: %s", err, out)
		}
	}
	s := &soak{
		dir: dir, duration: *duration, rate: *rate, withDocker: hasDocker(),
		tally: newTally(), ended: make(chan struct{}),
	}
	return s.run(ctx, *binary)
}

// run starts dnsdock and all activity, and prints the tables at the end.
func (s *soak) run(ctx context.Context, binary string) (err error) {
	if s.upstreams, err = startUpstreams(ctx); err != nil {
		return err
	}
	if s.world, err = newWorld(s.dir); err != nil {
		return err
	}
	defer s.world.close()
	if err := s.start(ctx, binary); err != nil {
		return err
	}
	defer s.stop()
	fmt.Printf("%s\nsoak of %v, %d questions/s; dnsdock is process %d\n\n",
		machine(), s.duration, s.rate, s.cmd.Process.Pid)
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	var group sync.WaitGroup
	for _, activity := range s.activities() {
		group.Go(func() { activity(running) })
	}
	samples := s.observe(ctx)
	cancel()
	group.Wait()
	last, err := s.settled(ctx)
	if err != nil {
		s.tally.fail("the end", "%v", err)
	}
	samples = append(samples, last)
	s.stop()
	s.report(samples)
	if n := s.tally.failures(); n > 0 {
		return fmt.Errorf("%d failures", n)
	}
	return ctx.Err()
}

// activities are what happens all the time. Each holds quiet for reading while
// it does something.
func (s *soak) activities() []func(context.Context) {
	list := []func(context.Context){
		s.breakEngine, s.breakUpstreams, s.changeByAPI, s.driveDocker,
		abuses{s}.sendGarbage, abuses{s}.abuseTCP, abuses{s}.abuseHTTP,
	}
	for i := range askers {
		list = append(list, func(ctx context.Context) { questions{s}.ask(ctx, i) })
	}
	for i := range churners {
		list = append(list, func(ctx context.Context) { s.churn(ctx, i) })
	}
	return list
}

const (
	askers   = 8
	churners = 4
	patience = 2 * time.Minute // for a change to be answered: longer than the period of lists
)

// start runs dnsdock and waits until it knows all containers.
func (s *soak) start(ctx context.Context, binary string) (err error) {
	if s.log, err = os.Create(filepath.Join(s.dir, "log")); err != nil {
		return err
	}
	args := []string{
		"-dns=127.0.0.1:0", "-http=127.0.0.1:0", "-ttl=1", "-state=" + filepath.Join(s.dir, "state.json"),
		"-nameserver=" + strings.Join(s.upstreams.addrs(), ","), "-docker=" + s.world.url() + "=docker",
	}
	if s.withDocker {
		args = append(args, "-docker=unix://"+dockerSocket+"=real")
	}
	s.cmd = exec.CommandContext(ctx, binary, args...)
	s.cmd.Stderr = s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	go func() {
		_ = s.cmd.Wait() // how it ended is in its log
		close(s.ended)
	}()
	for end := time.Now().Add(patience); s.http == "" || s.dns == ""; time.Sleep(10 * time.Millisecond) {
		text, _ := os.ReadFile(s.log.Name())
		s.dns, s.http = listening(string(text), "dns"), listening(string(text), "http")
		if time.Now().After(end) {
			return fmt.Errorf("dnsdock does not listen: %s", text)
		}
	}
	unknown := func(got string) bool { return got == "NXDOMAIN" } // SERVFAIL before it knows all
	if s.withDocker {
		if err := s.await(ctx, "nosuch.real.", unknown); err != nil {
			return err
		}
	}
	return s.await(ctx, "nosuch.docker.", unknown)
}

// listening reads from the log where dnsdock listens.
func listening(text, what string) string {
	for line := range strings.Lines(text) {
		if _, addr, ok := strings.Cut(line, "msg=listening for="+what+" addr="); ok && strings.HasSuffix(line, "\n") {
			addr, _, _ = strings.Cut(strings.TrimSpace(addr), " ")
			return addr
		}
	}
	return ""
}

// stop ends dnsdock, which must exit in order and without a panic.
func (s *soak) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-s.ended:
	case <-time.After(30 * time.Second):
		s.tally.fail("the end", "dnsdock does not end")
		_ = s.cmd.Process.Kill()
		<-s.ended
	}
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		s.tally.fail("the end", "exit code %d", code)
	}
}

// await asks for the addresses of a name until they are as they should be.
func (s *soak) await(ctx context.Context, name string, ok func(string) bool) error {
	got := ""
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if got = s.query(name, "A", "udp"); ok(got) {
			return nil
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	return fmt.Errorf("%s is %q after %v", name, got, patience)
}

// settled has all activity stop, and waits until the program has nothing left
// to do. It returns the sample of that moment.
func (s *soak) settled(ctx context.Context) (sample, error) {
	s.quiet.Lock()
	defer s.quiet.Unlock()
	if err := s.world.repair(ctx, s); err != nil {
		return sample{}, err
	}
	s.upstreams.set(working)
	if status, err := s.call("DELETE", "/cache", ""); err != nil || status >= 300 {
		return sample{}, fmt.Errorf("DELETE /cache: status %d, %w", status, err)
	}
	var best sample
	// Idle connections and sockets to upstreams end after some seconds.
	for range 45 {
		if err := pause(ctx, time.Second); err != nil {
			return best, err
		}
		now, err := s.sample()
		if err != nil {
			return best, err
		}
		if best.descriptors == 0 || now.descriptors <= best.descriptors {
			best = now
		}
	}
	return best, nil
}

// observe takes a sample at rest after a warm-up, and then twelve samples under
// load.
func (s *soak) observe(ctx context.Context) (samples []sample) {
	if pause(ctx, min(time.Minute, s.duration/6)) != nil {
		return nil
	}
	first, err := s.settled(ctx)
	if err != nil {
		s.tally.fail("the warm-up", "%v", err)
	}
	samples = append(samples, first)
	fmt.Println(first.header())
	fmt.Println(first.row("at rest"))
	const parts = 12
	for range parts {
		if pause(ctx, s.duration/parts) != nil {
			return samples
		}
		now, err := s.sample()
		if err != nil {
			s.tally.fail("the program", "%v", err)
			return samples
		}
		samples = append(samples, now)
		fmt.Println(now.row("under load"))
	}
	return samples
}

// pause waits, and returns an error if the context ends first.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A tally counts what was asked and done, and keeps failures.
type tally struct {
	mu     sync.Mutex
	counts map[string]*atomic.Int64
	order  []string
	failed []string
	total  int // failures, those that were not kept too
}

func newTally() *tally { return &tally{counts: make(map[string]*atomic.Int64)} }

// add counts one more of a kind.
func (t *tally) add(kind string) {
	t.mu.Lock()
	n := t.counts[kind]
	if n == nil {
		n = new(atomic.Int64)
		t.counts[kind], t.order = n, append(t.order, kind)
	}
	t.mu.Unlock()
	n.Add(1)
}

// fail notes a failure, and prints the first of them at once.
func (t *tally) fail(kind, format string, args ...any) {
	const shown = 100
	text := time.Now().Format("15:04:05 ") + kind + ": " + fmt.Sprintf(format, args...)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.total++; t.total <= shown {
		t.failed = append(t.failed, text)
		fmt.Println("FAILURE", text)
	}
}

func (t *tally) failures() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.total
}

// errEnd ends an activity.
var errEnd = errors.New("the soak has ended")

// repeat calls f again and again, with pauses of about every, until the
// context ends. f runs while quiet is held for reading.
func (s *soak) repeat(ctx context.Context, every time.Duration, f func() error) {
	for ctx.Err() == nil {
		s.quiet.RLock()
		err := f()
		s.quiet.RUnlock()
		if err != nil || pause(ctx, every/2+rand.N(every)) != nil {
			return
		}
	}
}
