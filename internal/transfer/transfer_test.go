package transfer

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/index"
	"github.com/rayje/dnsdock/internal/zone"
	"github.com/rayje/dnsdock/internal/zonetest"
)

var client = netip.MustParseAddr("192.0.2.53")

// newServer returns a server of ix that gives zones to client.
func newServer(t testing.TB, ix *zonetest.Index) (*Server, *dnstest.Log) {
	t.Helper()
	log := dnstest.NewLog()
	logger := slog.New(slog.NewTextHandler(log, nil))
	z := zone.New(t.Context(), ix.Index, forward.New(nil, nil, 0, logger), logger)
	ix.SetZones(map[dnsname.Name]index.Zone{ix.Rules.Apex: {HasEngine: true, Listed: true}}, 0)
	s := New(z, Config{Allow: []netip.Prefix{netip.PrefixFrom(client, 32)}}, logger)
	s.log = slog.New(dnstest.Unlocked(t, log, &s.mu, &s.building))
	ix.Touched.Watch()
	return s, log
}

// ask returns the rcode and the records that a query is answered with.
func ask(t testing.TB, s *Server, from netip.Addr, qtype uint16, serial uint32) (rcode int, records []dns.RR) {
	t.Helper()
	q := new(dns.Msg).SetQuestion("docker.", qtype)
	if qtype == dns.TypeIXFR {
		q.SetIxfr("docker.", serial, "a.", "b.")
	}
	b, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if !s.Takes(b, true) {
		t.Fatal("it does not take the query")
	}
	err = s.Serve(b, from, true, func([]byte) []byte { panic("not asked") }, func(b []byte) error {
		m := new(dns.Msg)
		if err := m.Unpack(b); err != nil {
			t.Fatal(err)
		}
		if len(b) > 1<<14+1<<13 || m.Id != q.Id || !m.Response || m.Question[0] != q.Question[0] {
			t.Fatalf("%d bytes, %v", len(b), m)
		}
		rcode, records = m.Rcode, append(records, m.Answer...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rcode, records
}

// A secondary holds the records of a zone as a nameserver that transfers it does.
type secondary struct {
	serial  uint32
	records map[string]bool
}

// follow applies the reply to an IXFR query, and returns what it was.
func (c *secondary) follow(t testing.TB, list []dns.RR) string {
	t.Helper()
	soa := func(i int) (uint32, bool) { r, ok := list[i].(*dns.SOA); return serialOf(r), ok }
	now, _ := soa(0)
	if len(list) == 1 {
		return "none"
	}
	if _, ok := soa(1); !ok || len(list) == 2 {
		c.records, c.serial = make(map[string]bool), now
		for _, rr := range list[1:] {
			c.records[rr.String()] = true
		}
		return "AXFR"
	}
	if from, _ := soa(1); from != c.serial {
		t.Fatalf("a difference from %d; want %d", from, c.serial)
	}
	isAdded := true
	for _, rr := range list[1 : len(list)-1] {
		if rr.Header().Rrtype == dns.TypeSOA {
			isAdded = !isAdded
		}
		switch text := rr.String(); {
		case c.records[text] == isAdded:
			t.Fatalf("added %t, and it was %t: %s", isAdded, c.records[text], text)
		case isAdded:
			c.records[text] = true
		default:
			delete(c.records, text)
		}
	}
	c.serial = now
	return "IXFR"
}

func serialOf(r *dns.SOA) uint32 {
	if r == nil {
		return 0
	}
	return r.Serial
}

// After any changes the differences lead to the same zone as a whole transfer.
func FuzzDifferences(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		rnd := rand.New(rand.NewPCG(seed, 4))
		ix := zonetest.New(t, "docker", 0)
		s, _ := newServer(t, ix)
		clients := []*secondary{{}, {}}
		names := []string{"a", "b", "a.b", "c", "c.a"}
		serial := uint32(100)
		for range 40 {
			id := fmt.Sprint(rnd.IntN(6))
			if rnd.IntN(3) == 0 {
				ix.Put(id, nil)
			} else {
				alias := names[rnd.IntN(5)] + ".docker"
				addr := fmt.Sprintf("10.0.0.%d", rnd.IntN(4))
				ix.Put(id, ix.Service(t, id, names[rnd.IntN(5)], names[rnd.IntN(5)], addr, alias))
			}
			if rnd.IntN(30) == 0 {
				ix.SetTTL(uint32(rnd.IntN(5)))
			}
			if rnd.IntN(3) == 0 {
				continue
			}
			serial++
			s.step(serial)
			c := clients[rnd.IntN(2)]
			_, list := ask(t, s, client, dns.TypeIXFR, c.serial)
			isFirst := c.records == nil
			if kind := c.follow(t, list); kind == "AXFR" && !isFirst {
				t.Fatalf("seed %d: a second AXFR", seed)
			}
			_, list = ask(t, s, client, dns.TypeAXFR, 0)
			whole := new(secondary)
			if len(list) > 2 {
				whole.follow(t, list)
			}
			if c.serial != whole.serial || fmt.Sprint(c.records) != fmt.Sprint(whole.records) {
				t.Fatalf("seed %d: serial %d, by differences\n%v\nas a whole\n%v",
					seed, serial, c.records, whole.records)
			}
			if fresh, _ := (&zoneCopy{name: ix.Rules.Apex}).read(s.zone, nil, netip.Addr{}); !slices.EqualFunc(
				fresh, s.copyOf(ix.Rules.Apex).current.nodes, (*zone.Node).Equal) {
				t.Fatalf("seed %d: the version differs from the zone", seed)
			}
		}
	})
}

func TestRefusals(t *testing.T) {
	ix := zonetest.New(t, "docker", 0)
	s, log := newServer(t, ix)
	check := func(from netip.Addr, qtype uint16, serial uint32, rcode, count int) {
		t.Helper()
		if got, list := ask(t, s, from, qtype, serial); got != rcode || len(list) != count {
			t.Errorf("got %s with %d records; want %s with %d",
				dns.RcodeToString[got], len(list), dns.RcodeToString[rcode], count)
		}
	}
	check(netip.MustParseAddr("192.0.2.54"), dns.TypeAXFR, 0, dns.RcodeRefused, 0)
	check(client, dns.TypeAXFR, 0, dns.RcodeServerFailure, 0)
	if n := strings.Count(log.String(), "transfer refused"); n != 1 {
		t.Errorf("%d lines of the log; want one, about the client that may ask", n)
	}
	s.step(100)
	check(client, dns.TypeAXFR, 0, dns.RcodeSuccess, 4) // SOA, NS, dnsdock's MX and SOA
	check(client, dns.TypeIXFR, 100, dns.RcodeSuccess, 1)
	check(client, dns.TypeIXFR, 1<<31, dns.RcodeSuccess, 1) // of the future
	check(client, dns.TypeIXFR, 99, dns.RcodeSuccess, 4)
	for range maxOfClient {
		if !s.begin(client) {
			t.Fatal("two transfers of a client are too many")
		}
	}
	check(client, dns.TypeAXFR, 0, dns.RcodeServerFailure, 0)
	s.end(client)
	check(client, dns.TypeAXFR, 0, dns.RcodeSuccess, 4)
	if got := s.Status(); len(got) != 1 || got[0].Addr != client || got[0].Serial != 100 || got[0].Refused != "" {
		t.Errorf("status: got %+v", got)
	}
}

// Messages that are cut anywhere, or are anything else, end no server.
func FuzzServe(f *testing.F) {
	ix := zonetest.Filled(f, 20)
	s, _ := newServer(f, ix)
	s.step(100)
	q, _ := new(dns.Msg).SetIxfr("docker.", 7, "a.", "b.").Pack()
	for end := range len(q) {
		f.Add(q[:end])
	}
	f.Add(q)
	f.Fuzz(func(t *testing.T, b []byte) {
		b = slices.Clone(b)
		if !s.Takes(b, true) {
			return
		}
		replies := 0
		_ = s.Serve(b, client, true, func([]byte) []byte { return nil }, func([]byte) error {
			replies++
			return context.Canceled // the client goes away
		})
		if replies != 1 {
			t.Errorf("%d replies to a client that is gone; want 1", replies)
		}
	})
}
