package zone

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/zonetest"
)

// Names that no site shares are answered here.
func TestLocalZones(t *testing.T) {
	z := newResolver(t, zonetest.New(t, "docker", 60, pub("web", "nginx", 0, "10.0.0.1 fe80::1", "")))
	soa := func(top string) string {
		return fmt.Sprintf(" %s 5 SOA dnsdock.docker. hostmaster.%s 7 60 10 604800 5", top, top)
	}
	zeros := strings.Repeat("0.", 31)
	for _, tt := range []struct{ qname, qtype, want string }{
		{"localhost.", "A", "NOERROR aa; localhost. 60 A 127.0.0.1"},
		{"LocalHost.", "AAAA", "NOERROR aa; LocalHost. 60 AAAA ::1"},
		{"x.y.localhost.", "A", "NOERROR aa; x.y.localhost. 60 A 127.0.0.1"},
		{"localhost.", "MX", "NOERROR aa;;" + soa("localhost.")},
		{"invalid.", "A", "NOERROR aa;;" + soa("invalid.")},
		{"x.invalid.", "A", "NXDOMAIN aa;;" + soa("invalid.")},
		{"x.onion.", "AAAA", "NXDOMAIN aa;;" + soa("onion.")},
		{"onion.", "SOA", "NOERROR aa;" + soa("onion.")},
		{"notonion.", "A", "REFUSED"},
		{"10.in-addr.arpa.", "SOA", "NOERROR aa;" + soa("10.in-addr.arpa.")},
		{"0.0.10.in-addr.arpa.", "PTR", "NOERROR aa;;" + soa("10.in-addr.arpa.")}, // 10.0.0.1 is below
		{"1.0.10.in-addr.arpa.", "PTR", "NXDOMAIN aa;;" + soa("10.in-addr.arpa.")},
		{"2.0.0.10.in-addr.arpa.", "PTR", "NXDOMAIN aa;;" + soa("10.in-addr.arpa.")},
		{"1.0.0.127.in-addr.arpa.", "PTR", "NOERROR aa; 1.0.0.127.in-addr.arpa. 60 PTR localhost."},
		{"1.0.0.127.in-addr.arpa.", "A", "NOERROR aa;;" + soa("127.in-addr.arpa.")},
		{"1.0.0.127.in-addr.arpa.", "AAAA", "NOERROR aa;;" + soa("127.in-addr.arpa.")},
		{"0.0.127.in-addr.arpa.", "PTR", "NOERROR aa;;" + soa("127.in-addr.arpa.")}, // 127.0.0.1 is below
		{"0.127.in-addr.arpa.", "PTR", "NOERROR aa;;" + soa("127.in-addr.arpa.")},
		{"2.0.0.127.in-addr.arpa.", "PTR", "NXDOMAIN aa;;" + soa("127.in-addr.arpa.")},
		{"x.1.0.0.127.in-addr.arpa.", "PTR", "NXDOMAIN aa;;" + soa("127.in-addr.arpa.")},
		{"local.", "A", "NOERROR aa;;" + soa("local.")},
		{"printer.LOCAL.", "A", "NXDOMAIN aa;;" + soa("LOCAL.")},
		{"_ipp._tcp.local.", "PTR", "NXDOMAIN aa;;" + soa("local.")},
		{"xlocal.", "A", "REFUSED"},
		{"home.arpa.", "SOA", "NOERROR aa;" + soa("home.arpa.")},
		{"nas.home.arpa.", "AAAA", "NXDOMAIN aa;;" + soa("home.arpa.")},
		{"nas.home.arpa.", "DS", "NXDOMAIN aa;;" + soa("home.arpa.")},
		{"home.arpa.", "DS", "NOERROR aa;;" + soa("home.arpa.")}, // without upstreams
		{"x.default.service.arpa.", "A", "NXDOMAIN aa;;" + soa("service.arpa.")},
		{"x.alt.", "A", "NXDOMAIN aa;;" + soa("alt.")},
		{"resolver.arpa.", "SVCB", "NOERROR aa;;" + soa("resolver.arpa.")},
		{"_dns.resolver.arpa.", "SVCB", "NOERROR aa;;" + soa("resolver.arpa.")},
		{"_dns.resolver.arpa.", "A", "NOERROR aa;;" + soa("resolver.arpa.")},
		{"x.resolver.arpa.", "HTTPS", "NOERROR aa;;" + soa("resolver.arpa.")},
		{"arpa.", "A", "REFUSED"},
		{"1.1.16.172.in-addr.arpa.", "PTR", "NXDOMAIN aa;;" + soa("16.172.in-addr.arpa.")},
		{"1.1.31.172.in-addr.arpa.", "PTR", "NXDOMAIN aa;;" + soa("31.172.in-addr.arpa.")},
		{"1.1.32.172.in-addr.arpa.", "PTR", "REFUSED"},
		{"1.1.15.172.in-addr.arpa.", "PTR", "REFUSED"},
		{"172.in-addr.arpa.", "PTR", "REFUSED"},
		{"1.1.168.192.in-addr.arpa.", "PTR", "NXDOMAIN aa;;" + soa("168.192.in-addr.arpa.")},
		{"1.1.64.100.in-addr.arpa.", "PTR", "NXDOMAIN aa;;" + soa("64.100.in-addr.arpa.")},
		{"1.1.128.100.in-addr.arpa.", "PTR", "REFUSED"},
		{"1.0." + zeros[:56] + "8.e.f.ip6.arpa.", "PTR", "NXDOMAIN aa;;" + soa("8.e.f.ip6.arpa.")},
		{"0." + zeros + "ip6.arpa.", "PTR", "NOERROR aa;;" + soa("0."+zeros+"ip6.arpa.")},
		{"1." + zeros + "ip6.arpa.", "PTR", "NOERROR aa; 1." + zeros + "ip6.arpa. 60 PTR localhost."},
		{"1." + zeros + "ip6.arpa.", "AAAA", "NOERROR aa;;" + soa("1."+zeros+"ip6.arpa.")},
		{"1.8.b.d.0.1.0.0.2.ip6.arpa.", "PTR", "NXDOMAIN aa;;" + soa("8.b.d.0.1.0.0.2.ip6.arpa.")},
		{"1.9.b.d.0.1.0.0.2.ip6.arpa.", "PTR", "REFUSED"},
	} {
		t.Run(tt.qname+" "+tt.qtype, func(t *testing.T) {
			m := reply(z, new(dns.Msg).SetQuestion(tt.qname, dns.StringToType[tt.qtype]), netip.Addr{}, dns.MaxMsgSize)
			if got := dnstest.ShowSorted(m); got != tt.want {
				t.Errorf("\ngot  %v;\nwant %v", got, tt.want)
			}
		})
	}
	z.Reg.Ready.Store(false)
	if got := dnstest.ShowSorted(reply(z, new(dns.Msg).SetQuestion("x.onion.", dns.TypeA), netip.Addr{},
		512)); !strings.HasPrefix(got, "NXDOMAIN") {
		t.Errorf("x.onion before the first list: got %v; want NXDOMAIN", got)
	}
	if got := dnstest.ShowSorted(reply(z, new(dns.Msg).SetQuestion("2.0.0.10.in-addr.arpa.", dns.TypePTR),
		netip.Addr{}, 512)); got != "SERVFAIL" {
		t.Errorf("2.0.0.10.in-addr.arpa before the first list: got %v; want SERVFAIL", got)
	}
}

