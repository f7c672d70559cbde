package e2e

import (
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/rayje/dnsdock/internal/dnstest"
)

// hostOnly skips the test if this machine can't reach addresses of containers.
func (s *stage) hostOnly(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" || strings.Contains(s.docker(t, "info", "--format={{.SecurityOptions}}"), "rootless") {
		t.Skip("addresses of containers can't be reached from here")
	}
}

// scratch runs dnsdock without privileges in an image that has nothing else.
func (s *stage) scratch(t *testing.T, flags string, args ...string) (server string, in *instance) {
	t.Helper()
	s.hostOnly(t)
	dnstest.Needs(t, "getent", "stat")
	group, err := exec.Command("stat", "--format=%g", s.engine.socket).Output()
	if err != nil {
		t.Fatal(err)
	}
	ref := "dnsdock-test-" + s.prefix + "/dnsdock:1"
	s.engine.importImage(t, ref, "dnsdock", goBuild(t, s.engine.arch, program))
	server = s.name("dns")
	user := "--user=65532:65532"
	if s.engine.podman {
		user = "--user=0"                                 // the only one who may use the socket
		args = append(args, "--cap-add=NET_BIND_SERVICE") // for ports below 1024
	}
	args = append([]string{
		user, "--group-add=" + strings.TrimSpace(string(group)), "--cap-drop=ALL", "--read-only",
		"--security-opt=no-new-privileges", "--security-opt=label=disable",
		"--volume=" + s.engine.socket + ":/var/run/docker.sock",
	}, args...)
	s.runImage(t, ref+" -nameserver= "+flags, server, args...)
	t.Cleanup(func() { s.docker(t, "rm", "--force", server) }) // before its image is removed
	in = &instance{dns: s.ip(t, server) + ":53", http: "http://" + s.ip(t, server), log: s.logs(t, server)}
	in.log.Wait(t, "engine found")
	in.ready(t)
	return server, in
}

// testScratchImage runs dnsdock without privileges in an image that has nothing
// else, and asks it from the host and from containers.
func testScratchImage(t *testing.T, s *stage) {
	server, in := s.scratch(t, "")
	web, six := s.name("web"), s.network6(t, "six")
	in.log.Wait(t, "service added", s.run(t, web))
	ip := s.ip(t, web)
	in.want(t, s.fqdn(web)+" A", "NOERROR", ip)
	in.want(t, "-x "+ip, "NOERROR", s.fqdn(web))
	in.want(t, server+".dnsdock.docker A", "NOERROR", s.ip(t, server))
	if status, body := in.call(t, "GET", "/services", ""); status != 200 || !strings.Contains(body, web) {
		t.Errorf("GET /services: got %d %s; want 200 with %s", status, body, web)
	}
	client := func(network, server, program string, args ...string) string {
		t.Helper()
		return s.inside(t, network, []string{"--dns=" + server}, program, args...)
	}
	if got := getentAddrs(client("bridge", s.ip(t, server), "getent", "ahosts", s.fqdn(web))); got != ip {
		t.Errorf("getent inside: got %q; want %q", got, ip)
	}
	if got := client("bridge", s.ip(t, server), "dig", "+short", "+tcp", "-x", ip); got != s.fqdn(web) {
		t.Errorf("dig inside: got %q; want %q", got, s.fqdn(web))
	}

	// On a network that a user made the engine's resolver asks dnsdock.
	s.docker(t, "network", "connect", six, server)
	dual := s.name("dual")
	in.log.Wait(t, "service added", s.run(t, dual, "--network="+six))
	ip4 := s.ip(t, dual)
	ip6 := s.inspect(t, dual, "{{range .NetworkSettings.Networks}}{{.GlobalIPv6Address}}{{end}}")
	at := s.inspect(t, server, `{{(index .NetworkSettings.Networks "`+six+`").IPAddress}}`)
	if got := getentAddrs(client(six, at, "getent", "ahosts", s.fqdn(dual))); got != ip4+" "+ip6 {
		t.Errorf("getent inside of an IPv6 network: got %q; want %q", got, ip4+" "+ip6)
	}
	out := client(six, at, "dig", "+noall", "+comments", "+answer", "gone."+s.name("gone")+".app.docker")
	if got, data := parseDig(out); got != "NXDOMAIN" || data != nil {
		t.Errorf("dig inside of an IPv6 network: got %s %q; want NXDOMAIN", got, data)
	}

	s.docker(t, "stop", "--time=10", server) // podman kills at once without --time
	if !s.engine.podman {                    // podman does not send the end of a log
		in.log.Wait(t, "dnsdock ends")
	}
	if got := s.inspect(t, server, "{{.State.ExitCode}}"); got != "0" { // 137: the engine killed it
		t.Errorf("exit code after docker stop: got %s; want 0", got)
	}
}

// getentAddrs returns the addresses that getent ahosts printed, in order.
func getentAddrs(out string) string {
	var addrs []string
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) > 0 {
			addrs = append(addrs, f[0])
		}
	}
	slices.Sort(addrs)
	return strings.Join(slices.Compact(addrs), " ")
}
