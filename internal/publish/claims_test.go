package publish

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"

	"github.com/rayje/dnsdock/internal/dnsname"
)

// A job of docker-compose run has the labels and variables of its service, and
// takes no traffic for it.
func TestOneOffs(t *testing.T) {
	compose := map[string]string{
		composeProject: "shop", composeService: "web", composeNumber: "1", composeOneOff: "True",
		"com.dnsdock.alias": "shop.example", "com.dnsdock.name": "main", "com.dnsdock.image": "site", "com.dnsdock.region": "eu",
		"com.dnsdock.tags": "a", "com.dnsdock.txt": "v=1", "SERVICE_81_NAME": "admin", "com.dnsdock.ttl": "7",
	}
	env := map[string]string{"DNSDOCK_ALIAS": "x.example", "SERVICE_NAME": "s", "SERVICE_80_NAME": "http", "SERVICE_TAGS": "b", "DNSDOCK_NAME": "e"}
	const own = "redis1.redis.docker. [80/tcp] [] 7 []"
	const claimed = "e.site.eu.docker. x.example. [80/tcp=http 81/tcp=admin] [v=1] 7 [1.web.shop.docker.]"
	for _, c := range []struct {
		what   string
		change func(*Container)
		want   string
	}{
		{"a job", func(*Container) {}, own},
		{"a service", func(c *Container) { c.Labels[composeOneOff] = "False" }, claimed},
		{"no label", func(c *Container) { delete(c.Labels, composeOneOff) }, claimed},
		{"any case", func(c *Container) { c.Labels[composeOneOff] = "true" }, own},
		{"asked for by label", func(c *Container) { c.Labels["com.dnsdock.oneoff"] = "true" }, claimed},
		{"label with another value", func(c *Container) { c.Labels["com.dnsdock.oneoff"] = "no" }, own},
		{"--use-aliases", func(c *Container) { c.Networks[0].Aliases = []string{"abababababab", "web"} }, claimed},
		{"--use-aliases, without a number", func(c *Container) {
			c.Networks[0].Aliases = []string{"web"}
			delete(c.Labels, composeNumber)
		}, strings.ReplaceAll(claimed, "1.web", "web")},
		{"without a number", func(c *Container) { delete(c.Labels, composeNumber) }, own},
		{"its own network aliases", func(c *Container) { c.Networks[0].Aliases = []string{"abababababab", "shop_web_run_1"} }, own},
	} {
		n := NameRules{Apex: mustName(t, "docker"), Second: SecondNames{Compose: true}}
		s, _ := n.ServiceOf(testContainer(func(k *Container) {
			k.Labels, k.Env, k.Exposed = maps.Clone(compose), env, []Port{{Number: 80, Proto: "tcp"}}
			c.change(k)
		}), "e")
		owners := strings.Trim(fmt.Sprint(s.OwnerNames), "[]")
		got := fmt.Sprint(owners, " ", s.Ports, " ", s.TXT, " ", s.TTL, " ", s.SecondNames)
		if got != c.want {
			t.Errorf("%s: got %s; want %s", c.what, got, c.want)
		}
	}
	cname, _ := NameRules{Apex: mustName(t, "docker")}.ServiceOf(testContainer(func(k *Container) {
		k.Labels = map[string]string{composeOneOff: "True", "com.dnsdock.cname": "www.example"}
	}), "e")
	if cname.CNAME != "" {
		t.Errorf("CNAME %v of a job; want none", cname.CNAME)
	}
	n := NameRules{Apex: mustName(t, "docker"), Second: SecondNames{Hostname: true}}
	host, _ := n.ServiceOf(testContainer(func(k *Container) {
		k.Labels, k.Host = map[string]string{composeOneOff: "True"}, HostName{"web", "example"}
	}), "e")
	if len(host.AllNames()) != 1 {
		t.Errorf("names %v of a job; want its own only", host.AllNames())
	}
}

