package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/engine"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/watch"
)

// An event without end, or of any length, does not take all memory.
func TestEventWithoutEnd(t *testing.T) {
	endless := io.MultiReader(strings.NewReader(`{"Type":"container","Actor":{"ID":"`), neverEnds{})
	s := newEventStream(io.NopCloser(endless))
	if e, err := s.Next(); err == nil {
		t.Errorf("next = %+v; want an error", e)
	}
	var many strings.Builder
	for i := range 3 * maxEvent / 100 {
		fmt.Fprintf(&many, `{"Type":"container","Action":"start","Actor":{"ID":"%0100d"}}`, i)
	}
	s = newEventStream(io.NopCloser(strings.NewReader(many.String())))
	for i := range 3 * maxEvent / 100 {
		if e, err := s.Next(); err != nil || e.Container != fmt.Sprintf("%0100d", i) {
			t.Fatalf("event %d: %+v, %v", i, e, err)
		}
	}
}

type neverEnds struct{}

func (neverEnds) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}

func TestContainerOfEvent(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{`{"Type":"container","Action":"start","Actor":{"ID":"c1","Attributes":{"container":"x"}}}`, "c1"},
		{`{"Type":"network","Action":"connect","Actor":{"ID":"n1","Attributes":{"container":"c1"}}}`, "c1"},
		{`{"Type":"network","Action":"connect","Actor":{"ID":"c1","Attributes":{"name":"podman"}}}`, "c1"}, // podman's
		{`{}`, ""},
		{`{"Type":"network","Action":"connect"}`, ""},
		{`null`, ""},
		{`{"Type":"container","Action":"start","Actor":null}`, ""},
	} {
		e, err := newEventStream(io.NopCloser(strings.NewReader(c.line))).Next()
		if err != nil || e.Container != c.want {
			t.Errorf("%s: %q, %v; want %q", c.line, e.Container, err, c.want)
		}
	}
}

func TestNegotiate(t *testing.T) {
	for _, c := range []struct{ version, want string }{
		{"1.24", "/v1.24"}, {"1.41", "/v1.41"}, {maxAPI, "/v" + maxAPI}, {"1.99", "/v" + maxAPI}, {"", ""}, {"2.0", ""}, {"x", ""},
	} {
		if got, err := negotiate(c.version); got != c.want || err != nil {
			t.Errorf("negotiate(%q) = %q, %v; want %q", c.version, got, err, c.want)
		}
	}
	if _, err := negotiate("1.23"); err == nil || !strings.Contains(err.Error(), "1.24") {
		t.Errorf("negotiate(1.23): %v; want an error that names 1.24", err)
	}
}

// startEngine serves h on loopback and returns the engine's URL.
func startEngine(t *testing.T, h http.Handler) engine.URL {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	u, err := engine.ParseURL("tcp://" + srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestAddrsOfEndpoint(t *testing.T) {
	static := &struct{ IPv4Address, IPv6Address string }{"10.0.0.9", "fd00::9"}
	for _, c := range []struct {
		in   endpointJSON
		want string
	}{
		{endpointJSON{}, "[]"},
		{endpointJSON{IPAddress: "10.0.0.1"}, "[10.0.0.1]"},
		{endpointJSON{IPAddress: "10.0.0.1", GlobalIPv6Address: "fd00::1"}, "[10.0.0.1 fd00::1]"},
		{endpointJSON{GlobalIPv6Address: "fd00::1", IPAMConfig: static}, "[fd00::1]"},
		{endpointJSON{IPAMConfig: static}, "[10.0.0.9 fd00::9]"},
		{endpointJSON{IPAddress: "<nil>"}, "[]"},
	} {
		if got := fmt.Sprint(append([]netip.Addr{}, c.in.addrs()...)); got != c.want {
			t.Errorf("%+v: %s; want %s", c.in, got, c.want)
		}
	}
}

// Whatever an engine sends as a list or as events is read to an end.
func FuzzEngine(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := readList(json.NewDecoder(bytes.NewReader(data)))
		if _, ok := all[""]; ok || all == nil && err == nil {
			t.Fatalf("got list %v, %v", all, err)
		}
		s := newEventStream(io.NopCloser(bytes.NewReader(data)))
		for n := 0; ; n++ {
			e, err := s.Next()
			if err != nil {
				break
			}
			if n > len(data) {
				t.Fatalf("more events than octets, the last one %+v", e)
			}
		}
	})
}

