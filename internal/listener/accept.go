package listener

import (
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"
)

// acceptPause is the time between two tries to accept. Meanwhile some descriptors or memory may
// become free.
const acceptPause = 50 * time.Millisecond

// persistent is a listener whose Accept fails only once it is closed.
type persistent struct {
	net.Listener
	service string // for the log
	log     *slog.Logger
	failing bool // we logged that accepting fails; used by Accept only

	closed chan struct{}
	close  func() // closes closed
}

// Persistent returns ln with an Accept that tries again after every error, as of a system that is
// out of descriptors or memory, until ln is closed. It logs when errors begin and when they end.
// One goroutine at a time may call Accept.
func Persistent(ln net.Listener, service string, log *slog.Logger) net.Listener {
	l := &persistent{Listener: ln, service: service, log: log, closed: make(chan struct{})}
	l.close = sync.OnceFunc(func() { close(l.closed) })
	return l
}

// Accept implements net.Listener.
func (l *persistent) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil, err
		}
		l.note(err)
		if err == nil {
			return c, nil
		}
		select {
		case <-l.closed:
			return nil, net.ErrClosed
		case <-time.After(acceptPause):
		}
	}
}

func (l *persistent) note(err error) {
	switch {
	case err != nil && !l.failing:
		l.log.Warn("connections can't be accepted", "for", l.service, "addr", l.Addr(), "err", err)
	case err == nil && l.failing:
		l.log.Info("connections are accepted again", "for", l.service, "addr", l.Addr())
	}
	l.failing = err != nil
}

// Close implements net.Listener.
func (l *persistent) Close() error {
	l.close()
	return l.Listener.Close()
}
