package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rayje/dnsdock/internal/dnstest"
)

// A front is a DNS server that clients ask: dnsdock, or one that asks dnsdock.
type front struct {
	name string
	addr string
	args []string // its command line; nil for dnsdock, which runs already

	files map[string]string // further ones that it has, by path
}

const unboundConf = `server:
  interface: 127.0.0.2
  access-control: 127.0.0.0/8 allow
  directory: ""
  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  do-not-query-localhost: no
  # The root's key, so that domain-insecure is needed.
  trust-anchor: ". DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D"
  domain-insecure: "docker"
  domain-insecure: "10.in-addr.arpa"
  domain-insecure: "d.f.ip6.arpa"
  local-zone: "10.in-addr.arpa." nodefault
  local-zone: "d.f.ip6.arpa." nodefault
remote-control:
  control-enable: no
stub-zone:
  name: "docker"
  stub-addr: 127.0.0.1
forward-zone:
  name: "10.in-addr.arpa"
  forward-addr: 127.0.0.1
forward-zone:
  name: "d.f.ip6.arpa"
  forward-addr: 127.0.0.1
`

// resolvConf follows the nameserver's address. A client has one try.
const resolvConf = `
search nginx.docker docker
options ndots:2 attempts:1 timeout:30
`

const resolvedConf = `[Resolve]
DNS=127.0.0.1
Domains=~docker ~10.in-addr.arpa ~d.f.ip6.arpa
DNSSEC=no
LLMNR=no
MulticastDNS=no
`

var fronts = []front{
	{"dnsdock", "127.0.0.1", nil, nil},
	{"unbound", "127.0.0.2", []string{"unbound", "-d", "-c", "/etc/unbound.conf"}, nil},
	{"dnsmasq", "127.0.0.3", []string{
		"dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--pid-file=", "--log-facility=-",
		"--no-resolv", "--no-hosts", "--bind-interfaces", "--listen-address=127.0.0.3",
		"--server=/docker/127.0.0.1#53", "--server=/10.in-addr.arpa/127.0.0.1", "--server=/d.f.ip6.arpa/127.0.0.1",
		"--stop-dns-rebind", "--rebind-domain-ok=/docker/",
	}, nil},
	{"systemd-resolved", "127.0.0.53", []string{findResolved()}, nil},
}

// findResolved returns the path of systemd-resolved. Debian does not install
// it in a directory of $PATH.
func findResolved() string {
	if path, err := exec.LookPath("systemd-resolved"); err == nil {
		return path
	}
	return "/lib/systemd/systemd-resolved"
}

// A netSpace is a network namespace of its own.
type netSpace struct {
	name string
	dir  string
}

// newNetSpace makes one. It skips the test where that can't be done.
func newNetSpace(t *testing.T) *netSpace {
	t.Helper()
	dnstest.Needs(t, "go", "ip", "nsenter", "unshare", "mount", "curl", "dig")
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		t.Skip("only root can make a network namespace")
	}
	s := &netSpace{name: "dnsdock-" + random(), dir: t.TempDir()}
	if out, err := exec.Command("ip", "netns", "add", s.name).CombinedOutput(); err != nil {
		t.Skipf("no network namespace: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("ip", "netns", "del", s.name).CombinedOutput(); err != nil {
			t.Errorf("ip netns del: %v: %s", err, out)
		}
	})
	for _, args := range []string{
		"link set lo up",
		// Without an address on a link systemd-resolved does not ask at all.
		"link add v0 type veth peer name v1",
		"addr add 192.0.2.1/24 dev v0",
		"addr add 2001:db8::1/64 dev v0 nodad",
		"link set v0 up",
		"link set v1 up",
		"addr add fe80::53/64 dev v0 nodad",
		"addr add 192.0.2.2/24 dev v0",
		"addr add 2001:db8::2/64 dev v0 nodad",
	} {
		out, err := exec.Command("ip", append([]string{"-n", s.name}, strings.Fields(args)...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("ip %s: %v: %s", args, err, out)
		}
	}
	return s
}

