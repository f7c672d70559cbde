package e2e

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnstest"
)

// The zones of the lab, as they are before they are signed. A wildcard of the first points into the second. Of the
// third the signatures have expired.
var labZones = map[string]string{
	"a.lab.example": "*.a.lab.example. 300 IN CNAME host.b.lab.example.\nwww.a.lab.example. 300 IN A 192.0.2.1\n",
	"b.lab.example": "host.b.lab.example. 300 IN A 192.0.2.2\n*.w.b.lab.example. 300 IN A 192.0.2.3\n",
	"c.lab.example": "www.c.lab.example. 300 IN A 192.0.2.4\n",
}

// A lab has signed zones, served by BIND, and validating resolvers.
type lab struct {
	dir     string
	anchors []string // DS records of the zones
}

// run runs a program in the lab's directory.
func (l *lab) run(t *testing.T, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir = l.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// write writes a file of the lab, and returns its path.
func (l *lab) write(t *testing.T, file, text string) string {
	t.Helper()
	path := filepath.Join(l.dir, file)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// sign signs a zone. The second one has NSEC3 records, the others NSEC.
func (l *lab) sign(t *testing.T, zone, text string) {
	t.Helper()
	l.write(t, zone, "$TTL 300\n"+zone+". IN SOA ns.lab.example. host.lab.example. 1 3600 600 86400 300\n"+
		zone+". IN NS ns.lab.example.\n"+text)
	l.run(t, "dnssec-keygen", "-q", "-a", "ECDSAP256SHA256", "-f", "KSK", zone)
	l.run(t, "dnssec-keygen", "-q", "-a", "ECDSAP256SHA256", zone)
	args := []string{"-S", "-g", "-o", zone}
	switch zone {
	case "b.lab.example":
		args = append(args, "-3", "-")
	case "c.lab.example":
		args = append(args, "-s", "20200101000000", "-e", "20200201000000", "-P")
	}
	l.run(t, "dnssec-signzone", append(args, zone)...)
	b, err := os.ReadFile(filepath.Join(l.dir, "dsset-"+zone+"."))
	if err != nil {
		t.Fatal(err)
	}
	l.anchors = append(l.anchors, strings.TrimSpace(string(b)))
}

// start starts a server on addr, and waits until it answers.
func (l *lab) start(t *testing.T, addr, program string, args ...string) {
	t.Helper()
	cmd := exec.Command(program, args...)
	var log bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = l.dir, &log, &log, endsWithTests()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it has ended if something is wrong
		_ = cmd.Wait()         // it was killed
		if t.Failed() {
			t.Logf("%s:\n%s", program, log.String())
		}
	})
	q := new(dns.Msg).SetQuestion("www.a.lab.example.", dns.TypeSOA)
	for end := time.Now().Add(dnstest.Patience); ; {
		if _, err := dns.Exchange(q, addr); err == nil {
			return
		} else if time.Now().After(end) {
			t.Fatalf("%s does not answer: %v", program, err)
		}
	}
}

// unbound starts a validating resolver with further lines of configuration.
func (l *lab) unbound(t *testing.T, name, lines string) (addr string) {
	t.Helper()
	addr = freeAddr(t)
	host, port, _ := net.SplitHostPort(addr) // no error: it is an address
	conf := fmt.Sprintf(`server:
  interface: %s@%s
  do-not-query-localhost: no
  module-config: "validator iterator"
  ede: yes
  chroot: ""
  username: ""
  pidfile: ""
  directory: %q
  use-syslog: no
  verbosity: 1
`, host, port, l.dir)
	for _, ds := range l.anchors {
		for line := range strings.Lines(ds) {
			conf += fmt.Sprintf("  trust-anchor: %q\n", strings.Join(strings.Fields(line), " "))
		}
	}
	file := l.write(t, name, conf+lines+"remote-control:\n  control-enable: no\n")
	l.start(t, addr, "unbound", "-d", "-c", file)
	return addr
}

