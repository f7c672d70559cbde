package engine

import (
	"strings"
	"testing"
)

func TestPrefix(t *testing.T) {
	for _, c := range []struct{ version, want string }{
		{"1.24", "/v1.24"}, {"1.41", "/v1.41"}, {maxAPI, "/v" + maxAPI}, {"1.99", "/v" + maxAPI},
		{"", ""}, {"2.0", ""}, {"x", ""},
	} {
		if got, err := Prefix(c.version); got != c.want || err != nil {
			t.Errorf("Prefix(%q) = %q, %v; want %q", c.version, got, err, c.want)
		}
	}
	if _, err := Prefix("1.23"); err == nil || !strings.Contains(err.Error(), "1.24") {
		t.Errorf("Prefix(1.23): %v; want an error that names 1.24", err)
	}
}
