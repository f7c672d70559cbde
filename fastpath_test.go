package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnsserver"
	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/index"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/zone"
)

// fastZone returns a zone with names of all kinds.
func fastZone(t testing.TB) *zone.Zone {
	t.Helper()
	var many, more []string
	for i := range 100 {
		many = append(many, fmt.Sprintf("10.1.0.%d fd00::%x", i, i))
	}
	for i := range 2 * index.MaxPacked {
		more = append(more, fmt.Sprintf("10.2.%d.%d", i/256, i%256))
	}
	reg := filledRegistry(t, "docker", 60,
		pub{"web", "nginx", 30, "172.17.0.2 fd00::2", "shop.example.com com"},
		pub{"many", "redis", 30, strings.Join(many, " "), "a\\.\\000b.docker"},
		pub{"more", "than", publish.DefaultTTL, strings.Join(more, " "), ""},
		pub{"only4", "nginx", publish.DefaultTTL, "172.17.0.3", "www.shop.example.com"},
		pub{"a", "b", 7, "172.17.0.4", "b.docker"}, // a.b.docker is answered from two
	)
	publishTest(t, reg,
		`{"name":"srv","image":"nginx","ip":"10.2.0.1","ports":["80/tcp=http","53/udp"],"txt":["a","b"]}`,
		`{"name":"srv2","image":"nginx","ip":"10.2.0.2","ports":["80/tcp=http"]}`,
		`{"name":"front","image":"nginx","cname":"srv.nginx.docker"}`,
		`{"name":"loop","image":"loop","cname":"x.loop.docker"}`)
	reg.index.Rules.Second.Compose, reg.index.Rules.Health = true, true
	label := func(kv ...string) map[string]string {
		m := make(map[string]string)
		for i := 0; i < len(kv); i += 2 {
			m[kv[i]] = kv[i+1]
		}
		return m
	}
	for i, c := range []publish.Container{
		{Name: "both", Image: "nets", Networks: []publish.Endpoint{netAt("a", "10.8.1.2/24 fd00:8:1::2/64"), netAt("b", "10.8.2.2/24")}},
		{Name: "inside", Image: "nets2", Networks: []publish.Endpoint{netAt("!i", "10.8.3.2/24")}, Exposed: []publish.Port{{Number: 80, Proto: "tcp"}}},
		{Name: "one", Image: "sides", Networks: []publish.Endpoint{netAt("a", "10.8.1.3/24")}, Exposed: []publish.Port{{Number: 80, Proto: "tcp"}}},
		{Name: "two", Image: "sides", Networks: []publish.Endpoint{netAt("b", "10.8.2.3/24")}, Exposed: []publish.Port{{Number: 80, Proto: "tcp"}}},
		{Name: "h", Image: "host", Networks: []publish.Endpoint{publish.HostNetwork()}},
		{Name: "well", Image: "health", Networks: []publish.Endpoint{netAt("a", "10.8.1.4/24")}},
		{Name: "sick", Image: "health", Sick: true, Networks: []publish.Endpoint{netAt("a", "10.8.1.5/24 fd00:8:1::5/64")}},
		{Name: "web1", Image: "c", Networks: []publish.Endpoint{netAt("a", "10.8.1.6/24")},
			Labels: label("com.docker.compose.project", "nets", "com.docker.compose.service", "web", "com.docker.compose.container-number", "1")},
		{Name: "web2", Image: "c", Networks: []publish.Endpoint{netAt("a", "10.8.1.7/24")},
			Labels: label("com.docker.compose.project", "shop", "com.docker.compose.service", "web", "com.docker.compose.container-number", "1")},
		{Name: "web3", Image: "c", Networks: []publish.Endpoint{netAt("b", "10.8.2.7/24")},
			Labels: label("com.docker.compose.project", "shop", "com.docker.compose.service", "web", "com.docker.compose.container-number", "2")},
	} {
		c.ID = fmt.Sprintf("c%03d", i)
		s, problems := reg.index.Rules.ServiceOf(&c, "e")
		if s == nil || problems != nil {
			t.Fatal(s, problems)
		}
		reg.Put(c.ID, s)
	}
	return newTestZone(t, reg)
}

// nearby are clients on and off the networks of fastZone.
var nearby = []string{"192.0.2.1", "10.8.1.9", "fd00:8:1::9", "10.8.2.9", "10.8.3.9", "10.8.1.1"}