// What an engine sends wrongly is an error of that call, and never the end of a
// container.
func TestClientGarbage(t *testing.T) {
	e := dnstest.NewEngine()
	e.Set("aa", &dnstest.Container{Name: "a", Image: "redis:7", State: "running", Addr: "10.0.0.1"})
	client := newDockerClient(startEngine(t, e), nil)
	defer client.reload()
	if _, err := client.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	inspect := func(status int, body string) (*watch.Container, error) {
		e.Update(func() { e.Inspect = func(string) (int, string) { return status, body } })
		return client.Inspect(t.Context(), dnstest.ID("aa"))
	}
	for _, body := range []string{"", "{", "[]", `{"Id":5}`, strings.Repeat("[", 20000)} {
		if c, err := inspect(200, body); err == nil || errors.Is(err, watch.ErrGone) {
			t.Errorf("inspect %.20q: got %v, %v; want an error", body, c, err)
		}
	}
	for body, id := range map[string]string{"null": "", `{"Id":"x"}`: "x"} { // the watcher sees that it is about another
		if c, err := inspect(200, body); err != nil || c.ID != id {
			t.Errorf("inspect %q: got %v, %v; want ID %q", body, c, err, id)
		}
	}
	for _, status := range []int{500, 403, 301, 204} {
		if c, err := inspect(status, "no"); err == nil || errors.Is(err, watch.ErrGone) {
			t.Errorf("inspect with %d: got %v, %v; want an error", status, c, err)
		}
	}
	for status, body := range map[int]string{404: "", 500: "container aa: no such container"} { // podman's
		if _, err := inspect(status, body); !errors.Is(err, watch.ErrGone) {
			t.Errorf("inspect with %d %s: got %v; want %v", status, body, err, watch.ErrGone)
		}
	}
	for _, body := range []string{"", "garbage", "{}", `[{"Id":5}]`} {
		e.Update(func() { e.List = func() string { return body } })
		if list, err := client.List(t.Context()); err == nil {
			t.Errorf("list %q: got %v; want an error", body, list)
		}
	}
	for _, line := range []string{"garbage", "[]", `{"Type":5}`, "{", `"x"`} {
		if e, err := newEventStream(io.NopCloser(strings.NewReader(line))).Next(); err == nil {
			t.Errorf("event %q: got %+v; want an error", line, e)
		}
	}
	if _, err := client.Internal(t.Context()); !errors.Is(err, watch.ErrRefused) {
		t.Errorf("networks that are refused: got %v; want %v", err, watch.ErrRefused)
	}
}

// A recording is what an engine answered to scripts/engines.sh -record.
type recording struct {
	Version  string
	List     []json.RawMessage
	Inspect  []json.RawMessage
	Networks json.RawMessage
	Events   []json.RawMessage
}

// ServeHTTP answers as the engine did, to those calls that dnsdock makes.
func (r *recording) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	path := strings.TrimPrefix(req.URL.Path, "/v"+r.Version)
	if path == "/_ping" {
		w.Header().Set("Api-Version", r.Version)
		return
	}
	if path == req.URL.Path {
		http.Error(w, "without its version", http.StatusBadRequest)
		return
	}
	switch path {
	case "/containers/json":
		_ = json.NewEncoder(w).Encode(r.List)
	case "/networks":
		_, _ = w.Write(r.Networks)
	case "/events":
		for _, e := range r.Events {
			_, _ = w.Write(append(e, '\n'))
		}
		w.(http.Flusher).Flush()
		<-req.Context().Done()
	default:
		for _, c := range r.Inspect {
			var j struct{ ID, Name string }
			if json.Unmarshal(c, &j); path == "/containers/"+j.ID+"/json" || path == "/containers"+j.Name+"/json" {
				_, _ = w.Write(c)
				return
			}
		}
		http.Error(w, `{"message":"no such container"}`, http.StatusNotFound)
	}
}

