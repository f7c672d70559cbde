package e2e

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// An asker asks from a network, by dig in a container there.
type asker struct {
	*stage
	what    string // a description for the log
	network string // empty: on the host
	server  string // address of dnsdock on that network
	port    string
}

// ask returns for each query the rcode and the data of the answers, in the order of the reply. One dig asks them all,
// because a container takes a second to start.
func (a *asker) ask(t *testing.T, queries ...string) (got []string) {
	t.Helper()
	args := []string{"@" + a.server, "-p", a.port, "+noall", "+comments", "+answer", "+tries=3", "+time=5"}
	args = append(args, strings.Fields(strings.Join(queries, " "))...)
	var out string
	if a.network == "" {
		b, err := exec.Command("dig", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("dig %s: %v: %s", args, err, b)
		}
		out = string(b)
	} else {
		out = a.inside(t, a.network, nil, "dig", args...)
	}
	for _, reply := range strings.Split(out, ";; Got answer:")[1:] {
		rcode, data := parseDig(reply)
		got = append(got, strings.Join(append([]string{rcode}, data...), " "))
	}
	if len(got) != len(queries) {
		t.Fatalf("%s: got %d replies to %d queries:\n%s", a.what, len(got), len(queries), out)
	}
	return got
}

// want asks queries, each of which is followed by its answer.
func (a *asker) want(t *testing.T, pairs ...string) {
	t.Helper()
	var queries []string
	for pair := range slices.Chunk(pairs, 2) {
		queries = append(queries, pair[0])
	}
	for i, got := range a.ask(t, queries...) {
		query, want := pairs[2*i], pairs[2*i+1]
		t.Logf("| %s | %s | %s |", a.what, strings.ReplaceAll(query, a.prefix+"-", ""), got)
		if got != want {
			t.Errorf("%s, %s: got %q; want %q", a.what, query, got, want)
		}
	}
}

// inside runs a program of this host in a container on a network.
func (s *stage) inside(t *testing.T, network string, more []string, program string, args ...string) string {
	t.Helper()
	if lib, _ := os.Readlink("/lib"); lib != "usr/lib" {
		t.Skip("programs of this host can't run in a container: /lib is not in /usr")
	}
	run := []string{
		"run", "--rm", "--label=" + s.prefix, "--label=com.dnsdock.ignore=", "--network=" + network,
		"--security-opt=label=disable", "--volume=/usr:/usr:ro", "--entrypoint=/usr/bin/" + program,
	}
	return s.docker(t, slices.Concat(run, more, []string{s.engine.image}, args)...)
}

// on returns the addresses of a container on a network, and the host's there.
func (s *stage) on(t *testing.T, container, network string) (ip4, ip6, gateway string) {
	t.Helper()
	format := `{{with index .NetworkSettings.Networks "` + network + `"}}` +
		`{{.IPAddress}}|{{.GlobalIPv6Address}}|{{.Gateway}}{{end}}`
	out := strings.Split(s.inspect(t, container, format), "|")
	if len(out) != 3 {
		t.Fatalf("%s on %s: got %q", container, network, out)
	}
	return out[0], out[1], out[2]
}

// bridge returns the name of the engine's default network.
func (s *stage) bridge() string {
	if s.engine.podman {
		return "podman"
	}
	return "bridge"
}

// testClientsOnNetworks runs dnsdock on the host, and asks from each network
// about containers on several.
func testClientsOnNetworks(t *testing.T, s *stage) {
	s.hostOnly(t)
	in := s.dnsdock(t, "-dns=:0")
	_, port, _ := net.SplitHostPort(in.log.Value(t, "msg=listening for=dns addr=[::]", "addr"))
	one, two, six := s.network(t, "one"), s.network(t, "two"), s.network6(t, "six")
	inside := s.network(t, "an-inside", "--internal")
	gateway := func(network string) string { return hostAddr(s.subnets[network], 1) }
	multi, only, hosted := s.name("multi"), s.name("only"), s.name("hosted")
	shared, far := s.name("shared"), s.name("far")
	id := s.run(t, multi, "--network="+two)
	for _, network := range []string{one, inside, six} {
		s.docker(t, "network", "connect", network, multi)
	}
	s.run(t, only, "--network="+inside)
	s.run(t, hosted, "--network=host")
	s.run(t, shared, "--network=container:"+multi)
	s.run(t, far)
	multi1, _, _ := s.on(t, multi, one)
	multi2, _, _ := s.on(t, multi, two)
	multiIn, _, _ := s.on(t, multi, inside)
	multi6, multi66, _ := s.on(t, multi, six)
	onlyIn := s.ip(t, only)
	_, _, bridge := s.on(t, far, s.bridge())
	everywhere := "NOERROR " + multi1 + " " + multi6 + " " + multi2 // in the order of the networks' names
	in.log.Wait(t, "service", id)
	in.soon(t, s.fqdn(multi)+" A", "NOERROR", multi1, multi2, multi6)
	in.soon(t, s.fqdn(shared)+" A", "NOERROR", multi1, multi2, multi6)
	in.soon(t, s.fqdn(hosted)+" A", "NOERROR", "127.0.0.1")

	for _, c := range []struct {
		what, network, server                       string
		multi, multi6, only, hosted, shared, theFar string
	}{
		{"host", "", "127.0.0.1", everywhere, multi66, "", "127.0.0.1", everywhere, s.ip(t, far)},
		{"default bridge", s.bridge(), bridge, everywhere, multi66, "", bridge, everywhere, s.ip(t, far)},
		{"network one", one, gateway(one), "NOERROR " + multi1, "", "", gateway(one),
			"NOERROR " + multi1, s.ip(t, far)},
		{"network two", two, gateway(two), "NOERROR " + multi2, "", "", gateway(two),
			"NOERROR " + multi2, s.ip(t, far)},
		{"internal network", inside, gateway(inside), "NOERROR " + multiIn, "", onlyIn, gateway(inside),
			"NOERROR " + multiIn, s.ip(t, far)},
		{"IPv6 network, by IPv4", six, gateway(six), "NOERROR " + multi6, multi66, "", gateway(six),
			"NOERROR " + multi6, s.ip(t, far)},
	} {
		if s.engine.podman && c.network == inside {
			continue // the host has no address there
		}
		a := &asker{s, c.what, c.network, c.server, port}
		a.want(t,
			s.fqdn(multi)+" A", c.multi,
			s.fqdn(multi)+" AAAA", strings.TrimSpace("NOERROR "+c.multi6),
			s.fqdn(only)+" A", strings.TrimSpace("NOERROR "+c.only),
			s.fqdn(hosted)+" A", "NOERROR "+c.hosted,
			s.fqdn(shared)+" A", c.shared,
			s.fqdn(far)+" A +tcp", "NOERROR "+c.theFar)
	}
	gateway6 := s.docker(t, "network", "inspect", `--format={{range .IPAM.Config}}{{.Subnet}} {{end}}`, six)
	for text := range strings.FieldsSeq(gateway6) {
		if base, ok := strings.CutSuffix(text, "::/64"); ok {
			a := &asker{s, "IPv6 network, by IPv6", six, base + "::1", port}
			a.want(t,
				s.fqdn(multi)+" A", "NOERROR "+multi6,
				s.fqdn(multi)+" AAAA", "NOERROR "+multi66,
				s.fqdn(hosted)+" AAAA", "NOERROR "+netip.MustParseAddr(base+"::1").String())
		}
	}
	limited := s.dnsdock(t, "-network="+two+","+inside)
	limited.soon(t, s.fqdn(multi)+" A", "NOERROR", multi2)
	limited.ready(t)
	limited.want(t, s.fqdn(far)+" A", "NXDOMAIN")
}

