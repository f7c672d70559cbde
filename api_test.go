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
	return newAPI(newTestZone(t, reg), reg, &web.WriteAuth{})
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

func TestAPI(t *testing.T) {
	const (
		web    = `{"name":"web","image":"nginx","ip":"172.17.0.2","ips":["172.17.0.2","fd00::2"],"ttl":-1,"aliases":["www.docker"],"names":["web.nginx.docker","www.docker"],"origin":{"engine":"e","container":"web","image":"nginx"}}`
		redis  = `{"name":"one","image":"redis","ip":"172.17.0.3","ips":["172.17.0.3"],"ttl":-1,"aliases":[],"names":["one.redis.docker"],"origin":{"engine":"e","container":"one","image":"redis"}}`
		manual = `{"name":"foo","image":"bar","ip":"192.168.0.3","ips":["192.168.0.3"],"ttl":30,"aliases":[],"names":["foo.bar.docker"],"origin":{}}`
	)
	const alias = `{"name":"foo","image":"bar","ip":"","ips":[],"cname":"www.example.com","ttl":30,"aliases":[],"names":["foo.bar.docker"],"origin":{}}`
	with := func(service string, oldNew ...string) string { return strings.NewReplacer(oldNew...).Replace(service) }
	huge := strings.Repeat(" ", maxBody+1)
	for _, tt := range []struct {
		method, path, body string
		status             int
		want               string // the same JSON; for an error, a part of its text
	}{
		{"GET", "/services", "", 200, `{"` + webID + `":` + web + `,"` + redisID + `":` + redis + `,"manual":` + manual + `}`},
		{"GET", "/services/manual", "", 200, manual},
		{"GET", "/services/" + webID, "", 200, web},
		{"GET", "/services/aaaa1", "", 200, web},
		{"GET", "/services/aaaa2", "", 200, redis},
		{"GET", "/services/aaaa", "", 409, "write more digits"},
		{"GET", "/services/aaa", "", 404, "no such service"}, // shorter than 4
		{"GET", "/services/AAAA1", "", 404, "no such service"},
		{"GET", "/services/manua", "", 404, "no such service"}, // no container
		{"GET", "/services/bbbb", "", 404, "no such service"},
		{"GET", "/services/unknown", "", 404, "no such service"},
		{"GET", "/ttl", "", 200, "0"},

		{"PUT", "/services/new", manualBody, 201, manual},
		{"PUT", "/services/manual", manualBody, 200, manual},
		{"PUT", "/services/new", `{"name":"foo","image":"bar","ip":"192.168.0.3"}`, 201, with(manual, `"ttl":30`, `"ttl":-1`)},
		{"PUT", "/services/new", `{"name":"foo","image":"bar","ip":"192.168.0.3","ttl":-1}`, 201, with(manual, `"ttl":30`, `"ttl":-1`)},
		{"PUT", "/services/new", `{"NAME":"foo","Image":"bar","iP":"192.168.0.3","TTL":30}`, 201, manual},
		{"PUT", "/services/new", `{"name":"foo","image":"bar","ips":["192.168.0.3","::ffff:192.168.0.3"],"ttl":30}`, 201, manual},
		{"PUT", "/services/new", `{"name":"foo","image":"bar","ip":"192.168.0.3","ips":["192.168.0.3"],"ttl":30}`, 201, manual},
		{"PUT", "/services/new", `{"name":"foo","image":"bar","IPS":"192.168.0.3, fd00::9","ttl":30}`, 201, with(manual, `["192.168.0.3"]`, `["192.168.0.3","fd00::9"]`)},
		{"PUT", "/services/new", `{"name":"foo","image":"bar","ip":"FD00:0::9","ttl":30}`, 201, with(manual, `192.168.0.3`, `fd00::9`)},
		{"PUT", "/services/new", `{"name":"foo","image":"bar","ip":"192.168.0.3","ttl":30,"alias":"DB.docker."}`, 201,
			with(manual, `"aliases":[]`, `"aliases":["db.docker"]`, `["foo.bar.docker"]`, `["foo.bar.docker","db.docker"]`)},
		{"PUT", "/services/new", `{"name":"foo","image":"bar","ip":"192.168.0.3","ttl":30,"Aliases":["db.docker","shop.example.com","db.docker"]}`, 201,
			with(manual, `"aliases":[]`, `"aliases":["db.docker","shop.example.com"]`, `["foo.bar.docker"]`, `["foo.bar.docker","db.docker","shop.example.com"]`)},
		{"PUT", "/services/new", `{"name":"foo","image":"bar","ip":"192.168.0.3","ttl":30,"ALIAS":"a.docker, b.docker"}`, 201,
			with(manual, `"aliases":[]`, `"aliases":["a.docker","b.docker"]`, `["foo.bar.docker"]`, `["foo.bar.docker","a.docker","b.docker"]`)},
		{"PUT", "/services/new", `{"name":"","image":"bar","ip":"192.168.0.3","ttl":30}`, 201, with(manual, `"name":"foo"`, `"name":""`, "foo.bar.docker", "bar.docker")},
		{"PUT", "/services/new", `{"name":"foo","image":"","ip":"192.168.0.3","ttl":30}`, 201, with(manual, `"image":"bar"`, `"image":""`, "foo.bar.docker", "foo.docker")},
		{"PUT", "/services/new", `{"name":"under_score","image":"a.b","ip":"192.168.0.3","ttl":30}`, 201, with(manual, `"foo"`, `"under_score"`, `"bar"`, `"a.b"`, "foo.bar.docker", "under_score.a.b.docker")},
		{"PUT", "/services/new", `{"name":"foo","image":"bar","ip":"192.168.0.3","ttl":30,"txt":"v=1, a","ports":["443","80/tcp=HTTP","80/tcp=http"]}`, 201,
			with(manual, `"ttl":30`, `"txt":["v=1, a"],"ports":["80/tcp=http","443/tcp"],"ttl":30`)},
		{"PUT", "/services/new", `{"name":"foo","image":"bar","cname":"WWW.example.com.","ttl":30}`, 201, alias},
		{"PUT", "/services/new", `{"name":"foo","image":"bar","ip":"","ips":[],"cname":"www.example.com","ttl":30,"txt":[],"ports":""}`, 201, alias},
		{"PUT", "/services/manual", `{"name":"foo","image":"bar","cname":"www.example.com","ttl":30}`, 200, alias},
		{"PUT", "/services/new", `{"name":"foo","image":"bar","cname":""}`, 400, `"ip" is missing`},
		{"PUT", "/services/new", "\n " + manualBody + "\n\n", 201, manual},
		{"PUT", "/services/new", manualBody + strings.Repeat(" ", maxBody-len(manualBody)), 201, manual},
		{"PUT", "/services/a%2Fb%20c", manualBody, 201, manual},
		{"PUT", "/services/" + strings.Repeat("x", 255), manualBody, 201, manual},
		{"PUT", "/services/" + strings.Repeat("x", 256), manualBody, 400, "255 bytes"},
		{"PUT", "/services/aaaa1", manualBody, 200, with(manual, `"origin":{}`, `"origin":{"engine":"e","container":"web","image":"nginx"}`)},
		{"PUT", "/services/aaaa", manualBody, 409, "write more digits"},
		{"PUT", "/services/bbbb", manualBody, 409, "choose another id"},
		{"PUT", "/services/cccc", manualBody, 201, manual},
		{"PUT", "/services/new", `{"image":"bar","ip":"192.168.0.3"}`, 400, `"name" is missing`},
		{"PUT", "/services/new", `{"name":"foo","ip":"192.168.0.3"}`, 400, `"image" is missing`},
		{"PUT", "/services/new", `{"name":"foo","image":"bar"}`, 400, `"ip" is missing`},
		{"PUT", "/services/new", `{}`, 400, `is missing`},
		{"PUT", "/services/new", `{"name":"","image":"","ip":"192.168.0.3"}`, 400, `both empty`},
		{"PUT", "/services/new", huge, 413, "1048576"},

		{"PATCH", "/services/manual", `{}`, 200, manual},
		{"PATCH", "/services/manual", `{"ttl":0}`, 200, with(manual, `"ttl":30`, `"ttl":0`)},
		{"PATCH", "/services/manual", `{"TTL":-1}`, 200, with(manual, `"ttl":30`, `"ttl":-1`)},
		{"PATCH", "/services/manual", `{"ttl":2147483647}`, 200, with(manual, `"ttl":30`, `"ttl":2147483647`)},
		{"PATCH", "/services/manual", `{"name":"other"}`, 200, with(manual, `foo`, `other`)},
		{"PATCH", "/services/manual", `{"image":"other"}`, 200, with(manual, `bar`, `other`)},
		{"PATCH", "/services/manual", `{"ip":"10.0.0.1"}`, 200, with(manual, `192.168.0.3`, `10.0.0.1`)},
		{"PATCH", "/services/manual", `{"ips":["10.0.0.1"]}`, 200, with(manual, `192.168.0.3`, `10.0.0.1`)},
		{"PATCH", "/services/" + webID, `{"aliases":[]}`, 200, with(web, `"aliases":["www.docker"]`, `"aliases":[]`, `,"www.docker"`, ``)},
		{"PATCH", "/services/aaaa1", `{"alias":""}`, 200, with(web, `"aliases":["www.docker"]`, `"aliases":[]`, `,"www.docker"`, ``)},
		{"PATCH", "/services/aaaa1", `{"ttl":7}`, 200, with(web, `"ttl":-1`, `"ttl":7`)},
		{"PATCH", "/services/aaaa", `{"ttl":7}`, 409, "write more digits"},
		{"PATCH", "/services/bbbb", `{"ttl":7}`, 404, "no such service"},
		{"PATCH", "/services/unknown", `{"ttl":7}`, 404, "no such service"},
		{"PATCH", "/services/manual", huge, 413, "1048576"},

		{"PATCH", "/services/manual", `{"txt":["a","b"]}`, 200, with(manual, `"ttl":30`, `"txt":["a","b"],"ttl":30`)},
		{"PATCH", "/services/manual", `{"ports":"80, 53/udp"}`, 200, with(manual, `"ttl":30`, `"ports":["53/udp","80/tcp"],"ttl":30`)},
		{"PATCH", "/services/manual", `{"cname":"www.example.com"}`, 200, alias},
		{"PATCH", "/services/manual", `{"cname":""}`, 200, manual},
		{"PATCH", "/services/aaaa1", `{"cname":"www.example.com"}`, 200, with(web, `"ip":"172.17.0.2","ips":["172.17.0.2","fd00::2"]`, `"ip":"","ips":[],"cname":"www.example.com"`)},

		{"DELETE", "/services/manual", "", 204, ""},
		{"DELETE", "/services/aaaa1", "", 204, ""},
		{"DELETE", "/services/" + redisID, "", 204, ""},
		{"DELETE", "/services/aaaa", "", 409, "write more digits"},
		{"DELETE", "/services/bbbb", "", 404, "no such service"},
		{"DELETE", "/services/unknown", "", 404, "no such service"},

		{"PUT", "/set/ttl", "10", 200, "10"},
		{"PUT", "/set/ttl", " 0\n", 200, "0"},
		{"PUT", "/set/ttl", "2147483647", 200, "2147483647"},
		{"PUT", "/set/ttl", "2147483648", 400, "write seconds from 0 to 2147483647"},
		{"PUT", "/set/ttl", "-1", 400, "write seconds"},
		{"PUT", "/set/ttl", "", 400, "write seconds"},
		{"PUT", "/set/ttl", "1.5", 400, "write seconds"},
		{"PUT", "/set/ttl", "10 20", 400, "write seconds"},
		{"PUT", "/set/ttl", "ten", 400, "write seconds"},
		{"PUT", "/set/ttl", huge, 413, "1048576"},

		{"GET", "/services/", "", 404, "no such path: use /"},
		{"GET", "/services/a/b", "", 404, "no such path: use /"},
		{"GET", "/service", "", 404, "no such path: use /"},
		{"GET", "/set", "", 404, "no such path: use /"},
		{"PUT", "/nothing", "1", 404, "no such path: use /"},
	} {
		path, _ := strings.CutSuffix(tt.path, strings.Repeat("0", 59))
		t.Run(fmt.Sprintf("%s %.30s %.60q", tt.method, path, tt.body), func(t *testing.T) {
			h, _ := newTestAPI(t)
			r := call(t, h, tt.method, tt.path, tt.body)
			if r.Code != tt.status {
				t.Fatalf("got status %d, %s; want %d", r.Code, r.Body, tt.status)
			}
			switch {
			case tt.status == http.StatusNoContent:
				if r.Body.Len() != 0 {
					t.Errorf("got body %s; want none", r.Body)
				}
				return
			case tt.status >= 400:
				if got := errorOf(t, r); !strings.Contains(got, tt.want) {
					t.Errorf("got error %q; want one with %q", got, tt.want)
				}
			case !sameJSON(r.Body.String(), tt.want):
				t.Errorf("\ngot  %s;\nwant %s", r.Body, tt.want)
			}
			if got := r.Header().Get("Content-Type"); got != "application/json" {
				t.Errorf("got content type %q; want application/json", got)
			}
		})
	}
}

