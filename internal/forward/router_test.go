package forward

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/host"
)

// A resolv.conf is followed when it changes; dnsdock's own addresses in it are
// left out, and what can't be used changes nothing.
func TestResolvConf(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	own := netip.MustParseAddrPort("127.0.0.1:53")
	write(strings.Join([]string{
		"# a comment",
		"search example.com",
		"nameserver 127.0.0.1",
		"nameserver  192.0.2.53 # first",
		"nameserver 2001:db8::53",
		"nameserver fe80::1%eth0",
		"nameserver nonsense",
		"nameserver",
		"nameserver 192.0.2.53",
		"options ndots:5",
		"",
	}, "\n"))
	f := New(Routes{dnsname.Root: {{File: file}, {Addr: netip.MustParseAddrPort("9.9.9.9:53")}},
		mustName(t, "corp.example"): {{File: file}}}, nil, 0, slog.New(slog.DiscardHandler))
	f.IsSelf = func(a netip.AddrPort) bool { return a == own }
	show := func() string {
		return fmt.Sprint(f.groupFor(dnsname.Root).upstreams, f.groupFor(mustName(t, "corp.example")).upstreams)
	}
	const first = "[192.0.2.53:53 [2001:db8::53]:53 [fe80::1%eth0]:53 9.9.9.9:53] " +
		"[192.0.2.53:53 [2001:db8::53]:53 [fe80::1%eth0]:53]"
	loaded(t, f)
	if got := show(); got != first {
		t.Errorf("got %v; want %v", got, first)
	}
	kept := f.upstream(0)
	for what, text := range map[string]string{"empty": "", "no nameserver": "search example.com\n"} {
		write(text)
		if err := f.Load(); err == nil || !strings.Contains(err.Error(), "nameserver 192.0.2.53") {
			t.Errorf("%s: got error %v; want one that says what to write", what, err)
		}
		if got := show(); got != first {
			t.Errorf("%s: got %v; want what was there before", what, got)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := f.Load(); err == nil || show() != first {
		t.Errorf("no file: got %v, %v; want an error, and what was there before", err, show())
	}
	write("nameserver 192.0.2.53\nnameserver 192.0.2.54")
	loaded(t, f)
	if got, want := show(), "[192.0.2.53:53 192.0.2.54:53 9.9.9.9:53] [192.0.2.53:53 192.0.2.54:53]"; got != want {
		t.Errorf("got %v; want %v", got, want)
	}
	if f.upstream(0) != kept {
		t.Error("an upstream that stays is another one now: what is known of it is lost")
	}
}

// A resolv.conf that now names only dnsdock itself (as that of a host which
// uses it) names nobody: what it said last goes on.
func TestResolvConfOfOwnAddressOnly(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	_ = os.WriteFile(file, []byte("nameserver 192.0.2.53\n"), 0o644)
	f := New(Routes{dnsname.Root: {{File: file}}}, nil, 0, slog.New(slog.DiscardHandler))
	f.IsSelf = func(a netip.AddrPort) bool { return a.Addr().IsLoopback() }
	loaded(t, f)
	_ = os.WriteFile(file, []byte("nameserver 127.0.0.1\n"), 0o644)
	err := f.Load()
	if list := f.groupFor(mustName(t, "www.example")).upstreams; len(list) != 1 {
		t.Errorf("got upstreams %v (error %v); want the one from before: now all names are REFUSED", list, err)
	}
}

// A path that is no file does not hang dnsdock.
func TestResolvConfFIFO(t *testing.T) {
	file := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(file, 0o644); err != nil {
		t.Skip(err)
	}
	done := make(chan error, 1)
	go func() { _, err := host.ReadFile(file, maxResolvConf); done <- err }()
	select {
	case <-done:
	case <-time.After(2 * time.Second):
		w, _ := os.OpenFile(file, os.O_WRONLY, 0)
		w.Close()
		t.Error("reading a pipe as resolv.conf hangs the start")
	}
}

// A resolv.conf of many lines does not leave each upstream no time at all.
func TestResolvConfOfManyLines(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	var text strings.Builder
	for i := range 200 {
		fmt.Fprintf(&text, "nameserver 192.0.2.%d\n", i)
	}
	_ = os.WriteFile(file, []byte(text.String()), 0o644)
	f := loaded(t, New(Routes{dnsname.Root: {{File: file}}}, nil, 0, slog.New(slog.DiscardHandler)))
	if list := f.groupFor(mustName(t, "www.example")).upstreams; len(list) > 8 {
		t.Errorf("got %d upstreams: each has %v", len(list), 2*f.Timeout/time.Duration(len(list)))
	}
}

// The subnets of this host are local, also public ones and new ones.
func TestClientsOfOwnSubnets(t *testing.T) {
	var c clients
	found := false
	for _, p := range host.Addrs("") {
		found = true
		if !c.isLocal(p.Addr()) || !c.isLocal(p.Masked().Addr()) {
			t.Errorf("%v is not local", p)
		}
	}
	if !found {
		t.Skip("this host has no address")
	}
	known := []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	c.subnets.Store(&subnets{list: known, read: time.Now()})
	if a := netip.MustParseAddr("198.51.100.9"); !c.isLocal(a) {
		t.Errorf("%v is not local", a)
	}
	c.subnets.Store(&subnets{list: known, read: time.Now().Add(-time.Hour)})
	if a := netip.MustParseAddr("198.51.100.9"); c.isLocal(a) {
		t.Errorf("%v is local, by what an hour ago was", a)
	}
}