// etc makes a directory with an etc, in which addr is the nameserver, and with
// a run, in which no client finds a daemon of the machine.
func (s *netSpace) etc(t *testing.T, addr string) (dir string) {
	t.Helper()
	dir = filepath.Join(s.dir, addr)
	files := map[string]string{
		"etc/resolv.conf":           "nameserver " + addr + resolvConf,
		"etc/nsswitch.conf":         "passwd: files\ngroup: files\nhosts: dns\n",
		"etc/hosts":                 "",
		"etc/unbound.conf":          unboundConf,
		"etc/systemd/resolved.conf": resolvedConf,
		"etc/passwd":                "root:x:0:0::/:/bin/sh\nsystemd-resolve:x:65531:65531::/:/bin/false\n",
		"etc/group":                 "root:x:0:\nsystemd-resolve:x:65531:\n",
		"run/systemd/empty":         "",
	}
	for f, text := range files {
		writeFile(t, filepath.Join(dir, f), text)
	}
	return dir
}

// writeFile writes a file, and makes its directory.
func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// command returns a command that runs in the namespace, with dir, which etc
// made, over /etc and /run. Each step executes the next one, so that signals to
// the process reach the program.
func (s *netSpace) command(t *testing.T, dir string, args ...string) *exec.Cmd {
	mounts := `mount --bind "$0/etc" /etc && mount --bind "$0/run" /run && exec "$@"`
	enter := []string{"--net=/run/netns/" + s.name, "unshare", "--mount", "sh", "-c", mounts, dir}
	cmd := exec.CommandContext(t.Context(), "nsenter", append(enter, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
	return cmd
}

// start runs a daemon until the test ends.
func (s *netSpace) start(t *testing.T, dir string, args ...string) (log *dnstest.Log, ended <-chan struct{}) {
	t.Helper()
	log, done := dnstest.NewLog(), make(chan struct{})
	cmd := s.command(t, dir, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = dnstest.Patience
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(done)
	}()
	t.Cleanup(func() { // the context has ended by now
		<-done
		if t.Failed() {
			t.Logf("log of %s:\n%s", args[0], log)
		}
	})
	return log, done
}

// startFront runs a server, and waits until it answers.
func (s *netSpace) startFront(t *testing.T, f front) (dir string) {
	t.Helper()
	return s.runFront(t, f, "10.0.0.4")
}

// runFront runs a server, and waits until its answer for only4.nginx.docker is want.
func (s *netSpace) runFront(t *testing.T, f front, want string) (dir string) {
	t.Helper()
	dir = s.etc(t, f.addr)
	for file, text := range f.files {
		writeFile(t, filepath.Join(dir, file), text)
	}
	if f.args == nil {
		return dir
	}
	dnstest.Needs(t, f.args[0])
	log, ended := s.start(t, dir, f.args...)
	got := ""
	for end := time.Now().Add(dnstest.Patience); time.Now().Before(end); {
		select {
		case <-ended:
			t.Fatalf("%s has ended:\n%s", f.name, log)
		default:
		}
		dig := s.command(t, dir, "dig", "+tries=1", "+time=1", "only4.nginx.docker", "A")
		out, _ := dig.CombinedOutput() // an error is no answer
		if got = parseMessage(string(out), "A"); got == want {
			return dir
		}
	}
	t.Fatalf("%s does not answer: %s", f.name, got)
	return ""
}

// publish runs dnsdock, and adds services by its API.
func (s *netSpace) publish(t *testing.T, dnsAddrs string) {
	t.Helper()
	engine := dnstest.NewEngine().ServeUnix(t)
	dir := s.etc(t, "127.0.0.1")
	binary, err := built()
	if err != nil {
		t.Fatal(err)
	}
	log, _ := s.start(t, dir, binary,
		"-dns="+dnsAddrs, "-http=127.0.0.1:80", "-ttl=5", "-nameserver=", "-docker="+engine)
	log.Wait(t, "msg=listening for=http")
	log.Wait(t, "engine found") // until then all else is SERVFAIL
	many, err := json.Marshal(manyAddrs())
	if err != nil {
		t.Fatal(err)
	}
	for id, body := range map[string]string{
		"web": `{"name": "web", "image": "nginx", "ips": ["10.0.0.1", "fd00::1"], "txt": ["v=1, a b", "stage=dev"],
			"ports": ["80/tcp=http"]}`,
		"only4": `{"name": "only4", "image": "nginx", "ip": "10.0.0.4"}`,
		"alias": `{"name": "alias", "image": "nginx", "cname": "web.nginx.docker"}`,
		"many":  `{"name": "many", "image": "big", "ips": ` + string(many) + `}`,
	} {
		url := "http://127.0.0.1/services/" + id
		out, err := s.command(t, dir, "curl", "-sS", "--fail-with-body", "-X", "PUT", "-d", body, url).CombinedOutput()
		if err != nil {
			t.Fatalf("PUT %s: %v: %s", id, err, out)
		}
	}
}
