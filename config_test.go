package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/config"
)

// environ is getenv of a fixed environment, "NAME=value" each.
func environ(vars []string) func(string) string {
	return func(k string) string {
		for _, v := range vars {
			if name, value, _ := strings.Cut(v, "="); name == k {
				return value
			}
		}
		return ""
	}
}

func TestHelpAndVersion(t *testing.T) {
	for _, args := range []string{"-help", "--help", "-h", "-version", "--version", "-version -dns= -domain=*", "-ttl=1 -help"} {
		t.Run(args, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if err := run(t.Context(), strings.Fields(args), environ([]string{"DOCKER_HOST=nonsense"}), &stdout, &stderr); err != nil {
				t.Fatalf("got error %v; want none", err)
			}
			want := config.Usage()
			if strings.Contains(args, "version") {
				want = "dnsdock " + buildVersion() + " go"
			}
			if !strings.HasPrefix(stdout.String(), want) || stderr.Len() != 0 {
				t.Errorf("got output %q and log %q; want %q and no log", &stdout, &stderr, want)
			}
		})
	}
	// Each flag is in the usage, with its default.
	for _, line := range []string{
		"-dns ADDR", "(default :53)", "-http ADDR", "(default :80)", "-docker URL", "unix:///var/run/docker.sock", "-domain NAME", "(default docker)",
		"-environment NAME", "-nameserver ADDR", "(default 8.8.8.8:53)", "-ttl SECONDS", "(default 0)", "-alias", "-all", "-forcettl",
		"-tlsverify", "-tlscacert FILE", "-tlscert FILE", "-tlskey FILE", "-verbose", "-debug", "-version", "-help", "Examples",
	} {
		if !strings.Contains(config.Usage(), line) {
			t.Errorf("usage lacks %q", line)
		}
	}
}

// The flags do what they say in the running program.
func TestFlagsAtWork(t *testing.T) {
	noEngine := "-docker=unix://" + t.TempDir() + "/docker.sock"
	t.Run("no upstream", func(t *testing.T) {
		in := startDnsdock(t, noEngine)
		if r := in.ask(t, "udp", "example.com", dns.TypeA); r.Rcode != dns.RcodeRefused || r.RecursionAvailable {
			t.Errorf("got %v; want REFUSED, RA clear", show(r))
		}
	})
	t.Run("upstreams in order", func(t *testing.T) {
		in := startDnsdock(t, noEngine, "-nameserver="+closedUpstream(t).String()+","+startUpstream(t, answer(t, nil), nil).String(), "-forcettl", "-ttl=9")
		for _, network := range []string{"udp", "tcp"} {
			if got, want := showSorted(in.ask(t, network, "example.com", dns.TypeA)), "NOERROR ra; example.com. 9 A 192.0.2.1"; got != want {
				t.Errorf("over %s: got %v; want %v", network, got, want)
			}
		}
	})
	t.Run("domain, environment and ttl", func(t *testing.T) {
		in := startDnsdock(t, noEngine, "-domain=docker.example.com", "--environment=dev", "-ttl", "12")
		if got, want := showSorted(in.ask(t, "udp", "dnsdock.dev.docker.example.com", dns.TypeA)), "NOERROR aa; dnsdock.dev.docker.example.com. 12 A 127.0.0.1"; got != want {
			t.Errorf("got %v; want %v", got, want)
		}
	})
	t.Run("several addresses", func(t *testing.T) {
		in := startDnsdock(t, noEngine, "-dns=127.0.0.1:0,127.0.0.1:0")
		in.log.wait(t, "msg=listening for=http") // the last to listen
		for line := range strings.Lines(in.log.String()) {
			if _, addr, ok := strings.Cut(line, "msg=listening for=dns addr="); ok {
				r := exchange(t, "udp", strings.TrimSpace(addr), new(dns.Msg).SetQuestion("dnsdock.docker.", dns.TypeA))
				if len(r.Answer) != 1 {
					t.Errorf("at %s: got %v; want our address", addr, show(r))
				}
			}
		}
		if got := strings.Count(in.log.String(), "msg=listening for=dns "); got != 3 { // with the one of startDnsdock
			t.Errorf("got %d addresses; want 3", got)
		}
	})
	t.Run("no HTTP", func(t *testing.T) {
		log := newLogWatch()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- run(ctx, []string{"-dns=127.0.0.1:0", "-http=", noEngine}, environ(nil), log, log) }()
		log.wait(t, "msg=listening for=dns")
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
		if strings.Contains(log.String(), "for=http") {
			t.Errorf("HTTP is served:\n%s", log)
		}
	})
	t.Run("debug", func(t *testing.T) {
		in := startDnsdock(t, noEngine, "-debug")
		in.ask(t, "udp", "example.com", dns.TypeMX)
		in.log.wait(t, "level=DEBUG msg=query", "name=example.com.", "type=MX", "rcode=REFUSED")
	})
}

