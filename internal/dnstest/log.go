package dnstest

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// Patience is how long a test waits for what must come, on a slow machine. It
// is longer than the 50 s after which a hanging engine is known to be away.
const Patience = 2 * time.Minute

// Needs skips the test if one of the programs is not installed.
func Needs(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("program %s is not installed", p)
		}
	}
}

// A Log collects the log of a program, and lets a test wait for a line in it.
type Log struct {
	mu   sync.Mutex
	cond *sync.Cond
	buf  bytes.Buffer
	seen int // bytes of buf that Wait ignores

	reading sync.Mutex // held by Hold and by each Write
}

// NewLog returns an empty log.
func NewLog() *Log {
	l := &Log{}
	l.cond = sync.NewCond(&l.mu)
	return l
}

func (l *Log) Write(b []byte) (int, error) {
	l.reading.Lock()
	defer l.reading.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cond.Broadcast()
	return l.buf.Write(b)
}

// Hold has writers wait from now on, as if nobody read the log, until release is called.
func (l *Log) Hold() (release func()) {
	l.reading.Lock()
	return sync.OnceFunc(l.reading.Unlock)
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// Mark makes Wait ignore the lines that have come so far.
func (l *Log) Mark() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen = l.buf.Len()
}

// Wait waits for a line after the last mark that holds all parts, and returns
// the first one. The test fails if none comes.
func (l *Log) Wait(t testing.TB, parts ...string) string {
	t.Helper()
	late := false
	timer := time.AfterFunc(Patience, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		late = true
		l.cond.Broadcast()
	})
	defer timer.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	for at := 0; !late; l.cond.Wait() {
		at = max(at, l.seen)
		for end := 0; end >= 0; { // each line once: there may be thousands
			if end = bytes.IndexByte(l.buf.Bytes()[at:], '\n'); end >= 0 {
				line := string(l.buf.Bytes()[at : at+end+1])
				if containsAll(line, parts) {
					return line
				}
				at += end + 1
			}
		}
	}
	t.Fatalf("no line with %q in the log:\n%s", parts, l.buf.Bytes()[l.seen:])
	return ""
}

func containsAll(s string, parts []string) bool {
	for _, p := range parts {
		if !strings.Contains(s, p) {
			return false
		}
	}
	return true
}

// Value waits for a line that holds part, and returns its attribute key.
func (l *Log) Value(t testing.TB, part, key string) string {
	t.Helper()
	_, v, _ := strings.Cut(l.Wait(t, part), " "+key+"=")
	v, _, _ = strings.Cut(strings.TrimSpace(v), " ")
	return v
}

// Unlocked returns a handler of a log that writes to w. A line that is logged
// while one of the locks is held fails the test: whoever reads the log may be
// slow, and would stop all who wait for the lock.
func Unlocked(t testing.TB, w io.Writer, locks ...*sync.Mutex) slog.Handler {
	return &unlocked{slog.NewTextHandler(w, nil), t, locks}
}

type unlocked struct {
	slog.Handler
	t     testing.TB
	locks []*sync.Mutex
}

// Handle implements slog.Handler.
func (u *unlocked) Handle(ctx context.Context, r slog.Record) error {
	for i, mu := range u.locks {
		if !comesFree(mu) {
			u.t.Errorf("%q is logged while lock %d is held", r.Message, i)
			break
		}
	}
	return u.Handler.Handle(ctx, r)
}

// comesFree reports whether a lock comes free while the caller waits. Others
// may hold it for a moment, one after the other, so it queues up for it. It
// counts its turns, since time may be simulated.
func comesFree(mu *sync.Mutex) bool {
	const turns = 5_000_000 // some seconds
	free := make(chan struct{})
	go func() {
		mu.Lock()
		defer mu.Unlock()
		close(free)
	}()
	for range turns {
		select {
		case <-free:
			return true
		default:
			runtime.Gosched()
		}
	}
	return false
}

// WithAttrs implements slog.Handler.
func (u *unlocked) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &unlocked{u.Handler.WithAttrs(attrs), u.t, u.locks}
}
