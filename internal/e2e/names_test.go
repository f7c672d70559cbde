package e2e

import (
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// testSecondNames has names that containers have anyway.
func testSecondNames(t *testing.T, s *stage) {
	in, without := s.dnsdock(t), s.dnsdock(t, "-names=")
	p, net := s.prefix, s.network(t, "net")
	db, node, web := s.name("db"), s.name("node"), p+"_my_web"
	s.run(t, db, "--network="+net, "--hostname=db1-"+p, "--domainname=corp-"+p+".example", "--network-alias=reports-"+p)
	id := s.run(t, node, "--network="+net)
	s.run(t, web)
	in.log.Wait(t, "service added", web)
	without.log.Wait(t, "service added", web)
	for name, container := range map[string]string{
		"db1-" + p + ".docker":                            db,
		"x.db1-" + p + ".docker":                          db,
		"db1-" + p + ".corp-" + p + ".example":            db,
		"reports-" + p + ".docker":                        db,
		"reports-" + p + "." + net + ".docker":            db,
		id[:12] + ".docker":                               node,
		strings.ReplaceAll(web, "_", "-") + ".app.docker": web,
	} {
		in.want(t, name+" A", "NOERROR", s.ip(t, container))
		rcode := "NXDOMAIN"
		if strings.HasSuffix(name, ".example") {
			rcode = "REFUSED"
		}
		without.want(t, name+" A", rcode)
	}
	in.want(t, "corp-"+p+".example A", "REFUSED") // above a host name is nothing of ours
	for container, want := range map[string]string{db: "db1-" + p + ".corp-" + p + ".example.", node: s.fqdn(node)} {
		reverse, _ := dns.ReverseAddr(s.ip(t, container))
		r := in.ask(t, "udp", reverse, dns.TypePTR)
		if len(r.Answer) == 0 || r.Answer[0].(*dns.PTR).Ptr != want {
			t.Errorf("PTR of %s: got %v; want %s first", container, r.Answer, want)
		}
	}
	in.want(t, "host.docker A", "NOERROR", "127.0.0.1")
	without.want(t, "host.docker A", "NXDOMAIN")
}

// testImageClaims has an image whose author claims names.
func testImageClaims(t *testing.T, s *stage) {
	s.hostOnly(t)
	in := s.dnsdock(t)
	p := s.prefix
	const addr = "203.0.113.66"
	ref := "registry.test/claims-" + p + ":1"
	plain, own := s.name("plain"), s.name("own")
	s.docker(t, "create", "--name="+s.name("base"), "--label="+p, s.engine.image)
	label := "LABEL com.dnsdock.alias=login." + p + ".example,in-" + p + ".docker com.dnsdock.ip_addr=" + addr
	s.docker(t, "commit", "--change="+label, s.name("base"), ref)
	t.Cleanup(func() { s.docker(t, "rmi", "--force", ref) })
	in.log.Wait(t, "service added", s.runImage(t, ref, plain))
	in.want(t, plain+".claims-"+p+".docker A", "NOERROR", s.ip(t, plain))
	in.want(t, "in-"+p+".docker A", "NOERROR", s.ip(t, plain))
	in.want(t, "login."+p+".example A", "REFUSED")
	in.log.Wait(t, "level=WARN", "container="+plain, "source=com.dnsdock.ip_addr")
	reverse, _ := dns.ReverseAddr(addr)
	if in.ask(t, "udp", reverse, dns.TypePTR).Rcode == dns.RcodeSuccess {
		t.Errorf("the PTR of %s is an image's", addr)
	}
	in.log.Wait(t, "service added", s.runImage(t, ref, own, "--label=com.dnsdock.alias=own."+p+".example"))
	in.want(t, "own."+p+".example A", "NOERROR", s.ip(t, own))
}
