package systemd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// What is told arrives, with the sockets; without systemd nothing happens.
func TestNotify(t *testing.T) {
	name := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Skipf("no such sockets here: %v", err)
	}
	defer socket.Close()
	_ = socket.SetReadDeadline(time.Now().Add(10 * time.Second))
	getenv := func(string) string { return name }
	if err := Keep(getenv, "udp [::1]:53", []syscall.Conn{socket, socket}); err != nil {
		t.Fatal(err)
	}
	if err := Drop(getenv, "udp [::1]:53"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		text  string
		socks int
	}{{"FDSTORE=1\nFDPOLL=0\nFDNAME=udp [__1]_53", 2}, {"FDSTOREREMOVE=1\nFDNAME=udp [__1]_53", 0}} {
		b, oob := make([]byte, 1000), make([]byte, 1000)
		n, oobn, _, _, err := socket.ReadMsgUnix(b, oob)
		got := 0
		if list, _ := syscall.ParseSocketControlMessage(oob[:oobn]); len(list) > 0 {
			fds, _ := syscall.ParseUnixRights(&list[0])
			for _, fd := range fds {
				_ = syscall.Close(fd)
			}
			got = len(fds)
		}
		if err != nil || string(b[:n]) != want.text || got != want.socks {
			t.Errorf("got %q with %d sockets, %v; want %q with %d", b[:n], got, err, want.text, want.socks)
		}
	}
	if err := Notify(func(string) string { return "" }, "READY=1"); err != nil {
		t.Errorf("without systemd: %v", err)
	}
	if err := Notify(func(string) string { return "/nonexistent" }, "READY=1"); err == nil {
		t.Error("nobody listens: got no error")
	}
}

// Sockets believes only what is for this process, and bounds it.
func TestSockets(t *testing.T) {
	pid := strconv.Itoa(os.Getpid())
	for _, env := range []map[string]string{
		{}, {"LISTEN_FDS": "1"}, {"LISTEN_FDS": "1", "LISTEN_PID": "1"}, {"LISTEN_FDS": "-1", "LISTEN_PID": pid},
		{"LISTEN_FDS": "99999999", "LISTEN_PID": pid}, {"LISTEN_FDS": "0", "LISTEN_PID": pid},
	} {
		if kept := Sockets(func(key string) string { return env[key] }); len(kept) != 0 {
			t.Errorf("%v: got %v; want none", env, kept)
		}
	}
	if got := decode(encode("http [fd00::1]:80")); got != "http [fd00::1]:80" {
		t.Errorf("a name comes back as %q", got)
	}
}

// A program that gets SIGUSR2 starts its own file in the same process, and what clients sent
// before that is read by it.
func TestUpgrade(t *testing.T) {
	if os.Getenv("DNSDOCK_TEST_UPGRADE") != "" {
		upgrades(t)
		return
	}
	if len(upgradeSignals) == 0 {
		t.Skip("no SIGUSR2 here")
	}
	client, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	_ = client.SetReadDeadline(time.Now().Add(20 * time.Second))
	cmd := exec.Command(os.Args[0], "-test.run=^TestUpgrade$")
	cmd.Env = append(os.Environ(), "DNSDOCK_TEST_UPGRADE="+client.LocalAddr().String())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	defer func() { _ = cmd.Process.Kill() }()
	// read returns what the program says, and where from.
	read := func() (string, net.Addr) {
		b := make([]byte, 100)
		n, from, err := client.ReadFrom(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n]), from
	}
	first, server := read()
	if want := fmt.Sprintf("%d starts", cmd.Process.Pid); first != want {
		t.Fatalf("the program says %q; want %q", first, want)
	}
	if _, err := client.WriteTo([]byte("a query"), server); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(upgradeSignals[0]); err != nil {
		t.Fatal(err)
	}
	next, from := read()
	if want := fmt.Sprintf("%d read a query", cmd.Process.Pid); next != want || from.String() != server.String() {
		t.Errorf("%v says %q; want %q from %v", from, next, want, server)
	}
}

// upgrades is the program of TestUpgrade: first it waits for the signal, and then it
// reads from the socket that it gets.
func upgrades(t *testing.T) {
	client, err := net.ResolveUDPAddr("udp", os.Getenv("DNSDOCK_TEST_UPGRADE"))
	if err != nil {
		t.Fatal(err)
	}
	const name = "udp [::1]:53"
	if kept := Sockets(os.Getenv)[name]; len(kept) == 1 {
		c, err := net.FilePacketConn(kept[0])
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 100)
		n, _, err := c.ReadFrom(b)
		if err == nil {
			_, err = c.WriteTo(fmt.Appendf(nil, "%d read %s", os.Getpid(), b[:n]), client)
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	signals, end := Upgrades()
	defer end()
	_, err = c.WriteTo(fmt.Appendf(nil, "%d starts", os.Getpid()), client)
	if err != nil {
		t.Fatal(err)
	}
	u, ok := errors.AsType[*Upgrade](AwaitUpgrade(t.Context(), signals, map[string][]syscall.Conn{name: {c}}))
	if !ok {
		t.Fatal("no upgrade")
	}
	_ = c.Close()
	t.Fatal(u.Exec())
}

// The end of the program ends the wait.
func TestAwaitUpgrade(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := AwaitUpgrade(ctx, nil, nil); err != nil {
		t.Errorf("got %v; want nil", err)
	}
}
