package dnstest

import (
	"bufio"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// An EventStream is what a client reads from GET /events.
type EventStream struct {
	Resp *http.Response

	t *testing.T
	r *bufio.Reader
}

// ListenEvents opens /events by client, after the event with the ID last unless
// that is empty.
func ListenEvents(t *testing.T, client *http.Client, url, last string) *EventStream {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return &EventStream{Resp: resp, t: t, r: bufio.NewReader(resp.Body)}
}

// Next returns the next event, its ID and its data. It passes over comments.
func (s *EventStream) Next() (event, id, data string, err error) {
	for {
		line, err := s.r.ReadString('\n')
		if err != nil {
			return "", "", "", err
		}
		line = strings.TrimSuffix(line, "\n")
		switch k, v, _ := strings.Cut(line, ": "); {
		case k == "event":
			event = v
		case k == "id":
			id = v
		case k == "data":
			data = v
		case line == "" && event != "":
			return event, id, data, nil
		}
	}
}

// Want reads the next event, whose data must have these parts, and returns its ID.
func (s *EventStream) Want(event string, parts ...string) (id string) {
	s.t.Helper()
	got, id, data, err := s.Next()
	if err != nil || got != event || !ContainsAll(data, parts) {
		s.t.Fatalf("got event %q %s, %v; want %q with %q", got, data, err, event, parts)
	}
	return id
}

// ContainsAll reports whether s contains each of parts.
func ContainsAll(s string, parts []string) bool {
	return !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(s, p) })
}