// freeAddr returns an address of loopback that was free for UDP and TCP a moment ago.
func freeAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// newLab signs the zones and serves them. It returns the address of the nameserver.
func newLab(t *testing.T) (l *lab, addr string) {
	t.Helper()
	dnstest.Needs(t, "named", "dnssec-keygen", "dnssec-signzone", "unbound")
	l = &lab{dir: t.TempDir()}
	addr = freeAddr(t)
	host, port, _ := net.SplitHostPort(addr) // no error: it is an address
	conf := fmt.Sprintf(`options {
  directory %q; listen-on port %s { %s; }; listen-on-v6 { none; };
  recursion no; pid-file none; session-keyfile none; dnssec-validation no;
};
controls { };
`, l.dir, port, host)
	for zone, text := range labZones {
		l.sign(t, zone, text)
		conf += fmt.Sprintf("zone %q { type primary; file %q; };\n", zone, zone+".signed")
	}
	l.start(t, addr, "named", "-g", "-c", l.write(t, "named.conf", conf))
	return l, addr
}

// stubs are the lines that have unbound ask the nameserver at addr for the zones.
func stubs(addr string) (lines string) {
	for zone := range labZones {
		lines += fmt.Sprintf("stub-zone:\n  name: %q\n  stub-addr: %s\n", zone, strings.Replace(addr, ":", "@", 1))
	}
	return lines
}

// A validating resolver finds all signatures and proofs in what dnsdock passes on, behind a resolver that validates and
// behind one that does not, and a validating upstream's verdict and reasons reach the client.
func TestDNSSEC(t *testing.T) {
	t.Parallel()
	l, authority := newLab(t)
	up := l.unbound(t, "up.conf", stubs(authority))
	in := startDnsdock(t, "-nameserver="+up)
	const service = `{"name":"web","image":"nginx","ip":"10.0.0.1"}`
	if status, reply := in.call(t, "PUT", "/services/a1", service); status >= 300 {
		t.Fatalf("PUT: %d %s", status, reply)
	}
	front := l.unbound(t, "front.conf",
		fmt.Sprintf("forward-zone:\n  name: \".\"\n  forward-addr: %s\n", strings.Replace(in.dns, ":", "@", 1)))
	ask := func(addr, qname string, qtype uint16) *dns.Msg {
		t.Helper()
		q := new(dns.Msg).SetQuestion(qname, qtype)
		q.SetEdns0(1232, true)
		r, _, err := (&dns.Client{Timeout: dnstest.Patience}).Exchange(q, addr)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, tt := range []struct {
		qname  string
		qtype  uint16
		rcode  int
		secure bool
		last   string // the data of the last record but for signatures
	}{
		{"www.a.lab.example.", dns.TypeA, dns.RcodeSuccess, true, "192.0.2.1"},
		{"x.a.lab.example.", dns.TypeA, dns.RcodeSuccess, true, "192.0.2.2"},
		{"x.a.lab.example.", dns.TypeAAAA, dns.RcodeSuccess, true, "host.b.lab.example."},
		{"x.w.b.lab.example.", dns.TypeA, dns.RcodeSuccess, true, "192.0.2.3"},
		{"nosuch.b.lab.example.", dns.TypeA, dns.RcodeNameError, true, ""},
		{"www.a.lab.example.", dns.TypeTXT, dns.RcodeSuccess, true, ""},
		{"a.lab.example.", dns.TypeSOA, dns.RcodeSuccess, true, "ns.lab.example."},
		{"www.c.lab.example.", dns.TypeA, dns.RcodeServerFailure, false, ""},
		{"web.nginx.docker.", dns.TypeA, dns.RcodeSuccess, false, "10.0.0.1"},
	} {
		for what, addr := range map[string]string{"dnsdock": in.dns, "a validator before it": front} {
			m := ask(addr, tt.qname, tt.qtype)
			if m.Rcode != tt.rcode || m.AuthenticatedData != tt.secure || !strings.Contains(lastData(m), tt.last) {
				t.Errorf("%s of %s: got\n%v\nwant %s, AD %t, %q at the end", tt.qname, what, m,
					dns.RcodeToString[tt.rcode], tt.secure, tt.last)
			}
		}
	}
	opt := ask(in.dns, "www.c.lab.example.", dns.TypeA).IsEdns0()
	if opt == nil || len(opt.Option) != 1 || opt.Option[0].Option() != dns.EDNS0EDE {
		t.Errorf("got %v; want the reason of the upstream, that the signature has expired", opt)
	}
}

// lastData returns the data of the last record of the answer that is no signature.
func lastData(m *dns.Msg) (data string) {
	for _, rr := range m.Answer {
		if rr.Header().Rrtype != dns.TypeRRSIG {
			data = strings.TrimPrefix(rr.String(), rr.Header().String())
		}
	}
	return data
}
