package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnstest"
)

// A lookup is a question to a client, and the expected result: the sorted data
// without the dots that end names, or NODATA, or NXDOMAIN.
type lookup struct {
	name  string // or an address, of which the client makes a name
	qtype string // addrs: both families, as programs ask
	want  string
}

const (
	nodata   = "NODATA"
	nxdomain = "NXDOMAIN"
	nothing  = "nothing" // the result of clients that are vague
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

// searched are lookups of names that need a domain of resolv.conf.
var searched = []lookup{
	{"web", "A", "10.0.0.1"},
	{"web", "addrs", "10.0.0.1; fd00::1"},
	{"web.nginx", "addrs", "10.0.0.1; fd00::1"}, // after NXDOMAIN for web.nginx.nginx.docker
	{"only4", "addrs", "10.0.0.4"},
}

// manyAddrs returns more addresses than a reply over UDP can hold.
func manyAddrs() (list []string) {
	for i := range 150 {
		list = append(list, fmt.Sprintf("10.9.0.%d", 1+i))
	}
	slices.Sort(list)
	return list
}

// A resolver is a client, and how to ask by it.
type resolver struct {
	name     string
	needs    []string
	asks     string // the types that it can ask for
	searches bool   // it obeys search and ndots of resolv.conf
	vague    bool   // it reports NODATA and NXDOMAIN alike
	partial  bool   // it uses a truncated reply and does not ask over TCP

	args  func(name, qtype string) []string     // its command line
	parse func(out, qtype string) (want string) // reads its output, see lookup
}

const (
	allTypes  = "A AAAA PTR MX TXT SRV CNAME SOA NS"
	hostTypes = "addrs A AAAA PTR" // of getaddrinfo and getnameinfo
)

// resolvers returns all clients. The programs of buildAsk are in dir.
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
		{name: "busybox nslookup", needs: []string{"busybox"}, asks: allTypes, searches: true, partial: true,
			parse: parseNslookup, args: func(name, qtype string) []string {
				qtype = "-type=" + strings.ToLower(qtype)
				return []string{"busybox", "nslookup", "-retry=1", "-timeout=30", qtype, reversed(name)}
			}},
		{name: "getent", needs: []string{"getent"}, asks: "addrs PTR", searches: true, vague: true, parse: parseGetent,
			args: func(name, qtype string) []string {
				return []string{"getent", map[string]string{"addrs": "ahosts", "PTR": "hosts"}[qtype], name}
			}},
		{name: "glibc getaddrinfo", needs: []string{"gcc"}, asks: hostTypes, searches: true, vague: true,
			parse: parseLines, args: ask("glibc", "host")},
		{name: "glibc res_query", needs: []string{"gcc"}, asks: allTypes,
			parse: parseLines, args: ask("glibc", "query")},
		{name: "musl getaddrinfo", needs: []string{"musl-gcc"}, asks: hostTypes, searches: true, vague: true,
			partial: true, parse: parseLines, args: ask("musl", "host")},
		{name: "musl res_query", needs: []string{"musl-gcc"}, asks: allTypes, partial: true,
			parse: parseLines, args: ask("musl", "query")},
		{name: "Go", needs: []string{"go"}, asks: "addrs A AAAA PTR MX TXT SRV CNAME NS", searches: true, vague: true,
			parse: parseLines, args: ask("go", "host")},
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

// parseMessage reads the last message in out, in the form of dig, which others
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

// parseNslookup reads what BusyBox prints below the address of the server: a
// part for each domain that it searched, with or without an answer.
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

// parseLines reads what the programs of buildAsk print: a line for each
// record, or the reason why there is none.
func parseLines(out, qtype string) string {
	return normal(strings.Split(strings.TrimSpace(out), "\n"), "no output")
}

// normal sorts and joins data, without the dots that end names. It returns
// none if there are no data.
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
		isWrong := func(addr string) bool { return !slices.Contains(all, addr) }
		return got != "" && !slices.ContainsFunc(strings.Split(got, "; "), isWrong)
	}
	return got == want
}

// TestClients asks dnsdock by resolvers of all kinds, directly and through
// other servers.
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
					dnstest.Needs(t, r.needs...)
					s.askAll(t, f, &r, dir)
				})
			}
		})
	}
}

// TestRepliesLeaveFromWhereTheyWereAsked asks a host of many addresses. dig
// accepts a reply only from the address that it asked.
func TestRepliesLeaveFromWhereTheyWereAsked(t *testing.T) {
	t.Parallel()
	for _, listen := range []string{":53", "0.0.0.0:53,[::]:53"} {
		t.Run(listen, func(t *testing.T) {
			t.Parallel()
			s := newNetSpace(t)
			s.publish(t, listen)
			dir := s.etc(t, "127.0.0.1")
			for _, pair := range []string{
				"127.0.0.1 127.0.0.1", "127.0.0.9 127.0.0.1",
				"192.0.2.1 192.0.2.2", "192.0.2.2 192.0.2.1", "192.0.2.2 127.0.0.1",
				"::1 ::1", "2001:db8::1 2001:db8::2", "2001:db8::2 2001:db8::1", "::1 2001:db8::2",
				"fe80::53%v0 2001:db8::2", "fe80::53%v0 ::",
			} {
				server, from, _ := strings.Cut(pair, " ")
				for qtype, want := range map[string]string{"A": "10.0.0.4", "MX": "0 only4.nginx.docker"} {
					dig := s.command(t, dir, "dig", "+tries=1", "+time=5", "-b", from, "@"+server,
						"only4.nginx.docker", qtype)
					out, _ := dig.CombinedOutput() // an error is no answer
					if got := parseMessage(string(out), qtype); got != want {
						t.Errorf("%s asks %s for %s: got %.300s; want %s", from, server, qtype, got, want)
					}
				}
			}
		})
	}
}

// askAll asks by a client all that it can ask for.
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
			t.Errorf("%s %s: got %.300s; want %.300s\n%s:\n%.3000s",
				l.name, l.qtype, got, l.want, strings.Join(args, " "), bytes.TrimSpace(out))
		}
	}
}

// buildAsk builds the programs that ask by a function of a library.
func (s *netSpace) buildAsk(t *testing.T) {
	t.Helper()
	const c = "testdata/ask.c"
	at := func(name string) string { return filepath.Join(s.dir, name) }
	if err := os.WriteFile(at("go"), goBuild(t, runtime.GOARCH, "testdata/ask.go"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"gcc", "-o", at("glibc"), c, "-lresolv"},
		{"musl-gcc", "-static", "-o", at("musl"), c},
	} {
		if _, err := exec.LookPath(args[0]); err != nil {
			continue // as its client will say
		}
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", args[0], err, out)
		}
	}
}
