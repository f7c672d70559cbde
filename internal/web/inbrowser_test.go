package web

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/zone"
)

// steps is the graph of 0, 30 and 60 queries in three minutes.
const steps = "57,29.0 58,29.0 58,15.0 59,15.0 59,1.0 60,1.0"

// Expressions on the page.
const (
	rowsOf = "[...document.querySelectorAll('#services tbody tr')]"
	answer = "document.getElementById('answer').innerText"
	isLive = "document.getElementById('live').textContent === 'live'"
)

func hasRow(text string) string {
	return fmt.Sprintf("%s.some(r => r.innerText.includes(%q))", rowsOf, text)
}
func rows(n int) string { return fmt.Sprintf("%s.length === %d", rowsOf, n) }
func answers(text string) string {
	return fmt.Sprintf("%s.includes(%q)", answer, text)
}

// resolves sets what the page is told of a name: a zone.Resolution in JSON.
func (s *site) resolves(name, text string) {
	s.t.Helper()
	var res zone.Resolution
	if err := json.Unmarshal([]byte(text), &res); err != nil {
		s.t.Fatal(err)
	}
	s.update(func() { s.answers[name] = &res })
}

// The overview page in a browser, while services come and go.
func TestPageInBrowser(t *testing.T) {
	b := startBrowser(t)
	s := newSite(t)
	s.put("a0", "redis1", "redis", "172.17.0.2", "")
	s.put("a1", "redis2", "redis", "172.17.0.3", "")
	s.put("b0", "shop_web_1", "nginx", "172.17.0.7 fd00:dd::7", "shop.example.com www.docker",
		func(s *publish.Service) {
			s.TTL, s.TXT = 30, []string{"v=1, a b"}
			s.Origin.Notes = &publish.Notes{
				Project:  "shop",
				Settings: []publish.Setting{{Source: "$DNSDOCK_TTL", Value: "x"}}, Problems: []string{"not a number"},
			}
			s.Ports = []publish.Port{{Number: 80, Proto: "tcp", Name: "http"}}
		})
	s.resolves("redis.docker", `{"kind": "own", "rcode": "NOERROR", "client": "127.0.0.1",
		"answers": [
			{"name": "redis.docker", "type": "A", "data": "172.17.0.2"},
			{"name": "redis.docker", "type": "A", "data": "172.17.0.3"}],
		"why": [{"name": "redis.docker", "rule": "at it, below it or above it",
			"services": [{"id": "a0", "container": "redis1", "names": ["redis1.redis.docker"]}]}]}`)
	s.resolves("www.example.org", `{"kind": "forwarded", "client": "127.0.0.1", "forward": ["192.0.2.53:53"]}`)
	srv := httptest.NewUnstartedServer(nil)
	srv.Config = NewServer(t.Context(), s.handler(), discard)
	srv.Start()
	t.Cleanup(srv.Close)
	for _, part := range []struct {
		name string
		test func(*testing.T, *browser, *site, string)
	}{
		{"live", pageIsLive}, {"search", pageSearches}, {"filters", pageFilters}, {"window", pageScrolls}, {"resolve", pageResolves}, {"copy", pageCopies}, {"plots", pagePlots}, {"sizes", pageFits},
		{"details", pageHasDetails}, {"keyboard", pageHasKeys}, {"accessible", pageIsAccessible},
		{"hostile text", pageEscapes}, {"other name", pageByName}, {"engine", pageShowsEngine}, {"no script", pageWithoutScript},
	} {
		t.Run(part.name, func(t *testing.T) {
			b.t = t
			part.test(t, b, s, srv.URL)
		})
		b.t = t
		if t.Failed() {
			return
		}
	}

	// The server ends: the page says so.
	b.open(srv.URL + "/")
	b.wait(isLive)
	troubles := b.troubles
	_ = srv.Config.Close()
	b.wait("document.getElementById('live').textContent.startsWith('not live')")
	for _, text := range troubles {
		// Chromium gives up what it loads when an interface of this machine comes or goes.
		if !strings.Contains(text, "net::ERR_NETWORK_CHANGED") {
			t.Errorf("the console says: %.300s", text)
		}
	}
	for _, url := range slices.Compact(slices.Sorted(slices.Values(b.urls))) {
		if !strings.HasPrefix(url, srv.URL) && !strings.HasPrefix(url, "http://dnsdock.docker:") && url != "data:," {
			t.Errorf("the page asks %s", url)
		}
	}
}

// Services come, change and go.
func pageIsLive(_ *testing.T, b *browser, s *site, url string) {
	b.size(1100, 900, "light")
	b.open(url + "/")
	b.wait(isLive)
	b.wait(rows(3))
	for _, want := range []string{"shop_web_1.nginx.docker", "shop.example.com", "fd00:dd::7", "30 s", "running", "3 h", "redis:7"} {
		b.wait(hasRow(want))
	}
	s.put("c0", "late", "redis", "172.17.0.9", "")
	b.wait(hasRow("late.redis.docker"))
	s.put("c0", "late", "redis", "172.17.0.9", "", func(s *publish.Service) { s.TTL = 77 })
	b.wait(hasRow("77 s"))
	s.remove("c0")
	b.wait(rows(3))
}

