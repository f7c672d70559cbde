package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A lookup is a question to a client, and what has to come of it: the data in
// order, without the dots that end names, or NODATA, or NXDOMAIN.
type lookup struct {
	name  string // or an address, of which the client makes a name
	qtype string // addrs: both families, as programs ask
	want  string
}

const (
	nodata   = "NODATA"
	nxdomain = "NXDOMAIN"
	nothing  = "nothing" // said by clients that know neither
)

var lookups = []lookup{
	{"web.nginx.docker", "A", "10.0.0.1"},
	{"web.nginx.docker", "AAAA", "fd00::1"},
	{"web.nginx.docker", "addrs", "10.0.0.1; fd00::1"},
	{"WEB.Nginx.docker", "addrs", "10.0.0.1; fd00::1"},
	{"10.0.0.1", "PTR", "web.nginx.docker"},
	{"fd00::1", "PTR", "web.nginx.docker"},
	{"10.0.0.99", "PTR", nxdomain},
	{"web.nginx.docker", "MX", "0 web.nginx.docker"},
	{"web.nginx.docker", "TXT", `"stage=dev"; "v=1, a b"`},
	{"_http._tcp.web.nginx.docker", "SRV", "0 1 80 web.nginx.docker"},
	{"_80._tcp.web.nginx.docker", "SRV", "0 1 80 web.nginx.docker"},
	{"alias.nginx.docker", "CNAME", "web.nginx.docker"},
	{"alias.nginx.docker", "A", "10.0.0.1"},
	{"alias.nginx.docker", "addrs", "10.0.0.1; fd00::1"},
	{"docker.", "SOA", "dnsdock.docker hostmaster.docker"},
	{"docker.", "NS", "dnsdock.docker"},
	{"only4.nginx.docker", "A", "10.0.0.4"},
	{"only4.nginx.docker", "AAAA", nodata},
	{"only4.nginx.docker", "addrs", "10.0.0.4"}, // not NXDOMAIN for the one that is not there
	{"only4.nginx.docker", "TXT", nodata},
	{"nosuch.nginx.docker", "A", nxdomain},
	{"nosuch.nginx.docker", "AAAA", nxdomain},
	{"nosuch.nginx.docker", "addrs", nxdomain},
	{"many.big.docker", "A", strings.Join(manyAddrs(), "; ")},
	{"many.big.docker", "addrs", strings.Join(manyAddrs(), "; ")},
}

// searched are names that are complete only with a domain of resolv.conf.
var searched = []lookup{
	{"web", "A", "10.0.0.1"},
	{"web", "addrs", "10.0.0.1; fd00::1"},
	{"web.nginx", "addrs", "10.0.0.1; fd00::1"}, // after NXDOMAIN for web.nginx.nginx.docker
	{"only4", "addrs", "10.0.0.4"},
}

// manyAddrs are more than a reply over UDP holds.
func manyAddrs() (list []string) {
	for i := range 150 {
		list = append(list, fmt.Sprintf("10.9.0.%d", 1+i))
	}
	slices.Sort(list)
	return list
}

// A resolver is a client of which it is known how to ask it.
type resolver struct {
	name     string
	needs    []string
	asks     string // the types that it can ask for
	searches bool   // it goes by search and ndots
	vague    bool   // it does not tell NODATA from NXDOMAIN
	partial  bool   // it makes do with a truncated reply
	args     func(name, qtype string) []string
	parse    func(out, qtype string) string
}

const (
	allTypes  = "A AAAA PTR MX TXT SRV CNAME SOA NS"
	hostTypes = "addrs A AAAA PTR" // of getaddrinfo and getnameinfo
)

