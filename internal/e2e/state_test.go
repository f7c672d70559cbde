package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnstest"
)

// What was set by hand is there again after a restart, and what it was set on
// too, but for containers that are gone.
func TestStateOverRestart(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "state.json")
	e := dnstest.NewEngine()
	engine := "-docker=" + e.ServeTCP(t, nil)
	set := func(prefix, name, addr string) {
		e.Set(prefix, &dnstest.Container{Name: name, Image: "redis:7", State: "running", Addr: addr})
	}
	set("aa", "patched", "10.0.0.1")
	set("bb", "removed", "10.0.0.2")
	set("cc", "gone", "10.0.0.3")
	set("dd", "host", "10.0.0.4")
	in := startDnsdock(t, engine, "-state="+file)
	in.soon(t, "gone.redis.docker A", "NOERROR", "10.0.0.3")
	in.ready(t)
	api := func(method, path, body string, want int) {
		t.Helper()
		if got, reply := in.call(t, method, path, body); got != want {
			t.Fatalf("%s %s %s: got %d %s; want %d", method, path, body, got, reply, want)
		}
	}
	api("PUT", "/services/hand", `{"name":"hand","image":"made","ips":"192.0.2.1,2001:db8::1","ttl":9,`+
		`"aliases":"shop.example.com","txt":["a, b","é\\"],"ports":"80/tcp=http"}`, 201)
	api("PUT", "/services/www", `{"name":"www","image":"made","cname":"hand.made.docker"}`, 201)
	api("PUT", "/services/short", `{"name":"short","image":"made","ip":"192.0.2.7"}`, 201)
	api("DELETE", "/services/short", "", 204)
	api("PATCH", "/services/aa00", `{"ttl":33,"alias":["p.docker","p2.docker"]}`, 200)
	api("PATCH", "/services/cc00", `{"name":"other"}`, 200)
	api("PATCH", "/services/dd00", `{"ip":"host"}`, 200)
	api("DELETE", "/services/bb00", "", 204)
	api("PUT", "/set/ttl", "77", 200)
	checkRestored(t, in)
	in.want(t, "other.redis.docker A", "NOERROR", "10.0.0.3")
	if err := in.stop(); err != nil {
		t.Fatal(err)
	}
	e.Destroy("cc")
	in = startDnsdock(t, engine, "-state="+file, "-ttl=5")
	in.log.Wait(t, "state restored")
	in.soon(t, "p2.docker A", "NOERROR", "10.0.0.1")
	in.ready(t)
	checkRestored(t, in)
	in.want(t, "other.redis.docker A", "NXDOMAIN")
	api("DELETE", "/services/www", "", 204)
	data, err := os.ReadFile(file)
	holds := func(s string) bool { return strings.Contains(string(data), s) }
	if err != nil || holds(dnstest.ID("cc")) || holds("www") || !holds(dnstest.ID("aa")) {
		t.Errorf("what is gone is kept in the file, or what is there is not: %v %s", err, data)
	}
	if rest, _ := filepath.Glob(file + "?*"); len(rest) > 0 {
		t.Errorf("files are left beside it: %v", rest)
	}
}

// checkRestored checks what TestStateOverRestart sets by hand.
func checkRestored(t *testing.T, in *instance) {
	t.Helper()
	in.want(t, "hand.made.docker A", "NOERROR", "192.0.2.1")
	in.want(t, "hand.made.docker TXT", "NOERROR", `"a, b"`, `"\195\169\\"`)
	in.want(t, "_http._tcp.hand.made.docker SRV", "NOERROR", "0 1 80 hand.made.docker.")
	in.want(t, "shop.example.com AAAA", "NOERROR", "2001:db8::1")
	in.want(t, "www.made.docker CNAME", "NOERROR", "hand.made.docker.")
	in.want(t, "short.made.docker A", "NXDOMAIN")
	in.want(t, "p2.docker A", "NOERROR", "10.0.0.1")
	in.want(t, "removed.redis.docker A", "NXDOMAIN")
	in.want(t, "host.redis.docker A", "NOERROR", "127.0.0.1")
	if got := in.ask(t, "udp", "p.docker", dns.TypeA).Answer[0].Header().Ttl; got != 33 {
		t.Errorf("TTL of what was patched: got %d; want 33", got)
	}
	if got := in.ask(t, "udp", "www.made.docker", dns.TypeCNAME).Answer[0].Header().Ttl; got != 77 {
		t.Errorf("default TTL: got %d; want 77", got)
	}
}

