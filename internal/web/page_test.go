package web

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/engine"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/publish"
)

// The page shows so many services and no more, and finds the others.
func TestPageIsBounded(t *testing.T) {
	s := newSite(t)
	for i := range 2 * maxRows {
		s.put(fmt.Sprintf("id%d", i), fmt.Sprintf("c%d", i), fmt.Sprintf("image%d", i%400), "10.0.0.1", "")
	}
	s.resolves("c1777", `{"kind": "refused", "rcode": "REFUSED"}`)
	for query, want := range map[string][]string{
		"":                {fmt.Sprintf("%d found", 2*maxRows), `href="/?from=200"`},
		"?q=C377.":        {"1 found", "c377.image377.docker"},
		"?q=nothing":      {"0 found", "No service fits"},
		"?name=a..b":      {"not for a..b"},
		"?name=c1777":     {"REFUSED"},
		"?q=+10.0.0.1":    {fmt.Sprintf("%d found", 2*maxRows), "those after"},
		"?from=200":       {`href="/?from=0"`, `aria-rowindex="202"`, `data-rows="200"`},
		"?from=9999":      {`aria-rowindex="401"`},
		"?from=-1":        {`aria-rowindex="2"`},
		"?image=image7:7": {"1 found", "c7.image7.docker", `<option value="image7:7" selected>`},
		"?image=gone":     {"0 found", `<option value="gone" selected>`},
	} {
		r := call(t, s.handler(), "GET", "/"+query, "")
		if r.Code != http.StatusOK || !dnstest.ContainsAll(r.Body.String(), want) {
			t.Errorf("%s: got %d %.3000s; want %q", query, r.Code, r.Body, want)
		}
		if got := r.Header().Get("Content-Type"); got != "text/html; charset=utf-8" {
			t.Errorf("%s: got content type %q", query, got)
		}
	}
	r := call(t, newSite(t).handler(), "GET", "/", "")
	if !strings.Contains(r.Body.String(), "No service is published") {
		t.Errorf("without services: got %s", r.Body)
	}
}

// Text stays text where it may be put: between tags and in quoted attributes.
func TestMarkup(t *testing.T) {
	var m markup
	m.put(`<p title="%s">%s</p>`, `"><script>'&%s{{name}}`, "<!--</p>\xff\x00")
	want := "<p title=\"&#34;&gt;&lt;script&gt;&#39;&amp;%s{{name}}\">&lt;!--&lt;/p&gt;\uFFFD\x00</p>"
	if got := m.String(); got != want {
		t.Errorf("got %q; want %q", got, want)
	}
	page := call(t, newSite(t).handler(), "GET", "/?q={{name}}&type={{nonce}}&client={{services}}", "").Body.String()
	for _, part := range []string{`value="{{name}}"`, `value="{{nonce}}"`, `value="{{services}}"`} { // no part is put into another
		if strings.Count(page, part) != 1 {
			t.Errorf("%s is not there once", part)
		}
	}
	if left := regexp.MustCompile(`\{\{[a-z]+\}\}`).FindAllString(page, -1); len(left) != 3 {
		t.Errorf("got %q", left)
	}
}

// The page shows the host's address, Compose names, where a service is from, and what is unhealthy.
func TestPageShowsAll(t *testing.T) {
	s := newSite(t)
	s.put("id", "web", "nginx", "", "shop.example.com", func(s *publish.Service) {
		s.Addrs, s.SecondNames, s.Sick = []netip.Addr{{}}, []dnsname.Name{mustName(t, "1.web.shop.docker")}, true
	})
	s.put("byhand", "a", "b", "", "", func(s *publish.Service) {
		s.CNAME, s.Origin = mustName(t, "www.example.com"), publish.Origin{State: "running"}
	})
	s.engines = append(s.engines, engine.Status{URL: "tcp://10.0.0.5:2375", Error: "no <route>"})
	f := func(query string, parts ...string) {
		t.Helper()
		body := call(t, s.handler(), "GET", "/?q="+query, "").Body.String()
		for _, part := range parts {
			if !strings.Contains(body, part) {
				t.Errorf("the page for %q has no %s", query, part)
			}
		}
	}
	f("web.shop", ">host<", ">1.web.shop.docker<", ">shop.example.com<", ">unhealthy<",
		"at unix:///var/run/docker.sock", "1 found")
	f("WWW.example", "CNAME <code>www.example.com<", "by hand", "1 found", "no &lt;route&gt;")
	f("byhand", "1 found")
	f("running", "2 found")
}

