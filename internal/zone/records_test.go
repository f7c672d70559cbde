package zone

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/zonetest"
)

// SRV, TXT and CNAME records, and what is in the additional section.
func TestRecords(t *testing.T) {
	reg := zonetest.New(t, "docker", 60)
	reg.Publish(t,
		`{"name":"web1","image":"nginx","ips":["10.0.0.1","fd00::1"],"ports":["80/tcp=http","443/tcp","53/udp=http"],"txt":["v=1, \\\" \\065","owner=me"],"ttl":30}`,
		`{"name":"web2","image":"nginx","ip":"10.0.0.2","ports":"80/tcp=http","txt":"owner=me","aliases":["shop.example.com"],"ttl":20}`,
		`{"name":"front","image":"proxy","cname":"web1.nginx.docker","aliases":["front.example.com"],"ttl":9}`,
		`{"name":"away","image":"proxy","cname":"www.example.org"}`,
		`{"name":"loop1","image":"loop","cname":"loop2.loop.docker"}`,
		`{"name":"loop2","image":"loop","cname":"loop1.loop.docker"}`,
		`{"name":"gone","image":"lost","cname":"nobody.docker"}`,
		`{"name":"mix1","image":"mix","cname":"web2.nginx.docker"}`,
		`{"name":"mix2","image":"mix","ip":"10.0.0.9","aliases":["deep.mix1.mix.docker"]}`,
		`{"name":"long","image":"text","ip":"10.0.0.8","txt":"`+strings.Repeat("x", 300)+`"}`,
	)
	const (
		soa     = " docker. 5 SOA dnsdock.docker. hostmaster.docker. 7 3600 600 86400 5"
		noData  = "NOERROR aa;;" + soa
		unknown = "NXDOMAIN aa;;" + soa
		extra1  = " web1.nginx.docker. 30 A 10.0.0.1, web1.nginx.docker. 30 AAAA fd00::1"
		extra2  = " web2.nginx.docker. 20 A 10.0.0.2"
		chain   = " front.proxy.docker. 9 CNAME web1.nginx.docker."
	)
	for _, tt := range []struct{ qname, qtype, want, extra string }{
		// SRV by number and by name, for one, for all of an image, and for all.
		{"_http._tcp.web1.nginx.docker.", "SRV", "NOERROR aa; _http._tcp.web1.nginx.docker. 30 SRV 0 1 80 web1.nginx.docker.", extra1},
		{"_80._tcp.web1.nginx.docker.", "SRV", "NOERROR aa; _80._tcp.web1.nginx.docker. 30 SRV 0 1 80 web1.nginx.docker.", extra1},
		{"_443._TCP.Web1.nginx.docker.", "SRV", "NOERROR aa; _443._TCP.Web1.nginx.docker. 30 SRV 0 1 443 web1.nginx.docker.", extra1},
		{"_http._udp.web1.nginx.docker.", "SRV", "NOERROR aa; _http._udp.web1.nginx.docker. 30 SRV 0 1 53 web1.nginx.docker.", extra1},
		{"_http._tcp.nginx.docker.", "SRV", "NOERROR aa; _http._tcp.nginx.docker. 20 SRV 0 1 80 web1.nginx.docker., _http._tcp.nginx.docker. 20 SRV 0 1 80 web2.nginx.docker.", extra1 + "," + extra2},
		{"_443._tcp.docker.", "SRV", "NOERROR aa; _443._tcp.docker. 30 SRV 0 1 443 web1.nginx.docker.", extra1},
		{"_80._tcp.shop.example.com.", "SRV", "NOERROR aa; _80._tcp.shop.example.com. 20 SRV 0 1 80 web2.nginx.docker.", extra2},
		{"_443._tcp.*.docker.", "SRV", "NOERROR aa; _443._tcp.*.docker. 30 SRV 0 1 443 web1.nginx.docker.", extra1},
		{"*._udp.nginx.docker.", "SRV", "NOERROR aa; *._udp.nginx.docker. 30 SRV 0 1 53 web1.nginx.docker.", extra1},
		{"_81._tcp.nginx.docker.", "SRV", unknown, ""},
		{"_080._tcp.nginx.docker.", "SRV", unknown, ""},
		{"_http._sctp.nginx.docker.", "SRV", unknown, ""},
		{"http._tcp.nginx.docker.", "SRV", unknown, ""},
		{"x._http._tcp.nginx.docker.", "SRV", unknown, ""},
		{"_81._tcp.web1.nginx.docker.", "SRV", noData, ""}, // anything may stand in front of a container
		{"web1.nginx.docker.", "SRV", noData, ""},
		// What exists for SRV is no NXDOMAIN for other types, nor is what is between.
		{"_http._tcp.nginx.docker.", "A", noData, ""},
		{"_http._tcp.nginx.docker.", "ANY", `NOERROR aa; _http._tcp.nginx.docker. 60 HINFO "RFC8482" ""`, ""},
		{"_tcp.nginx.docker.", "SRV", noData, ""},
		{"_udp.nginx.docker.", "A", noData, ""},
		{"_udp.nginx.docker.", "ANY", noData, ""},
		{"_tcp.docker.", "A", noData, ""},
		{"_sctp.nginx.docker.", "A", unknown, ""},
		{"_http._tcp.web1.nginx.docker.", "A", "NOERROR aa; _http._tcp.web1.nginx.docker. 30 A 10.0.0.1", ""},
		// TXT, each once; quotes and what looks like an escape come through.
		{"web1.nginx.docker.", "TXT", `NOERROR aa; web1.nginx.docker. 30 TXT "owner=me", web1.nginx.docker. 30 TXT "v=1, \\\" \\065"`, ""},
		{"nginx.docker.", "TXT", `NOERROR aa; nginx.docker. 20 TXT "owner=me", nginx.docker. 20 TXT "v=1, \\\" \\065"`, ""},
		{"long.text.docker.", "TXT", `NOERROR aa; long.text.docker. 60 TXT "` + strings.Repeat("x", 255) + `" "` + strings.Repeat("x", 45) + `"`, ""},
		{"mix2.mix.docker.", "TXT", noData, ""},
		// A CNAME is all that a name has, and is followed.
		{"front.proxy.docker.", "A", "NOERROR aa;" + chain + ", web1.nginx.docker. 30 A 10.0.0.1", ""},
		{"front.proxy.docker.", "AAAA", "NOERROR aa;" + chain + ", web1.nginx.docker. 30 AAAA fd00::1", ""},
		{"front.proxy.docker.", "CNAME", "NOERROR aa;" + chain, ""},
		{"front.proxy.docker.", "ANY", "NOERROR aa;" + chain, ""},
		{"front.proxy.docker.", "MX", "NOERROR aa;" + chain + ", web1.nginx.docker. 30 MX 0 web1.nginx.docker.", extra1},
		{"front.proxy.docker.", "TXT", "NOERROR aa;" + chain + `, web1.nginx.docker. 30 TXT "owner=me", web1.nginx.docker. 30 TXT "v=1, \\\" \\065"`, ""},
		{"front.proxy.docker.", "NS", "NOERROR aa;" + chain + ";" + soa, ""},
		{"front.proxy.docker.", "DS", "NOERROR aa;" + chain + ";" + soa, ""},
		{"Front.Proxy.docker.", "A", "NOERROR aa; Front.Proxy.docker. 9 CNAME web1.nginx.docker., web1.nginx.docker. 30 A 10.0.0.1", ""},
		{"x.front.proxy.docker.", "A", "NOERROR aa; web1.nginx.docker. 30 A 10.0.0.1, x.front.proxy.docker. 9 CNAME web1.nginx.docker.", ""},
		{"front.example.com.", "A", "NOERROR aa; front.example.com. 9 CNAME web1.nginx.docker., web1.nginx.docker. 30 A 10.0.0.1", ""},
		{"gone.lost.docker.", "A", "NXDOMAIN aa; gone.lost.docker. 60 CNAME nobody.docker.;" + soa, ""},
		{"loop1.loop.docker.", "A", "NOERROR aa; loop1.loop.docker. 60 CNAME loop2.loop.docker., loop2.loop.docker. 60 CNAME loop1.loop.docker.", ""},
		{"away.proxy.docker.", "A", "NOERROR aa; away.proxy.docker. 60 CNAME www.example.org.", ""}, // without upstreams
		// Shorter names: addresses if there are any, else one CNAME.
		{"proxy.docker.", "CNAME", "NOERROR aa; proxy.docker. 60 CNAME www.example.org.", ""},
		{"mix.docker.", "A", "NOERROR aa; mix.docker. 60 A 10.0.0.9", ""},
		{"mix1.mix.docker.", "A", "NOERROR aa; mix1.mix.docker. 60 CNAME web2.nginx.docker., web2.nginx.docker. 20 A 10.0.0.2", ""},
		{"deep.mix1.mix.docker.", "A", "NOERROR aa; deep.mix1.mix.docker. 60 A 10.0.0.9", ""}, // closer than the CNAME
		{"docker.", "CNAME", noData, ""},
		// MX and NS.
		{"web1.nginx.docker.", "MX", "NOERROR aa; web1.nginx.docker. 30 MX 0 web1.nginx.docker.", extra1},
		{"docker.", "NS", "NOERROR aa; docker. 60 NS dnsdock.docker.", " dnsdock.docker. 60 A 127.0.0.1"},
		{"17.172.in-addr.arpa.", "NS", "NOERROR aa; 17.172.in-addr.arpa. 60 NS dnsdock.docker.", " dnsdock.docker. 60 A 127.0.0.1"},
	} {
		t.Run(tt.qname+" "+tt.qtype, func(t *testing.T) {
			m := reply(newResolver(t, reg), new(dns.Msg).SetQuestion(tt.qname, dns.StringToType[tt.qtype]), netip.MustParseAddr("127.0.0.1"), dns.MaxMsgSize)
			if got := dnstest.ShowSorted(m); got != tt.want {
				t.Errorf("\ngot  %v;\nwant %v", got, tt.want)
			}
			if got := dnstest.ShowExtra(m); got != tt.extra {
				t.Errorf("additional section:\ngot  %v;\nwant %v", got, tt.extra)
			}
		})
	}
}

