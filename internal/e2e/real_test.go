package e2e

import (
	"slices"
	"strings"
	"testing"
)

// TestRealEngine runs the program beside the Docker Engine of this machine.
func TestRealEngine(t *testing.T) {
	t.Parallel()
	e := findEngine(t)
	e.importApp(t)
	for _, test := range []struct {
		name string
		f    func(*testing.T, *stage)
	}{
		{"life of a container", testLife},
		{"changed address", testChangedAddress},
		{"rename", testRename},
		{"pause", testPause},
		{"networks", testNetworks},
		{"IPv6", testIPv6},
		{"without address", testWithoutAddress},
		{"clients on networks", testClientsOnNetworks},
		{"behind a proxy", testBehindProxy},
		{"point elsewhere", testPointElsewhere},
		{"published ports", testPublished},
		{"compose", testCompose},
		{"second names", testSecondNames},
		{"claims of an image", testImageClaims},
		{"health", testHealth},
		{"read-only proxy", testReadOnlyProxy},
		{"overrides", testOverrides},
		{"records", testRecords},
		{"images", testImages},
		{"all", testAll},
		{"API", testAPIHolds},
		{"idle", testIdle},
		{"changes by HTTP", testChanges},
		{"scratch image", testScratchImage},
		{"filter", testFilter},
		{"set-ups of the manual", testSetups},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.f(t, e.newStage(t))
		})
	}
}

func testLife(t *testing.T, s *stage) {
	in := s.dnsdock(t)
	for _, end := range [][]string{{"stop"}, {"kill"}, {"rm", "-f"}} {
		web := s.name("web-" + end[0])
		id := s.run(t, web)
		in.log.Wait(t, "service added", id)
		ip := s.ip(t, web)
		in.want(t, s.fqdn(web)+" A", "NOERROR", ip)
		in.want(t, s.fqdn(web)+" AAAA", "NOERROR")
		in.want(t, "any.thing."+strings.ToUpper(s.fqdn(web))+" A", "NOERROR", ip)
		in.want(t, s.fqdn(web)+" A +tcp", "NOERROR", ip)
		in.want(t, "-x "+ip, "NOERROR", s.fqdn(web))
		if end[0] == "kill" {
			s.docker(t, "kill", "--signal=HUP", web) // a signal that does not end it
			in.want(t, s.fqdn(web)+" A", "NOERROR", ip)
		}
		in.seen(t, func() { s.docker(t, append(end, web)...) }, "service removed", id)
		in.want(t, s.fqdn(web)+" A", "NXDOMAIN")
		if end[0] != "rm" {
			in.seen(t, func() { s.docker(t, "start", web) }, "service added", id)
			in.want(t, s.fqdn(web)+" A", "NOERROR", s.ip(t, web))
			s.docker(t, "restart", "--time=1", web)
			in.soon(t, s.fqdn(web)+" A", "NOERROR", s.ip(t, web))
		}
	}
}

// testChangedAddress restarts a container after another one took its address.
func testChangedAddress(t *testing.T, s *stage) {
	in := s.dnsdock(t)
	lan := s.network(t, "net")
	web, thief := s.name("web"), s.name("thief")
	id := s.run(t, web, "--network="+lan)
	in.log.Wait(t, "service added", id)
	before := s.ip(t, web)
	in.want(t, "-x "+before, "NOERROR", s.fqdn(web))

	in.seen(t, func() { s.docker(t, "stop", web) }, "service removed", id)
	in.log.Wait(t, "service added", s.run(t, thief, "--network="+lan))
	if s.engine.podman {
		t.Skip("podman gives a free address to others only after all the rest")
	}
	if got := s.ip(t, thief); got != before {
		t.Fatalf("the second container got %s; want %s, which is free again", got, before)
	}
	in.want(t, "-x "+before, "NOERROR", s.fqdn(thief))
	in.seen(t, func() { s.docker(t, "start", web) }, "service added", id)
	after := s.ip(t, web)
	in.want(t, s.fqdn(web)+" A", "NOERROR", after)
	in.want(t, s.fqdn(thief)+" A", "NOERROR", before)
	in.want(t, "-x "+before, "NOERROR", s.fqdn(thief))
	in.want(t, "-x "+after, "NOERROR", s.fqdn(web))

	// Both restart at once, and may get each other's addresses.
	s.docker(t, "stop", web, thief)
	s.docker(t, "start", web)
	s.docker(t, "start", thief)
	in.soon(t, s.fqdn(web)+" A", "NOERROR", s.ip(t, web))
	in.soon(t, s.fqdn(thief)+" A", "NOERROR", s.ip(t, thief))
	in.want(t, "-x "+s.ip(t, web), "NOERROR", s.fqdn(web))
}

