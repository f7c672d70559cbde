package dnsserver

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/stats"
	"github.com/rayje/dnsdock/internal/zone"
	"github.com/rayje/dnsdock/internal/zonetest"
)

var localhost = zone.Client{Addr: netip.MustParseAddr("127.0.0.1"), Local: netip.MustParseAddr("127.0.0.1")}

// What is replayed is what would be decided, whoever asks, and whatever was
// asked and changed before.
func FuzzReplay(f *testing.F) {
	starting, closest := everyKind(f), everyKind(f)
	starting.ix.Ready.Store(false)
	closest.ix.Rules.Closest = true
	rigs := []rig{everyKind(f), newRig(f, zonetest.New(f, "docker", 60)), starting, closest}
	change := 0
	f.Fuzz(func(t *testing.T, packet []byte) {
		for _, r := range rigs {
			for _, limit := range []int{dnswire.MaxUDPSize, dns.MaxMsgSize} {
				for _, client := range nearby() {
					r.ask(packet, client, limit)
					r.checkReplay(t, packet, client, limit)
				}
				change++ // of what packets may ask, and of what they don't
				r.ix.Put("changing", r.ix.Service(t, "changing", "web", []string{"nginx", "other"}[change%2],
					fmt.Sprintf("10.9.%d.1", change%200)))
				for _, client := range nearby() {
					r.checkReplay(t, packet, client, limit)
				}
			}
		}
	})
}

// Which questions are answered from what is kept when they are asked again.
func TestReplay(t *testing.T) {
	r := everyKind(t)
	for _, tt := range []struct {
		qname  string
		qtypes string
		kept   bool
	}{
		{"web.nginx.docker.", "A AAAA TXT MX SRV HTTPS CAA DS SOA NS", true},
		{"WEB.nginx.Docker.", "A AAAA", true},
		{"x.y.web.nginx.docker.", "A", true},
		{"only4.nginx.docker.", "AAAA TXT", true},
		{"shop.example.com.", "A TXT", true},
		{"www.shop.example.com.", "A HTTPS", true},
		{"com.", "A", true},
		{"many.redis.docker.", "A AAAA", true},
		{"a\\.\\000b.docker.", "A", true},
		{"nosuch.docker.", "A", true},
		{"x.nosuch.docker.", "MX", true},
		{"a.b.docker.", "A", true},
		{"nginx.docker.", "A AAAA TXT", true},
		{"one.sides.docker.", "A AAAA", true},
		{"both.nets.docker.", "A AAAA", true}, // by network
		{"inside.nets2.docker.", "A AAAA", true},
		{"sides.docker.", "A", true},
		{"h.host.docker.", "A AAAA", true}, // by the address that was asked
		{"dnsdock.docker.", "A AAAA TXT", true},
		{"health.docker.", "A AAAA", true},
		{"sick.health.docker.", "AAAA", true},
		{"1.web.shop.docker.", "A", true},
		{"3.web.shop.docker.", "A", true}, // NXDOMAIN
		{"web.shop.docker.", "A TXT", true},
		{"shop.docker.", "A", true}, // NODATA: names are below it
		{"docker.", "HTTPS SOA NS TXT", true},
		{"front.nginx.docker.", "A CNAME TXT", true},
		{"loop.loop.docker.", "A", true},
		{"srv.nginx.docker.", "TXT", true},
		{"_80._tcp.one.sides.docker.", "SRV A", true},
		{"_80._tcp.inside.nets2.docker.", "SRV", true},
		{"_http._tcp.nginx.docker.", "SRV", true},
		{"_80._tcp.srv.nginx.docker.", "SRV", true},
		{"_nosuch._tcp.nginx.docker.", "SRV", true}, // NXDOMAIN
		{"_tcp.nginx.docker.", "A", true},
		{"2.0.17.172.in-addr.arpa.", "PTR A", true},
		{"9.0.17.172.in-addr.arpa.", "PTR", true}, // NXDOMAIN
		{"0.17.172.in-addr.arpa.", "PTR", true},
		{"2." + strings.Repeat("0.", 29) + "d.f.ip6.arpa.", "PTR", true},
		{"localhost.", "A AAAA MX", true},
		{"x.onion.", "A", true},
		{"more.than.docker.", "A", false}, // too large
		{"web.nginx.docker.", "ANY", false},
		{"*.nginx.docker.", "A", false},
		{"www.example.com.", "A", false},
		{"example.com.", "A", false},
		{"x.com.", "A", false},
		{".", "NS", false},
	} {
		for qtype := range strings.FieldsSeq(tt.qtypes) {
			checkKept(t, r, tt.qname, dns.StringToType[qtype], tt.kept)
		}
	}
}

