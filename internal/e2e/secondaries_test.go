package e2e

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnstest"
)

// A nameserver is one that docs/transfer.md tells how to make a secondary.
type nameserver struct {
	program, heading string
	args             []string          // DIR stands for its directory
	more             string            // configuration in front of the page's: what only a test needs
	instead          map[string]string // of what the page says
	unsigned         bool              // it knows no TSIG
}

// nameservers are those of the page. IP and PORT stand for where each one listens.
var nameservers = []nameserver{
	{
		program: "nsd", heading: "NSD", args: []string{"-d", "-c", "DIR/conf"},
		more: "server:\n    ip-address: IP@PORT\n    username: \"\"\n    zonesdir: DIR\n    database: \"\"\n    pidfile: DIR/pid\n" +
			"    xfrdfile: DIR/xfrd\n    xfrdir: DIR\n    zonelistfile: DIR/list\n    server-count: 1\n    tcp-count: 20\n" +
			"    verbosity: 2\nremote-control:\n    control-enable: no\n",
	},
	{
		program: "knotd", heading: "Knot DNS", args: []string{"-c", "DIR/conf"},
		more: "server:\n    listen: IP@PORT\n    rundir: DIR\n    user: root\ndatabase:\n    storage: DIR\n" +
			"log:\n  - target: stderr\n    any: info\ntemplate:\n  - id: default\n    storage: DIR\n",
	},
	{
		program: "named", heading: "BIND", args: []string{"-g", "-n", "1", "-c", "DIR/conf"},
		instead: map[string]string{
			"/etc/dnsdock.key": "DIR/key", "/var/cache/bind": "DIR",
			"recursion no;": "recursion no; listen-on port PORT { IP; }; listen-on-v6 { none; };" +
				" pid-file none; session-keyfile none; dnssec-validation no; minimal-responses yes;",
			"zone \"docker\"": "controls {}; zone \"docker\"",
		},
	},
	{
		program: "unbound", heading: "unbound", args: []string{"-d", "-c", "DIR/conf"}, unsigned: true,
		more: "server:\n    interface: IP\n    port: PORT\n    username: \"\"\n    chroot: \"\"\n    directory: DIR\n" +
			"    pidfile: DIR/pid\n    use-syslog: no\n    do-daemonize: no\n    do-not-query-localhost: no\n" +
			"    module-config: iterator\n    local-zone: \"docker.\" transparent\n",
	},
}

// A follower is a nameserver that runs.
type follower struct {
	nameserver
	*instance
	dir, addr string
	cmd       *exec.Cmd
	ended     chan struct{}
	log       *dnstest.Log
}

