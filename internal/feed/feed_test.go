package feed

import (
	"net/netip"
	"testing"
)

// There are so many listeners and no more, of one client and in all.
func TestEventsAreBounded(t *testing.T) {
	f := New()
	var all []*Listener
	for c := byte(1); c <= 6; c++ {
		for i := range maxClientListeners + 2 {
			l, _, err := f.Listen(netip.AddrFrom4([4]byte{10, 0, 0, c}))
			if (err == nil) != (i < maxClientListeners && len(all) < maxListeners) {
				t.Fatalf("client %d, listener %d of %d: %v", c, i, len(all), err)
			}
			if err == nil {
				all = append(all, l)
			}
		}
	}
	for _, l := range all {
		f.Leave(l)
	}
	if f.Count() != 0 || len(all) != maxListeners {
		t.Errorf("%d of %d listeners are left", f.Count(), len(all))
	}
	if n := testing.AllocsPerRun(100, func() { f.Publish("service-added", "", nil) }); n != 0 {
		t.Errorf("a change that nobody listens for: %v allocations; want none", n)
	}
}
