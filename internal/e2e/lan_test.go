package e2e

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/rayje/dnsdock/internal/dnstest"
)

// A lan is a link from this host to another machine: a network namespace that
// has no route but the link, and so none to containers.
type lan struct {
	name        string // of the namespace
	host, other string // addresses
}

func newLAN(t *testing.T) *lan {
	t.Helper()
	dnstest.Needs(t, "ip", "nsenter", "dig", "go")
	if os.Geteuid() != 0 {
		t.Skip("only root can make a network namespace")
	}
	net := fmt.Sprintf("198.%d.%d.", 18+rand.IntN(2), rand.IntN(256)) // RFC 2544: nobody's
	l := &lan{name: "dnsdock-" + random(), host: net + "1", other: net + "2"}
	link := "dd" + random()[:6]
	ip := func(args string) error {
		out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("ip %s: %w: %s", args, err, out)
		}
		return err
	}
	if err := ip("netns add " + l.name); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		if err := ip("netns del " + l.name); err != nil { // and the link with it
			t.Error(err)
		}
	})
	for _, args := range []string{
		"link add " + link + " type veth peer name up0 netns " + l.name,
		"addr add " + l.host + "/24 dev " + link,
		"link set " + link + " up",
		"-n " + l.name + " link set lo up",
		"-n " + l.name + " addr add " + l.other + "/24 dev up0",
		"-n " + l.name + " link set up0 up",
	} {
		if err := ip(args); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// inside returns the command line that runs another one on the other machine.
func (l *lan) inside(args ...string) []string {
	return append([]string{"--net=/run/netns/" + l.name}, args...)
}

// ask asks a server from the other machine, and returns what parseDig does as a line.
func (l *lan) ask(t *testing.T, server, query string) string {
	t.Helper()
	at, port, err := net.SplitHostPort(server)
	if err != nil {
		t.Fatal(err)
	}
	args := l.inside("dig", "@"+at, "-p", port, "+noall", "+comments", "+answer", "+tries=3", "+time=5")
	out, err := exec.Command("nsenter", append(args, strings.Fields(query)...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("dig %s: %v: %s", query, err, out)
	}
	rcode, data := parseDig(string(out))
	return strings.Join(append([]string{rcode}, data...), " ")
}

// serveAt serves the engine on an address of this host, until the test ends.
func (e *liveEngine) serveAt(t *testing.T, addr string) (url string) {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	t.Cleanup(func() { ln.Close() })
	wg.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			engine, err := net.Dial("unix", e.socket)
			if err != nil {
				client.Close()
				continue
			}
			relay := func(to, from net.Conn) {
				_, _ = io.Copy(to, from) // it ends when one of the two is closed
				to.Close()
				from.Close()
			}
			wg.Go(func() { relay(engine, client) })
			wg.Go(func() { relay(client, engine) })
		}
	})
	return "tcp://" + ln.Addr().String()
}

// Who has no route to a container reaches it at the host by its published port:
// a client on the LAN with -published, and each client of an engine elsewhere.
func testPublished(t *testing.T, s *stage) {
	s.hostOnly(t)
	l := newLAN(t)
	web, loop, plain := s.name("web"), s.name("loop"), s.name("plain")
	id := s.run(t, web, "--publish=80", "--publish=53/udp", "--expose=9000")
	s.run(t, loop, "--publish=127.0.0.1::80")
	last := s.run(t, plain, "--expose=80")
	published := func(port string) string { return portOf(t, strings.Fields(s.docker(t, "port", web, port))[0]) }
	ip, loopIP, plainIP := s.ip(t, web), s.ip(t, loop), s.ip(t, plain)
	near := s.dnsdock(t, "-dns="+l.host+":0", "-published", "-allow="+l.other+"/32")
	near.log.Wait(t, "service added", last)
	near.log.Wait(t, "service added", id)
	nearServer := near.log.Value(t, "msg=listening for=dns addr="+l.host, "addr")

	url := s.engine.serveAt(t, l.host+":0")
	binary, err := built()
	if err != nil {
		t.Fatal(err)
	}
	far := startCommand(t, "nsenter",
		l.inside(binary, "-dns=127.0.0.1:0", "-http=", "-nameserver=", "-docker="+url)...)
	far.log.Wait(t, "service added", last)
	far.log.Wait(t, "service added", id)
	farServer := far.log.Value(t, "msg=listening for=dns", "addr")

	for _, c := range []struct{ query, want string }{
		{s.fqdn(web) + " A", l.host},
		{s.fqdn(web) + " AAAA", ""},
		{"_80._tcp." + s.fqdn(web) + " SRV", "0 1 " + published("80/tcp") + " " + s.fqdn(web)},
		{"_53._udp." + s.fqdn(web) + " SRV", "0 1 " + published("53/udp") + " " + s.fqdn(web)},
		{"_9000._tcp." + s.fqdn(web) + " SRV", ""},
		{s.fqdn(loop) + " A", loopIP},
		{s.fqdn(plain) + " A", plainIP},
		{"_80._tcp." + s.fqdn(plain) + " SRV", "0 1 80 " + s.fqdn(plain)},
	} {
		want := strings.TrimSpace("NOERROR " + c.want)
		for name, server := range map[string]string{"-published": nearServer, "engine elsewhere": farServer} {
			if got := l.ask(t, server, c.query); got != want {
				t.Errorf("%s, %s: got %q; want %q", name, c.query, got, want)
			}
		}
	}
	onBridge := &asker{stage: s, what: "on the container's network", network: s.bridge(), server: l.host}
	onBridge.port = portOf(t, nearServer)
	onBridge.want(t, s.fqdn(web)+" A", "NOERROR "+ip)
}

func portOf(t *testing.T, addr string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return port
}
