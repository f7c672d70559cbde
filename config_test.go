package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnstest"
)

// environ is getenv of a fixed environment, "NAME=value" each.
func environ(vars []string) func(string) string {
	return func(k string) string {
		for _, v := range vars {
			if name, value, _ := strings.Cut(v, "="); name == k {
				return value
			}
		}
		return ""
	}
}

// showConfig gives a config on one line; what is as by default is left out.
func showConfig(c *config) string {
	var b strings.Builder
	add := func(name string, v any, def string) {
		if s := fmt.Sprint(v); s != def {
			fmt.Fprintf(&b, " %s=%s", name, s)
		}
	}
	add("dns", c.dns, "[:53]")
	add("http", c.http, ":80")
	add("token", c.tokenFile, "")
	add("readonly", c.readOnly, "false")
	add("json", c.json, "false")
	add("check", c.check, "false")
	for _, e := range c.engines {
		own := ""
		if e.domain != "" {
			own = " " + e.domain.String()
		}
		add("engine", e.Network+" "+e.Addr+own, "unix /var/run/docker.sock")
	}
	if c.tls != nil {
		add("tls", *c.tls, "")
	}
	add("apex", c.naming.Apex, "docker.")
	add("nameserver", c.upstreams[dnsname.Root], "[8.8.8.8:53]")
	for _, domain := range slices.Sorted(maps.Keys(c.upstreams)) {
		if domain != dnsname.Root {
			add("nameserver", fmt.Sprint(domain, c.upstreams[domain]), "")
		}
	}
	add("allow", c.allow, "[]")
	add("closest", c.naming.Closest, "false")
	add("ttl", c.ttl, "0")
	add("alias", c.naming.Alias, "false")
	add("all", c.naming.All, "false")
	add("cache", c.cache, "16777216")
	add("network", c.naming.Networks, "[]")
	add("host-address", c.naming.Host, "[]")
	add("compose", c.naming.Compose, "true")
	add("health", c.naming.Health, "true")
	add("state", c.state, "")
	add("forcettl", c.forceTTL, "false")
	add("verbose", c.verbose, "true")
	add("debug", c.debug, "false")
	return strings.TrimSpace(b.String())
}

// tlsDir returns a new directory with the three TLS files.
func tlsDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	dnstest.NewAuthority(t, dir, "ca.pem").Issue(dir, "cert.pem", "key.pem", "client", time.Now().Add(time.Hour))
	return dir
}

