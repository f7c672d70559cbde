package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rayje/dnsdock/internal/dnstest"
)

// A stage has the containers and networks that one test makes on an engine. They
// are removed when the test ends.
type stage struct {
	engine  *liveEngine
	prefix  string            // of all names, and a label of all containers and networks
	subnets map[string]string // IPv4 subnets by network
}

func (e *liveEngine) newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{engine: e, prefix: "t" + random(), subnets: make(map[string]string)}
	t.Cleanup(func() { s.clear(t) })
	return s
}

// clear removes all containers and networks.
func (s *stage) clear(t *testing.T) {
	for _, what := range [][2][]string{
		{{"ps", "--all"}, {"rm", "--force", "--volumes"}},
		{{"network", "ls"}, {"network", "rm"}},
	} {
		var err error
		for range 3 { // podman first removes containers that share the network of others
			var ids string
			ids, err = s.engine.try(nil, append(what[0], "--quiet", "--no-trunc", "--filter=label="+s.prefix)...)
			if err == nil && ids != "" {
				_, err = s.engine.try(nil, append(what[1], strings.Fields(ids)...)...)
			}
			if err == nil {
				break
			}
		}
		if err != nil {
			t.Error(err)
		}
	}
}

func (s *stage) docker(t *testing.T, args ...string) string {
	t.Helper()
	return s.engine.docker(t, args...)
}

// name returns a name for a container or network that no other test uses.
func (s *stage) name(part string) string { return s.prefix + "-" + strings.ReplaceAll(part, " ", "-") }

// fqdn returns the full name of a container.
func (s *stage) fqdn(container string) string { return container + ".app.docker." }

// dnsdock starts the program for the stage's engine, and waits until it knows
// all containers: before, unknown names are SERVFAIL.
func (s *stage) dnsdock(t *testing.T, args ...string) *instance {
	t.Helper()
	in := startDnsdock(t, append([]string{"-docker=unix://" + s.engine.socket}, args...)...)
	in.ready(t)
	return in
}

// run starts a container and returns its id.
func (s *stage) run(t *testing.T, name string, args ...string) string {
	t.Helper()
	return s.runImage(t, s.engine.image, name, args...)
}

// runImage starts a container. The image may be followed by arguments.
func (s *stage) runImage(t *testing.T, image, name string, args ...string) string {
	t.Helper()
	return s.runCommand(t, "run --detach", image, name, args...)
}

func (s *stage) runCommand(t *testing.T, command, image, name string, args ...string) string {
	t.Helper()
	named := []string{"--name=" + name, "--label=" + s.prefix}
	return s.docker(t, slices.Concat(strings.Fields(command), named, args, strings.Fields(image))...)
}

// create makes a container by the API, because the docker command has no flag
// for a health check without a shell.
func (s *stage) create(t *testing.T, name string, body map[string]any) {
	t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", s.engine.socket)
	}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	resp, err := client.Post("http://docker/containers/create?name="+name, "application/json", bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if reply, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusCreated {
		t.Fatalf("create %s: %s %s", name, resp.Status, reply)
	}
}

func (s *stage) inspect(t *testing.T, container, format string) string {
	t.Helper()
	return s.docker(t, "inspect", "--format="+format, container)
}

// ip returns the IPv4 address of a container that is on one network.
func (s *stage) ip(t *testing.T, container string) string {
	t.Helper()
	ip := s.inspect(t, container, "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")
	if _, err := netip.ParseAddr(ip); err != nil {
		t.Fatalf("container %s has %q; want one address", container, ip)
	}
	return ip
}

// pause tries several times, since the freezer of cgroup v1 fails sometimes.
func (s *stage) pause(t *testing.T, container string) {
	t.Helper()
	const tries = 10
	var err error
	for range tries {
		if _, err = s.engine.try(nil, "pause", container); err == nil {
			return
		}
	}
	t.Fatal(err)
}

// network makes a network with a random subnet of 198.18.0.0/15, which is
// reserved for tests (RFC 2544).
func (s *stage) network(t *testing.T, part string, args ...string) string {
	t.Helper()
	const tries = 20
	var err error
	for range tries {
		b := make([]byte, 2)
		_, _ = rand.Read(b) // can't fail
		name, subnet := s.name(part), fmt.Sprintf("198.%d.%d.0/24", 18+b[0]%2, b[1])
		create := []string{"network", "create", "--label=" + s.prefix, "--subnet=" + subnet}
		_, err = s.engine.try(nil, slices.Concat(create, args, []string{name})...)
		if err == nil {
			s.subnets[name] = subnet
			return name
		}
		if !strings.Contains(err.Error(), "overlaps") {
			break
		}
	}
	t.Fatal(err)
	return ""
}

// network6 makes a network of both families. It skips the test if IPv6 is off.
func (s *stage) network6(t *testing.T, part string) string {
	t.Helper()
	if _, err := os.Stat("/proc/net/if_inet6"); runtime.GOOS == "linux" && err != nil {
		t.Skip("IPv6 is off")
	}
	b := make([]byte, 6)
	_, _ = rand.Read(b) // can't fail
	return s.network(t, part, "--ipv6", fmt.Sprintf("--subnet=fd%x:%x:%x::/64", b[:1], b[1:3], b[3:5]))
}

// hostAddr returns the nth address of a /24.
func hostAddr(subnet string, n int) string {
	return strings.TrimSuffix(subnet, ".0/24") + "." + strconv.Itoa(n)
}

// logs follows the log of a container until the container or the test ends.
func (s *stage) logs(t *testing.T, container string) *dnstest.Log {
	t.Helper()
	l := dnstest.NewLog()
	cmd := exec.Command("docker", "--host=unix://"+s.engine.socket, "logs", "--follow", container)
	cmd.Stdout, cmd.Stderr = l, l
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("log of container %s:\n%s", container, l)
		}
	})
	return l
}
