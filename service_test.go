package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/publish"
)

// mustName is parseName for names that tests know to be good.
func mustName(t testing.TB, s string) dnsname.Name {
	t.Helper()
	n, err := dnsname.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

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
		if got := publish.ImageName(c.ref, id); got != c.want {
			t.Errorf("imageName(%q) = %q; want %q", c.ref, got, c.want)
		}
	}
}

// testContainer is a running container redis1 of redis:7 with one address,
// changed by change.
func testContainer(change func(*publish.Container)) *publish.Container {
	c := &publish.Container{
		ID: strings.Repeat("ab", 32), Name: "redis1", Image: "redis:7", ImageID: "sha256:0123", State: "running",
		Env: map[string]string{}, Labels: map[string]string{},
		Networks: []publish.Endpoint{{Network: publish.Network{Name: "bridge"}, Addrs: []netip.Addr{netip.MustParseAddr("172.17.0.2")}}},
	}
	if change != nil {
		change(c)
	}
	return c
}

func TestServiceOf(t *testing.T) {
	env := func(kv ...string) func(*publish.Container) {
		return func(c *publish.Container) {
			for i := 0; i < len(kv); i += 2 {
				c.Env[kv[i]] = kv[i+1]
			}
		}
	}
	label := func(kv ...string) func(*publish.Container) {
		return func(c *publish.Container) {
			for i := 0; i < len(kv); i += 2 {
				c.Labels[kv[i]] = kv[i+1]
			}
		}
	}
	both := func(fs ...func(*publish.Container)) func(*publish.Container) {
		return func(c *publish.Container) {
			for _, f := range fs {
				f(c)
			}
		}
	}
	networks := func(nets ...publish.Endpoint) func(*publish.Container) {
		return func(c *publish.Container) { c.Networks = nets }
	}
	net := func(name string, addrs []netip.Addr) publish.Endpoint {
		return publish.Endpoint{Network: publish.Network{Name: name}, Addrs: addrs}
	}
	addrs := func(texts ...string) (list []netip.Addr) {
		for _, s := range texts {
			list = append(list, netip.MustParseAddr(s))
		}
		return list
	}
	two := networks(net("a", addrs("172.17.0.2", "fd00::2")), net("b", addrs("10.0.0.2")))
	long := strings.Repeat("x", 64)

	for _, c := range []struct {
		what     string
		change   func(*publish.Container)
		names    string // space between; empty: not published
		addrs    string // empty: 172.17.0.2
		ttl      int    // 0: the default
		problems string // sources, space between
	}{
		{what: "plain", names: "redis1.redis.docker."},
		{what: "dots and case", change: func(c *publish.Container) { c.Name = "Web.Front_1" }, names: "web.front_1.redis.docker."},
		{what: "image ID", change: func(c *publish.Container) { c.Image = "0123" }, names: "redis1.docker."},
		{what: "no address", change: networks(net("bridge", nil))},
		{what: "all addresses", change: two, names: "redis1.redis.docker.", addrs: "172.17.0.2 fd00::2 10.0.0.2"},
		{what: "address twice", change: networks(net("a", addrs("10.0.0.2")), net("b", addrs("10.0.0.2"))),
			names: "redis1.redis.docker.", addrs: "10.0.0.2"},

		{what: "name and image", change: env("DNSDOCK_NAME", "master", "DNSDOCK_IMAGE", "mysql"), names: "master.mysql.docker."},
		{what: "empty values set nothing", change: env("DNSDOCK_NAME", "", "DNSDOCK_IMAGE", "", "DNSDOCK_TTL", "", "DNSDOCK_ALIAS", "", "DNSDOCK_IPADDRESS", "", "DNSDOCK_PREFIX", "", "SERVICE_NAME", "", "SERVICE_REGION", ""), names: "redis1.redis.docker."},
		{what: "aliases", change: env("DNSDOCK_ALIAS", " DB.docker., sql.docker,,db.docker "), names: "redis1.redis.docker. db.docker. sql.docker."},
		{what: "alias outside", change: env("DNSDOCK_ALIAS", "shop.example.com,intranet"), names: "redis1.redis.docker. shop.example.com. intranet."},
		{what: "bad aliases", change: env("DNSDOCK_ALIAS", "., *.example.com, 2.0.17.172.in-addr.arpa, ip6.arpa, a..b, good.docker"),
			names: "redis1.redis.docker. good.docker.", problems: "DNSDOCK_ALIAS DNSDOCK_ALIAS DNSDOCK_ALIAS DNSDOCK_ALIAS DNSDOCK_ALIAS"},
		{what: "ttl", change: env("DNSDOCK_TTL", "10"), names: "redis1.redis.docker.", ttl: 10},
		{what: "ttl max", change: env("DNSDOCK_TTL", "2147483647"), names: "redis1.redis.docker.", ttl: publish.MaxTTL},
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
		{what: "region with image ID", change: both(func(c *publish.Container) { c.Image = "0123" }, env("SERVICE_REGION", "us2")), names: "redis1.us2.docker."},
		{what: "neither part", change: both(func(c *publish.Container) { c.Image = "0123" }, env("SERVICE_TAGS", "")), names: "docker."},
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
		{what: "long container name", change: func(c *publish.Container) { c.Name = long }, names: "redis.docker.", problems: "name"},
		{what: "long container name, overridden", change: both(func(c *publish.Container) { c.Name = long }, env("DNSDOCK_NAME", "a"), label("com.dnsdock.name", "..")), names: "a.redis.docker."},
		{what: "dots in a row", change: func(c *publish.Container) { c.Name = "a..b" }, names: "redis.docker.", problems: "name"},
		{what: "star", change: env("DNSDOCK_NAME", "*", "DNSDOCK_IMAGE", "a.*"), names: "redis1.redis.docker.", problems: "DNSDOCK_NAME DNSDOCK_IMAGE"},
		{what: "long name", change: func(c *publish.Container) {
			c.Name = strings.TrimSuffix(strings.Repeat(strings.Repeat("y", 63)+".", 3), ".")
			c.Image = strings.Repeat("z", 60)
		}, names: strings.Repeat("z", 60) + ".docker.", problems: "name"},
		{what: "long region", change: env("SERVICE_REGION", strings.TrimSuffix(strings.Repeat(strings.Repeat("y", 61)+".", 4), ".")), names: "redis1.redis.docker.", problems: "SERVICE_REGION"},
		{what: "long override", change: env("DNSDOCK_NAME", strings.TrimSuffix(strings.Repeat(strings.Repeat("y", 61)+".", 4), "."), "SERVICE_REGION", "us2"),
			names: "redis1.redis.us2.docker.", problems: "DNSDOCK_NAME"},
		{what: "long override, next one good", change: both(env("DNSDOCK_IMAGE", strings.TrimSuffix(strings.Repeat(strings.Repeat("y", 61)+".", 4), ".")), label("com.dnsdock.image", "b")),
			names: "redis1.b.docker.", problems: "DNSDOCK_IMAGE"},
		{what: "long image name, name overridden", change: both(func(c *publish.Container) {
			c.Image = strings.TrimSuffix(strings.Repeat(strings.Repeat("z", 61)+".", 4), ".")
		}, env("DNSDOCK_NAME", "web")),
			names: "web.docker.", problems: "image"},
		{what: "long image name, no container part", change: both(func(c *publish.Container) {
			c.Image = strings.TrimSuffix(strings.Repeat(strings.Repeat("z", 61)+".", 4), ".")
		}, env("SERVICE_TAGS", "")),
			names: "docker.", problems: "image"},
		{what: "very many bad aliases", change: env("DNSDOCK_ALIAS", strings.Repeat("*,", 100000)), names: "redis1.redis.docker.",
			problems: strings.TrimSpace(strings.Repeat("DNSDOCK_ALIAS ", publish.MaxProblems))},
		{what: "bad region", change: env("SERVICE_REGION", "a..b"), names: "redis1.redis.docker.", problems: "SERVICE_REGION"},
	} {
		t.Run(c.what, func(t *testing.T) {
			n := publish.NameRules{Apex: mustName(t, "docker")}
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
				c.ttl = publish.DefaultTTL
			}
			if got := fmt.Sprint(s.OwnerNames); got != "["+c.names+"]" || !slices.Equal(s.Addrs, want) || s.TTL != c.ttl {
				t.Errorf("got %v %v %v; want %v %v %v", got, s.Addrs, s.TTL, c.names, want, c.ttl)
			}
		})
	}
}