// slowly is what a client is answered without a fast path; nil if it is not
// at once.
func slowly(z *zone.Zone, packet []byte, from netip.Addr, most int) []byte {
	query, _ := dnswire.SanitizeQuery(bytes.Clone(packet))
	req := new(dns.Msg)
	if query == nil || req.Unpack(query) != nil {
		return nil
	}
	c := zone.Client{Addr: from, Size: most}
	if most == dnswire.MaxUDPSize {
		c.Size = zone.UDPSize(req)
	}
	var reply []byte
	z.Answer(req, c, func(func()) {}, func(b []byte) error {
		reply = b
		return nil
	})
	return reply
}

// parts is a reply as it may be compared with another: records without their
// order, and names without their case but for that of the question.
func parts(t testing.TB, b []byte) (headers string, sections [3][]string) {
	t.Helper()
	m := new(dns.Msg)
	if err := m.Unpack(b); err != nil {
		t.Fatalf("%x can't be read: %v", b, err)
	}
	for i, rrs := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range rrs {
			sections[i] = append(sections[i], strings.ToLower(rr.String()))
		}
		slices.Sort(sections[i])
	}
	return fmt.Sprintf("%+v %v", m.MsgHdr, m.Question), sections
}

// checkFast holds the fast path against the slow one, and reports whether it
// takes the packet.
func checkFast(t testing.TB, f *dnsserver.FastPath, packet []byte, from netip.Addr, most int) (takes bool) {
	t.Helper()
	before := bytes.Clone(packet)
	got := f.Answer(packet, from, most, nil)
	if !bytes.Equal(packet, before) {
		t.Fatalf("the query %x became %x", before, packet)
	}
	if got == nil {
		return false
	}
	want := slowly(f.Zone, packet, from, most)
	if want == nil {
		t.Fatalf("%x is answered by %x; want it to be declined", packet, got)
	}
	gotHead, gotParts := parts(t, got)
	wantHead, wantParts := parts(t, want)
	if gotHead != wantHead {
		t.Fatalf("%x:\ngot  %s\nwant %s", packet, gotHead, wantHead)
	}
	cut := got[2]&0x02 != 0
	for i := range gotParts {
		if len(gotParts[i]) != len(wantParts[i]) || !cut && !slices.Equal(gotParts[i], wantParts[i]) {
			t.Fatalf("%x, section %d:\ngot  %s\nwant %s", packet, i, gotParts[i], wantParts[i])
		}
	}
	if len(got) > most {
		t.Fatalf("%x: %d octets; want at most %d", packet, len(got), most)
	}
	return true
}

// What the fast path takes it answers as the slow path does.
func FuzzFastPath(f *testing.F) {
	z := fastZone(f)
	empty := newTestZone(f, filledRegistry(f, "docker", 60))
	starting := fastZone(f)
	starting.Reg.Ready.Store(false)
	closest := fastZone(f)
	closest.Reg.Rules.Closest = true
	paths := []*dnsserver.FastPath{dnsserver.NewFastPath(z), dnsserver.NewFastPath(empty), dnsserver.NewFastPath(starting), dnsserver.NewFastPath(closest)}
	f.Fuzz(func(t *testing.T, packet []byte) {
		for _, path := range paths {
			for _, most := range []int{dnswire.MaxUDPSize, dns.MaxMsgSize} {
				_ = slowly(path.Zone, packet, netip.Addr{}, most) // may be kept
				for _, client := range nearby {
					checkFast(t, path, packet, netip.MustParseAddr(client), most)
				}
			}
		}
	})
}

