package e2e

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnstest"
)

// noEngine is the flag for an engine that is never there.
func noEngine(t *testing.T) string { return "-docker=unix://" + t.TempDir() + "/docker.sock" }

// startUpstream serves a nameserver until the test ends, and returns its
// address. It answers 192.0.2.1 with a TTL of 300 over UDP and TCP.
func startUpstream(t *testing.T) string {
	t.Helper()
	tcp, udp := listenBoth(t)
	answer := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		m.RecursionAvailable = true
		rr, err := dns.NewRR(q.Question[0].Name + " 300 A 192.0.2.1")
		if err != nil {
			t.Error(err)
		}
		m.Answer = append(m.Answer, rr)
		_ = w.WriteMsg(m) // the test sees a reply that is missing
	})
	servers := []*dns.Server{{Listener: tcp, Handler: answer}, {PacketConn: udp, Handler: answer}}
	for _, srv := range servers {
		started, ended := make(chan struct{}), make(chan error, 1)
		srv.NotifyStartedFunc = func() { close(started) }
		go func() { ended <- srv.ActivateAndServe() }()
		<-started
		t.Cleanup(func() {
			_ = srv.Shutdown() // its own error comes from ended
			if err := <-ended; err != nil {
				t.Errorf("upstream: %v", err)
			}
		})
	}
	return tcp.Addr().String()
}

// listenBoth opens TCP and UDP on one port of loopback.
func listenBoth(t *testing.T) (tcp net.Listener, udp net.PacketConn) {
	t.Helper()
	const tries = 10 // a port that is free for TCP may be taken for UDP
	for range tries {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if udp, err := net.ListenPacket("udp", tcp.Addr().String()); err == nil {
			return tcp, udp
		}
		_ = tcp.Close()
	}
	t.Fatal("no port is free for TCP and UDP")
	return nil, nil
}

// closedPort returns an address of loopback where nothing listens.
func closedPort(t *testing.T) string {
	t.Helper()
	tcp, udp := listenBoth(t)
	_, _ = tcp.Close(), udp.Close()
	return tcp.Addr().String()
}

// The flags do what they say in the running program.
func TestFlags(t *testing.T) {
	t.Run("no upstream", func(t *testing.T) {
		in := startDnsdock(t, noEngine(t))
		if r := in.ask(t, "udp", "example.com", dns.TypeA); r.Rcode != dns.RcodeRefused || r.RecursionAvailable {
			t.Errorf("got %v; want REFUSED, RA clear", r)
		}
	})
	t.Run("upstreams in order", func(t *testing.T) {
		in := startDnsdock(t, noEngine(t), "-nameserver="+closedPort(t)+","+startUpstream(t), "-forcettl", "-ttl=9")
		for _, network := range []string{"udp", "tcp"} {
			r := in.ask(t, network, "example.com", dns.TypeA)
			want := "example.com.\t9\tIN\tA\t192.0.2.1"
			if !r.RecursionAvailable || len(r.Answer) != 1 || r.Answer[0].String() != want {
				t.Errorf("over %s: got %v; want 192.0.2.1 with a TTL of 9, RA set", network, r)
			}
		}
	})
	t.Run("domain, environment and ttl", func(t *testing.T) {
		in := startDnsdock(t, noEngine(t), "-domain=docker.example.com", "--environment=dev", "-ttl", "12")
		r := in.ask(t, "udp", "dnsdock.dev.docker.example.com", dns.TypeA)
		want := "dnsdock.dev.docker.example.com.\t12\tIN\tA\t127.0.0.1"
		if !r.Authoritative || len(r.Answer) != 1 || r.Answer[0].String() != want {
			t.Errorf("got %v; want %v, AA set", r, want)
		}
	})
	t.Run("several addresses", func(t *testing.T) {
		in := startDnsdock(t, noEngine(t), "-dns=127.0.0.1:0,127.0.0.1:0")
		in.log.Wait(t, "msg=listening for=http") // the last to listen
		count := 0
		for line := range strings.Lines(in.log.String()) {
			_, addr, ok := strings.Cut(line, "msg=listening for=dns addr=")
			if !ok {
				continue
			}
			count++
			in.dns = strings.TrimSpace(addr)
			if r := in.ask(t, "udp", "dnsdock.docker", dns.TypeA); len(r.Answer) != 1 {
				t.Errorf("at %s: got %v; want our address", in.dns, r)
			}
		}
		if count != 3 { // with the one of startDnsdock
			t.Errorf("got %d addresses; want 3", count)
		}
	})
	t.Run("no HTTP", func(t *testing.T) {
		p := startProcess(t, "-dns=127.0.0.1:0", "-http=", noEngine(t))
		p.log.Wait(t, "msg=listening for=dns")
		p.signal(t, syscall.SIGTERM)
		if code := p.wait(t); code != 0 || strings.Contains(p.log.String(), "for=http") {
			t.Errorf("got exit code %d; want 0, and no HTTP:\n%s", code, p.log)
		}
	})
	t.Run("debug", func(t *testing.T) {
		in := startDnsdock(t, noEngine(t), "-debug")
		in.ask(t, "udp", "example.com", dns.TypeMX)
		in.log.Wait(t, "level=DEBUG msg=query", "name=example.com.", "type=MX", "rcode=REFUSED")
	})
}