// checkKept asks a question in several ways, and checks whether it is replayed from then on.
func checkKept(t *testing.T, r rig, qname string, qtype uint16, kept bool) {
	t.Helper()
	for _, edns := range []int{0, 512, 1232, 4096} {
		req := new(dns.Msg).SetQuestion(qname, qtype)
		if edns > 0 {
			req.SetEdns0(uint16(edns), edns == 1232)
			req.IsEdns0().Option = append(req.IsEdns0().Option,
				&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0011223344556677"})
		}
		packet, err := req.Pack()
		if err != nil {
			t.Fatal(err)
		}
		for _, limit := range []int{dnswire.MaxUDPSize, dns.MaxMsgSize} {
			for _, client := range append(nearby(), localhost) {
				r.ask(packet, client, limit)
				r.checkReplay(t, packet, client, limit)
			}
			if got := r.checkReplay(t, packet, localhost, limit); got != kept {
				t.Errorf("%s %v, EDNS %d, at most %d bytes: replayed: %t; want %t", qname, dns.Type(qtype), edns,
					limit, got, kept)
			}
		}
	}
}

// Nothing that is replayed allocates.
func TestReplayAllocates(t *testing.T) {
	r := everyKind(t)
	f, reply := r.newReplayer(r.traffic.Take(stats.UDP)), make([]byte, 0, dnswire.MaxUDPSize)
	from := source(clientSource(localhost))
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
		{"both.nets.docker.", dns.TypeA},
		{"front.nginx.docker.", dns.TypeA},
		{"srv.nginx.docker.", dns.TypeTXT},
	} {
		packet := dnstest.Pack(t, 1, q.qname, q.qtype)
		r.ask(packet, localhost, dnswire.MaxUDPSize)
		taken := true
		n := testing.AllocsPerRun(maxReplays/2, func() {
			taken = f.answer(packet, from, dnswire.MaxUDPSize, reply) != nil && taken
		})
		if n != 0 || !taken {
			t.Errorf("%s %s: replayed %t, %v allocations; want none", q.qname, dns.Type(q.qtype), taken, n)
		}
	}
	// Nor does the check whether it is still true.
	packet := dnstest.Pack(t, 1, "only4.nginx.docker.", dns.TypeTXT)
	r.ask(packet, localhost, dnswire.MaxUDPSize)
	other := r.ix.Service(t, "other", "x", "y", "10.0.0.1")
	n := testing.AllocsPerRun(1, func() { r.ix.Put("other", other) })
	with := testing.AllocsPerRun(100, func() {
		r.ix.Put("other", other)
		if f.answer(packet, from, dnswire.MaxUDPSize, reply) == nil {
			t.Fatal("a change of another name ended the answer")
		}
	})
	if with > n+2 {
		t.Errorf("%v allocations with a change, %v by the change alone", with, n)
	}
}

// Nothing that upstreams have said is replayed with an allocation.
func TestCachedAllocates(t *testing.T) {
	up, _, release := dnstest.HeldUpstream(t)
	close(release)
	r := forwarding(t, dnstest.Patience, up)
	packet := dnstest.Pack(t, 1, "www.example.com.", dns.TypeA)
	task, _ := r.taskOf(packet, zone.Client{Addr: localhost.Addr}, dnswire.MaxUDPSize)
	task.decide().Complete()
	f, reply := r.newReplayer(r.traffic.Take(stats.UDP)), make([]byte, 0, dnswire.MaxUDPSize)
	from := source(clientSource(localhost))
	if n := testing.AllocsPerRun(100, func() {
		if f.answer(packet, from, dnswire.MaxUDPSize, reply) == nil {
			t.Fatal("not replayed")
		}
	}); n != 0 {
		t.Errorf("got %v allocations; want none", n)
	}
}

// A slowAuthority does not know at once whether a client is served.
type slowAuthority struct {
	Authority
	known bool
}

func (a slowAuthority) Serves(netip.Addr) (serves, known bool) { return a.known, a.known }

func (slowAuthority) ServesNow(netip.Addr) bool { return true }

