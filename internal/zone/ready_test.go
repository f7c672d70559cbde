package zone

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/zonetest"
)

// Before the engine's first list is done, nobody knows what does not exist.
func TestNotReady(t *testing.T) {
	reg := zonetest.New(t, "docker", 0, pub("web", "nginx", publish.DefaultTTL, "10.0.0.1", "shop.example.com"))
	reg.Ready.Store(false)
	z := newResolver(t, reg)
	const soa = " docker. 0 SOA dnsdock.docker. hostmaster.docker. 7 60 10 604800 0"
	for _, tt := range []struct {
		qname string
		qtype uint16
		want  string
		ede   bool
	}{
		{"redis.docker.", dns.TypeA, "SERVFAIL", true},
		{"redis.docker.", dns.TypeTXT, "SERVFAIL", true},
		{"*.redis.docker.", dns.TypeA, "SERVFAIL", true},
		{"web.nginx.docker.", dns.TypeA, "NOERROR aa; web.nginx.docker. 0 A 10.0.0.1", false},
		{"web.nginx.docker.", dns.TypeTXT, "NOERROR aa;;" + soa, false},
		{"dnsdock.docker.", dns.TypeA, "NOERROR aa; dnsdock.docker. 0 A 127.0.0.1", false},
		{"dnsdock.docker.", dns.TypeTXT, "NOERROR aa;;" + soa, false},
		{"docker.", dns.TypeSOA, "NOERROR aa;" + soa, false},
		{"docker.", dns.TypeNS, "NOERROR aa; docker. 0 NS dnsdock.docker.", false},
		{"example.com.", dns.TypeA, "REFUSED", false},
	} {
		for _, edns := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s %s edns=%t", tt.qname, dns.Type(tt.qtype), edns), func(t *testing.T) {
				req := new(dns.Msg).SetQuestion(tt.qname, tt.qtype)
				if edns {
					req.SetEdns0(1232, false)
				}
				m := reply(z, req, netip.MustParseAddr("127.0.0.1"), dns.MaxMsgSize)
				if got := dnstest.ShowSorted(m); got != tt.want {
					t.Errorf("\ngot  %v;\nwant %v", got, tt.want)
				}
				var got []dns.EDNS0
				if opt := m.IsEdns0(); opt != nil {
					got = opt.Option
				}
				if !edns || !tt.ede {
					if len(got) != 0 {
						t.Errorf("got options %v; want none", got)
					}
					return
				}
				if len(got) != 1 {
					t.Fatalf("got options %v; want one", got)
				}
				if ede, ok := got[0].(*dns.EDNS0_EDE); !ok || ede.InfoCode != 14 {
					t.Errorf("got option %v; want EDE 14", got[0])
				}
			})
		}
	}
	reg.Ready.Store(true)
	m := reply(z, new(dns.Msg).SetQuestion("redis.docker.", dns.TypeA), netip.Addr{}, dns.MaxMsgSize)
	if got, want := dnstest.ShowSorted(m), "NXDOMAIN aa;;"+soa; got != want {
		t.Errorf("once ready: got %v; want %v", got, want)
	}
}

// Our own name is what the names rule finds first.
func TestOwnNameOfContainer(t *testing.T) {
	reg := zonetest.New(t, "docker", 0, pub("mine", "dnsdock", 11, "172.17.0.9", ""))
	for _, tt := range []struct {
		qtype uint16
		want  string
	}{
		{dns.TypeA, "NOERROR aa; dnsdock.docker. 11 A 172.17.0.9"},
		{dns.TypeAAAA, "NOERROR aa;; docker. 0 SOA dnsdock.docker. hostmaster.docker. 7 60 10 604800 0"},
	} {
		for _, local := range []string{"127.0.0.1", "::1"} {
			m := reply(newResolver(t, reg), new(dns.Msg).SetQuestion("dnsdock.docker.", tt.qtype),
				netip.MustParseAddr(local), dns.MaxMsgSize)
			if got := dnstest.ShowSorted(m); got != tt.want {
				t.Errorf("%v at %s: got %v; want %v", dns.Type(tt.qtype), local, got, tt.want)
			}
		}
	}
}

// Our own name is never a CNAME: NS and SOA name it, RFC 2181 section 10.3.
func TestOwnNameIsNoCNAME(t *testing.T) {
	reg := zonetest.New(t, "docker", 0, pub("web", "nginx", 0, "10.0.0.1", ""))
	reg.Publish(t, `{"name":"dnsdock","image":"","cname":"web.nginx.docker"}`)
	m := reply(newResolver(t, reg), new(dns.Msg).SetQuestion("dnsdock.docker.", dns.TypeA),
		netip.MustParseAddr("10.0.0.53"), 512)
	if got, want := dnstest.Show(m), "NOERROR aa; dnsdock.docker. 0 A 10.0.0.53"; got != want {
		t.Errorf("got %v; want %v", got, want)
	}
}

// Types that are no data are never looked up, nor forwarded.
func TestMetaTypes(t *testing.T) {
	z := newResolver(t, zonetest.New(t, "docker", 0))
	for qtype, want := range map[uint16]int{
		dns.TypeOPT: dns.RcodeFormatError, dns.TypeTSIG: dns.RcodeFormatError, dns.TypeTKEY: dns.RcodeNotImplemented,
		dns.TypeMAILA: dns.RcodeNotImplemented, dns.TypeMAILB: dns.RcodeNotImplemented, dns.TypeAXFR: dns.RcodeRefused, dns.TypeIXFR: dns.RcodeRefused,
	} {
		for _, qname := range []string{"docker.", "example.com."} {
			if m := reply(z, new(dns.Msg).SetQuestion(qname, qtype), netip.Addr{}, 512); m.Rcode != want {
				t.Errorf("%s %s: got %s; want %s", qname, dns.Type(qtype), dns.RcodeToString[m.Rcode],
					dns.RcodeToString[want])
			}
		}
	}
}
