package stats

import (
	"testing"
	"unsafe"
)

// Readers that count at the same time share no line of the processor's cache.
func TestCountsAreApart(t *testing.T) {
	var all Traffic
	at := make(map[uintptr]int)
	for i := range MaxReaders {
		c := all.Take(UDP)
		first, last := uintptr(unsafe.Pointer(&c.Queries)), uintptr(unsafe.Pointer(c))+unsafe.Sizeof(*c)-1
		for line := first / 64; line <= last/64; line++ {
			if other, ok := at[line]; ok {
				t.Fatalf("the counts %d and %d share a line", other, i)
			}
			at[line] = i
		}
	}
}

// Labels hold whatever engines and upstreams are called.
func TestExpositionEscapes(t *testing.T) {
	var p Exposition
	p.Family("x", "gauge", "X.")
	p.Sample("", 1, "a", "\"\\\n\xff{}", "b", "")
	if got, want := p.String(), "# HELP x X.\n# TYPE x gauge\nx{a=\"\\\"\\\\\\n\uFFFD{}\",b=\"\"} 1\n"; got != want {
		t.Errorf("got %s; want %s", got, want)
	}
}
