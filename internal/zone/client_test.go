package zone

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/zonetest"
)

// Of several containers those on the client's network come first, in an order
// that changes; of one on several networks there is only the one that the
// client is on, and the order for others is always the same.
func TestAnswersByClient(t *testing.T) {
	reg := zonetest.New(t, "docker", 0)
	z := newResolver(t, reg)
	tcp := []publish.Port{{Number: 80, Proto: "tcp"}}
	reg.PutContainers(t,
		publish.Container{Name: "a1", Image: "web",
			Networks: []publish.Endpoint{zonetest.Endpoint("a", "10.1.0.11/24")}, Exposed: tcp},
		publish.Container{Name: "a2", Image: "web",
			Networks: []publish.Endpoint{zonetest.Endpoint("a", "10.1.0.12/24")}, Exposed: tcp},
		publish.Container{Name: "b1", Image: "web",
			Networks: []publish.Endpoint{zonetest.Endpoint("b", "10.2.0.11/24")}, Exposed: tcp},
		publish.Container{Name: "i1", Image: "web",
			Networks: []publish.Endpoint{zonetest.Endpoint("!i", "10.3.0.11/24")}},
		publish.Container{Name: "ab", Image: "db",
			Networks: []publish.Endpoint{zonetest.Endpoint("b", "10.2.0.20/24"),
				zonetest.Endpoint("a", "10.1.0.20/24 fd00:1::20/64")}, Exposed: tcp},
		publish.Container{Name: "in", Image: "db2",
			Networks: []publish.Endpoint{zonetest.Endpoint("!i", "10.3.0.20/24")}, Exposed: tcp},
	)
	for _, c := range []struct {
		client, qname string
		qtype         uint16
		want          []string // one of them, each at some time
	}{
		{"10.1.0.99", "web.docker.", dns.TypeA, []string{"NOERROR 10.1.0.11 10.1.0.12 10.2.0.11", "NOERROR 10.1.0.12 10.1.0.11 10.2.0.11"}},
		{"10.2.0.99", "web.docker.", dns.TypeA, []string{"NOERROR 10.2.0.11 10.1.0.11 10.1.0.12", "NOERROR 10.2.0.11 10.1.0.12 10.1.0.11"}},
		{"10.3.0.99", "i1.web.docker.", dns.TypeA, []string{"NOERROR 10.3.0.11"}},
		{"10.2.0.99", "i1.web.docker.", dns.TypeA, []string{"NOERROR"}},
		{"192.0.2.1", "ab.db.docker.", dns.TypeA, []string{"NOERROR 10.1.0.20 10.2.0.20"}},
		{"10.1.0.99", "ab.db.docker.", dns.TypeA, []string{"NOERROR 10.1.0.20"}},
		{"10.1.0.99", "ab.db.docker.", dns.TypeAAAA, []string{"NOERROR fd00:1::20"}},
		{"fd00:1::99", "ab.db.docker.", dns.TypeA, []string{"NOERROR 10.1.0.20"}},
		{"10.2.0.99", "ab.db.docker.", dns.TypeAAAA, []string{"NOERROR"}},
		{"10.2.0.99", "_80._tcp.ab.db.docker.", dns.TypeSRV, []string{"NOERROR ab.db.docker.80 10.2.0.20"}},
		{"10.1.0.99", "_80._tcp.ab.db.docker.", dns.TypeSRV, []string{"NOERROR ab.db.docker.80 10.1.0.20 fd00:1::20"}},
		{"192.0.2.1", "_80._tcp.in.db2.docker.", dns.TypeSRV, []string{"NOERROR in.db2.docker.80"}},
		{"10.3.0.99", "_80._tcp.in.db2.docker.", dns.TypeSRV, []string{"NOERROR in.db2.docker.80 10.3.0.20"}},
		{"192.0.2.1", "in.db2.docker.", dns.TypeA, []string{"NOERROR"}},
	} {
		got := make(map[string]bool)
		for range 100 {
			got[answersTo(z, c.client, "", c.qname, c.qtype)] = true
		}
		if all := slices.Sorted(maps.Keys(got)); !slices.Equal(all, c.want) {
			t.Errorf("%s, %s %s: got %q; want %q", c.client, c.qname, dns.Type(c.qtype), all, c.want)
		}
	}
	if m := reply(z, new(dns.Msg).SetQuestion("20.0.3.10.in-addr.arpa.", dns.TypePTR), netip.Addr{},
		dns.MaxMsgSize); len(m.Answer) != 1 {
		t.Errorf("PTR of an internal address: got %v; want its name", dnstest.Show(m))
	}
}