// What is above a name that exists exists too, in local zones as elsewhere.
func TestNamesAboveInLocalZones(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	up := []forward.Server{{Addr: netip.MustParseAddrPort("192.0.2.53:53")}} // is not asked
	routed := forward.Routes{zonetest.Name(t, "a.b.onion"): up, zonetest.Name(t, "5.1.168.192.in-addr.arpa"): up}
	fwd := forward.New(routed, nil, 0, log)
	if err := fwd.Load(); err != nil {
		t.Fatal(err)
	}
	z := New(t.Context(), zonetest.New(t, "dev.corp.invalid", 60).Index, fwd, log)
	for qname, want := range map[string]int{
		"corp.invalid.": dns.RcodeSuccess, "xcorp.invalid.": dns.RcodeNameError, "x.dev.corp.invalid.": dns.RcodeNameError,
		"b.onion.": dns.RcodeSuccess, "c.b.onion.": dns.RcodeNameError,
		"1.168.192.in-addr.arpa.": dns.RcodeSuccess, "2.168.192.in-addr.arpa.": dns.RcodeNameError,
	} {
		if m, a := decided(z, new(dns.Msg).SetQuestion(qname, dns.TypeA),
			Client{Size: 512}); m.Rcode != want || len(m.Answer) > 0 || a.IsOpen() {
			t.Errorf("%s: got %v, left %v; want %s and no data", qname, dnstest.Show(m), a.IsOpen(),
				dns.RcodeToString[want])
		}
	}
}

// What is above the domain of an engine exists, whatever is in that (RFC 8020).
func TestNamesAboveZones(t *testing.T) {
	z := newResolver(t, zonetest.WithZones(t, "docker", 60, "b.c.docker"))
	for qname, want := range map[string]string{"c.docker.": "NOERROR", "b.c.docker.": "NOERROR",
		"d.docker.": "NXDOMAIN", "x.b.c.docker.": "NXDOMAIN"} {
		if got := answersTo(z, "192.0.2.1", "", qname, dns.TypeA); got != want {
			t.Errorf("%s: got %q; want %q", qname, got, want)
		}
	}
}