func testRename(t *testing.T, s *stage) {
	in := s.dnsdock(t)
	a, b, c := s.name("a"), s.name("b"), s.name("c")
	idA, idB := s.run(t, a), s.run(t, b)
	in.log.Wait(t, "service added", idA)
	in.log.Wait(t, "service added", idB)
	ipA, ipB := s.ip(t, a), s.ip(t, b)
	in.seen(t, func() { s.docker(t, "rename", a, c) }, "service changed", idA)
	in.want(t, s.fqdn(a)+" A", "NXDOMAIN")
	in.want(t, s.fqdn(c)+" A", "NOERROR", ipA)
	in.want(t, "-x "+ipA, "NOERROR", s.fqdn(c))
	in.seen(t, func() { s.docker(t, "rename", b, a) }, "service changed", idB)
	in.want(t, s.fqdn(a)+" A", "NOERROR", ipB)
	in.seen(t, func() { s.docker(t, "rename", c, b) }, "service changed", idA)
	in.want(t, s.fqdn(b)+" A", "NOERROR", ipA)
	in.want(t, s.fqdn(c)+" A", "NXDOMAIN")
}

func testPause(t *testing.T, s *stage) {
	in := s.dnsdock(t)
	web := s.name("web")
	id := s.run(t, web)
	in.log.Wait(t, "service added", id)
	in.seen(t, func() { s.pause(t, web) }, "service removed", id)
	in.want(t, s.fqdn(web)+" A", "NXDOMAIN")
	in.seen(t, func() { s.docker(t, "unpause", web) }, "service added", id)
	in.want(t, s.fqdn(web)+" A", "NOERROR", s.ip(t, web))
}

func testNetworks(t *testing.T, s *stage) {
	in := s.dnsdock(t)
	one, two := s.network(t, "one"), s.network(t, "two")
	web := s.name("web")
	id := s.run(t, web, "--network="+one)
	in.log.Wait(t, "service added", id)
	first := s.ip(t, web)
	in.seen(t, func() { s.docker(t, "network", "connect", two, web) }, "service changed", id)
	both := strings.Fields(s.inspect(t, web, "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}"))
	in.want(t, s.fqdn(web)+" A", "NOERROR", both[0], both[1])
	for _, ip := range both {
		in.want(t, "-x "+ip, "NOERROR", s.fqdn(web))
	}
	in.seen(t, func() { s.docker(t, "network", "disconnect", two, web) }, "service changed", id)
	in.want(t, s.fqdn(web)+" A", "NOERROR", first)
	second := both[1-slices.Index(both, first)]
	in.want(t, "-x "+second, "REFUSED") // not ours any more, and there is no upstream
	in.seen(t, func() { s.docker(t, "network", "disconnect", one, web) }, "service removed", id)
	in.want(t, s.fqdn(web)+" A", "NXDOMAIN")
	in.seen(t, func() { s.docker(t, "network", "connect", one, web) }, "service added", id)
	in.want(t, s.fqdn(web)+" A", "NOERROR", s.ip(t, web))
}

