package spool

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"time"
)

const (
	maxQueued = 1 << 20     // bytes of lines that wait: some thousand lines, as of a start with many bad labels
	flushTime = time.Second // for the last lines to be written; docker stop sends SIGKILL after 10 s
)

var errClosed = errors.New("the log is closed")

// A Writer takes lines at once, and writes them in their order. Lines that don't fit into maxQueued are lost, and
// so are those that can't be written. A line that gap returns stands for them.
type Writer struct {
	out   io.Writer
	gap   func(lost int) []byte
	ended chan struct{} // closed when all is written

	mu     sync.Mutex // guards what follows
	ready  *sync.Cond // something of it changed
	queued []byte
	lost   int // lines that came after queued and had no room
	closed bool
}

var _ io.WriteCloser = (*Writer)(nil)

// New returns a writer to out, which no one else may write to until Close returns. The line gap(n) stands where n
// lines are missing.
func New(out io.Writer, gap func(lost int) []byte) *Writer {
	w := &Writer{out: out, gap: gap, ended: make(chan struct{})}
	w.ready = sync.NewCond(&w.mu)
	go w.run()
	return w
}

// Write takes a line. It never waits. Its error says that w is closed.
func (w *Writer) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.closed:
		return 0, errClosed
	case w.lost > 0 || len(w.queued)+len(line) > maxQueued:
		w.lost++
	default:
		w.queued = append(w.queued, line...)
	}
	w.ready.Signal()
	return len(line), nil
}

// Close has the lines written that w took, for which it waits no longer than flushTime. Its error says that they
// were not.
func (w *Writer) Close() error {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.ready.Signal()
	select {
	case <-w.ended:
		return nil
	case <-time.After(flushTime):
		return errors.New("nobody reads the log: its last lines are lost")
	}
}

// run writes lines until w is closed and all is written.
func (w *Writer) run() {
	defer close(w.ended)
	missing := 0 // lines for which no gap was written yet
	for {
		lines, lost, ok := w.take()
		if !ok {
			return
		}
		for line := range bytes.Lines(lines) {
			if missing = w.tell(missing); missing > 0 || !w.wrote(line) {
				missing++
			}
		}
		missing = w.tell(missing + lost)
	}
}

// take waits for lines, and returns them with the number of those that were lost after them. It reports false if
// there will be no more.
func (w *Writer) take() (lines []byte, lost int, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.queued) == 0 && w.lost == 0 {
		if w.closed {
			return nil, 0, false
		}
		w.ready.Wait()
	}
	lines, lost = w.queued, w.lost
	w.queued, w.lost = nil, 0
	return lines, lost, true
}

// tell writes that lines are missing, if any are, and returns how many of them are still to be told.
func (w *Writer) tell(missing int) int {
	if missing > 0 && !w.wrote(w.gap(missing)) {
		return missing
	}
	return 0
}

func (w *Writer) wrote(line []byte) bool {
	_, err := w.out.Write(line)
	return err == nil
}
