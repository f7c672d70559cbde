package zone

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/zonetest"
)

// Clients on a container's network reach it itself; all others reach the machine
// that publishes its ports, at these ports.
func TestAnswersOutside(t *testing.T) {
	reg := zonetest.New(t, "docker", 0)
	z := newResolver(t, reg)
	tcp := []publish.Port{{Number: 80, Proto: "tcp"}, {Number: 9000, Proto: "tcp"}}
	machine := []netip.Addr{netip.MustParseAddr("192.168.1.5")}
	reg.PutContainers(t,
		publish.Container{Name: "web", Image: "nginx", Exposed: tcp,
			Networks: []publish.Endpoint{zonetest.Endpoint("a", "10.1.0.11/24")},
			Placed: publish.Placed{Outside: &publish.Outside{Addrs: machine, Ports: []publish.PublishedPort{
				{Number: 80, Proto: "tcp", Published: 8080}, {Number: 80, Proto: "tcp", Published: 8081},
			}}}},
		publish.Container{Name: "hosted", Image: "app", Exposed: tcp[:1],
			Placed: publish.Placed{Outside: &publish.Outside{Addrs: machine}}},
	)
	for _, c := range []struct {
		client, qname string
		qtype         uint16
		want          string
	}{
		{"10.1.0.99", "nginx.docker.", dns.TypeA, "NOERROR 10.1.0.11"},
		{"192.0.2.1", "nginx.docker.", dns.TypeA, "NOERROR 192.168.1.5"},
		{"192.0.2.1", "nginx.docker.", dns.TypeAAAA, "NOERROR"},
		{"10.1.0.99", "_80._tcp.nginx.docker.", dns.TypeSRV, "NOERROR web.nginx.docker.80 10.1.0.11"},
		{"10.1.0.99", "_9000._tcp.nginx.docker.", dns.TypeSRV, "NOERROR web.nginx.docker.9000 10.1.0.11"},
		{"192.0.2.1", "_80._tcp.nginx.docker.", dns.TypeSRV, "NOERROR web.nginx.docker.8080 web.nginx.docker.8081 192.168.1.5"},
		{"192.0.2.1", "_9000._tcp.nginx.docker.", dns.TypeSRV, "NOERROR"},
		{"192.0.2.1", "_8080._tcp.nginx.docker.", dns.TypeSRV, "NXDOMAIN"},
		{"192.0.2.1", "_80._tcp.app.docker.", dns.TypeSRV, "NOERROR hosted.app.docker.80 192.168.1.5"},
		{"10.1.0.99", "app.docker.", dns.TypeA, "NOERROR 192.168.1.5"},
		{"10.1.0.1", "nginx.docker.", dns.TypeA, "NOERROR 192.168.1.5"}, // the gateway: the host, or who comes over it
		{"192.0.2.1", "5.1.168.192.in-addr.arpa.", dns.TypePTR, "NXDOMAIN"},
	} {
		if got := answersTo(z, c.client, "", c.qname, c.qtype); got != c.want {
			t.Errorf("%s, %s %s: got %q; want %q", c.client, c.qname, dns.Type(c.qtype), got, c.want)
		}
	}
	r, err := z.Explain(zonetest.Name(t, "nginx.docker"), dns.TypeA, newClientAt("192.0.2.1", ""))
	if err != nil || len(r.Why) != 1 || !strings.Contains(r.Why[0].Rule, "publishes their ports") {
		t.Errorf("explanation: got %+v, %v; want the rule", r, err)
	}
}

// A container on two overlays whose queries come over the bridge to its machine is
// on both: it gets the containers themselves, and others get their machine.
func TestAnswersGuests(t *testing.T) {
	reg := zonetest.New(t, "docker", 0)
	z := newResolver(t, reg)
	port := []publish.Port{{Number: 80, Proto: "tcp"}}
	out := &publish.Outside{Addrs: []netip.Addr{netip.MustParseAddr("192.168.1.5")},
		Ports: []publish.PublishedPort{{Number: 80, Proto: "tcp", Published: 8080}}}
	for i, network := range []string{"a", "b"} {
		addr := "10." + string(rune('1'+i)) + ".0.11/24"
		reg.PutContainers(t, publish.Container{Name: network, Image: "nginx", Exposed: port,
			Placed:   publish.Placed{Outside: out},
			Networks: []publish.Endpoint{zonetest.Endpoint(network, addr)}})
	}
	bridge := netip.MustParseAddr("172.18.0.3")
	for range 2 {
		for qname, want := range map[string]string{
			"a.nginx.docker.": "NOERROR 192.168.1.5", "b.nginx.docker.": "NOERROR 192.168.1.5",
		} {
			if got := answersTo(z, bridge.String(), "", qname, dns.TypeA); got != want {
				t.Errorf("unknown: %s: got %q; want %q", qname, got, want)
			}
		}
		before := reg.Version()
		reg.SetGuests("engine", map[netip.Addr][]netip.Addr{
			bridge: {bridge, netip.MustParseAddr("10.1.0.99"), netip.MustParseAddr("10.2.0.99")},
		})
		if reg.Version() == before || reg.NetworksOf(bridge) == 0 {
			t.Error("kept answers to the client stay after its networks are known")
		}
		for _, c := range []struct {
			qname string
			qtype uint16
			want  string
		}{
			{"a.nginx.docker.", dns.TypeA, "NOERROR 10.1.0.11"},
			{"b.nginx.docker.", dns.TypeA, "NOERROR 10.2.0.11"},
			{"_80._tcp.b.nginx.docker.", dns.TypeSRV, "NOERROR b.nginx.docker.80 10.2.0.11"},
		} {
			if got := answersTo(z, bridge.String(), "", c.qname, c.qtype); got != c.want {
				t.Errorf("guest: %s: got %q; want %q", c.qname, got, c.want)
			}
		}
		r, err := z.Explain(zonetest.Name(t, "a.nginx.docker"), dns.TypeA, newClientAt(bridge.String(), ""))
		if err != nil || len(r.Why) != 1 || !strings.Contains(r.Why[0].Rule, "known by [10.1.0.99 10.2.0.99]") {
			t.Errorf("explanation: got %+v, %v; want how the client is known", r, err)
		}
		reg.SetGuests("engine", nil)
	}
}