// What the fast path is there for it takes, from the start or from the second
// time on; what it must not take it declines.
func TestFastPath(t *testing.T) {
	z := fastZone(t)
	f := dnsserver.NewFastPath(z)
	for _, tt := range []struct {
		qname, qtype string
		takes        bool
	}{
		{"web.nginx.docker.", "A", true},
		{"WEB.nginx.Docker.", "AAAA", true},
		{"x.y.web.nginx.docker.", "A", true},
		{"only4.nginx.docker.", "AAAA", true}, // NODATA
		{"only4.nginx.docker.", "TXT", true},
		{"only4.nginx.docker.", "HTTPS", true},
		{"only4.nginx.docker.", "DS", true},
		{"only4.nginx.docker.", "SOA", true},
		{"only4.nginx.docker.", "NS", true},
		{"only4.nginx.docker.", "SRV", true},
		{"shop.example.com.", "A", true},
		{"shop.example.com.", "TXT", true},
		{"www.shop.example.com.", "HTTPS", true},
		{"com.", "A", true},
		{"many.redis.docker.", "A", true},
		{"many.redis.docker.", "AAAA", true},
		{"a\\.\\000b.docker.", "A", true},
		{"nosuch.docker.", "A", true},
		{"x.nosuch.docker.", "MX", true},
		{"one.sides.docker.", "A", true}, // on one network: whoever asks
		{"one.sides.docker.", "AAAA", true},
		{"both.nets.docker.", "A", false}, // by client
		{"inside.nets2.docker.", "A", false},
		{"inside.nets2.docker.", "AAAA", true},
		{"sides.docker.", "A", false}, // the order is by client
		{"h.host.docker.", "A", false},
		{"health.docker.", "A", true},
		{"health.docker.", "AAAA", false}, // the one that is well has none
		{"sick.health.docker.", "AAAA", true},
		{"1.web.shop.docker.", "A", true},
		{"x.1.web.shop.docker.", "A", true},
		{"2.web.shop.docker.", "A", true},
		{"3.web.shop.docker.", "A", true}, // NXDOMAIN
		{"web.shop.docker.", "A", false},  // on two networks
		{"web.shop.docker.", "TXT", true},
		{"shop.docker.", "A", true}, // NODATA: names are below it
		{"web.nets.docker.", "A", true},
		{"_80._tcp.one.sides.docker.", "SRV", true},
		{"_80._tcp.inside.nets2.docker.", "SRV", false},
		{"docker.", "HTTPS", false}, // it has a CNAME among others
		{"2.0.17.172.in-addr.arpa.", "PTR", true},
		{"2." + strings.Repeat("0.", 29) + "d.f.ip6.arpa.", "PTR", true},
		{"3." + strings.Repeat("0.", 28) + "1.d.f.ip6.arpa.", "PTR", false},
		{"2." + strings.Repeat("0.", 28) + "0.d.f.ip6.arpa.", "A", false},
		{"_http._tcp.nginx.docker.", "SRV", true},
		{"_80._tcp.srv.nginx.docker.", "SRV", true},
		{"_53._udp.srv.nginx.docker.", "SRV", true},
		{"_nosuch._tcp.nginx.docker.", "SRV", false},
		{"_tcp.nginx.docker.", "A", false},
		{"a.b.docker.", "A", false},
		{"more.than.docker.", "A", false},
		{"front.nginx.docker.", "A", false},
		{"srv.nginx.docker.", "TXT", false},
		{"web.nginx.docker.", "MX", false},
		{"web.nginx.docker.", "ANY", false},
		{"dnsdock.docker.", "A", false},
		{"docker.", "SOA", false},
		{"docker.", "NS", false},
		{"*.nginx.docker.", "A", false},
		{"www.example.com.", "A", false},
		{"example.com.", "A", false},
		{"x.com.", "A", false},
		{"localhost.", "A", false},
		{".", "NS", false},
	} {
		for _, edns := range []int{0, 512, 1232, 4096} {
			req := new(dns.Msg).SetQuestion(tt.qname, dns.StringToType[tt.qtype])
			if edns > 0 {
				req.SetEdns0(uint16(edns), edns == 1232)
				req.IsEdns0().Option = append(req.IsEdns0().Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0011223344556677"})
			}
			packet, err := req.Pack()
			if err != nil {
				t.Fatal(err)
			}
			for _, most := range []int{dnswire.MaxUDPSize, dns.MaxMsgSize} {
				_ = slowly(z, packet, netip.Addr{}, most)
				want := tt.takes || tt.qname == "many.redis.docker." && most == dns.MaxMsgSize
				for _, client := range nearby {
					checkFast(t, f, packet, netip.MustParseAddr(client), most)
				}
				if got := checkFast(t, f, packet, netip.MustParseAddr("127.0.0.1"), most); got != want {
					t.Errorf("%s %s, EDNS %d, at most %d octets: takes it: %t; want %t", tt.qname, tt.qtype, edns, most, got, want)
				}
			}
		}
	}
}

// However many replies to whatever names are kept, and however long they are,
// the memory for them has a bound.
func TestKeptRepliesAreBounded(t *testing.T) {
	reg := newTestRegistry(t, "docker")
	s := testService(t, reg, "s", "big", "img", "10.0.0.1")
	for i := range publish.MaxPorts {
		s.Ports = append(s.Ports, publish.Port{Number: uint16(i), Proto: "tcp", Name: "http"})
	}
	few := testService(t, reg, "t", "few", "img", "10.0.0.1")
	few.Ports = []publish.Port{{Number: 80, Proto: "tcp", Name: "http"}}
	reg.Put(s.ID, s)
	reg.Put(few.ID, few)
	reg.index.Ready.Store(true)
	z := newTestZone(t, reg)
	for i := range 2 * zone.MaxReplies {
		for _, name := range []string{"big", "few"} {
			qname := fmt.Sprintf("_http._tcp.x%d.%s.img.docker.", i, name)
			if name == "big" && i > 3 {
				continue // it takes its time
			}
			_ = slowly(z, packQuery(t, 1, qname, dns.TypeSRV), netip.Addr{}, dns.MaxMsgSize)
		}
	}
	count := 0
	for n, k := range z.Kept.All() {
		if count++; len(k.Rest) > dnswire.MaxUDPSize {
			t.Fatalf("%d octets are kept for %v; want at most %d", len(k.Rest), n, dnswire.MaxUDPSize)
		}
	}
	if count == 0 || count > zone.MaxReplies {
		t.Errorf("%d replies are kept; want some, at most %d", count, zone.MaxReplies)
	}
}

// A client of whom it is to be found out whether it is local costs the others
// nothing: it is left to the slow path, until that knows.
func TestFastPathDoesNotReadInterfaces(t *testing.T) {
	z := newForwardZone(t, netip.MustParseAddrPort("192.0.2.53:53")) // is not asked
	publishTest(t, regOf(z), `{"name":"web","image":"nginx","ip":"10.0.0.1"}`)
	f := dnsserver.NewFastPath(z)
	packet, public := packQuery(t, 1, "web.nginx.docker.", dns.TypeA), netip.MustParseAddr("198.51.100.9")
	if !checkFast(t, f, packet, netip.MustParseAddr("127.0.0.1"), dnswire.MaxUDPSize) {
		t.Fatal("a local client is left to the slow path")
	}
	if f.Answer(packet, public, dnswire.MaxUDPSize, nil) != nil {
		t.Error("the fast path answers a client that may be local or not")
	}
	_ = slowly(z, packet, public, dnswire.MaxUDPSize)
	if !checkFast(t, f, packet, public, dnswire.MaxUDPSize) {
		t.Error("the fast path declines a client that is known")
	}
}

// Nothing that the fast path answers allocates.
func TestFastPathAllocates(t *testing.T) {
	z := fastZone(t)
	f := dnsserver.NewFastPath(z)
	client, reply := netip.MustParseAddr("127.0.0.1"), make([]byte, 0, dnswire.MaxUDPSize)
	for _, q := range []struct {
		qname string
		qtype uint16
	}{
		{"Web.nginx.docker.", dns.TypeA},
		{"a-name-that-is-longer-than-32-octets.web.nginx.docker.", dns.TypeAAAA},
		{"many.redis.docker.", dns.TypeA},
		{"only4.nginx.docker.", dns.TypeAAAA},
		{"a-name-that-is-longer-than-32-octets.does-not-exist.docker.", dns.TypeA},
		{"shop.example.com.", dns.TypeHTTPS},
		{"2.0.17.172.in-addr.arpa.", dns.TypePTR},
		{"2." + strings.Repeat("0.", 27) + "0.0.d.f.ip6.arpa.", dns.TypePTR},
		{"_http._tcp.nginx.docker.", dns.TypeSRV},
	} {
		packet := packQuery(t, 1, q.qname, q.qtype)
		refresh := func() { _ = slowly(z, packet, client, dnswire.MaxUDPSize) }
		refresh()
		taken := true
		n := testing.AllocsPerRun(zone.TimesAnswered/2, func() {
			taken = f.Answer(packet, client, dnswire.MaxUDPSize, reply) != nil && taken
		})
		if n != 0 || !taken {
			t.Errorf("%s %s: taken %t, %v allocations; want none", q.qname, dns.Type(q.qtype), taken, n)
		}
	}
}

// A whole answer, from query to reply, with and without the fast path.
func BenchmarkAnswer(b *testing.B) {
	for _, count := range []int{10, 1000, 100_000} {
		z := newTestZone(b, filled(b, count))
		f := dnsserver.NewFastPath(z)
		client, reply := netip.MustParseAddr("127.0.0.1"), make([]byte, 0, dnswire.MaxUDPSize)
		var packets [][]byte
		for i := range min(count, 1000) {
			i *= count / min(count, 1000)
			packets = append(packets, packQuery(b, uint16(i), fmt.Sprintf("c%d.image%d.docker.", i, i/10), dns.TypeA))
		}
		b.Run(fmt.Sprint("fast/", count), func(b *testing.B) {
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				if f.Answer(packets[n%len(packets)], client, dnswire.MaxUDPSize, reply) == nil {
					b.Fatal("declined")
				}
			}
		})
		b.Run(fmt.Sprint("slow/", count), func(b *testing.B) {
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				if slowly(z, packets[n%len(packets)], client, dnswire.MaxUDPSize) == nil {
					b.Fatal("no answer")
				}
			}
		})
	}
}

