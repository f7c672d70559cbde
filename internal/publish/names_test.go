package publish

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestImageName(t *testing.T) {
	const id = "sha256:beef0123456789abcdef0123456789abcdef0123456789abcdef0123456789ab"
	for _, c := range []struct{ ref, want string }{
		{"redis", "redis"},
		{"redis:7", "redis"},
		{"library/redis", "redis"},
		{"registry:5000/a/foo-bar:v1@sha256:0123", "foo-bar"},
		{"registry:5000/foo", "foo"},
		{"foo@sha256:0123", "foo"},
		{"localhost/redis:latest", "redis"},
		{"beef", ""},
		{"beef01234567", ""},
		{id, ""},
		{strings.TrimPrefix(id, "sha256:"), ""},
		{"bee", "bee"},     // too short to be an ID
		{"cafe", "cafe"},   // hex, but another image's name
		{"beefy", "beefy"}, // no hex
		{"", ""},
	} {
		if got := imageName(c.ref, id); got != c.want {
			t.Errorf("imageName(%q) = %q; want %q", c.ref, got, c.want)
		}
	}
}

func TestServiceOf(t *testing.T) {
	two := networks(netOf("a", addrs("172.17.0.2", "fd00::2")), netOf("b", addrs("10.0.0.2")))
	long := strings.Repeat("x", 64)

	for _, c := range []struct {
		what     string
		change   func(*Container)
		names    string // space between; empty: not published
		addrs    string // empty: 172.17.0.2
		ttl      int    // 0: the default
		problems string // sources, space between
	}{
		{what: "plain", names: "redis1.redis.docker."},
		{what: "dots and case", change: func(c *Container) { c.Name = "Web.Front_1" }, names: "web.front_1.redis.docker."},
		{what: "image ID", change: func(c *Container) { c.Image = "0123" }, names: "redis1.docker."},
		{what: "no address", change: networks(netOf("bridge", nil))},
		{what: "all addresses", change: two, names: "redis1.redis.docker.", addrs: "172.17.0.2 fd00::2 10.0.0.2"},
		{what: "address twice", change: networks(netOf("a", addrs("10.0.0.2")), netOf("b", addrs("10.0.0.2"))),
			names: "redis1.redis.docker.", addrs: "10.0.0.2"},

		{what: "name and image", change: env("DNSDOCK_NAME", "master", "DNSDOCK_IMAGE", "mysql"), names: "master.mysql.docker."},
		{what: "empty values set nothing", change: env("DNSDOCK_NAME", "", "DNSDOCK_IMAGE", "", "DNSDOCK_TTL", "", "DNSDOCK_ALIAS", "", "DNSDOCK_IPADDRESS", "", "DNSDOCK_PREFIX", "", "SERVICE_NAME", "", "SERVICE_REGION", ""), names: "redis1.redis.docker."},
		{what: "aliases", change: env("DNSDOCK_ALIAS", " DB.docker., sql.docker,,db.docker "), names: "redis1.redis.docker. db.docker. sql.docker."},
		{what: "alias outside", change: env("DNSDOCK_ALIAS", "shop.example.com,intranet"), names: "redis1.redis.docker. shop.example.com. intranet."},
		{what: "bad aliases", change: env("DNSDOCK_ALIAS", "., *.example.com, 2.0.17.172.in-addr.arpa, ip6.arpa, a..b, good.docker"),
			names: "redis1.redis.docker. good.docker.", problems: "DNSDOCK_ALIAS DNSDOCK_ALIAS DNSDOCK_ALIAS DNSDOCK_ALIAS DNSDOCK_ALIAS"},
		{what: "ttl", change: env("DNSDOCK_TTL", "10"), names: "redis1.redis.docker.", ttl: 10},
		{what: "ttl max", change: env("DNSDOCK_TTL", "2147483647"), names: "redis1.redis.docker.", ttl: MaxTTL},
		{what: "ttl over", change: env("DNSDOCK_TTL", "2147483648"), names: "redis1.redis.docker.", problems: "DNSDOCK_TTL"},
		{what: "ttl below", change: env("DNSDOCK_TTL", "-1"), names: "redis1.redis.docker.", problems: "DNSDOCK_TTL"},
		{what: "ttl text, label good", change: both(env("DNSDOCK_TTL", "soon"), label("com.dnsdock.ttl", "7")), names: "redis1.redis.docker.", ttl: 7, problems: "DNSDOCK_TTL"},
		{what: "address", change: env("DNSDOCK_IPADDRESS", "192.168.0.9, fd00::9"), names: "redis1.redis.docker.", addrs: "192.168.0.9 fd00::9"},
		{what: "address without one of its own", change: both(networks(), env("DNSDOCK_IPADDRESS", "192.168.0.9")), names: "redis1.redis.docker.", addrs: "192.168.0.9"},
		{what: "address mapped", change: env("DNSDOCK_IPADDRESS", "::ffff:192.168.0.9"), names: "redis1.redis.docker.", addrs: "192.168.0.9"},
		{what: "bad address", change: env("DNSDOCK_IPADDRESS", "192.168.0.300"), names: "redis1.redis.docker.", problems: "DNSDOCK_IPADDRESS"},
		{what: "address with a zone", change: env("DNSDOCK_IPADDRESS", "fe80::1%eth0"), names: "redis1.redis.docker.", problems: "DNSDOCK_IPADDRESS"},
		{what: "prefix text", change: both(two, env("DNSDOCK_PREFIX", "172.17.")), names: "redis1.redis.docker.", addrs: "172.17.0.2"},
		{what: "prefix CIDR", change: both(two, env("DNSDOCK_PREFIX", "10.0.0.0/8")), names: "redis1.redis.docker.", addrs: "10.0.0.2"},
		{what: "prefix IPv6", change: both(two, env("DNSDOCK_PREFIX", "FD00:")), names: "redis1.redis.docker.", addrs: "fd00::2"},
		{what: "prefix of none", change: both(two, env("DNSDOCK_PREFIX", "192.168."))},
		{what: "bad prefix", change: env("DNSDOCK_PREFIX", "172.17.0.0/40"), names: "redis1.redis.docker.", problems: "DNSDOCK_PREFIX"},
		{what: "ignored", change: env("DNSDOCK_IGNORE", "")},
		{what: "ignored by Registrator's", change: env("SERVICE_IGNORE", "false")},
		{what: "ignored by label", change: label("com.dnsdock.ignore", "1")},
		{what: "ignored by Registrator's label", change: label("SERVICE_IGNORE", "1")},

		{what: "Registrator", change: env("SERVICE_TAGS", "master, other", "SERVICE_NAME", "mysql", "SERVICE_REGION", "us2"), names: "master.mysql.us2.docker."},
		{what: "Registrator labels", change: label("SERVICE_TAGS", "master", "SERVICE_NAME", "mysql", "SERVICE_REGION", "us2"), names: "master.mysql.us2.docker."},
		{what: "tags empty", change: env("SERVICE_TAGS", ""), names: "redis.docker."},
		{what: "tags label empty", change: label("com.dnsdock.tags", ""), names: "redis.docker."},
		{what: "first tag empty", change: env("SERVICE_TAGS", ",b"), names: "redis.docker."},
		{what: "region with image ID", change: both(func(c *Container) { c.Image = "0123" }, env("SERVICE_REGION", "us2")), names: "redis1.us2.docker."},
		{what: "neither part", change: both(func(c *Container) { c.Image = "0123" }, env("SERVICE_TAGS", "")), names: "docker."},
		{what: "DNSDOCK over SERVICE", change: env("SERVICE_TAGS", "a", "SERVICE_NAME", "b", "DNSDOCK_NAME", "c", "DNSDOCK_IMAGE", "d"), names: "c.d.docker."},
		{what: "labels", change: label("com.dnsdock.name", "a", "com.dnsdock.image", "b", "com.dnsdock.region", "c", "com.dnsdock.alias", "d.docker", "com.dnsdock.ttl", "9", "com.dnsdock.ip_addr", "10.9.9.9"),
			names: "a.b.c.docker. d.docker.", addrs: "10.9.9.9", ttl: 9},
		{what: "label prefix", change: both(two, label("com.dnsdock.prefix", "10.")), names: "redis1.redis.docker.", addrs: "10.0.0.2"},
		{what: "label tags", change: label("com.dnsdock.tags", "a,b"), names: "a.redis.docker."},
		{what: "variable over label", change: both(
			label("com.dnsdock.name", "l", "com.dnsdock.image", "l", "com.dnsdock.region", "l", "com.dnsdock.alias", "l.docker", "com.dnsdock.ttl", "1", "com.dnsdock.ip_addr", "1.1.1.1"),
			env("DNSDOCK_NAME", "v", "DNSDOCK_IMAGE", "w", "SERVICE_REGION", "x", "DNSDOCK_ALIAS", "y.docker", "DNSDOCK_TTL", "2", "DNSDOCK_IPADDRESS", "2.2.2.2")),
			names: "v.w.x.docker. y.docker.", addrs: "2.2.2.2", ttl: 2},

		{what: "long label", change: env("DNSDOCK_NAME", long), names: "redis1.redis.docker.", problems: "DNSDOCK_NAME"},
		{what: "long container name", change: func(c *Container) { c.Name = long }, names: "redis.docker.", problems: "name"},
		{what: "long container name, overridden", change: both(func(c *Container) { c.Name = long }, env("DNSDOCK_NAME", "a"), label("com.dnsdock.name", "..")), names: "a.redis.docker."},
		{what: "dots in a row", change: func(c *Container) { c.Name = "a..b" }, names: "redis.docker.", problems: "name"},
		{what: "star", change: env("DNSDOCK_NAME", "*", "DNSDOCK_IMAGE", "a.*"), names: "redis1.redis.docker.", problems: "DNSDOCK_NAME DNSDOCK_IMAGE"},
		{what: "long name", change: func(c *Container) {
			c.Name = strings.TrimSuffix(strings.Repeat(strings.Repeat("y", 63)+".", 3), ".")
			c.Image = strings.Repeat("z", 60)
		}, names: strings.Repeat("z", 60) + ".docker.", problems: "name"},
		{what: "long region", change: env("SERVICE_REGION", strings.TrimSuffix(strings.Repeat(strings.Repeat("y", 61)+".", 4), ".")), names: "redis1.redis.docker.", problems: "SERVICE_REGION"},
		{what: "long override", change: env("DNSDOCK_NAME", strings.TrimSuffix(strings.Repeat(strings.Repeat("y", 61)+".", 4), "."), "SERVICE_REGION", "us2"),
			names: "redis1.redis.us2.docker.", problems: "DNSDOCK_NAME"},
		{what: "long override, next one good", change: both(env("DNSDOCK_IMAGE", strings.TrimSuffix(strings.Repeat(strings.Repeat("y", 61)+".", 4), ".")), label("com.dnsdock.image", "b")),
			names: "redis1.b.docker.", problems: "DNSDOCK_IMAGE"},
		{what: "long image name, name overridden", change: both(func(c *Container) {
			c.Image = strings.TrimSuffix(strings.Repeat(strings.Repeat("z", 61)+".", 4), ".")
		}, env("DNSDOCK_NAME", "web")),
			names: "web.docker.", problems: "image"},
		{what: "long image name, no container part", change: both(func(c *Container) {
			c.Image = strings.TrimSuffix(strings.Repeat(strings.Repeat("z", 61)+".", 4), ".")
		}, env("SERVICE_TAGS", "")),
			names: "docker.", problems: "image"},
		{what: "very many bad aliases", change: env("DNSDOCK_ALIAS", strings.Repeat("*.a,", 10000)), names: "redis1.redis.docker.",
			problems: strings.TrimSpace(strings.Repeat("DNSDOCK_ALIAS ", maxProblems))},
		{what: "bad region", change: env("SERVICE_REGION", "a..b"), names: "redis1.redis.docker.", problems: "SERVICE_REGION"},
	} {
		t.Run(c.what, func(t *testing.T) {
			n := NameRules{Apex: mustName(t, "docker")}
			s, problems := n.ServiceOf(testContainer(c.change), "unix:///d.sock")
			var sources []string
			for _, p := range problems {
				sources = append(sources, p.Source)
				if p.Err == nil {
					t.Errorf("problem %v without a reason", p)
				}
			}
			if got := strings.Join(sources, " "); got != c.problems {
				t.Errorf("problems %v; want %v", problems, c.problems)
			}
			if s == nil || c.names == "" {
				if s != nil || c.names != "" {
					t.Errorf("service %+v; want names %q", s, c.names)
				}
				return
			}
			want := addrs("172.17.0.2")
			if c.addrs != "" {
				want = addrs(strings.Fields(c.addrs)...)
			}
			if c.ttl == 0 {
				c.ttl = DefaultTTL
			}
			got := fmt.Sprint(s.OwnerNames)
			if got != "["+c.names+"]" || !slices.Equal(s.Addrs, want) || s.TTL != c.ttl {
				t.Errorf("got %v %v %v; want %v %v %v", got, s.Addrs, s.TTL, c.names, want, c.ttl)
			}
		})
	}
}

