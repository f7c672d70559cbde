package engine

import (
	"errors"
	"strings"
	"testing"
)

func TestNegotiate(t *testing.T) {
	for _, c := range []struct{ version, want string }{
		{"1.24", "1.24"}, {"1.41", "1.41"}, {MaxAPI, MaxAPI}, {"1.99", MaxAPI}, {"", ""}, {"2.0", ""}, {"x", ""},
	} {
		if got, _, err := Negotiate(c.version); got != c.want || err != nil {
			t.Errorf("Negotiate(%q) = %q, %v; want %q", c.version, got, err, c.want)
		}
	}
	if _, _, err := Negotiate("1.23"); err == nil || !strings.Contains(err.Error(), "1.24") {
		t.Errorf("Negotiate(1.23): %v; want an error that names 1.24", err)
	}
}

func TestIsTooOld(t *testing.T) {
	const docker = "client version 1.51 is too old. Minimum supported API version is 1.60, " +
		"please upgrade your client to a newer version"
	f := func(err error, want string, wantOK bool) {
		t.Helper()
		if oldest, ok := IsTooOld(err); oldest != want || ok != wantOK {
			t.Errorf("%v: got %q, %t; want %q, %t", err, oldest, ok, want, wantOK)
		}
	}
	f(&StatusError{400, docker}, "1.60", true)
	f(&StatusError{400, strings.ReplaceAll(docker, "1.60", "2.0")}, "", true)
	f(&StatusError{400, strings.ReplaceAll(docker, "1.60", "1.60/../x")}, "", true)
	f(&StatusError{400, "no"}, "", true)
	f(&StatusError{403, docker}, "", false)
	f(errors.New(docker), "", false)
	f(nil, "", false)
}
