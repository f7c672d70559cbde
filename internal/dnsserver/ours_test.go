package dnsserver

import (
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/zone"
	"github.com/rayje/dnsdock/internal/zonetest"
)

func TestForwardedNames(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	up := dnstest.StartUpstream(t, func(q *dns.Msg, _ netip.AddrPort) [][]byte {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, q.Question[0].Name)
		return [][]byte{dnstest.AnswerTo(t, q, dnstest.Rcode(dns.RcodeNameError))}
	}, nil)
	for _, ready := range []bool{false, true} {
		r := uncached(t, up)
		ix := zonetest.New(t, "dev.docker", 5, pub("web", "nginx", 0, "10.0.0.1 fd00::1", "shop.example.com com"))
		r = rigWith(t, ix, r.fwd)
		ix.Ready.Store(ready)
		for _, tt := range []struct {
			qname     string
			forwarded bool
		}{
			{"web.nginx.dev.docker.", false},
			{"unknown.dev.docker.", false},
			{"DEV.Docker.", false},
			{"dnsdock.dev.docker.", false},
			{"*.unknown.dev.docker.", false},
			{"shop.example.com.", false},
			{"www.shop.example.com.", false},
			{"com.", false},
			{"1.0.0.10.in-addr.arpa.", false},
			{"1." + strings.Repeat("0.", 27) + "0.0.d.f.ip6.arpa.", false},
			{"2.0.0.10.in-addr.arpa.", false},
			{"2." + strings.Repeat("0.", 27) + "0.0.d.f.ip6.arpa.", false},
			{"0.0.10.in-addr.arpa.", false},
			{"localhost.", false},
			{"x.onion.", false},
			{"9.9.9.9.in-addr.arpa.", true},
			{"9.9.9.in-addr.arpa.", true},
			{"in-addr.arpa.", true},
			{"example.com.", true},
			{"docker.", false},
			{"printer.", true}, // NS of it, and no more
			{"www.test.", false},
			{"web.nginx.docker.", true},
			{".", true},
			{"a\\.b\\000\\200.example.com.", true},
		} {
			for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypePTR, dns.TypeTXT, dns.TypeANY,
				dns.TypeSOA, dns.TypeNS, dns.TypeDS, dns.TypeMX} {
				mu.Lock()
				asked = nil
				mu.Unlock()
				r.reply(new(dns.Msg).SetQuestion(tt.qname, qtype), netip.MustParseAddr("127.0.0.1"), 512)
				mu.Lock()
				isOfTLD := slices.Contains([]uint16{dns.TypeNS, dns.TypeSOA, dns.TypeDS, dns.TypeDNSKEY}, qtype)
				// Their DS is in the zone above.
				isTop := slices.Contains([]string{"DEV.Docker.", "shop.example.com.", "com.", "localhost."}, tt.qname)
				want := tt.forwarded || tt.qname == "docker." && isOfTLD || isTop && qtype == dns.TypeDS
				forwarded := len(asked) == 1 && strings.EqualFold(asked[0], tt.qname)
				if forwarded != want || !forwarded && len(asked) > 0 {
					t.Errorf("%s %s, ready %t: upstream was asked %q; want forwarded %t",
						tt.qname, dns.Type(qtype), ready, asked, want)
				}
				mu.Unlock()
			}
		}
		for _, req := range []*dns.Msg{
			new(dns.Msg).SetAxfr("example.com."),
			new(dns.Msg).SetIxfr("example.com.", 1, "ns.example.com.", "host.example.com."),
			{Question: []dns.Question{{Name: "version.bind.", Qtype: dns.TypeTXT, Qclass: dns.ClassCHAOS}}},
		} {
			mu.Lock()
			asked = nil
			mu.Unlock()
			m := r.reply(req, netip.Addr{}, 512)
			mu.Lock()
			if len(asked) != 0 || m.Rcode != dns.RcodeRefused {
				t.Errorf("%v: got %v, and the upstream was asked %q; want REFUSED and nothing",
					req.Question, dnstest.Show(m), asked)
			}
			mu.Unlock()
		}
	}
}