func TestParseConfig(t *testing.T) {
	certs := tlsDir(t)
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(conf, []byte("nameserver 9.9.9.9"), 0o600); err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	token := filepath.Join(home, "token")
	if err := os.WriteFile(token, []byte("0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tlsDir(t), filepath.Join(home, ".docker")); err != nil {
		t.Fatal(err)
	}
	tlsOf := func(dir string) string {
		return fmt.Sprintf("tls={%s %s %s}", filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	}
	for _, tt := range []struct{ args, env, want string }{
		{"", "", ""},
		// One and two dashes, value apart or not.
		{"-ttl=30", "", "ttl=30"},
		{"--ttl=30", "", "ttl=30"},
		{"-ttl 30", "", "ttl=30"},
		{"--ttl 30 --alias --all --forcettl --debug --verbose=false", "", "ttl=30 alias=true all=true forcettl=true verbose=false debug=true"},
		{"-alias=false -all=true -forcettl=0 -debug=T", "", "all=true debug=true"},
		{"-ttl=2147483647", "", "ttl=2147483647"},
		{"-ttl=1 -ttl=2", "", "ttl=2"},
		// Lists.
		{"-dns=172.17.0.1:53", "", "dns=[172.17.0.1:53]"},
		{"-dns=172.17.0.1:53,[::1]:5300", "", "dns=[172.17.0.1:53 [::1]:5300]"},
		{"-dns=172.17.0.1:53 -dns=[::1]:5300,:54", "", "dns=[172.17.0.1:53 [::1]:5300 :54]"},
		{"-dns=,172.17.0.1:53,", "", "dns=[172.17.0.1:53]"},
		{"-dns=localhost:5300", "", "dns=[127.0.0.1:5300]"},
		{"-dns=[::ffff:127.0.0.1]:5300", "", "dns=[127.0.0.1:5300]"},
		{"-dns=:05300", "", "dns=[:5300]"},
		{"-dns=[fe80::1%eth0]:53", "", "dns=[[fe80::1%eth0]:53]"},
		{"-nameserver=9.9.9.9", "", "nameserver=[9.9.9.9:53]"},
		{"-nameserver=9.9.9.9:5353,1.1.1.1", "", "nameserver=[9.9.9.9:5353 1.1.1.1:53]"},
		{"-nameserver=9.9.9.9 -nameserver=1.1.1.1", "", "nameserver=[9.9.9.9:53 1.1.1.1:53]"},
		{"-nameserver=2620:fe::fe", "", "nameserver=[[2620:fe::fe]:53]"},
		{"-nameserver=[2620:fe::fe]", "", "nameserver=[[2620:fe::fe]:53]"},
		{"-nameserver=[2620:fe::fe]:5353", "", "nameserver=[[2620:fe::fe]:5353]"},
		{"-nameserver=fe80::1%eth0", "", "nameserver=[[fe80::1%eth0]:53]"},
		{"-nameserver=::ffff:9.9.9.9", "", "nameserver=[9.9.9.9:53]"},
		{"-nameserver=", "", "nameserver=[]"},
		{"-nameserver= -nameserver=9.9.9.9", "", "nameserver=[9.9.9.9:53]"},
		{"-nameserver=Corp.example.=10.0.0.53", "", "nameserver=corp.example.[10.0.0.53:53]"},
		{"-nameserver=corp.example=10.0.0.53:5353,10.0.0.54 -nameserver=a.corp.example=10.0.0.55 -nameserver=corp.example=10.0.0.56", "",
			"nameserver=a.corp.example.[10.0.0.55:53] nameserver=corp.example.[10.0.0.53:5353 10.0.0.54:53 10.0.0.56:53]"},
		{"-nameserver=9.9.9.9,corp.example=10.0.0.53,168.192.in-addr.arpa=10.0.0.54", "",
			"nameserver=[9.9.9.9:53] nameserver=168.192.in-addr.arpa.[10.0.0.54:53] nameserver=corp.example.[10.0.0.53:53]"},
		{"-nameserver=blocked.test= -nameserver=", "", "nameserver=[] nameserver=blocked.test.[]"},
		{"-nameserver=tls://1.1.1.1#cloudflare-dns.com,tls://[2620:fe::fe]:8853,tls://9.9.9.9", "",
			"nameserver=[tls://1.1.1.1:853#cloudflare-dns.com tls://[2620:fe::fe]:8853 tls://9.9.9.9:853]"},
		{"-nameserver=" + conf + ",corp.example=" + conf, "", "nameserver=[" + conf + "] nameserver=corp.example.[" + conf + "]"},
		{"-cache=0", "", "cache=0"},
		{"-cache=64KB", "", "cache=65536"},
		{"-cache=1mb", "", "cache=1048576"},
		{"-cache=2G", "", "cache=2147483648"},
		{"-cache=16MiB", "", ""},
		{"-cache=12345", "", "cache=12345"},
		// Rules.
		{"-match=all", "", ""},
		{"-match=closest", "", "closest=true"},
		{"-match=closest -match=all", "", ""},
		{"-allow=203.0.113.7/24,2001:db8::7 -allow=198.51.100.1", "", "allow=[203.0.113.0/24 2001:db8::7/128 198.51.100.1/32]"},
		{"-allow=0.0.0.0/0,::/0", "", "allow=[0.0.0.0/0 ::/0]"},
		// HTTP.
		{"-http=", "", "http="},
		{"-http=127.0.0.1:8053", "", "http=127.0.0.1:8053"},
		{"-http=localhost:8053", "", "http=127.0.0.1:8053"},
		{"-http=unix:///run/dnsdock/api.sock", "", "http=unix:///run/dnsdock/api.sock"},
		{"-http-readonly -http-token-file=" + token, "", "token=" + token + " readonly=true"},
		{"-log=json -healthcheck", "", "json=true check=true"},
		{"-log=json -log=text", "", ""},
		// Names.
		{"-domain=example.com", "", "apex=example.com."},
		{"-domain=.Docker.Example.COM.", "", "apex=docker.example.com."},
		{"-environment=dev", "", "apex=dev.docker."},
		{"-environment=a.b. -domain=c.d", "", "apex=a.b.c.d."},
		{"-environment=", "", ""},
		{"-environment=us_2-x -domain=x-y_z.1", "", "apex=us_2-x.x-y_z.1."},
		// The engine: the flag wins over the variable.
		{"-docker=unix:///run/user/1000/docker.sock", "", "engine=unix /run/user/1000/docker.sock"},
		{"-docker=unix://var/run/other.sock", "", "engine=unix /var/run/other.sock"},
		{"-docker=tcp://10.0.0.5:2375", "", "engine=tcp 10.0.0.5:2375"},
		{"-docker=tcp://[fd00::5]:2375/", "", "engine=tcp [fd00::5]:2375"},
		{"-docker=tcp://engine.example.com:2376", "", "engine=tcp engine.example.com:2376"},
		{"", "DOCKER_HOST=tcp://10.0.0.5:2375", "engine=tcp 10.0.0.5:2375"},
		{"", "DOCKER_HOST=", ""},
		{"-docker=tcp://10.0.0.6:2375", "DOCKER_HOST=tcp://10.0.0.5:2375", "engine=tcp 10.0.0.6:2375"},
		{"-docker=tcp://10.0.0.6:2375", "DOCKER_HOST=ssh://nonsense", "engine=tcp 10.0.0.6:2375"},
		{"-docker=tcp://a:1,tcp://b:2=B.docker. -docker=unix:///c,tcp://d:4", "", "engine=tcp a:1 engine=tcp b:2 b.docker. engine=unix /c engine=tcp d:4"},
		{"-docker=unix:///a=b/d.sock,unix:///x,y=z/d.sock=c.example,", "", "engine=unix /a=b/d.sock engine=unix /x,y=z/d.sock c.example."},
		{"", "DOCKER_HOST=tcp://a:1,tcp://b:2=b.docker", "engine=tcp a:1 engine=tcp b:2 b.docker."},
		{"-docker=unix:///c,tcp://d:4 -tlsverify", "DOCKER_CERTS=" + certs, "engine=unix /c engine=tcp d:4 " + tlsOf(certs)},
		// Which address, and what is kept.
		{"-network=b,a -network=host,b -host-address=192.0.2.1,2001:db8::1 -compose=false -health=false -state=/x/y.json", "",
			"network=[b a host] host-address=[192.0.2.1 2001:db8::1] compose=false health=false state=/x/y.json"},
		// TLS: the files are in the first of three places, and each may be named.
		{"-docker=tcp://10.0.0.5:2376", "DOCKER_TLS_VERIFY=", "engine=tcp 10.0.0.5:2376"},
		{"-docker=tcp://10.0.0.5:2376", "DOCKER_TLS_VERIFY=1 DOCKER_CERTS=" + certs + " DOCKER_CERT_PATH=/nowhere HOME=/nowhere", "engine=tcp 10.0.0.5:2376 " + tlsOf(certs)},
		{"-docker=tcp://10.0.0.5:2376 -tlsverify", "DOCKER_CERT_PATH=" + certs + " HOME=/nowhere", "engine=tcp 10.0.0.5:2376 " + tlsOf(certs)},
		{"-docker=tcp://10.0.0.5:2376 --tlsverify", "HOME=" + home, "engine=tcp 10.0.0.5:2376 " + tlsOf(filepath.Join(home, ".docker"))},
		{"-docker=tcp://10.0.0.5:2376 -tlsverify=false", "DOCKER_TLS_VERIFY=1 DOCKER_CERTS=/nowhere", "engine=tcp 10.0.0.5:2376"},
		{"-docker=tcp://10.0.0.5:2376 -tlsverify -tlscacert=" + certs + "/ca.pem -tlscert=" + certs + "/cert.pem -tlskey=" + certs + "/key.pem", "HOME=/nowhere", "engine=tcp 10.0.0.5:2376 " + tlsOf(certs)},
		{"-tlsverify", "HOME=/nowhere", ""}, // a unix socket has none
		// Upstreams that look like dnsdock itself and are not.
		{"-dns=127.0.0.1:5300 -nameserver=127.0.0.1:53", "", "dns=[127.0.0.1:5300] nameserver=[127.0.0.1:53]"},
		{"-dns=127.0.0.2:53 -nameserver=127.0.0.1:53", "", "dns=[127.0.0.2:53] nameserver=[127.0.0.1:53]"},
		{"-dns=172.17.0.1:53 -nameserver=127.0.0.53", "", "dns=[172.17.0.1:53] nameserver=[127.0.0.53:53]"},
		{"-dns=0.0.0.0:53 -nameserver=[::1]:53", "", "dns=[0.0.0.0:53] nameserver=[[::1]:53]"},
		{"-dns=[::]:53 -nameserver=127.0.0.1", "", "dns=[[::]:53] nameserver=[127.0.0.1:53]"},
	} {
		t.Run(tt.args+" "+tt.env, func(t *testing.T) {
			cfg, err := parseConfig(strings.Fields(tt.args), environ(strings.Fields(tt.env)))
			if err != nil {
				t.Fatalf("got error %v; want none", err)
			}
			if got := showConfig(cfg); got != tt.want {
				t.Errorf("got %q; want %q", got, tt.want)
			}
		})
	}
}

// A wrong value ends the program before anything listens: one line that names
// the flag, the value and what to write instead.
func TestBadConfig(t *testing.T) {
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
		{[]string{"-http=unix:///" + strings.Repeat("x", maxSocketPath)}, "", []string{"-http", "at most 103 octets"}},
		{[]string{"-http-token-file=/nonexistent"}, "", []string{"-http-token-file", "/nonexistent", "no such file"}},
		{[]string{"-http-token-file=" + junk}, "", []string{"-http-token-file", junk, "write one of 16 characters or more", "openssl rand -hex 32"}},
		{[]string{"-http-token-file=/dev/zero"}, "", []string{"-http-token-file", "no file"}},
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
		{[]string{"-domain=a..b"}, "", []string{"-domain", `"a..b"`, "labels of 1 to 63 octets"}},
		{[]string{"-domain=*"}, "", []string{"-domain", `"*"`, "letters"}},
		{[]string{"-domain=*.docker"}, "", []string{"-domain", `"*.docker"`, "letters"}},
		{[]string{"-domain=" + strings.Repeat("a", 64)}, "", []string{"-domain", "labels of 1 to 63 octets"}},
		{[]string{"-domain=" + long}, "", []string{"-domain", "200 octets"}},
		{[]string{"-domain=in-addr.arpa"}, "", []string{"-domain", `"in-addr.arpa"`, "as in docker"}},
		{[]string{"-domain=x.IP6.arpa"}, "", []string{"-domain", `"x.IP6.arpa"`, "as in docker"}},
		{[]string{"-domain=arpa"}, "", []string{"-domain", `"arpa"`, "as in docker"}},
		{[]string{"-domain=http://docker"}, "", []string{"-domain", `"http://docker"`, "letters"}},
		{[]string{"-domain=my docker"}, "", []string{"-domain", `"my docker"`, "letters"}},
		{[]string{"-domain=docker,local"}, "", []string{"-domain", `"docker,local"`, "letters"}},
		{[]string{"-environment=a..b"}, "", []string{"-environment", `"a..b"`, "labels of 1 to 63 octets"}},
		{[]string{"-environment=*"}, "", []string{"-environment", `"*"`, "letters"}},
		{[]string{"-environment=dev/1"}, "", []string{"-environment", `"dev/1"`, "letters"}},
		{[]string{"-domain=" + strings.Repeat("abcdefghi.", 19) + "abcdefghi"}, "", []string{"-domain", "200 octets"}}, // 200 without the root
		{[]string{"-environment=" + long}, "", []string{"-environment", "abcdefghi", "200 octets"}},
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
		{[]string{"-network=a b"}, "", []string{"-network", `"a b"`, "as in backend,bridge"}},
		{[]string{"-host-address=host"}, "", []string{"-host-address", `"host"`, "write an IPv4 or IPv6 address"}},
		{[]string{"-compose=no"}, "", []string{"-compose", `"no"`, "write true or false"}},
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
			var stdout, stderr bytes.Buffer
			ctx, cancel := context.WithCancel(t.Context())
			cancel() // what is accepted ends at once
			err := run(ctx, tt.args, environ(strings.Fields(tt.env)), &stdout, &stderr)
			if _, ok := errors.AsType[usageError](err); !ok {
				t.Fatalf("got error %v; want one of usage", err)
			}
			for _, part := range tt.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("got error %q; want one with %q", err, part)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("got error %q; want one line", err)
			}
			if stdout.Len() != 0 || stderr.Len() != 0 {
				t.Errorf("got output %q and log %q; want none", &stdout, &stderr)
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
		_, err := parseConfig([]string{"-nameserver=" + up.String(), "-dns=" + dns}, environ(nil))
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

func TestHelpAndVersion(t *testing.T) {
	for _, args := range []string{"-help", "--help", "-h", "-version", "--version", "-version -dns= -domain=*", "-ttl=1 -help"} {
		t.Run(args, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if err := run(t.Context(), strings.Fields(args), environ([]string{"DOCKER_HOST=nonsense"}), &stdout, &stderr); err != nil {
				t.Fatalf("got error %v; want none", err)
			}
			want := usage
			if strings.Contains(args, "version") {
				want = "dnsdock " + buildVersion() + " go"
			}
			if !strings.HasPrefix(stdout.String(), want) || stderr.Len() != 0 {
				t.Errorf("got output %q and log %q; want %q and no log", &stdout, &stderr, want)
			}
		})
	}
	// Each flag is in the usage, with its default.
	for _, line := range []string{
		"-dns ADDR", "(default :53)", "-http ADDR", "(default :80)", "-docker URL", "unix:///var/run/docker.sock", "-domain NAME", "(default docker)",
		"-environment NAME", "-nameserver ADDR", "(default 8.8.8.8:53)", "-ttl SECONDS", "(default 0)", "-alias", "-all", "-forcettl",
		"-tlsverify", "-tlscacert FILE", "-tlscert FILE", "-tlskey FILE", "-verbose", "-debug", "-version", "-help", "Examples",
	} {
		if !strings.Contains(usage, line) {
			t.Errorf("usage lacks %q", line)
		}
	}
}

// The flags do what they say in the running program.
func TestFlagsAtWork(t *testing.T) {
	noEngine := "-docker=unix://" + t.TempDir() + "/docker.sock"
	t.Run("no upstream", func(t *testing.T) {
		in := startDnsdock(t, noEngine)
		if r := in.ask(t, "udp", "example.com", dns.TypeA); r.Rcode != dns.RcodeRefused || r.RecursionAvailable {
			t.Errorf("got %v; want REFUSED, RA clear", show(r))
		}
	})
	t.Run("upstreams in order", func(t *testing.T) {
		in := startDnsdock(t, noEngine, "-nameserver="+closedUpstream(t).String()+","+startUpstream(t, answer(t, nil), nil).String(), "-forcettl", "-ttl=9")
		for _, network := range []string{"udp", "tcp"} {
			if got, want := showSorted(in.ask(t, network, "example.com", dns.TypeA)), "NOERROR ra; example.com. 9 A 192.0.2.1"; got != want {
				t.Errorf("over %s: got %v; want %v", network, got, want)
			}
		}
	})
	t.Run("domain, environment and ttl", func(t *testing.T) {
		in := startDnsdock(t, noEngine, "-domain=docker.example.com", "--environment=dev", "-ttl", "12")
		if got, want := showSorted(in.ask(t, "udp", "dnsdock.dev.docker.example.com", dns.TypeA)), "NOERROR aa; dnsdock.dev.docker.example.com. 12 A 127.0.0.1"; got != want {
			t.Errorf("got %v; want %v", got, want)
		}
	})
	t.Run("several addresses", func(t *testing.T) {
		in := startDnsdock(t, noEngine, "-dns=127.0.0.1:0,127.0.0.1:0")
		in.log.wait(t, "msg=listening for=http") // the last to listen
		for line := range strings.Lines(in.log.String()) {
			if _, addr, ok := strings.Cut(line, "msg=listening for=dns addr="); ok {
				r := exchange(t, "udp", strings.TrimSpace(addr), new(dns.Msg).SetQuestion("dnsdock.docker.", dns.TypeA))
				if len(r.Answer) != 1 {
					t.Errorf("at %s: got %v; want our address", addr, show(r))
				}
			}
		}
		if got := strings.Count(in.log.String(), "msg=listening for=dns "); got != 3 { // with the one of startDnsdock
			t.Errorf("got %d addresses; want 3", got)
		}
	})
	t.Run("no HTTP", func(t *testing.T) {
		log := newLogWatch()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- run(ctx, []string{"-dns=127.0.0.1:0", "-http=", noEngine}, environ(nil), log, log) }()
		log.wait(t, "msg=listening for=dns")
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
		if strings.Contains(log.String(), "for=http") {
			t.Errorf("HTTP is served:\n%s", log)
		}
	})
	t.Run("debug", func(t *testing.T) {
		in := startDnsdock(t, noEngine, "-debug")
		in.ask(t, "udp", "example.com", dns.TypeMX)
		in.log.wait(t, "level=DEBUG msg=query", "name=example.com.", "type=MX", "rcode=REFUSED")
	})
}

// The built program: its exit codes, and its end by signals.
func TestBinary(t *testing.T) {
	gocmd, err := exec.LookPath("go")
	if err != nil {
		t.Skipf("the program can't be built: %v", err)
	}
	binary := filepath.Join(t.TempDir(), "dnsdock")
	if out, err := exec.CommandContext(t.Context(), gocmd, "build", "-ldflags=-X main.version=v9.8.7", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	start := func(t *testing.T, args ...string) (cmd *exec.Cmd, stdout *bytes.Buffer, stderr *logWatch) {
		cmd = exec.CommandContext(t.Context(), binary, args...)
		stdout, stderr = new(bytes.Buffer), newLogWatch()
		cmd.Stdout, cmd.Stderr, cmd.Env = stdout, stderr, []string{}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd, stdout, stderr
	}
	for _, tt := range []struct {
		args           []string
		code           int
		stdout, stderr string // a part of each
	}{
		{[]string{"-ttl=soon"}, 2, "", `dnsdock: invalid value "soon" for flag -ttl: write seconds from 0 to 2147483647`},
		{[]string{"-nonsense"}, 2, "", "dnsdock: flag provided but not defined: -nonsense"},
		{[]string{"-dns=" + busy.Addr().String()}, 1, "", "dnsdock: can't listen on -dns=" + busy.Addr().String()},
		{[]string{"-help"}, 0, "Usage: dnsdock [flags]", ""},
		{[]string{"-version"}, 0, "dnsdock v9.8.7 go", ""},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			cmd, stdout, stderr := start(t, tt.args...)
			_ = cmd.Wait() // the code says it
			if got := cmd.ProcessState.ExitCode(); got != tt.code {
				t.Errorf("got exit code %d; want %d", got, tt.code)
			}
			if !strings.HasPrefix(stdout.String(), tt.stdout) || (tt.stdout == "") != (stdout.Len() == 0) {
				t.Errorf("got output %q; want %q", stdout, tt.stdout)
			}
			if !strings.HasPrefix(stderr.String(), tt.stderr) || (tt.stderr == "") != (stderr.String() == "") {
				t.Errorf("got log %q; want %q", stderr, tt.stderr)
			}
			if n := strings.Count(stderr.String(), "\n"); n > 1 {
				t.Errorf("got %d lines of log; want one at most", n)
			}
		})
	}
	t.Run("hangup and healthcheck", func(t *testing.T) {
		e := newFakeEngine()
		token := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(token, []byte("0123456789abcdef"), 0o600); err != nil {
			t.Fatal(err)
		}
		flags := []string{"-dns=127.0.0.1:0", "-http=127.0.0.1:0", "-nameserver=", "-http-token-file=" + token, "-docker=" + startEngine(t, e, nil).Text}
		cmd, _, stderr := start(t, flags...)
		flags[0] = "-dns=" + stderr.value(t, "msg=listening for=dns", "addr")
		flags[1] = "-http=" + stderr.value(t, "msg=listening for=http", "addr")
		stderr.wait(t, "engine found")
		e.update(func() { e.quiet = true })
		for _, id := range []string{"aa", "bb"} {
			e.set(id, &fakeContainer{name: id, image: "redis:7", state: "running", addr: "10.0.0.1"})
			if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
			stderr.wait(t, "service added", fakeID(id)) // long before the next list by time
		}
		if err := os.Remove(token); err != nil {
			t.Fatal(err)
		}
		stderr.mark()
		if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		stderr.wait(t, "token can't be read")
		if err := os.WriteFile(token, []byte("0123456789abcdef"), 0o600); err != nil {
			t.Fatal(err)
		}
		check := func(want int, args ...string) {
			t.Helper()
			cmd, _, stderr := start(t, append(args, "-healthcheck")...)
			_ = cmd.Wait() // the code says it
			if got := cmd.ProcessState.ExitCode(); got != want {
				t.Errorf("-healthcheck %q: got exit code %d, %s; want %d", args, got, stderr, want)
			}
		}
		check(0, flags...)
		check(0, flags[0], "-http=", flags[2])
		check(2, "-http=nonsense")
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("got %v; want exit code 0\n%s", err, stderr)
		}
		check(1, flags...)
		check(1, flags[0], "-http=", flags[2])
	})
	for _, sig := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		t.Run(sig.String(), func(t *testing.T) {
			cmd, _, stderr := start(t, "-dns=127.0.0.1:0", "-http=127.0.0.1:0", "-nameserver=", "-docker=unix://"+t.TempDir()+"/docker.sock")
			addr := stderr.value(t, "msg=listening for=dns", "addr")
			stderr.wait(t, "msg=listening for=http")
			exchange(t, "tcp", addr, new(dns.Msg).SetQuestion("dnsdock.docker.", dns.TypeA))
			idle, err := net.Dial("tcp", addr) // must not hold it
			if err != nil {
				t.Fatal(err)
			}
			defer idle.Close()
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("got %v; want exit code 0\n%s", err, stderr)
			}
		})
	}
}
