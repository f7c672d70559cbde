package dnsserver

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/zonetest"
)

// Of the additional section whole RRsets go where there is no room, without
// TC; of the answer whole records go, with TC.
func TestWhatIsLeftOut(t *testing.T) {
	reg := zonetest.New(t, "docker", 60)
	var services []string
	for i := range 30 {
		const service = `{"name":"web%[1]d","image":"nginx","ips":["10.0.0.%[1]d","10.0.1.%[1]d"],"ports":"80"}`
		services = append(services, fmt.Sprintf(service, i))
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
		_, b, err := packed(newRig(t, reg), req, netip.Addr{}, tt.size)
		m := new(dns.Msg)
		if err != nil || m.Unpack(b) != nil || len(b) > tt.size {
			t.Fatalf("%d bytes: got %d, %v", tt.size, len(b), err)
		}
		wrongSize := len(m.Answer) < tt.answers || len(m.Extra)%2 != 0 || len(m.Extra) < tt.extra
		if wrongSize || m.Truncated != tt.truncated || (len(m.Answer) == 30) == m.Truncated {
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
		services = append(services, fmt.Sprintf(`{"name":"web%d","image":"nginx","ip":"10.0.0.1","txt":"%d%s"}`, i, i,
			strings.Repeat("x", publish.MaxTXT-5)))
	}
	reg.Publish(t, services...)
	_, b, err := packed(newRig(t, reg), new(dns.Msg).SetQuestion("nginx.docker.", dns.TypeTXT), netip.Addr{},
		dns.MaxMsgSize)
	m := new(dns.Msg)
	if err != nil || m.Unpack(b) != nil || len(m.Answer) != 7 || !m.Truncated {
		t.Errorf("got %d bytes, %d records, TC %t, %v; want 7 records and TC", len(b), len(m.Answer), m.Truncated, err)
	}
}

// However many short texts there are: whole, or cut with TC as late as can be.
func TestManyTXT(t *testing.T) {
	for _, tt := range []struct{ count, length, size int }{
		{120, 2, dnswire.MaxUDPSize}, {50, 1, dnswire.MaxUDPSize}, {50, 1, 512}, {20, 250, dnswire.MaxUDPSize}, {1300,
			62, dns.MaxMsgSize}, {120, 2, dns.MaxMsgSize},
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
		_, b, err := packed(newRig(t, reg), new(dns.Msg).SetQuestion("txt.docker.", dns.TypeTXT), netip.Addr{}, tt.size)
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
	_, b, err := packed(newRig(t, reg), new(dns.Msg).SetQuestion("bs.bs.docker.", dns.TypeTXT), netip.Addr{},
		dnswire.MaxUDPSize)
	m := new(dns.Msg)
	if err != nil || m.Unpack(b) != nil || len(m.Answer) != 3 || m.Truncated {
		t.Errorf("got %d bytes, %d records, TC %t, %v; want 3 records", len(b), len(m.Answer), m.Truncated, err)
	}
}

// The longest alias leaves no room for a mailbox below it.
func TestLongAliasNoData(t *testing.T) {
	label := strings.Repeat("a", 61) + "."
	alias := strings.Repeat(label, 4) + "bcdef." // 255 bytes on the wire
	z := newRig(t, zonetest.New(t, "docker", 0, pub("web", "nginx", 0, "10.0.0.1", alias)))
	m, _, err := packed(z, new(dns.Msg).SetQuestion(alias, dns.TypeAAAA), netip.Addr{}, dns.MaxMsgSize)
	want := fmt.Sprintf("NOERROR aa;; %s 0 SOA dnsdock.docker. %s 7 60 10 604800 0", alias, alias)
	if got := dnstest.ShowSorted(m); got != want || err != nil {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
}

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
	rigs := map[bool]rig{true: newRig(f, reg), false: newRig(f, zonetest.New(f, "docker", 0))}
	rigs[false].ix.Ready.Store(false)
	f.Fuzz(func(t *testing.T, data []byte, ready bool) {
		for _, limit := range []int{dns.MaxMsgSize, dnswire.MaxUDPSize} {
			task, ok := rigs[ready].taskOf(data, localhost, limit)
			req := new(dns.Msg)
			if !ok || req.Unpack(task.packet) != nil {
				return // no query, or a name that the library can't read
			}
			b := rigs[ready].ask(data, localhost, limit)
			dnstest.CheckReply(t, req, b, task.size)
			m := new(dns.Msg)
			if err := m.Unpack(b); err != nil {
				t.Fatal(err)
			}
			isCNAME := func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeCNAME }
			others := slices.DeleteFunc(slices.Clone(m.Answer), isCNAME)
			if m.Rcode == dns.RcodeNameError && (len(others) != 0 || len(m.Ns) != 1 || !m.Authoritative) {
				t.Errorf("got %v; want NXDOMAIN with AA and the SOA only", dnstest.Show(m))
			}
			if len(m.Answer) > 0 && isCNAME(m.Answer[0]) && len(others) > 0 &&
				strings.EqualFold(others[0].Header().Name, req.Question[0].Name) {
				t.Errorf("got %v; want no data beside a CNAME", dnstest.Show(m))
			}
		}
	})
}

// A reply of many records is no more work than its size.
func TestReplyIsBounded(t *testing.T) {
	reg := zonetest.New(t, "docker", 0)
	for i := range 5000 {
		id := fmt.Sprint(i)
		reg.Put(id, reg.Service(t, id, "c"+id, "x", "127.0.0.1 "+fmt.Sprintf("10.0.%d.%d", i/250, i%250)))
	}
	z := newRig(t, reg)
	for _, c := range []struct {
		qname string
		qtype uint16
	}{{"1.0.0.127.in-addr.arpa.", dns.TypePTR}, {"docker.", dns.TypeA}, {"*.x.docker.", dns.TypeA}} {
		req := new(dns.Msg).SetQuestion(c.qname, c.qtype)
		m := reply(z, req, netip.Addr{}, dns.MinMsgSize)
		if n := len(m.Answer); n < 2 || n > dns.MinMsgSize/14+1 {
			t.Errorf("%s: %d records; want at most %d", c.qname, n, dns.MinMsgSize/14+1)
		}
		if m, b, err := packed(z, req, netip.Addr{},
			dns.MinMsgSize); err != nil || len(b) > dns.MinMsgSize || !m.Truncated {
			t.Errorf("%s: %d bytes, TC %v, %v; want at most %d, and TC", c.qname, len(b), m.Truncated, err,
				dns.MinMsgSize)
		}
	}
}
