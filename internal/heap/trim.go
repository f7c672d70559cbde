package heap

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	period   = 2 * time.Second // between two looks, which take microseconds
	minSpare = 8 << 20         // bytes: less is not worth a garbage collection
)

// Trim keeps the memory of the program near what lives in it, until ctx is done.
// By itself the garbage collector lets the heap grow to twice of that, and the
// program has much garbage once only: after the engine's first list, and after a
// burst of questions that were not asked before. Trim collects it when the
// program has become quiet.
func Trim(ctx context.Context) error {
	tick := time.NewTicker(period)
	defer tick.Stop()
	var t trimmer
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			t.look()
		}
	}
}

// A trimmer knows how the heap was when it looked last, and when it trimmed last.
type trimmer struct {
	allocated uint64 // bytes since the start, at the last look
	trimmed   uint64 // bytes since the start, at the last trim
}

// look trims the heap if that is worth it now, and reports whether it did.
func (t *trimmer) look() bool {
	live, held, allocated := read()
	sinceLook, sinceTrim := allocated-t.allocated, allocated-t.trimmed
	t.allocated = allocated
	spare := held - min(live, held)
	if spare < max(live/4, minSpare) || sinceLook > spare/4 || sinceTrim < spare/2 {
		return false
	}
	t.trimmed = allocated
	debug.FreeOSMemory()
	return true
}

// read returns how many bytes lived in the heap at the end of the last garbage
// collection, how many the heap holds of the system's, and how many were
// allocated since the start.
func read() (live, held, allocated uint64) {
	samples := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/gc/heap/allocs:bytes"},
	}
	metrics.Read(samples)
	return samples[0].Value.Uint64(), samples[1].Value.Uint64() + samples[2].Value.Uint64(), samples[3].Value.Uint64()
}