// What a container has beside addresses.
func TestServiceOfRecords(t *testing.T) {
	exposed := func(texts ...string) (list []publish.Port) {
		for _, text := range texts {
			p, err := publish.ParsePort(text)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, p)
		}
		return list
	}
	var many []publish.Port
	for i := range 65536 {
		many = append(many, publish.Port{Number: uint16(65535 - i), Proto: "tcp"})
	}
	for _, c := range []struct {
		what        string
		env, labels map[string]string
		exposed     []publish.Port
		want        string // "cname", ports, TXT
		problems    string
	}{
		{what: "nothing", want: ` [] []`},
		{what: "exposed", exposed: exposed("8080/tcp", "53/udp", "53/tcp"), want: ` [53/tcp 53/udp 8080/tcp] []`},
		{what: "named", exposed: exposed("53/udp", "53/tcp", "80/tcp"), env: map[string]string{"SERVICE_53_NAME": "Domain", "SERVICE_80_NAME": "http"}, want: ` [53/tcp=domain 53/udp=domain 80/tcp=http] []`},
		{what: "named by label", exposed: exposed("80/tcp"), labels: map[string]string{"SERVICE_80_NAME": "http"}, want: ` [80/tcp=http] []`},
		{what: "named and not exposed", env: map[string]string{"SERVICE_80_NAME": "http"}, labels: map[string]string{"SERVICE_80_NAME": "www"}, want: ` [80/tcp=http] []`},
		{what: "ignored", exposed: exposed("80/tcp", "81/tcp", "82/tcp"), env: map[string]string{"SERVICE_80_IGNORE": ""}, labels: map[string]string{"SERVICE_82_IGNORE": "1"}, want: ` [81/tcp] []`},
		{what: "no port", env: map[string]string{"SERVICE_080_NAME": "a", "SERVICE_65536_NAME": "b", "SERVICE_NAME": "c", "SERVICE__NAME": "d", "SERVICE_X_NAME": "e"}, want: ` [] []`},
		{what: "bad port name", exposed: exposed("80/tcp"), env: map[string]string{"SERVICE_80_NAME": "a.b"}, labels: map[string]string{"SERVICE_80_NAME": "www"}, want: ` [80/tcp=www] []`, problems: "SERVICE_80_NAME"},
		{what: "port name too long", env: map[string]string{"SERVICE_80_NAME": strings.Repeat("x", 63)}, want: ` [80/tcp] []`, problems: "SERVICE_80_NAME"},
		{what: "all ports", exposed: many, want: fmt.Sprintf(` %d []`, publish.MaxPorts), problems: "ports"},
		{what: "TXT", env: map[string]string{"DNSDOCK_TXT": "v=1, a\r\n\n b \nv=1, a"}, labels: map[string]string{"com.dnsdock.txt": "x"}, want: ` [] ["v=1, a" "b"]`},
		{what: "TXT by label", labels: map[string]string{"com.dnsdock.txt": "x"}, want: ` [] ["x"]`},
		{what: "TXT too long", env: map[string]string{"DNSDOCK_TXT": strings.Repeat("x", publish.MaxTXT)}, labels: map[string]string{"com.dnsdock.txt": "x"}, want: ` [] ["x"]`, problems: "DNSDOCK_TXT"},
		{what: "CNAME", env: map[string]string{"DNSDOCK_CNAME": "WWW.example.com"}, labels: map[string]string{"com.dnsdock.cname": "x"}, want: `www.example.com. [] []`},
		{what: "CNAME by label", labels: map[string]string{"com.dnsdock.cname": "lb.docker."}, want: `lb.docker. [] []`},
		{what: "CNAME to the root", env: map[string]string{"DNSDOCK_CNAME": "."}, want: ` [] []`, problems: "DNSDOCK_CNAME"},
		{what: "CNAME to a star", env: map[string]string{"DNSDOCK_CNAME": "*.docker"}, want: ` [] []`, problems: "DNSDOCK_CNAME"},
		{what: "CNAME that is no name", env: map[string]string{"DNSDOCK_CNAME": "a..b"}, want: ` [] []`, problems: "DNSDOCK_CNAME"},
	} {
		t.Run(c.what, func(t *testing.T) {
			s, problems := publish.NameRules{Apex: mustName(t, "docker")}.ServiceOf(testContainer(func(k *publish.Container) {
				maps.Copy(k.Env, c.env)
				maps.Copy(k.Labels, c.labels)
				k.Exposed = c.exposed
			}), "e")
			var sources []string
			for _, p := range problems {
				sources = append(sources, p.Source)
			}
			if got := strings.Join(sources, " "); got != c.problems {
				t.Errorf("got problems %q; want %q", got, c.problems)
			}
			cname, ports := "", fmt.Sprint(s.Ports)
			if s.CNAME != "" {
				cname = s.CNAME.String()
			}
			if len(s.Ports) > 100 {
				ports = fmt.Sprint(len(s.Ports))
			}
			if got := fmt.Sprintf("%s %s %q", cname, ports, s.TXT); got != c.want {
				t.Errorf("got %s; want %s", got, c.want)
			}
			if (len(s.Addrs) == 0) != (cname != "") {
				t.Errorf("got addresses %v beside the CNAME %q; want either", s.Addrs, cname)
			}
		})
	}
	// A CNAME makes a service of a container without an address.
	s, _ := publish.NameRules{Apex: mustName(t, "docker")}.ServiceOf(testContainer(func(k *publish.Container) {
		k.Networks, k.Labels["com.dnsdock.cname"] = nil, "host.example.com"
	}), "e")
	if s == nil || s.CNAME != mustName(t, "host.example.com") {
		t.Errorf("got %v; want a service with a CNAME", s)
	}
}

