package limit

import (
	"errors"
	"net/netip"
	"testing"
)

func TestPerClient(t *testing.T) {
	l := New(2, 3)
	take := func(client string, want error) {
		t.Helper()
		if err := l.Take(netip.MustParseAddr(client)); !errors.Is(err, want) {
			t.Errorf("Take(%s) = %v; want %v", client, err, want)
		}
	}
	take("192.0.2.1", nil)
	take("::ffff:192.0.2.1", nil) // the same client
	take("192.0.2.1", ErrClient)
	take("2001:db8::1", nil)
	take("2001:db8:0:1::1", errAll)
	if got := l.Total(); got != 3 {
		t.Errorf("Total() = %d; want 3", got)
	}
	l.Release(netip.MustParseAddr("192.0.2.1"))
	take("2001:db8::ffff", nil) // of the /64 that holds one
	l.Release(netip.MustParseAddr("192.0.2.1"))
	take("2001:db8::2", ErrClient)
	l.Release(netip.MustParseAddr("2001:db8::3"))
	l.Release(netip.MustParseAddr("2001:db8::4"))
	if got := l.Total(); got != 0 || len(l.held) != 0 {
		t.Errorf("%d are held by %d clients after the last Release; want none", got, len(l.held))
	}
}

func TestNetwork(t *testing.T) {
	f := func(addr, want string) {
		t.Helper()
		if got := Network(netip.MustParseAddr(addr)); got != netip.MustParseAddr(want) {
			t.Errorf("Network(%s) = %s; want %s", addr, got, want)
		}
	}
	f("192.0.2.1", "192.0.2.1")
	f("::ffff:192.0.2.1", "192.0.2.1")
	f("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::")
	f("fe80::1%eth0", "fe80::")
	if got := Network(netip.Addr{}); got.IsValid() {
		t.Errorf("Network of no address = %s; want none", got)
	}
}

func TestTakeAllocates(t *testing.T) {
	l, client := New(10, 10), netip.MustParseAddr("2001:db8::1")
	if n := testing.AllocsPerRun(100, func() {
		_ = l.Take(client)
		l.Release(client)
	}); n != 0 {
		t.Errorf("%v allocations; want 0, for every forwarded query takes one", n)
	}
}