// What each engine was seen to answer makes the same of the same containers.
func TestRecordedEngines(t *testing.T) {
	files, err := filepath.Glob("testdata/engines/*.json")
	if err != nil || len(files) < 5 {
		t.Fatalf("recordings: %v, %v; want five", files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var r recording
			if err := json.Unmarshal(data, &r); err != nil {
				t.Fatal(err)
			}
			n := publish.NameRules{Apex: mustName(t, "docker"), Health: true}
			reg := newRegistry(n, 0, slog.New(slog.DiscardHandler))
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			defer wg.Wait()
			defer cancel()
			log := dnstest.NewLog()
			client := newDockerClient(startEngine(t, &r), nil)
			reg.addEngine("recorded", n.Apex)
			cfg := watch.Config{URL: "recorded", Naming: n}
			w := watch.New(client, cfg, reg, slog.New(slog.NewTextHandler(log, nil)))
			wg.Go(func() { _ = w.Run(ctx) })
			log.Wait(t, "engine found")
			for !reg.index.Ready.Load() {
				runtime.Gosched()
			}
			byName := make(map[string]*publish.Service)
			for s := range reg.all() {
				byName[s.ContainerLabel] = s
				if s.Sick != (s.ContainerLabel == "sick") {
					t.Errorf("%s: unhealthy %t", s.ContainerLabel, s.Sick)
				}
			}
			inside := map[string]string{"host": "127.0.0.1", "one": "10.201.1.99", "an-inside": "10.201.2.99", "six": "fd00:201:3::99"}
			for _, c := range []struct{ client, name, want string }{
				{"host", "multi", "10.201.1 10.201.3"}, {"one", "multi", "10.201.1"}, {"an-inside", "multi", "10.201.2"}, {"six", "multi", "10.201.3"},
				{"host", "shared", "10.201.1 10.201.3"}, {"an-inside", "shared", "10.201.2"}, {"host", "hosted", "host"},
				{"host", "none", ""}, {"host", "gone", ""}, {"host", "plain", ""},
			} {
				var subnets []string
				if s := byName[c.name]; s != nil {
					addrs, _ := s.AddrsFor(netip.MustParseAddr(inside[c.client]))
					for _, a := range addrs {
						if !a.IsValid() {
							subnets = append(subnets, "host")
						} else if a.Is4() {
							subnets = append(subnets, a.String()[:strings.LastIndexByte(a.String(), '.')])
						}
					}
				}
				if got := strings.Join(subnets, " "); got != c.want {
					t.Errorf("%s asks for %s: got addresses in %q; want %q", c.client, c.name, got, c.want)
				}
			}
			if s := byName["renamed"]; s == nil || s.TTL != 7 || byName["sick"] == nil {
				t.Errorf("published: %v; want renamed with TTL 7, and sick too", slices.Collect(maps.Keys(byName)))
			}
			if s := byName["multi"]; s == nil || !slices.Contains(s.OwnerNames, mustName(t, "m.docker")) {
				t.Errorf("multi: got %+v; want the alias m.docker", s)
			}
			list, err := client.List(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for id, listed := range list {
				c, err := client.Inspect(ctx, id)
				if err != nil {
					t.Fatal(err)
				}
				// Podman's list does not tell the health: an unhealthy container is inspected with each list.
				if c.Fingerprint != listed && !(strings.Contains(file, "podman") && c.Sick) {
					t.Errorf("%.12s: the list says something else than the inspect", id)
				}
			}
		})
	}
}