func TestParsePort(t *testing.T) {
	for text, want := range map[string]string{
		"80": "80/tcp", "80/TCP": "80/tcp", " 53/udp ": "53/udp", "0/sctp": "0/sctp", "65535/tcp=A-b_1": "65535/tcp=a-b_1",
		"": "", "/tcp": "", "80/": "", "80/icmp": "", "080/tcp": "", "65536/tcp": "", "-1/tcp": "", "80/tcp=": "", "80/tcp=a.b": "", "80/tcp=*": "", "http": "",
	} {
		p, err := publish.ParsePort(text)
		switch {
		case want == "":
			if err == nil {
				t.Errorf("parsePort(%q) = %v; want an error", text, p)
			}
		case err != nil || p.String() != want:
			t.Errorf("parsePort(%q) = %v, %v; want %s", text, p, err, want)
		}
	}
}

func TestNamingBareAlias(t *testing.T) {
	n := publish.NameRules{Apex: mustName(t, "dev.docker"), Alias: true}
	s, _ := n.ServiceOf(testContainer(nil), "unix:///d.sock")
	if got, want := fmt.Sprint(s.OwnerNames), "[redis1.redis.dev.docker. redis1.dev.docker.]"; got != want {
		t.Errorf("owners %v; want %v", got, want)
	}
	s, _ = n.ServiceOf(testContainer(func(c *publish.Container) { c.Env["SERVICE_TAGS"] = "" }), "unix:///d.sock")
	if got, want := fmt.Sprint(s.OwnerNames), "[redis.dev.docker.]"; got != want {
		t.Errorf("without a container part: owners %v; want %v", got, want)
	}
	made := &publish.Service{ContainerLabel: "a", ImageLabel: "b"}
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
		n := publish.NameRules{Apex: mustName(t, "docker")}
		s, problems := n.ServiceOf(testContainer(func(c *publish.Container) { c.Env["DNSDOCK_ALIAS"] = text.String() }), "e")
		labels := 0
		for _, a := range s.Aliases {
			labels += a.Labels()
		}
		if labels < publish.MaxItems/4 || labels > publish.MaxItems || len(s.OwnerNames) != 1+len(s.Aliases) {
			t.Errorf("%d aliases with %d labels, %d owners; want %d labels at most, and one owner more", len(s.Aliases), labels, len(s.OwnerNames), publish.MaxItems)
		}
		if len(problems) != 1 || problems[0].Source != "DNSDOCK_ALIAS" || problems[0].Err != publish.ErrTooMany {
			t.Errorf("problems %v; want one, of too many", problems)
		}
	}
}