// Each change is seen by the next query, whatever was kept for the fast path.
func TestFastPathFollowsChanges(t *testing.T) {
	reg := newTestRegistry(t, "docker")
	reg.index.Ready.Store(true)
	z := newTestZone(t, reg)
	f := dnsserver.NewFastPath(z)
	rnd := rand.New(rand.NewPCG(4, 4))
	owners := []string{"a", "b", "c", "a.b", "b.c"} // parts that make names above and below each other
	taken := 0
	for range 3000 {
		id := fmt.Sprint(rnd.IntN(6))
		part := func() string { return owners[rnd.IntN(len(owners))] }
		switch rnd.IntN(8) {
		case 0:
			reg.Forget(id)
		case 1:
			reg.setTTL(uint32(rnd.IntN(3)))
		default:
			aliases := []string{part() + ".docker", part() + ".example.com"}[:rnd.IntN(3)]
			reg.Put(id, testService(t, reg, id, part(), part(), fmt.Sprintf("10.0.0.%d fd00::%x", rnd.IntN(9), rnd.IntN(9)), aliases...))
		}
		for range 4 {
			qname := part() + "." + part() + []string{".docker.", ".example.com.", "." + part() + ".docker."}[rnd.IntN(3)]
			packet := packQuery(t, 1, qname, []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeTXT}[rnd.IntN(3)])
			for range 2 { // the second time from what the first one kept
				if checkFast(t, f, packet, netip.MustParseAddr("192.0.2.1"), dnswire.MaxUDPSize) {
					taken++
				}
			}
		}
	}
	if taken < 5000 {
		t.Errorf("the fast path took %d queries; want more", taken)
	}
}

