package e2e

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rayje/dnsdock/internal/dnstest"
)

// testChanges checks who may change something: the host may, containers may not.
func testChanges(t *testing.T, s *stage) {
	s.hostOnly(t)
	dnstest.Needs(t, "curl")
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("0123456789abcdef"), 0o600); err != nil {
		t.Fatal(err)
	}
	web := s.name("web")
	s.run(t, web)
	_, _, gateway := s.on(t, web, s.bridge())
	// put reads and changes something from a network, and returns both statuses.
	put := func(network, url string, args ...string) string {
		t.Helper()
		args = append(args, "--silent", "--show-error", "--noproxy", "*")
		args = append(args, "--output", "/dev/null", "--write-out", "%{http_code} ")
		change := append(args, "--request", "PUT", "--data", manualBody, url+"/services/x")
		get := append(append([]string{}, args...), url+"/services", "--next")
		return strings.TrimSpace(s.inside(t, network, nil, "curl", append(get, change...)...))
	}
	for _, tt := range []struct {
		flag, bridge string // the statuses in a container
		here         int    // and on the host
		header       string
	}{
		{"", "200 403", 201, "X: y"},
		{"-http-open", "200 201", 200, "X: y"},
		{"-http-token-file=" + token, "200 201", 401, "Authorization: Bearer 0123456789abcdef"},
	} {
		in := s.dnsdock(t, strings.Fields("-http=:0 "+tt.flag)...)
		_, port, err := net.SplitHostPort(strings.TrimPrefix(in.http, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		in.http = "http://" + net.JoinHostPort(gateway, port)
		bridge := put(s.bridge(), in.http, "--header", tt.header)
		status, body := in.call(t, "PUT", "/services/x", manualBody)
		if bridge != tt.bridge || status != tt.here {
			t.Errorf("%q: got %s in a container, %d %s on the host; want %s, %d",
				tt.flag, bridge, status, body, tt.bridge, tt.here)
		}
	}

	// To dnsdock in a container, the host is the gateway of its network.
	_, in := s.scratch(t, "")
	if got := put(s.bridge(), in.http); got != "200 403" {
		t.Errorf("got %s from one container to another; want 200 403", got)
	}
	if status, body := in.call(t, "PUT", "/services/x", manualBody); status != 201 {
		t.Errorf("got %d %s from the host to a container; want 201", status, body)
	}
	if got := put("host", in.http); got != "200 200" {
		t.Errorf("got %s from the host's network to a container; want 200 200", got)
	}
}
