package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A browser is Chromium without a screen, driven by its DevTools protocol:
// https://chromedevtools.github.io/devtools-protocol/
type browser struct {
	t       *testing.T
	to      *os.File
	from    *bufio.Reader
	session string
	calls   int

	urls     []string // of all requests
	troubles []string // what the console says
}

// startBrowser starts Chromium with a page that is empty, until the test ends.
func startBrowser(t *testing.T) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skipf("no Chromium here: %v", err)
	}
	in, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-crash-reporter", "--no-first-run",
		"--no-proxy-server", "--host-resolver-rules=MAP dnsdock.docker 127.0.0.1", "--user-data-dir="+t.TempDir(), "--remote-debugging-pipe", "about:blank")
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir()) // where it leaves a directory when it is ended
	cmd.ExtraFiles = []*os.File{in, out}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = in.Close(), out.Close()
	_ = from.SetReadDeadline(time.Now().Add(2 * patience))
	b := &browser{t: t, to: to, from: bufio.NewReader(from)}
	t.Cleanup(func() {
		b.session = ""
		kill := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		if !t.Failed() {
			b.call("Browser.close", nil)
		} else {
			_ = cmd.Process.Kill()
		}
		_, _ = to.Close(), from.Close()
		_ = cmd.Wait()
	})
	target := b.call("Target.createTarget", map[string]any{"url": "about:blank"})
	b.session = b.call("Target.attachToTarget", map[string]any{"targetId": target["targetId"], "flatten": true})["sessionId"].(string)
	b.call("Emulation.setFocusEmulationEnabled", map[string]any{"enabled": true})
	for _, domain := range []string{"Page", "Runtime", "Network", "Log"} {
		b.call(domain+".enable", nil)
	}
	return b
}

// call calls a method and returns its result. Events that come before that are noted.
func (b *browser) call(method string, params map[string]any) map[string]any {
	b.t.Helper()
	b.calls++
	m := map[string]any{"id": b.calls, "method": method, "params": params}
	if b.session != "" {
		m["sessionId"] = b.session
	}
	text, err := json.Marshal(m)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.to.Write(append(text, 0)); err != nil {
		b.t.Fatal(err)
	}
	for {
		line, err := b.from.ReadBytes(0)
		if err != nil {
			b.t.Fatalf("%s: Chromium says nothing: %v", method, err)
		}
		var r struct {
			ID             int
			Method         string
			Params, Result map[string]any
			Error          *struct{ Message string }
		}
		if err := json.Unmarshal(bytes.TrimSuffix(line, []byte{0}), &r); err != nil {
			b.t.Fatal(err)
		}
		switch {
		case r.ID == b.calls && r.Error != nil:
			b.t.Fatalf("%s: %s", method, r.Error.Message)
		case r.ID == b.calls:
			return r.Result
		case r.Method == "Network.requestWillBeSent":
			b.urls = append(b.urls, r.Params["request"].(map[string]any)["url"].(string))
		case r.Method == "Runtime.exceptionThrown", r.Method == "Log.entryAdded", r.Method == "Page.javascriptDialogOpening":
			b.troubles = append(b.troubles, fmt.Sprint(r.Method, r.Params))
		}
	}
}

// eval returns the value of an expression on the page.
func (b *browser) eval(expression string) any {
	b.t.Helper()
	r := b.call("Runtime.evaluate", map[string]any{"expression": expression, "awaitPromise": true, "returnByValue": true, "userGesture": true})
	if r["exceptionDetails"] != nil {
		b.t.Fatalf("%s: %v", expression, r["exceptionDetails"])
	}
	return r["result"].(map[string]any)["value"]
}

// wait waits until a condition holds on the page.
func (b *browser) wait(condition string) {
	b.t.Helper()
	got := b.eval(fmt.Sprintf(`new Promise(done => {
		const end = Date.now() + %d;
		(function look() { let ok = false; try { ok = %s; } catch {} if (ok || Date.now() > end) done(ok); else setTimeout(look, 20); })();
	})`, patience.Milliseconds()/4, condition))
	if got != true {
		b.t.Fatalf("%s: never true; the page is:\n%v", condition, b.eval("document.body.innerText"))
	}
}

