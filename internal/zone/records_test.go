package zone

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/zonetest"
)

// SRV, TXT and CNAME records, and what is in the additional section.
func TestRecords(t *testing.T) {
	reg := zonetest.New(t, "docker", 60)
	reg.Publish(t,
		`{"name":"web1","image":"nginx","ips":["10.0.0.1","fd00::1"],"ports":["80/tcp=http","443/tcp","53/udp=http"],`+
			`"txt":["v=1, \\\" \\065","owner=me"],"ttl":30}`,
		`{"name":"web2","image":"nginx","ip":"10.0.0.2","ports":"80/tcp=http","txt":"owner=me",`+
			`"aliases":["shop.example.com"],"ttl":20}`,
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
		soa     = " docker. 5 SOA dnsdock.docker. hostmaster.docker. 7 60 10 604800 5"
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
			m := reply(newResolver(t, reg), new(dns.Msg).SetQuestion(tt.qname, dns.StringToType[tt.qtype]),
				netip.MustParseAddr("127.0.0.1"), dns.MaxMsgSize)
			if got := dnstest.ShowSorted(m); got != tt.want {
				t.Errorf("\ngot  %v;\nwant %v", got, tt.want)
			}
			if got := dnstest.ShowExtra(m); !strings.EqualFold(got, tt.extra) {
				t.Errorf("additional section:\ngot  %v;\nwant %v", got, tt.extra)
			}
		})
	}
}
