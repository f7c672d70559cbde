package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rayje/dnsdock/internal/dnstest"
)

// testCompose has names that docker-compose's labels give.
func testCompose(t *testing.T, s *stage) {
	dnstest.Needs(t, "docker-compose")
	in, without := s.dnsdock(t), s.dnsdock(t, "-compose=false")
	compose := s.composeProject(t)
	compose("up", "--detach", "--scale", "web=2")
	made := func(service, number string) string { // proj_web_1, or proj-web-1 by newer versions
		t.Helper()
		const label = "--filter=label=com.docker.compose."
		return s.docker(t, "ps", label+"project="+s.prefix, label+"service="+service, label+"container-number="+number,
			"--format={{.Names}}")
	}
	web1, web2, db := made("web", "1"), made("web", "2"), made("db", "1")
	one, two := s.ip(t, web1), s.ip(t, web2)
	in.soon(t, "web."+s.prefix+".docker A", "NOERROR", one, two)
	in.soon(t, "2.web."+s.prefix+".docker A", "NOERROR", two)
	in.want(t, "1.web."+s.prefix+".docker A", "NOERROR", one)
	in.want(t, "x.1.web."+s.prefix+".docker A", "NOERROR", one)
	shared := strings.TrimPrefix(s.inspect(t, db, "{{.HostConfig.NetworkMode}}"), "container:") // web1 or web2
	in.soon(t, "db."+s.prefix+".docker A", "NOERROR", s.ip(t, shared))
	in.want(t, s.prefix+".docker A", "NOERROR")
	in.want(t, "3.web."+s.prefix+".docker A", "NXDOMAIN")
	in.want(t, s.fqdn(web1)+" A", "NOERROR", one)
	in.want(t, s.fqdn(db)+" A", "NOERROR", s.ip(t, shared))
	without.soon(t, s.fqdn(web2)+" A", "NOERROR", two)
	without.want(t, "web."+s.prefix+".docker A", "NXDOMAIN")
	if !s.engine.podman { // where docker-compose run fails
		compose("run", "--detach", "web")
		in.log.Wait(t, "service added", s.prefix, "web", "run")
		in.want(t, "web."+s.prefix+".docker A", "NOERROR", one, two) // without the one-off container
		in.want(t, "claim-"+s.prefix+".docker A", "NOERROR", one, two)
		compose("run", "--detach", "--use-aliases", "--name", s.name("aliased"), "web")
		three := s.ip(t, s.name("aliased"))
		in.soon(t, "web."+s.prefix+".docker A", "NOERROR", one, two, three)
		in.want(t, "claim-"+s.prefix+".docker A", "NOERROR", one, two, three)
		s.docker(t, "rm", "--force", s.name("aliased"))
		in.soon(t, "web."+s.prefix+".docker A", "NOERROR", one, two)
	}

	// A project and an image have the same name.
	s.docker(t, "tag", s.engine.image, "registry.test/"+s.prefix+":1")
	t.Cleanup(func() { s.docker(t, "rmi", "registry.test/"+s.prefix+":1") })
	plain := s.name("plain")
	in.log.Wait(t, "service added", s.runImage(t, "registry.test/"+s.prefix+":1", plain))
	in.want(t, s.prefix+".docker A", "NOERROR", s.ip(t, plain))
	in.want(t, "web."+s.prefix+".docker A", "NOERROR", one, two)
	compose("stop", "--timeout=1")
	in.soon(t, "web."+s.prefix+".docker A", "NXDOMAIN")
	in.want(t, s.prefix+".docker A", "NOERROR", s.ip(t, plain))
}

// composeProject writes a project of two services, web and db, and returns the
// docker-compose command for it.
func (s *stage) composeProject(t *testing.T) (compose func(args ...string)) {
	t.Helper()
	dir := t.TempDir()
	file := fmt.Sprintf(`version: "2.4"
services:
  web: {image: %[1]q, labels: {%[2]s: "", com.dnsdock.alias: claim-%[2]s.docker}}
  db: {image: %[1]q, labels: {%[2]s: ""}, network_mode: "service:web"}
networks:
  default: {labels: {%[2]s: ""}}
`, s.engine.image, s.prefix)
	if err := os.WriteFile(filepath.Join(dir, "docker-compose.yml"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(args ...string) {
		t.Helper()
		cmd := exec.Command("docker-compose", append([]string{"--project-name", s.prefix}, args...)...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "DOCKER_HOST=unix://"+s.engine.socket, "DOCKER_TLS_VERIFY=")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("docker-compose %s: %v: %s", args, err, out)
		}
	}
}

// testHealth has a health check that turns.
func testHealth(t *testing.T, s *stage) {
	in, without := s.dnsdock(t), s.dnsdock(t, "-health=false")
	alias := "web-" + s.prefix + ".docker"
	a, b := s.name("a"), s.name("b")
	for _, name := range []string{a, b} {
		s.create(t, name, map[string]any{
			"Image": s.engine.image, "Labels": map[string]string{s.prefix: "", "com.dnsdock.alias": alias},
			"Healthcheck": map[string]any{
				"Test":     []string{"CMD", "/app", "check"},
				"Interval": time.Second, "Timeout": 5 * time.Second, "Retries": 1,
			},
		})
		s.docker(t, "start", name)
	}
	if s.engine.podman {
		defer s.checkHealth(t, a, b)() // podman leaves that to timers of systemd
	}
	ipA, ipB := s.ip(t, a), s.ip(t, b)
	in.soon(t, alias+" A", "NOERROR", ipA, ipB) // both are starting or healthy
	turn := func(container string, sick bool) {
		t.Helper()
		if sick {
			file := filepath.Join(t.TempDir(), "sick")
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			s.docker(t, "cp", file, container+":/sick")
		} else {
			s.docker(t, "exec", container, "/app", "heal")
		}
	}
	turn(a, true)
	in.soon(t, alias+" A", "NOERROR", ipB)
	in.want(t, s.fqdn(a)+" A", "NOERROR", ipA)
	without.want(t, alias+" A", "NOERROR", ipA, ipB)
	turn(b, true)
	in.soon(t, alias+" A", "NOERROR", ipA, ipB)
	turn(a, false)
	in.soon(t, alias+" A", "NOERROR", ipA)
	turn(b, false)
	in.soon(t, alias+" A", "NOERROR", ipA, ipB)
}

// checkHealth has podman check the health of containers until end is called.
func (s *stage) checkHealth(t *testing.T, containers ...string) (end func()) {
	t.Helper()
	dnstest.Needs(t, "curl")
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, c := range containers {
		wg.Go(func() {
			for ctx.Err() == nil {
				url := "http://d/v4.0.0/libpod/containers/" + c + "/healthcheck"
				cmd := exec.CommandContext(ctx, "curl", "--silent", "--unix-socket", s.engine.socket, url)
				_ = cmd.Run() // podman keeps the result
			}
		})
	}
	return func() {
		cancel()
		wg.Wait()
	}
}
