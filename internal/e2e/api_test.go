package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnstest"
)

const manualBody = `{"name":"foo","image":"bar","ip":"192.168.0.3","ttl":30}`

// startAPI runs the program with two containers that run, one that is stopped, and one service made
// by hand.
func startAPI(t *testing.T) (*instance, *dnstest.Engine) {
	t.Helper()
	e := dnstest.NewEngine()
	six := map[string]dnstest.Endpoint{"bridge": {IPAddress: "172.17.0.2", GlobalIPv6Address: "fd00::2"}}
	e.Set("aaaa1", &dnstest.Container{
		Name: "web", Image: "nginx", State: "running", Networks: six, Env: []string{"DNSDOCK_ALIAS=www.docker"},
	})
	e.Set("aaaa2", &dnstest.Container{Name: "one", Image: "redis", State: "running", Addr: "172.17.0.3"})
	e.Set("bbbb0", &dnstest.Container{Name: "down", Image: "redis", State: "exited"})
	in := startDnsdock(t, "-docker="+e.ServeTCP(t, nil))
	in.ready(t)
	if status, body := in.call(t, "PUT", "/services/manual", manualBody); status != http.StatusCreated {
		t.Fatalf("PUT of a service: got %d %s; want 201", status, body)
	}
	return in, e
}

// services returns all services as the API shows them, by ID.
func (in *instance) services(t *testing.T) map[string]json.RawMessage {
	t.Helper()
	var all map[string]json.RawMessage
	if _, body := in.call(t, "GET", "/services", ""); json.Unmarshal([]byte(body), &all) != nil {
		t.Fatalf("GET /services: got %s", body)
	}
	return all
}

// restore gives all services back what they were.
func (in *instance) restore(t *testing.T, were map[string]json.RawMessage) {
	t.Helper()
	for id := range in.services(t) {
		if were[id] == nil {
			in.call(t, "DELETE", "/services/"+strings.ReplaceAll(strings.ReplaceAll(id, "/", "%2F"), " ", "%20"), "")
		}
	}
	for id, body := range were {
		in.call(t, "PUT", "/services/"+id, string(body))
	}
	in.call(t, "PUT", "/set/ttl", "0")
}

// sameJSON reports whether both texts are the same value, except for what differs from run to run.
func sameJSON(a, b string) bool {
	var x, y any
	varies := regexp.MustCompile(`,\s*"(since|state)":\s*"[^"]*"|"engine":\s*"[^"]*",`)
	read := func(text string, v *any) error { return json.Unmarshal(varies.ReplaceAll([]byte(text), nil), v) }
	return read(a, &x) == nil && read(b, &y) == nil && reflect.DeepEqual(x, y)
}

// errorOf returns the text of an error reply; the test fails if it has another form.
func errorOf(t *testing.T, body string) string {
	t.Helper()
	var e map[string]string
	if err := json.Unmarshal([]byte(body), &e); err != nil || len(e) != 1 || e["error"] == "" {
		t.Errorf(`got body %s; want {"error": "..."}`, body)
	}
	return e["error"]
}

// serial returns the SOA serial, which grows with each change.
func (in *instance) serial(t *testing.T) uint32 {
	t.Helper()
	return in.ask(t, "udp", "docker", dns.TypeSOA).Answer[0].(*dns.SOA).Serial
}