func TestRoutes(t *testing.T) {
	to := func(a string) forward.Server {
		return forward.Server{Addr: dnstest.StartUpstream(t, dnstest.Answer(t, dnstest.Address(a)), nil)}
	}
	log := slog.New(slog.DiscardHandler)
	first := forward.Server{Addr: dnstest.StartUpstream(t, nil, nil)}
	f := forward.New(forward.Routes{
		dnsname.Root:                             {to("192.0.2.1")},
		zonetest.Name(t, "corp.example"):         {first, to("192.0.2.2")},
		zonetest.Name(t, "a.corp.example"):       {to("192.0.2.3")},
		zonetest.Name(t, "blocked.test"):         nil,
		zonetest.Name(t, "10.in-addr.arpa"):      {to("192.0.2.4")},
		zonetest.Name(t, "5.10.in-addr.arpa"):    nil,
		zonetest.Name(t, "onion"):                {to("192.0.2.5")},
		zonetest.Name(t, "shop.example.com"):     {to("192.0.2.6")},
		zonetest.Name(t, "168.192.in-addr.arpa"): nil,
	}, nil, 0, log)
	if err := f.Load(); err != nil {
		t.Fatal(err)
	}
	r := rigWith(t, zonetest.New(t, "docker", 5, pub("web", "nginx", 0, "10.0.0.1 10.5.0.1", "shop.example.com")), f)
	for qname, want := range map[string]string{
		"example.com.":              "NOERROR ra; example.com. 77 A 192.0.2.1",
		"corp.example.":             "NOERROR ra; corp.example. 77 A 192.0.2.2",
		"x.Corp.Example.":           "NOERROR ra; x.Corp.Example. 77 A 192.0.2.2",
		"xcorp.example.":            "NOERROR ra; xcorp.example. 77 A 192.0.2.1",
		"b.a.corp.example.":         "NOERROR ra; b.a.corp.example. 77 A 192.0.2.3",
		"x.blocked.test.":           "REFUSED ra",
		"2.0.0.10.in-addr.arpa.":    "NOERROR ra; 2.0.0.10.in-addr.arpa. 77 A 192.0.2.4",
		"10.in-addr.arpa.":          "NOERROR ra; 10.in-addr.arpa. 77 A 192.0.2.4",
		"1.0.0.10.in-addr.arpa.":    "NOERROR aa ra;; 1.0.0.10.in-addr.arpa. 5 SOA dnsdock.docker. hostmaster.1.0.0.10.in-addr.arpa. 7 60 10 604800 5", // a container's
		"2.0.5.10.in-addr.arpa.":    "REFUSED ra",
		"1.1.168.192.in-addr.arpa.": "REFUSED ra",
		"x.onion.":                  "NOERROR ra; x.onion. 77 A 192.0.2.5",
		"x.shop.example.com.":       "NOERROR aa ra; x.shop.example.com. 0 A 10.0.0.1, x.shop.example.com. 0 A 10.5.0.1",
		"1.16.172.in-addr.arpa.":    "NXDOMAIN aa ra;; 16.172.in-addr.arpa. 5 SOA dnsdock.docker. hostmaster.16.172.in-addr.arpa. 7 60 10 604800 5",
	} {
		m := r.reply(new(dns.Msg).SetQuestion(qname, dns.TypeA), netip.Addr{}, 512)
		if got := dnstest.ShowSorted(m); got != want {
			t.Errorf("%s:\ngot  %v;\nwant %v", qname, got, want)
		}
	}
}

func TestForwardForLocalClients(t *testing.T) {
	var asked atomic.Int32
	up := dnstest.StartUpstream(t, func(q *dns.Msg, a netip.AddrPort) [][]byte {
		asked.Add(1)
		return dnstest.Answer(t, nil)(q, a)
	}, nil)
	allowed := []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("2001:db8:1::/48")}
	routes := forward.Routes{dnsname.Root: {{Addr: up}}}
	fwd := forward.New(routes, allowed, 0, slog.New(slog.DiscardHandler))
	if err := fwd.Load(); err != nil {
		t.Fatal(err)
	}
	r := rigWith(t, zonetest.New(t, "docker", 5), fwd)
	r.ix.Publish(t, `{"name":"away","image":"a","cname":"www.example.com"}`)
	for text, local := range map[string]bool{
		"127.0.0.1": true, "127.9.9.9": true, "10.1.2.3": true, "172.16.0.1": true, "172.31.255.255": true, "192.168.1.1": true, "169.254.1.1": true,
		"::1": true, "fe80::1": true, "fd12::1": true, "fc00::1": true, "203.0.113.255": true, "2001:db8:1:2::3": true,
		"172.32.0.1": false, "192.169.0.1": false, "100.64.0.1": false, "203.0.114.1": false, "8.8.8.8": false, "0.0.0.0": false,
		"2001:db8:2::1": false, "2606:4700::1": false, "::": false, "invalid": false,
	} {
		c := zone.Client{Size: 512}
		c.Addr, _ = netip.ParseAddr(text)
		ask := func(qname string) string {
			asked.Store(0)
			req := new(dns.Msg).SetQuestion(qname, dns.TypeA)
			return dnstest.ShowSorted(r.replyTo(req, c))
		}
		foreign, ours, chain := "REFUSED", "NOERROR aa;", "NOERROR aa; away.a.docker. 5 CNAME www.example.com."
		if local {
			foreign, ours = "NOERROR ra; www.example.com. 77 A 192.0.2.1", "NOERROR aa ra;"
			chain = "NOERROR aa ra; away.a.docker. 5 CNAME www.example.com., www.example.com. 77 A 192.0.2.1"
		}
		if got := ask("www.example.com."); got != foreign || (asked.Load() > 0) != local {
			t.Errorf("%s: got %v, upstream asked %d times; want %v", text, got, asked.Load(), foreign)
		}
		if got := ask("away.a.docker."); got != chain || (asked.Load() > 0) != local {
			t.Errorf("%s: CNAME: got %v, upstream asked %d times; want %v", text, got, asked.Load(), chain)
		}
		if got := ask("dnsdock.docker."); !strings.HasPrefix(got, ours) {
			t.Errorf("%s: our own name: got %v; want %v", text, got, ours)
		}
	}
}