// What an image sets counts only inside the domain.
func TestImageClaims(t *testing.T) {
	beyond := map[string]string{
		"com.dnsdock.alias": "login.bank.example,db.docker,*", "com.dnsdock.ip_addr": "203.0.113.66",
		"com.dnsdock.cname": "www.bank.example", "com.dnsdock.prefix": "10.", "com.dnsdock.name": "main", "com.dnsdock.txt": "v=1",
	}
	env := map[string]string{"DNSDOCK_ALIAS": "a.example", "DNSDOCK_IPADDRESS": "203.0.113.67", "DNSDOCK_PREFIX": "10.", "DNSDOCK_CNAME": "b.example"}
	const safe = "main.redis.docker. db.docker. [172.17.0.2]  [v=1]"
	for _, c := range []struct {
		what     string
		labels   map[string]string
		env      map[string]string
		baked    Baked
		want     string
		problems int
	}{
		{"labels of the creator", beyond, nil, Baked{}, "main.redis.docker. login.bank.example. db.docker. [] www.bank.example. [v=1]", 0},
		{"labels of the image", beyond, nil, Baked{Labels: beyond}, safe, 5},
		{"unknown", beyond, nil, Baked{Unknown: true}, safe, 5},
		{"other values of the creator", beyond, nil, Baked{Labels: map[string]string{
			"com.dnsdock.alias": "x.example", "com.dnsdock.ip_addr": "1.1.1.1", "com.dnsdock.cname": "", "com.dnsdock.prefix": "11."}},
			"main.redis.docker. login.bank.example. db.docker. [] www.bank.example. [v=1]", 0},
		{"variables of the image", nil, env, Baked{Env: env}, "redis1.redis.docker. [172.17.0.2]  []", 4},
		{"variables of the image, labels of the creator", map[string]string{"com.dnsdock.ip_addr": "1.1.1.1"}, map[string]string{"DNSDOCK_IPADDRESS": "2.2.2.2"},
			Baked{Env: map[string]string{"DNSDOCK_IPADDRESS": "2.2.2.2"}}, "redis1.redis.docker. [1.1.1.1]  []", 1},
		{"host", map[string]string{"com.dnsdock.ip_addr": "host"}, nil, Baked{Labels: map[string]string{"com.dnsdock.ip_addr": "host"}}, "redis1.redis.docker. [172.17.0.2]  []", 1},
	} {
		k := testContainer(func(k *Container) {
			maps.Copy(k.Labels, c.labels)
			maps.Copy(k.Env, c.env)
			k.Baked = c.baked
		})
		n := NameRules{Apex: mustName(t, "docker")}
		s, problems := n.ServiceOf(k, "e")
		cname := ""
		if s.CNAME != "" {
			cname = s.CNAME.String()
		}
		got := fmt.Sprint(strings.Trim(fmt.Sprint(s.OwnerNames), "[]"), " ", s.Addrs, " ", cname, " ", s.TXT)
		if got != c.want || len(problems) != c.problems {
			t.Errorf("%s: got %s, problems %v; want %s, %d", c.what, got, problems, c.want, c.problems)
		}
		if s.CatchesAll() && c.problems > 0 {
			t.Errorf("%s: has all unknown names", c.what)
		}
		if !n.NeedsImage(k) {
			t.Errorf("%s: the image is not asked for", c.what)
		}
	}
	for _, labels := range []map[string]string{nil, {"com.dnsdock.alias": "db.docker, sql.docker"}, {"com.dnsdock.name": "a"}, {"com.dnsdock.ip_addr": ""}} {
		k := testContainer(func(k *Container) { k.Labels = labels })
		if (NameRules{Apex: mustName(t, "docker")}).NeedsImage(k) {
			t.Errorf("%v: the image is asked for in vain", labels)
		}
	}
	if refs := testContainer(func(k *Container) {
		k.Labels["com.dnsdock.ip_addr"] = "container:proxy"
		k.Baked.Labels = k.Labels
	}).Reaches(); refs != nil {
		t.Errorf("an image borrows the addresses of %v", refs)
	}
}