func testIPv6(t *testing.T, s *stage) {
	in := s.dnsdock(t)
	six := s.network6(t, "six")
	web := s.name("web")
	id := s.run(t, web, "--network="+six)
	in.log.Wait(t, "service added", id)
	ip4 := s.ip(t, web)
	ip6 := s.inspect(t, web, "{{range .NetworkSettings.Networks}}{{.GlobalIPv6Address}}{{end}}")
	in.want(t, s.fqdn(web)+" A", "NOERROR", ip4)
	in.want(t, s.fqdn(web)+" AAAA", "NOERROR", ip6)
	if got := in.addrs(t, s.fqdn(web)); !slices.Equal(got, []string{ip4, ip6}) {
		t.Errorf("asked over UDP: got %v; want %s and %s", got, ip4, ip6)
	}
	in.want(t, "-x "+ip4, "NOERROR", s.fqdn(web))
	in.want(t, "-x "+ip6, "NOERROR", s.fqdn(web))
	in.seen(t, func() { s.docker(t, "kill", web) }, "service removed", id)
	in.want(t, s.fqdn(web)+" AAAA", "NXDOMAIN")
	in.want(t, "-x "+ip6, "NXDOMAIN")
}

// testWithoutAddress has containers without an address of their own, and ignored
// ones, before and after the start of dnsdock.
func testWithoutAddress(t *testing.T, s *stage) {
	var hidden []string
	run := func(name string, args ...string) {
		hidden = append(hidden, s.name(name))
		s.run(t, s.name(name), args...)
	}
	web := s.name("web")
	s.run(t, web)
	s.run(t, s.name("shared"), "--network=container:"+web)
	run("none", "--network=none")
	run("ignored", "--env=DNSDOCK_IGNORE=")
	in := s.dnsdock(t)
	in.ready(t)
	s.run(t, s.name("host"), "--network=host")
	s.run(t, s.name("shared2"), "--network=container:"+s.name("shared"))
	run("none2", "--network=none")
	run("ignored2", "--env=SERVICE_IGNORE=1")
	run("ignored3", "--label=com.dnsdock.ignore=true")
	last := s.name("last")
	in.log.Wait(t, "service added", s.run(t, last))
	ip := s.ip(t, web)
	in.want(t, s.fqdn(web)+" A", "NOERROR", ip)
	in.want(t, s.fqdn(last)+" A", "NOERROR", s.ip(t, last))
	in.want(t, s.fqdn(s.name("host"))+" A", "NOERROR", "127.0.0.1") // the address that was asked
	in.want(t, s.fqdn(s.name("host"))+" AAAA", "NOERROR")
	for _, name := range []string{s.name("shared"), s.name("shared2")} {
		in.soon(t, s.fqdn(name)+" A", "NOERROR", ip)
	}
	in.want(t, "-x "+ip, "NOERROR", s.fqdn(web), s.fqdn(s.name("shared")), s.fqdn(s.name("shared2")))
	for _, name := range hidden {
		in.want(t, s.fqdn(name)+" A", "NXDOMAIN")
	}
	for line := range strings.Lines(in.log.String()) {
		if strings.Contains(line, "level=WARN") && strings.Contains(line, s.prefix) { // other tests run beside this one
			t.Errorf("warned of containers without an address: %s", line)
		}
	}

	// The container whose network they share stops, gets another address, and is removed.
	s.docker(t, "stop", web)
	in.soon(t, s.fqdn(s.name("shared"))+" A", "NXDOMAIN")
	in.soon(t, s.fqdn(s.name("shared2"))+" A", "NXDOMAIN")
	thief := s.name("thief")
	s.run(t, thief)
	s.docker(t, "start", web)
	in.soon(t, s.fqdn(s.name("shared"))+" A", "NOERROR", s.ip(t, web))
	in.soon(t, s.fqdn(s.name("shared2"))+" A", "NOERROR", s.ip(t, web))
	if s.engine.podman {
		return // it does not remove a container whose network others share
	}
	s.docker(t, "rm", "--force", web)
	in.soon(t, s.fqdn(s.name("shared"))+" A", "NXDOMAIN")
}
