package e2e

import (
	"strings"
	"testing"
)

// TestEngineRestart starts the program before its engine, and then restarts the
// engine.
func TestEngineRestart(t *testing.T) {
	t.Parallel()
	e := newOwnEngine(t)
	in := startDnsdock(t, "-docker=unix://"+e.socket)
	in.log.Wait(t, "engine away")
	in.want(t, "web.app.docker A", "SERVFAIL") // no engine has been listed

	e.start(t)
	in.log.Wait(t, "engine found")
	in.ready(t)
	e.importApp(t)
	s := e.newStage(t)
	one, two, off := s.name("one"), s.name("two"), s.name("off")
	for _, args := range [][]string{{one, "--restart=always"}, {two, "--restart=always"}, {off}} {
		in.log.Wait(t, "service added", s.run(t, args[0], args[1:]...))
	}
	got, reply := in.call(t, "PUT", "/services/hand", `{"name": "hand", "image": "made", "ip": "198.51.100.9"}`)
	if got != 201 {
		t.Fatalf("PUT: got %d %s; want 201", got, reply)
	}
	agree := func(names ...string) {
		t.Helper()
		for _, name := range names {
			in.soon(t, s.fqdn(name)+" A", "NOERROR", s.ip(t, name))
			if got := in.query(t, "-x "+s.ip(t, name)); !strings.Contains(got, s.fqdn(name)) {
				t.Errorf("-x %s: got %s; want %s", s.ip(t, name), got, s.fqdn(name))
			}
		}
		in.want(t, "hand.made.docker A", "NOERROR", "198.51.100.9")
	}
	agree(one, two, off)

	// An orderly restart stops all containers, and starts some of them again.
	in.seen(t, func() { e.stop(t, "TERM") }, "engine away")
	in.want(t, "hand.made.docker A", "NOERROR", "198.51.100.9")
	in.seen(t, func() { e.start(t, "--live-restore") }, "engine found")
	in.soon(t, s.fqdn(off)+" A", "NXDOMAIN")
	agree(one, two)
	shared := s.name("shared")
	s.run(t, shared, "--network=container:"+one)
	in.soon(t, s.fqdn(shared)+" A", "NOERROR", s.ip(t, one))

	// After a crash with live-restore containers run on, and one dies unseen.
	pid := s.inspect(t, two, "{{.State.Pid}}")
	ips := []string{s.ip(t, one), s.ip(t, two)}
	s.docker(t, "update", "--restart=no", two)
	in.seen(t, func() { e.stop(t, "KILL") }, "engine away")
	sendSignal(t, "KILL", pid)
	in.want(t, s.fqdn(one)+" A", "NOERROR", ips[0])
	in.want(t, s.fqdn(two)+" A", "NOERROR", ips[1]) // the engine has not said yet that it died
	in.want(t, "-x "+ips[0], "NOERROR", s.fqdn(one), s.fqdn(shared))
	in.seen(t, func() { e.start(t, "--live-restore") }, "engine found")
	in.soon(t, s.fqdn(two)+" A", "NXDOMAIN")
	agree(one)
	in.want(t, s.fqdn(shared)+" A", "NOERROR", ips[0])
	s.docker(t, "start", two, off)
	agree(one, two, off)
}

// TestEngineHang suspends an engine: its sockets stay open and it does not answer.
func TestEngineHang(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a minute until a silent engine is known to hang")
	}
	t.Parallel()
	e := newOwnEngine(t)
	e.start(t)
	e.importApp(t)
	s := e.newStage(t)
	in := s.dnsdock(t)
	in.log.Wait(t, "engine found") // an engine without containers counts as listed
	web, dead := s.name("web"), s.name("dead")
	in.log.Wait(t, "service added", s.run(t, web))
	id := s.run(t, dead)
	in.log.Wait(t, "service added", id)
	ips := []string{s.ip(t, web), s.ip(t, dead)}
	pid := s.inspect(t, dead, "{{.State.Pid}}")

	e.signal(t, "STOP")
	sendSignal(t, "KILL", pid)
	in.want(t, s.fqdn(web)+" A", "NOERROR", ips[0])
	in.want(t, s.fqdn(dead)+" A", "NOERROR", ips[1])
	in.log.Wait(t, "engine away")
	in.want(t, s.fqdn(web)+" A", "NOERROR", ips[0])
	in.want(t, s.fqdn(dead)+" A", "NOERROR", ips[1])
	in.want(t, "-x "+ips[0], "NOERROR", s.fqdn(web))

	in.seen(t, func() { e.signal(t, "CONT") }, "service removed", id)
	in.want(t, s.fqdn(dead)+" A", "NXDOMAIN")
	in.want(t, s.fqdn(web)+" A", "NOERROR", ips[0])
	in.log.Wait(t, "engine found")
	last := s.name("last")
	in.log.Wait(t, "service added", s.run(t, last))
	in.want(t, s.fqdn(last)+" A", "NOERROR", s.ip(t, last))
}
