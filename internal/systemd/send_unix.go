//go:build !windows

package systemd

import (
	"net"
	"syscall"
)

// send sends a message, and sockets along with it, unix(7). UnixConn.WriteMsgUnix
// refuses to do it for connections of this kind.
func send(c *net.UnixConn, message string, socks []syscall.Conn) error {
	var fds []int
	for _, s := range socks {
		raw, err := s.SyscallConn()
		if err == nil {
			err = raw.Control(func(fd uintptr) { fds = append(fds, int(fd)) })
		}
		if err != nil {
			return err
		}
	}
	var rights []byte
	if len(fds) > 0 {
		rights = syscall.UnixRights(fds...)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = raw.Write(func(fd uintptr) bool {
		sent = syscall.Sendmsg(int(fd), []byte(message), rights, nil, 0)
		return sent != syscall.EAGAIN
	})
	if err == nil {
		err = sent
	}
	return err
}
