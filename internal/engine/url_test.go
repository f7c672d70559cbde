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

func TestIP(t *testing.T) {
	for url, want := range map[string]string{
		"unix:///var/run/docker.sock": "invalid IP", "tcp://engine.example.com:2376": "invalid IP", "tcp://127.0.0.1:2375": "127.0.0.1",
		"tcp://203.0.113.5:2376": "203.0.113.5", "tcp://[2001:db8::5]:2376": "2001:db8::5", "tcp://[::ffff:192.0.2.1]:1": "192.0.2.1",
		"tcp://[fe80::1%eth0]:2376": "fe80::1",
	} {
		u, err := ParseURL(url)
		if got := u.IP().String(); err != nil || got != want {
			t.Errorf("%s: got %s, %v; want %s", url, got, err, want)
		}
	}
}
