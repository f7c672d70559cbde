package heap

import (
	"context"
	"runtime/debug"
	"testing"
)

// The garbage of a burst goes back to the system when it is over, once.
func TestTrim(t *testing.T) {
	var tr trimmer
	tr.look()
	var kept [][]byte
	for range 64 {
		kept = append(kept, make([]byte, 1<<20))
	}
	if tr.look() {
		t.Error("the heap is trimmed while it grows")
	}
	clear(kept)
	if !tr.look() {
		t.Error("64 MiB of garbage are kept")
	}
	if _, held, _ := read(); held > 32<<20 {
		t.Errorf("the heap holds %d bytes; want few", held)
	}
	for range 3 {
		if tr.look() {
			t.Error("the heap is trimmed for nothing")
		}
	}
}

// A large heap may grow by less than a small one, unless $GOGC says by how much.
func TestGrowth(t *testing.T) {
	before := debug.SetGCPercent(defaultPercent)
	defer debug.SetGCPercent(before)
	percent := func() int {
		p := debug.SetGCPercent(defaultPercent)
		debug.SetGCPercent(p)
		return p
	}
	var tr trimmer
	for _, c := range []struct {
		live uint64
		want int
	}{{0, 100}, {1 << 20, 100}, {32 << 20, 100}, {64 << 20, 50}, {100 << 20, 40}, {1 << 30, 40}, {4 << 20, 100}} {
		if tr.setGrowth(c.live); percent() != c.want {
			t.Errorf("with %d bytes: got %d percent; want %d", c.live, percent(), c.want)
		}
	}
	debug.SetGCPercent(77)
	tr = trimmer{}
	if tr.setGrowth(1 << 30); percent() != 77 {
		t.Errorf("with $GOGC: got %d percent; want 77", percent())
	}
	if tr.setGrowth(2 << 30); percent() != 77 {
		t.Errorf("with $GOGC, later: got %d percent; want 77", percent())
	}
}

func TestTrimEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Trim(ctx); err != nil {
		t.Error(err)
	}
}
