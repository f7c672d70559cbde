package transfer

import (
	"fmt"
	"testing"

	"github.com/rayje/dnsdock/internal/zonetest"
)

// A change of one container among many.
func BenchmarkStep(b *testing.B) {
	for _, count := range []int{10_000, 100_000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			ix := zonetest.Filled(b, count)
			s, _ := newServer(b, ix)
			serial := uint32(1)
			s.step(serial)
			for b.Loop() {
				serial++
				ix.Put("0", ix.Service(b, "0", "c0", "image0", fmt.Sprintf("10.9.0.%d", serial&0xff)))
				s.step(serial)
			}
		})
	}
}
