package engine

import (
	"strings"
	"testing"
)

func TestParseURL(t *testing.T) {
	for _, c := range []struct{ in, network, addr string }{
		{"unix:///var/run/docker.sock", "unix", "/var/run/docker.sock"},
		{"unix://var/run/docker.sock", "unix", "/var/run/docker.sock"},
		{"tcp://127.0.0.1:2376", "tcp", "127.0.0.1:2376"},
		{"tcp://engine.example.com:2376/", "tcp", "engine.example.com:2376"},
		{"tcp://[::1]:2375", "tcp", "[::1]:2375"},
	} {
		u, err := ParseURL(c.in)
		if err != nil || u.Network != c.network || u.Addr != c.addr {
			t.Errorf("ParseURL(%q) = %+v, %v; want %s %s", c.in, u, err, c.network, c.addr)
		}
	}
	for _, in := range []string{"", "/var/run/docker.sock", "unix://", "unix:///", "tcp://", "tcp://host", "tcp://:2375", "tcp://host:0", "tcp://host:x", "tcp://h:1/path", "ssh://host", "http://host:2375"} {
		if u, err := ParseURL(in); err == nil || !strings.Contains(err.Error(), "unix:///") {
			t.Errorf("ParseURL(%q) = %+v, %v; want an error that says what to write", in, u, err)
		}
	}
}