// resolvers are all clients; dir holds the programs of buildAsk.
func resolvers(dir string) []resolver {
	tool := func(args ...string) func(name, qtype string) []string {
		return func(name, qtype string) []string { return append(args, "-t", qtype, reversed(name)) }
	}
	ask := func(program, mode string) func(name, qtype string) []string {
		return func(name, qtype string) []string {
			if mode == "query" {
				name = reversed(name)
			}
			return []string{filepath.Join(dir, program), mode, qtype, name, fmt.Sprint(dns.StringToType[qtype])}
		}
	}
	return []resolver{
		{name: "dig", needs: []string{"dig"}, asks: allTypes, searches: true, parse: parseMessage,
			args: tool("dig", "+tries=1", "+time=30", "+search")},
		{name: "dig noedns", needs: []string{"dig"}, asks: allTypes, parse: parseMessage,
			args: tool("dig", "+tries=1", "+time=30", "+noedns")},
		{name: "kdig", needs: []string{"kdig"}, asks: allTypes, parse: parseMessage,
			args: tool("kdig", "+retry=0", "+time=30")},
		{name: "drill", needs: []string{"drill"}, asks: allTypes, parse: parseMessage,
			args: func(name, qtype string) []string { return []string{"drill", "-a", reversed(name), qtype} }},
		{name: "host", needs: []string{"host"}, asks: allTypes, searches: true, parse: parseMessage,
			args: tool("host", "-v", "-R", "1", "-W", "30")},
		{name: "busybox nslookup", needs: []string{"busybox"}, asks: allTypes, searches: true, partial: true, parse: parseNslookup,
			args: func(name, qtype string) []string {
				return []string{"busybox", "nslookup", "-retry=1", "-timeout=30", "-type=" + strings.ToLower(qtype), reversed(name)}
			}},
		{name: "getent", needs: []string{"getent"}, asks: "addrs PTR", searches: true, vague: true, parse: parseGetent,
			args: func(name, qtype string) []string {
				return []string{"getent", map[string]string{"addrs": "ahosts", "PTR": "hosts"}[qtype], name}
			}},
		{name: "glibc getaddrinfo", needs: []string{"gcc"}, asks: hostTypes, searches: true, vague: true, parse: parseLines, args: ask("glibc", "host")},
		{name: "glibc res_query", needs: []string{"gcc"}, asks: allTypes, parse: parseLines, args: ask("glibc", "query")},
		{name: "musl getaddrinfo", needs: []string{"musl-gcc"}, asks: hostTypes, searches: true, vague: true, partial: true, parse: parseLines, args: ask("musl", "host")},
		{name: "musl res_query", needs: []string{"musl-gcc"}, asks: allTypes, partial: true, parse: parseLines, args: ask("musl", "query")},
		{name: "Go", needs: []string{"go"}, asks: "addrs A AAAA PTR MX TXT SRV CNAME NS", searches: true, vague: true, parse: parseLines, args: ask("go", "host")},
	}
}

// reversed returns the reverse name of an address, and other names as they are.
func reversed(name string) string {
	if arpa, err := dns.ReverseAddr(name); err == nil {
		return arpa
	}
	return name
}

var statusOf = regexp.MustCompile(`(?:status: |rcode: |not found: \d\()(\w+)`)

// parseMessage reads the last message in out, in the form of dig that others
// print too.
func parseMessage(out, qtype string) string {
	all := statusOf.FindAllStringSubmatch(out, -1)
	if all == nil {
		return "no reply: " + out
	}
	if status := all[len(all)-1][1]; status != "NOERROR" {
		return status
	}
	_, section, _ := strings.Cut(out[strings.LastIndex(out, all[len(all)-1][0]):], "ANSWER SECTION:\n")
	section, _, _ = strings.Cut(section, "\n\n")
	var data []string
	for line := range strings.Lines(section) {
		f := strings.Fields(line) // owner, TTL, class, type, data
		if len(f) < 5 || f[3] != qtype {
			continue
		}
		if qtype == "SOA" {
			f = f[:6] // the rest changes
		}
		data = append(data, strings.Join(f[4:], " "))
	}
	return normal(data, nodata)
}

// parseNslookup reads what BusyBox prints below the address of the server: of
// each domain that it searched, some with and some without an answer.
func parseNslookup(out, qtype string) string {
	_, out, _ = strings.Cut(out, "\n\n")
	var data []string
	none := nodata
	for line := range strings.Lines(out) {
		_, value, ok := strings.Cut(line, " = ")
		if qtype == "A" || qtype == "AAAA" {
			_, value, ok = strings.Cut(line, "Address: ")
		}
		switch value = strings.TrimSpace(value); {
		case strings.HasSuffix(line, ": NXDOMAIN\n"):
			none = nxdomain
		case strings.HasPrefix(line, ";;"), strings.HasPrefix(line, "** server can't find"):
			return line
		case strings.Contains(line, "mail addr = "):
			return normal([]string{data[0] + " " + value}, none) // the rest changes
		case ok && (qtype == "CNAME" || !strings.Contains(line, "canonical name")):
			data = append(data, value)
		}
	}
	return normal(data, none)
}

