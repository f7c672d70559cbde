package web

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/engine"
	"github.com/rayje/dnsdock/internal/feed"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/zone"
)

// A site is a program whose HTTP side is under test: its services and its status are whatever a test says.
type site struct {
	t    testing.TB
	feed *feed.Feed
	auth *WriteAuth

	mu       sync.Mutex // guards what follows
	services map[string]*publish.Service
	queries  map[string]uint64
	engines  []engine.Status
	upstream forward.UpstreamStatus
	answers  map[string]*zone.Resolution // of /resolve, by name
	lines    Lines
	writes   int // requests that came through the guard to change something
}

func newSite(t testing.TB) *site {
	return &site{
		t: t, feed: feed.New(), auth: &WriteAuth{Open: true},
		services: make(map[string]*publish.Service), answers: make(map[string]*zone.Resolution),
		queries:  map[string]uint64{"own": 0, "forwarded": 0, "cached": 0, "refused": 0},
		engines:  []engine.Status{{URL: "unix:///var/run/docker.sock", Up: true}},
		upstream: forward.UpstreamStatus{Addr: "192.0.2.53:53", Up: true},
	}
}

// put publishes a container's service, whose aliases have spaces between. It replaces one of the same ID.
func (s *site) put(id, container, image, addr, aliases string, change ...func(*publish.Service)) {
	s.t.Helper()
	service := &publish.Service{
		ID: id, ContainerLabel: container, ImageLabel: image, TTL: publish.DefaultTTL, Extras: new(publish.Extras),
		Origin: publish.Origin{
			Engine: s.engines[0].URL, Container: container, Image: image + ":7",
			State: "running", Since: time.Now().Add(-3*time.Hour - time.Minute),
		},
	}
	for text := range strings.FieldsSeq(addr) {
		service.Addrs = append(service.Addrs, netip.MustParseAddr(text))
	}
	for text := range strings.FieldsSeq(aliases) {
		service.Aliases = append(service.Aliases, mustName(s.t, text))
	}
	for _, f := range change {
		f(service)
	}
	service.OwnerNames = append([]dnsname.Name{mustName(s.t, container+"."+image+".docker")}, service.Aliases...)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.services[id] = service
	s.feed.Publish("service-changed", id, service)
}

// remove withdraws a service.
func (s *site) remove(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.feed.Publish("service-removed", id, s.services[id])
	delete(s.services, id)
}

// update changes the site's fields under its lock.
func (s *site) update(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *site) status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Status{
		Version: "test", Started: time.Now(), Ready: true, Domain: "docker", Writes: s.auth.Mode(),
		Services: len(s.services),
		Hour:     map[string][]uint64{"own": {0, 30, 60}, "forwarded": {5, 60}},
		Queries:  maps.Clone(s.queries), Engines: slices.Clone(s.engines),
		Status: forward.Status{Upstreams: []forward.UpstreamStatus{s.upstream}},
	}
}

func (s *site) all(yield func(*publish.Service) bool) {
	s.mu.Lock()
	services := slices.Collect(maps.Values(s.services))
	s.mu.Unlock()
	for _, service := range services {
		if !yield(service) {
			return
		}
	}
}

func (s *site) resolve(r *http.Request) (*zone.Resolution, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if res := s.answers[r.URL.Query().Get("name")]; res != nil && r.URL.Query().Get("type") != "NONSENSE" {
		return res, nil
	}
	return nil, errors.New("parameter type: write a type of records, not for " + r.URL.Query().Get("name"))
}

// handler returns what serves the site, behind the guard.
func (s *site) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", &Page{Status: s.status, Services: s.all, Resolve: s.resolve, Lines: s.lines.About})
	mux.Handle("GET /events", &Events{Feed: s.feed, Encode: encodeChange})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		WriteJSON(w, http.StatusOK, s.status())
	})
	mux.HandleFunc("GET /large", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, 8<<20)) // the client went away
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			WriteError(w, http.StatusRequestEntityTooLarge, err)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			s.update(func() { s.writes++ })
		}
		WriteJSON(w, http.StatusOK, r.URL.Path)
	})
	guard := &Guard{Apexes: []dnsname.Name{mustName(s.t, "docker")}, Auth: s.auth}
	return guard.Wrap(http.MaxBytesHandler(mux, 1<<20))
}

func encodeChange(c feed.Change) any {
	switch about := c.About.(type) {
	case *publish.Service:
		names, ips := dnsname.Texts(about.AllNames()), publish.AddrTexts(about.Addrs)
		return map[string]any{"id": c.ID, "names": names, "ips": ips, "ttl": about.TTL}
	case engine.Status:
		return about
	case uint32:
		return map[string]uint32{"ttl": about}
	}
	return nil
}

// call sends one request as curl does. Headers are "Name: value", and Host sets the host.
func call(t testing.TB, h http.Handler, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "http://127.0.0.1"+path, strings.NewReader(body))
	for _, line := range headers {
		k, v, _ := strings.Cut(line, ": ")
		if k == "Host" {
			r.Host = v
		}
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// errorOf returns the text of an error reply; the test fails if it has another form.
func errorOf(t *testing.T, r *httptest.ResponseRecorder) string {
	t.Helper()
	var e map[string]string
	if err := json.Unmarshal(r.Body.Bytes(), &e); err != nil || len(e) != 1 || e["error"] == "" {
		t.Errorf(`got body %s; want {"error": "..."}`, r.Body)
	}
	return e["error"]
}

func mustName(t testing.TB, s string) dnsname.Name {
	t.Helper()
	n, err := dnsname.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

var discard = slog.New(slog.DiscardHandler)

func sick(s *publish.Service) { s.Sick = true }
