package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rayje/dnsdock/internal/dnstest"
)

// testSetups runs the commands and the file that the manual has for dnsdock in
// a container, with other addresses, names and images.
func testSetups(t *testing.T, s *stage) {
	dnstest.Needs(t, "docker-compose", "sh", "stat")
	s.hostOnly(t)
	if s.engine.podman || s.engine.socket != "/var/run/docker.sock" {
		t.Skip("the manual's set-ups are for Docker at /var/run/docker.sock")
	}
	ref := "dnsdock-test-" + s.prefix + "/dnsdock:1"
	s.engine.importImage(t, ref, "dnsdock", goBuild(t, s.engine.arch, program))
	for _, page := range []string{"README.md", "docs/setup.md"} {
		text, err := os.ReadFile(filepath.Join("..", "..", page))
		if err != nil {
			t.Fatal(err)
		}
		command := regexp.MustCompile(`(?m)^    docker run -d --name dnsdock (?:.*\\\n)*.* dnsdock$`)
		commands := command.FindAllString(string(text), -1)
		if len(commands) == 0 {
			t.Errorf("%s: found no command that starts dnsdock", page)
		}
		for i, command := range commands {
			name := s.name("setup" + string(rune('a'+i)) + strings.ToLower(filepath.Base(page)[:1]))
			command = strings.ReplaceAll(command, "--name dnsdock", "--name "+name+" --label "+s.prefix)
			command = strings.ReplaceAll(command, "172.17.0.1:53", "127.0.9.1:53")
			s.sh(t, strings.TrimSuffix(command, "dnsdock")+ref+" -nameserver=")
			s.answers(t, name, "127.0.9.1:53")
			s.docker(t, "rm", "--force", name)
		}
	}
	s.tryComposeFile(t, ref)
}

// answers waits until the container name answers for itself at the address addr.
func (s *stage) answers(t *testing.T, name, addr string) {
	t.Helper()
	in := &instance{dns: addr, log: s.logs(t, name)}
	in.log.Wait(t, "engine found")
	in.soon(t, name+".dnsdock.docker A", "NOERROR", s.ip(t, name))
}

// tryComposeFile starts compose.yaml.
func (s *stage) tryComposeFile(t *testing.T, ref string) {
	t.Helper()
	text, err := os.ReadFile("../../compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "compose.yaml")
	changed := strings.ReplaceAll(string(text), "image: dnsdock", "image: "+ref)
	if err := os.WriteFile(file, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	compose := "DNSDOCK_ADDRESS=127.0.9.1 DNSDOCK_HTTP_PORT=0 DOCKER_GID=$(stat -c %g /var/run/docker.sock)" +
		" docker-compose -f " + file + " -p " + s.prefix + " "
	t.Cleanup(func() { s.sh(t, compose+"down --timeout 1") })
	s.sh(t, compose+"up -d")
	name := s.docker(t, "ps", "--filter=label=com.docker.compose.project="+s.prefix, "--format={{.Names}}")
	s.answers(t, name, "127.0.9.1:53")
}

// sh runs a command of a shell, with the stage's engine.
func (s *stage) sh(t *testing.T, command string) {
	t.Helper()
	cmd := exec.Command("sh", "-c", command)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+s.engine.socket, "DOCKER_TLS_VERIFY=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
}