func TestAPI(t *testing.T) {
	const (
		web = `{"name":"web","image":"nginx","ip":"172.17.0.2","ips":["172.17.0.2","fd00::2"],"ttl":-1,` +
			`"aliases":["www.docker"],"names":["web.nginx.docker","www.docker"],` +
			`"origin":{"container":"web","image":"nginx"},"settings":{"$DNSDOCK_ALIAS":"www.docker"}}`
		redis = `{"name":"one","image":"redis","ip":"172.17.0.3","ips":["172.17.0.3"],"ttl":-1,` +
			`"aliases":[],"names":["one.redis.docker"],"origin":{"container":"one","image":"redis"}}`
		manual = `{"name":"foo","image":"bar","ip":"192.168.0.3","ips":["192.168.0.3"],"ttl":30,` +
			`"aliases":[],"names":["foo.bar.docker"],"origin":{}}`
	)
	const alias = `{"name":"foo","image":"bar","ip":"","ips":[],"cname":"www.example.com","ttl":30,` +
		`"aliases":[],"names":["foo.bar.docker"],"origin":{}}`
	with := func(service string, oldNew ...string) string { return strings.NewReplacer(oldNew...).Replace(service) }
	huge := strings.Repeat(" ", 1<<20+1)
	tests := []struct {
		method, path, body string
		status             int
		want               string // the same JSON; for an error, a part of its text
	}{
		{"GET", "/services", "", 200, `{"` + dnstest.ID("aaaa1") + `":` + web + `,"` + dnstest.ID("aaaa2") + `":` + redis + `,"manual":` + manual + `}`},
		{"GET", "/services/manual", "", 200, manual},
		{"GET", "/services/" + dnstest.ID("aaaa1"), "", 200, web},
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
		{"PUT", "/services/new", `{"name":"under_score","image":"a.b","ip":"192.168.0.3","ttl":30}`, 201, with(manual, `"foo"`, `"under_score"`, `"bar"`, `"a.b"`, "foo.bar.docker", "under_score.a.b.docker", `"origin"`, `"second_names":["under-score.a.b.docker"],"origin"`)},
		{"PUT", "/services/new", `{"name":"foo","image":"bar","ip":"192.168.0.3","ttl":30,"txt":"v=1, a","ports":["443","80/tcp=HTTP","80/tcp=http"]}`, 201,
			with(manual, `"ttl":30`, `"txt":["v=1, a"],"ports":["80/tcp=http","443/tcp"],"ttl":30`)},
		{"PUT", "/services/new", `{"name":"foo","image":"bar","cname":"WWW.example.com.","ttl":30}`, 201, alias},
		{"PUT", "/services/new", `{"name":"foo","image":"bar","ip":"","ips":[],"cname":"www.example.com","ttl":30,"txt":[],"ports":""}`, 201, alias},
		{"PUT", "/services/manual", `{"name":"foo","image":"bar","cname":"www.example.com","ttl":30}`, 200, alias},
		{"PUT", "/services/new", `{"name":"foo","image":"bar","cname":""}`, 400, `"ip" is missing`},
		{"PUT", "/services/new", "\n " + manualBody + "\n\n", 201, manual},
		{"PUT", "/services/new", manualBody + strings.Repeat(" ", 1<<20-len(manualBody)), 201, manual},
		{"PUT", "/services/a%2Fb%20c", manualBody, 201, manual},
		{"PUT", "/services/" + strings.Repeat("x", 255), manualBody, 201, manual},
		{"PUT", "/services/" + strings.Repeat("x", 256), manualBody, 400, "255 bytes"},
		{"PUT", "/services/aaaa1", manualBody, 200, with(manual, `"origin":{}`,
			`"origin":{"container":"web","image":"nginx"},"settings":{"$DNSDOCK_ALIAS":"www.docker"}`)},
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
		{"PATCH", "/services/" + dnstest.ID("aaaa1"), `{"aliases":[]}`, 200, with(web, `"aliases":["www.docker"]`, `"aliases":[]`, `,"www.docker"`, ``)},
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
		{"DELETE", "/services/" + dnstest.ID("aaaa2"), "", 204, ""},
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
	}
	in, _ := startAPI(t)
	before := in.services(t)
	for _, tt := range tests {
		path, _ := strings.CutSuffix(tt.path, strings.Repeat("0", 59))
		t.Run(fmt.Sprintf("%s %.30s %.60q", tt.method, path, tt.body), func(t *testing.T) {
			defer in.restore(t, before)
			status, body := in.call(t, tt.method, tt.path, tt.body)
			switch {
			case status != tt.status:
				t.Errorf("got status %d, %s; want %d", status, body, tt.status)
			case status == http.StatusNoContent && body != "":
				t.Errorf("got body %s; want none", body)
			case status >= 400 && !strings.Contains(errorOf(t, body), tt.want):
				t.Errorf("got error %s; want one with %q", body, tt.want)
			case status < 300 && tt.want != "" && !sameJSON(body, tt.want):
				t.Errorf("\ngot  %s;\nwant %s", body, tt.want)
			}
		})
	}
}

// Properties that can't be used: 400, and nothing is changed.
func TestAPIBadProperties(t *testing.T) {
	in, _ := startAPI(t)
	before, serial := in.services(t), in.serial(t)
	for _, body := range []string{
		``, `{"ttl":1,}`, `{"nme":"foo"}`, `{"name":5}`, `{"name":"a..b"}`, `{"ttl":-2}`, `{"ip":"192.168.0"}`, `{"alias":"."}`, `{"ttl":1,"TTL":2}`,
		`{"name":"` + strings.Repeat("a.", 60) + `a","image":"` + strings.Repeat("b.", 70) + `b","ip":"10.0.0.1"}`,
	} {
		for _, method := range []string{"PATCH", "PUT"} {
			t.Run(fmt.Sprintf("%s %.60q", method, body), func(t *testing.T) {
				status, reply := in.call(t, method, "/services/manual", body)
				if status != http.StatusBadRequest {
					t.Errorf("got status %d, %s; want 400", status, reply)
				}
				got := errorOf(t, reply)
				if strings.HasPrefix(body, `{"name":"a.a.`) && !strings.Contains(got, "over 255 ") {
					t.Errorf("got error %q; want one about 255 bytes", got)
				}
				same := func(a, b json.RawMessage) bool { return string(a) == string(b) }
				if all := in.services(t); !maps.EqualFunc(all, before, same) || in.serial(t) != serial {
					t.Errorf("the services changed to %s; want what was before", all)
				}
			})
		}
	}
}