func pageSearches(_ *testing.T, b *browser, _ *site, _ string) {
	b.press("/", "/") // the key goes to the search
	b.write("REDIS")
	b.wait(rows(2))
	b.write(" nothing")
	b.wait(rows(0) + " && document.getElementById('services').innerText.includes('No service fits')")
	b.eval("search.value = '172.17.0.7'; search.dispatchEvent(new Event('input', {bubbles: true}))")
	b.wait(rows(1))
	b.eval("search.value = ''; search.dispatchEvent(new Event('input', {bubbles: true}))")
	b.wait(rows(3))
}

func pageResolves(_ *testing.T, b *browser, s *site, _ string) {
	b.eval("resolve.elements.name.focus()")
	b.write("redis.docker")
	b.press("Enter", "\r")
	for _, want := range []string{
		"NOERROR", "own", "172.17.0.2", "172.17.0.3", "redis1.redis.docker", "at it, below it or above it",
	} {
		b.wait(answers(want))
	}
	resolve := func(property, value string) {
		b.eval(fmt.Sprintf("resolve.elements.%s.value = %q", property, value))
		b.eval("document.querySelector('#resolve button').click()")
	}
	resolve("name", "www.example.org")
	b.wait(answers("forwarded") + " && " + answers(s.upstream.Addr))
	resolve("type", "NONSENSE")
	b.wait(answers("write a type"))
	b.eval("resolve.elements.type.value = 'A'")
	resolve("name", "redis.docker")
	b.wait(answers("172.17.0.3"))
}

// A name is copied by a click, and by a key.
func pageCopies(_ *testing.T, b *browser, _ *site, _ string) {
	taken := "navigator.clipboard.readText().then(text => window.taken = text) && window.taken === "
	b.call("Browser.grantPermissions", map[string]any{"permissions": []string{"clipboardReadWrite", "clipboardSanitizedWrite"}})
	b.eval("document.querySelector('#services button.copy').click()")
	b.wait(taken + "document.querySelector('#services button.copy').textContent")
	b.eval("[...document.querySelectorAll('#services button.copy')].at(-1).focus()")
	b.press("Enter", "\r")
	b.wait("document.getElementById('copied').textContent === 'copied ' + document.activeElement.textContent")
	b.wait(taken + "document.activeElement.textContent")
}

func pagePlots(_ *testing.T, b *browser, s *site, _ string) {
	for range 3 {
		s.update(func() { s.queries["own"] += 20; s.queries["forwarded"] += 20 })
		n := s.status().Queries["forwarded"]
		b.wait(fmt.Sprintf("parseInt(document.querySelector('.forwarded .total').textContent) === %d", n))
	}
	b.wait("document.querySelector('.own .total').textContent >= '2'")
	b.wait("document.querySelector('.own polyline').getAttribute('points') === '" + steps + "'")
	b.wait("document.querySelector('.forwarded polyline').getAttribute('points') === '58,26.7 59,26.7 59,1.0 60,1.0'")
	b.wait("document.querySelector('.own .rate').textContent.endsWith('/s')")
}

// The page fits a phone, and is dark where that is asked for.
func pageFits(t *testing.T, b *browser, _ *site, _ string) {
	b.eval("scrollTo(0, 0)")
	b.shoot("light")
	light := b.eval("getComputedStyle(document.body).backgroundColor")
	b.size(1100, 900, "dark")
	b.shoot("dark")
	if dark := b.eval("getComputedStyle(document.body).backgroundColor"); dark == light {
		t.Errorf("the background is %v where dark is asked for too", dark)
	}
	b.size(360, 800, "light")
	b.shoot("phone")
	b.eval("document.querySelector('#services').scrollIntoView()")
	b.shoot("phone-services")
	if b.eval("document.documentElement.scrollWidth <= innerWidth") != true {
		t.Errorf("at phone width it is %v wide", b.eval("document.documentElement.scrollWidth"))
	}
}

// A row opens to all that is known of a service, and stays open while others change.
func pageHasDetails(_ *testing.T, b *browser, s *site, _ string) {
	details := "document.querySelector('tr[data-id=b0] details')"
	for key, value := range map[string]string{"id": "b0", "container": "shop_web_1"} {
		slog.New(s.lines.Keep(slog.DiscardHandler)).Warn("a line by "+key, key, value)
	}
	b.eval("refresh()")
	b.wait(details + ".textContent.includes('a line by id')")
	b.wait("!" + details + ".open && !" + details + ".innerText.includes('80/tcp')")
	b.eval(details + ".querySelector('summary').click()")
	b.wait(details + ".open && " + details + ".innerText.includes('80/tcp=http')")
	for _, want := range []string{"v=1, a b", "shop", "$DNSDOCK_TTL=x", "not a number", "WARN a line by id", "WARN a line by container"} {
		b.wait(fmt.Sprintf("%s.innerText.includes(%q)", details, want))
	}
	b.eval(details + ".querySelector('summary').focus()")
	s.put("c0", "late", "redis", "172.17.0.9", "")
	b.wait(hasRow("late.redis.docker"))
	b.wait(details + ".open && document.activeElement === " + details + ".querySelector('summary')")
	s.remove("c0")
	b.wait(rows(3) + " && " + details + ".open")
}