// Names are shown in both spellings and found by either. Second names are apart.
func TestPageShowsBothSpellings(t *testing.T) {
	s := newSite(t)
	s.put("id", "web", "nginx", "10.0.0.1", "xn--bcher-kva.example", func(s *publish.Service) {
		s.SecondNames = []dnsname.Name{mustName(t, "1.web.shop.docker")}
	})
	s.put("other", "db", "redis", "10.0.0.2", "")
	s.resolves("bücher.example", `{
		"kind": "own", "rcode": "NOERROR", "name": "xn--bcher-kva.example", "unicode": "bücher.example",
		"why": [{"name": "x", "rule": "y", "services": [
			{"id": "id", "names": ["a.docker"], "second_names": ["b.docker"]}]}]}`)
	for _, query := range []string{"q=b%C3%BCcher", "q=B%C3%9CCHER.example", "q=XN--bcher", "q=bcher-kva", "q=1.web.shop"} {
		body := call(t, s.handler(), "GET", "/?"+query, "").Body.String()
		for _, part := range []string{"1 found", ">xn--bcher-kva.example<", ">bücher.example<"} {
			if !strings.Contains(body, part) {
				t.Errorf("the page for %q has no %s", query, part)
			}
		}
		_, second, ok := strings.Cut(body, "where no other name fits")
		if !ok || !strings.Contains(second, ">1.web.shop.docker<") || strings.Contains(second, ">web.nginx.docker<") {
			t.Errorf("the page for %q does not show second names apart: %s", query, second)
		}
	}
	body := call(t, s.handler(), "GET", "/?name=b%C3%BCcher.example", "").Body.String()
	if !dnstest.ContainsAll(body, []string{"<code>xn--bcher-kva.example</code>", "bücher.example</span>", "by second names", "<code>b.docker"}) {
		t.Errorf("the answer does not show both spellings: %s", body)
	}
}

// Of a nameserver that was never asked the page does not know whether it answers.
func TestPageShowsUpstreams(t *testing.T) {
	f := func(u forward.UpstreamStatus, want string) {
		t.Helper()
		s := newSite(t)
		s.upstream = u
		body := call(t, s.handler(), "GET", "/", "").Body.String()
		for _, state := range []string{"not asked yet", "answers", "silent"} {
			if got := strings.Contains(body, ">"+state+"</span>"); got != (state == want) {
				t.Errorf("%+v: %q is there: %t; want %q alone", u, state, got, want)
			}
		}
	}
	f(forward.UpstreamStatus{Addr: "192.0.2.53:53", Up: true}, "not asked yet")
	f(forward.UpstreamStatus{Addr: "192.0.2.53:53", Up: true, Queries: 1}, "answers")
	f(forward.UpstreamStatus{Addr: "192.0.2.53:53", Up: false, Queries: 3, Failures: 3}, "silent")
}

// Services come first: they are what one comes for.
func TestPageOrder(t *testing.T) {
	body, at := call(t, newSite(t).handler(), "GET", "/", "").Body.String(), 0
	for _, part := range []string{"<h2>Services", "<h2>Resolve", "<h2>Engines", "<h2>Nameservers", "<h2>Queries"} {
		i := strings.Index(body, part)
		if i < at {
			t.Errorf("%s is at %d; want it behind %d", part, i, at)
		}
		at = i
	}
}

