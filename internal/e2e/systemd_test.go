package e2e

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnstest"
)

// A manager stands for systemd.
type manager struct {
	socket *net.UnixConn
	env    string     // what tells the program of it
	names  []string   // of the sockets that it keeps
	files  []*os.File // they themselves
}

// newManager listens until the test ends. It skips the test where there are no such sockets.
func newManager(t *testing.T, name string) *manager {
	t.Helper()
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Skipf("no socket %s here: %v", name, err)
	}
	m := &manager{socket: socket, env: "NOTIFY_SOCKET=" + name}
	t.Cleanup(func() {
		_ = socket.Close()
		for _, f := range m.files {
			_ = f.Close()
		}
	})
	return m
}

// await reads what the program tells until it tells this state, and keeps the sockets that it passes.
func (m *manager) await(t *testing.T, state string) {
	t.Helper()
	_ = m.socket.SetReadDeadline(time.Now().Add(dnstest.Patience))
	for {
		b, oob := make([]byte, 1000), make([]byte, 10000)
		n, oobn, _, _, err := m.socket.ReadMsgUnix(b, oob)
		if err != nil {
			t.Fatalf("waiting for %s: %v", state, err)
		}
		text := string(b[:n])
		if text == state {
			return
		}
		_, name, ok := strings.Cut(text, "\nFDNAME=")
		if !ok || strings.ContainsAny(name, ":\n") {
			t.Fatalf("got %q; want sockets, or %s", text, state)
		}
		list, _ := syscall.ParseSocketControlMessage(oob[:oobn])
		for _, c := range list {
			fds, err := syscall.ParseUnixRights(&c)
			if err != nil {
				t.Fatal(err)
			}
			for _, fd := range fds {
				m.names, m.files = append(m.names, name), append(m.files, os.NewFile(uintptr(fd), name))
			}
		}
	}
}

// systemd is told when the program serves, and when it ends.
func TestNotify(t *testing.T) {
	dnstest.Needs(t, "env", "go")
	binary, err := built()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{filepath.Join(t.TempDir(), "notify"), "@dnsdock-test-" + random()} {
		m := newManager(t, name)
		p := startCommand(t, "env", m.env, binary, "-dns=127.0.0.1:0", "-http=", noEngine(t))
		m.await(t, "READY=1")
		p.signal(t, os.Interrupt)
		m.await(t, "STOPPING=1")
		if code := p.wait(t); code != 0 {
			t.Errorf("got exit code %d; want 0", code)
		}
	}
}

// Queries that come between the end of the program and its next start wait in
// the sockets that systemd keeps, and are answered when the containers are known.
func TestSocketsAreKept(t *testing.T) {
	dnstest.Needs(t, "sh", "go")
	binary, err := built()
	if err != nil {
		t.Fatal(err)
	}
	e := dnstest.NewEngine()
	e.Start("aa", "web", "10.0.0.1")
	args := []string{"-dns=127.0.0.1:0", "-http=127.0.0.1:0", "-nameserver=", "-docker=" + e.ServeTCP(t, nil)}
	m := newManager(t, filepath.Join(t.TempDir(), "notify"))
	p := startCommand(t, "env", append([]string{m.env, binary}, args...)...)
	m.await(t, "READY=1")
	in := newInstance(t, p)
	if err := in.stop(); err != nil {
		t.Fatal(err)
	}
	m.await(t, "STOPPING=1")

	const queries = 20 // so that each of the sockets has some
	var waiting []*dns.Conn
	for i := range 2 * queries {
		network := []string{"udp", "tcp"}[i%2]
		c, err := dns.DialTimeout(network, in.dns, dnstest.Patience)
		if err != nil {
			t.Fatalf("%s, while the program does not run: %v", network, err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(dnstest.Patience))
		if err := c.WriteMsg(new(dns.Msg).SetQuestion("docker.", dns.TypeA)); err != nil {
			t.Fatal(err)
		}
		waiting = append(waiting, c)
	}
	// Of flags that the program is not started with any more.
	stale, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	m.names, m.files = append(m.names, "udp 127.0.0.9_53"), append(m.files, stale)
	script := m.env + " LISTEN_PID=$$ LISTEN_FDS=" + strconv.Itoa(len(m.files)) + " LISTEN_FDNAMES='" +
		strings.Join(m.names, ":") + `' exec "$@"`
	next := newInstance(t, startWith(t, m.files, "sh", append([]string{"-c", script, "sh", binary}, args...)...))
	if next.dns != in.dns || next.http != in.http {
		t.Errorf("it listens on %s and %s; want the sockets of before, %s and %s", next.dns, next.http, in.dns, in.http)
	}
	for _, c := range waiting {
		r, err := c.ReadMsg()
		if err != nil || r.Rcode != dns.RcodeSuccess || len(r.Answer) != 1 {
			t.Fatalf("a query that waited: got %v, %v; want the address", r, err)
		}
	}
	next.want(t, "docker A", "NOERROR", "10.0.0.1")
	m.await(t, "FDSTOREREMOVE=1\nFDNAME=udp 127.0.0.9_53")
}

// SIGUSR2 starts the program's file again in the same process, and each query is answered.
func TestUpgrade(t *testing.T) {
	dnstest.Needs(t, "env", "go")
	binary, err := built()
	if err != nil {
		t.Fatal(err)
	}
	e := dnstest.NewEngine()
	e.Start("aa", "web", "10.0.0.1")
	m := newManager(t, filepath.Join(t.TempDir(), "notify"))
	p := startCommand(t, "env", m.env, binary, "-dns=127.0.0.1:0", "-http=127.0.0.1:0", "-nameserver=",
		"-docker="+e.ServeTCP(t, nil))
	m.await(t, "READY=1")
	in := newInstance(t, p)
	in.want(t, "docker A", "NOERROR", "10.0.0.1")
	p.signal(t, syscall.SIGUSR2)
	for _, state := range []string{"RELOADING=1", "READY=1"} {
		for range 10 {
			in.want(t, "docker A", "NOERROR", "10.0.0.1")
		}
		m.await(t, state)
	}
	in.want(t, "docker A", "NOERROR", "10.0.0.1")
	if n := strings.Count(p.log.String(), "dnsdock starts"); n != 2 {
		t.Errorf("it started %d times; want 2", n)
	}
}
