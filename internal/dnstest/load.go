package dnstest

import (
	"runtime"
	"testing"
	"time"
)

// A Load is what the program uses.
type Load struct {
	Goroutines int
	Heap       uint64
}

// LoadNow returns what the program uses now.
func LoadNow() Load {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // the first one only moves what pools hold
	runtime.ReadMemStats(&m)
	return Load{runtime.NumGoroutine(), m.HeapAlloc}
}

// ReturnsTo fails the test unless the program's load comes back to what it
// was, but for 4 MB.
func (was Load) ReturnsTo(t *testing.T) {
	t.Helper()
	const slack = 4 << 20
	late := time.Now().Add(Patience)
	for {
		now := LoadNow()
		if now.Goroutines <= was.Goroutines && now.Heap <= was.Heap+slack {
			return
		}
		if time.Now().After(late) {
			buf := make([]byte, 1<<16)
			t.Fatalf("got %d goroutines and %d bytes of heap; want at most %d and %d\n%s",
				now.Goroutines, now.Heap, was.Goroutines, was.Heap+slack, buf[:runtime.Stack(buf, true)])
		}
		runtime.Gosched()
	}
}