// Searches wait for each other. If too many wait, others are refused at once.
func TestPageSearchesAreBounded(t *testing.T) {
	s, release := newSite(t), make(chan bool)
	s.put("id", "web", "nginx", "10.0.0.1", "")
	var walking atomic.Int32
	page := &Page{Status: s.status, Resolve: s.resolve, Lines: s.lines.About}
	page.Services = func(yield func(*publish.Service) bool) {
		if walking.Add(1) > 1 {
			t.Error("two searches at once")
		}
		<-release
		walking.Add(-1)
		s.all(yield)
	}
	replies := make(chan *httptest.ResponseRecorder, maxSearches)
	search := func(ctx context.Context) {
		w := httptest.NewRecorder()
		page.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "http://127.0.0.1/?q=web", nil))
		replies <- w
	}
	ctx, cancel := context.WithCancel(t.Context())
	for range maxSearches {
		go search(ctx)
	}
	for page.searches.Load() < maxSearches || walking.Load() == 0 {
		runtime.Gosched()
	}
	search(t.Context()) // one too many
	r := <-replies
	if r.Code != 503 || r.Header().Get("Retry-After") == "" || !strings.Contains(errorOf(t, r), "try again") {
		t.Errorf("got %d %s; want 503", r.Code, r.Body)
	}
	cancel() // the clients went away, so there is no search for those who wait
	release <- true
	for range maxSearches {
		if r := <-replies; r.Code == 200 && !strings.Contains(r.Body.String(), "1 found") {
			t.Errorf("got %s; want a page with the service", r.Body)
		}
	}
	go search(t.Context()) // there is room again
	release <- true
	if r := <-replies; r.Code != 200 {
		t.Errorf("got %d %s; want 200", r.Code, r.Body)
	}
}

// In a swarm services have nodes, and engines a part in it. Elsewhere nothing is said of it.
func TestPageShowsSwarm(t *testing.T) {
	s := newSite(t)
	s.put("id", "web.1.x7kq", "nginx", "10.0.0.1", "", func(s *publish.Service) {
		s.Origin.Task = &publish.Task{ID: "x7kq", Service: "shop_web", Stack: "shop", Slot: 1, Node: "beta"}
	})
	s.put("plain", "db", "redis", "10.0.0.2", "")
	s.put("vip:1", "shop_web", "v", "10.0.0.9", "", func(s *publish.Service) { s.VIP, s.Origin.Image = "1", "" })
	s.put("node:1", "beta", "n", "192.0.2.1", "", func(s *publish.Service) {
		s.IsNode, s.Origin.Task = true, &publish.Task{Node: "beta"}
	})
	s.resolves("web.docker", `{"kind": "own", "rcode": "NOERROR", "why": [{"name": "x", "rule": "y", "services": [
		{"id": "id", "service": "shop_web", "task": "x7kq", "node": "beta"}]}]}`)
	page := func(query string) string { return call(t, s.handler(), "GET", "/"+query, "").Body.String() }
	column := []string{"<th>node", `<td data-label="node">`}
	if body := page(""); strings.Contains(body, column[0]) || strings.Contains(body, column[1]) {
		t.Error("without a swarm there is a column for nodes")
	}
	s.engines[0].Swarm = &engine.Swarm{
		Role: "manager", Node: "<alpha>", Up: true, Services: 2, Tasks: 5, Nodes: 3,
	}
	if body := page(""); strings.Count(body, column[1]) != 4 || strings.Contains(body, "not told now") ||
		!dnstest.ContainsAll(body, []string{
			column[0], `<td data-label="node">beta<td`, "<code>shop_web</code>", "<code>x7kq</code>",
			"virtual address of a service", `beta <span class="dim">node`,
			"manager of a swarm, on the node &lt;alpha&gt;", "5 tasks of 2 services on 3 nodes",
		}) {
		t.Errorf("of a manager the page is %s", body)
	}
	for query, want := range map[string]string{
		"?q=BETA": "2 found", "?q=shop_w": "2 found", "?name=web.docker": "of the service shop_web on the node beta",
	} {
		if body := page(query); !strings.Contains(body, want) {
			t.Errorf("%s: got %s; want %q", query, body, want)
		}
	}
	s.engines[0].Swarm = &engine.Swarm{Role: "worker", Node: "beta", Tasks: 1, Networks: 2, Error: "no <leader>"}
	if body := page(""); !dnstest.ContainsAll(body, []string{
		"worker of a swarm, on the node beta", "1 tasks</span>", "not told now", "no &lt;leader&gt;",
	}) {
		t.Errorf("of a worker the page is %s", body)
	}
}
