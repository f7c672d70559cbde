//go:build linux

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const dockerSocket = "/var/run/docker.sock"

// hasDocker reports whether a real engine answers.
func hasDocker() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return exec.CommandContext(ctx, "docker", "--host=unix://"+dockerSocket, "version").Run() == nil
}

// docker runs the docker command and returns its output.
func docker(args ...string) (string, error) {
	args = append([]string{"--host=unix://" + dockerSocket}, args...)
	out, err := exec.Command("docker", args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

const realCount = 4

// real are containers of the real engine: what a query for each must get.
var real = func() (list []*truth[string]) {
	for range realCount {
		list = append(list, newTruth("NXDOMAIN"))
	}
	return list
}()

// realApp is the program of the containers.
const realApp = `package main

import (
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	select {
	case <-end:
	case <-time.After(2 * time.Hour):
	}
}
`

// driveDocker starts, stops and removes containers of a real engine.
func (s *soak) driveDocker(ctx context.Context) {
	if !s.withDocker {
		return
	}
	label := fmt.Sprintf("dnsdock-soak-%d", os.Getpid())
	image := label + "/soak:1"
	if err := s.importApp(image); err != nil {
		s.tally.fail("a real engine", "%v", err)
		return
	}
	defer func() {
		if ids, err := docker("ps", "--all", "--quiet", "--filter=label="+label); err == nil && ids != "" {
			_, err = docker(append([]string{"rm", "--force"}, strings.Fields(ids)...)...)
			if err != nil {
				s.tally.fail("a real engine", "%v", err)
			}
		}
		if _, err := docker("rmi", image); err != nil {
			s.tally.fail("a real engine", "%v", err)
		}
	}()
	s.repeat(ctx, 4*time.Second, func() error {
		i := rand.N(realCount)
		t, name := real[i], fmt.Sprintf("%s-%d", label, i)
		var err error
		want := "NXDOMAIN"
		if t.now() == want {
			_, err = docker("run", "--detach", "--name="+name, "--label="+label, image)
			if err == nil {
				want, err = docker("inspect", "--format={{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name)
				want = "NOERROR " + want
			}
			t.change(want)
		} else {
			t.change(want)
			_, err = docker("rm", "--force", name)
		}
		s.tally.add("changes in a real engine")
		if err == nil {
			err = s.await(ctx, name+".soak.real.", func(got string) bool { return got == want })
		}
		if ctx.Err() != nil {
			return errEnd
		}
		if err != nil {
			s.tally.fail("a real engine", "%v", err)
		}
		t.settle()
		return nil
	})
}

// askReal asks for a container of the real engine.
func (s questions) askReal() {
	i := rand.N(realCount)
	from := real[i].open()
	name := fmt.Sprintf("dnsdock-soak-%d-%d.soak.real.", os.Getpid(), i)
	got := s.query(name, "A", network())
	want := real[i].since(from)
	// A container is answered as soon as it starts, before its change is noted.
	starts := slices.Contains(want, "NXDOMAIN") && strings.HasPrefix(got, "NOERROR 172.")
	// Without a real engine the domain is not ours.
	right := slices.Contains(want, got) || starts || !s.withDocker
	s.check("a real engine", name, "A", got, right, want)
}

// importApp makes the image of the containers.
func (s *soak) importApp(image string) error {
	source, dir := filepath.Join(s.dir, "app.go"), filepath.Join(s.dir, "image")
	if err := os.WriteFile(source, []byte(realApp), 0o600); err != nil {
		return err
	}
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "app"), source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w: %s", err, out)
	}
	tar, err := exec.Command("tar", "-C", dir, "-c", "app").Output()
	if err != nil {
		return err
	}
	load := exec.Command("docker", "--host=unix://"+dockerSocket, "import", `--change=ENTRYPOINT ["/app"]`, "-", image)
	load.Stdin = strings.NewReader(string(tar))
	if out, err := load.CombinedOutput(); err != nil {
		return fmt.Errorf("docker import: %w: %s", err, out)
	}
	return nil
}