// parseGetent reads lines of an address and names.
func parseGetent(out, qtype string) string {
	var data []string
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); qtype == "PTR" && len(f) > 1 {
			data = append(data, f[1])
		} else if len(f) > 0 {
			data = append(data, f[0])
		}
	}
	return normal(data, nothing)
}

// parseLines reads what the programs of buildAsk print: data by lines, or
// why there is none.
func parseLines(out, qtype string) string {
	return normal(strings.Split(strings.TrimSpace(out), "\n"), "no output")
}

// normal joins data in order, without the dots that end names; with none it
// is what is given for that.
func normal(data []string, none string) string {
	for i, d := range data {
		f := strings.Split(d, " ")
		for j := range f {
			f[j] = strings.TrimSuffix(f[j], ".")
		}
		data[i] = strings.Join(f, " ")
	}
	slices.Sort(data)
	if data = slices.Compact(data); len(data) == 0 {
		return none
	}
	return strings.Join(data, "; ")
}

// accepts reports whether got is what the client should make of want.
func (r *resolver) accepts(got, want string) bool {
	switch {
	case r.vague && (want == nodata || want == nxdomain):
		return got == nothing
	case r.partial && strings.Count(want, ";") > 100:
		all := strings.Split(want, "; ")
		return got != "" && !slices.ContainsFunc(strings.Split(got, "; "), func(a string) bool { return !slices.Contains(all, a) })
	}
	return got == want
}

// A front is a DNS server that clients ask: dnsdock, or one that asks it.
type front struct {
	name string
	addr string
	args []string // its command; nil for dnsdock, which runs anyway
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

const resolvedConf = `[Resolve]
DNS=127.0.0.1
Domains=~docker ~10.in-addr.arpa ~d.f.ip6.arpa
DNSSEC=no
LLMNR=no
MulticastDNS=no
`

var fronts = []front{
	{"dnsdock", "127.0.0.1", nil},
	{"unbound", "127.0.0.2", []string{"unbound", "-d", "-c", "/etc/unbound.conf"}},
	{"dnsmasq", "127.0.0.3", []string{"dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--pid-file=", "--log-facility=-",
		"--no-resolv", "--no-hosts", "--bind-interfaces", "--listen-address=127.0.0.3",
		"--server=/docker/127.0.0.1#53", "--server=/10.in-addr.arpa/127.0.0.1", "--server=/d.f.ip6.arpa/127.0.0.1"}},
	{"systemd-resolved", "127.0.0.53", []string{findResolved()}},
}

// findResolved returns the path of systemd-resolved, which is not in $PATH
// where it is installed.
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
	needs(t, "go", "ip", "nsenter", "unshare", "mount", "curl", "dig")
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
		if out, err := exec.Command("ip", append([]string{"-n", s.name}, strings.Fields(args)...)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", args, err, out)
		}
	}
	return s
}