// Of the additional section whole RRsets go where there is no room, without
// TC; of the answer whole records go, with TC.
func TestWhatIsLeftOut(t *testing.T) {
	reg := zonetest.New(t, "docker", 60)
	var services []string
	for i := range 30 {
		services = append(services, fmt.Sprintf(`{"name":"web%d","image":"nginx","ips":["10.0.0.%d","10.0.1.%d"],"ports":"80"}`, i, i, i))
	}
	reg.Publish(t, services...)
	for _, tt := range []struct {
		size           int
		answers, extra int
		truncated      bool
	}{
		{dns.MaxMsgSize, 30, 60, false},
		{dnswire.MaxUDPSize, 30, 2, false},
		{dns.MinMsgSize, 12, 0, true},
	} {
		req := new(dns.Msg).SetQuestion("_80._tcp.nginx.docker.", dns.TypeSRV)
		_, b, err := packed(newResolver(t, reg), req, netip.Addr{}, tt.size)
		m := new(dns.Msg)
		if err != nil || m.Unpack(b) != nil || len(b) > tt.size {
			t.Fatalf("%d bytes: got %d, %v", tt.size, len(b), err)
		}
		if len(m.Extra)%2 != 0 || m.Truncated != tt.truncated || len(m.Answer) < tt.answers || (len(m.Answer) == 30) == m.Truncated || len(m.Extra) < tt.extra {
			t.Errorf("%d bytes: got %d answers, %d additional, TC %t; want at least %d and %d, by twos, and TC %t",
				tt.size, len(m.Answer), len(m.Extra), m.Truncated, tt.answers, tt.extra, tt.truncated)
		}
	}
}