// A client of whom only the interfaces tell whether it is local costs
// the others nothing: it is left to the zone, until that knows.
func TestReplayDoesNotReadInterfaces(t *testing.T) {
	ix := zonetest.New(t, "docker", 5)
	ix.Publish(t, `{"name":"web","image":"nginx","ip":"10.0.0.1"}`)
	r := newRig(t, ix)
	packet := dnstest.Pack(t, 1, "web.nginx.docker.", dns.TypeA)
	r.ask(packet, localhost, dnswire.MaxUDPSize)
	for _, known := range []bool{false, true} {
		r.Server.authority = slowAuthority{r.zone, known}
		b := r.replayed(packet, localhost, dnswire.MaxUDPSize)
		if (b != nil) != known {
			t.Errorf("known %t: got %x", known, b)
		}
		if known && b[3]&0x80 == 0 {
			t.Error("a client that is served gets no RA")
		}
	}
}

// Each change is seen by the next query, whatever was kept.
func TestReplayFollowsChanges(t *testing.T) {
	ix := zonetest.New(t, "docker", 0)
	r := newRig(t, ix)
	rnd := rand.New(rand.NewPCG(4, 4))
	owners := []string{"a", "b", "c", "a.b", "b.c"} // parts that make names above and below each other
	part := func() string { return owners[rnd.IntN(len(owners))] }
	kept, asked := 0, 0
	for range 3000 {
		id := fmt.Sprint(rnd.IntN(6))
		switch rnd.IntN(8) {
		case 0:
			ix.Put(id, nil)
		case 1:
			ix.SetTTL(uint32(rnd.IntN(3)))
		default:
			aliases := []string{part() + ".docker", part() + ".example.com"}[:rnd.IntN(3)]
			s := ix.Service(t, id, part(), part(), fmt.Sprintf("10.0.0.%d fd00::%x", rnd.IntN(9), rnd.IntN(9)),
				aliases...)
			s.Ports = []publish.Port{{Number: uint16(80 + rnd.IntN(2)), Proto: "tcp"}}
			ix.Put(id, s)
		}
		for range 4 {
			qname := part() + "." + part() + []string{".docker.", ".example.com.",
				"." + part() + ".docker."}[rnd.IntN(3)]
			qtype := []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeTXT, dns.TypeSRV, dns.TypePTR}[rnd.IntN(5)]
			switch qtype {
			case dns.TypeSRV:
				qname = "_80._tcp." + qname
			case dns.TypePTR:
				qname = fmt.Sprintf("%d.0.0.10.in-addr.arpa.", rnd.IntN(9))
			}
			packet := dnstest.Pack(t, 1, qname, qtype)
			for range 2 { // the second time from what the first one kept
				if asked++; r.checkReplay(t, packet, nearby()[0], dnswire.MaxUDPSize) {
					kept++
				} else {
					r.ask(packet, nearby()[0], dnswire.MaxUDPSize)
				}
			}
		}
	}
	if kept < asked/3 { // half of them are asked for the first time
		t.Errorf("%d of %d queries were replayed; want a third of them", kept, asked)
	}
}

// Readers beside a writer: an answer is from before or after the change, and
// after it never from before.
func TestReplayBesideChanges(t *testing.T) {
	ix := zonetest.New(t, "docker", 0)
	r := newRig(t, ix)
	packet := dnstest.Pack(t, 1, "web.nginx.docker.", dns.TypeA)
	var now, replayed atomic.Int64 // now: the change that is done
	var stop atomic.Bool
	var wg sync.WaitGroup
	versions := make([]*publish.Service, 200)
	for i := range versions {
		versions[i] = ix.Service(t, "s", "web", "nginx", fmt.Sprintf("10.0.0.%d", i))
	}
	ix.Put("s", versions[0])
	for range 2 {
		wg.Go(func() {
			for !stop.Load() {
				before := now.Load()
				b := r.replayed(packet, localhost, dnswire.MaxUDPSize)
				if b != nil {
					replayed.Add(1)
				} else {
					b = r.ask(packet, localhost, dnswire.MaxUDPSize)
				}
				after := now.Load() + 1 // that one may be half done
				if got := int64(b[len(b)-1]); after-before < 100 && (got-before+200)%200 > after-before {
					t.Errorf("got version %d; want one from %d to %d", got, before%200, after%200)
					return
				}
			}
		})
	}
	for i := int64(1); i < 50_000; i++ {
		ix.Put("s", versions[i%200])
		now.Store(i)
	}
	stop.Store(true)
	wg.Wait()
	if replayed.Load() == 0 {
		t.Error("nothing was replayed")
	}
}

