package zone

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/index"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/zonetest"
)

// While an engine of a domain is away, or was not listed since, no one knows
// what does not exist in it; what is known is answered.
func TestUnknownWhileAway(t *testing.T) {
	ix := zonetest.WithZones(t, "docker", 0, "b.example")
	ix.Put("web", ix.Service(t, "web", "web", "nginx", "10.0.0.1"))
	z := newResolver(t, ix)
	apex, other := zonetest.Name(t, "docker"), zonetest.Name(t, "b.example")
	known := index.Zone{HasEngine: true, Listed: true}
	away := index.Zone{HasEngine: true, Listed: true, Unknown: true}
	never := index.Zone{HasEngine: true, Unknown: true}
	for _, tt := range []struct {
		what  string
		zones map[dnsname.Name]index.Zone
		want  map[string]string // by name
	}{
		{"all is known", map[dnsname.Name]index.Zone{apex: known, other: known}, map[string]string{
			"web.nginx.docker.": "NOERROR", "no.docker.": "NXDOMAIN", "no.b.example.": "NXDOMAIN", "1.1.1.10.in-addr.arpa.": "NXDOMAIN"}},
		{"one is away", map[dnsname.Name]index.Zone{apex: away, other: known}, map[string]string{
			"web.nginx.docker.": "NOERROR", "nginx.docker.": "NOERROR", "no.docker.": "SERVFAIL", "no.b.example.": "NXDOMAIN",
			"1.1.1.10.in-addr.arpa.": "NXDOMAIN", "dnsdock.docker.": "NOERROR", "x.onion.": "NXDOMAIN"}},
		{"one was never found", map[dnsname.Name]index.Zone{apex: known, other: never}, map[string]string{
			"no.docker.": "NXDOMAIN", "no.b.example.": "SERVFAIL"}},
		{"it is back", map[dnsname.Name]index.Zone{apex: known, other: known}, map[string]string{
			"no.docker.": "NXDOMAIN", "no.b.example.": "NXDOMAIN"}},
	} {
		ix.SetZones(tt.zones, 0)
		for qname, want := range tt.want {
			m := reply(z, new(dns.Msg).SetQuestion(qname, dns.TypeA), netip.MustParseAddr("127.0.0.1"), dns.MaxMsgSize)
			if got := dns.RcodeToString[m.Rcode]; got != want || m.Authoritative != (want != "SERVFAIL") {
				t.Errorf("%s: %s: got %s; want %s", tt.what, qname, dnstest.Show(m), want)
			}
		}
	}
}

// A name that several containers may have is not answered from a list that is
// read by halves.
func TestSharedWhileListing(t *testing.T) {
	ix := zonetest.New(t, "docker", 0)
	for i := range 3 {
		id := fmt.Sprint("web", i)
		s := ix.Service(t, id, id, "nginx", fmt.Sprintf("10.0.0.%d", i+1), "shop.example.com")
		s.Ports = []publish.Port{{Number: 80, Proto: "tcp"}}
		ix.Put(id, s)
	}
	z := newResolver(t, ix)
	ask := func(qname string, qtype uint16) string {
		m := reply(z, new(dns.Msg).SetQuestion(qname, qtype), netip.MustParseAddr("127.0.0.1"), dns.MaxMsgSize)
		return fmt.Sprint(dns.RcodeToString[m.Rcode], " ", len(m.Answer))
	}
	listing := map[dnsname.Name]index.Zone{zonetest.Name(t, "docker"): {HasEngine: true, Waits: true, Unknown: true}}
	done := map[dnsname.Name]index.Zone{zonetest.Name(t, "docker"): {HasEngine: true, Listed: true}}
	for _, tt := range []struct {
		qname       string
		qtype       uint16
		while, then string
	}{
		{"nginx.docker.", dns.TypeA, "SERVFAIL 0", "NOERROR 3"},
		{"nginx.docker.", dns.TypeAAAA, "SERVFAIL 0", "NOERROR 0"},
		{"nginx.docker.", dns.TypeTXT, "SERVFAIL 0", "NOERROR 0"},
		{"docker.", dns.TypeA, "SERVFAIL 0", "NOERROR 3"},
		{"*.nginx.docker.", dns.TypeA, "SERVFAIL 0", "NOERROR 3"},
		{"*.docker.", dns.TypeA, "SERVFAIL 0", "NOERROR 3"},
		{"_80._tcp.nginx.docker.", dns.TypeSRV, "SERVFAIL 0", "NOERROR 3"},
		{"shop.example.com.", dns.TypeA, "SERVFAIL 0", "NOERROR 3"},
		{"web1.nginx.docker.", dns.TypeA, "NOERROR 1", "NOERROR 1"},
		{"x.web1.nginx.docker.", dns.TypeA, "NOERROR 1", "NOERROR 1"},
		{"_80._tcp.web1.nginx.docker.", dns.TypeSRV, "NOERROR 1", "NOERROR 1"},
		{"nosuch.docker.", dns.TypeA, "SERVFAIL 0", "NXDOMAIN 0"},
		{"docker.", dns.TypeSOA, "NOERROR 1", "NOERROR 1"},
		{"docker.", dns.TypeNS, "NOERROR 1", "NOERROR 1"},
		{"dnsdock.docker.", dns.TypeA, "NOERROR 1", "NOERROR 1"},
		{"2.0.0.10.in-addr.arpa.", dns.TypePTR, "NOERROR 2", "NOERROR 2"},
	} {
		ix.SetZones(listing, 0)
		if got := ask(tt.qname, tt.qtype); got != tt.while {
			t.Errorf("%s %v while the list is read: got %s; want %s", tt.qname, dns.Type(tt.qtype), got, tt.while)
		}
		ix.SetZones(done, 0)
		if got := ask(tt.qname, tt.qtype); got != tt.then {
			t.Errorf("%s %v then: got %s; want %s", tt.qname, dns.Type(tt.qtype), got, tt.then)
		}
	}
}
