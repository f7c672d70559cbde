package e2e

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rayje/dnsdock/internal/dnstest"
)

// A liveEngine is a Docker Engine that a test drives by the docker command.
type liveEngine struct {
	socket string
	arch   string // GOARCH of its containers
	podman bool
	image  string // made by importApp
}

// findEngine returns the engine of this machine. It skips the test where
// there is none.
func findEngine(t *testing.T) *liveEngine {
	t.Helper()
	dnstest.Needs(t, "docker", "dig", "go")
	text := cmp.Or(os.Getenv("DOCKER_HOST"), "unix:///var/run/docker.sock")
	socket, ok := strings.CutPrefix(text, "unix://")
	if !ok {
		t.Skipf("the engine of $DOCKER_HOST is not on a unix socket: %s", text)
	}
	e := &liveEngine{socket: socket}
	if err := e.greet(); err != nil {
		t.Skipf("no Docker Engine for Linux containers at %s: %v", text, err)
	}
	return e
}

// greet asks for the architecture. It returns an error if the engine can't be used.
func (e *liveEngine) greet() error {
	const format = "{{.Server.Os}}/{{.Server.Arch}} {{range .Server.Components}}{{.Name}} {{end}}"
	out, err := e.try(nil, "version", "--format="+format)
	if err != nil {
		return err
	}
	out, components, _ := strings.Cut(out, " ")
	e.podman = strings.Contains(components, "Podman")
	var ok bool
	if e.arch, ok = strings.CutPrefix(out, "linux/"); !ok {
		return fmt.Errorf("it is for %s", out)
	}
	return nil
}

// try runs the docker command, and returns what it prints.
func (e *liveEngine) try(stdin io.Reader, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), dnstest.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker", append([]string{"--host=unix://" + e.socket}, args...)...)
	cmd.Env = append(os.Environ(), "DOCKER_TLS_VERIFY=", "DOCKER_TLS=")
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = stdin, &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return strings.TrimSpace(string(out)), nil
}

func (e *liveEngine) docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := e.try(nil, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// appSource is a program that runs until SIGTERM. It ends after an hour anyway,
// in case the test was killed before it removed the container.
const appSource = `package main

import (
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) > 1 { // "check" is its health check; "heal" lets it succeed again
		if os.Args[1] == "heal" {
			_ = os.Remove("/sick")
		}
		if _, err := os.Stat("/sick"); err == nil {
			os.Exit(1)
		}
		return
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	signal.Ignore(syscall.SIGHUP)
	select {
	case <-end:
	case <-time.After(time.Hour):
	}
}
`

// importApp makes the image of most containers.
func (e *liveEngine) importApp(t *testing.T) {
	t.Helper()
	src := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(src, []byte(appSource), 0o600); err != nil {
		t.Fatal(err)
	}
	e.image = "dnsdock-test-" + random() + "/app:1"
	e.importImage(t, e.image, "app", goBuild(t, e.arch, src))
}

// goBuild returns the static binary of a package or file.
func goBuild(t *testing.T, arch, src string) []byte {
	t.Helper()
	dst := filepath.Join(t.TempDir(), "program")
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", dst, src)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	program, err := os.ReadFile(dst)
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// importImage makes an image of one program, with an empty usr for the host's
// /usr, see stage.inside.
func (e *liveEngine) importImage(t *testing.T, ref, name string, program []byte) {
	t.Helper()
	var image bytes.Buffer
	w := tar.NewWriter(&image)
	for _, h := range []tar.Header{
		{Name: "usr", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "bin", Typeflag: tar.TypeSymlink, Linkname: "usr/bin"},
		{Name: "lib", Typeflag: tar.TypeSymlink, Linkname: "usr/lib"},
		{Name: "lib64", Typeflag: tar.TypeSymlink, Linkname: "usr/lib64"},
		{Name: name, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(program))},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Write(program); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := e.try(nil, "rmi", "--force", ref); err != nil {
			t.Error(err)
		}
	})
	if _, err := e.try(&image, "import", `--change=ENTRYPOINT ["/`+name+`"]`, "-", ref); err != nil {
		t.Fatal(err)
	}
}

func random() string { return strings.ToLower(rand.Text()[:8]) }
