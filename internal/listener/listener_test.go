package listener

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// open opens a free port of loopback for DNS until the test ends, and returns its address.
func open(t *testing.T) (addr string, s *Set) {
	t.Helper()
	udp, tcp, err := openDNS("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s = &Set{UDP: udp, TCP: []net.Listener{tcp}}
	t.Cleanup(s.Close)
	return tcp.Addr().String(), s
}

// An address that can't be opened is named, with what to do; the sockets that
// were opened before it are closed.
func TestOpenErrors(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	busyUDP, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busyUDP.Close()
	other, _ := open(t) // of another dnsdock
	free, s := open(t)
	s.Close()
	dir := t.TempDir()
	f := func(dns, http string, want ...string) {
		t.Helper()
		s, err := Open(nil, strings.Split(dns, ","), http)
		if err == nil {
			s.Close()
			t.Errorf("-dns=%s -http=%s: got no error", dns, http)
			return
		}
		for _, part := range want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("-dns=%s -http=%s: got error %q; want one with %q", dns, http, err, part)
			}
		}
		udp, tcp, err := openDNS(free)
		if err != nil {
			t.Fatalf("-dns=%s -http=%s: an address that was opened before is not free: %v", dns, http, err)
		}
		(&Set{UDP: udp, TCP: []net.Listener{tcp}}).Close()
	}
	f(busy.Addr().String(), "", "-dns="+busy.Addr().String(), "another program has it")
	f(busyUDP.LocalAddr().String(), "", "-dns="+busyUDP.LocalAddr().String(), "another program has it")
	f(other, "", "-dns="+other, "another program has it")
	f(free+","+busy.Addr().String(), "", "-dns="+busy.Addr().String(), "another program has it")
	f(free, busy.Addr().String(), "-http="+busy.Addr().String(), "another program has it", "-http=")
	f(free, "198.51.100.77:80", "-http=198.51.100.77:80", "no such address")
	f("198.51.100.77:53", "", "-dns=198.51.100.77:53", "no such address")
	f(free, "unix://"+dir+"/nosuch/api.sock", "make the directory first")
}

func TestExplain(t *testing.T) {
	f := func(flag, addr string, errno syscall.Errno, want string) {
		t.Helper()
		err := explain(flag, addr, &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", errno)})
		for _, part := range []string{"-" + flag + "=" + addr, want} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%v: got error %q; want one with %q", errno, err, part)
			}
		}
	}
	f("dns", "127.0.0.53:53", syscall.EADDRINUSE, "systemd-resolved")
	f("dns", ":53", syscall.EACCES, "CAP_NET_BIND_SERVICE")
	f("http", ":80", syscall.EADDRINUSE, "-http=127.0.0.1:8053")
	f("http", ":80", syscall.EPERM, "root")
	f("http", "unix:///run/x.sock", syscall.EACCES, "the directory must be writable")
}

// A socket that a dead program left is replaced. One that a program listens
// on, and other files, stay.
func TestSocketFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "api.sock")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: file, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	_ = stale.Close()
	s, err := Open(nil, nil, unixScheme+file)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != socketMode {
		t.Errorf("the socket: %v, %v; want mode 0660", info.Mode(), err)
	}
	if network, addr := Reachable(unixScheme + file); network != "unix" || addr != file {
		t.Errorf("Reachable: got %s %s", network, addr)
	}
	_, err = Open(nil, nil, unixScheme+file)
	if err == nil || !strings.Contains(err.Error(), "another program listens there") {
		t.Errorf("a second one: got error %v", err)
	}
	s.Close()
	if _, err := os.Lstat(file); !os.IsNotExist(err) {
		t.Errorf("after the end: %v; want no socket", err)
	}
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(nil, nil, unixScheme+file); err == nil || !strings.Contains(err.Error(), "it is no socket") {
		t.Errorf("on a file: got error %v", err)
	}
	if b, _ := os.ReadFile(file); string(b) != "precious" {
		t.Error("the file is gone")
	}
}

// The socket file never has a wider mode than in the end, not even before
// chmod and with an umask of 0.
func TestSocketFileMode(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux takes the mode before bind(2)")
	}
	defer syscall.Umask(syscall.Umask(0))
	file := filepath.Join(t.TempDir(), "api.sock")
	ln, err := bindFile(file)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != socketMode {
		t.Errorf("got mode %v, %v; want 0660", info.Mode(), err)
	}
}

func TestReachable(t *testing.T) {
	for addr, want := range map[string]string{
		":53": "127.0.0.1:53", "0.0.0.0:53": "127.0.0.1:53", "[::]:53": "[::1]:53",
		"172.17.0.1:53": "172.17.0.1:53", "[fd00::1]:80": "[fd00::1]:80",
	} {
		if network, got := Reachable(addr); network != "tcp" || got != want {
			t.Errorf("Reachable(%s) = %s %s; want tcp %s", addr, network, got, want)
		}
	}
}
