package config

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A wrong value ends the program before anything listens: one line that names
// the flag, the value and what to write instead.
func TestParseErrors(t *testing.T) {
	certs := tlsDir(t)
	junk := filepath.Join(t.TempDir(), "junk.pem")
	if err := os.WriteFile(junk, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	const (
		listen   = "as in 172.17.0.1:53"
		upstream = "as in 8.8.8.8"
		engine   = "unix:///PATH or tcp://HOST:PORT"
	)
	long := strings.Repeat("abcdefghi.", 21) + "x"
	for _, tt := range []struct {
		args []string
		env  string
		want []string // each is in the error
	}{
		{[]string{"-dns=53"}, "", []string{"-dns", `"53"`, listen}},
		{[]string{"-http=unix:"}, "", []string{"-http", `"unix:"`, "as in unix:///run/dnsdock/api.sock"}},
		{[]string{"-http=unix://run/api.sock"}, "", []string{"-http", "absolute path"}},
		{[]string{"-http=unix:///run/"}, "", []string{"-http", "absolute path"}},
		{[]string{"-http=unix:///" + strings.Repeat("x", maxSocketPath)}, "", []string{"-http", "at most 103 bytes"}},
		{[]string{"-http-token-file=/nonexistent"}, "", []string{"-http-token-file", "/nonexistent", "no such file"}},
		{[]string{"-http-token-file=" + junk}, "", []string{"-http-token-file", junk, "write one of 16 characters or more", "openssl rand -hex 32"}},
		{[]string{"-http-token-file=/dev/zero"}, "", []string{"-http-token-file", "not a regular file"}},
		{[]string{"-hosts=/nonexistent"}, "", []string{"-hosts", "no such file", "as in /etc/hosts"}},
		{[]string{"-hosts=/dev"}, "", []string{"-hosts", "not a regular file", "as in /etc/hosts"}},
		{[]string{"-log=xml"}, "", []string{"-log", `"xml"`, "write text or json"}},
		{[]string{"-dns=127.0.0.1"}, "", []string{"-dns", `"127.0.0.1"`, listen}},
		{[]string{"-dns=::1"}, "", []string{"-dns", `"::1"`, listen}},
		{[]string{"-dns=:65536"}, "", []string{"-dns", `":65536"`, listen}},
		{[]string{"-dns=:-1"}, "", []string{"-dns", `":-1"`, listen}},
		{[]string{"-dns=:"}, "", []string{"-dns", `":"`, listen}},
		{[]string{"-dns=:dns"}, "", []string{"-dns", `":dns"`, listen}},
		{[]string{"-dns=example.com:53"}, "", []string{"-dns", `"example.com:53"`, listen}},
		{[]string{"-dns=127.0.0.1:53,nonsense"}, "", []string{"-dns", "nonsense", listen}},
		{[]string{"-dns="}, "", []string{"-dns", `""`, listen[:5]}},
		{[]string{"-dns", ","}, "", []string{"-dns", "write an address"}},
		{[]string{"-http=80"}, "", []string{"-http", `"80"`, listen}},
		{[]string{"-http=example.com:80"}, "", []string{"-http", `"example.com:80"`, listen}},
		{[]string{"-http=http://127.0.0.1:80"}, "", []string{"-http", `"http://127.0.0.1:80"`, listen}},
		{[]string{"-nameserver=dns.google"}, "", []string{"-nameserver", `"dns.google"`, upstream}},
		{[]string{"-nameserver=8.8.8"}, "", []string{"-nameserver", `"8.8.8"`, upstream}},
		{[]string{"-nameserver=8.8.8.8:"}, "", []string{"-nameserver", `"8.8.8.8:"`, upstream}},
		{[]string{"-nameserver=8.8.8.8:0"}, "", []string{"-nameserver", `"8.8.8.8:0"`, upstream}},
		{[]string{"-nameserver=8.8.8.8:99999"}, "", []string{"-nameserver", `"8.8.8.8:99999"`, upstream}},
		{[]string{"-nameserver=0.0.0.0"}, "", []string{"-nameserver", `"0.0.0.0"`, upstream}},
		{[]string{"-nameserver=[::]:53"}, "", []string{"-nameserver", `"[::]:53"`, upstream}},
		{[]string{"-nameserver=[2620:fe::fe"}, "", []string{"-nameserver", `"[2620:fe::fe"`, upstream}},
		{[]string{"-nameserver=2620:fe::fe]"}, "", []string{"-nameserver", `"2620:fe::fe]"`, upstream}},
		{[]string{"-nameserver=8.8.8.8,x"}, "", []string{"-nameserver", "x", upstream}},
		{[]string{"-nameserver=https://8.8.8.8"}, "", []string{"-nameserver", "https", upstream}},
		{[]string{"-nameserver=tls://dns.google"}, "", []string{"-nameserver", "tls://dns.google", upstream}},
		{[]string{"-nameserver=tls://8.8.8.8#"}, "", []string{"-nameserver", `"tls://8.8.8.8#"`, "name in the nameserver's certificate"}},
		{[]string{"-nameserver=tls://8.8.8.8#a b"}, "", []string{"-nameserver", "a b", "name in the nameserver's certificate"}},
		{[]string{"-nameserver=/nowhere/resolv.conf"}, "", []string{"-nameserver", "/nowhere/resolv.conf", "write the path of a file"}},
		{[]string{"-cache=many"}, "", []string{"-cache", `"many"`, "as in 16MB"}},
		{[]string{"-cache=-1"}, "", []string{"-cache", `"-1"`, "as in 16MB"}},
		{[]string{"-cache=17GB"}, "", []string{"-cache", "16GB at most"}},
		{[]string{"-cache=16MBB"}, "", []string{"-cache", "as in 16MB"}},
		{[]string{"-nameserver==10.0.0.53"}, "", []string{"-nameserver", `"=10.0.0.53"`, "as in corp.example=10.0.0.53"}},
		{[]string{"-nameserver=a..b=10.0.0.53"}, "", []string{"-nameserver", "a..b", "labels"}},
		{[]string{"-nameserver=*.corp=10.0.0.53"}, "", []string{"-nameserver", "write letters, digits"}},
		{[]string{"-nameserver=corp=dns.google"}, "", []string{"-nameserver", upstream}},
		{[]string{"-nameserver=x.docker=10.0.0.53"}, "", []string{"-nameserver", `"x.docker="`, "write another domain"}},
		{[]string{"-dns=127.0.0.1:53", "-nameserver=corp=127.0.0.1"}, "", []string{"-nameserver", "dnsdock itself"}},
		{[]string{"-match=best"}, "", []string{"-match", `"best"`, "write all or closest"}},
		{[]string{"-match="}, "", []string{"-match", "write all or closest"}},
		{[]string{"-allow=10.0.0.0/33"}, "", []string{"-allow", `"10.0.0.0/33"`, "as in 203.0.113.0/24"}},
		{[]string{"-allow=example.com"}, "", []string{"-allow", "as in 203.0.113.0/24"}},
		{[]string{"-allow=::ffff:10.0.0.0/104"}, "", []string{"-allow", "as in 203.0.113.0/24"}},
		{[]string{"-ttl=-1"}, "", []string{"-ttl", `"-1"`, "seconds from 0 to 2147483647"}},
		{[]string{"-ttl=2147483648"}, "", []string{"-ttl", `"2147483648"`, "seconds from 0 to 2147483647"}},
		{[]string{"-ttl=10s"}, "", []string{"-ttl", `"10s"`, "seconds from 0"}},
		{[]string{"-ttl="}, "", []string{"-ttl", `""`, "seconds from 0"}},
		{[]string{"-ttl"}, "", []string{"-ttl", "argument"}},
		{[]string{"-alias=maybe"}, "", []string{"-alias", `"maybe"`, "write true or false"}},
		{[]string{"-verbose=no"}, "", []string{"-verbose", `"no"`, "write true or false"}},
		{[]string{"-verbose", "false"}, "", []string{`"false"`, "-verbose=false"}},
		{[]string{"-domain="}, "", []string{"-domain", `""`, "as in docker"}},
		{[]string{"-domain=."}, "", []string{"-domain", `"."`, "as in docker"}},
		{[]string{"-domain=a..b"}, "", []string{"-domain", `"a..b"`, "labels of 1 to 63 bytes"}},
		{[]string{"-domain=*"}, "", []string{"-domain", `"*"`, "letters"}},
		{[]string{"-domain=*.docker"}, "", []string{"-domain", `"*.docker"`, "letters"}},
		{[]string{"-domain=" + strings.Repeat("a", 64)}, "", []string{"-domain", "labels of 1 to 63 bytes"}},
		{[]string{"-domain=" + long}, "", []string{"-domain", "200 bytes"}},
		{[]string{"-domain=in-addr.arpa"}, "", []string{"-domain", `"in-addr.arpa"`, "as in docker"}},
		{[]string{"-domain=x.IP6.arpa"}, "", []string{"-domain", `"x.IP6.arpa"`, "as in docker"}},
		{[]string{"-domain=arpa"}, "", []string{"-domain", `"arpa"`, "as in docker"}},
		{[]string{"-domain=http://docker"}, "", []string{"-domain", `"http://docker"`, "letters"}},
		{[]string{"-domain=my docker"}, "", []string{"-domain", `"my docker"`, "letters"}},
		{[]string{"-domain=docker,local"}, "", []string{"-domain", `"docker,local"`, "letters"}},
		{[]string{"-environment=a..b"}, "", []string{"-environment", `"a..b"`, "labels of 1 to 63 bytes"}},
		{[]string{"-environment=*"}, "", []string{"-environment", `"*"`, "letters"}},
		{[]string{"-environment=dev/1"}, "", []string{"-environment", `"dev/1"`, "letters"}},
		{[]string{"-domain=" + strings.Repeat("abcdefghi.", 19) + "abcdefghi"}, "", []string{"-domain", "200 bytes"}}, // 200 without the root
		{[]string{"-environment=" + long}, "", []string{"-environment", "abcdefghi", "200 bytes"}},
		{[]string{"-docker=ssh://host"}, "", []string{"-docker", `"ssh://host"`, engine}},
		{[]string{"-docker=http://host:2375"}, "", []string{"-docker", `"http://host:2375"`, engine}},
		{[]string{"-docker=tcp://host"}, "", []string{"-docker", `"tcp://host"`, engine}},
		{[]string{"-docker=tcp://:2375"}, "", []string{"-docker", `"tcp://:2375"`, engine}},
		{[]string{"-docker=tcp://host:port"}, "", []string{"-docker", `"tcp://host:port"`, engine}},
		{[]string{"-docker=tcp://host:0"}, "", []string{"-docker", `"tcp://host:0"`, engine}},
		{[]string{"-docker=unix://"}, "", []string{"-docker", `"unix://"`, engine}},
		{[]string{"-docker=unix:///"}, "", []string{"-docker", `"unix:///"`, engine}},
		{[]string{"-docker=/var/run/docker.sock"}, "", []string{"-docker", `"/var/run/docker.sock"`, engine}},
		{[]string{"-docker=tcp://a:1,b:2"}, "", []string{"-docker", `"tcp://a:1,b:2"`, engine}},
		{[]string{"-docker=tcp://a:1=*.b"}, "", []string{"-docker", "letters"}},
		{[]string{"-docker=tcp://a:1="}, "", []string{"-docker", "as in docker"}},
		{[]string{"-docker=tcp://a:1=10.in-addr.arpa"}, "", []string{"-docker", "it is for addresses"}},
		{[]string{"-docker=tcp://a:1,tcp://a:1=b.docker"}, "", []string{"-docker", `"tcp://a:1"`, "write it once"}},
		{[]string{"-docker=tcp://a:1=b.example", "-nameserver=x.b.example=10.0.0.53"}, "", []string{"-nameserver", `"x.b.example="`, "write another domain"}},
		{[]string{"-network=a=b"}, "", []string{"-network", `"a=b"`, "as in backend,bridge"}},
		{[]string{"-domain=docker:53"}, "", []string{"-domain", `"docker:53"`, "write docker"}},
		{[]string{"-domain=\"docker\""}, "", []string{"-domain", "write docker"}},
		{[]string{"-domain=http://docker.example/x"}, "", []string{"-domain", "write docker.example"}},
		{[]string{"-domain=127.0.0.1"}, "", []string{"-domain", `"127.0.0.1"`, "it is an address"}},
		{[]string{"-domain=x.localhost"}, "", []string{"-domain", "it is the host itself"}},
		{[]string{"-environment=My App"}, "", []string{"-environment", `"My App"`, "write my-app"}},
		{[]string{"-environment=a\x00"}, "", []string{"-environment", "letters"}},
		{[]string{"-alias-domain=https://example.com/"}, "", []string{"-alias-domain", "write example.com"}},
		{[]string{"-docker=tcp://a:1=http://b.docker"}, "", []string{"-docker"}},
		{[]string{"-nameserver=http://x.example/=1.1.1.1"}, "", []string{"-nameserver", "write x.example"}},
		{[]string{"-nameserver=bücher,x=1.1.1.1"}, "", []string{"-nameserver", `bücher`, upstream}},
		{[]string{"-host-address=host"}, "", []string{"-host-address", `"host"`, "write an IPv4 or IPv6 address"}},
		{[]string{"-compose=no"}, "", []string{"-compose", `"no"`, "write true or false"}},
		{[]string{"-names=compose,swarm"}, "", []string{"-names", `"swarm"`, "write some of compose, hostname, alias, id, hyphen and host"}},
		{[]string{"-names=all"}, "", []string{"-names", `"all"`, "write some of compose"}},
		{[]string{"-alias-domain=*.test"}, "", []string{"-alias-domain", `"*.test"`, "letters"}},
		{[]string{"-alias-domain=10.in-addr.arpa"}, "", []string{"-alias-domain", "it is for addresses"}},
		{[]string{"-filter=name=web"}, "", []string{"-filter", `"name=web"`, "write label=KEY or label=KEY=VALUE"}},
		{[]string{"-filter=label="}, "", []string{"-filter", "write label=KEY"}},
		{[]string{"-filter=label==x"}, "", []string{"-filter", "write label=KEY"}},
		{[]string{"-filter="}, "", []string{"-filter", "write label=KEY"}},
		{[]string{"-http-open", "-http-readonly"}, "", []string{"-http-open", "-http-readonly", "write one of the three"}},
		{[]string{"-http-open", "-http-token-file=" + junk}, "", []string{"-http-open", "-http-token-file", "write one of the three"}},
		{[]string{"-nameserver=tcp://dns.google"}, "", []string{"-nameserver", "tcp://dns.google", upstream}},
		{[]string{"-nameserver=tcp://8.8.8.8#x"}, "", []string{"-nameserver", "tcp://8.8.8.8#x", upstream}},
		{[]string{"-dns=127.0.0.1:53", "-nameserver=tcp://127.0.0.1"}, "", []string{"-nameserver", `"tcp://127.0.0.1:53"`, "dnsdock itself"}},
		{[]string{"-health="}, "", []string{"-health", "write true or false"}},
		{[]string{"-docker="}, "", []string{"-docker", `""`, engine}},
		{nil, "DOCKER_HOST=npipe:////./pipe/docker_engine", []string{"DOCKER_HOST", `"npipe:////./pipe/docker_engine"`, engine}},
		{[]string{"-docker=tcp://host:2376", "-tlsverify"}, "HOME=/nowhere", []string{"-tlscacert", "/nowhere/.docker/ca.pem", "write the path of a PEM file", "-tlsverify"}},
		{[]string{"-docker=tcp://host:2376"}, "DOCKER_TLS_VERIFY=1 DOCKER_CERTS=/certs DOCKER_CERT_PATH=/path", []string{"-tlscacert", "/certs/ca.pem", "DOCKER_TLS_VERIFY"}},
		{[]string{"-docker=tcp://host:2376", "-tlsverify", "-tlscacert=" + junk}, "DOCKER_CERTS=" + certs, []string{"-tlscacert", junk, "PEM"}},
		{[]string{"-docker=tcp://host:2376", "-tlsverify", "-tlscert=" + junk}, "DOCKER_CERTS=" + certs, []string{"-tlscert", "PEM"}},
		{[]string{"-docker=tcp://host:2376", "-tlsverify", "-tlskey=/nowhere"}, "DOCKER_CERTS=" + certs, []string{"-tlskey", "/nowhere", "PEM"}},
		{[]string{"-dns=127.0.0.1:53", "-nameserver=127.0.0.1"}, "", []string{"-nameserver", `"127.0.0.1:53"`, "dnsdock itself", "-dns=127.0.0.1:53", "write another"}},
		{[]string{"-dns=127.0.0.1:053", "-nameserver=127.0.0.1"}, "", []string{"-nameserver", "dnsdock itself"}},
		{[]string{"-dns=[::ffff:127.0.0.1]:53", "-nameserver=127.0.0.1"}, "", []string{"-nameserver", "dnsdock itself"}},
		{[]string{"-dns=localhost:53", "-nameserver=9.9.9.9,127.0.0.1:53"}, "", []string{"-nameserver", "dnsdock itself"}},
		{[]string{"-nameserver=127.0.0.1"}, "", []string{"-nameserver", `"127.0.0.1:53"`, "dnsdock itself", "-dns=:53"}},
		{[]string{"-nameserver=[::1]:53"}, "", []string{"-nameserver", `"[::1]:53"`, "dnsdock itself"}},
		{[]string{"-dns=0.0.0.0:5300", "-nameserver=127.0.0.2:5300"}, "", []string{"-nameserver", "dnsdock itself"}},
		{[]string{"-dns=[::]:5300", "-nameserver=[::1]:5300"}, "", []string{"-nameserver", "dnsdock itself"}},
		{[]string{"-dns=:5300,:53", "-nameserver=127.0.0.1:53"}, "", []string{"-nameserver", "dnsdock itself", "-dns=:53"}},
		{[]string{"-nonsense"}, "", []string{"-nonsense", "dnsdock -help"}},
		{[]string{"-dsn=:53"}, "", []string{"-dsn", "dnsdock -help"}},
		{[]string{"nonsense"}, "", []string{`"nonsense"`, "-flag=value"}},
		{[]string{"-ttl=1", "--", "-alias"}, "", []string{`"-alias"`, "-flag=value"}},
		{[]string{"-"}, "", []string{`"-"`}},
		{[]string{""}, "", []string{`""`}},
		{[]string{"---ttl=1"}, "", []string{"---ttl=1", "dnsdock -help"}},
	} {
		t.Run(strings.Join(tt.args, " ")+" "+tt.env, func(t *testing.T) {
			_, err := Parse(tt.args, environ(strings.Fields(tt.env)))
			if err == nil {
				t.Fatal("got no error")
			}
			for _, part := range tt.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("got error %q; want one with %q", err, part)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("got error %q; want one line", err)
			}
		})
	}
}

