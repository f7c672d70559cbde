package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnstest"
)

// An apiService is what the tests read of a service.
type apiService struct {
	Name, Image, IP, CNAME string
	TTL                    int
}

func readService(t *testing.T, body string) (s apiService) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), &s); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return s
}

// An address and a CNAME take each other's place, also over a container that has one of them by
// itself.
func TestAPIAddressOrCNAME(t *testing.T) {
	in, e := startAPI(t)
	lb := &dnstest.Container{
		Name: "lb", Image: "proxy", State: "running", Addr: "172.17.0.9", Env: []string{"DNSDOCK_CNAME=lb.example.com"},
	}
	start := func() {
		e.Set("dddd", lb)
		e.Event("start", dnstest.ID("dddd"))
	}
	in.seen(t, start, "service added", dnstest.ID("dddd"))
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
		status, body := in.call(t, "PATCH", "/services/dddd", step.body)
		if status == http.StatusBadRequest {
			if got := errorOf(t, body); !strings.Contains(got, step.want) {
				t.Errorf("%s: got error %q; want one with %q", step.body, got, step.want)
			}
			continue
		}
		if s := readService(t, body); s.IP+" "+s.CNAME != step.want {
			t.Errorf("%s: got %s and %s; want %q", step.body, s.IP, s.CNAME, step.want)
		}
	}
	lb.Addr = "172.17.0.10"
	start() // a restart changes nothing of it
	in.seen(t, func() { e.Start("eeee", "marker", "172.17.0.11") }, "service added", dnstest.ID("eeee"))
	if _, body := in.call(t, "GET", "/services/dddd", ""); readService(t, body).IP != "10.0.0.8" {
		t.Errorf("after a restart: got %s; want 10.0.0.8", body)
	}
}

// The effect of each call is seen by DNS.
func TestAPIChangesAnswers(t *testing.T) {
	in, _ := startAPI(t)
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
		if status, body := in.call(t, tt.method, tt.path, tt.body); status >= 300 {
			t.Fatalf("%s %s %s: got %d %s; want success", tt.method, tt.path, tt.body, status, body)
		}
		if got := in.addrs(t, tt.qname); !slices.Equal(got, tt.want) {
			t.Errorf("after %s %s %s: %s: got %v; want %v", tt.method, tt.path, tt.body, tt.qname, got, tt.want)
		}
	}
	in.call(t, "PUT", "/set/ttl", "42")
	if got := in.ask(t, "udp", "one.redis.docker", dns.TypeA).Answer[0].Header().Ttl; got != 42 {
		t.Errorf("after PUT /set/ttl: got a TTL of %d; want 42", got)
	}
	if _, got := in.call(t, "GET", "/ttl", ""); strings.TrimSpace(got) != "42" {
		t.Errorf("GET /ttl: got %s; want 42", got)
	}
}

// What the API did to a container holds for as long as the container exists.
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
			in, e := startAPI(t)
			check := func(what, want string) {
				t.Helper()
				got := ""
				for end := time.Now().Add(dnstest.Patience); got != want && time.Now().Before(end); {
					got = "gone"
					if status, body := in.call(t, "GET", "/services/aaaa1", ""); status != http.StatusNotFound {
						s := readService(t, body)
						got = fmt.Sprintf("%s.%s %v %d", s.Name, s.Image, s.IP, s.TTL)
					}
				}
				if got != want {
					t.Errorf("%s: got %s; want %s", what, got, want)
				}
			}
			run := func(state, addr, action string) {
				e.Set("aaaa1", &dnstest.Container{Name: "web", Image: "nginx", State: state, Addr: addr})
				e.Event(action, dnstest.ID("aaaa1"))
			}
			if status, body := in.call(t, tt.method, "/services/aaaa1", tt.body); status >= 300 {
				t.Fatalf("got %d %s; want success", status, body)
			}
			check("at first", tt.want)
			run("exited", "", "die")
			check("stopped", "gone")
			run("running", "172.17.9.9", "start")
			check("after a restart with another address", tt.changed)
			inspects := e.Count("/containers/{id}/json")
			e.Destroy("aaaa1")
			end := time.Now().Add(dnstest.Patience)
			for e.Count("/containers/{id}/json") == inspects && time.Now().Before(end) {
				check("removed", "gone")
			}
			in.seen(t, func() { e.Start("eeee", "later", "172.17.0.11") }, "service added", dnstest.ID("eeee"))
			check("removed", "gone")
			run("running", "172.17.0.2", "start")
			check("another container under that id", "web.nginx 172.17.0.2 -1")
			if status, _ := in.call(t, "GET", "/services/manual", ""); status != http.StatusOK {
				t.Errorf("the one made by hand: got %d; want it there", status)
			}
		})
	}
}

// A container's service that was deleted stays away until it is put again.
func TestAPIDeleteAndPut(t *testing.T) {
	in, e := startAPI(t)
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
		if status, body := in.call(t, step.method, "/services/aaaa1", step.body); status != step.status {
			t.Errorf("%s %s: got %d %s; want %d", step.method, step.body, status, body, step.status)
		}
	}
	e.Set("aaaa1", &dnstest.Container{Name: "web", Image: "nginx", State: "running", Addr: "172.17.0.77"})
	e.Event("start", dnstest.ID("aaaa1"))
	in.seen(t, func() { e.Start("eeee", "marker", "172.17.0.11") }, "service added", dnstest.ID("eeee"))
	if status, body := in.call(t, "GET", "/services/aaaa1", ""); status != http.StatusNotFound {
		t.Errorf("after a restart: got %d %s; want 404: a deleted one stays away", status, body)
	}
}