// A damaged file is set aside, and what can be read of it goes on.
func TestDamagedState(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ what, data, want, wantNot string }{
		{"empty", "", "", "hand"},
		{"cut", `{"services":{"hand":{"name":"hand","image":"m","ip`, "", "hand"},
		{"not JSON", "\x00\x01\xff", "", "hand"},
		{"two values", `{"services":{"hand":{"name":"hand","image":"m","ips":["192.0.2.1"]}}}{}`, "", "hand"},
		{"one bad service", `{"ttl":4294967295,"services":{"hand":{"name":"hand","image":"m","ips":["192.0.2.1"]},"bad":{"name":"*"},"none":{"name":"n"}},"changes":{"aa":{"ttl":-7}}}`, "hand", "bad"},
	} {
		file := filepath.Join(t.TempDir(), "state.json")
		if err := os.WriteFile(file, []byte(c.data), 0o600); err != nil {
			t.Fatal(err)
		}
		in := startDnsdock(t, "-docker=unix:///nosuch.sock", "-state="+file)
		in.log.Wait(t, "level=ERROR", "state can't be read")
		_, services := in.call(t, "GET", "/services", "")
		if !strings.Contains(services, c.want) || strings.Contains(services, c.wantNot) {
			t.Errorf("%s: got services %s; want those with %q and without %q", c.what, services, c.want, c.wantNot)
		}
		aside, _ := filepath.Glob(file + ".damaged-*")
		if len(aside) != 1 {
			t.Fatalf("%s: set aside: %v; want one file", c.what, aside)
		}
		if data, err := os.ReadFile(aside[0]); err != nil || string(data) != c.data {
			t.Errorf("%s: set aside: %v %q; want it as it was", c.what, err, data)
		}
		status, _ := in.call(t, "PUT", "/services/new", `{"name":"new","image":"m","ip":"192.0.2.2"}`)
		if status != http.StatusCreated {
			t.Errorf("%s: PUT after that: %d", c.what, status)
		}
		data, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(data), `"new"`) || !strings.Contains(string(data), c.want) {
			t.Errorf("%s: the new file: %v %s", c.what, err, data)
		}
	}
}

// A service made by hand is as old after a restart as before.
func TestStateKeepsSince(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "state.json")
	since := func(in *instance, id string) string {
		t.Helper()
		var s struct{ Since string }
		if _, body := in.call(t, "GET", "/services/"+id, ""); json.Unmarshal([]byte(body), &s) != nil || s.Since == "" {
			t.Errorf("got %s; want a service with its age", body)
		}
		return s.Since
	}
	old := `{"services": {
			"a": {"name": "a", "image": "m", "ip": "192.0.2.2"},
			"b": {"name": "b", "image": "m", "ip": "192.0.2.3"}},
		"since": {"a": "2020-01-02T03:04:05Z"}}`
	if err := os.WriteFile(file, []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	in := startDnsdock(t, noEngine(t), "-state="+file)
	in.call(t, "PATCH", "/services/a", `{"ttl": 7}`)
	in.call(t, "PUT", "/services/c", `{"name": "c", "image": "m", "ip": "192.0.2.4"}`)
	if got := since(in, "a"); got != "2020-01-02T03:04:05Z" {
		t.Errorf("a: got %s", got)
	}
	b, c := since(in, "b"), since(in, "c") // b is of a file that says nothing of it
	if err := in.stop(); err != nil {
		t.Fatal(err)
	}
	in = startDnsdock(t, noEngine(t), "-state="+file)
	for id, want := range map[string]string{"a": "2020-01-02T03:04:05Z", "b": b, "c": c} {
		if got := since(in, id); got != want {
			t.Errorf("%s after a restart: got %s; want %s", id, got, want)
		}
	}
}

// What the API changed of a container leaves the file with the container, without a call of the API.
func TestStateForgetsContainers(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "state.json")
	e := dnstest.NewEngine()
	for _, id := range []string{"aa", "bb"} {
		e.Set(id, &dnstest.Container{Name: id, Image: "redis:7", State: "running", Addr: "10.0.0.1"})
	}
	in := startDnsdock(t, "-docker="+e.ServeTCP(t, nil), "-state="+file)
	in.ready(t)
	in.call(t, "PATCH", "/services/"+dnstest.ID("aa"), `{"ttl": 7}`)
	in.call(t, "DELETE", "/services/"+dnstest.ID("bb"), "")
	for _, id := range []string{"aa", "bb"} {
		e.Destroy(id)
		held := true
		for end := time.Now().Add(dnstest.Patience / 4); held && time.Now().Before(end); {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			held = strings.Contains(string(data), dnstest.ID(id))
		}
		if held {
			t.Errorf("%s is gone and stays in the file", id)
		}
	}
}

// A file that can't be written is told to who wanted to write, and is no
// reason not to start.
func TestStateCannotBeKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, file := range []string{filepath.Join(dir, "nosuch", "state.json"), dir} {
		in := startDnsdock(t, "-docker=unix:///nosuch.sock", "-state="+file)
		status, reply := in.call(t, "PUT", "/services/a", `{"name":"a","image":"m","ip":"192.0.2.2"}`)
		if status != http.StatusInternalServerError || !strings.Contains(reply, "may lose it") {
			t.Errorf("%s: got %d %s; want 500", file, status, reply)
		}
		in.want(t, "a.m.docker A", "NOERROR", "192.0.2.2")
		// It changes nothing that is kept.
		if status, reply := in.call(t, "DELETE", "/cache", ""); status != http.StatusNoContent {
			t.Errorf("%s: DELETE /cache: got %d %s; want 204", file, status, reply)
		}
		if err := in.stop(); err != nil {
			t.Fatal(err)
		}
	}
}

// Of many writers at once each is told only after its change is in the file.
func TestStateCoalesces(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "state.json")
	in := startDnsdock(t, "-docker=unix:///nosuch.sock", "-state="+file)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			for n := range 10 {
				id := fmt.Sprintf("s%d-%d-", i, n)
				status, reply := in.call(t, "PUT", "/services/"+id, `{"name":"a","image":"m","ip":"192.0.2.2"}`)
				if status != http.StatusCreated {
					t.Errorf("PUT: %d %s", status, reply)
				}
				if data, err := os.ReadFile(file); err != nil || !strings.Contains(string(data), id) {
					t.Errorf("%s is not in the file after the reply: %v", id, err)
				}
			}
		})
	}
	wg.Wait()
}