// A TXT RRset larger than any message costs no more than its reply holds.
func TestMuchTXT(t *testing.T) {
	reg := zonetest.New(t, "docker", 0)
	var services []string
	for i := range 20 {
		services = append(services, fmt.Sprintf(`{"name":"web%d","image":"nginx","ip":"10.0.0.1","txt":"%d%s"}`, i, i, strings.Repeat("x", publish.MaxTXT-5)))
	}
	reg.Publish(t, services...)
	_, b, err := packed(newResolver(t, reg), new(dns.Msg).SetQuestion("nginx.docker.", dns.TypeTXT), netip.Addr{}, dns.MaxMsgSize)
	m := new(dns.Msg)
	if err != nil || m.Unpack(b) != nil || len(m.Answer) != 7 || !m.Truncated {
		t.Errorf("got %d bytes, %d records, TC %t, %v; want 7 records and TC", len(b), len(m.Answer), m.Truncated, err)
	}
}

// However many short texts there are: whole, or cut with TC as late as can be.
func TestManyTXT(t *testing.T) {
	for _, tt := range []struct{ count, length, size int }{
		{120, 2, dnswire.MaxUDPSize}, {50, 1, dnswire.MaxUDPSize}, {50, 1, 512}, {20, 250, dnswire.MaxUDPSize}, {1300, 62, dns.MaxMsgSize}, {120, 2, dns.MaxMsgSize},
	} {
		reg := zonetest.New(t, "docker", 0)
		for i := range tt.count {
			s := reg.Service(t, fmt.Sprint(i), fmt.Sprint(i), "txt", "10.0.0.1")
			s.TXT = []string{fmt.Sprintf("%0*x", tt.length, i)}
			if tt.length == 1 {
				s.TXT[0] = string(rune('A' + i))
			}
			reg.Put(s.ID, s)
		}
		_, b, err := packed(newResolver(t, reg), new(dns.Msg).SetQuestion("txt.docker.", dns.TypeTXT), netip.Addr{}, tt.size)
		m := new(dns.Msg)
		if err != nil || m.Unpack(b) != nil || len(b) > tt.size {
			t.Fatalf("%+v: got %d bytes, %v", tt, len(b), err)
		}
		whole, room := len(m.Answer) == tt.count, tt.size-len(b) >= 14-1+tt.length
		if m.Truncated == whole || !whole && room {
			t.Errorf("%+v: got %d of %d records, TC %t, %d bytes", tt, len(m.Answer), tt.count, m.Truncated, len(b))
		}
	}
}

// A text of what the library escapes is as long as it is on the wire.
func TestEscapedTXT(t *testing.T) {
	reg := zonetest.New(t, "docker", 0)
	s := reg.Service(t, "bs", "bs", "bs", "10.0.0.1")
	s.TXT = []string{strings.Repeat(`\`, 250), strings.Repeat(`\`, 249) + "a", strings.Repeat(`\`, 200) + `"`}
	reg.Put(s.ID, s)
	_, b, err := packed(newResolver(t, reg), new(dns.Msg).SetQuestion("bs.bs.docker.", dns.TypeTXT), netip.Addr{}, dnswire.MaxUDPSize)
	m := new(dns.Msg)
	if err != nil || m.Unpack(b) != nil || len(m.Answer) != 3 || m.Truncated {
		t.Errorf("got %d bytes, %d records, TC %t, %v; want 3 records", len(b), len(m.Answer), m.Truncated, err)
	}
}
