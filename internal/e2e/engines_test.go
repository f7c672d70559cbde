package e2e

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnstest"
)

// Several engines, one with a domain of its own, one of them away: each is
// watched by itself.
func TestSeveralEngines(t *testing.T) {
	t.Parallel()
	a, b := dnstest.NewEngine(), dnstest.NewEngine()
	urlB := b.ServeTCP(t, nil)
	for _, e := range []*dnstest.Engine{a, b} { // of a cloned machine: the ids are the same
		e.Set("aa", &dnstest.Container{Name: "web", Image: "nginx", State: "running", Addr: map[*dnstest.Engine]string{a: "10.0.0.1", b: "10.0.0.2"}[e]})
	}
	in := startDnsdock(t, "-docker="+a.ServeTCP(t, nil), "-docker="+urlB+"=b.example,unix:///nosuch/d.sock")
	in.soon(t, "web.nginx.docker A", "NOERROR", "10.0.0.1")
	in.soon(t, "web.nginx.b.example A", "NOERROR", "10.0.0.2")
	in.log.Wait(t, "engine away", "engine=unix:///nosuch/d.sock")
	in.soon(t, "nosuch.docker A", "SERVFAIL") // the one that is away may have it
	in.soon(t, "nosuch.b.example A", "NXDOMAIN")
	in.want(t, "example A", "REFUSED")
	in.want(t, "b.example A", "NOERROR", "10.0.0.2")
	in.want(t, "docker A", "NOERROR", "10.0.0.1")
	in.want(t, "-x 10.0.0.2", "NOERROR", "web.nginx.b.example.")
	m := in.ask(t, "udp", "b.example", dns.TypeSOA)
	if !m.Authoritative || len(m.Answer) != 1 || m.Answer[0].Header().Name != "b.example." {
		t.Errorf("SOA of the domain of its own: got %v", m)
	}
	m = in.ask(t, "udp", "x.y.b.example", dns.TypeA)
	if !m.Authoritative || len(m.Ns) != 1 || m.Ns[0].Header().Name != "b.example." {
		t.Errorf("what does not exist there: got %v; want its SOA", m)
	}
	in.want(t, "b.example NS", "NOERROR", "dnsdock.docker.")

	status, reply := in.call(t, "GET", "/services", "")
	if status != 200 || strings.Count(reply, `"container": "web"`) != 2 {
		t.Errorf("GET /services: got %d %s; want both", status, reply)
	}
	if status, _ := in.call(t, "GET", "/services/aa00", ""); status != http.StatusConflict {
		t.Errorf("the id that both have: got %d; want 409", status)
	}
	second := "/services/" + url.PathEscape(dnstest.ID("aa")+"@"+urlB)
	if status, reply := in.call(t, "PATCH", second, `{"alias":"p.docker"}`); status != 200 {
		t.Errorf("PATCH of the second one's: got %d %s", status, reply)
	}
	in.want(t, "p.docker A", "NOERROR", "10.0.0.2")
	in.want(t, "web.nginx.b.example A", "NOERROR", "10.0.0.2") // is still its name
	in.want(t, "web.nginx.docker A", "NOERROR", "10.0.0.1")
	in.seen(t, func() { b.Destroy("aa") }, "service removed")
	in.want(t, "web.nginx.b.example A", "NXDOMAIN")
	in.want(t, "web.nginx.docker A", "NOERROR", "10.0.0.1")
}

// A zone whose engines all are away is not known, and the others are.
func TestZoneOfEngineAway(t *testing.T) {
	t.Parallel()
	a := dnstest.NewEngine()
	in := startDnsdock(t, "-docker="+a.ServeTCP(t, nil)+",unix:///nosuch/d.sock=b.docker", "-domain=docker")
	in.soon(t, "nosuch.docker A", "NXDOMAIN")
	in.want(t, "nosuch.b.docker A", "SERVFAIL")
	in.log.Wait(t, "engine away")
	in.want(t, "nosuch.b.docker A", "SERVFAIL")
}
