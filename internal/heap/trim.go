package heap

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	period   = 2 * time.Second // between two looks, which take microseconds
	minSpare = 4 << 20         // bytes: less is not worth a garbage collection

	// The heap may grow by that many bytes before the next garbage collection, but
	// by leastPercent of what lives in it at least, so that a large one is not
	// collected all the time, and by defaultPercent at most.
	wantedGrowth   = 32 << 20
	leastPercent   = 40
	defaultPercent = 100
)

// Trim keeps the memory of the program near what lives in it, until ctx is done.
// By itself the garbage collector lets the heap grow to twice of that. Trim has
// it run earlier where much lives, and once more when the program has become
// quiet: it has much garbage after a list of the engine's containers, and after
// a burst of questions that were not asked before. $GOGC, if set, stays.
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
	percent   int    // that the heap may grow by, as was set last; 0: none was, -1: $GOGC is set
}

// look trims the heap if that is worth it now, and reports whether it did.
func (t *trimmer) look() bool {
	live, held, allocated := read()
	t.setGrowth(live)
	sinceLook, sinceTrim := allocated-t.allocated, allocated-t.trimmed
	t.allocated = allocated
	spare := held - min(live, held)
	if spare < max(live/8, minSpare) || sinceLook > spare/4 || sinceTrim < spare/2 {
		return false
	}
	t.trimmed = allocated
	debug.FreeOSMemory()
	return true
}

// setGrowth sets by how much a heap in which so many bytes live may grow.
func (t *trimmer) setGrowth(live uint64) {
	percent := min(max(wantedGrowth*100/max(live, 1), leastPercent), defaultPercent)
	if p := int(percent); p != t.percent && t.percent >= 0 {
		if before := debug.SetGCPercent(p); t.percent == 0 && before != defaultPercent {
			debug.SetGCPercent(before) // it is $GOGC
			p = -1
		}
		t.percent = p
	}
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