// open goes to a page and waits until it is there.
func (b *browser) open(url string) {
	b.t.Helper()
	b.call("Page.navigate", map[string]any{"url": url})
	b.wait(fmt.Sprintf("location.href === %q && document.readyState === 'complete'", url))
}

// press presses a key, and write types a text.
func (b *browser) press(key, text string) {
	b.t.Helper()
	for _, kind := range []string{"keyDown", "keyUp"} {
		b.call("Input.dispatchKeyEvent", map[string]any{"type": kind, "key": key, "code": key, "text": text, "windowsVirtualKeyCode": map[string]int{"Enter": 13, "Tab": 9}[key]})
	}
}

func (b *browser) write(text string) {
	b.t.Helper()
	b.call("Input.insertText", map[string]any{"text": text})
}

// size sets the size of the window and the colours that are asked for.
func (b *browser) size(width, height int, scheme string) {
	b.t.Helper()
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500})
	b.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}})
}

// shoot keeps a picture of the page in $DNSDOCK_SCREENSHOTS, where that is set.
func (b *browser) shoot(name string) {
	b.t.Helper()
	dir := os.Getenv("DNSDOCK_SCREENSHOTS")
	if dir == "" {
		return
	}
	picture, err := base64.StdEncoding.DecodeString(b.call("Page.captureScreenshot", nil)["data"].(string))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o644)
	}
	if err != nil {
		b.t.Error(err)
	}
}

// Text stays text where it may be put: between tags and in quoted attributes.
func TestMarkup(t *testing.T) {
	var m markup
	m.put(`<p title="%s">%s</p>`, `"><script>'&%s{{name}}`, "<!--</p>\xff\x00")
	if got, want := m.String(), "<p title=\"&#34;&gt;&lt;script&gt;&#39;&amp;%s{{name}}\">&lt;!--&lt;/p&gt;\uFFFD\x00</p>"; got != want {
		t.Errorf("got %q; want %q", got, want)
	}
	page := call(t, apiOf(t, newTestRegistry(t, "docker")), "GET", "/?q={{name}}&name={{nonce}}&client={{services}}", "").Body.String()
	for _, part := range []string{`value="{{name}}"`, `value="{{nonce}}"`, `value="{{services}}"`} { // nothing stands for a part in another
		if strings.Count(page, part) != 1 {
			t.Errorf("%s is not there once", part)
		}
	}
	if left := regexp.MustCompile(`\{\{[a-z]+\}\}`).FindAllString(page, -1); len(left) != 3 {
		t.Errorf("got %q", left)
	}
}

