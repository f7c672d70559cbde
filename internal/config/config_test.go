package config

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

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

// show returns c on one line, without what is as by default.
func show(c *Config) string {
	var b strings.Builder
	add := func(name string, v any, def string) {
		if s := fmt.Sprint(v); s != def {
			fmt.Fprintf(&b, " %s=%s", name, s)
		}
	}
	add("dns", c.DNS, "[:53]")
	add("http", c.HTTP.Addr, ":80")
	add("token", c.HTTP.TokenFile, "")
	add("readonly", c.HTTP.ReadOnly, "false")
	add("json", c.Log.JSON, "false")
	add("check", c.CheckHealth, "false")
	for _, e := range c.Docker.Engines {
		own := ""
		if e.Domain != "" {
			own = " " + e.Domain.String()
		}
		add("engine", e.Network+" "+e.Addr+own, "unix /var/run/docker.sock")
	}
	if c.Docker.TLS != nil {
		add("tls", *c.Docker.TLS, "")
	}
	add("apex", c.Names.Apex, "docker.")
	add("nameserver", c.Forward.Nameservers[dnsname.Root], "[8.8.8.8:53]")
	for _, domain := range slices.Sorted(maps.Keys(c.Forward.Nameservers)) {
		if domain != dnsname.Root {
			add("nameserver", fmt.Sprint(domain, c.Forward.Nameservers[domain]), "")
		}
	}
	add("allow", c.Forward.Allow, "[]")
	add("closest", c.Names.Closest, "false")
	add("ttl", c.TTL, "0")
	add("alias", c.Names.Alias, "false")
	add("all", c.Names.All, "false")
	add("cache", c.Forward.CacheSize, "16777216")
	add("network", fmt.Sprint(c.Names.Networks, c.Names.Networks == nil), "[] true")
	add("host-address", fmt.Sprint(c.Names.Host, c.Names.Host == nil), "[] true")
	add("names", c.Names.Second, "{true true true true true true}")
	add("aliases", fmt.Sprint(c.Names.AliasDomains, c.Names.AliasDomains == nil), "[] true")
	add("labels", c.Docker.Labels, "[]")
	add("open", c.HTTP.Open, "false")
	add("health", c.Names.Health, "true")
	add("state", c.StateFile, "")
	add("hosts", c.HostsFile, "")
	add("forcettl", c.Forward.ForceTTL, "false")
	add("verbose", c.Log.Verbose, "true")
	add("debug", c.Log.Debug, "false")
	return strings.TrimSpace(b.String())
}

// tlsDir returns a new directory with the three TLS files.
func tlsDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	dnstest.NewAuthority(t, dir, "ca.pem").Issue(dir, "cert.pem", "key.pem", "client", time.Now().Add(time.Hour))
	return dir
}

func TestParse(t *testing.T) {
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
		in := func(file string) string { return filepath.Join(dir, file) }
		return fmt.Sprintf("tls={%s %s %s}", in("ca.pem"), in("cert.pem"), in("key.pem"))
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
		{"-network= -host-address= -allow=", "", ""},
		{"-network=b,a -network=host,b -host-address=192.0.2.1,2001:db8::1 -compose=false -health=false -state=/x/y.json", "",
			"network=[b a host] false host-address=[192.0.2.1 2001:db8::1] false names={false true true true true true} health=false state=/x/y.json"},
		{"-domain=Bücher.example -environment=Übung", "", "apex=xn--bung-zra.xn--bcher-kva.example."},
		{"-alias-domain=bücher.example", "", "aliases=[xn--bcher-kva.example.] false"},
		{"-docker=tcp://a:1=bücher.example", "", "engine=tcp a:1 xn--bcher-kva.example."},
		{"-nameserver=bücher.example=10.0.0.53", "", "nameserver=xn--bcher-kva.example.[10.0.0.53:53]"},
		{"-nameserver=tls://9.9.9.9#Bücher.example", "", "nameserver=[tls://9.9.9.9:853#xn--bcher-kva.example]"},
		{"-names=", "", "names={false false false false false false}"},
		{"-names=compose,hostname -names=host,id", "", "names={true true false true false true}"},
		{"-names=alias,,hyphen, -compose=false", "", "names={false false true false true false}"},
		{"-names=compose,hyphen -compose=false", "", "names={false false false false true false}"},
		{"-compose=true", "", ""},
		{"-alias-domain=Example.com,test.", "", "aliases=[example.com. test.] false"},
		{"-alias-domain=test -alias-domain=a.b", "", "aliases=[test. a.b.] false"},
		{"-alias-domain=", "", "aliases=[] false"},
		{"-filter=label=a -filter=label=b=c,d=e", "", "labels=[a b=c,d=e]"},
		{"-http-open", "", "open=true"},
		{"-http-open=false -http-readonly", "", "readonly=true"},
		{"-nameserver=tcp://9.9.9.9,tcp://[2620:fe::fe]:5353", "", "nameserver=[tcp://9.9.9.9:53 tcp://[2620:fe::fe]:5353]"},
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
			cfg, err := Parse(strings.Fields(tt.args), environ(strings.Fields(tt.env)))
			if err != nil {
				t.Fatalf("got error %v; want none", err)
			}
			if got := show(cfg); got != tt.want {
				t.Errorf("got %q; want %q", got, tt.want)
			}
		})
	}
}

// Help and the version need nothing else to be right.
func TestHelpAndVersion(t *testing.T) {
	env := environ([]string{"DOCKER_HOST=nonsense"})
	for _, args := range []string{"-help", "--help", "-h", "-ttl=1 -help"} {
		if _, err := Parse(strings.Fields(args), env); !errors.Is(err, flag.ErrHelp) {
			t.Errorf("%s: got error %v; want flag.ErrHelp", args, err)
		}
	}
	for _, args := range []string{"-version", "--version", "-version -dns= -domain=*"} {
		if cfg, err := Parse(strings.Fields(args), env); err != nil || !cfg.ShowVersion {
			t.Errorf("%s: got %v, %v", args, cfg, err)
		}
	}
	for _, part := range []string{
		"-dns ADDR", "(default :53)", "-http ADDR", "(default :80)", "-docker URL", "unix:///var/run/docker.sock",
		"-domain NAME", "(default docker)", "-environment NAME", "-nameserver ADDR", "(default 8.8.8.8:53)",
		"-ttl SECONDS", "(default 0)", "-alias", "-all", "-forcettl", "-tlsverify", "-tlscacert FILE", "-tlscert FILE",
		"-tlskey FILE", "-verbose", "-debug", "-version", "-help", "Examples",
	} {
		if !strings.Contains(Usage(), part) {
			t.Errorf("the usage lacks %q", part)
		}
	}
}

// Lists take spaces and newlines as they take commas.
func TestListSpaces(t *testing.T) {
	cfg, err := Parse([]string{"-network=a b,\n c", "-dns= :53 \n:54,", "-alias-domain=a.b c.d", "-names=host\thyphen"}, environ(nil))
	if err != nil {
		t.Fatal(err)
	}
	want := "dns=[:53 :54] network=[a b c] false names={false false false false true true} aliases=[a.b. c.d.] false"
	if got := show(cfg); got != want {
		t.Errorf("got %q; want %q", got, want)
	}
}
