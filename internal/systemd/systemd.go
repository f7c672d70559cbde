package systemd

import (
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// patience is how long systemd may take to read what it is told.
const patience = time.Second

// Notify tells systemd the state of the service, and passes sockets along with it, sd_notify(3).
// It does nothing if systemd did not start the program. The sockets must be open until it returns.
func Notify(getenv func(string) string, state string, socks ...syscall.Conn) error {
	name := getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil
	}
	// Package net knows the abstract ones, which begin with '@'.
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetWriteDeadline(time.Now().Add(patience))
	return send(c, state, socks)
}

// Keep has systemd keep sockets until the service is stopped, and pass them
// to the program when it starts again: what clients send meanwhile waits in them.
// FDPOLL=0: systemd drops them for no error that it sees on them.
func Keep(getenv func(string) string, name string, socks []syscall.Conn) error {
	return Notify(getenv, "FDSTORE=1\nFDPOLL=0\nFDNAME="+encode(name), socks...)
}

// Drop has systemd close the sockets that it keeps by this name.
func Drop(getenv func(string) string, name string) error {
	return Notify(getenv, "FDSTOREREMOVE=1\nFDNAME="+encode(name))
}

// firstSocket is the descriptor of the first socket that systemd passes, sd_listen_fds(3).
const firstSocket = 3

// maxSockets bounds how many descriptors are believed to be passed.
const maxSockets = 4096

// Sockets returns the sockets that systemd kept, or that an Upgrade passed, by the name given to Keep.
// They are the caller's to close. It must be called once, before the program opens files.
func Sockets(getenv func(string) string) map[string][]*os.File {
	if getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return nil
	}
	var fds []int
	for _, text := range strings.Fields(getenv(fdsVariable)) {
		if fd, err := strconv.Atoi(text); err == nil && fd >= firstSocket {
			fds = append(fds, fd)
		}
	}
	if count, err := strconv.Atoi(getenv("LISTEN_FDS")); err == nil && count <= maxSockets {
		for i := range count {
			fds = append(fds, firstSocket+i)
		}
	}
	names := strings.Split(getenv("LISTEN_FDNAMES"), ":")
	kept := make(map[string][]*os.File)
	for i, fd := range fds {
		name := ""
		if i < len(names) {
			name = decode(names[i])
		}
		kept[name] = append(kept[name], os.NewFile(uintptr(fd), name))
	}
	return kept
}

// A name must have no colon for systemd. Addresses have no underscore.
func encode(name string) string { return strings.ReplaceAll(name, ":", "_") }
func decode(name string) string { return strings.ReplaceAll(name, "_", ":") }
