package spool

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A reader is what a log is written to. It takes nothing while held has an element, and refuses lines while it fails.
type reader struct {
	held  chan struct{} // of capacity 1; a mutex would stop simulated time
	mu    sync.Mutex    // guards what follows
	fails bool
	got   bytes.Buffer
	calls int
}

func (r *reader) Write(b []byte) (int, error) {
	r.held <- struct{}{}
	defer func() { <-r.held }()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.calls++; r.fails {
		return 0, errors.New("no space left")
	}
	return r.got.Write(b)
}

func (r *reader) set(fails bool) { r.mu.Lock(); defer r.mu.Unlock(); r.fails = fails }

func gap(lost int) []byte { return fmt.Appendf(nil, "%d missing\n", lost) }

// Lines come out in their order, each by one call, also the last ones before the end.
func TestOrder(t *testing.T) {
	r := reader{held: make(chan struct{}, 1)}
	w := New(&r, gap)
	var want strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&want, "line %d\n", i)
		fmt.Fprintf(w, "line %d\n", i)
	}
	if err := w.Close(); err != nil || r.got.String() != want.String() || r.calls != 1000 {
		t.Errorf("got %v, %d calls and %q; want 1,000 lines in order", err, r.calls, r.got.String())
	}
	if _, err := w.Write([]byte("late\n")); err == nil {
		t.Error("a line after the end is taken; want an error")
	}
}

// Many write at the same time, and each line arrives whole.
func TestMany(t *testing.T) {
	r := reader{held: make(chan struct{}, 1)}
	w := New(&r, gap)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 100 {
				fmt.Fprintf(w, "writer %d line %d\n", i, j)
			}
		})
	}
	all.Wait()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	next := make(map[int]int)
	for line := range strings.Lines(r.got.String()) {
		var i, j int
		if _, err := fmt.Sscanf(line, "writer %d line %d\n", &i, &j); err != nil || j != next[i] {
			t.Fatalf("got %q; want line %d of writer %d", line, next[i], i)
		}
		next[i]++
	}
	if len(next) != 8 || next[0] != 100 {
		t.Errorf("got lines %v; want 100 of each", next)
	}
}

// While no one reads, lines are taken at once. Those that don't fit are counted, where they are missing.
func TestReaderThatStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := reader{held: make(chan struct{}, 1)}
		w := New(&r, gap)
		r.held <- struct{}{}
		line := []byte(strings.Repeat("x", 99) + "\n")
		const lines = 3 * maxQueued / 100
		for range lines { // a write that waits fails the test: all goroutines of the bubble would wait
			if _, err := w.Write(line); err != nil {
				t.Fatal(err)
			}
		}
		<-r.held
		synctest.Wait()
		got := strings.SplitAfter(r.got.String(), "\n")
		r.got.Reset()
		kept, missing := len(got)-2, 0
		if _, err := fmt.Sscanf(got[kept], "%d missing\n", &missing); err != nil || kept+missing != lines {
			t.Errorf("got %d lines, and then %q, %v; want %d in all", kept, got[kept], err, lines)
		}
		if kept < maxQueued/100 || kept > 2*maxQueued/100 {
			t.Errorf("%d lines were kept; want about %d", kept, maxQueued/100)
		}
		_, _ = w.Write([]byte("after\n"))
		if err := w.Close(); err != nil || r.got.String() != "after\n" {
			t.Errorf("afterwards: got %q, %v; want the line", r.got.String(), err)
		}
	})
}

// Lines that can't be written, as on a full disk, are counted too.
func TestWriterThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := reader{held: make(chan struct{}, 1)}
		w := New(&r, gap)
		for i := range 6 {
			r.set(i >= 2 && i < 5)
			fmt.Fprintf(w, "line %d\n", i)
			synctest.Wait()
		}
		if err := w.Close(); err != nil || r.got.String() != "line 0\nline 1\n3 missing\nline 5\n" {
			t.Errorf("got %q, %v; want that lines 2 to 4 are missing", r.got.String(), err)
		}
	})
}

// A line longer than all that may wait is lost, and no other.
func TestLongLine(t *testing.T) {
	r := reader{held: make(chan struct{}, 1)}
	w := New(&r, gap)
	_, _ = w.Write(make([]byte, maxQueued+1))
	if err := w.Close(); err != nil || r.got.String() != "1 missing\n" {
		t.Errorf("got %q, %v; want that it is missing", r.got.String(), err)
	}
}

// The end does not wait long for a reader that is not there.
func TestCloseWithoutReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := reader{held: make(chan struct{}, 1)}
		w := New(&r, gap)
		r.held <- struct{}{}
		_, _ = w.Write([]byte("line\n"))
		begun := time.Now()
		if err := w.Close(); err == nil || time.Since(begun) != flushTime {
			t.Errorf("got %v after %v; want an error after %v", err, time.Since(begun), flushTime)
		}
		<-r.held
	})
}