// A container that two others answer for, which are on the same networks, has
// both on each of them.
func TestAnswersByPlaces(t *testing.T) {
	reg := zonetest.New(t, "docker", 0)
	z := newResolver(t, reg)
	reg.PutContainers(t, publish.Container{Name: "site", Image: "web",
		Labels: map[string]string{"com.dnsdock.ip_addr": "container:p1,container:p2"},
		Borrowed: publish.Borrowed{Others: map[string][]publish.Endpoint{
			"p1": {zonetest.Endpoint("a", "10.1.0.11/24"), zonetest.Endpoint("b", "10.2.0.11/24")},
			"p2": {zonetest.Endpoint("a", "10.1.0.12/24"), zonetest.Endpoint("b", "10.2.0.12/24")},
		}}})
	for client, want := range map[string]string{
		"10.1.0.99": "NOERROR 10.1.0.11 10.1.0.12",
		"10.2.0.99": "NOERROR 10.2.0.11 10.2.0.12",
		"192.0.2.1": "NOERROR 10.1.0.11 10.1.0.12 10.2.0.11 10.2.0.12",
	} {
		if got := answersTo(z, client, "", "site.web.docker.", dns.TypeA); got != want {
			t.Errorf("%s: got %q; want %q", client, got, want)
		}
	}
}

// The first of many are those on the client's network too, where not all fit.
func TestNearFirstOfMany(t *testing.T) {
	reg := zonetest.New(t, "docker", 0)
	z := newResolver(t, reg)
	for i := range 2000 {
		n := zonetest.Endpoint("far", fmt.Sprintf("10.1.%d.%d/16", i/250, 2+i%250))
		if i%500 == 7 {
			n = zonetest.Endpoint("near", fmt.Sprintf("10.2.0.%d/16", 2+i/500))
		}
		reg.PutContainers(t, publish.Container{Name: fmt.Sprint("c", i), Image: "many",
			Networks: []publish.Endpoint{n}})
	}
	c := newClientAt("10.2.9.9", "")
	c.Size = dns.MinMsgSize
	for range 20 {
		m := replyTo(z, new(dns.Msg).SetQuestion("many.docker.", dns.TypeA), c)
		for i, rr := range m.Answer[:6] {
			addr := netip.MustParseAddr(rr.(*dns.A).A.String())
			if isNear := netip.MustParsePrefix("10.2.0.0/16").Contains(addr); isNear != (i < 4) {
				t.Fatalf("record %d is %v; want the 4 of the network first", i, rr)
			}
		}
	}
}

// A container that has the host's network is answered with the address that
// the client asked, or with the gateway where that is of a container: dnsdock.
func TestHostAddress(t *testing.T) {
	reg := zonetest.New(t, "docker", 0)
	z := newResolver(t, reg)
	reg.PutContainers(t,
		publish.Container{Name: "h", Image: "app", Networks: []publish.Endpoint{publish.HostNetwork()}},
		publish.Container{Name: "dns", Image: "dnsdock",
			Networks: []publish.Endpoint{zonetest.Endpoint("a", "10.1.0.53/24 fd00:1::53/64"),
				zonetest.Endpoint("b", "10.2.0.53/24")}},
		publish.Container{Name: "mixed", Image: "app",
			Labels: map[string]string{"com.dnsdock.ip_addr": "host, 192.0.2.7"}},
	)
	check := func(local, qname string, qtype uint16, want string) {
		t.Helper()
		if got := answersTo(z, "192.0.2.1", local, qname, qtype); got != want {
			t.Errorf("%s %s asked at %q: got %q; want %q", qname, dns.Type(qtype), local, got, want)
		}
	}
	check("172.17.0.1", "h.app.docker.", dns.TypeA, "NOERROR 172.17.0.1")
	check("172.17.0.1", "h.app.docker.", dns.TypeAAAA, "NOERROR")
	check("fd00::1", "h.app.docker.", dns.TypeAAAA, "NOERROR fd00::1")
	check("10.1.0.53", "h.app.docker.", dns.TypeA, "NOERROR 10.1.0.1")
	check("10.1.0.53", "h.app.docker.", dns.TypeAAAA, "NOERROR fd00:1::1")
	check("10.2.0.53", "h.app.docker.", dns.TypeA, "NOERROR 10.2.0.1")
	check("", "h.app.docker.", dns.TypeA, "NOERROR") // the system does not tell
	check("172.17.0.1", "1.0.17.172.in-addr.arpa.", dns.TypePTR, "NXDOMAIN")
	reg.PutContainers(t, publish.Container{Name: "byhand", Image: "x",
		Labels: map[string]string{"com.dnsdock.ip_addr": "192.168.1.4"}})
	check("192.168.1.4", "h.app.docker.", dns.TypeA,
		"NOERROR 192.168.1.4") // the address of the host is a container's by hand
	for range 10 {
		got := strings.Fields(answersTo(z, "192.0.2.1", "172.17.0.1", "mixed.app.docker.", dns.TypeA))
		slices.Sort(got)
		if want := []string{"172.17.0.1", "192.0.2.7", "NOERROR"}; !slices.Equal(got, want) {
			t.Errorf("mixed: got %v; want %v", got, want)
		}
	}
	reg.Rules.Host = []netip.Addr{netip.MustParseAddr("198.51.100.4"), netip.MustParseAddr("2001:db8::4")}
	check("10.1.0.53", "h.app.docker.", dns.TypeA, "NOERROR 198.51.100.4")
	check("127.0.0.1", "h.app.docker.", dns.TypeAAAA, "NOERROR 2001:db8::4")
}