// An address of this host, whichever, is ours on a socket of all addresses; a
// link-local one on its own interface only: bridges of an engine have
// fe80::1, as many routers do.
func TestRefuseOwnAddress(t *testing.T) {
	interfaces, err := net.Interfaces()
	if err != nil {
		t.Skipf("no interfaces here: %v", err)
	}
	check := func(up netip.AddrPort, dns string, refused bool) {
		t.Helper()
		_, err := Parse([]string{"-nameserver=" + up.String(), "-dns=" + dns}, environ(nil))
		if (err != nil) != refused {
			t.Errorf("-dns=%s -nameserver=%s: got error %v; want refused %t", dns, up, err, refused)
		}
	}
	for _, ifi := range interfaces {
		addrs, err := ifi.Addrs()
		if err != nil {
			continue // it went away
		}
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			if err != nil {
				t.Fatal(err)
			}
			up := netip.AddrPortFrom(p.Addr(), 53)
			if p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() {
				check(netip.AddrPortFrom(p.Addr().WithZone("nowhere0"), 53), ":53", false)
				check(netip.AddrPortFrom(p.Addr().WithZone(strconv.Itoa(ifi.Index)), 53), ":53", true)
				up = netip.AddrPortFrom(p.Addr().WithZone(ifi.Name), 53)
			}
			check(up, ":53", true)
			check(up, ":5300", false)
		}
	}
}