// both asks twice, and compares what is decided with what is replayed.
func both(t *testing.T, r rig, req *dns.Msg) *dns.Msg {
	t.Helper()
	m := r.reply(req, netip.Addr{}, 1232)
	packet, err := req.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if b := r.replayed(packet, localhost, dns.MaxMsgSize); b != nil {
		fast := new(dns.Msg)
		if err := fast.Unpack(b); err != nil {
			t.Fatal(err)
		}
		got, want := dnstest.ShowSorted(fast), dnstest.ShowSorted(m)
		sameFlags := fast.AuthenticatedData == m.AuthenticatedData && fast.CheckingDisabled == m.CheckingDisabled
		if got != want || !sameFlags {
			t.Errorf("replayed: got %v; want %v", got, want)
		}
	}
	return m
}

func TestCacheAndOurs(t *testing.T) {
	r := forwarding(t, dnstest.Patience, dnstest.StartUpstream(t, dnstest.Answer(t, nil), nil))
	ask := func(what, qname, want string) {
		t.Helper()
		if got := dnstest.ShowSorted(both(t, r, new(dns.Msg).SetQuestion(qname, dns.TypeA))); got != want {
			t.Errorf("%s: got %v; want %v", what, got, want)
		}
	}
	const upstreams = "NOERROR ra; shop.example.com. 77 A 192.0.2.1"
	ask("no container has it", "shop.example.com.", upstreams)
	id := strings.Repeat("a", 64)
	shop := &publish.Service{
		ID: id, OwnerNames: []dnsname.Name{zonetest.Name(t, "shop.web.docker"), zonetest.Name(t, "shop.example.com")},
		Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, TTL: publish.DefaultTTL, Extras: new(publish.Extras),
	}
	r.ix.Put(id, shop)
	ask("a container's", "shop.example.com.", "NOERROR aa ra; shop.example.com. 5 A 10.0.0.1")
	ask("below it", "a.shop.example.com.", "NOERROR aa ra; a.shop.example.com. 5 A 10.0.0.1")
	r.ix.Put(id, nil)
	const gone = "NXDOMAIN aa ra;; shop.example.com. 0 SOA " +
		"dnsdock.docker. hostmaster.shop.example.com. 2 60 10 604800 0"
	serialless := func(m *dns.Msg) string { m.Ns[0].(*dns.SOA).Serial = 2; return dnstest.ShowSorted(m) }
	for _, qname := range []string{"shop.example.com.", "a.shop.example.com."} {
		if got := serialless(both(t, r, new(dns.Msg).SetQuestion(qname, dns.TypeA))); got != gone {
			t.Errorf("%s after its container died: got %v; want %v", qname, got, gone)
		}
	}
	ask("beside it", "xshop.example.com.", "NOERROR ra; xshop.example.com. 77 A 192.0.2.1")
	r.ix.Put(id, shop)
	ask("a container's again", "shop.example.com.", "NOERROR aa ra; shop.example.com. 5 A 10.0.0.1")
	r.ix.Replace(shop, nil, false)
	ask("removed by hand", "shop.example.com.", upstreams)
}
