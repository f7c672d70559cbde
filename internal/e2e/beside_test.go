package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rayje/dnsdock/internal/dnstest"
)

// manualOn returns what the manual says about another program: what its page about forwarding has in the first group
// of pattern.
func manualOn(t *testing.T, pattern string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/forwarding.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(pattern).FindSubmatch(text)
	if found == nil {
		t.Fatalf("docs/forwarding.md has nothing like %s", pattern)
	}
	return string(found[1])
}

// A systemd-resolved that validates believes dnsdock with the manual's negative trust anchors, and only then.
func TestNegativeTrustAnchors(t *testing.T) {
	t.Parallel()
	anchors := manualOn(t, `\*\*systemd-resolved\*\*[^\n]*dnsdock\.negative.*\n\n((?:    .*\n)+)`)
	anchors = strings.ReplaceAll(anchors, "17.172.in-addr.arpa", "10.in-addr.arpa")
	f := front{"systemd-resolved", "127.0.0.53", []string{findResolved()}, map[string]string{
		"etc/systemd/resolved.conf": strings.Replace(resolvedConf, "DNSSEC=no", "DNSSEC=yes", 1),
	}}
	t.Run("without", func(t *testing.T) {
		t.Parallel()
		s := newNetSpace(t)
		s.publish(t, "127.0.0.1:53")
		s.runFront(t, f, "SERVFAIL")
	})
	t.Run("with", func(t *testing.T) {
		t.Parallel()
		s := newNetSpace(t)
		s.publish(t, "127.0.0.1:53")
		f := f
		f.files = maps.Clone(f.files)
		f.files["etc/dnssec-trust-anchors.d/dnsdock.negative"] = anchors
		s.wantBehind(t, s.startFront(t, f))
	})
}

// A BIND that validates believes dnsdock with the manual's words. It has only the root's key, and no way to the root.
// It listens on addresses of interfaces only.
func TestBIND(t *testing.T) {
	t.Parallel()
	words := strings.NewReplacer("17.172.in-addr.arpa", "10.in-addr.arpa", "172.17.0.1", "127.0.0.1").Replace(
		manualOn(t, `\*\*BIND\*\*[^:]*:\n\n((?:(?:    .*)?\n)+)`))
	except, zones, _ := strings.Cut(words, "\n\n")
	options := "options { directory \"/tmp\"; listen-on { 192.0.2.1; }; listen-on-v6 { none; }; pid-file none; " +
		"session-keyfile none; dnssec-validation yes; %s };\n" +
		"trust-anchors { . static-ds 20326 8 2 " +
		"\"E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D\"; };\n"
	s := newNetSpace(t)
	s.publish(t, "127.0.0.1:53")
	s.wantBehind(t, s.startFront(t, front{"BIND", "192.0.2.1", []string{"named", "-g", "-c", "/etc/named.conf"},
		map[string]string{"etc/named.conf": fmt.Sprintf(options, except) + zones}}))
}

// wantBehind asks a server in front of dnsdock, which dir has as its nameserver.
func (s *netSpace) wantBehind(t *testing.T, dir string) {
	t.Helper()
	for query, want := range map[string]string{
		"web.nginx.docker A": "10.0.0.1", "nosuch.nginx.docker A": nxdomain, "only4.nginx.docker AAAA": nodata,
		"1.0.0.10.in-addr.arpa PTR": "web.nginx.docker", "_http._tcp.web.nginx.docker SRV": "0 1 80 web.nginx.docker",
	} {
		name, qtype, _ := strings.Cut(query, " ")
		out, _ := s.command(t, dir, "dig", "+tries=1", name, qtype).CombinedOutput() // an error is no answer
		if got := parseMessage(string(out), qtype); got != want {
			t.Errorf("%s: got %s; want %s\n%s", query, got, want, out)
		}
	}
}

// haproxy with the manual's words finds all servers of an SRV record that does not fit into a packet, and none flaps.
func TestHAProxy(t *testing.T) {
	t.Parallel()
	dnstest.Needs(t, "haproxy")
	in := startDnsdock(t, "-ttl=0")
	const servers = 100
	ports := []string{"80/tcp=http"}
	for i := range servers {
		body, err := json.Marshal(map[string]any{
			"name": fmt.Sprintf("web%d", i), "image": "nginx", "ip": fmt.Sprintf("10.0.1.%d", i), "ports": ports,
		})
		if err != nil {
			t.Fatal(err)
		}
		if status, reply := in.call(t, "PUT", fmt.Sprintf("/services/web%d", i), string(body)); status >= 300 {
			t.Fatalf("PUT: %d %s", status, reply)
		}
	}
	section := manualOn(t, `\*\*haproxy\*\*[^*]*?\n\n((?:    .*\n)+)`)
	section = strings.Replace(section, "172.17.0.1:53", in.dns, 1)
	dir := t.TempDir()
	h := haproxy{filepath.Join(dir, "socket")}
	conf := filepath.Join(dir, "haproxy.cfg")
	writeFile(t, conf, fmt.Sprintf(`global
    stats socket %s
defaults
    timeout connect 1s
    timeout client 1s
    timeout server 1s
%s        timeout resolve 200ms
        timeout retry 200ms
        hold valid 200ms
frontend f
    bind unix@%s
    default_backend web
backend web
    server-template web %d _http._tcp.nginx.docker resolvers docker init-addr none
`, h.socket, section, filepath.Join(dir, "front"), servers+20))
	cmd := exec.Command("haproxy", "-db", "-f", conf)
	log := dnstest.NewLog()
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = log, log, endsWithTests()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it has ended if something is wrong
		_ = cmd.Wait()         // it was killed
		if t.Failed() {
			t.Logf("haproxy:\n%s", log)
		}
	})
	h.await(t, servers)
	for begun := h.replies(); h.replies() < begun+5; { // and it keeps them
		if n := h.servers(); n != servers {
			t.Fatalf("haproxy has %d servers; want %d all the time", n, servers)
		}
	}
	if status, reply := in.call(t, "DELETE", "/services/web7", ""); status >= 300 {
		t.Fatalf("DELETE: %d %s", status, reply)
	}
	h.await(t, servers-1)
}

// A haproxy is one that runs.
type haproxy struct {
	socket string // for commands
}

// say returns the reply to a command, nothing if there is none.
func (h haproxy) say(command string) string {
	c, err := net.Dial("unix", h.socket)
	if err != nil {
		return ""
	}
	defer c.Close()
	_, _ = fmt.Fprintln(c, command) // its error is that of ReadAll
	b, _ := io.ReadAll(c)
	return string(b)
}

// servers returns how many servers have an address.
func (h haproxy) servers() int {
	return len(regexp.MustCompile(`(?m)^\d+ web \d+ web\d+ 10\.`).FindAllString(h.say("show servers state web"), -1))
}

// replies returns how many replies of dnsdock it took.
func (h haproxy) replies() (n int) {
	if found := regexp.MustCompile(`valid: +(\d+)`).FindStringSubmatch(h.say("show resolvers docker")); found != nil {
		n, _ = strconv.Atoi(found[1])
	}
	return n
}

func (h haproxy) await(t *testing.T, servers int) {
	t.Helper()
	for end := time.Now().Add(dnstest.Patience); h.servers() != servers; {
		if time.Now().After(end) {
			t.Fatalf("haproxy has %d servers; want %d\n%s", h.servers(), servers, h.say("show resolvers docker"))
		}
	}
}