// Exit codes, and what goes to which output.
func TestExitCodes(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	f := func(code int, stdout, stderr string, args ...string) {
		t.Helper()
		p := startProcess(t, args...)
		if got := p.wait(t); got != code {
			t.Errorf("%q: got exit code %d; want %d", args, got, code)
		}
		if out := p.stdout.String(); !strings.HasPrefix(out, stdout) || (stdout == "") != (out == "") {
			t.Errorf("%q: got output %q; want %q", args, out, stdout)
		}
		log := p.log.String()
		if !strings.HasPrefix(log, stderr) || (stderr == "") != (log == "") || strings.Count(log, "\n") > 1 {
			t.Errorf("%q: got log %q; want one line, %q", args, log, stderr)
		}
	}
	f(2, "", `dnsdock: invalid value "soon" for flag -ttl: write seconds from 0 to 2147483647`, "-ttl=soon")
	f(2, "", "dnsdock: flag provided but not defined: -nonsense", "-nonsense")
	f(1, "", "dnsdock: can't listen on -dns="+busy.Addr().String(), "-dns="+busy.Addr().String())
	f(0, "Usage: dnsdock [flags]", "", "-help")
	f(0, "dnsdock v9.8.7 go", "", "-version")
}

// SIGTERM and SIGINT end the program, also while a client holds a connection.
func TestSignals(t *testing.T) {
	for _, sig := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		t.Run(sig.String(), func(t *testing.T) {
			p := startProcess(t, "-dns=127.0.0.1:0", "-http=127.0.0.1:0", "-nameserver=", noEngine(t))
			in := &instance{dns: p.log.Value(t, "msg=listening for=dns", "addr")}
			p.log.Wait(t, "msg=listening for=http")
			in.ask(t, "tcp", "dnsdock.docker", dns.TypeA)
			idle, err := net.Dial("tcp", in.dns)
			if err != nil {
				t.Fatal(err)
			}
			defer idle.Close()
			p.signal(t, sig)
			if code := p.wait(t); code != 0 {
				t.Errorf("got exit code %d; want 0", code)
			}
		})
	}
}

// SIGHUP lists the containers and reads the token again, and never ends the program.
func TestHangup(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	write := func() {
		if err := os.WriteFile(token, []byte("0123456789abcdef"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write()
	e := dnstest.NewEngine()
	flags := []string{"-dns=127.0.0.1:0", "-http=127.0.0.1:0", "-http-token-file=" + token}
	p := startProcess(t, append(flags, "-docker="+e.ServeTCP(t, nil))...)
	p.log.Wait(t, "engine found")
	e.Update(func() { e.Quiet = true })
	for _, id := range []string{"aa", "bb"} {
		e.Set(id, &dnstest.Container{Name: id, Image: "redis:7", State: "running", Addr: "10.0.0.1"})
		p.signal(t, syscall.SIGHUP)
		p.log.Wait(t, "service added", dnstest.ID(id)) // long before the next list by time
	}
	if err := os.Remove(token); err != nil {
		t.Fatal(err)
	}
	p.log.Mark()
	p.signal(t, syscall.SIGHUP)
	p.log.Wait(t, "token can't be read")
	write()
	p.signal(t, syscall.SIGTERM)
	if code := p.wait(t); code != 0 {
		t.Errorf("got exit code %d; want 0", code)
	}
}

// -healthcheck asks the program that runs with the same flags.
func TestHealthcheckFlag(t *testing.T) {
	p := startProcess(t, "-dns=127.0.0.1:0", "-http=127.0.0.1:0", "-nameserver=", noEngine(t))
	dnsFlag := "-dns=" + p.log.Value(t, "msg=listening for=dns", "addr")
	httpFlag := "-http=" + p.log.Value(t, "msg=listening for=http", "addr")
	check := func(want int, args ...string) {
		t.Helper()
		if got := startProcess(t, append(args, "-healthcheck")...).wait(t); got != want {
			t.Errorf("-healthcheck %q: got exit code %d; want %d", args, got, want)
		}
	}
	check(0, dnsFlag, httpFlag)
	check(0, dnsFlag, "-http=")
	check(0, dnsFlag, httpFlag, "-http-token-file=/nowhere") // a file that goes away does not end what runs
	check(2, "-http=nonsense")
	p.signal(t, syscall.SIGTERM)
	p.wait(t)
	check(1, dnsFlag, httpFlag)
	check(1, dnsFlag, "-http=")
}
