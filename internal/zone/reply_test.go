package zone

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/zonetest"
)

func TestReply(t *testing.T) {
	reg := zonetest.New(t, "docker", 60,
		pub("redis1", "redis", 30, "172.17.0.2 fd00::2", "db.docker shop.example.com"),
		pub("redis2", "redis", 20, "172.17.0.3 172.17.0.2", "db.docker"),
		pub("web", "nginx", publish.DefaultTTL, "172.17.0.4", "org box"),
		pub("v6", "only", 0, "fd00::6", ""),
		pub("under_score", "a.b", publish.DefaultTTL, "172.17.0.7", "deep.er.example.net"),
	)
	const (
		soa     = " docker. 5 SOA dnsdock.docker. hostmaster.docker. 7 60 10 604800 5"
		noData  = "NOERROR aa;;" + soa
		unknown = "NXDOMAIN aa;;" + soa
		foreign = "REFUSED"

		soa17    = " 17.172.in-addr.arpa. 5 SOA dnsdock.docker. hostmaster.17.172.in-addr.arpa. 7 60 10 604800 5"
		unknown6 = "NXDOMAIN aa;; d.f.ip6.arpa. 5 SOA dnsdock.docker. hostmaster.d.f.ip6.arpa. 7 60 10 604800 5"
		hinfo    = ` 60 HINFO "RFC8482" ""`
	)
	ip6 := func(digits string) string {
		return strings.Repeat("0.", 32-4-len(digits)) + strings.Join(strings.Split(digits, ""),
			".") + ".0.0.d.f.ip6.arpa."
	}
	last6 := "2." + strings.Repeat("0.", 27) + "0.0.d.f.ip6.arpa."
	for _, tt := range []struct{ qname, qtype, want string }{
		{"redis1.redis.docker.", "A", "NOERROR aa; redis1.redis.docker. 30 A 172.17.0.2"},
		{"redis1.redis.docker.", "AAAA", "NOERROR aa; redis1.redis.docker. 30 AAAA fd00::2"},
		{"redis2.redis.docker.", "AAAA", noData},
		{"redis.docker.", "A", "NOERROR aa; redis.docker. 20 A 172.17.0.2, redis.docker. 20 A 172.17.0.3"},
		{"db.docker.", "A", "NOERROR aa; db.docker. 20 A 172.17.0.2, db.docker. 20 A 172.17.0.3"},
		{"docker.", "AAAA", "NOERROR aa; docker. 0 AAAA fd00::2, docker. 0 AAAA fd00::6"},
		{"web.nginx.docker.", "A", "NOERROR aa; web.nginx.docker. 60 A 172.17.0.4"},
		{"x.y.web.nginx.docker.", "A", "NOERROR aa; x.y.web.nginx.docker. 60 A 172.17.0.4"},
		{"under_score.a.b.docker.", "A", "NOERROR aa; under_score.a.b.docker. 60 A 172.17.0.7"},
		{"b.docker.", "A", "NOERROR aa; b.docker. 60 A 172.17.0.7"},
		{"a.docker.", "A", unknown},
		{"v6.only.docker.", "A", "NOERROR aa;;" + soa},
		{"v6.only.docker.", "AAAA", "NOERROR aa; v6.only.docker. 0 AAAA fd00::6"},
		// The case of the question comes back (0x20), whatever we store.
		{"ReDiS1.rEdIs.DOCKER.", "A", "NOERROR aa; ReDiS1.rEdIs.DOCKER. 30 A 172.17.0.2"},
		{"X.Shop.EXAMPLE.com.", "A", "NOERROR aa; X.Shop.EXAMPLE.com. 30 A 172.17.0.2"},
		// No such name, no such type.
		{"redis3.redis.docker.", "A", unknown},
		{"redis3.redis.docker.", "ANY", unknown},
		{"redis3.redis.docker.", "SOA", unknown},
		{"nginx.web.docker.", "A", unknown},
		{"redis1.docker.", "A", unknown},
		{"web.nginx.docker.", "TXT", noData},
		{"web.nginx.docker.", "CNAME", noData},
		{"web.nginx.docker.", "SRV", noData},
		{"web.nginx.docker.", "DS", noData},
		{"web.nginx.docker.", "NS", noData},
		{"web.nginx.docker.", "SOA", noData},
		{"web.nginx.docker.", "PTR", noData},
		{"web.nginx.docker.", "TYPE65280", noData},
		{"web.nginx.docker.", "HTTPS", noData},
		{"docker.", "TXT", noData},
		// MX: preference 0, the name itself.
		{"Web.nginx.docker.", "MX", "NOERROR aa; Web.nginx.docker. 60 MX 0 Web.nginx.docker."},
		{"redis.docker.", "MX", "NOERROR aa; redis.docker. 20 MX 0 redis.docker."},
		{"nobody.docker.", "MX", unknown},
		// SOA and NS at the apex only.
		{"docker.", "SOA", "NOERROR aa;" + soa},
		{"DOCKER.", "SOA", "NOERROR aa;" + strings.ReplaceAll(soa, "docker.", "DOCKER.")},
		{"docker.", "NS", "NOERROR aa; docker. 60 NS dnsdock.docker."},
		{"redis.docker.", "NS", noData},
		{"redis.docker.", "SOA", noData},
		{"shop.example.com.", "SOA", "NOERROR aa;; shop.example.com. 5 SOA dnsdock.docker. hostmaster.shop.example.com. 7 60 10 604800 5"},
		{"shop.example.com.", "NS", "NOERROR aa;; shop.example.com. 5 SOA dnsdock.docker. hostmaster.shop.example.com. 7 60 10 604800 5"},
		// ANY gets a minimal answer.
		{"redis.docker.", "ANY", "NOERROR aa; redis.docker." + hinfo},
		{"docker.", "ANY", "NOERROR aa; docker." + hinfo},
		{"2.0.17.172.in-addr.arpa.", "ANY", "NOERROR aa; 2.0.17.172.in-addr.arpa." + hinfo},
		// Reverse names.
		{"4.0.17.172.in-addr.arpa.", "PTR", "NOERROR aa; 4.0.17.172.in-addr.arpa. 60 PTR web.nginx.docker., 4.0.17.172.in-addr.arpa. 60 PTR org., 4.0.17.172.in-addr.arpa. 60 PTR box."},
		{"7.0.17.172.IN-ADDR.arpa.", "PTR", "NOERROR aa; 7.0.17.172.IN-ADDR.arpa. 60 PTR under_score.a.b.docker., 7.0.17.172.IN-ADDR.arpa. 60 PTR deep.er.example.net."},
		{ip6("6"), "PTR", unknown6}, // a digit at the wrong end
		{last6, "PTR", "NOERROR aa; " + last6 + " 30 PTR redis1.redis.docker., " + last6 + " 30 PTR shop.example.com., " + last6 + " 30 PTR db.docker."},
		{strings.ToUpper(last6), "AAAA", strings.NewReplacer("NXDOMAIN", "NOERROR", "d.f.ip6.arpa.",
			"D.F.IP6.ARPA.").Replace(unknown6)},
		{"4.0.17.172.in-addr.arpa.", "A", "NOERROR aa;;" + soa17},
		{"4.0.17.172.in-addr.arpa.", "SOA", "NOERROR aa;;" + soa17},
		{"99.0.17.172.in-addr.arpa.", "PTR", "NXDOMAIN aa;;" + soa17},
		{"x.4.0.17.172.in-addr.arpa.", "PTR", "NXDOMAIN aa;;" + soa17},
		{"0.17.172.in-addr.arpa.", "PTR", "NOERROR aa;;" + soa17},
		{"04.0.17.172.in-addr.arpa.", "PTR", "NXDOMAIN aa;;" + soa17},
		{"in-addr.arpa.", "PTR", foreign},
		// Our own name.
		{"dnsdock.docker.", "A", "NOERROR aa; dnsdock.docker. 60 A 127.0.0.1"},
		{"DNSdock.docker.", "A", "NOERROR aa; DNSdock.docker. 60 A 127.0.0.1"},
		{"dnsdock.docker.", "AAAA", noData},
		{"dnsdock.docker.", "TXT", noData},
		{"dnsdock.docker.", "ANY", "NOERROR aa; dnsdock.docker." + hinfo},
		{"dnsdock.example.com.", "A", foreign},
		// A star matches any one label, anywhere.
		{"*.redis.docker.", "A", "NOERROR aa; *.redis.docker. 20 A 172.17.0.2, *.redis.docker. 20 A 172.17.0.3"},
		{"redis1.*.docker.", "A", "NOERROR aa; redis1.*.docker. 20 A 172.17.0.2, redis1.*.docker. 20 A 172.17.0.3"}, // and redis2, as db.docker
		{"web.*.docker.", "AAAA", "NOERROR aa; web.*.docker. 20 AAAA fd00::2"},
		{"x.*.redis.docker.", "AAAA", "NOERROR aa; x.*.redis.docker. 20 AAAA fd00::2"},
		{"*.nobody.docker.", "A", unknown},
		{"*.docker.", "AAAA", "NOERROR aa; *.docker. 0 AAAA fd00::2, *.docker. 0 AAAA fd00::6"},
		{"*.*.*.*.docker.", "AAAA", "NOERROR aa; *.*.*.*.docker. 0 AAAA fd00::2, *.*.*.*.docker. 0 AAAA fd00::6"},
		{"*.example.com.", "A", foreign},
		{"*.shop.example.com.", "A", "NOERROR aa; *.shop.example.com. 30 A 172.17.0.2"},
		// Aliases outside the domain, and what is above and beside them.
		{"shop.example.com.", "A", "NOERROR aa; shop.example.com. 30 A 172.17.0.2"},
		{"shop.example.com.", "TXT", "NOERROR aa;; shop.example.com. 5 SOA dnsdock.docker. hostmaster.shop.example.com. 7 60 10 604800 5"},
		{"www.shop.example.com.", "TXT", "NOERROR aa;; shop.example.com. 5 SOA dnsdock.docker. hostmaster.shop.example.com. 7 60 10 604800 5"},
		{"www.shop.example.com.", "A", "NOERROR aa; www.shop.example.com. 30 A 172.17.0.2"},
		{"shop2.example.com.", "A", foreign},
		{"example.com.", "A", foreign},
		{"example.net.", "A", foreign},
		{"er.example.net.", "A", foreign},
		// An alias of one label answers itself only.
		{"org.", "A", "NOERROR aa; org. 60 A 172.17.0.4"},
		{"org.", "AAAA", "NOERROR aa;; org. 5 SOA dnsdock.docker. hostmaster.org. 7 60 10 604800 5"},
		{"www.org.", "A", foreign},
		{"BOX.", "A", "NOERROR aa; BOX. 60 A 172.17.0.4"},
		{"x.box.", "A", foreign},
		// Foreign.
		{".", "NS", foreign},
		{".", "A", foreign},
		{"net.", "A", foreign},
		{"xdocker.", "A", foreign},
		{"docker.com.", "A", foreign},
		{"docker.", "AXFR", foreign},
		{"docker.", "IXFR", foreign},
		{"example.org.", "AXFR", foreign},
	} {
		t.Run(tt.qname+" "+tt.qtype, func(t *testing.T) {
			qtype, ok := dns.StringToType[tt.qtype]
			if !ok {
				qtype = 65280
			}
			req := new(dns.Msg).SetQuestion(tt.qname, qtype)
			m := reply(newResolver(t, reg), req, netip.MustParseAddr("127.0.0.1"), dns.MaxMsgSize)
			got := dnstest.ShowSorted(m)
			if tt.qtype == "PTR" { // there the order counts
				got = dnstest.Show(m)
			}
			if want := strings.TrimRight(tt.want, ",;"); got != want {
				t.Errorf("\ngot  %v;\nwant %v", got, want)
			}
			if !m.Response || m.Id != req.Id || !slices.Equal(m.Question, req.Question) {
				t.Errorf("got a reply with header %v and question %v; want QR, id %d and %v", m.MsgHdr, m.Question,
					req.Id, req.Question)
			}
			if !m.RecursionDesired {
				t.Error("got RD clear; want it copied")
			}
			if m.IsEdns0() != nil {
				t.Error("got OPT; want none, as none was sent")
			}
		})
	}
}

