package publish

import (
	"maps"
	"testing"
)

func TestNewIPNet(t *testing.T) {
	for _, c := range []struct {
		addr    string
		bits    int
		gateway string
		want    string // prefix and gateway
	}{
		{"10.1.0.7", 24, "10.1.0.1", "10.1.0.0/24 10.1.0.1"},
		{"fd00::7", 64, "fd00::1", "fd00::/64 fd00::1"},
		{"10.1.0.7", 24, "", "10.1.0.0/24 invalid IP"},
		{"10.1.0.7", 33, "10.1.0.1", "invalid Prefix 10.1.0.1"},
		{"10.1.0.7", 0, "10.1.0.1", "invalid Prefix invalid IP"},
		{"", 24, "10.1.0.1", "invalid Prefix invalid IP"},
	} {
		n := NewIPNet(c.addr, c.bits, c.gateway)
		if got := n.Prefix.String() + " " + n.Gateway.String(); got != c.want {
			t.Errorf("%s/%d by %s: got %s; want %s", c.addr, c.bits, c.gateway, got, c.want)
		}
	}
}

func TestVariables(t *testing.T) {
	want := map[string]string{"A": "1", "B": "x=y", "C": "", "D": ""}
	if got := Variables([]string{"A=0", "A=1", "B=x=y", "C=", "D"}); !maps.Equal(got, want) {
		t.Errorf("got %q; want %q", got, want)
	}
}
