package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/index"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/servicejson"
	"github.com/rayje/dnsdock/internal/web"
)

// Ids of containers, and a service made by hand.
var (
	webID   = "aaaa1" + strings.Repeat("0", 59)
	redisID = "aaaa2" + strings.Repeat("0", 59)
	downID  = "bbbb0" + strings.Repeat("0", 59) // stopped
)

const manualBody = `{"name":"foo","image":"bar","ip":"192.168.0.3","ttl":30}`

// newTestAPI returns the HTTP side of a registry with two containers that
// run, one that is stopped, and one service made by hand.
func newTestAPI(t testing.TB) (http.Handler, *registry) {
	t.Helper()
	reg := newTestRegistry(t, "docker")
	reg.Put(webID, testService(t, reg, webID, "web", "nginx", "172.17.0.2 fd00::2", "www.docker"))
	reg.Put(redisID, testService(t, reg, redisID, "one", "redis", "172.17.0.3"))
	reg.Put(downID, nil)
	h := apiOf(t, reg)
	if r := call(t, h, "PUT", "/services/manual", manualBody); r.Code != http.StatusCreated {
		t.Fatalf("PUT of a service: got %d %s; want 201", r.Code, r.Body)
	}
	return h, reg
}

// apiOf returns the HTTP side of a registry, open to all.
func apiOf(t testing.TB, reg *registry) http.Handler {
	t.Helper()
	return newAPI(newTestZone(t, reg), reg, &web.WriteAuth{Open: true})
}

