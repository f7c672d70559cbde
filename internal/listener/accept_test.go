package listener

import (
	"errors"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rayje/dnsdock/internal/dnstest"
)

// A faulty listener fails in ways that a test chooses.
type faulty struct {
	*dnstest.PipeListener
	errs []error // of the next calls of Accept
}

func (l *faulty) Accept() (net.Conn, error) {
	if len(l.errs) == 0 {
		return l.PipeListener.Accept()
	}
	err := l.errs[0]
	l.errs = l.errs[1:]
	return nil, err
}

// No error of accept ends a server, and the log says when they begin and end.
func TestPersistent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := dnstest.NewLog()
		ln := &faulty{PipeListener: dnstest.NewPipeListener()}
		for _, err := range []error{
			syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ENOBUFS, syscall.ECONNABORTED, syscall.EPERM, errors.New("other"),
		} {
			ln.errs = append(ln.errs, &net.OpError{Op: "accept", Err: err}, err)
		}
		p := Persistent(ln, "http", slog.New(slog.NewTextHandler(log, nil)))
		begun, failures := time.Now(), len(ln.errs)
		for range 3 {
			go func() { _ = ln.Dial().Close() }()
			c, err := p.Accept()
			if err != nil {
				t.Fatal(err)
			}
			_ = c.Close()
		}
		if took := time.Since(begun); took != time.Duration(failures)*acceptPause {
			t.Errorf("accepted after %v; want a pause of %v after each of %d errors", took, acceptPause, failures)
		}
		text := log.String()
		if strings.Count(text, "\n") != 2 ||
			!strings.Contains(text, "can't be accepted") || !strings.Contains(text, "accepted again") {
			t.Errorf("the log is\n%s; want a line at the begin and one at the end", text)
		}

		// Close ends Accept, whether it waits for a client or for the next try.
		ended := make(chan error, 1)
		for _, errs := range [][]error{nil, {syscall.ENOMEM, syscall.ENOMEM}} {
			ln := &faulty{PipeListener: dnstest.NewPipeListener(), errs: errs}
			p := Persistent(ln, "http", slog.New(slog.DiscardHandler))
			go func() {
				_, err := p.Accept()
				ended <- err
			}()
			synctest.Wait()
			_, _ = p.Close(), p.Close()
			if err := <-ended; !errors.Is(err, net.ErrClosed) {
				t.Errorf("after Close: got %v; want net.ErrClosed", err)
			}
		}
	})
}
