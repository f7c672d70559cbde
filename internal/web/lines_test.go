package web

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/rayje/dnsdock/internal/publish"
)

// The lines about a container are found by its ID or name, the newest of them are kept, and the log stays as it was.
func TestLines(t *testing.T) {
	var lines Lines
	var out bytes.Buffer
	log := slog.New(lines.Keep(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn})))
	here := log.With("engine", "unix:///a")
	web := &publish.Service{ID: "a1", Origin: publish.Origin{Engine: "unix:///a", Container: "web"}}
	f := func(what string, want ...string) {
		t.Helper()
		var got []string
		for _, l := range lines.About(web) {
			got = append(got, l.Level.String()+" "+l.Text)
		}
		if strings.Join(got, "|") != strings.Join(want, "|") {
			t.Errorf("%s: got %q; want %q", what, got, want)
		}
	}
	f("empty")
	log.Info("service added", "id", "a1", "names", []string{"web.docker"})
	log.Info("service added", "id", "a12")
	log.Debug("detail", "id", "a1")
	log.Warn("nameserver is away")
	here.Warn("value can't be used", "container", "web", "value", "x")
	log.With("engine", "tcp://b").Warn("value can't be used", "container", "web")
	first := []string{"INFO service added names=[web.docker]", "WARN value can't be used value=x"}
	f("two", first...)
	written := out.String()
	if !strings.Contains(written, "engine=unix:///a container=web") || strings.Contains(written, "service added") {
		t.Errorf("the log is %q", written)
	}
	var want []string
	for i := range 2 * linesShown {
		log.Info("line", "id", "a1", "n", i, "long", strings.Repeat("x", 2*maxLine))
		want = append(want, ("INFO " + fmt.Sprintf("line n=%d long=%s", i, strings.Repeat("x", 2*maxLine)))[:maxLine+5])
	}
	f("bounded", want[linesShown:]...)
	for range maxLines {
		log.Info("line", "id", "b")
	}
	f("pushed out")
}
