package e2e

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// The API has the lines of the log about a service, also those that the log is too terse for.
func TestLogOfService(t *testing.T) {
	in, _ := startAPI(t)
	status, body := in.call(t, "GET", "/services/aaaa1/log", "")
	var lines []struct{ Time, Level, Text string }
	if err := json.Unmarshal([]byte(body), &lines); err != nil || status != http.StatusOK || len(lines) == 0 {
		t.Fatalf("got %d %s: %v; want lines", status, body, err)
	}
	if l := lines[0]; l.Level != "INFO" || !strings.HasPrefix(l.Text, "service added names=[web.nginx.docker.") {
		t.Errorf("got %+v; want that the service was added", l)
	}
	if status, body := in.call(t, "GET", "/services/cccc/log", ""); status != http.StatusNotFound {
		t.Errorf("of an unknown service: got %d %s; want 404", status, body)
	}
}
