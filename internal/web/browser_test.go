package web

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/rayje/dnsdock/internal/dnstest"
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
	cmd := exec.Command(path, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--disable-crash-reporter", "--no-first-run", "--no-proxy-server", "--user-data-dir="+t.TempDir(),
		"--host-resolver-rules=MAP dnsdock.docker 127.0.0.1", "--remote-debugging-pipe", "about:blank")
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir()) // where it leaves a directory when it is ended
	cmd.ExtraFiles = []*os.File{in, out}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = in.Close(), out.Close()
	_ = from.SetReadDeadline(time.Now().Add(2 * dnstest.Patience))
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
		case r.Method == "Runtime.exceptionThrown", r.Method == "Log.entryAdded",
			r.Method == "Page.javascriptDialogOpening":
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
		(function look() {
			let ok = false;
			try { ok = %s; } catch {}
			if (ok || Date.now() > end) done(ok); else setTimeout(look, 20);
		})();
	})`, dnstest.Patience.Milliseconds()/4, condition))
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