// With -alias-domain, aliases outside of the domain are only below those.
func TestAliasDomains(t *testing.T) {
	all, some, none := NameRules{}, NameRules{AliasDomains: []dnsname.Name{mustName(t, "example.com"), mustName(t, "test")}}, NameRules{AliasDomains: []dnsname.Name{}}
	for _, n := range []*NameRules{&all, &some, &none} {
		n.Apex = mustName(t, "docker")
	}
	for _, c := range []struct {
		alias           string
		all, some, none bool
	}{
		{"db.docker", true, true, true},
		{"*", true, true, true},
		{"a.example.com", true, true, false},
		{"example.com", true, true, false},
		{"a.b.test", true, true, false},
		{"notexample.com", true, false, false},
		{"a.example.net", true, false, false},
		{"intranet", true, false, false},
	} {
		for n, want := range map[*NameRules]bool{&all: c.all, &some: c.some, &none: c.none} {
			s, problems := n.ServiceOf(testContainer(func(k *Container) {
				k.Labels["com.dnsdock.alias"] = c.alias
			}), "e")
			if got := len(s.Aliases) == 1; got != want || len(problems) == 1 == want {
				t.Errorf("%v, %s: taken %t, problems %v; want %t", n.AliasDomains, c.alias, got, problems, want)
			}
			alias := mustName(t, c.alias)
			_, err := n.Patched(&Service{ID: "x", Addrs: []netip.Addr{{}}, Extras: new(Extras)}, Patch{Aliases: &[]dnsname.Name{alias}})
			if (err == nil) != want {
				t.Errorf("%v, %s by the API: %v; want taken %t", n.AliasDomains, c.alias, err, want)
			}
		}
	}
	s, problems := some.ServiceOf(testContainer(func(k *Container) { k.Host = HostName{"a", "example.net"} }), "e")
	if len(s.OwnerNames) != 1 || len(problems) != 0 {
		t.Errorf("host names are not chosen: %v, %v", s.OwnerNames, problems)
	}
	some.Second.Hostname = true
	s, problems = some.ServiceOf(testContainer(func(k *Container) { k.Host = HostName{"a", "example.net"} }), "e")
	if s.HostName != "" || len(problems) != 1 {
		t.Errorf("host name outside: got %v, problems %v; want none, and one", s.HostName, problems)
	}
}

// Text that is no host name is refused where a name is made of it, and the rest
// of the container is published.
func TestNamesThatAreNone(t *testing.T) {
	for _, c := range []struct{ source, value, names, problem string }{
		{"$DNSDOCK_ALIAS", `"quoted.shop.example"`, "redis1.redis.docker.", "write quoted.shop.example "},
		{"com.dnsdock.alias", "http://url.shop.example/", "redis1.redis.docker.", "write url.shop.example "},
		{"com.dnsdock.alias", "a.example:8080", "redis1.redis.docker.", "write a.example "},
		{"com.dnsdock.alias", "a.example\nb.example c.example,d.example", "redis1.redis.docker. a.example. b.example. c.example. d.example.", ""},
		{"com.dnsdock.alias", "bücher.shop.example", "redis1.redis.docker. xn--bcher-kva.shop.example.", ""},
		{"$DNSDOCK_NAME", "My App", "redis1.redis.docker.", "write my-app "},
		{"com.dnsdock.name", "Bücher", "xn--bcher-kva.redis.docker.", ""},
		{"com.dnsdock.image", "a/b:1", "redis1.redis.docker.", "write a "},
		{"$SERVICE_REGION", "eu west", "redis1.redis.docker.", "write eu-west "},
		{"$SERVICE_TAGS", "a\nb", "a.redis.docker.", ""},
		{"$SERVICE_TAGS", "a b", "a.redis.docker.", ""},
		{"com.dnsdock.alias", "co.uk", "redis1.redis.docker.", "write a name below it"},
	} {
		s, problems := NameRules{Apex: mustName(t, "docker")}.ServiceOf(testContainer(func(k *Container) {
			if name, ok := strings.CutPrefix(c.source, "$"); ok {
				k.Env[name] = c.value
			} else {
				k.Labels[c.source] = c.value
			}
		}), "e")
		if got := strings.Trim(fmt.Sprint(s.OwnerNames), "[]"); got != c.names {
			t.Errorf("%s=%q: got %s; want %s", c.source, c.value, got, c.names)
		}
		if got := fmt.Sprint(problems); len(problems) > 0 != (c.problem != "") || !strings.Contains(got, c.problem) {
			t.Errorf("%s=%q: problems %s; want %q", c.source, c.value, got, c.problem)
		}
	}
}