// FuzzContainer feeds the mapping what an engine may send: whatever it is,
// the service can be published, and packs.
func FuzzContainer(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		var j containerJSON
		if json.Unmarshal(data, &j) != nil {
			return
		}
		n := publish.NameRules{Apex: mustName(t, "docker"), Alias: true, Second: publish.SecondNames{Compose: true}, Health: true}
		c := j.container()
		for i := range c.Networks {
			c.Networks[i].Internal = c.NetworkIDs[c.Networks[i].Name] == "in"
		}
		s, _ := n.ServiceOf(c.Container, "e")
		if s == nil {
			return
		}
		count := 0
		for _, e := range s.NetRuns {
			count += e.Count
			for _, prefix := range []netip.Prefix{e.Net.Value().V4.Prefix, e.Net.Value().V6.Prefix} {
				if prefix.IsValid() && prefix.Bits() == 0 {
					t.Fatalf("a network of all addresses: %+v", e.Net.Value())
				}
			}
		}
		if s.NetRuns != nil && count != len(s.Addrs) {
			t.Fatalf("networks of %d addresses; want %d", count, len(s.Addrs))
		}
		for _, client := range []string{"192.0.2.1", "10.0.0.1", "fd00::1"} {
			if list, near := s.AddrsFor(netip.MustParseAddr(client)); near && len(list) == 0 {
				t.Fatalf("%s is on a network of %+v, and gets no address", client, s)
			}
		}
		if s.Compose != "" && (s.Compose.HasWildcard() || !s.Compose.Under(n.Apex) || s.Compose.Labels() < n.Apex.Labels()+2) {
			t.Fatalf("name of compose %v", s.Compose)
		}
		if (len(s.Addrs) == 0) != (s.CNAME != "") || len(s.OwnerNames) == 0 || len(s.Ports) > publish.MaxPorts {
			t.Fatalf("service %+v without names, with both or neither of addresses and a CNAME, or with too many ports", s)
		}
		for _, o := range s.OwnerNames {
			if again, err := dnsname.Parse(o.String()); err != nil || again != o || o.HasWildcard() || o.IsReverse() {
				t.Fatalf("owner %v: %v", o, err)
			}
		}
		if again, err := n.Patched(s, publish.Patch{}); err != nil || !reflect.DeepEqual(again, s) {
			t.Fatalf("patched by nothing: %+v, %v; want %+v", again, err, s)
		}
	})
}

