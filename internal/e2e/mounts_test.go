package e2e

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rayje/dnsdock/internal/dnstest"
)

// bindMount mounts from at to until the test ends.
func bindMount(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("mount", "--bind", from, to).CombinedOutput(); err != nil {
		t.Skipf("mount --bind: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "--lazy", to).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
}

// TestSocketMounts restarts an engine with live-restore, which makes a new
// socket while containers, and a dnsdock among them, run on. A mount of the
// socket's directory shows the new socket; a mount of the socket has the deleted one.
func TestSocketMounts(t *testing.T) {
	t.Parallel()
	dnstest.Needs(t, "mount", "umount")
	e := newOwnEngine(t)
	e.start(t, "--live-restore")
	e.importApp(t)
	s := e.newStage(t)
	web := s.name("web")
	s.run(t, web)
	addr := s.ip(t, web)

	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "docker.sock")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	bindMount(t, e.dir, dir)
	bindMount(t, e.socket, file)
	byDir := startDnsdock(t, "-docker=unix://"+filepath.Join(dir, "docker.sock"))
	byFile := startDnsdock(t, "-docker=unix://"+file)
	for _, in := range []*instance{byDir, byFile} {
		in.ready(t)
		in.want(t, s.fqdn(web)+" A", "NOERROR", addr)
	}

	byFile.seen(t, func() {
		byDir.seen(t, func() {
			e.stop(t, "TERM")
			e.start(t, "--live-restore")
		}, "engine found")
	}, "engine lost", "the socket was deleted", "restart dnsdock")
	later := s.name("later")
	byDir.seen(t, func() { s.run(t, later) }, "service added")
	byDir.want(t, s.fqdn(later)+" A", "NOERROR", s.ip(t, later))
	byDir.want(t, s.fqdn(web)+" A", "NOERROR", addr)
	byFile.want(t, s.fqdn(web)+" A", "NOERROR", addr) // what was known
	byFile.want(t, s.fqdn(later)+" A", "SERVFAIL")    // and not that the name does not exist
	for in, want := range map[*instance]int{byDir: http.StatusOK, byFile: http.StatusServiceUnavailable} {
		for _, path := range []string{"/readyz", "/healthz"} {
			if got, reply := in.call(t, "GET", path, ""); got != want {
				t.Errorf("GET %s: got %d %s; want %d", path, got, strings.TrimSpace(reply), want)
			}
		}
	}
}