// call sends one request as curl does, whose -d sends a form's content
// type; headers are "Name: value", and Host sets the host.
func call(t testing.TB, h http.Handler, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "http://127.0.0.1"+path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
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

// sameJSON reports whether both texts are the same value, but for when a
// service was made.
func sameJSON(a, b string) bool {
	var x, y any
	since := regexp.MustCompile(`,\s*"since":\s*"[^"]*"`)
	read := func(text string, v *any) error { return json.Unmarshal(since.ReplaceAll([]byte(text), nil), v) }
	return read(a, &x) == nil && read(b, &y) == nil && reflect.DeepEqual(x, y)
}

// errorOf returns the text of an error reply; the test fails if it has another
// form.
func errorOf(t *testing.T, r *httptest.ResponseRecorder) string {
	t.Helper()
	var e map[string]string
	if err := json.Unmarshal(r.Body.Bytes(), &e); err != nil || len(e) != 1 || e["error"] == "" {
		t.Errorf(`got body %s; want {"error": "..."}`, r.Body)
	}
	return e["error"]
}

// An address and a CNAME take each other's place, also over a container that
// has one of them by itself.
func TestAPIAddressOrCNAME(t *testing.T) {
	h, reg := newTestAPI(t)
	base := testService(t, reg, dnstest.ID("dddd"), "lb", "proxy", "")
	base.CNAME = mustName(t, "lb.example.com")
	reg.Put(base.ID, base)
	for _, step := range []struct {
		body string
		want string // address and CNAME; else the error
	}{
		{`{"ttl":3}`, " lb.example.com"},
		{`{"cname":""}`, "there would be no address"},
		{`{"ip":"10.0.0.7"}`, "10.0.0.7 "},
		{`{"ttl":4}`, "10.0.0.7 "},
		{`{"cname":"other.example.com"}`, " other.example.com"},
		{`{"cname":""}`, "there would be no address"},
		{`{"ips":["10.0.0.8"],"cname":""}`, "10.0.0.8 "},
	} {
		r := call(t, h, "PATCH", "/services/dddd", step.body)
		var s struct {
			Name, Image, IP, CNAME string
			TTL                    int
		}
		if r.Code == http.StatusBadRequest {
			if got := errorOf(t, r); !strings.Contains(got, step.want) {
				t.Errorf("%s: got error %q; want one with %q", step.body, got, step.want)
			}
			continue
		}
		if err := json.Unmarshal(r.Body.Bytes(), &s); err != nil {
			t.Fatal(err)
		}
		got := " " + s.CNAME
		got = s.IP + got
		if got != step.want {
			t.Errorf("%s: got %q; want %q", step.body, got, step.want)
		}
	}
	reg.Put(base.ID, base) // a resync changes nothing
	if s, err := reg.lookup("dddd"); err != nil || s.Addrs[0] != netip.MustParseAddr("10.0.0.8") {
		t.Errorf("after a resync: got %v, %v; want 10.0.0.8", s, err)
	}
}

// The effect of each call is seen by DNS.
func TestAPIChangesAnswers(t *testing.T) {
	h, reg := newTestAPI(t)
	matched := func(qname string) (addrs []string) {
		views := reg.index.Match(mustName(t, qname)).Sets
		all, _, _ := reg.index.Rrset(views, true, 1000, index.Viewer{})
		for _, a := range all {
			addrs = append(addrs, a.String())
		}
		return addrs
	}
	for _, tt := range []struct {
		method, path, body, qname string
		want                      []string
	}{
		{"GET", "/services", "", "foo.bar.docker", []string{"192.168.0.3"}},
		{"PATCH", "/services/manual", `{"ip":"10.0.0.1"}`, "foo.bar.docker", []string{"10.0.0.1"}},
		{"PATCH", "/services/manual", `{"name":"new"}`, "foo.bar.docker", nil},
		{"GET", "/services", "", "new.bar.docker", []string{"10.0.0.1"}},
		{"PATCH", "/services/manual", `{"alias":"db.docker"}`, "db.docker", []string{"10.0.0.1"}},
		{"PATCH", "/services/manual", `{"aliases":[]}`, "db.docker", nil},
		{"DELETE", "/services/manual", "", "new.bar.docker", nil},
		{"DELETE", "/services/aaaa1", "", "web.nginx.docker", nil},
		{"PUT", "/services/aaaa1", `{"name":"web2","image":"nginx","ip":"10.0.0.2"}`, "nginx.docker", []string{"10.0.0.2"}},
	} {
		if r := call(t, h, tt.method, tt.path, tt.body); r.Code >= 300 {
			t.Fatalf("%s %s %s: got %d %s; want success", tt.method, tt.path, tt.body, r.Code, r.Body)
		}
		if got := matched(tt.qname); !slices.Equal(got, tt.want) {
			t.Errorf("after %s %s %s: %s: got %v; want %v", tt.method, tt.path, tt.body, tt.qname, got, tt.want)
		}
	}
	if call(t, h, "PUT", "/set/ttl", "42"); reg.index.TTL.Load() != 42 {
		t.Errorf("after PUT /set/ttl: got a default TTL of %d; want 42", reg.index.TTL.Load())
	}
	if got := call(t, h, "GET", "/ttl", "").Body.String(); strings.TrimSpace(got) != "42" {
		t.Errorf("GET /ttl: got %s; want 42", got)
	}
}

// What the API did to a container holds for as long as that exists.
func TestAPIHolds(t *testing.T) {
	for _, tt := range []struct{ method, body, want, changed string }{
		// As it is at first, and after a restart with another address.
		{"PATCH", `{"ttl":7}`, "web.nginx 172.17.0.2 7", "web.nginx 172.17.9.9 7"},
		{"PATCH", `{"ip":"10.0.0.1"}`, "web.nginx 10.0.0.1 -1", "web.nginx 10.0.0.1 -1"},
		{"PATCH", `{"name":"other"}`, "other.nginx 172.17.0.2 -1", "other.nginx 172.17.9.9 -1"},
		{"PUT", manualBody, "foo.bar 192.168.0.3 30", "foo.bar 192.168.0.3 30"},
		{"DELETE", "", "gone", "gone"},
	} {
		t.Run(tt.method+" "+tt.body, func(t *testing.T) {
			h, reg := newTestAPI(t)
			now := func() string {
				r := call(t, h, "GET", "/services/aaaa1", "")
				if r.Code == http.StatusNotFound {
					return "gone"
				}
				var s struct {
					Name, Image, IP, CNAME string
					TTL                    int
				}
				if err := json.Unmarshal(r.Body.Bytes(), &s); err != nil {
					t.Fatal(err)
				}
				return fmt.Sprintf("%s.%s %v %d", s.Name, s.Image, s.IP, s.TTL)
			}
			check := func(what, want string) {
				t.Helper()
				if got := now(); got != want {
					t.Errorf("%s: got %s; want %s", what, got, want)
				}
			}
			if r := call(t, h, tt.method, "/services/aaaa1", tt.body); r.Code >= 300 {
				t.Fatalf("got %d %s; want success", r.Code, r.Body)
			}
			check("at first", tt.want)
			reg.Put(webID, testService(t, reg, webID, "web", "nginx", "172.17.0.2 fd00::2", "www.docker"))
			check("after a resync", tt.want)
			reg.Put(webID, nil)
			check("stopped", "gone")
			reg.Put(webID, testService(t, reg, webID, "web", "nginx", "172.17.9.9"))
			check("after a restart with another address", tt.changed)
			reg.Forget(webID)
			check("removed", "gone")
			reg.Put(webID, testService(t, reg, webID, "web", "nginx", "172.17.0.2"))
			check("another container under that id", "web.nginx 172.17.0.2 -1")
			if got := call(t, h, "GET", "/services/manual", "").Code; got != http.StatusOK {
				t.Errorf("the one made by hand: got %d; want it there", got)
			}
		})
	}
	t.Run("DELETE and PUT again", func(t *testing.T) {
		h, reg := newTestAPI(t)
		for _, step := range []struct {
			method, body string
			status       int
		}{
			{"DELETE", "", 204},
			{"DELETE", "", 404},
			{"PATCH", `{"ttl":7}`, 404},
			{"GET", "", 404},
			{"PUT", manualBody, 201},
			{"GET", "", 200},
			{"PATCH", `{"ttl":7}`, 200},
			{"DELETE", "", 204},
		} {
			if r := call(t, h, step.method, "/services/aaaa1", step.body); r.Code != step.status {
				t.Errorf("%s %s: got %d %s; want %d", step.method, step.body, r.Code, r.Body, step.status)
			}
		}
		reg.Put(webID, testService(t, reg, webID, "web", "nginx", "172.17.0.77"))
		if r := call(t, h, "GET", "/services/aaaa1", ""); r.Code != http.StatusNotFound {
			t.Errorf("after a restart: got %d %s; want 404: a deleted one stays away", r.Code, r.Body)
		}
	})
}

// A container that dies while a PATCH changes it does not come back.
func TestPatchRacesDeath(t *testing.T) {
	h, reg := newTestAPI(t)
	for i := range 300 {
		id := fmt.Sprintf("c%063d", i)
		s := testService(t, reg, id, fmt.Sprintf("c%d", i), "app", "10.0.0.1")
		reg.Put(id, s)
		var wg sync.WaitGroup
		wg.Go(func() {
			for range 3 {
				if r := call(t, h, "PATCH", "/services/"+id, `{"ttl":7,"alias":"back.docker"}`); r.Code != 200 && r.Code != 404 {
					t.Errorf("PATCH: got %d %s; want 200 or 404", r.Code, r.Body)
				}
			}
		})
		wg.Go(func() {
			if i%2 == 0 {
				reg.Put(id, nil) // it stops
			} else {
				reg.Forget(id) // it is removed
			}
		})
		wg.Wait()
		if r := call(t, h, "GET", "/services/"+id, ""); r.Code != http.StatusNotFound {
			t.Fatalf("after its death: got %d %s; want 404", r.Code, r.Body)
		}
		if got := reg.index.Match(mustName(t, fmt.Sprintf("c%d.app.docker", i))).Sets; len(got) != 0 {
			t.Fatalf("after its death: got %v; want no answer", got)
		}
		if got := reg.index.Match(mustName(t, "back.docker")).Sets; len(got) != 0 {
			t.Fatalf("after its death: its alias got %v; want no answer", got)
		}
		if i%2 == 1 {
			reg.Put(id, s)
			if got, _ := reg.lookup(id); got == nil || got.TTL != publish.DefaultTTL {
				t.Fatalf("a new one under its id: got %v; want no trace of the PATCH", got)
			}
			reg.Forget(id)
		}
	}
}

// A container may publish neither part; what GET gives of it, PUT takes. One
// made by hand must have a name.
func TestAPIPutNeitherPart(t *testing.T) {
	reg := newTestRegistry(t, "docker")
	id := strings.Repeat("ab", 32)
	reg.Put(id, testService(t, reg, id, "", "", "10.0.0.1"))
	h := apiOf(t, reg)
	got := call(t, h, "GET", "/services/"+id, "").Body.String()
	if r := call(t, h, "PUT", "/services/"+id, got); r.Code != http.StatusOK || r.Body.String() != got {
		t.Errorf("PUT of what GET gave: %d %s; want 200 %s", r.Code, r.Body, got)
	}
	if r := call(t, h, "PUT", "/services/byhand", got); r.Code != http.StatusBadRequest {
		t.Errorf("PUT of a new one without a name: %d %s; want 400", r.Code, r.Body)
	}
}

// Services made by hand are bounded. What exists can be changed all the same.
func TestAPIBoundsMade(t *testing.T) {
	h, reg := newTestAPI(t)
	want := func(method, id, body string, status int) {
		t.Helper()
		if r := call(t, h, method, "/services/"+id, body); r.Code != status {
			t.Errorf("%s %s: got %d %s; want %d", method, id, r.Code, r.Body, status)
		} else if status >= 400 && !strings.Contains(errorOf(t, r), "10000") {
			t.Errorf("%s %s: got error %s; want one with the limit", method, id, r.Body)
		}
	}
	p, err := servicejson.ReadService([]byte(manualBody), false)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 9998 {
		if _, _, err := reg.set(fmt.Sprintf("made%d", i), p); err != nil {
			t.Fatal(err)
		}
	}
	want("PUT", "last", manualBody, 201) // beside the one of newTestAPI
	want("PUT", "more", manualBody, 507)
	want("PUT", "more", manualBody, 507)
	want("PUT", "last", manualBody, 200)
	want("PATCH", "last", `{"ttl":7}`, 200)
	want("PUT", "aaaa1", manualBody, 200) // of a container
	want("DELETE", "made7", "", 204)
	want("PUT", "more", manualBody, 201)
	want("PUT", "more2", manualBody, 507)
	reg.Put("made8", testService(t, reg, "made8", "web", "nginx", "10.0.0.1")) // an ID that a container has now too
	reg.Forget("made8")
	want("DELETE", "made8", "", 204)
	want("PUT", "made8", manualBody, 201)
	want("PUT", "more2", manualBody, 507)
}

// The gateway of a network that a container is on is the host.
func TestGateways(t *testing.T) {
	reg := newTestRegistry(t, "docker")
	gateway := netip.MustParseAddr("172.30.0.1")
	has := func(want bool) {
		t.Helper()
		if got := reg.isGateway(gateway); got != want {
			t.Errorf("got %t; want %t", got, want)
		}
	}
	has(false)
	n := publish.Network{Name: "n", V4: publish.IPNet{Prefix: netip.MustParsePrefix("172.30.0.0/16"), Gateway: gateway}}
	s, _ := reg.names.ServiceOf(&publish.Container{
		ID: webID, Name: "web", Image: "nginx", State: "running",
		Networks: []publish.Endpoint{{Network: n, Addrs: []netip.Addr{netip.MustParseAddr("172.30.0.2")}}},
	}, "e")
	reg.Put(webID, s)
	has(true)
	if reg.isGateway(netip.MustParseAddr("172.30.0.2")) || reg.isGateway(netip.Addr{}) {
		t.Error("a container, or none at all, is a gateway")
	}
	if err := reg.remove(webID); err != nil { // the container is on its network all the same
		t.Fatal(err)
	}
	has(true)
	reg.Forget(webID)
	has(false)
}