// The built program: its exit codes, and its end by signals.
func TestBinary(t *testing.T) {
	gocmd, err := exec.LookPath("go")
	if err != nil {
		t.Skipf("the program can't be built: %v", err)
	}
	binary := filepath.Join(t.TempDir(), "dnsdock")
	if out, err := exec.CommandContext(t.Context(), gocmd, "build", "-ldflags=-X main.version=v9.8.7", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	start := func(t *testing.T, args ...string) (cmd *exec.Cmd, stdout *bytes.Buffer, stderr *logWatch) {
		cmd = exec.CommandContext(t.Context(), binary, args...)
		stdout, stderr = new(bytes.Buffer), newLogWatch()
		cmd.Stdout, cmd.Stderr, cmd.Env = stdout, stderr, []string{}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd, stdout, stderr
	}
	for _, tt := range []struct {
		args           []string
		code           int
		stdout, stderr string // a part of each
	}{
		{[]string{"-ttl=soon"}, 2, "", `dnsdock: invalid value "soon" for flag -ttl: write seconds from 0 to 2147483647`},
		{[]string{"-nonsense"}, 2, "", "dnsdock: flag provided but not defined: -nonsense"},
		{[]string{"-dns=" + busy.Addr().String()}, 1, "", "dnsdock: can't listen on -dns=" + busy.Addr().String()},
		{[]string{"-help"}, 0, "Usage: dnsdock [flags]", ""},
		{[]string{"-version"}, 0, "dnsdock v9.8.7 go", ""},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			cmd, stdout, stderr := start(t, tt.args...)
			_ = cmd.Wait() // the code says it
			if got := cmd.ProcessState.ExitCode(); got != tt.code {
				t.Errorf("got exit code %d; want %d", got, tt.code)
			}
			if !strings.HasPrefix(stdout.String(), tt.stdout) || (tt.stdout == "") != (stdout.Len() == 0) {
				t.Errorf("got output %q; want %q", stdout, tt.stdout)
			}
			if !strings.HasPrefix(stderr.String(), tt.stderr) || (tt.stderr == "") != (stderr.String() == "") {
				t.Errorf("got log %q; want %q", stderr, tt.stderr)
			}
			if n := strings.Count(stderr.String(), "\n"); n > 1 {
				t.Errorf("got %d lines of log; want one at most", n)
			}
		})
	}
	t.Run("hangup and healthcheck", func(t *testing.T) {
		e := newFakeEngine()
		token := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(token, []byte("0123456789abcdef"), 0o600); err != nil {
			t.Fatal(err)
		}
		flags := []string{"-dns=127.0.0.1:0", "-http=127.0.0.1:0", "-nameserver=", "-http-token-file=" + token, "-docker=" + startEngine(t, e, nil).Text}
		cmd, _, stderr := start(t, flags...)
		flags[0] = "-dns=" + stderr.value(t, "msg=listening for=dns", "addr")
		flags[1] = "-http=" + stderr.value(t, "msg=listening for=http", "addr")
		stderr.wait(t, "engine found")
		e.update(func() { e.quiet = true })
		for _, id := range []string{"aa", "bb"} {
			e.set(id, &fakeContainer{name: id, image: "redis:7", state: "running", addr: "10.0.0.1"})
			if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
			stderr.wait(t, "service added", fakeID(id)) // long before the next list by time
		}
		if err := os.Remove(token); err != nil {
			t.Fatal(err)
		}
		stderr.mark()
		if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		stderr.wait(t, "token can't be read")
		if err := os.WriteFile(token, []byte("0123456789abcdef"), 0o600); err != nil {
			t.Fatal(err)
		}
		check := func(want int, args ...string) {
			t.Helper()
			cmd, _, stderr := start(t, append(args, "-healthcheck")...)
			_ = cmd.Wait() // the code says it
			if got := cmd.ProcessState.ExitCode(); got != want {
				t.Errorf("-healthcheck %q: got exit code %d, %s; want %d", args, got, stderr, want)
			}
		}
		check(0, flags...)
		check(0, flags[0], "-http=", flags[2])
		check(2, "-http=nonsense")
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("got %v; want exit code 0\n%s", err, stderr)
		}
		check(1, flags...)
		check(1, flags[0], "-http=", flags[2])
	})
	for _, sig := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		t.Run(sig.String(), func(t *testing.T) {
			cmd, _, stderr := start(t, "-dns=127.0.0.1:0", "-http=127.0.0.1:0", "-nameserver=", "-docker=unix://"+t.TempDir()+"/docker.sock")
			addr := stderr.value(t, "msg=listening for=dns", "addr")
			stderr.wait(t, "msg=listening for=http")
			exchange(t, "tcp", addr, new(dns.Msg).SetQuestion("dnsdock.docker.", dns.TypeA))
			idle, err := net.Dial("tcp", addr) // must not hold it
			if err != nil {
				t.Fatal(err)
			}
			defer idle.Close()
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("got %v; want exit code 0\n%s", err, stderr)
			}
		})
	}
}
