package web

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rayje/dnsdock/internal/dnstest"
)

// tryWrites sends all kinds of changes to a site with the given WriteAuth, and checks their status.
func tryWrites(t *testing.T, auth *WriteAuth, want int, headers ...string) {
	t.Helper()
	for _, method := range []string{"PUT", "PATCH", "DELETE", "POST"} {
		s := newSite(t)
		s.auth = auth
		r := call(t, s.handler(), method, "/services/made0", "{}", headers...)
		if r.Code != want {
			t.Errorf("%s %q: got %d %s; want %d", method, headers, r.Code, r.Body, want)
		}
		if want >= 300 {
			errorOf(t, r)
		}
		if (s.writes > 0) != (want < 300) {
			t.Errorf("%s %q: %d changes got through", method, headers, s.writes)
		}
		if got := r.Header().Get("WWW-Authenticate") != ""; got != (want == 401) {
			t.Errorf("%s %q: a challenge: %t; want it with 401", method, headers, got)
		}
		if got := call(t, s.handler(), "GET", "/services", "").Code; got != 200 {
			t.Errorf("GET: got %d; want 200", got)
		}
	}
}

const token = "0123456789abcdef"

// What the flags say about changes.
func TestWriteAuth(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	writeFile(t, file, token+"\n")
	log := dnstest.NewLog()
	withToken := &WriteAuth{TokenFile: file, Log: slog.New(slog.NewTextHandler(log, nil))}
	tryWrites(t, &WriteAuth{Open: true}, 200)
	tryWrites(t, &WriteAuth{ReadOnly: true}, 403)
	tryWrites(t, &WriteAuth{ReadOnly: true, TokenFile: file}, 403, "Authorization: Bearer "+token)
	tryWrites(t, withToken, 401)
	tryWrites(t, withToken, 200, "Authorization: Bearer "+token)
	tryWrites(t, withToken, 200, "Authorization: bearer  "+token+" ")
	for _, bad := range []string{
		"Bearer", "Bearer ", "Bearer " + token[1:], "Bearer " + token + "0", "Basic " + token, token, "Bearer" + token, "Bearer x " + token,
	} {
		tryWrites(t, withToken, 401, "Authorization: "+bad)
	}
	if s := log.String(); s != "" {
		t.Errorf("the log has %s; want nothing", s)
	}
}

// Without a flag, changes come from this machine or through a unix socket.
func TestWriteAuthByAddress(t *testing.T) {
	gateway := netip.MustParseAddr("172.17.0.1")
	auth := &WriteAuth{IsHost: func(a netip.Addr) bool { return a.IsLoopback() || a == gateway }}
	f := func(remote string, local net.Addr, want int) {
		t.Helper()
		s := newSite(t)
		s.auth = auth
		for _, method := range []string{"PUT", "DELETE", "GET"} {
			r := httptest.NewRequestWithContext(t.Context(), method, "http://127.0.0.1/services/x", nil)
			r.RemoteAddr = remote
			// Headers that proxies set are the client's to choose, so they change nothing.
			for _, k := range []string{"X-Forwarded-For", "X-Real-Ip", "Forwarded"} {
				r.Header.Set(k, "127.0.0.1")
			}
			r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, local))
			w := httptest.NewRecorder()
			s.handler().ServeHTTP(w, r)
			if method == "GET" {
				want = 200
			}
			if w.Code != want {
				t.Errorf("%s from %s: got %d %s; want %d", method, remote, w.Code, w.Body, want)
			}
			if w.Code == 403 {
				text := errorOf(t, w)
				ways := []string{"this machine", "-http=unix://", "-http-token-file", "-http-open"}
				if !dnstest.ContainsAll(text, ways) || strings.Contains(text, "\n") {
					t.Errorf("got error %q; want one line with %q", text, ways)
				}
			}
		}
	}
	tcp, unix := &net.TCPAddr{IP: net.IP{127, 0, 0, 1}, Port: 80}, &net.UnixAddr{Name: "/run/api.sock", Net: "unix"}
	f("127.0.0.1:4711", tcp, 200)
	f("[::1]:4711", tcp, 200)
	f("[::ffff:127.0.0.1]:4711", tcp, 200)
	f("172.17.0.1:4711", tcp, 200)
	f("172.17.0.2:4711", tcp, 403)
	f("192.0.2.1:4711", tcp, 403)
	f("[fe80::1%eth0]:4711", tcp, 403)
	f("@", unix, 200)
	f("", unix, 200)
	for mode, auth := range map[string]*WriteAuth{
		"open": {Open: true}, "host": {}, "token": {TokenFile: "x"}, "none": {ReadOnly: true},
	} {
		if got := auth.Mode(); got != mode {
			t.Errorf("got mode %q; want %q", got, mode)
		}
	}
}

// Another token counts at once, and without a usable one nothing can be changed.
func TestWriteAuthFollowsFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	log := dnstest.NewLog()
	auth := &WriteAuth{TokenFile: file}
	auth.Log = slog.New(dnstest.Unlocked(t, log, &auth.mu))
	writeFile(t, file, "fedcba9876543210")
	tryWrites(t, auth, 401, "Authorization: Bearer "+token)
	tryWrites(t, auth, 200, "Authorization: Bearer fedcba9876543210")
	for _, trouble := range []func(){
		func() { writeFile(t, file, "") },
		func() { writeFile(t, file, "short") },
		func() { writeFile(t, file, token+" "+token) },
		func() { writeFile(t, file, strings.Repeat("x", 4097)) },
		func() { _ = os.Remove(file) },
		func() { _ = os.Mkdir(file, 0o700) },
	} {
		trouble()
		tryWrites(t, auth, 403)
		tryWrites(t, auth, 403, "Authorization: Bearer ")
		tryWrites(t, auth, 403, "Authorization: Bearer fedcba9876543210")
	}
	_ = os.Remove(file)
	writeFile(t, file, token)
	auth.Reload()
	tryWrites(t, auth, 200, "Authorization: Bearer "+token)
	if got := strings.Count(log.String(), "\n"); got != 2 {
		t.Errorf("the log is\n%s; want a line when the token can't be read, and one when it can be again", log)
	}
}

func writeFile(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