// What GET gives, PUT takes, and PATCH too, and nothing changes.
func TestAPIRoundTrip(t *testing.T) {
	in, _ := startAPI(t)
	for i, body := range []string{
		`{"name":"Foo.BAR","image":"","ips":["10.0.0.1","fd00::1"],"ttl":0,"aliases":["Shop.Example.com","intranet","a_b.docker"]}`,
		`{"name":"a.b_c","image":"x_y","ip":"fd00::1"}`,
		`{"name":"a","image":"b","ip":"fd00::1","txt":["a, b","c\\d\u00e9"],"ports":["80/tcp=http","80/udp"]}`,
		`{"name":"a","image":"b","cname":"a.docker","txt":["a"],"ports":["80"]}`,
		`{"name":"dóckér","image":"x-y","ip":"fd00::1","alias":"ünï.docker, trailing"}`,
	} {
		if status, reply := in.call(t, "PUT", fmt.Sprintf("/services/odd%d", i), body); status != http.StatusCreated {
			t.Fatalf("PUT %s: got %d %s; want 201", body, status, reply)
		}
	}
	all := in.services(t)
	if len(all) != 8 {
		t.Fatalf("GET /services: got %d services; want 8", len(all))
	}
	for id, service := range all {
		for _, method := range []string{"PUT", "PATCH"} {
			serial := in.serial(t)
			status, reply := in.call(t, method, "/services/"+id, string(service))
			if status != http.StatusOK || !sameJSON(reply, string(service)) {
				t.Errorf("%s %s: got %d %s; want 200 %s", method, id, status, reply, service)
			}
			if _, got := in.call(t, "GET", "/services/"+id, ""); !sameJSON(got, string(service)) {
				t.Errorf("GET %s after %s: got %s; want %s", id, method, got, service)
			}
			isContainer := len(id) == 64 // its addresses are now set by hand, and so answered to all clients alike
			if got := in.serial(t); got != serial && !isContainer {
				t.Errorf("%s %s: got serial %d; want %d, as nothing changed", method, id, got, serial)
			}
		}
	}
}

// Methods that a path does not have: 405, with those that it has.
func TestAPIMethods(t *testing.T) {
	in, _ := startAPI(t)
	all := []string{"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"}
	for path, allowed := range map[string][]string{
		"/services":        {"GET"},
		"/services/manual": {"DELETE", "GET", "PATCH", "PUT"},
		"/ttl":             {"GET"},
		"/set/ttl":         {"PUT"},
		"/cache":           {"DELETE"},
		"/":                {"GET"},
		"/events":          {"GET"},
	} {
		for _, method := range all {
			isAllowed := slices.Contains(allowed, method) || method == "HEAD" && slices.Contains(allowed, "GET")
			if path == "/events" && isAllowed {
				continue // its reply does not end
			}
			req, err := http.NewRequestWithContext(t.Context(), method, in.http+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			var e map[string]string
			err = json.NewDecoder(resp.Body).Decode(&e)
			_ = resp.Body.Close()
			switch got, want := resp.Header.Get("Allow"), strings.Join(allowed, ", "); {
			case (resp.StatusCode == http.StatusMethodNotAllowed) == isAllowed:
				t.Errorf("%s %s: got status %d; want allowed %t", method, path, resp.StatusCode, isAllowed)
			case isAllowed:
			case method == "HEAD": // has no body
			case got != want:
				t.Errorf("%s %s: got Allow %q; want %q", method, path, got, want)
			case err != nil || !strings.Contains(e["error"], method) || !strings.Contains(e["error"], allowed[0]):
				t.Errorf("%s %s: got error %q; want one that names it and what is allowed", method, path, e)
			}
		}
	}
}

// Parameters of /resolve that can't be used: 400, with what to write.
func TestResolveParameters(t *testing.T) {
	in := startDnsdock(t, noEngine(t))
	for query, want := range map[string]string{
		"type=A":                            "parameter name: empty name: write one",
		"name=a..b":                         `parameter name: "a..b" is no domain name: write labels`,
		"name=docker&type=NONSENSE":         "parameter type: write a type",
		"name=docker&type=TYPE65536":        "parameter type: write a type",
		"name=docker&client=redis":          "parameter client: write an IPv4 or IPv6 address",
		"name=docker&client=fe80::1%25eth0": "parameter client: write an IPv4 or IPv6 address",
	} {
		status, body := in.call(t, "GET", "/resolve?"+query, "")
		if got := errorOf(t, body); status != http.StatusBadRequest || !strings.HasPrefix(got, want) {
			t.Errorf("%s: got %d %s; want 400 and %s", query, status, got, want)
		}
	}
	for _, query := range []string{"name=docker&type=TYPE65", "name=DOCKER.&type=srv&client=::1", "name=b%C3%BCcher.docker"} {
		if status, body := in.call(t, "GET", "/resolve?"+query, ""); status != http.StatusOK {
			t.Errorf("%s: got %d %s; want 200", query, status, body)
		}
	}
}