func TestPTRMostSpecificFirst(t *testing.T) {
	reg := zonetest.New(t, "dev.docker.example.com", 9,
		pub("", "redis", 4, "10.0.0.1", "db.docker.example.com short"),
		pub("a.b.c", "redis", 3, "10.0.0.1", "db.docker.example.com"),
	)
	const want = "NOERROR aa; 1.0.0.10.in-addr.arpa. 3 PTR a.b.c.redis.dev.docker.example.com.," +
		" 1.0.0.10.in-addr.arpa. 3 PTR redis.dev.docker.example.com.," +
		" 1.0.0.10.in-addr.arpa. 3 PTR db.docker.example.com.," +
		" 1.0.0.10.in-addr.arpa. 3 PTR short."
	m := reply(newResolver(t, reg), new(dns.Msg).SetQuestion("1.0.0.10.in-addr.arpa.", dns.TypePTR), netip.Addr{},
		dns.MaxMsgSize)
	if got := dnstest.Show(m); got != want {
		t.Errorf("\ngot  %v;\nwant %v", got, want)
	}
}

// An environment and a domain of several labels make the apex: what is
// beside or above it is foreign.
func TestReplyApex(t *testing.T) {
	for _, tt := range []struct{ apex, qname, want string }{
		{"dev.docker", "redis.dev.docker.", "NOERROR aa; redis.dev.docker. 0 A 10.0.0.1"},
		{"dev.docker", "dev.docker.", "NOERROR aa; dev.docker. 0 A 10.0.0.1"},
		{"dev.docker", "dnsdock.dev.docker.", "NOERROR aa; dnsdock.dev.docker. 0 A 127.0.0.1"},
		{"dev.docker", "docker.", "REFUSED"},
		{"dev.docker", "redis.docker.", "REFUSED"},
		{"dev.docker", "redis.prod.docker.", "REFUSED"},
		{"dev.docker", "x.dev.docker.", "NXDOMAIN aa;; dev.docker. 0 SOA dnsdock.dev.docker. hostmaster.dev.docker. 7 60 10 604800 0"},
		{"docker.example.com", "one.redis.docker.example.com.", "NOERROR aa; one.redis.docker.example.com. 0 A 10.0.0.1"},
		{"docker.example.com", "example.com.", "REFUSED"},
		{"docker.example.com", "docker.", "REFUSED"},
	} {
		t.Run(tt.apex+" "+tt.qname, func(t *testing.T) {
			z := newResolver(t, zonetest.New(t, tt.apex, 0, pub("one", "redis", publish.DefaultTTL, "10.0.0.1", "")))
			m := reply(z, new(dns.Msg).SetQuestion(tt.qname, dns.TypeA), netip.MustParseAddr("127.0.0.1"),
				dns.MaxMsgSize)
			if got := dnstest.ShowSorted(m); got != tt.want {
				t.Errorf("\ngot  %v;\nwant %v", got, tt.want)
			}
		})
	}
}

