package zone

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/zonetest"
)

// newSwarm returns an index of two tasks of the service shop_web on an overlay, and one
// of a service dnsdock, without the virtual address of the first.
func newSwarm(t *testing.T) *zonetest.Index {
	t.Helper()
	reg := zonetest.New(t, "docker", 7)
	reg.Rules.Second = publish.SecondNames{Compose: true, Alias: true}
	task := func(id, service string, slot int, addr string) publish.Container {
		e := zonetest.Endpoint("over", addr)
		placed := publish.Placed{Task: &publish.Task{ID: id, ServiceID: service + "-id", Service: service, Slot: slot}}
		if service == "shop_web" {
			placed.Task.Stack = "shop"
			placed.Outside = &publish.Outside{Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.7")}}
		}
		return publish.Container{
			ID: id, Name: id, Image: "img", Networks: []publish.Endpoint{e}, Placed: placed,
			Exposed: []publish.Port{{Number: 80, Proto: "tcp"}},
		}
	}
	reg.PutContainers(t, task("w1", "shop_web", 1, "10.0.1.3/24"), task("w2", "shop_web", 2, "10.0.1.4/24"),
		task("d1", "dnsdock", 1, "10.0.1.5/24"))
	return reg
}

// shopWeb is the service of which there is a virtual address.
var shopWeb = publish.Task{ServiceID: "shop_web-id", Service: "shop_web", Stack: "shop"}

const (
	inside  = "10.0.1.9"
	outside = "198.51.100.1"
)

// inOrder is answersTo with what is answered sorted.
func inOrder(z *Resolver, client, qname string, qtype uint16) string {
	got := strings.Fields(answersTo(z, client, "192.0.2.1", qname, qtype))
	slices.Sort(got[1:])
	return strings.Join(got, " ")
}

// Clients on a network of a service get its virtual address in place of its tasks'.
func TestVirtualAddress(t *testing.T) {
	reg := newSwarm(t)
	z := newResolver(t, reg)
	f := func(client, qname string, qtype uint16, want string) {
		t.Helper()
		if got := inOrder(z, client, qname, qtype); got != want {
			t.Errorf("%s %s from %s: got %s; want %s", qname, dns.Type(qtype), client, got, want)
		}
	}
	f(inside, "web.shop.docker.", dns.TypeA, "NOERROR 10.0.1.3 10.0.1.4")
	reg.PutVIP(t, shopWeb, zonetest.Endpoint("over", "10.0.1.2/24"), zonetest.Endpoint("second", "10.0.2.2/24"))
	for _, name := range []string{"shop_web.docker.", "web.shop.docker."} {
		f(inside, name, dns.TypeA, "NOERROR 10.0.1.2")
		f("10.0.2.9", name, dns.TypeA, "NOERROR 10.0.2.2")
		f(outside, name, dns.TypeA, "NOERROR 192.0.2.7")
		f(inside, name, dns.TypeAAAA, "NOERROR")
		f(inside, "tasks."+name, dns.TypeA, "NOERROR 10.0.1.3 10.0.1.4")
		f(inside, "2."+name, dns.TypeA, "NOERROR 10.0.1.4")
		f(inside, "7."+name, dns.TypeA, "NXDOMAIN")
		f(inside, "_80._tcp."+name, dns.TypeSRV,
			"NOERROR 10.0.1.3 10.0.1.4 w1.img.docker.80 w2.img.docker.80")
	}
	f(inside, "w1.img.docker.", dns.TypeA, "NOERROR 10.0.1.3")
	f(inside, "img.docker.", dns.TypeA, "NOERROR 10.0.1.3 10.0.1.4 10.0.1.5")
	f(inside, "docker.", dns.TypeA, "NOERROR 10.0.1.3 10.0.1.4 10.0.1.5")

	query := new(dns.Msg).SetQuestion("web.shop.docker.", dns.TypeA)
	for _, client := range []string{inside, outside} {
		_, a := decided(z, query, newClientAt(client, "192.0.2.1"))
		if b, ok := a.Basis(); !ok || b.By&ByNetwork == 0 {
			t.Errorf("from %s: kept %t, by %b; want it to be kept by network", client, ok, b.By)
		}
	}
	res, err := z.Explain(zonetest.Name(t, "web.shop.docker"), dns.TypeA, newClientAt(inside, "192.0.2.1"))
	if err != nil || len(res.Why[0].Services) != 1 || res.Why[0].Services[0].ID != "vip:shop_web-id" {
		t.Errorf("why: got %+v, %v; want the virtual address", res, err)
	}

	if res, err = z.Explain(zonetest.Name(t, "x.1.shop_web.docker"), dns.TypeA, newClientAt(inside, "")); err != nil {
		t.Fatal(err)
	}
	if got := res.Why[0].Services[0].SecondNames; !slices.Equal(got, []string{"1.shop_web.docker"}) {
		t.Errorf("why x.1.shop_web.docker: by %v; want by that of the slot", got)
	}

	m := replyTo(z, new(dns.Msg).SetQuestion("2.1.0.10.in-addr.arpa.", dns.TypePTR), newClientAt(inside, ""))
	var names []string
	for _, rr := range m.Answer {
		names = append(names, rr.(*dns.PTR).Ptr)
	}
	if got := strings.Join(names, " "); got != "web.shop.docker. shop_web.docker." {
		t.Errorf("PTR: got %s", got)
	}
}

// Others that have the name go on being answered, and where no task is left, there is no such name.
func TestVirtualAddressAndOthers(t *testing.T) {
	reg := newSwarm(t)
	reg.PutVIP(t, shopWeb, zonetest.Endpoint("over", "10.0.1.2/24"))
	e := zonetest.Endpoint("over", "10.0.1.8/24")
	e.Aliases = []string{"shop_web"}
	reg.PutContainers(t, publish.Container{ID: "o", Name: "o", Image: "other", Networks: []publish.Endpoint{e}})
	z := newResolver(t, reg)
	f := func(qname, want string) {
		t.Helper()
		if got := inOrder(z, inside, qname, dns.TypeA); got != want {
			t.Errorf("%s: got %s; want %s", qname, got, want)
		}
	}
	f("shop_web.docker.", "NOERROR 10.0.1.2 10.0.1.8")
	f("x.shop_web.docker.", "NOERROR 10.0.1.8") // the alias answers below it too
	noVIPIn(t, z)
	reg.Put("w1", nil)
	reg.Put("w2", nil)
	f("shop_web.docker.", "NOERROR 10.0.1.8")
	f("web.shop.docker.", "NXDOMAIN")
	f("shop.docker.", "NXDOMAIN")
	reg.Put("o", nil)
	f("shop_web.docker.", "NXDOMAIN")
	noVIPIn(t, z)
}

// noVIPIn holds that no copy of the zone has the virtual address.
func noVIPIn(t *testing.T, z *Resolver) {
	t.Helper()
	zone := zonetest.Name(t, "docker")
	for n := range z.NamesIn(zone) {
		node := z.Node(n, zone, netip.Addr{})
		if node != nil && strings.Contains(node.Own+node.Wild, "\x0a\x00\x01\x02") {
			t.Errorf("%v: the zone's copy has the virtual address", n)
		}
	}
}

func TestNodes(t *testing.T) {
	reg := newSwarm(t)
	for id, host := range map[string]string{"1": "Alpha", "2": "alpha", "3": "beta.example"} {
		reg.PutNode(t, id, host, "192.0.2.10"+id)
	}
	z := newResolver(t, reg)
	f := func(qname string, qtype uint16, want string) {
		t.Helper()
		if got := inOrder(z, outside, qname, qtype); got != want {
			t.Errorf("%s: got %s; want %s", qname, got, want)
		}
	}
	f("nodes.docker.", dns.TypeA, "NOERROR 192.0.2.101 192.0.2.102 192.0.2.103")
	f("nodes.docker.", dns.TypeAAAA, "NOERROR")
	f("alpha.nodes.docker.", dns.TypeA, "NOERROR 192.0.2.101 192.0.2.102")
	f("beta.example.nodes.docker.", dns.TypeA, "NOERROR 192.0.2.103")
	f("gamma.nodes.docker.", dns.TypeA, "NXDOMAIN")
	f("x.alpha.nodes.docker.", dns.TypeA, "NOERROR 192.0.2.101 192.0.2.102")
	f("docker.", dns.TypeA, "NOERROR 10.0.1.5 192.0.2.7") // no machines but of those that publish ports
	if reg.At(zonetest.Name(t, "101.2.0.192.in-addr.arpa")) != nil {
		t.Error("the address of a node has a name")
	}
}

// A service called dnsdock leaves dnsdock its name.
func TestServiceDnsdock(t *testing.T) {
	reg := newSwarm(t)
	z := newResolver(t, reg)
	vip, _ := reg.Rules.VIPOf(publish.Task{ServiceID: "dnsdock-id", Service: "dnsdock"},
		[]publish.Endpoint{zonetest.Endpoint("over", "10.0.1.2/24")}, "e")
	reg.Put("vip:dnsdock-id", vip)
	for qname, want := range map[string]string{
		"dnsdock.docker.":       "NOERROR 192.0.2.1",
		"1.dnsdock.docker.":     "NOERROR 10.0.1.5",
		"tasks.dnsdock.docker.": "NOERROR 10.0.1.5",
		"7.dnsdock.docker.":     "NXDOMAIN",
	} {
		if got := answersTo(z, inside, "192.0.2.1", qname, dns.TypeA); got != want {
			t.Errorf("%s: got %s; want %s", qname, got, want)
		}
	}
	if vip != nil {
		t.Errorf("its virtual address has the names %v", dnsname.Texts(vip.SecondNames))
	}
}

// Explain names the task, its service and node, the rule, and the network by which the client is known.
func TestExplainOfSwarm(t *testing.T) {
	const ofSwarm = "names of the swarm, asked for where nothing else matches"
	const guest = "172.18.0.5"
	reg := newSwarm(t)
	reg.PutNode(t, "1", "Alpha", "192.0.2.101")
	s, _ := reg.Rules.ServiceOf(&publish.Container{
		ID: "0123456789abcdef", Name: "x", Image: "img", Networks: []publish.Endpoint{zonetest.Endpoint("over", "10.0.1.7/24")},
		Placed: publish.Placed{Task: &publish.Task{ID: "t9", Service: "my_db", Slot: 2, Node: "beta"}},
	}, "e")
	reg.Put(s.ID, s)
	reg.SetGuests("e", map[netip.Addr][]netip.Addr{
		netip.MustParseAddr(guest): {netip.MustParseAddr(guest), netip.MustParseAddr("10.0.1.9")},
	})
	z := newResolver(t, reg)
	for _, c := range []struct {
		client, qname string
		qtype         uint16
		rule          string
		source        Source
	}{
		{inside, "my_db.docker", dns.TypeA, ofSwarm + "; this client is on the network over", Source{
			ID: s.ID, Container: "x", Service: "my_db", Task: "t9", Node: "beta", SecondNames: []string{"my_db.docker", "2.my_db.docker", "tasks.my_db.docker"},
		}},
		{guest, "2.my_db.docker", dns.TypeA,
			ofSwarm + "; this client is a container, and known by [10.0.1.9] too; this client is on the network over",
			Source{ID: s.ID, Container: "x", Service: "my_db", Task: "t9", Node: "beta", SecondNames: []string{"2.my_db.docker"}}},
		{outside, "x.img.docker", dns.TypeA, "all names that are at it, below it or above it",
			Source{ID: s.ID, Container: "x", Service: "my_db", Task: "t9", Node: "beta", Names: []string{"x.img.docker"}}},
		{outside, "alpha.nodes.docker", dns.TypeA, ofSwarm,
			Source{ID: "node:1", Container: "Alpha", Node: "Alpha", SecondNames: []string{"alpha.nodes.docker"}}},
		{outside, "1.shop_web.docker", dns.TypeA,
			ofSwarm + "; this client is on none of their networks, so it gets the machine that publishes their ports",
			Source{ID: "w1", Container: "w1", Service: "shop_web", Task: "w1", SecondNames: []string{"1.shop_web.docker"}}},
		{inside, "_80._tcp.1.shop_web.docker", dns.TypeSRV,
			"these services have such a port at the name behind it; this client is on the network over",
			Source{ID: "w1", Container: "w1", Service: "shop_web", Task: "w1", Names: []string{"w1.img.docker"}}},
	} {
		res, err := z.Explain(zonetest.Name(t, c.qname), c.qtype, newClientAt(c.client, "192.0.2.1"))
		if err != nil || len(res.Why) != 1 || len(res.Why[0].Services) != 1 {
			t.Errorf("%s: got %+v, %v; want one reason with one service", c.qname, res, err)
			continue
		}
		got := res.Why[0].Services[0]
		slices.Sort(got.SecondNames)
		slices.Sort(c.source.SecondNames)
		if c.source.Names == nil {
			c.source.Names = []string{}
		}
		if res.Why[0].Rule != c.rule || !reflect.DeepEqual(got, c.source) {
			t.Errorf("%s from %s: got %q, %+v; want %q, %+v", c.qname, c.client, res.Why[0].Rule, got, c.rule, c.source)
		}
	}
}

// What a task is called by other rules is no name of the swarm.
func TestSecondNamesOfTasks(t *testing.T) {
	reg := newSwarm(t)
	reg.Rules.Second.Hostname, reg.Rules.Second.Hyphen = true, true
	reg.PutContainers(t, publish.Container{
		ID: "h", Name: "h", Image: "img", Host: publish.HostName{Name: "own"},
		Networks: []publish.Endpoint{zonetest.Endpoint("over", "10.0.1.7/24")},
		Placed:   publish.Placed{Task: &publish.Task{ID: "t9", Service: "My_db", Slot: 2}},
	})
	z := newResolver(t, reg)
	for qname, want := range map[string]bool{
		"own.docker": false, "my_db.docker": true, "my-db.docker": true, "x.2.my-db.docker": true,
	} {
		res, err := z.Explain(zonetest.Name(t, qname), dns.TypeA, newClientAt(outside, "192.0.2.1"))
		if err != nil || len(res.Why) != 1 || strings.HasPrefix(res.Why[0].Rule, "names of the swarm") != want {
			t.Errorf("%s: got %+v, %v; want it to be a name of the swarm: %t", qname, res, err, want)
		}
	}
}
