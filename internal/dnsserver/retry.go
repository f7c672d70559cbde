package dnsserver

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"time"
)

// retryPause is the time after an error of a socket until it is tried again: descriptors or memory may come back.
const retryPause = 50 * time.Millisecond

// A retrier makes a server go on after errors of its socket, as for want of
// memory or descriptors. It logs when they begin, and when they end.
type retrier struct {
	log     *slog.Logger
	message string
	addr    net.Addr
	ending  <-chan struct{} // closed when the server is to end
	failing bool
}

// isOver reports whether the server is to end, after an operation with err. If
// the operation failed and is to be repeated, isOver pauses.
func (r *retrier) isOver(err error) bool {
	select {
	case <-r.ending:
		return true
	default:
	}
	switch {
	case err == nil:
		if r.failing {
			r.failing = false
			r.log.Info("the socket works again", "addr", r.addr)
		}
		return false
	case errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrClosed):
		return true
	}
	if !r.failing {
		r.failing = true
		r.log.Warn(r.message+": it is tried again", "addr", r.addr, "err", err)
	}
	select {
	case <-r.ending:
		return true
	case <-time.After(retryPause):
		return false
	}
}