// An unhealthy container leaves each name's answer while a healthy one is
// there, for the client that asks.
func TestHealthChecks(t *testing.T) {
	reg := zonetest.New(t, "docker", 0)
	reg.Rules.Health = true
	z := newResolver(t, reg)
	tcp := []publish.Port{{Number: 80, Proto: "tcp"}}
	put := func(name, image, addr string, sick bool, labels ...string) {
		c := publish.Container{Name: name, Image: image, Sick: sick,
			Networks: []publish.Endpoint{zonetest.Endpoint("a", addr)}, Exposed: tcp, Labels: map[string]string{}}
		for _, l := range labels {
			k, v, _ := strings.Cut(l, "=")
			c.Labels[k] = v
		}
		reg.PutContainers(t, c)
	}
	check := func(client, qname string, qtype uint16, want string) {
		t.Helper()
		got := strings.Fields(answersTo(z, client, "", qname, qtype))
		slices.Sort(got[1:])
		if text := strings.Join(got, " "); text != want {
			t.Errorf("%s, %s %s: got %q; want %q", client, qname, dns.Type(qtype), text, want)
		}
	}
	put("w1", "web", "10.1.0.1/24", false)
	put("w2", "web", "10.1.0.2/24 fd00:1::2/64", true)
	check("192.0.2.1", "web.docker.", dns.TypeA, "NOERROR 10.1.0.1")
	check("192.0.2.1", "web.docker.", dns.TypeAAAA, "NOERROR")
	check("192.0.2.1", "w2.web.docker.", dns.TypeA, "NOERROR 10.1.0.2")
	check("192.0.2.1", "w2.web.docker.", dns.TypeAAAA, "NOERROR fd00:1::2")
	check("192.0.2.1", "_80._tcp.web.docker.", dns.TypeSRV, "NOERROR 10.1.0.1 w1.web.docker.80")
	put("w1", "web", "10.1.0.1/24", true)
	check("192.0.2.1", "web.docker.", dns.TypeA, "NOERROR 10.1.0.1 10.1.0.2")
	check("192.0.2.1", "_80._tcp.w1.web.docker.", dns.TypeSRV, "NOERROR 10.1.0.1 w1.web.docker.80")
	put("w2", "web", "10.1.0.2/24", true, "com.dnsdock.health=ignore")
	check("192.0.2.1", "web.docker.", dns.TypeA, "NOERROR 10.1.0.2")
	reg.Rules.Health = false
	put("w1", "web", "10.1.0.1/24", true)
	check("192.0.2.1", "web.docker.", dns.TypeA, "NOERROR 10.1.0.1 10.1.0.2")

	// The healthy one is on an internal network, out of reach of others.
	reg.Rules.Health = true
	put("d1", "db", "10.1.0.5/24", true)
	reg.PutContainers(t, publish.Container{Name: "d2", Image: "db",
		Networks: []publish.Endpoint{zonetest.Endpoint("!i", "10.3.0.6/24")}})
	check("192.0.2.1", "db.docker.", dns.TypeA, "NOERROR 10.1.0.5")
	check("10.3.0.99", "db.docker.", dns.TypeA, "NOERROR 10.3.0.6")
	check("192.0.2.1", "docker.", dns.TypeA, "NOERROR 10.1.0.1 10.1.0.2")
}