// netAt is a container's end of a network, whose gateway is the first address of
// its IPv4 subnet; '!' in front of the name makes it internal.
func netAt(name, addrs string) publish.Endpoint {
	name, internal := strings.CutPrefix(name, "!")
	e := publish.Endpoint{Network: publish.Network{Name: name, Internal: internal}}
	for text := range strings.FieldsSeq(addrs) {
		p := netip.MustParsePrefix(text)
		e.Addrs = append(e.Addrs, p.Addr())
		if s := (publish.IPNet{Prefix: p.Masked(), Gateway: p.Masked().Addr().Next()}); p.Addr().Is4() {
			e.V4 = s
		} else {
			e.V6 = s
		}
	}
	return e
}

// Whom a container on several networks gives which address.
func TestAddressesByNetwork(t *testing.T) {
	front, back, six := netAt("front", "10.1.0.5/24"), netAt("back", "10.2.0.5/24"), netAt("six", "10.3.0.5/24 fd00:3::5/64")
	inside, prior := netAt("!a-inside", "10.4.0.5/24"), netAt("prior", "10.5.0.5/24")
	prior.Priority = 7
	noGateway := netAt("a-none", "10.6.0.5/24")
	noGateway.V4.Gateway = netip.Addr{}
	noGateway.Priority = 9
	all := []publish.Endpoint{inside, back, front, six}
	for _, c := range []struct {
		what     string
		networks []publish.Endpoint
		flag     []string
		labels   map[string]string
		clients  map[string]string // client -> addresses in order
	}{
		{"by name, internal for those inside", all, nil, nil, map[string]string{
			"192.0.2.1": "10.2.0.5 10.1.0.5 10.3.0.5 fd00:3::5", "127.0.0.1": "10.2.0.5 10.1.0.5 10.3.0.5 fd00:3::5",
			"10.1.0.9": "10.1.0.5", "10.2.0.9": "10.2.0.5", "10.4.0.9": "10.4.0.5",
			"10.3.0.9": "10.3.0.5 fd00:3::5", "fd00:3::9": "10.3.0.5 fd00:3::5", // the network is the unit
			"10.1.0.1": "10.2.0.5 10.1.0.5 10.3.0.5 fd00:3::5", // the gateway may be a proxy that hides who asks
		}},
		{"gateway of the highest priority first", append(slices.Clone(all), prior, noGateway), nil, nil, map[string]string{
			"192.0.2.1": "10.5.0.5 10.6.0.5 10.2.0.5 10.1.0.5 10.3.0.5 fd00:3::5"}},
		{"internal only", []publish.Endpoint{inside}, nil, nil, map[string]string{"192.0.2.1": "", "10.4.0.9": "10.4.0.5"}},
		{"flag limits and orders", all, []string{"six", "front", "nosuch"}, nil, map[string]string{
			"192.0.2.1": "10.3.0.5 fd00:3::5 10.1.0.5", "10.2.0.9": "10.3.0.5 fd00:3::5 10.1.0.5", "10.1.0.9": "10.1.0.5"}},
		{"label over flag", all, []string{"six"}, map[string]string{"com.dnsdock.network": "front, back"}, map[string]string{
			"192.0.2.1": "10.1.0.5 10.2.0.5"}},
		{"prefix", all, nil, map[string]string{"com.dnsdock.prefix": "10.3."}, map[string]string{
			"192.0.2.1": "10.3.0.5", "fd00:3::9": "10.3.0.5", "10.1.0.9": "10.3.0.5"}},
		{"by hand", all, nil, map[string]string{"com.dnsdock.ip_addr": "10.1.0.77,192.0.2.9"}, map[string]string{
			"192.0.2.1": "10.1.0.77 192.0.2.9", "10.2.0.9": "10.1.0.77 192.0.2.9"}},
	} {
		for range 20 {
			rand.Shuffle(len(c.networks), func(i, j int) { c.networks[i], c.networks[j] = c.networks[j], c.networks[i] })
			n := publish.NameRules{Apex: mustName(t, "docker"), Networks: c.flag}
			s, problems := n.ServiceOf(testContainer(func(t *publish.Container) { t.Networks, t.Labels = slices.Clone(c.networks), c.labels }), "e")
			if s == nil || problems != nil {
				t.Fatalf("%s: got %v, problems %v", c.what, s, problems)
			}
			for client, want := range c.clients {
				got, _ := s.AddrsFor(netip.MustParseAddr(client))
				if text := strings.Trim(fmt.Sprint(got), "[]"); text != want {
					t.Fatalf("%s, %s: got %q; want %q", c.what, client, text, want)
				}
			}
		}
	}
	n := publish.NameRules{Apex: mustName(t, "docker"), Networks: []string{"six"}}
	if s, _ := n.ServiceOf(testContainer(func(t *publish.Container) { t.Networks = []publish.Endpoint{front} }), "e"); s != nil {
		t.Errorf("on none of the networks of -network: got %v; want it not published", s)
	}
}