// Readers beside a writer: an answer is from before or after the change, and
// after it never from before.
func TestFastPathBesideChanges(t *testing.T) {
	reg := newTestRegistry(t, "docker")
	reg.index.Ready.Store(true)
	z := newTestZone(t, reg)
	packet := packQuery(t, 1, "web.nginx.docker.", dns.TypeA)
	var now atomic.Int64 // the change that is done
	var stop atomic.Bool
	var wg sync.WaitGroup
	versions := make([]*publish.Service, 200)
	for i := range versions {
		versions[i] = testService(t, reg, "s", "web", "nginx", fmt.Sprintf("10.0.0.%d", i))
	}
	reg.Put("s", versions[0])
	for range 2 {
		wg.Go(func() {
			f := dnsserver.NewFastPath(z)
			for !stop.Load() {
				before := now.Load()
				b := f.Answer(packet, netip.MustParseAddr("127.0.0.1"), dnswire.MaxUDPSize, nil)
				after := now.Load() + 1 // that one may be half done
				if got := int64(b[len(b)-1]); after-before < 100 && (got-before+200)%200 > after-before {
					t.Errorf("got version %d; want one from %d to %d", got, before%200, after%200)
					return
				}
			}
		})
	}
	for i := int64(1); i < 50_000; i++ {
		reg.Put("s", versions[i%200])
		now.Store(i)
	}
	stop.Store(true)
	wg.Wait()
}

// Where names are so long that it is close, both paths come to the same size.
func TestFastPathLongApex(t *testing.T) {
	apex := strings.Repeat("a", 61) + "." + strings.Repeat("b", 61) + "." + strings.Repeat("c", 60)
	z := newTestZone(t, filledRegistry(t, apex, 60, pub{"web", "nginx", 0, "10.0.0.1", strings.Repeat("d", 60) + ".example.com"}))
	f := dnsserver.NewFastPath(z)
	for _, qname := range []string{"nosuch." + apex, "web.nginx." + apex, strings.Repeat("x", 60) + ".web.nginx.d" + apex, strings.Repeat("d", 60) + ".example.com"} {
		for _, asked := range []string{qname, strings.ToUpper(qname)} {
			for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
				req := new(dns.Msg).SetQuestion(asked+".", qtype).SetEdns0(512, true)
				packet, err := req.Pack()
				if err != nil {
					t.Fatal(err)
				}
				if !checkFast(t, f, packet, netip.MustParseAddr("127.0.0.1"), dnswire.MaxUDPSize) && strings.HasSuffix(qname, "."+apex) {
					t.Errorf("%s: declined", asked)
				}
			}
		}
	}
}
