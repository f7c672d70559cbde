package host

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestHasAddr(t *testing.T) {
	for addr, want := range map[string]bool{
		"127.0.0.1": true, "127.1.2.3": true, "::1": true,
		"192.0.2.1": false, "2001:db8::1": false, "fe80::1%nowhere0": false,
	} {
		if got := HasAddr(netip.MustParseAddr(addr)); got != want {
			t.Errorf("HasAddr(%s) = %t; want %t", addr, got, want)
		}
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		t.Skipf("no interfaces here: %v", err)
	}
	for _, ifi := range interfaces {
		for _, p := range Addrs(ifi.Name) {
			a := p.Addr()
			if a.IsLinkLocalUnicast() && a.Is6() {
				if a := a.WithZone(strconv.Itoa(ifi.Index)); !HasAddr(a) {
					t.Errorf("HasAddr(%s) = false; want true", a)
				}
				a = a.WithZone(ifi.Name)
			}
			if !HasAddr(a) {
				t.Errorf("HasAddr(%s) = false; want true", a)
			}
		}
	}
}

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	file, fifo := filepath.Join(dir, "file"), filepath.Join(dir, "fifo")
	if err := os.WriteFile(file, []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := ReadFile(file, 5); err != nil || string(b) != "12345" {
		t.Errorf("got %q, %v; want the file", b, err)
	}
	for path, want := range map[string]string{
		fifo: "not a regular file", dir: "not a regular file", "/dev/zero": "not a regular file", dir + "/nothere": "no such file",
	} {
		if _, err := ReadFile(path, 5); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v; want one with %q", path, err, want)
		}
	}
	if _, err := ReadFile(file, 4); err == nil {
		t.Error("a file over the limit: got no error")
	}
}
