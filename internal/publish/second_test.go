package publish

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/rayje/dnsdock/internal/dnsname"
)

func TestComposeNames(t *testing.T) {
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
		{labels("shop", "web", "", ""), "", 0}, // the image has the labels
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
		n := NameRules{Apex: mustName(t, "docker"), Second: SecondNames{Compose: true}}
		s, problems := n.ServiceOf(testContainer(func(t *Container) { t.Labels = c.labels }), "e")
		var want []dnsname.Name
		if c.want != "" {
			want = append(want, c.want)
		}
		if !slices.Equal(s.SecondNames, want) || len(problems) != c.problems {
			t.Errorf("%v: got %v, problems %v; want %v, %d", c.labels, s.SecondNames, problems, want, c.problems)
		}
		n.Second.Compose = false
		if s, _ := n.ServiceOf(testContainer(func(t *Container) { t.Labels = c.labels }), "e"); s.SecondNames != nil {
			t.Errorf("%v: got %v with -compose=false", c.labels, s.SecondNames)
		}
	}
}

// The names that a container has anyway.
func TestSecondNames(t *testing.T) {
	all := SecondNames{Compose: true, Hostname: true, Alias: true, ID: true, Hyphen: true, Host: true}
	alias := func(network string, aliases ...string) Endpoint {
		return Endpoint{Network: Network{Name: network}, Addrs: []netip.Addr{netip.MustParseAddr("172.17.0.2")}, Aliases: aliases}
	}
	onHost := []Endpoint{HostNetwork()}
	for _, c := range []struct {
		what     string
		second   SecondNames
		change   func(*Container)
		owners   string // empty: redis1.redis.docker.
		names    string // space between
		problems string // sources
	}{
		{what: "none", second: all},
		{what: "host name", second: all, change: func(c *Container) { c.Host.Name = "DB1" }, names: "db1.docker."},
		{what: "host name of the engine", second: all, change: func(c *Container) { c.Host.Name = "abababababab" }},
		{what: "domain", second: all, change: func(c *Container) { c.Host = HostName{"db1", "corp.example"} },
			owners: "redis1.redis.docker. db1.corp.example.", names: "db1.docker."},
		{what: "domain with dots around", second: all, change: func(c *Container) { c.Host = HostName{"db1", ".corp.example."} },
			owners: "redis1.redis.docker. db1.corp.example.", names: "db1.docker."},
		{what: "full host name", second: all, change: func(c *Container) { c.Host.Name = "db1.corp.example" },
			owners: "redis1.redis.docker. db1.corp.example.", names: "db1.docker."},
		{what: "domain that is ours", second: all, change: func(c *Container) { c.Host = HostName{"db1", "docker"} },
			owners: "redis1.redis.docker. db1.docker.", names: "db1.docker."},
		{what: "reserved domain", second: all, change: func(c *Container) { c.Host = HostName{"db1", "localhost"} }, names: "db1.docker.", problems: "hostname"},
		{what: "public suffix", second: all, change: func(c *Container) { c.Host = HostName{"co", "uk"} }, names: "co.docker.", problems: "hostname"},
		{what: "host name that is none", second: all, change: func(c *Container) { c.Host.Name = "a b" }, problems: "hostname"},
		{what: "of the host", second: all, change: func(c *Container) { c.Host.Name, c.Networks = "machine.example.com", onHost }},
		{what: "of another container", second: all, change: func(c *Container) { c.Host.Name, c.Shares = "other", "cd" }},
		{what: "no host names", second: SecondNames{Alias: true}, change: func(c *Container) { c.Host = HostName{"db1", "corp.example"} }},

		{what: "network aliases", second: all, change: func(c *Container) {
			c.Networks = []Endpoint{alias("shop_default", "web", "abababababab", "Reports.X"), alias("back", "web", "")}
		}, names: "web.docker. web.shop_default.docker. reports.x.docker. reports.x.shop_default.docker. web.back.docker. " +
			"web.shop-default.docker. reports.x.shop-default.docker."},
		{what: "network alias that is none", second: all, change: func(c *Container) { c.Networks = []Endpoint{alias("back", "http://x/")} },
			problems: "network alias network alias"},
		{what: "no network aliases", second: SecondNames{Hostname: true}, change: func(c *Container) { c.Networks = []Endpoint{alias("back", "web")} }},

		{what: "hyphens", second: all, change: func(c *Container) { c.Name = "my_web_1" }, owners: "my_web_1.redis.docker.", names: "my-web-1.redis.docker."},
		{what: "hyphens of Compose", second: all, change: func(c *Container) {
			c.Labels = map[string]string{composeProject: "my_shop", composeService: "my_web", composeNumber: "1"}
		}, names: "1.my_web.my_shop.docker. 1.my-web.my-shop.docker."},
		{what: "no hyphens", second: SecondNames{Compose: true}, change: func(c *Container) {
			c.Name, c.Labels = "my_web_1", map[string]string{composeProject: "my_shop", composeService: "my_web", composeNumber: "1"}
		}, owners: "my_web_1.redis.docker.", names: "1.my_web.my_shop.docker."},
	} {
		s, problems := NameRules{Apex: mustName(t, "docker"), Second: c.second}.ServiceOf(testContainer(c.change), "e")
		var sources []string
		for _, p := range problems {
			sources = append(sources, p.Source)
		}
		owners := cmp.Or(c.owners, "redis1.redis.docker.")
		if got := strings.Trim(fmt.Sprint(s.OwnerNames), "[]"); got != owners {
			t.Errorf("%s: owner names %s; want %s", c.what, got, owners)
		}
		if got := strings.Trim(fmt.Sprint(s.SecondNames), "[]"); got != c.names {
			t.Errorf("%s: second names %s; want %s", c.what, got, c.names)
		}
		if got := strings.Join(sources, " "); got != c.problems {
			t.Errorf("%s: problems %v; want %s", c.what, problems, c.problems)
		}
	}
}

// What the API changes of the full name changes its spelling with hyphens too.
func TestSecondNamesPatched(t *testing.T) {
	n := NameRules{Apex: mustName(t, "docker"), Second: SecondNames{Hostname: true, Hyphen: true}}
	s, _ := n.ServiceOf(testContainer(func(c *Container) {
		c.Name, c.Host = "my_web", HostName{"h_1", "corp.example"}
	}), "e")
	name := "x_y"
	p, err := n.Patched(s, Patch{Name: &name})
	if err != nil {
		t.Fatal(err)
	}
	want := "[x_y.redis.docker. h_1.corp.example.] [h_1.docker. h-1.docker. x-y.redis.docker.]"
	if got := fmt.Sprint(p.OwnerNames, p.SecondNames); got != want {
		t.Errorf("got %s; want %s", got, want)
	}
	if again, err := n.Patched(s, Patch{}); err != nil || !again.Equal(s) {
		t.Errorf("patched by nothing: got %+v, %v; want %+v", again, err, s)
	}
}
