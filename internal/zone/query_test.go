package zone

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/zonetest"
)

// FuzzQuery: any packet that is a query gets a reply to it that fits, and none
// harms.
func FuzzQuery(f *testing.F) {
	var many []string
	for i := range 100 {
		many = append(many, fmt.Sprintf("10.1.0.%d fd00::%x", i, i))
	}
	reg := zonetest.New(f, "docker", 60,
		pub("web", "nginx", 30, "172.17.0.2 fd00::2", "shop.example.com com"),
		pub("many", "redis", 30, strings.Join(many, " "), "a\\.\\000b.docker"),
	)
	reg.Publish(f,
		`{"name":"srv","image":"nginx","ip":"10.2.0.1","ports":["80/tcp=http","53/udp"],"txt":["a","b"]}`,
		`{"name":"front","image":"nginx","cname":"srv.nginx.docker"}`,
		`{"name":"loop","image":"loop","cname":"x.loop.docker"}`)
	zones := map[bool]*Resolver{true: newResolver(f, reg), false: newResolver(f, zonetest.New(f, "docker", 0))}
	zones[false].Reg.Ready.Store(false)
	f.Fuzz(func(t *testing.T, data []byte, ready bool) {
		query, _ := dnswire.SanitizeQuery(slices.Clone(data))
		if query == nil {
			return // the server's
		}
		req := new(dns.Msg)
		if req.Unpack(query) != nil {
			return // a name that the library can't read
		}
		for _, size := range []int{dns.MaxMsgSize, UDPSize(req)} {
			m := reply(zones[ready], req, netip.MustParseAddr("127.0.0.1"), size)
			b, err := pack(m, size)
			if err != nil {
				t.Fatalf("%v can't be packed: %v", m, err)
			}
			dnstest.CheckReply(t, req, b, size)
			isCNAME := func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeCNAME }
			others := slices.DeleteFunc(slices.Clone(m.Answer), isCNAME)
			if m.Rcode == dns.RcodeNameError && (len(others) != 0 || len(m.Ns) != 1 || !m.Authoritative) {
				t.Errorf("got %v; want NXDOMAIN with AA and the SOA only", dnstest.Show(m))
			}
			if len(m.Answer) > 0 && isCNAME(m.Answer[0]) && len(others) > 0 && forward.EqualNames(others[0].Header().Name, req.Question[0].Name) {
				t.Errorf("got %v; want no data beside a CNAME", dnstest.Show(m))
			}
		}
	})
}

// The longest alias leaves no room for a mailbox below it.
func TestLongAliasNoData(t *testing.T) {
	label := strings.Repeat("a", 61) + "."
	alias := strings.Repeat(label, 4) + "bcdef." // 255 bytes on the wire
	z := newResolver(t, zonetest.New(t, "docker", 0, pub("web", "nginx", 0, "10.0.0.1", alias)))
	m, _, err := packed(z, new(dns.Msg).SetQuestion(alias, dns.TypeAAAA), netip.Addr{}, dns.MaxMsgSize)
	want := fmt.Sprintf("NOERROR aa;; %s 0 SOA dnsdock.docker. %s 7 3600 600 86400 0", alias, alias)
	if got := dnstest.ShowSorted(m); got != want || err != nil {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
}