// Properties that can't be used: 400, and nothing is changed.
func TestAPIBadProperties(t *testing.T) {
	for _, body := range []string{
		``, `{"ttl":1,}`, `{"nme":"foo"}`, `{"name":5}`, `{"name":"a..b"}`, `{"ttl":-2}`, `{"ip":"192.168.0"}`, `{"alias":"."}`, `{"ttl":1,"TTL":2}`,
		`{"name":"` + strings.Repeat("a.", 60) + `a","image":"` + strings.Repeat("b.", 70) + `b","ip":"10.0.0.1"}`,
	} {
		for _, method := range []string{"PATCH", "PUT"} {
			t.Run(fmt.Sprintf("%s %.60q", method, body), func(t *testing.T) {
				h, reg := newTestAPI(t)
				before := call(t, h, "GET", "/services", "").Body.String()
				serial := reg.index.Serial.Load()
				r := call(t, h, method, "/services/manual", body)
				if r.Code != http.StatusBadRequest {
					t.Errorf("got status %d, %s; want 400", r.Code, r.Body)
				}
				if got := errorOf(t, r); strings.HasPrefix(body, `{"name":"a.a.`) && !strings.Contains(got, "over 255 ") {
					t.Errorf("got error %q; want one about 255 bytes", got)
				}
				if got := call(t, h, "GET", "/services", "").Body.String(); got != before || reg.index.Serial.Load() != serial {
					t.Errorf("the services changed to %s; want what was before", got)
				}
			})
		}
	}
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

// What GET gives, PUT takes, and PATCH too, and nothing changes.
func TestAPIRoundTrip(t *testing.T) {
	h, reg := newTestAPI(t)
	for i, body := range []string{
		`{"name":"Foo.BAR","image":"","ips":["10.0.0.1","fd00::1"],"ttl":0,"aliases":["Shop.Example.com","intranet","a_b.docker"]}`,
		`{"name":"a.b_c","image":"x_y","ip":"fd00::1"}`,
		`{"name":"a","image":"b","ip":"fd00::1","txt":["a, b","c\\d\u00e9"],"ports":["80/tcp=http","80/udp"]}`,
		`{"name":"a","image":"b","cname":"a.docker","txt":["a"],"ports":["80"]}`,
		`{"name":"dóckér","image":"x-y","ip":"fd00::1","alias":"ünï.docker, trailing"}`,
	} {
		if r := call(t, h, "PUT", fmt.Sprintf("/services/odd%d", i), body); r.Code != http.StatusCreated {
			t.Fatalf("PUT %s: got %d %s; want 201", body, r.Code, r.Body)
		}
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(call(t, h, "GET", "/services", "").Body.Bytes(), &all); err != nil || len(all) != 8 {
		t.Fatalf("GET /services: got %d services, %v; want 8", len(all), err)
	}
	for _, id := range publish.SortedKeys(all) {
		for _, method := range []string{"PUT", "PATCH"} {
			serial := reg.index.Serial.Load()
			r := call(t, h, method, "/services/"+id, string(all[id]))
			if r.Code != http.StatusOK || !sameJSON(r.Body.String(), string(all[id])) {
				t.Errorf("%s %s: got %d %s; want 200 %s", method, id, r.Code, r.Body, all[id])
			}
			if got := call(t, h, "GET", "/services/"+id, "").Body.String(); !sameJSON(got, string(all[id])) {
				t.Errorf("GET %s after %s: got %s; want %s", id, method, got, all[id])
			}
			if got := reg.index.Serial.Load(); got != serial {
				t.Errorf("%s %s: got serial %d; want %d, as nothing changed", method, id, got, serial)
			}
		}
	}
}

func TestAPIMethods(t *testing.T) {
	all := []string{"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"}
	for path, allowed := range map[string][]string{
		"/services":        {"GET"},
		"/services/manual": {"DELETE", "GET", "PATCH", "PUT"},
		"/ttl":             {"GET"},
		"/set/ttl":         {"PUT"},
	} {
		for _, method := range all {
			t.Run(method+" "+path, func(t *testing.T) {
				h, _ := newTestAPI(t)
				r := call(t, h, method, path, "")
				isAllowed := slices.Contains(allowed, method) || method == "HEAD" && slices.Contains(allowed, "GET")
				if got := r.Code == http.StatusMethodNotAllowed; got == isAllowed {
					t.Fatalf("got status %d; want allowed %t", r.Code, isAllowed)
				}
				if isAllowed {
					return
				}
				if got, want := r.Header().Get("Allow"), strings.Join(allowed, ", "); got != want {
					t.Errorf("got Allow %q; want %q", got, want)
				}
				if got := errorOf(t, r); !strings.Contains(got, method) || !strings.Contains(got, allowed[0]) {
					t.Errorf("got error %q; want one that names %s and what is allowed", got, method)
				}
			})
		}
	}
}

// The effect of each call is seen by DNS.
func TestAPIChangesAnswers(t *testing.T) {
	h, reg := newTestAPI(t)
	matched := func(qname string) (addrs []string) {
		all, _, _ := reg.index.Rrset(reg.index.Match(mustName(t, qname), nil), true, 1000, index.Viewer{})
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
		if got := reg.index.Match(mustName(t, fmt.Sprintf("c%d.app.docker", i)), nil); len(got) != 0 {
			t.Fatalf("after its death: got %v; want no answer", got)
		}
		if got := reg.index.Match(mustName(t, "back.docker"), nil); len(got) != 0 {
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
