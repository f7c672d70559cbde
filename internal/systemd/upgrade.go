package systemd

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// fdsVariable lists the descriptors that Exec passes. Those that systemd passes are
// in a row from firstSocket, where a running program has others.
const fdsVariable = "DNSDOCK_FDS"

// An Upgrade is an error that asks for Exec: who gets it must first end all that the program does.
type Upgrade struct {
	names []string
	fds   []int // open over Exec
}

// Error implements error.
func (*Upgrade) Error() string { return "the program is to start its own file again" }

// Upgrades returns a channel that gets the signal SIGUSR2, which asks for an upgrade, until
// end is called.
func Upgrades() (signals <-chan os.Signal, end func()) {
	c := make(chan os.Signal, 1)
	if len(upgradeSignals) > 0 { // none would mean all signals
		signal.Notify(c, upgradeSignals...)
	}
	return c, func() { signal.Stop(c) }
}

// Ending returns the state to tell when the program ends, as ctx is done: the service
// stops, or it goes on after an Upgrade, until READY=1 comes again.
func Ending(ctx context.Context) string {
	if _, ok := errors.AsType[*Upgrade](context.Cause(ctx)); ok {
		return "RELOADING=1"
	}
	return "STOPPING=1"
}

// AwaitUpgrade returns nil when ctx is done, and an Upgrade when a signal came: from
// then on copies of the sockets are open, so that what clients send waits in them.
func AwaitUpgrade(ctx context.Context, signals <-chan os.Signal, socks map[string][]syscall.Conn) error {
	select {
	case <-ctx.Done():
		return nil
	case <-signals:
	}
	u := new(Upgrade)
	for name, list := range socks {
		for _, s := range list {
			raw, err := s.SyscallConn()
			if err == nil {
				_ = raw.Control(func(fd uintptr) {
					var copied int
					if copied, err = dup(fd); err == nil {
						u.names, u.fds = append(u.names, encode(name)), append(u.fds, copied)
					}
				})
			}
			if err != nil {
				return err
			}
		}
	}
	return u
}

// Exec starts the program's own file again, in the same process and with the same
// arguments. Sockets then returns the copies. It returns only if that fails.
func (u *Upgrade) Exec() error {
	path, err := os.Executable()
	if err != nil {
		return err
	}
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "LISTEN_") || strings.HasPrefix(v, fdsVariable+"=")
	})
	var fds []string
	for _, fd := range u.fds {
		fds = append(fds, strconv.Itoa(fd))
	}
	return syscall.Exec(path, os.Args, append(env, "LISTEN_PID="+strconv.Itoa(os.Getpid()),
		"LISTEN_FDNAMES="+strings.Join(u.names, ":"), fdsVariable+"="+strings.Join(fds, " ")))
}