// etc makes a directory to be /etc where addr is the nameserver, and another
// to be /run, where no daemon of the machine can be met. One try is all that
// a client has.
func (s *netSpace) etc(t *testing.T, addr string) (dir string) {
	t.Helper()
	dir = filepath.Join(s.dir, addr)
	files := map[string]string{
		"etc/resolv.conf":           "nameserver " + addr + "\nsearch nginx.docker docker\noptions ndots:2 attempts:1 timeout:30\n",
		"etc/nsswitch.conf":         "passwd: files\ngroup: files\nhosts: dns\n",
		"etc/hosts":                 "",
		"etc/unbound.conf":          unboundConf,
		"etc/systemd/resolved.conf": resolvedConf,
		"etc/passwd":                "root:x:0:0::/:/bin/sh\nsystemd-resolve:x:65531:65531::/:/bin/false\n",
		"etc/group":                 "root:x:0:\nsystemd-resolve:x:65531:\n",
		"run/systemd/empty":         "",
	}
	for f, text := range files {
		f = filepath.Join(dir, f)
		if err := os.MkdirAll(filepath.Dir(f), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// command returns a command for the namespace that sees what etc made as /etc
// and /run. Its process is the program's: each step becomes the next one.
func (s *netSpace) command(t *testing.T, dir string, args ...string) *exec.Cmd {
	mounts := `mount --bind "$0/etc" /etc && mount --bind "$0/run" /run && exec "$@"`
	cmd := exec.CommandContext(t.Context(), "nsenter", append([]string{"--net=/run/netns/" + s.name, "unshare", "--mount", "sh", "-c", mounts, dir}, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
	return cmd
}

// start runs a daemon until the test ends.
func (s *netSpace) start(t *testing.T, dir string, args ...string) (log *logWatch, ended <-chan struct{}) {
	t.Helper()
	log, done := newLogWatch(), make(chan struct{})
	cmd := s.command(t, dir, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = patience
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
	dir = s.etc(t, f.addr)
	if f.args == nil {
		return dir
	}
	needs(t, f.args[0])
	log, ended := s.start(t, dir, f.args...)
	got := ""
	for end := time.Now().Add(patience); time.Now().Before(end); {
		select {
		case <-ended:
			t.Fatalf("%s has ended:\n%s", f.name, log)
		default:
		}
		out, _ := s.command(t, dir, "dig", "+tries=1", "+time=1", "only4.nginx.docker", "A").CombinedOutput() // its error is in the answer
		if got = parseMessage(string(out), "A"); got == "10.0.0.4" {
			return dir
		}
	}
	t.Fatalf("%s does not answer: %s", f.name, got)
	return ""
}

// publish runs dnsdock, with services that were made by its API.
func (s *netSpace) publish(t *testing.T, dnsAddrs string) {
	t.Helper()
	socket := filepath.Join(s.dir, "docker.sock")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: newFakeEngine()}
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close() })

	dir := s.etc(t, "127.0.0.1")
	program := filepath.Join(s.dir, "dnsdock")
	if err := os.WriteFile(program, goBuild(t, runtime.GOARCH, "."), 0o755); err != nil {
		t.Fatal(err)
	}
	log, _ := s.start(t, dir, program, "-dns="+dnsAddrs, "-http=127.0.0.1:80", "-ttl=5", "-nameserver=", "-docker=unix://"+socket)
	log.wait(t, "msg=listening for=http")
	log.wait(t, "engine found") // until then all else is SERVFAIL
	many, err := json.Marshal(manyAddrs())
	if err != nil {
		t.Fatal(err)
	}
	for id, body := range map[string]string{
		"web":   `{"name": "web", "image": "nginx", "ips": ["10.0.0.1", "fd00::1"], "txt": ["v=1, a b", "stage=dev"], "ports": ["80/tcp=http"]}`,
		"only4": `{"name": "only4", "image": "nginx", "ip": "10.0.0.4"}`,
		"alias": `{"name": "alias", "image": "nginx", "cname": "web.nginx.docker"}`,
		"many":  `{"name": "many", "image": "big", "ips": ` + string(many) + `}`,
	} {
		out, err := s.command(t, dir, "curl", "-sS", "--fail-with-body", "-X", "PUT", "-d", body, "http://127.0.0.1/services/"+id).CombinedOutput()
		if err != nil {
			t.Fatalf("PUT %s: %v: %s", id, err, out)
		}
	}
}

// TestClients has resolvers of all kinds ask dnsdock, by themselves and by
// the servers that stand in front of it.
func TestClients(t *testing.T) {
	t.Parallel()
	s := newNetSpace(t)
	s.publish(t, "127.0.0.1:53")
	s.buildAsk(t)
	for _, f := range fronts {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			dir := s.startFront(t, f)
			for _, r := range resolvers(s.dir) {
				t.Run(r.name, func(t *testing.T) {
					t.Parallel()
					needs(t, r.needs...)
					s.askAll(t, f, &r, dir)
				})
			}
		})
	}
}

// On a host of many addresses each reply leaves from the one that was asked,
// whether the fast path answers or not. dig takes no other.
func TestRepliesLeaveFromWhereTheyWereAsked(t *testing.T) {
	t.Parallel()
	for _, listen := range []string{":53", "0.0.0.0:53,[::]:53"} {
		t.Run(listen, func(t *testing.T) {
			t.Parallel()
			s := newNetSpace(t)
			s.publish(t, listen)
			dir := s.etc(t, "127.0.0.1")
			for _, pair := range []string{
				"127.0.0.1 127.0.0.1", "127.0.0.9 127.0.0.1", "192.0.2.1 192.0.2.2", "192.0.2.2 192.0.2.1", "192.0.2.2 127.0.0.1",
				"::1 ::1", "2001:db8::1 2001:db8::2", "2001:db8::2 2001:db8::1", "::1 2001:db8::2",
				"fe80::53%v0 2001:db8::2", "fe80::53%v0 ::",
			} {
				server, from, _ := strings.Cut(pair, " ")
				for qtype, want := range map[string]string{"A": "10.0.0.4", "MX": "0 only4.nginx.docker"} { // a fast one and another
					out, _ := s.command(t, dir, "dig", "+tries=1", "+time=5", "-b", from, "@"+server, "only4.nginx.docker", qtype).CombinedOutput() // what it says is looked at
					if got := parseMessage(string(out), qtype); got != want {
						t.Errorf("%s asks %s for %s: got %.300s; want %s", from, server, qtype, got, want)
					}
				}
			}
		})
	}
}

// askAll puts all lookups to the client that it can do.
func (s *netSpace) askAll(t *testing.T, f front, r *resolver, dir string) {
	list := lookups
	if r.searches {
		list = slices.Concat(lookups, searched)
	}
	for _, l := range list {
		if !slices.Contains(strings.Fields(r.asks), l.qtype) {
			continue
		}
		if r.partial && f.args != nil && strings.HasPrefix(l.name, "many.") {
			continue // those servers truncate to nothing
		}
		args := r.args(l.name, l.qtype)
		out, _ := s.command(t, dir, args...).CombinedOutput() // many fail where there is no such name
		if got := r.parse(string(out), l.qtype); !r.accepts(got, l.want) {
			t.Errorf("%s %s: got %.300s; want %.300s\n%s:\n%.3000s", l.name, l.qtype, got, l.want, strings.Join(args, " "), bytes.TrimSpace(out))
		}
	}
}

// buildAsk builds the clients that are functions of a library.
func (s *netSpace) buildAsk(t *testing.T) {
	t.Helper()
	for file, text := range map[string]string{"ask.c": askC, "ask.go": askGo} {
		if err := os.WriteFile(filepath.Join(s.dir, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(s.dir, "go"), goBuild(t, runtime.GOARCH, filepath.Join(s.dir, "ask.go")), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"gcc", "-o", "glibc", "ask.c", "-lresolv"}, {"musl-gcc", "-static", "-o", "musl", "ask.c"}} {
		if _, err := exec.LookPath(args[0]); err != nil {
			continue // as its client will say
		}
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
		cmd.Dir = s.dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", args[0], err, out)
		}
	}
}

// askC takes "host", a type and a name or address, or "query", a type, a name
// and the number of the type.
const askC = `
#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <netdb.h>
#include <netinet/in.h>
#include <resolv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static int fail(int code) {
	if (code == EAI_NONAME || code == -5) /* EAI_NODATA */
		puts("nothing");
	else
		printf("error: %s\n", gai_strerror(code));
	return 0;
}

static int host(const char *type, const char *name) {
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list, *a;
	char text[NI_MAXHOST];
	int code, reverse = !strcmp(type, "PTR");
	if (reverse)
		hints.ai_flags = AI_NUMERICHOST;
	else if (strcmp(type, "addrs"))
		hints.ai_family = strcmp(type, "A") ? AF_INET6 : AF_INET;
	if ((code = getaddrinfo(name, NULL, &hints, &list)))
		return fail(code);
	for (a = list; a; a = a->ai_next) {
		if ((code = getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof text, NULL, 0, reverse ? NI_NAMEREQD : NI_NUMERICHOST)))
			return fail(code);
		puts(text);
	}
	return 0;
}

static unsigned char buf[65536];

static void show(ns_msg *m, ns_rr *rr) {
	const unsigned char *p = ns_rr_rdata(*rr), *end = p + ns_rr_rdlen(*rr);
	char text[1025], more[1025];
	switch (ns_rr_type(*rr)) {
	case ns_t_a:
		puts(inet_ntop(AF_INET, p, text, sizeof text));
		return;
	case ns_t_aaaa:
		puts(inet_ntop(AF_INET6, p, text, sizeof text));
		return;
	case ns_t_txt:
		for (; p < end; p += 1 + *p)
			printf("\"%.*s\"\n", *p, p + 1);
		return;
	case ns_t_srv:
		printf("%d %d ", ns_get16(p), ns_get16(p + 2));
		p += 4;
	case ns_t_mx:
		printf("%d ", ns_get16(p));
		p += 2;
	}
	int n = dn_expand(ns_msg_base(*m), ns_msg_end(*m), p, text, sizeof text);
	if (n < 0)
		puts("a name that can't be read");
	else if (ns_rr_type(*rr) == ns_t_soa && dn_expand(ns_msg_base(*m), ns_msg_end(*m), p + n, more, sizeof more) > 0)
		printf("%s %s\n", text, more);
	else
		puts(text);
}

static int query(const char *name, int type) {
	int i, some = 0, n = res_query(name, ns_c_in, type, buf, sizeof buf);
	ns_msg m;
	ns_rr rr;
	if (n < 0 && h_errno == HOST_NOT_FOUND || n > 0 && (buf[3] & 15) == ns_r_nxdomain)
		return puts("NXDOMAIN"), 0;
	if (n < 0 && h_errno == NO_DATA)
		return puts("NODATA"), 0;
	if (n < 0 || buf[3] & 15 || ns_initparse(buf, n, &m))
		return printf("error: %d octets, rcode %d, h_errno %d\n", n, buf[3] & 15, h_errno), 0;
	for (i = 0; i < ns_msg_count(m, ns_s_an) && !ns_parserr(&m, ns_s_an, i, &rr); i++)
		if (ns_rr_type(rr) == type)
			show(&m, &rr), some = 1;
	if (!some)
		puts("NODATA");
	return 0;
}

int main(int argc, char **argv) {
	return strcmp(argv[1], "host") ? query(argv[3], atoi(argv[4])) : host(argv[2], argv[3]);
}
`

// askGo takes the same arguments, "host" only. Built without cgo it has Go's
// own resolver.
const askGo = `package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
)

func main() {
	list, err := ask(os.Args[2], os.Args[3])
	var e *net.DNSError
	switch {
	case errors.As(err, &e) && e.IsNotFound:
		fmt.Println("nothing")
	case err != nil:
		fmt.Println("error:", err)
	}
	for _, line := range list {
		fmt.Println(line)
	}
}

func ask(qtype, name string) (list []string, err error) {
	switch qtype {
	case "addrs":
		return net.LookupHost(name)
	case "A", "AAAA":
		ips, err := net.DefaultResolver.LookupNetIP(context.Background(), map[string]string{"A": "ip4", "AAAA": "ip6"}[qtype], name)
		for _, ip := range ips {
			list = append(list, ip.Unmap().String())
		}
		return list, err
	case "PTR":
		return net.LookupAddr(name)
	case "CNAME":
		target, err := net.LookupCNAME(name)
		return []string{target}, err
	case "MX":
		all, err := net.LookupMX(name)
		for _, mx := range all {
			list = append(list, fmt.Sprint(mx.Pref, " ", mx.Host))
		}
		return list, err
	case "TXT":
		all, err := net.LookupTXT(name)
		for _, text := range all {
			list = append(list, fmt.Sprintf("%q", text))
		}
		return list, err
	case "SRV":
		part := strings.SplitN(name, ".", 3)
		_, all, err := net.LookupSRV(part[0][1:], part[1][1:], part[2])
		for _, srv := range all {
			list = append(list, fmt.Sprint(srv.Priority, srv.Weight, srv.Port, " ", srv.Target))
		}
		return list, err
	}
	all, err := net.LookupNS(name)
	for _, ns := range all {
		list = append(list, ns.Host)
	}
	return list, err
}
`