// Where names are so long that it is close, a replayed answer has the size of
// one that is decided.
func TestReplayLongApex(t *testing.T) {
	apex := strings.Repeat("a", 61) + "." + strings.Repeat("b", 61) + "." + strings.Repeat("c", 60)
	alias := strings.Repeat("d", 60) + ".example.com"
	r := newRig(t, zonetest.New(t, apex, 60, zonetest.Pub{Name: "web", Image: "nginx", Addrs: "10.0.0.1",
		Aliases: alias}))
	for _, qname := range []string{"nosuch." + apex, "web.nginx." + apex,
		strings.Repeat("x", 60) + ".web.nginx.d" + apex, alias} {
		for _, asked := range []string{qname, strings.ToUpper(qname)} {
			for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
				packet, err := new(dns.Msg).SetQuestion(asked+".", qtype).SetEdns0(512, true).Pack()
				if err != nil {
					t.Fatal(err)
				}
				r.ask(packet, localhost, dnswire.MaxUDPSize)
				if !r.checkReplay(t, packet, localhost, dnswire.MaxUDPSize) && strings.HasSuffix(qname, "."+apex) {
					t.Errorf("%s: not replayed", asked)
				}
			}
		}
	}
}

// A whole answer, from query to reply, replayed and decided.
func BenchmarkAnswer(b *testing.B) {
	for _, count := range []int{10, 1000, 100_000} {
		r := newRig(b, zonetest.Filled(b, count))
		f, reply := r.newReplayer(r.traffic.Take(stats.UDP)), make([]byte, 0, dnswire.MaxUDPSize)
		from := source(clientSource(localhost))
		var packets [][]byte
		for i := range min(count, 1000) {
			i *= count / min(count, 1000)
			packets = append(packets, dnstest.Pack(b, uint16(i), fmt.Sprintf("c%d.image%d.docker.", i, i/10),
				dns.TypeA))
		}
		for _, p := range packets {
			r.ask(p, localhost, dnswire.MaxUDPSize)
		}
		b.Run(fmt.Sprint("replayed/", count), func(b *testing.B) {
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				if f.answer(packets[n%len(packets)], from, dnswire.MaxUDPSize, reply) == nil {
					b.Fatal("not replayed")
				}
			}
		})
		b.Run(fmt.Sprint("decided/", count), func(b *testing.B) {
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				if r.ask(packets[n%len(packets)], localhost, dnswire.MaxUDPSize) == nil {
					b.Fatal("no answer")
				}
			}
		})
	}
}

// byVersion is Changes for which each change ends all kept answers.
type byVersion struct{ Changes }

func (c byVersion) Stamp(dnsname.Name) uint32 { return c.Version() }

// Twenty queries about 10,000 names for each container that starts or ends, with
// kept answers that end with changes of their own name only, or with any change.
func BenchmarkStorm(b *testing.B) {
	const count, queries = 10_000, 20
	for _, by := range []string{"stamp", "version"} {
		b.Run(by, func(b *testing.B) {
			r := newRig(b, zonetest.Filled(b, count))
			if by == "version" {
				r.Server.changes = byVersion{r.Server.changes}
			}
			var packets [][]byte
			for i := range count {
				qname := fmt.Sprintf("c%d.image%d.docker.", i, i/10)
				packets = append(packets, dnstest.Pack(b, uint16(i), qname, dns.TypeA))
			}
			rnd, replayed, asked := rand.New(rand.NewPCG(1, 1)), 0, 0
			f, reply := r.newReplayer(r.traffic.Take(stats.UDP)), make([]byte, 0, dnswire.MaxUDPSize)
			from := source(clientSource(localhost))
			for b.Loop() {
				i := rnd.IntN(count)
				id := fmt.Sprint(i)
				s := r.ix.Service(b, id, fmt.Sprintf("c%d", i), fmt.Sprintf("image%d", i/10), "10.9.9.9")
				r.ix.Put(id, nil)
				r.ix.Put(id, s)
				for range queries {
					p := packets[rnd.IntN(count)]
					if asked++; f.answer(p, from, dnswire.MaxUDPSize, reply) != nil {
						replayed++
					} else {
						r.ask(p, localhost, dnswire.MaxUDPSize)
					}
				}
			}
			b.ReportMetric(float64(replayed)/float64(asked), "replayed/query")
		})
	}
}