// testBehindProxy runs dnsdock in a container on one network. Containers on
// other networks reach it by a published port: the engine's proxy hides their
// addresses.
func testBehindProxy(t *testing.T, s *stage) {
	s.hostOnly(t)
	one, two := s.network(t, "one"), s.network(t, "two")
	at := hostAddr(s.subnets[one], 1)
	server, in := s.scratch(t, "", "--network="+one, "--publish="+at+":5353:53/udp", "--publish="+at+":5353:53/tcp")
	multi, hosted := s.name("multi"), s.name("hosted")
	s.run(t, multi, "--network="+two)
	s.docker(t, "network", "connect", one, multi)
	s.run(t, hosted, "--network=host")
	multi1, _, _ := s.on(t, multi, one)
	multi2, _, _ := s.on(t, multi, two)
	in.soon(t, s.fqdn(multi)+" A", "NOERROR", multi1, multi2)
	in.soon(t, s.fqdn(hosted)+" A", "NOERROR", at)
	for _, c := range []struct{ what, network, server, port, want string }{
		{"host, container's own address", "", s.ip(t, server), "53", "NOERROR " + multi1 + " " + multi2},
		{"host, published port", "", at, "5353", "NOERROR " + multi1 + " " + multi2},
		{"network one, container's own address", one, s.ip(t, server), "53", "NOERROR " + multi1},
		{"network two, published port", two, at, "5353", "NOERROR " + multi1 + " " + multi2},
		{"default bridge, published port", s.bridge(), at, "5353", "NOERROR " + multi1 + " " + multi2},
	} {
		if s.engine.podman && c.network == two {
			continue // its firewall drops packets between networks
		}
		a := &asker{s, c.what, c.network, c.server, c.port}
		a.want(t,
			s.fqdn(multi)+" A", c.want,
			s.fqdn(multi)+" A +tcp", c.want,
			s.fqdn(hosted)+" A", "NOERROR "+at)
	}
}

// testPointElsewhere has names that point to another container, or to the host.
func testPointElsewhere(t *testing.T, s *stage) {
	in := s.dnsdock(t)
	proxy, site, atHost := s.name("proxy"), s.name("site"), s.name("at-host")
	lan := s.network(t, "net")
	in.log.Wait(t, "service added", s.run(t, atHost, "--network="+lan, "--label=com.dnsdock.ip_addr=host"))
	s.run(t, site, "--network="+lan, "--label=com.dnsdock.ip_addr=container:"+proxy)
	last := s.name("last")
	in.log.Wait(t, "service added", s.run(t, last))
	in.soon(t, s.fqdn(site)+" A", "NXDOMAIN")
	in.want(t, s.fqdn(atHost)+" A", "NOERROR", "127.0.0.1")
	s.run(t, proxy)
	in.soon(t, s.fqdn(site)+" A", "NOERROR", s.ip(t, proxy))
	s.docker(t, "stop", proxy)
	in.soon(t, s.fqdn(site)+" A", "NXDOMAIN")
	s.run(t, s.name("thief"))
	s.docker(t, "start", proxy)
	in.soon(t, s.fqdn(site)+" A", "NOERROR", s.ip(t, proxy))
	s.docker(t, "rename", proxy, s.name("old"))
	in.soon(t, s.fqdn(site)+" A", "NXDOMAIN")
	s.run(t, proxy)
	in.soon(t, s.fqdn(site)+" A", "NOERROR", s.ip(t, proxy))
}