func TestNamingBareAlias(t *testing.T) {
	n := NameRules{Apex: mustName(t, "dev.docker"), Alias: true}
	s, _ := n.ServiceOf(testContainer(nil), "unix:///d.sock")
	if got, want := fmt.Sprint(s.OwnerNames), "[redis1.redis.dev.docker. redis1.dev.docker.]"; got != want {
		t.Errorf("owners %v; want %v", got, want)
	}
	s, _ = n.ServiceOf(testContainer(func(c *Container) { c.Env["SERVICE_TAGS"] = "" }), "unix:///d.sock")
	if got, want := fmt.Sprint(s.OwnerNames), "[redis.dev.docker.]"; got != want {
		t.Errorf("without a container part: owners %v; want %v", got, want)
	}
	made := &Service{ContainerLabel: "a", ImageLabel: "b", Extras: new(Extras)}
	if err := n.SetOwnerNames(made); err != nil || len(made.OwnerNames) != 1 {
		t.Errorf("made by hand: owners %v, %v; want only the full name", made.OwnerNames, err)
	}
}

// As many aliases as an engine takes cost no more than their number, nor
// than their labels.
func TestVeryManyAliases(t *testing.T) {
	for _, below := range []string{"docker", strings.Repeat("x.", 100) + "docker"} {
		var text strings.Builder
		for i := range 150000 {
			fmt.Fprintf(&text, "a%d.%s,a%d.%s,", i, below, i/2, below)
		}
		n := NameRules{Apex: mustName(t, "docker")}
		s, problems := n.ServiceOf(testContainer(func(c *Container) { c.Env["DNSDOCK_ALIAS"] = text.String() }), "e")
		labels := 0
		for _, a := range s.Aliases {
			labels += a.Labels()
		}
		if labels < MaxItems/4 || labels > MaxItems || len(s.OwnerNames) != 1+len(s.Aliases) {
			t.Errorf("%d aliases with %d labels, %d owners; want %d labels at most, and one owner more",
				len(s.Aliases), labels, len(s.OwnerNames), MaxItems)
		}
		if len(problems) != 1 || problems[0].Source != "DNSDOCK_ALIAS" || problems[0].Err != ErrTooMany {
			t.Errorf("problems %v; want one, of too many", problems)
		}
	}
}