func TestParsePlace(t *testing.T) {
	for _, c := range []struct {
		in   string
		want publish.Place
		bad  bool
	}{
		{in: "host"},
		{in: "192.0.2.1", want: publish.Place{Addr: netip.MustParseAddr("192.0.2.1")}},
		{in: "container:proxy_1.a-b", want: publish.Place{Container: "proxy_1.a-b"}},
		{in: "container:/proxy", want: publish.Place{Container: "proxy"}},
		{in: "container:", bad: true},
		{in: "container:.", bad: true}, // would ask for the list
		{in: "container:..", bad: true},
		{in: "container:a/../b", bad: true},
		{in: "container:a?x", bad: true},
		{in: "container:a b", bad: true},
		{in: "Host", bad: true},
		{in: "proxy", bad: true},
		{in: "fe80::1%eth0", bad: true},
	} {
		if got, err := publish.ParsePlace(c.in); (err != nil) != c.bad || err == nil && got != c.want {
			t.Errorf("%q: got %+v, %v; want %+v, error %t", c.in, got, err, c.want, c.bad)
		}
	}
}

func TestComposeName(t *testing.T) {
	labels := func(project, service, number, oneoff string) map[string]string {
		m := map[string]string{}
		for k, v := range map[string]string{"project": project, "service": service, "container-number": number, "oneoff": oneoff} {
			if v != "" {
				m["com.docker.compose."+k] = v
			}
		}
		return m
	}
	for _, c := range []struct {
		labels   map[string]string
		want     dnsname.Name
		problems int
	}{
		{labels("shop", "Web", "1", "False"), mustName(t, "1.web.shop.docker"), 0},
		{labels("shop", "web", "", ""), mustName(t, "web.shop.docker"), 0},
		{labels("shop", "a.b", "2", ""), mustName(t, "2.a.b.shop.docker"), 0},
		{labels("shop", "web", "1", "True"), "", 0},
		{labels("shop", "web", "1", "true"), "", 0},
		{labels("", "web", "1", ""), "", 0},
		{labels("shop", "", "1", ""), "", 0},
		{labels("a.b", "web", "1", ""), "", 1},
		{labels("shop", "*", "1", ""), "", 1},
		{labels("..", "web", "1", ""), "", 1},
		{labels(strings.Repeat("x", 64), "web", "1", ""), "", 1},
		{labels("shop", strings.Repeat("x.", 125), "1", ""), "", 1},
	} {
		n := publish.NameRules{Apex: mustName(t, "docker"), Second: publish.SecondNames{Compose: true}}
		s, problems := n.ServiceOf(testContainer(func(t *publish.Container) { t.Labels = c.labels }), "e")
		if s.Compose != c.want || len(problems) != c.problems {
			t.Errorf("%v: got %v, problems %v; want %v, %d", c.labels, s.Compose, problems, c.want, c.problems)
		}
		n.Second.Compose = false
		if s, _ := n.ServiceOf(testContainer(func(t *publish.Container) { t.Labels = c.labels }), "e"); s.Compose != "" {
			t.Errorf("%v: got %v with -compose=false", c.labels, s.Compose)
		}
	}
}
