package e2e

import (
	"strconv"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func testOverrides(t *testing.T, s *stage) {
	in := s.dnsdock(t)
	p := s.prefix
	for _, test := range []struct {
		name  string
		args  []string
		names []string
	}{
		{"alias", []string{"--env=DNSDOCK_ALIAS=DB-" + p + ".docker, " + p + ".example.com."},
			[]string{p + "-alias.app", "db-" + p, p + ".example.com"}},
		{"named", []string{"--env=DNSDOCK_NAME=one", "--env=DNSDOCK_IMAGE=img-" + p,
			"--env=SERVICE_NAME=no", "--env=SERVICE_TAGS=no"},
			[]string{"one.img-" + p, "img-" + p}},
		{"registrator", []string{"--env=SERVICE_NAME=mysql-" + p, "--env=SERVICE_TAGS=master,slave",
			"--env=SERVICE_REGION=us2"},
			[]string{"master.mysql-" + p + ".us2"}},
		{"untagged", []string{"--env=SERVICE_NAME=plain-" + p, "--env=SERVICE_TAGS="}, []string{"plain-" + p}},
		{"labels", []string{"--label=com.dnsdock.name=two", "--label=com.dnsdock.image=lab-" + p,
			"--label=com.dnsdock.alias=lab." + p + ".example.org", "--label=com.dnsdock.region=eu"},
			[]string{"two.lab-" + p + ".eu", "lab." + p + ".example.org"}},
		{"both", []string{"--label=com.dnsdock.name=label", "--env=DNSDOCK_NAME=env",
			"--label=com.dnsdock.image=both-" + p},
			[]string{"env.both-" + p}},
		{"badly", []string{"--env=DNSDOCK_TTL=soon", "--env=DNSDOCK_ALIAS=*.x,.,good." + p + ".example.net"},
			[]string{p + "-badly.app", "good." + p + ".example.net"}},
	} {
		name := s.name(test.name)
		in.log.Wait(t, "service added", s.run(t, name, test.args...))
		for _, n := range test.names {
			if !strings.Contains(n, ".example.") {
				n += ".docker"
			}
			in.want(t, n+" A", "NOERROR", s.ip(t, name))
		}
	}
	in.want(t, "below."+p+".example.com A", "NOERROR", s.ip(t, s.name("alias")))
	in.want(t, "no.img-"+p+".docker A", "NXDOMAIN")
	in.want(t, "label.both-"+p+".docker A", "NXDOMAIN")
	in.want(t, "example.com A", "REFUSED") // the parent of an alias is not ours
	in.log.Wait(t, "level=WARN", "container="+s.name("badly"), "source=DNSDOCK_TTL", "value=soon")

	host := s.name("host")
	in.log.Wait(t, "service added", s.run(t, host, "--network=host",
		"--env=DNSDOCK_IPADDRESS=198.51.100.7,2001:db8::7", "--env=DNSDOCK_TTL=77"))
	in.want(t, s.fqdn(host)+" A", "NOERROR", "198.51.100.7")
	in.want(t, s.fqdn(host)+" AAAA", "NOERROR", "2001:db8::7")
	if got := in.ask(t, "udp", s.fqdn(host), dns.TypeA).Answer[0].Header().Ttl; got != 77 {
		t.Errorf("TTL: got %d; want 77", got)
	}
	lan := s.network(t, "net")
	web := s.name("prefix")
	id := s.run(t, web, "--env=DNSDOCK_PREFIX="+s.subnets[lan])
	in.seen(t, func() { s.docker(t, "network", "connect", lan, web) }, "service added", id)
	ip := s.inspect(t, web, `{{(index .NetworkSettings.Networks "`+lan+`").IPAddress}}`)
	in.want(t, s.fqdn(web)+" A", "NOERROR", ip)
}

func testRecords(t *testing.T, s *stage) {
	in := s.dnsdock(t)
	web, front, bare := s.name("web"), s.name("front"), s.name("bare")
	in.log.Wait(t, "service added", s.run(t, web,
		"--expose=80", "--expose=443/tcp", "--expose=53/udp", "--publish=127.0.0.1::8081",
		"--env=SERVICE_80_NAME=http", "--env=SERVICE_443_IGNORE=1", "--env=SERVICE_9000_NAME=metrics",
		"--label=com.dnsdock.txt=v=1, it's \"me\"\nowner=me"))
	in.log.Wait(t, "service added", s.run(t, front, "--label=com.dnsdock.cname="+s.fqdn(web)))
	in.log.Wait(t, "service added", s.run(t, bare, "--net=none", "--env=DNSDOCK_CNAME=www.example.com"))
	in.want(t, "_http._tcp."+s.fqdn(web)+" SRV", "NOERROR", "0 1 80 "+s.fqdn(web))
	in.want(t, "_80._tcp."+s.fqdn(web)+" SRV", "NOERROR", "0 1 80 "+s.fqdn(web))
	in.want(t, "_53._udp."+s.fqdn(web)+" SRV", "NOERROR", "0 1 53 "+s.fqdn(web))
	in.want(t, "_8081._tcp."+s.fqdn(web)+" SRV", "NOERROR", "0 1 8081 "+s.fqdn(web))
	in.want(t, "_metrics._tcp."+s.fqdn(web)+" SRV", "NOERROR", "0 1 9000 "+s.fqdn(web))
	in.want(t, "_443._tcp."+s.fqdn(web)+" SRV", "NOERROR")
	in.want(t, s.fqdn(web)+" TXT", "NOERROR", `"owner=me"`, `"v=1, it's \"me\""`)
	in.want(t, s.fqdn(front)+" A", "NOERROR", s.fqdn(web), s.ip(t, web))
	in.want(t, s.fqdn(front)+" CNAME", "NOERROR", s.fqdn(web))
	in.want(t, s.fqdn(bare)+" AAAA", "NOERROR", "www.example.com.")
	in.want(t, "-x "+s.ip(t, web), "NOERROR", s.fqdn(web)) // front has a CNAME and publishes no address
	in.want(t, "-x "+s.ip(t, front), "NXDOMAIN")
	in.seen(t, func() { s.docker(t, "kill", web) }, "service removed", s.fqdn(web))
	in.want(t, s.fqdn(front)+" A", "NXDOMAIN", s.fqdn(web))
}

func testImages(t *testing.T, s *stage) {
	in := s.dnsdock(t)
	id := s.docker(t, "image", "inspect", "--format={{.Id}}", s.engine.image)
	hex := strings.TrimPrefix(id, "sha256:")
	ref := "registry.test:5000/team/" + s.prefix + ":v1"
	s.docker(t, "tag", s.engine.image, ref)
	t.Cleanup(func() { s.docker(t, "rmi", ref) })
	for i, test := range []struct{ image, part string }{
		{s.engine.image, "app."},
		{ref, s.prefix + "."},
		{id, ""},
		{hex, ""},
		{hex[:12], ""},
		{hex[:7], ""},
	} {
		if s.engine.podman && test.part == "" {
			continue // it gives the image's name for an ID
		}
		name := s.name("img" + strconv.Itoa(i))
		in.log.Wait(t, "service added", s.runImage(t, test.image, name))
		in.want(t, name+"."+test.part+"docker A", "NOERROR", s.ip(t, name))
		in.want(t, "-x "+s.ip(t, name), "NOERROR", name+"."+test.part+"docker.")
	}
	in.want(t, s.prefix+".docker A", "NOERROR", s.ip(t, s.name("img1")))
}

func testAll(t *testing.T, s *stage) {
	in := s.dnsdock(t, "-all")
	lan := s.network(t, "net")
	static, dynamic, paused, created := s.name("static"), s.name("dynamic"), s.name("paused"), s.name("created")
	idStatic := s.run(t, static, "--network="+lan, "--ip="+hostAddr(s.subnets[lan], 77))
	idDynamic := s.run(t, dynamic, "--network="+lan) // where no other test takes its address
	idPaused := s.run(t, paused)
	in.log.Wait(t, "service added", idStatic)
	in.log.Wait(t, "service added", idDynamic)
	in.log.Wait(t, "service added", idPaused)
	ipStatic, ipDynamic, ipPaused := s.ip(t, static), s.ip(t, dynamic), s.ip(t, paused)
	s.pause(t, paused)
	s.docker(t, "stop", static, dynamic)
	if s.engine.podman {
		t.Skip("podman does not tell the address of a container that never ran")
	}
	s.runCommand(t, "create", s.engine.image, created, "--network="+lan, "--ip="+hostAddr(s.subnets[lan], 78))
	in.soon(t, s.fqdn(created)+" A", "NOERROR", hostAddr(s.subnets[lan], 78))
	in.want(t, s.fqdn(static)+" A", "NOERROR", ipStatic)
	in.want(t, s.fqdn(dynamic)+" A", "NOERROR", ipDynamic) // the engine has forgotten it
	in.want(t, s.fqdn(paused)+" A", "NOERROR", ipPaused)

	later := s.dnsdock(t, "-all")
	later.ready(t)
	later.want(t, s.fqdn(static)+" A", "NOERROR", ipStatic)
	later.want(t, s.fqdn(dynamic)+" A", "NXDOMAIN")
	later.want(t, s.fqdn(paused)+" A", "NOERROR", ipPaused)
	later.want(t, s.fqdn(created)+" A", "NOERROR", hostAddr(s.subnets[lan], 78))

	in.seen(t, func() { s.docker(t, "rm", static) }, "service removed", idStatic)
	in.want(t, s.fqdn(static)+" A", "NXDOMAIN")
	in.seen(t, func() { s.docker(t, "rm", dynamic) }, "service removed", idDynamic)
	in.want(t, s.fqdn(dynamic)+" A", "NXDOMAIN")
	s.docker(t, "unpause", paused)
	in.want(t, s.fqdn(paused)+" A", "NOERROR", ipPaused)
	in.seen(t, func() { s.docker(t, "rm", "-f", paused) }, "service removed", idPaused)
	in.want(t, s.fqdn(paused)+" A", "NXDOMAIN")
}

// testAPIHolds has the API change services of containers: the changes survive a
// restart of the container, and end when it is removed.
func testAPIHolds(t *testing.T, s *stage) {
	in := s.dnsdock(t)
	patched, replaced, deleted := s.name("patched"), s.name("replaced"), s.name("deleted")
	ids := make(map[string]string)
	for _, name := range []string{patched, replaced, deleted} {
		ids[name] = s.run(t, name)
		in.log.Wait(t, "service added", ids[name])
	}
	api := func(method, id, body string, want int) {
		t.Helper()
		if got, reply := in.call(t, method, "/services/"+id, body); got != want {
			t.Errorf("%s %s: got %d %s; want %d", method, body, got, reply, want)
		}
	}
	alias := "alias-" + s.prefix + ".docker"
	api("PATCH", ids[patched][:12], `{"ttl": 33, "alias": "`+alias+`"}`, 200)
	api("PUT", ids[replaced], `{"name": "new", "image": "`+s.prefix+`", "ip": "198.51.100.9"}`, 200)
	api("DELETE", ids[deleted][:12], "", 204)
	api("PUT", "hand-"+s.prefix, `{"name": "hand", "image": "`+s.prefix+`", "ip": "2001:db8::9"}`, 201)
	holds := func() {
		t.Helper()
		in.want(t, alias+" A", "NOERROR", s.ip(t, patched))
		in.want(t, s.fqdn(patched)+" A", "NOERROR", s.ip(t, patched))
		if got := in.ask(t, "udp", alias, dns.TypeA).Answer; len(got) != 1 || got[0].Header().Ttl != 33 {
			t.Errorf("patched: got %v; want one record with TTL 33", got)
		}
		in.want(t, "new."+s.prefix+".docker A", "NOERROR", "198.51.100.9")
		in.want(t, s.fqdn(replaced)+" A", "NXDOMAIN")
		in.want(t, s.fqdn(deleted)+" A", "NXDOMAIN")
		in.want(t, "hand."+s.prefix+".docker AAAA", "NOERROR", "2001:db8::9")
	}
	holds()
	in.seen(t, func() { s.docker(t, "stop", deleted, patched, replaced) }, "service removed", ids[replaced])
	in.soon(t, alias+" A", "NXDOMAIN")
	in.want(t, "hand."+s.prefix+".docker AAAA", "NOERROR", "2001:db8::9")
	in.seen(t, func() { s.docker(t, "start", deleted, replaced, patched) }, "service added", ids[patched])
	in.soon(t, "new."+s.prefix+".docker A", "NOERROR", "198.51.100.9")
	holds()
	in.seen(t, func() { s.docker(t, "rm", "-f", deleted, patched, replaced) }, "service removed", ids[replaced])
	in.soon(t, alias+" A", "NXDOMAIN")

	// New containers of the same names do not inherit the changes.
	for _, name := range []string{patched, replaced, deleted} {
		in.log.Wait(t, "service added", s.run(t, name))
		in.want(t, s.fqdn(name)+" A", "NOERROR", s.ip(t, name))
	}
	in.want(t, alias+" A", "NXDOMAIN")
	in.want(t, "new."+s.prefix+".docker A", "NXDOMAIN")
	api("DELETE", "hand-"+s.prefix, "", 204)
	in.want(t, "hand."+s.prefix+".docker AAAA", "NXDOMAIN")
}
