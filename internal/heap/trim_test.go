package heap

import (
	"context"
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

func TestTrimEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Trim(ctx); err != nil {
		t.Error(err)
	}
}
