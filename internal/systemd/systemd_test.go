package systemd

import (
	"net"
	"os"
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