// The keyboard reaches all that can be used.
func pageHasKeys(t *testing.T, b *browser, _ *site, _ string) {
	b.eval("document.activeElement.blur()")
	seen := map[string]bool{}
	for range 40 {
		b.press("Tab", "")
		seen[fmt.Sprint(b.eval("document.activeElement.name || document.activeElement.textContent"))] = true
	}
	for _, want := range []string{"name", "type", "client", "Resolve", "q", "redis1.redis.docker", "www.docker"} {
		if !seen[want] {
			t.Errorf("the key Tab never comes to %q", want)
		}
	}
}

// Whatever a container says is text.
func pageEscapes(t *testing.T, b *browser, s *site, url string) {
	const script = `<script>window.pwned=1</script>`
	const evil = `"'><img src=//evil.example onerror=window.pwned=1>` + script
	s.put("d0", "d0", "x", "172.17.0.8", "", func(s *publish.Service) {
		image := "javascript:alert(1)" + script + "{{.}}${1}"
		s.Origin = publish.Origin{Engine: evil, Container: evil, Image: image, State: script}
	})
	s.put(evil, "d1", "x", "", "", func(s *publish.Service) {
		s.Aliases = []dnsname.Name{mustName(t, "<script>window-pwned=1<\\047script>.docker")}
		s.CNAME, s.Origin, s.Sick = mustName(t, "<script>.docker"), publish.Origin{}, true
	})
	s.resolves("<script>window.pwned=1</script>.docker", `{"kind": "own", "rcode": "<script>",
		"why": [{"name": "<script>window.pwned=1</script>", "rule": "<img>"}]}`)
	b.wait(hasRow("<script>window.pwned=1<"))
	b.wait(hasRow("javascript:alert"))
	b.eval("resolve.elements.name.value = '<script>window.pwned=1</script>.docker'")
	b.eval("document.querySelector('#resolve button').click()")
	b.wait(answers("<script>"))
	b.open(url + "/?q=%22%3E%3Cscript%3Ewindow.pwned=1%3C/script%3E&name=%3Cscript%3Ewindow.pwned=1%3C/script%3E" +
		"&type=%22%3E%3Cscript%3E&client=%22%3E%3Cscript%3E")
	if got := b.eval("window.pwned"); got != nil {
		t.Error("a script of a container runs on the page")
	}
	if got := b.eval("document.querySelectorAll('script, img').length"); got != 1.0 {
		t.Errorf("the page has %v scripts and pictures; want its own script alone", got)
	}
}

// Another name of this machine is not a secure context, so the page must copy without the clipboard's API.
func pageByName(_ *testing.T, b *browser, _ *site, url string) {
	b.open(strings.Replace(url, "127.0.0.1", "dnsdock.docker", 1) + "/")
	b.wait(isLive + " && !isSecureContext")
	b.eval("const takes = () => window.taken = getSelection().toString() || document.activeElement.value; " +
		"document.addEventListener('copy', takes)")
	b.eval("document.querySelector('button.copy').click()")
	b.wait("'copied ' + window.taken === document.getElementById('copied').textContent && " +
		"window.taken === document.querySelector('button.copy').textContent")
}

// The engine goes and comes back.
func pageShowsEngine(_ *testing.T, b *browser, s *site, _ string) {
	set := func(up bool, text, event string) {
		s.update(func() { s.engines[0].Up, s.engines[0].Error = up, text })
		s.feed.Publish(event, "", s.status().Engines[0])
	}
	set(false, "dnsdock needs another engine", "engine-lost")
	ends := "document.getElementById('ends').innerText"
	b.wait(ends + ".includes('away') && " + ends + ".includes('dnsdock needs')")
	set(true, "", "engine-found")
	b.wait(ends + ".includes('found')")
}

// Without JavaScript there is a table, and forms that work.
func pageWithoutScript(t *testing.T, b *browser, s *site, url string) {
	s.resolves("redis1.redis.docker", `{"kind": "own", "rcode": "NOERROR"}`)
	b.call("Emulation.setScriptExecutionDisabled", map[string]any{"value": true})
	b.call("Page.navigate", map[string]any{"url": url + "/?q=redis1&name=redis1.redis.docker"})
	arrived := "document.readyState === 'complete' && location.search.includes('redis1')"
	end := time.Now().Add(dnstest.Patience)
	for b.eval(arrived) != true && time.Now().Before(end) { // no timer runs there
	}
	if b.eval(rows(1)+" && "+answers("NOERROR")) != true {
		t.Errorf("without JavaScript the page is:\n%v", b.eval("document.body.innerText"))
	}
	if got := b.eval("document.querySelector('.own polyline').getAttribute('points')"); got != steps {
		t.Errorf("without JavaScript the graph is %q", got)
	}
	b.call("Emulation.setScriptExecutionDisabled", map[string]any{"value": false})
}
