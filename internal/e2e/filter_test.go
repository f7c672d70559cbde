package e2e

import "testing"

// testFilter has two programs share an engine by -filter.
func testFilter(t *testing.T, s *stage) {
	key := s.prefix + ".dns"
	before := s.name("before")
	s.run(t, before, "--label="+key+"=a,b", "--label="+key+".too")
	all := s.dnsdock(t)
	any := s.dnsdock(t, "-filter=label="+key)
	one := s.dnsdock(t, "-filter=label="+key+"=a,b", "-filter=label="+key+".too")
	for _, in := range []*instance{all, any, one} {
		in.ready(t)
		in.want(t, s.fqdn(before)+" A", "NOERROR", s.ip(t, before))
	}
	other, plain := s.name("other"), s.name("plain")
	any.seen(t, func() { s.run(t, other, "--label="+key+"=c") }, "service added", other)
	all.seen(t, func() { s.run(t, plain) }, "service added", plain)
	any.want(t, s.fqdn(other)+" A", "NOERROR", s.ip(t, other))
	any.want(t, s.fqdn(plain)+" A", "NXDOMAIN")
	one.want(t, s.fqdn(other)+" A", "NXDOMAIN")
	any.seen(t, func() { s.docker(t, "rm", "-f", before) }, "service removed", before)
	any.want(t, s.fqdn(before)+" A", "NXDOMAIN")
}