// The names of compose answer where no other does.
func TestComposeNames(t *testing.T) {
	reg := zonetest.New(t, "docker", 0)
	reg.Rules.Second.Compose = true
	z := newResolver(t, reg)
	instance := func(project, service, number, name, image, addr string) publish.Container {
		return publish.Container{Name: name, Image: image, Networks: []publish.Endpoint{zonetest.Endpoint("a", addr)},
			Exposed: []publish.Port{{Number: 80, Proto: "tcp"}}, Labels: map[string]string{
				"com.docker.compose.project": project, "com.docker.compose.service": service, "com.docker.compose.container-number": number}}
	}
	reg.PutContainers(t,
		instance("shop", "web", "1", "shop_web_1", "nginx", "10.1.0.1/24"),
		instance("shop", "web", "2", "shop_web_2", "nginx", "10.1.0.2/24"),
		instance("shop", "db", "1", "shop_db_1", "redis", "10.1.0.3/24"),
		instance("redis", "web", "1", "redis_web_1", "nginx", "10.1.0.4/24"), // a project that is called as an image is
		publish.Container{Name: "cache", Image: "blog",
			Networks: []publish.Endpoint{zonetest.Endpoint("a", "10.1.0.5/24")}},
		instance("blog", "cache", "1", "blog_cache_1", "nginx", "10.1.0.6/24"),
		publish.Container{Name: "al", Image: "x", Networks: []publish.Endpoint{zonetest.Endpoint("a", "10.1.0.7/24")},
			Labels: map[string]string{"com.dnsdock.alias": "ali.docker"}},
		instance("ali", "web", "1", "ali_web_1", "nginx", "10.1.0.8/24"),
	)
	for _, c := range []struct{ qname, want string }{
		{"web.shop.docker.", "NOERROR 10.1.0.1 10.1.0.2"},
		{"WEB.Shop.docker.", "NOERROR 10.1.0.1 10.1.0.2"},
		{"1.web.shop.docker.", "NOERROR 10.1.0.1"},
		{"x.y.1.web.shop.docker.", "NOERROR 10.1.0.1"},
		{"3.web.shop.docker.", "NXDOMAIN"},
		{"x.web.shop.docker.", "NXDOMAIN"},
		{"db.shop.docker.", "NOERROR 10.1.0.3"},
		{"shop.docker.", "NOERROR"}, // names are below it
		{"nosuch.shop.docker.", "NXDOMAIN"},
		{"redis.docker.", "NOERROR 10.1.0.3"}, // the image, and not the project
		{"web.redis.docker.", "NOERROR 10.1.0.4"},
		{"shop_db_1.redis.docker.", "NOERROR 10.1.0.3"},
		{"cache.blog.docker.", "NOERROR 10.1.0.5"}, // the container of that name, and not the service
		{"1.cache.blog.docker.", "NOERROR 10.1.0.5"},
		{"blog.docker.", "NOERROR 10.1.0.5"},
		{"web.ali.docker.", "NOERROR 10.1.0.7"}, // below an alias
		{"*.web.shop.docker.", "NOERROR 10.1.0.1 10.1.0.2"},
		{"1.*.shop.docker.", "NOERROR 10.1.0.1 10.1.0.3"},
		{"*.shop.docker.", "NOERROR 10.1.0.1 10.1.0.2 10.1.0.3"},
		{"*.docker.", "NOERROR 10.1.0.1 10.1.0.2 10.1.0.3 10.1.0.4 10.1.0.5 10.1.0.6 10.1.0.7 10.1.0.8"},
		{"docker.", "NOERROR 10.1.0.1 10.1.0.2 10.1.0.3 10.1.0.4 10.1.0.5 10.1.0.6 10.1.0.7 10.1.0.8"},
		{"2.*.docker.", "NOERROR 10.1.0.7"}, // below the alias
	} {
		for _, closest := range []bool{false, true} {
			reg.Rules.Closest = closest
			if closest && (c.qname == "redis.docker." || c.qname == "1.*.shop.docker.") { // the same by other rules
				continue
			}
			got := strings.Fields(answersTo(z, "192.0.2.1", "", c.qname, dns.TypeA))
			slices.Sort(got[1:])
			if text := strings.Join(got, " "); text != c.want {
				t.Errorf("%s, closest %t: got %q; want %q", c.qname, closest, text, c.want)
			}
		}
	}
	reg.Rules.Closest = false
	if got := answersTo(z, "192.0.2.1", "", "_80._tcp.1.web.shop.docker.",
		dns.TypeSRV); got != "NOERROR shop_web_1.nginx.docker.80 10.1.0.1" {
		t.Errorf("SRV: got %q", got)
	}
	m := reply(z, new(dns.Msg).SetQuestion("1.0.1.10.in-addr.arpa.", dns.TypePTR), netip.Addr{}, dns.MaxMsgSize)
	if len(m.Answer) != 1 || m.Answer[0].(*dns.PTR).Ptr != "shop_web_1.nginx.docker." {
		t.Errorf("PTR: got %v; want the classic name alone", dnstest.Show(m))
	}
	for _, id := range []string{"shop_web_1", "shop_web_2", "shop_db_1"} {
		reg.Put(id, nil)
	}
	for _, qname := range []string{"web.shop.docker.", "shop.docker.", "1.web.shop.docker."} {
		if got := answersTo(z, "192.0.2.1", "", qname, dns.TypeA); got != "NXDOMAIN" {
			t.Errorf("%s of a project that is gone: got %q; want NXDOMAIN", qname, got)
		}
	}
}