// What is not known may come up any moment: it is cached for -ttl, and never
// for more than some seconds.
func TestNegativeTTL(t *testing.T) {
	for _, tt := range []struct{ ttl, want uint32 }{{0, 0}, {3, 3}, {5, 5}, {6, 5}, {publish.MaxTTL, 5}} {
		reg := zonetest.New(t, "docker", tt.ttl, pub("web", "nginx", 99, "10.0.0.1", ""))
		for _, qname := range []string{"unknown.docker.", "web.nginx.docker."} {
			m := reply(newResolver(t, reg), new(dns.Msg).SetQuestion(qname, dns.TypeTXT), netip.Addr{}, dns.MaxMsgSize)
			soa, ok := append(m.Ns, nil)[0].(*dns.SOA)
			if !ok || soa.Hdr.Ttl != tt.want || soa.Minttl != tt.want {
				t.Errorf("-ttl=%d: %s: got %v; want a SOA with TTL and minimum %d", tt.ttl, qname, dnstest.Show(m),
					tt.want)
			}
		}
	}
}

// The serial grows with each change, so that a secondary or a cache sees it.
func TestSerialGrows(t *testing.T) {
	reg := zonetest.New(t, "docker", 0, pub("web", "nginx", 99, "10.0.0.1", ""))
	z := newResolver(t, reg)
	serial := func() uint32 {
		m := reply(z, new(dns.Msg).SetQuestion("docker.", dns.TypeSOA), netip.Addr{}, dns.MaxMsgSize)
		return m.Answer[0].(*dns.SOA).Serial
	}
	last := serial()
	for _, change := range []struct {
		what string
		f    func()
	}{
		{"default TTL", func() { reg.SetTTL(7) }},
		{"put", func() { reg.Put("0000", nil) }},
	} {
		change.f()
		if now := serial(); now <= last {
			t.Errorf("after %s: got serial %d; want more than %d", change.what, now, last)
		} else {
			last = now
		}
	}
	if now := serial(); now != last {
		t.Errorf("with no change: got serial %d; want %d", now, last)
	}
}

func TestRotation(t *testing.T) {
	const addrs = "10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4"
	z := newResolver(t, zonetest.New(t, "docker", 0, pub("web", "nginx", 0, addrs, "")))
	first := make(map[string]bool)
	for range 500 { // a fair one leaves an address out once in 10^62 runs
		// A and AAAA in turn, as getaddrinfo asks.
		reply(z, new(dns.Msg).SetQuestion("web.nginx.docker.", dns.TypeAAAA), netip.Addr{}, dns.MaxMsgSize)
		m := reply(z, new(dns.Msg).SetQuestion("web.nginx.docker.", dns.TypeA), netip.Addr{}, dns.MaxMsgSize)
		if got := len(m.Answer); got != 4 {
			t.Fatalf("got %d addresses; want 4", got)
		}
		first[m.Answer[0].(*dns.A).A.String()] = true
	}
	if len(first) != 4 {
		t.Errorf("got only %v in the first place; want each of %s", first, addrs)
	}
}