// configure writes its configuration as the page has it, for a dnsdock at addr.
func (f *follower) configure(t *testing.T, addr, key string) {
	t.Helper()
	page, err := os.ReadFile("../../docs/transfer.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile(`(?m)^## ` + f.heading + `\n\n((?:(?:    .*)?\n)+)`).FindSubmatch(page)
	if block == nil {
		t.Fatalf("the page has no configuration of %s", f.heading)
	}
	text := f.more + regexp.MustCompile(`(?m)^    `).ReplaceAllString(string(block[1]), "")
	for old, with := range f.instead {
		if !strings.Contains(text, old) {
			t.Fatalf("%s: the page does not say %q", f.heading, old)
		}
		text = strings.ReplaceAll(text, old, with)
	}
	_, port, _ := net.SplitHostPort(addr)
	ip, own, _ := net.SplitHostPort(f.addr)
	text = strings.NewReplacer("192.0.2.1@53", "127.0.0.1@"+port, "192.0.2.1 port 53", "127.0.0.1 port "+port,
		"192.0.2.1", "127.0.0.1", "c2VjcmV0IG9mIDE2IGJ5dGVzIG9yIG1vcmU=", secretOf(key),
		"IP", ip, "PORT", own, "DIR", f.dir).Replace(text)
	for name, data := range map[string]string{"conf": text, "key": key} {
		if err := os.WriteFile(filepath.Join(f.dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// start runs it until the test ends, or stop.
func (f *follower) start(t *testing.T) {
	t.Helper()
	var args []string
	for _, a := range f.args {
		args = append(args, strings.ReplaceAll(a, "DIR", f.dir))
	}
	f.cmd, f.ended = exec.Command(f.program, args...), make(chan struct{})
	f.cmd.Dir, f.cmd.Stdout, f.cmd.Stderr, f.cmd.SysProcAttr = f.dir, f.log, f.log, endsWithTests()
	if err := f.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cmd, ended := f.cmd, f.ended
	go func() {
		_ = cmd.Wait() // it is killed
		close(ended)
	}()
	t.Cleanup(f.stop)
}

func (f *follower) stop() {
	_ = f.cmd.Process.Signal(os.Interrupt) // it may have ended
	select {
	case <-f.ended:
	case <-time.After(10 * time.Second):
		_ = f.cmd.Process.Kill()
		<-f.ended
	}
}

// A questioner asks one nameserver over TCP.
type questioner struct {
	addr string
	conn *dns.Conn
}

const truncated = "truncated" // more records than a message holds

// ask returns the rcode, the AA bit and the sorted answers; truncated if they are not all.
func (q *questioner) ask(name string, qtype uint16) (string, error) {
	m := new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype)
	m.RecursionDesired = false
	for try := 0; ; try++ {
		r, err := q.once(m)
		if err == nil && r.Truncated {
			return truncated, nil
		}
		if err == nil {
			text := []string{dns.RcodeToString[r.Rcode], fmt.Sprint("aa=", r.Authoritative)}
			var list []string
			for _, rr := range r.Answer {
				list = append(list, strings.ToLower(rr.String()))
			}
			slices.Sort(list)
			return strings.Join(append(text, list...), "\n"), nil
		}
		q.close()
		if try == 2 {
			return "", err
		}
	}
}

func (q *questioner) once(m *dns.Msg) (r *dns.Msg, err error) {
	if q.conn == nil {
		if q.conn, err = dns.DialTimeout("tcp", q.addr, 5*time.Second); err != nil {
			return nil, err
		}
	}
	_ = q.conn.SetDeadline(time.Now().Add(10 * time.Second)) // it fails only where the next call does
	if err = q.conn.WriteMsg(m); err == nil {
		r, err = q.conn.ReadMsg()
	}
	return r, err
}

func (q *questioner) close() {
	if q.conn != nil {
		_ = q.conn.Close() // it may be closed already
	}
	q.conn = nil
}

// marked publishes a service of a new name, and waits until the follower answers it.
func (f *follower) marked(t *testing.T, mark string) {
	t.Helper()
	status, reply := f.call(t, "PUT", "/services/mark", `{"name":"`+mark+`","image":"mark","ip":"10.9.9.9"}`)
	if status > 201 {
		t.Fatal(reply)
	}
	q := &questioner{addr: f.addr}
	defer q.close()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	got := ""
	for end := time.Now().Add(dnstest.Patience / 6); time.Now().Before(end); <-tick.C {
		got, _ = q.ask(mark+".mark.docker", dns.TypeA) // it may not listen yet
		if strings.HasPrefix(got, "NOERROR\naa=true") {
			return
		}
	}
	t.Fatalf("%s does not know %s: %s\nlog:\n%s", f.program, mark, got, f.log)
}

// asTheOther compares answers to random questions.
func (f *follower) asTheOther(t *testing.T, rnd *rand.Rand, count int) {
	t.Helper()
	here, there := &questioner{addr: f.instance.dns}, &questioner{addr: f.addr}
	defer here.close()
	defer there.close()
	types := []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeTXT, dns.TypeMX, dns.TypeSRV, dns.TypeNS, dns.TypeSOA,
		dns.TypeCNAME, dns.TypePTR, dns.TypeCAA, dns.TypeHTTPS, dns.TypeNAPTR, dns.TypeHINFO, uint16(256 + rnd.IntN(9999))}
	faults := 0
	for range count {
		name, isNode := randomQuestion(rnd)
		qtype := types[rnd.IntN(len(types))]
		if !isNode && (qtype == dns.TypeMX || qtype == dns.TypeSRV) {
			qtype = dns.TypeA // these depend on the question's spelling
		}
		want, err := here.ask(name, qtype)
		if err != nil {
			t.Fatal(err)
		}
		got, err := there.ask(name, qtype)
		if err != nil {
			t.Fatalf("%s: %v\n%s", f.program, err, f.log)
		}
		if got != want && want != truncated { // of which the zone has those that fit
			if faults++; faults < 5 {
				t.Errorf("%s %s: %s says\n%.2000s\ndnsdock says\n%.2000s", name, dns.Type(qtype), f.program, got, want)
			}
		}
	}
	if faults > 0 {
		t.Errorf("%s: %d of %d answers differ", f.program, faults, count)
	}
}

// randomQuestion returns a name in the domain. It reports whether a MX or SRV record of it would be in the zone.
func randomQuestion(rnd *rand.Rand) (name string, isNode bool) {
	i := rnd.IntN(60)
	names := []string{
		"docker", "dnsdock.docker", "redis.docker", "host.docker", fmt.Sprintf("c%d.redis.docker", i),
		fmt.Sprintf("c%d.redis.docker", i), fmt.Sprintf("%012x.docker", i+1), fmt.Sprintf("s%d.made.docker", i),
		fmt.Sprintf("a%d.docker", i), "made.docker", "_tcp.made.docker", fmt.Sprintf("_80._tcp.s%d.made.docker", i),
		"_http._tcp.made.docker", "_80._tcp.docker", fmt.Sprintf("x%d.docker", i), "alias.a.docker", "web.shop.docker",
		"shop.docker", fmt.Sprintf("n%d.docker", i),
	}
	name = names[rnd.IntN(len(names))]
	switch rnd.IntN(6) {
	case 0:
		return "x." + name, false
	case 1:
		return "y.x." + name, false
	}
	return name, !strings.HasPrefix(name, "_") && !strings.HasPrefix(name, "x") && !strings.HasPrefix(name, "n")
}

// change makes a random change: a container starts, stops, or is renamed, or the API changes a service.
func (f *follower) change(t *testing.T, rnd *rand.Rand, e *dnstest.Engine) {
	t.Helper()
	i := rnd.IntN(60)
	prefix, path := fmt.Sprintf("%012x", i+1), fmt.Sprintf("/services/s%d", i)
	c := &dnstest.Container{Name: fmt.Sprintf("c%d", i), Image: "redis:7", State: "running",
		Addr: fmt.Sprintf("172.17.1.%d", rnd.IntN(200)+2), Labels: map[string]string{}}
	switch rnd.IntN(9) {
	case 0:
		e.Destroy(prefix)
		return
	case 7:
		e.Set(prefix, c)
		e.SetState(prefix, "exited")
		e.Event("die", dnstest.ID(prefix))
		return
	case 1:
		c.Name = fmt.Sprintf("n%d", i)
		e.Set(prefix, c)
		e.Event("rename", dnstest.ID(prefix))
		return
	case 2:
		f.call(t, "DELETE", path, "")
		return
	case 3:
		f.call(t, "PUT", path, fmt.Sprintf(`{"name":"s%d","image":"made","cname":"redis.docker"}`, i))
		return
	case 4, 5:
		f.call(t, "PUT", path, fmt.Sprintf(`{"name":"s%d","image":"made","ips":["10.1.0.%d","fd00::%d"],"ttl":%d,
			"ports":["80/tcp=http"],"txt":["text %d"],"aliases":["a%d.docker","alias.a.docker"]}`,
			i, rnd.IntN(9), rnd.IntN(9), rnd.IntN(3), rnd.IntN(3), i))
		return
	case 6:
		c.Labels = map[string]string{"com.docker.compose.service": "web", "com.docker.compose.project": "shop",
			"com.docker.compose.container-number": fmt.Sprint(i)}
	}
	e.Set(prefix, c)
	e.Event("start", dnstest.ID(prefix))
}

// Each nameserver that the manual names follows dnsdock as the manual configures it, and answers the same.
func TestSecondaries(t *testing.T) {
	for i, n := range nameservers {
		t.Run(n.heading, func(t *testing.T) {
			t.Parallel()
			dnstest.Needs(t, n.program)
			f := &follower{nameserver: n, dir: t.TempDir(), log: dnstest.NewLog(), addr: quietPort(t)}
			f.test(t, rand.New(rand.NewPCG(uint64(i), 5)))
		})
	}
}

// quietPort returns an address of loopback where nobody listens, with a port that no system gives to sockets without
// one: a nameserver that is started again must find it free.
func quietPort(t *testing.T) string {
	t.Helper()
	for {
		addr := fmt.Sprintf("127.0.0.1:%d", 20_000+rand.IntN(12_000))
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		_ = ln.Close()
		if c, err := net.ListenPacket("udp", addr); err == nil {
			_ = c.Close()
			return addr
		}
	}
}

func (f *follower) test(t *testing.T, rnd *rand.Rand) {
	e := dnstest.NewEngine()
	key := "key \"dnsdock\" {\n\talgorithm hmac-sha256;\n" +
		"\tsecret \"b25lIHNlY3JldCBvZiBtb3JlIHRoYW4gMTYgYnl0ZXM=\";\n};\n"
	keyFile := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(keyFile, []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
	at := quietPort(t)
	args := []string{"-dns=" + at, "-docker=" + e.ServeTCP(t, nil), "-transfer=" + f.addr, "-transfer-ns=ns1.example.com"}
	if !f.unsigned {
		args = append(args, "-transfer-key-file="+keyFile)
	}
	f.instance = startDnsdock(t, args...)
	f.configure(t, at, key)
	f.await(t)
	f.start(t)
	f.marked(t, "first")
	for i := range 5 {
		for range 200 {
			f.change(t, rnd, e)
		}
		f.marked(t, fmt.Sprintf("changed%d", i))
	}
	f.asTheOther(t, rnd, 5000)
	if !strings.Contains(f.instance.log.String(), "kind=IXFR") {
		t.Error("there was no IXFR")
	}
	f.replay(t, key)

	f.stop()
	f.change(t, rnd, e)
	f.start(t)
	f.marked(t, "again")
	f.asTheOther(t, rnd, 500)

	if err := f.instance.stop(); err != nil {
		t.Fatal(err)
	}
	f.instance = startDnsdock(t, args...)
	f.marked(t, "restarted")
	f.asTheOther(t, rnd, 500)

	f.stop()
	f.instance.log.Mark()
	f.many(t)
	f.start(t)
	f.instance.log.Wait(t, "zone transferred", "kind=AXFR") // so many changes are not remembered
	f.marked(t, "many")
	f.asTheOther(t, rnd, 500)
}

// replay sends the same NOTIFY twice: it is answered, and does no harm.
func (f *follower) replay(t *testing.T, key string) {
	t.Helper()
	m := new(dns.Msg).SetNotify("docker.")
	m.Id = 7
	b, err := m.Pack()
	if !f.unsigned {
		m.SetTsig("dnsdock.", dns.HmacSHA256, 300, time.Now().Unix())
		b, _, err = dns.TsigGenerate(m, secretOf(key), "", false)
	}
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		r := new(dns.Msg)
		if err := r.Unpack(dnstest.RawUDP(t, f.addr, m.Id, b)[0]); err != nil || r.Rcode != dns.RcodeSuccess {
			t.Errorf("NOTIFY %d: %s replies %v, %v", i+1, f.program, r, err)
		}
	}
	f.marked(t, "replayed")
}

// secretOf returns the secret of a key statement.
func secretOf(key string) string {
	return regexp.MustCompile(`secret "(.*)"`).FindStringSubmatch(key)[1]
}

// many makes 10,000 changes by the API: two of each of 5,000 services.
func (f *follower) many(t *testing.T) {
	t.Helper()
	var all sync.WaitGroup
	for from := range 2 { // as many connections as the client keeps
		all.Go(func() {
			for i := from; i < 10_000; i += 2 {
				id := i % 5000
				body := fmt.Sprintf(`{"name":"m%d","image":"many","ip":"10.%d.%d.%d","aliases":["b%d.docker"]}`,
					id, 2+i/5000, id>>8, id&255, id)
				f.call(t, "PUT", fmt.Sprintf("/services/m%d", id), body)
			}
		})
	}
	all.Wait()
}