// The overview page in a browser, while services come and go.
func TestPage(t *testing.T) {
	b := startBrowser(t)
	e := newFakeEngine()
	started := time.Now().Add(-3 * time.Hour).UTC().Format(time.RFC3339Nano)
	for i, name := range []string{"redis1", "redis2"} {
		e.set(fmt.Sprintf("a%d", i), &fakeContainer{name: name, image: "redis:7", state: "running", addr: fmt.Sprintf("172.17.0.%d", i+2), started: started})
	}
	e.set("b0", &fakeContainer{name: "shop_web_1", image: "registry:5000/nginx:1.25", state: "running", addr: "172.17.0.7", started: started,
		env: []string{"DNSDOCK_ALIAS=shop.example.com,www.docker", "DNSDOCK_TTL=30"}, networks: map[string]endpointJSON{"six": {GlobalIPv6Address: "fd00:dd::7"}}})
	up := startUpstream(t, answer(t, nil), nil)
	in := startDnsdock(t, "-docker="+startEngine(t, e, nil).Text, "-nameserver="+up.String())
	in.ready(t)
	rows := "[...document.querySelectorAll('#services tbody tr')]"
	has := func(text string) string { return fmt.Sprintf("%s.some(r => r.innerText.includes(%q))", rows, text) }
	count := func(n int) string { return fmt.Sprintf("%s.length === %d", rows, n) }

	b.size(1100, 900, "light")
	b.open(in.http + "/")
	b.wait("document.getElementById('live').textContent === 'live'")
	b.wait(count(3))
	for _, want := range []string{"shop_web_1.nginx.docker", "shop.example.com", "fd00:dd::7", "30 s", "running", "3 h", "redis:7"} {
		b.wait(has(want))
	}

	// Services come, change and go.
	e.start("c0", "late", "172.17.0.9")
	b.wait(has("late.redis.docker"))
	in.call(t, "PATCH", "/services/"+fakeID("c0"), `{"ttl":77}`)
	b.wait(has("77 s"))
	e.destroy("c0")
	b.wait(count(3))

	// Search by keyboard.
	b.press("/", "/")
	b.write("REDIS")
	b.wait(count(2))
	b.write(" nothing")
	b.wait(count(0) + " && document.getElementById('services').innerText.includes('No service')")
	b.eval("search.value = '172.17.0.7'; search.dispatchEvent(new Event('input'))")
	b.wait(count(1))
	b.eval("search.value = ''; search.dispatchEvent(new Event('input'))")
	b.wait(count(3))

	// Resolve by keyboard.
	b.eval("resolve.elements.name.focus()")
	b.write("redis.docker")
	b.press("Enter", "\r")
	answer := "document.getElementById('answer').innerText"
	for _, want := range []string{"NOERROR", "own", "172.17.0.2", "172.17.0.3", "redis1.redis.docker", "at it, below it or above it"} {
		b.wait(fmt.Sprintf("%s.includes(%q)", answer, want))
	}
	b.eval("resolve.elements.name.value = 'www.example.org'; document.querySelector('#resolve button').click()")
	b.wait(fmt.Sprintf("%s.includes('forwarded') && %s.includes(%q)", answer, answer, up.String()))
	b.eval("resolve.elements.type.value = 'NONSENSE'; document.querySelector('#resolve button').click()")
	b.wait(answer + ".includes('write a type')")
	b.eval("resolve.elements.type.value = 'A'; resolve.elements.name.value = 'redis.docker'; document.querySelector('#resolve button').click()")
	b.wait(answer + ".includes('172.17.0.3')")

	// A name is copied by a click, and by a key. Where the machine is another one, the other way is used.
	b.call("Browser.grantPermissions", map[string]any{"permissions": []string{"clipboardReadWrite", "clipboardSanitizedWrite"}})
	b.eval("document.querySelector('#services button.copy').click()")
	b.wait("navigator.clipboard.readText().then(text => window.taken = text) && window.taken === document.querySelector('#services button.copy').textContent")
	b.eval("[...document.querySelectorAll('#services button.copy')].at(-1).focus()")
	b.press("Enter", "\r")
	b.wait("document.getElementById('copied').textContent === 'copied ' + document.activeElement.textContent")
	b.wait("navigator.clipboard.readText().then(text => window.taken = text) && window.taken === document.activeElement.textContent")

	// Queries are drawn.
	for i := range 20 {
		in.ask(t, "udp", "redis1.redis.docker", dns.TypeA)
		in.ask(t, "tcp", fmt.Sprintf("www%d.example.org", i), dns.TypeA)
	}
	b.wait("document.querySelector('.own .total').textContent >= '2' && document.querySelector('.own polyline').getAttribute('points').includes(' ')")
	b.wait("parseInt(document.querySelector('.forwarded .total').textContent) === 20")
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

	// The keyboard reaches all that can be used.
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

	// Whatever a container says is text.
	const script = `<script>window.pwned=1</script>`
	evil := `"'><img src=//evil.example onerror=window.pwned=1>` + script
	e.set("d0", &fakeContainer{name: evil, image: script + ":7", state: script, addr: "172.17.0.8"})
	e.set("d1", &fakeContainer{name: evil, image: evil, state: "running", addr: "172.17.0.8", started: script,
		env:    []string{"DNSDOCK_NAME=" + script, script + "=" + script, "DNSDOCK_TTL=" + script, "SERVICE_REGION=" + evil, "SERVICE_80_NAME=" + script},
		labels: map[string]string{"com.dnsdock.alias": script + ".docker," + evil, "com.dnsdock.txt": script, script: script, "com.dnsdock.image": `{{.}}${1}` + script}})
	e.event("start", fakeID("d1"))
	e.event("start", fakeID("d0"))
	b.wait(has("<script>window.pwned=1<"))
	in.call(t, "PUT", "/services/"+strings.ReplaceAll("%3Cscript%3Ewindow.pwned=1%3C%2Fscript%3E", " ", ""), `{"name":"made","image":"javascript","ip":"10.0.0.1","txt":"<script>javascript:alert(1)</script>"}`)
	b.wait(has("made.javascript"))
	b.eval("resolve.elements.name.value = '<script>window.pwned=1</script>.docker'; document.querySelector('#resolve button').click()")
	b.wait(answer + ".includes('<script>')")
	b.open(in.http + "/?q=%22%3E%3Cscript%3Ewindow.pwned=1%3C/script%3E&name=%3Cscript%3Ewindow.pwned=1%3C/script%3E&type=%22%3E%3Cscript%3E&client=%22%3E%3Cscript%3E")
	if got := b.eval("window.pwned"); got != nil {
		t.Error("a script of a container runs on the page")
	}
	if got := b.eval("document.querySelectorAll('script').length + document.querySelectorAll('img').length"); got != 1.0 {
		t.Errorf("the page has %v scripts and pictures; want its own script alone", got)
	}

	// By another name of this machine, where the clipboard is not to be had.
	b.open(strings.Replace(in.http, "127.0.0.1", "dnsdock.docker", 1) + "/")
	b.wait("document.getElementById('live').textContent === 'live' && !isSecureContext")
	b.eval("document.addEventListener('copy', () => window.taken = getSelection().toString() || document.activeElement.value); document.querySelector('button.copy').click()")
	b.wait("'copied ' + window.taken === document.getElementById('copied').textContent && window.taken === document.querySelector('button.copy').textContent")

	// The engine goes and comes back.
	e.update(func() { e.version = "1.1" }) // too old to be spoken to
	e.endStreams()
	b.wait("document.getElementById('ends').innerText.includes('away') && document.getElementById('ends').innerText.includes('dnsdock needs')")
	e.update(func() { e.version = "1.41" })
	b.wait("document.getElementById('ends').innerText.includes('found')")

	// Without JavaScript there is a table, and forms that work.
	b.call("Emulation.setScriptExecutionDisabled", map[string]any{"value": true})
	b.call("Page.navigate", map[string]any{"url": in.http + "/?q=redis1&name=redis1.redis.docker"})
	arrived := "document.readyState === 'complete' && location.search.includes('redis1')"
	for end := time.Now().Add(patience); b.eval(arrived) != true && time.Now().Before(end); { // no timer runs there
	}
	if b.eval(count(1)+" && "+answer+".includes('NOERROR')") != true {
		t.Errorf("without JavaScript the page is:\n%v", b.eval("document.body.innerText"))
	}
	if b.eval("document.getElementById('queries').hidden") != true {
		t.Error("plots are shown that nobody draws")
	}
	b.call("Emulation.setScriptExecutionDisabled", map[string]any{"value": false})

	// dnsdock ends: the page says so.
	b.open(in.http + "/")
	b.wait("document.getElementById('live').textContent === 'live'")
	troubles := b.troubles
	if err := in.stop(); err != nil {
		t.Error(err)
	}
	b.wait("document.getElementById('live').textContent.startsWith('not live')")
	for _, text := range troubles {
		t.Errorf("the console says: %.300s", text)
	}
	for _, url := range slices.Compact(slices.Sorted(slices.Values(b.urls))) {
		if !strings.HasPrefix(url, in.http) && !strings.HasPrefix(url, "http://dnsdock.docker:") && url != "data:," {
			t.Errorf("the page asks %s", url)
		}
	}
}

// The page shows the host's address, names of compose and what is unhealthy.
func TestPageShowsAll(t *testing.T) {
	reg := filledRegistry(t, "docker", 5)
	s := aliased(t, "id", "shop.example.com")
	s.Addrs, s.Compose, s.Sick, s.State = []netip.Addr{{}}, mustName(t, "1.web.shop.docker"), true, "running"
	reg.Put("id", s)
	body := call(t, apiOf(t, reg), "GET", "/?q=web.shop", "").Body.String()
	for _, part := range []string{">host<", ">1.web.shop.docker<", ">shop.example.com<", ">unhealthy<"} {
		if !strings.Contains(body, part) {
			t.Errorf("the page has no %s", part)
		}
	}
}
