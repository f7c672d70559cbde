package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnsserver"
	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/index"
	"github.com/rayje/dnsdock/internal/listener"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/zone"
)

// A pub is a service that a test publishes.
type pub struct {
	name, image string
	ttl         int    // seconds; defaultTTL for that of the registry
	addrs       string // with spaces between
	aliases     string
}

// filledRegistry returns a registry under apex that has seen its engine's
// first list, which held pubs.
func filledRegistry(t testing.TB, apex string, ttl uint32, pubs ...pub) *registry {
	t.Helper()
	reg := newRegistry(publish.NameRules{Apex: mustName(t, apex)}, ttl, slog.New(slog.DiscardHandler))
	for i, p := range pubs {
		s := &publish.Service{ID: fmt.Sprintf("%04x", i), ContainerLabel: p.name, ImageLabel: p.image, TTL: p.ttl}
		for _, a := range strings.Fields(p.addrs) {
			s.Addrs = append(s.Addrs, netip.MustParseAddr(a))
		}
		for _, a := range strings.Fields(p.aliases) {
			s.Aliases = append(s.Aliases, mustName(t, a))
		}
		if err := reg.index.Rules.SetOwnerNames(s); err != nil {
			t.Fatal(err)
		}
		reg.Put(s.ID, s)
	}
	reg.index.Ready.Store(true)
	reg.index.Serial.Store(7)
	return reg
}

// A bugHandler is for a log in which there must be no error: that would be a
// bug that is answered with SERVFAIL, which a test might not see.
type bugHandler struct{ slog.Handler }

func (bugHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelError }

func (bugHandler) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool { panic(a) })
	return nil
}

var testRegistries sync.Map // by index

// ix returns the index of reg, from which regOf finds reg again.
func ix(reg *registry) *index.Index {
	testRegistries.Store(reg.index, reg)
	return reg.index
}

func regOf(z *zone.Zone) *registry {
	reg, _ := testRegistries.Load(z.Reg)
	return reg.(*registry)
}

// newTestZone returns a zone of reg without upstreams.
func newTestZone(t testing.TB, reg *registry) *zone.Zone {
	log := slog.New(bugHandler{slog.DiscardHandler})
	return zone.New(t.Context(), ix(reg), forward.New(nil, nil, 0, log), log)
}

// reply is the whole answer of z to a client on this host, upstreams asked.
func reply(z *zone.Zone, req *dns.Msg, local netip.Addr, size int) *dns.Msg {
	return replyOf(z, req, zone.Client{Addr: netip.MustParseAddr("127.0.0.1"), Local: local, Size: size})
}

// replyTo is reply to another client.
func replyTo(z *zone.Zone, req *dns.Msg, from netip.Addr) *dns.Msg {
	return replyOf(z, req, zone.Client{Addr: from, Size: 512})
}

func replyOf(z *zone.Zone, req *dns.Msg, c zone.Client) *dns.Msg {
	m, left := z.Reply(req, c)
	if left != nil {
		z.Forward(m, req, *left, c)
	}
	return m
}

// packed is reply in wire format.
func packed(z *zone.Zone, req *dns.Msg, local netip.Addr, size int) (*dns.Msg, []byte, error) {
	c := zone.Client{Addr: netip.MustParseAddr("127.0.0.1"), Local: local, Size: size}
	m, left := z.Reply(req, c)
	m, b, _, err := z.Finish(m, req, c, left)
	return m, b, err
}

// serveZone serves z over UDP and TCP on addr, which ends in port 0, until
// the test ends; it returns the port.
func serveZone(t testing.TB, z *zone.Zone, addr string) (port string) {
	t.Helper()
	socks, err := listener.Open([]string{addr}, "")
	if err != nil {
		t.Skipf("no address %s here: %v", addr, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	g := newGroup(ctx)
	for _, conn := range socks.UDP {
		srv, started := dnsserver.NewUDPServer(z, conn)
		g.serve("dns udp", srv.ActivateAndServe, started, srv.ShutdownContext)
	}
	srv, started := dnsserver.NewTCPServer(z, socks.TCP[0]), make(chan struct{})
	close(started)
	g.serve("dns tcp", srv.Serve, started, srv.Shutdown)
	t.Cleanup(func() {
		cancel()
		if err := g.wait(); err != nil {
			t.Errorf("servers on %s: %v", addr, err)
		}
	})
	_, port, err = net.SplitHostPort(socks.TCP[0].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// exchange sends q to addr and returns the reply.
func exchange(t testing.TB, network, addr string, q *dns.Msg) *dns.Msg {
	t.Helper()
	c := dns.Client{Net: network, Timeout: patience, UDPSize: dns.MaxMsgSize}
	r, _, err := c.Exchange(q, addr)
	if err != nil {
		t.Fatalf("%v over %s to %s: %v", q.Question, network, addr, err)
	}
	return r
}

// show gives what matters of a reply on one line: the code, the flags that
// a client sees, the answer in order of its text, and the authority section.
func show(m *dns.Msg) string {
	var b strings.Builder
	b.WriteString(dns.RcodeToString[m.Rcode])
	for _, flag := range []struct {
		set  bool
		text string
	}{{m.Authoritative, " aa"}, {m.Truncated, " tc"}, {m.RecursionAvailable, " ra"}} {
		if flag.set {
			b.WriteString(flag.text)
		}
	}
	for _, section := range [][]dns.RR{m.Answer, m.Ns} {
		b.WriteString(";")
		for _, rr := range section {
			b.WriteString(" " + strings.ReplaceAll(strings.ReplaceAll(rr.String(), "\tIN\t", " "), "\t", " ") + ",")
		}
	}
	return strings.ReplaceAll(b.String(), ",;", ";")
}

// showSorted is show with the answer in a fixed order.
func showSorted(m *dns.Msg) string {
	m = m.Copy()
	slices.SortFunc(m.Answer, func(a, b dns.RR) int { return strings.Compare(a.String(), b.String()) })
	return strings.TrimRight(show(m), ",;")
}

// The server of 2015 died of this query.
func TestNoDataForManyServices(t *testing.T) {
	for _, n := range []int{4, 5, 6, 100} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			var pubs []pub
			for i := range n {
				pubs = append(pubs, pub{fmt.Sprintf("redis%d", i), "redis", publish.DefaultTTL, fmt.Sprintf("172.17.0.%d", i+1), ""})
			}
			z := newTestZone(t, filledRegistry(t, "docker", 0, pubs...))
			addr := "127.0.0.1:" + serveZone(t, z, "127.0.0.1:0")
			for _, network := range []string{"udp", "tcp"} {
				const want = "NOERROR aa;; docker. 0 SOA dnsdock.docker. hostmaster.docker. 7 3600 600 86400 0"
				r := exchange(t, network, addr, new(dns.Msg).SetQuestion("redis.docker.", dns.TypeAAAA))
				if got := showSorted(r); got != want {
					t.Errorf("AAAA over %s: got %v; want %v", network, got, want)
				}
				r = exchange(t, network, addr, new(dns.Msg).SetQuestion("redis.docker.", dns.TypeA))
				if r.Rcode != dns.RcodeSuccess || (len(r.Answer) != n && !r.Truncated) {
					t.Errorf("A over %s right after: got %v; want %d addresses", network, show(r), n)
				}
			}
		})
	}
}

func TestReply(t *testing.T) {
	reg := filledRegistry(t, "docker", 60,
		pub{"redis1", "redis", 30, "172.17.0.2 fd00::2", "db.docker shop.example.com"},
		pub{"redis2", "redis", 20, "172.17.0.3 172.17.0.2", "db.docker"},
		pub{"web", "nginx", publish.DefaultTTL, "172.17.0.4", "org box"},
		pub{"v6", "only", 0, "fd00::6", ""},
		pub{"under_score", "a.b", publish.DefaultTTL, "172.17.0.7", "deep.er.example.net"},
	)
	const (
		soa     = " docker. 5 SOA dnsdock.docker. hostmaster.docker. 7 3600 600 86400 5"
		noData  = "NOERROR aa;;" + soa
		unknown = "NXDOMAIN aa;;" + soa
		foreign = "REFUSED"

		soa17    = " 17.172.in-addr.arpa. 5 SOA dnsdock.docker. hostmaster.17.172.in-addr.arpa. 7 3600 600 86400 5"
		unknown6 = "NXDOMAIN aa;; d.f.ip6.arpa. 5 SOA dnsdock.docker. hostmaster.d.f.ip6.arpa. 7 3600 600 86400 5"
		hinfo    = ` 60 HINFO "RFC8482" ""`
	)
	ip6 := func(digits string) string {
		return strings.Repeat("0.", 32-4-len(digits)) + strings.Join(strings.Split(digits, ""), ".") + ".0.0.d.f.ip6.arpa."
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
		{"shop.example.com.", "SOA", "NOERROR aa;; shop.example.com. 5 SOA dnsdock.docker. hostmaster.shop.example.com. 7 3600 600 86400 5"},
		{"shop.example.com.", "NS", "NOERROR aa;; shop.example.com. 5 SOA dnsdock.docker. hostmaster.shop.example.com. 7 3600 600 86400 5"},
		// ANY gets a minimal answer.
		{"redis.docker.", "ANY", "NOERROR aa; redis.docker." + hinfo},
		{"docker.", "ANY", "NOERROR aa; docker." + hinfo},
		{"2.0.17.172.in-addr.arpa.", "ANY", "NOERROR aa; 2.0.17.172.in-addr.arpa." + hinfo},
		// Reverse names.
		{"4.0.17.172.in-addr.arpa.", "PTR", "NOERROR aa; 4.0.17.172.in-addr.arpa. 60 PTR web.nginx.docker., 4.0.17.172.in-addr.arpa. 60 PTR org., 4.0.17.172.in-addr.arpa. 60 PTR box."},
		{"7.0.17.172.IN-ADDR.arpa.", "PTR", "NOERROR aa; 7.0.17.172.IN-ADDR.arpa. 60 PTR under_score.a.b.docker., 7.0.17.172.IN-ADDR.arpa. 60 PTR deep.er.example.net."},
		{ip6("6"), "PTR", unknown6}, // a digit at the wrong end
		{last6, "PTR", "NOERROR aa; " + last6 + " 30 PTR redis1.redis.docker., " + last6 + " 30 PTR shop.example.com., " + last6 + " 30 PTR db.docker."},
		{strings.ToUpper(last6), "AAAA", strings.NewReplacer("NXDOMAIN", "NOERROR", "d.f.ip6.arpa.", "D.F.IP6.ARPA.").Replace(unknown6)},
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
		{"shop.example.com.", "TXT", "NOERROR aa;; shop.example.com. 5 SOA dnsdock.docker. hostmaster.shop.example.com. 7 3600 600 86400 5"},
		{"www.shop.example.com.", "TXT", "NOERROR aa;; shop.example.com. 5 SOA dnsdock.docker. hostmaster.shop.example.com. 7 3600 600 86400 5"},
		{"www.shop.example.com.", "A", "NOERROR aa; www.shop.example.com. 30 A 172.17.0.2"},
		{"shop2.example.com.", "A", foreign},
		{"example.com.", "A", foreign},
		{"example.net.", "A", foreign},
		{"er.example.net.", "A", foreign},
		// An alias of one label answers itself only.
		{"org.", "A", "NOERROR aa; org. 60 A 172.17.0.4"},
		{"org.", "AAAA", "NOERROR aa;; org. 5 SOA dnsdock.docker. hostmaster.org. 7 3600 600 86400 5"},
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
			m := reply(newTestZone(t, reg), req, netip.MustParseAddr("127.0.0.1"), dns.MaxMsgSize)
			got := showSorted(m)
			if tt.qtype == "PTR" { // there the order counts
				got = strings.TrimRight(show(m), ",;")
			}
			if want := strings.TrimRight(tt.want, ",;"); got != want {
				t.Errorf("\ngot  %v;\nwant %v", got, want)
			}
			if !m.Response || m.Id != req.Id || !slices.Equal(m.Question, req.Question) {
				t.Errorf("got a reply with header %v and question %v; want QR, id %d and %v", m.MsgHdr, m.Question, req.Id, req.Question)
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
	reg := filledRegistry(t, "dev.docker.example.com", 9,
		pub{"", "redis", 4, "10.0.0.1", "db.docker.example.com short"},
		pub{"a.b.c", "redis", 3, "10.0.0.1", "db.docker.example.com"},
	)
	const want = "NOERROR aa; 1.0.0.10.in-addr.arpa. 3 PTR a.b.c.redis.dev.docker.example.com.," +
		" 1.0.0.10.in-addr.arpa. 3 PTR redis.dev.docker.example.com.," +
		" 1.0.0.10.in-addr.arpa. 3 PTR db.docker.example.com.," +
		" 1.0.0.10.in-addr.arpa. 3 PTR short."
	m := reply(newTestZone(t, reg), new(dns.Msg).SetQuestion("1.0.0.10.in-addr.arpa.", dns.TypePTR), netip.Addr{}, dns.MaxMsgSize)
	if got := strings.TrimRight(show(m), ",;"); got != want {
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
		{"dev.docker", "x.dev.docker.", "NXDOMAIN aa;; dev.docker. 0 SOA dnsdock.dev.docker. hostmaster.dev.docker. 7 3600 600 86400 0"},
		{"docker.example.com", "one.redis.docker.example.com.", "NOERROR aa; one.redis.docker.example.com. 0 A 10.0.0.1"},
		{"docker.example.com", "example.com.", "REFUSED"},
		{"docker.example.com", "docker.", "REFUSED"},
	} {
		t.Run(tt.apex+" "+tt.qname, func(t *testing.T) {
			z := newTestZone(t, filledRegistry(t, tt.apex, 0, pub{"one", "redis", publish.DefaultTTL, "10.0.0.1", ""}))
			m := reply(z, new(dns.Msg).SetQuestion(tt.qname, dns.TypeA), netip.MustParseAddr("127.0.0.1"), dns.MaxMsgSize)
			if got := showSorted(m); got != tt.want {
				t.Errorf("\ngot  %v;\nwant %v", got, tt.want)
			}
		})
	}
}

// What is not known may come up any moment: it is cached for -ttl, and never
// for more than some seconds.
func TestNegativeTTL(t *testing.T) {
	for _, tt := range []struct{ ttl, want uint32 }{{0, 0}, {3, 3}, {5, 5}, {6, 5}, {publish.MaxTTL, 5}} {
		reg := filledRegistry(t, "docker", tt.ttl, pub{"web", "nginx", 99, "10.0.0.1", ""})
		for _, qname := range []string{"unknown.docker.", "web.nginx.docker."} {
			m := reply(newTestZone(t, reg), new(dns.Msg).SetQuestion(qname, dns.TypeTXT), netip.Addr{}, dns.MaxMsgSize)
			soa, ok := append(m.Ns, nil)[0].(*dns.SOA)
			if !ok || soa.Hdr.Ttl != tt.want || soa.Minttl != tt.want {
				t.Errorf("-ttl=%d: %s: got %v; want a SOA with TTL and minimum %d", tt.ttl, qname, show(m), tt.want)
			}
		}
	}
}

// The serial grows with each change, so that a secondary or a cache sees it.
func TestSerialGrows(t *testing.T) {
	reg := filledRegistry(t, "docker", 0, pub{"web", "nginx", 99, "10.0.0.1", ""})
	z := newTestZone(t, reg)
	serial := func() uint32 {
		m := reply(z, new(dns.Msg).SetQuestion("docker.", dns.TypeSOA), netip.Addr{}, dns.MaxMsgSize)
		return m.Answer[0].(*dns.SOA).Serial
	}
	last := serial()
	for _, change := range []struct {
		what string
		f    func()
	}{
		{"default TTL", func() { reg.setTTL(7) }},
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
	z := newTestZone(t, filledRegistry(t, "docker", 0, pub{"web", "nginx", 0, addrs, ""}))
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

// Before the engine's first list is done, nobody knows what does not exist.
func TestNotReady(t *testing.T) {
	reg := filledRegistry(t, "docker", 0, pub{"web", "nginx", publish.DefaultTTL, "10.0.0.1", "shop.example.com"})
	reg.index.Ready.Store(false)
	z := newTestZone(t, reg)
	const soa = " docker. 0 SOA dnsdock.docker. hostmaster.docker. 7 3600 600 86400 0"
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
				if got := showSorted(m); got != tt.want {
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
	reg.index.Ready.Store(true)
	m := reply(z, new(dns.Msg).SetQuestion("redis.docker.", dns.TypeA), netip.Addr{}, dns.MaxMsgSize)
	if got, want := showSorted(m), "NXDOMAIN aa;;"+soa; got != want {
		t.Errorf("once ready: got %v; want %v", got, want)
	}
}

// Our own name is what the names rule finds first.
func TestOwnNameOfContainer(t *testing.T) {
	reg := filledRegistry(t, "docker", 0, pub{"mine", "dnsdock", 11, "172.17.0.9", ""})
	for _, tt := range []struct {
		qtype uint16
		want  string
	}{
		{dns.TypeA, "NOERROR aa; dnsdock.docker. 11 A 172.17.0.9"},
		{dns.TypeAAAA, "NOERROR aa;; docker. 0 SOA dnsdock.docker. hostmaster.docker. 7 3600 600 86400 0"},
	} {
		for _, local := range []string{"127.0.0.1", "::1"} {
			m := reply(newTestZone(t, reg), new(dns.Msg).SetQuestion("dnsdock.docker.", tt.qtype), netip.MustParseAddr(local), dns.MaxMsgSize)
			if got := showSorted(m); got != tt.want {
				t.Errorf("%v at %s: got %v; want %v", dns.Type(tt.qtype), local, got, tt.want)
			}
		}
	}
}

// Where the query came to is our address, and what the reply leaves from, on a
// socket that is bound to all addresses too.
func TestLocalAddress(t *testing.T) {
	z := newTestZone(t, filledRegistry(t, "docker", 0))
	for _, tt := range []struct{ listen, ask string }{
		{"127.0.0.1:0", "127.0.0.1"},
		{"127.0.0.2:0", "127.0.0.2"},
		{":0", "127.0.0.1"},
		{":0", "127.0.0.2"},
		{":0", "::1"},
		{"0.0.0.0:0", "127.0.0.2"},
		{"[::]:0", "::1"},
		{"[::1]:0", "::1"},
	} {
		t.Run(tt.ask+" at "+tt.listen, func(t *testing.T) {
			probe, err := net.ListenPacket("udp", net.JoinHostPort(tt.ask, "0"))
			if err != nil {
				t.Skipf("no address %s here: %v", tt.ask, err)
			}
			_ = probe.Close()
			to := netip.MustParseAddrPort(net.JoinHostPort(tt.ask, serveZone(t, z, tt.listen)))
			qtype, other := dns.TypeA, dns.TypeAAAA
			if to.Addr().Is6() {
				qtype, other = other, qtype
			}
			req := new(dns.Msg).SetQuestion("dnsdock.docker.", qtype)
			c, err := net.ListenUDP("udp", nil) // not connected: it takes replies from any address
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			b, err := req.Pack()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.WriteToUDPAddrPort(b, to); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 512)
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				t.Fatal(err)
			}
			if got := netip.AddrPortFrom(from.Addr().Unmap(), from.Port()); got != to {
				t.Errorf("got a reply from %v; want %v", got, to)
			}
			m := new(dns.Msg)
			if err := m.Unpack(buf[:n]); err != nil {
				t.Fatal(err)
			}
			want := fmt.Sprintf("NOERROR aa; dnsdock.docker. 0 %s %s", dns.Type(qtype), tt.ask)
			if got := showSorted(m); got != want {
				t.Errorf("over UDP: got %v; want %v", got, want)
			}
			if got := showSorted(exchange(t, "tcp", to.String(), req)); got != want {
				t.Errorf("over TCP: got %v; want %v", got, want)
			}
			req.Question[0].Qtype = other
			if got := exchange(t, "udp", to.String(), req); got.Rcode != dns.RcodeSuccess || len(got.Answer) != 0 {
				t.Errorf("%v: got %v; want no data", dns.Type(other), show(got))
			}
		})
	}
}

func TestEDNS(t *testing.T) {
	z := newTestZone(t, filledRegistry(t, "docker", 0, pub{"web", "nginx", 0, "10.0.0.1", ""}))
	addr := "127.0.0.1:" + serveZone(t, z, "127.0.0.1:0")
	for _, qname := range []string{"web.nginx.docker.", "nobody.docker.", "example.com.", "1.0.0.10.in-addr.arpa."} {
		for _, network := range []string{"udp", "tcp"} {
			for _, do := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s over %s DO=%t", qname, network, do), func(t *testing.T) {
					r := exchange(t, network, addr, new(dns.Msg).SetQuestion(qname, dns.TypeA).SetEdns0(4096, do))
					opt := r.IsEdns0()
					if opt == nil {
						t.Fatal("got no OPT; want one, as one was sent")
					}
					if opt.Do() != do || opt.Version() != 0 || opt.UDPSize() != dnswire.MaxUDPSize || opt.Hdr.Name != "." {
						t.Errorf("got %v; want version 0, DO %t, size %d", opt, do, dnswire.MaxUDPSize)
					}
					if r := exchange(t, network, addr, new(dns.Msg).SetQuestion(qname, dns.TypeA)); r.IsEdns0() != nil {
						t.Errorf("got %v; want no OPT, as none was sent", r.IsEdns0())
					}
				})
			}
		}
	}
	t.Run("version 1", func(t *testing.T) {
		req := new(dns.Msg).SetQuestion("web.nginx.docker.", dns.TypeA).SetEdns0(4096, true)
		req.IsEdns0().SetVersion(1)
		r := exchange(t, "udp", addr, req)
		if r.Rcode != dns.RcodeBadVers || len(r.Answer) != 0 {
			t.Errorf("got %v; want BADVERS and no answer", show(r))
		}
		if opt := r.IsEdns0(); opt == nil || opt.Version() != 0 {
			t.Errorf("got %v; want an OPT of version 0", opt)
		}
	})
	t.Run("options are ignored", func(t *testing.T) {
		req := new(dns.Msg).SetQuestion("web.nginx.docker.", dns.TypeA).SetEdns0(4096, false)
		opt := req.IsEdns0()
		opt.Option = append(opt.Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0123456789abcdef"}, &dns.EDNS0_NSID{Code: dns.EDNS0NSID})
		r := exchange(t, "udp", addr, req)
		if opt := r.IsEdns0(); len(r.Answer) != 1 || opt == nil || len(opt.Option) != 0 {
			t.Errorf("got %v and %v; want the address and no option", show(r), opt)
		}
	})
}

// rawUDP sends packets to addr from one socket and returns the packets that
// come back until one of them has the given id.
func rawUDP(t testing.TB, addr string, id uint16, packets ...[]byte) (replies [][]byte) {
	t.Helper()
	c, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	for _, p := range packets {
		if _, err := c.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, dns.MaxMsgSize)
	for {
		n, err := c.Read(buf)
		if err != nil {
			t.Fatalf("no reply with id %d: %v", id, err)
		}
		replies = append(replies, bytes.Clone(buf[:n]))
		if n >= 2 && binary.BigEndian.Uint16(buf) == id {
			return replies
		}
	}
}

// A reply over UDP fits the size that the client takes, and says TC with as
// many addresses as fit; over TCP it is whole.
func TestTruncation(t *testing.T) {
	var v4, v6 []string
	for i := range 3000 {
		v4 = append(v4, fmt.Sprintf("10.1.%d.%d", i/250, i%250))
		v6 = append(v6, fmt.Sprintf("fd00::%x", i+1))
	}
	z := newTestZone(t, filledRegistry(t, "docker", 0,
		pub{"many4", "nginx", 0, strings.Join(v4, " "), ""},
		pub{"many6", "nginx", 0, strings.Join(v6[:2000], " "), ""},
		pub{"few", "redis", 0, "10.2.0.1 10.2.0.2", ""},
		pub{strings.Repeat("a", 60) + "." + strings.Repeat("b", 60), strings.Repeat("c", 60), 0, strings.Join(v4[:100], " "), ""},
	))
	addr := "127.0.0.1:" + serveZone(t, z, "127.0.0.1:0")
	long := strings.Repeat("a", 60) + "." + strings.Repeat("b", 60) + "." + strings.Repeat("c", 60) + ".docker."
	for _, tt := range []struct {
		qname string
		qtype uint16
		total int
	}{
		{"many4.nginx.docker.", dns.TypeA, 3000},
		{"many6.nginx.docker.", dns.TypeAAAA, 2000},
		{"few.redis.docker.", dns.TypeA, 2},
		{long, dns.TypeA, 100},
	} {
		for _, size := range []struct{ asked, limit int }{ // asked -1: no EDNS
			{-1, 512}, {0, 512}, {100, 512}, {512, 512}, {513, 513}, {1000, 1000}, {1232, 1232}, {4096, 1232}, {65535, 1232},
		} {
			t.Run(fmt.Sprintf("%.20s size %d", tt.qname, size.asked), func(t *testing.T) {
				req := new(dns.Msg).SetQuestion(tt.qname, tt.qtype)
				overhead := 12 + len(tt.qname) + 1 + 4
				if size.asked >= 0 {
					req.SetEdns0(uint16(size.asked), true)
					overhead += 11
				}
				b, err := req.Pack()
				if err != nil {
					t.Fatal(err)
				}
				reply := rawUDP(t, addr, req.Id, b)[0]
				if len(reply) > size.limit {
					t.Errorf("got %d octets; want %d at most", len(reply), size.limit)
				}
				m := new(dns.Msg)
				if err := m.Unpack(reply); err != nil {
					t.Fatal(err)
				}
				rr := 16 // with its owner compressed
				if tt.qtype == dns.TypeAAAA {
					rr = 28
				}
				fit := min((size.limit-overhead)/rr, tt.total)
				if len(m.Answer) != fit || m.Truncated != (fit < tt.total) {
					t.Errorf("got %d addresses, TC %t; want %d, TC %t", len(m.Answer), m.Truncated, fit, fit < tt.total)
				}
				if (m.IsEdns0() != nil) != (size.asked >= 0) {
					t.Errorf("got OPT %v; want one only if one was sent", m.IsEdns0())
				}
				seen := make(map[string]bool)
				for _, rr := range m.Answer {
					seen[rr.String()] = true
				}
				if len(seen) != len(m.Answer) {
					t.Errorf("got %d different addresses of %d", len(seen), len(m.Answer))
				}
			})
		}
		t.Run(fmt.Sprintf("%.20s TCP", tt.qname), func(t *testing.T) {
			m := exchange(t, "tcp", addr, new(dns.Msg).SetQuestion(tt.qname, tt.qtype).SetEdns0(512, false))
			seen := make(map[string]bool)
			for _, rr := range m.Answer {
				seen[rr.String()] = true
			}
			if len(seen) != tt.total || len(m.Answer) != tt.total || m.Truncated {
				t.Errorf("got %d addresses, %d different ones, TC %t; want all %d", len(m.Answer), len(seen), m.Truncated, tt.total)
			}
		})
	}
	// Negative answers and errors fit too.
	for _, size := range []int{-1, 512} {
		req := new(dns.Msg).SetQuestion("x."+strings.Replace(long, "docker.", "no.docker.", 1), dns.TypeA)
		if size > 0 {
			req.SetEdns0(uint16(size), false)
		}
		if r := exchange(t, "udp", addr, req); r.Rcode != dns.RcodeNameError || r.Truncated || len(r.Ns) != 1 {
			t.Errorf("got %v; want NXDOMAIN, whole", show(r))
		}
	}
}

// Several messages on one connection, also in one segment, and cut anywhere.
func TestTCPConnection(t *testing.T) {
	z := newTestZone(t, filledRegistry(t, "docker", 0, pub{"web", "nginx", 0, "10.0.0.1", ""}))
	c, err := net.Dial("tcp", "127.0.0.1:"+serveZone(t, z, "127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	var stream []byte
	const n = 300 // more than the library's own bound for a connection
	for id := range n {
		req := new(dns.Msg).SetQuestion("web.nginx.docker.", dns.TypeA)
		req.Id = uint16(id)
		b, err := req.Pack()
		if err != nil {
			t.Fatal(err)
		}
		stream = append(binary.BigEndian.AppendUint16(stream, uint16(len(b))), b...)
	}
	for len(stream) > 0 {
		k := min(len(stream), 777)
		if _, err := c.Write(stream[:k]); err != nil {
			t.Fatal(err)
		}
		stream = stream[k:]
	}
	for id := range n {
		r, err := (&dns.Conn{Conn: c}).ReadMsg()
		if err != nil {
			t.Fatalf("reply %d: %v", id, err)
		}
		if int(r.Id) != id || len(r.Answer) != 1 {
			t.Fatalf("got reply %d: %v; want reply %d with an address", r.Id, show(r), id)
		}
	}
}

// wire makes a message of a header and what follows it.
func wire(id, bits uint16, counts [4]uint16, rest string) []byte {
	b := binary.BigEndian.AppendUint16(nil, id)
	b = binary.BigEndian.AppendUint16(b, bits)
	for _, c := range counts {
		b = binary.BigEndian.AppendUint16(b, c)
	}
	return append(b, rest...)
}

// Whatever comes is answered with an error or dropped, and a good query
// right after it is answered.
func TestBadPackets(t *testing.T) {
	z := newTestZone(t, filledRegistry(t, "docker", 0, pub{"web", "nginx", 0, "10.0.0.1", ""}))
	addr := "127.0.0.1:" + serveZone(t, z, "127.0.0.1:0")
	const (
		web     = "\x03web\x05nginx\x06docker\x00"
		webA    = web + "\x00\x01\x00\x01"
		opt     = "\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00"
		answer  = "web.nginx.docker. 0 A 10.0.0.1"
		dropped = ""
		bad     = uint16(0xbad)
	)
	one := [4]uint16{1}
	for _, tt := range []struct {
		what   string
		packet []byte
		want   string // show of the reply; empty: none
	}{
		{"good", wire(bad, 0, one, webA), "NOERROR aa; " + answer},
		{"trailing octets", wire(bad, 0, one, webA+"trailing"), "FORMERR"},
		{"class CH", wire(bad, 0, one, "\x07version\x04bind\x00\x00\x10\x00\x03"), "REFUSED"},
		{"class ANY", wire(bad, 0, one, web+"\x00\x01\x00\xff"), "REFUSED"},
		{"class NONE", wire(bad, 0, one, web+"\x00\x01\x00\xfe"), "REFUSED"},
		{"AXFR", wire(bad, 0, one, "\x06docker\x00\x00\xfc\x00\x01"), "REFUSED"},
		{"opcode IQUERY", wire(bad, 1<<11, one, webA), "NOTIMP"},
		{"opcode STATUS", wire(bad, 2<<11, one, webA), "NOTIMP"},
		{"opcode 3", wire(bad, 3<<11, one, webA), "NOTIMP"},
		{"opcode NOTIFY", wire(bad, 4<<11, one, webA), "NOTIMP"},
		{"opcode UPDATE", wire(bad, 5<<11, one, webA), "NOTIMP"},
		{"opcode DSO", wire(bad, 6<<11, [4]uint16{}, ""), "NOTIMP"},
		{"opcode 15", wire(bad, 15<<11, one, webA), "NOTIMP"},
		{"no question", wire(bad, 0, [4]uint16{}, ""), "FORMERR"},
		{"no question but OPT", wire(bad, 0, [4]uint16{0, 0, 0, 1}, opt), "FORMERR"},
		{"two questions", wire(bad, 0, [4]uint16{2}, webA+webA), "FORMERR"},
		{"65535 questions", wire(bad, 0, [4]uint16{65535}, webA), "FORMERR"},
		{"a header only", wire(bad, 0, one, ""), "FORMERR"},
		{"half a name", wire(bad, 0, one, "\x03we"), "FORMERR"},
		{"a name without end", wire(bad, 0, one, "\x03web"), "FORMERR"},
		{"a name without type", wire(bad, 0, one, web), "FORMERR"},
		{"half a type", wire(bad, 0, one, web+"\x00"), "FORMERR"},
		{"no class", wire(bad, 0, one, web+"\x00\x01"), "FORMERR"},
		{"a pointer to itself", wire(bad, 0, one, "\xc0\x0c\x00\x01\x00\x01"), "FORMERR"},
		{"a pointer loop", wire(bad, 0, one, "\x01a\xc0\x10\x01b\xc0\x0c\x00\x01\x00\x01"), "FORMERR"},
		{"a pointer ahead", wire(bad, 0, one, "\xc0\xff\x00\x01\x00\x01"), "FORMERR"},
		{"a pointer into the header", wire(0x0001, 0, one, "\xc0\x00\x00\x01\x00\x01"), "FORMERR"},
		{"a label of type 01", wire(bad, 0, one, "\x41a\x00\x00\x01\x00\x01"), "FORMERR"},
		{"a name of over 255 octets", wire(bad, 0, one, strings.Repeat("\x3f"+strings.Repeat("a", 63), 5)+"\x00\x00\x01\x00\x01"), "FORMERR"},
		{"answers promised", wire(bad, 0, [4]uint16{1, 65535, 65535, 65535}, webA), "FORMERR"},
		{"half a record", wire(bad, 0, [4]uint16{1, 0, 0, 1}, webA+"\x00\x00\x29\x04\xd0"), "FORMERR"},
		{"a record longer than the packet", wire(bad, 0, [4]uint16{1, 0, 0, 1}, webA+"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\xff\xff"), "FORMERR"},
		{"EDNS version 1", wire(bad, 0, [4]uint16{1, 0, 0, 1}, webA+"\x00\x00\x29\x04\xd0\x00\x01\x00\x00\x00\x00"), "BADSIG"}, // 16, which is BADVERS here
		{"two OPT", wire(bad, 0, [4]uint16{1, 0, 0, 2}, webA+opt+opt), "FORMERR"},                                              // RFC 6891 section 6.1.1
		{"TC set", wire(bad, 1<<9, one, webA), "NOERROR aa; " + answer},
		{"AA, RA, Z, AD and CD set", wire(bad, 1<<10|1<<7|1<<6|1<<5|1<<4, one, webA), "NOERROR aa; " + answer},
		{"an rcode set", wire(bad, 9, one, webA), "NOERROR aa; " + answer},
		{"a reply", wire(bad, 1<<15, one, webA), dropped},
		{"a reply with FORMERR", wire(bad, 1<<15|1, [4]uint16{}, ""), dropped},
		{"a NOTIFY reply", wire(bad, 1<<15|4<<11, one, webA), dropped},
		{"nothing", nil, dropped},
		{"1 octet", []byte{1}, dropped},
		{"11 octets", wire(bad, 0, one, "")[:11], dropped},
	} {
		t.Run(tt.what, func(t *testing.T) {
			good := new(dns.Msg).SetQuestion("web.nginx.docker.", dns.TypeA)
			good.Id = 0x600d
			b, err := good.Pack()
			if err != nil {
				t.Fatal(err)
			}
			id := good.Id
			if tt.want != dropped {
				id = binary.BigEndian.Uint16(tt.packet)
			}
			check := func(network string, replies [][]byte) {
				t.Helper()
				last := replies[len(replies)-1]
				if tt.want == dropped {
					if len(replies) > 1 {
						t.Errorf("over %s: got the reply %x; want none", network, replies[0])
					}
					return
				}
				m := new(dns.Msg)
				if err := m.Unpack(last); err != nil {
					t.Fatal(err)
				}
				if got := showSorted(m); got != tt.want || !m.Response {
					t.Errorf("over %s: got %v, QR %t; want %v", network, got, m.Response, tt.want)
				}
			}
			// On UDP a reply may overtake another: first the bad packet's, then the good one's.
			if tt.want != dropped {
				check("udp", rawUDP(t, addr, id, tt.packet))
				rawUDP(t, addr, good.Id, b)
			} else {
				check("udp", rawUDP(t, addr, good.Id, tt.packet, b))
			}
			replies := rawTCP(t, addr, good.Id, tt.packet, b)
			if tt.want != dropped {
				if len(replies) != 2 {
					t.Fatalf("over tcp: got %d replies; want 2", len(replies))
				}
				replies = replies[:1]
			}
			check("tcp", replies)
		})
	}
}

// rawTCP sends packets on one connection and returns the replies until
// one of them has the given id.
func rawTCP(t testing.TB, addr string, id uint16, packets ...[]byte) (replies [][]byte) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	var stream []byte
	for _, p := range packets {
		stream = append(binary.BigEndian.AppendUint16(stream, uint16(len(p))), p...)
	}
	wrote := make(chan error, 1)
	go func() {
		_, err := c.Write(stream)
		wrote <- err
	}()
	defer func() {
		if err := <-wrote; err != nil {
			t.Errorf("write: %v", err)
		}
	}()
	for {
		var n uint16
		if err := binary.Read(c, binary.BigEndian, &n); err != nil {
			t.Fatalf("no reply with id %d: %v", id, err)
		}
		reply := make([]byte, n)
		if _, err := io.ReadFull(c, reply); err != nil {
			t.Fatal(err)
		}
		replies = append(replies, reply)
		if n >= 2 && binary.BigEndian.Uint16(reply) == id {
			return replies
		}
	}
}

const corpusFile = "../shared/corpus/packets.bin.xz"

// corpus returns packets as they were seen on the wire and made by hand:
// queries, replies and what is neither.
func corpus(t testing.TB) (packets [][]byte) {
	t.Helper()
	if _, err := os.Stat(corpusFile); err != nil {
		t.Skipf("no packets here: %v", err)
	}
	xz, err := exec.LookPath("xz")
	if err != nil {
		t.Skipf("the packets can't be unpacked: %v", err)
	}
	b, err := exec.CommandContext(t.Context(), xz, "-dc", corpusFile).Output()
	if err != nil {
		t.Fatal(err)
	}
	for len(b) > 0 { // each is its length, 2 octets, and itself
		n := 2 + int(binary.BigEndian.Uint16(b))
		packets, b = append(packets, b[2:n:n]), b[n:]
	}
	return packets
}

// A load is what the program uses.
type load struct {
	goroutines int
	heap       uint64
}

func loadNow() load {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // the first one only moves what pools hold
	runtime.ReadMemStats(&m)
	return load{runtime.NumGoroutine(), m.HeapAlloc}
}

// returnsTo fails the test unless the program's load comes back to what it
// was, but for 4 MB.
func (was load) returnsTo(t *testing.T) {
	t.Helper()
	const slack = 4 << 20
	late := time.Now().Add(patience)
	for {
		now := loadNow()
		if now.goroutines <= was.goroutines && now.heap <= was.heap+slack {
			return
		}
		if time.Now().After(late) {
			buf := make([]byte, 1<<16)
			t.Fatalf("got %d goroutines and %d octets of heap; want at most %d and %d\n%s", now.goroutines, now.heap, was.goroutines, was.heap+slack, buf[:runtime.Stack(buf, true)])
		}
		runtime.Gosched()
	}
}

func TestCorpusQueries(t *testing.T) {
	packets := corpus(t)
	was := loadNow()
	for _, apex := range []string{"docker", "com"} { // nearly all foreign, many ours
		t.Run(apex, func(t *testing.T) {
			z := newTestZone(t, filledRegistry(t, apex, 0, pub{"web", "nginx", 0, "10.0.0.1", "example.org"}))
			addr := "127.0.0.1:" + serveZone(t, z, "127.0.0.1:0")
			t.Run("udp", func(t *testing.T) { feedUDP(t, addr, apex, packets) })
			t.Run("tcp", func(t *testing.T) { feedTCP(t, addr, apex, packets) })
		})
	}
	was.returnsTo(t)
}

// feedUDP sends packets, and a good query after each few of them.
func feedUDP(t *testing.T, addr, apex string, packets [][]byte) {
	c, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const maxPayload = 65507                     // of UDP over IPv4
	for few := range slices.Chunk(packets, 20) { // no more than a socket's buffer holds
		for _, p := range few {
			if _, err := c.Write(p[:min(len(p), maxPayload)]); err != nil {
				t.Fatal(err)
			}
		}
		req := new(dns.Msg).SetQuestion("WEB.NGINX."+apex+".", dns.TypeA) // as packets do not ask, so that the reply is to it
		for tries := 1; ; tries++ {                                       // one packet of so many may get lost
			if err := awaitUDP(t, c, req); err == nil {
				break
			} else if tries == 10 {
				t.Fatalf("a good query after packets like %x: %v", few[0], err)
			}
		}
	}
}

// awaitUDP sends req and reads replies until that to req comes.
func awaitUDP(t *testing.T, c net.Conn, req *dns.Msg) error {
	good, err := req.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(patience / 10)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(good); err != nil {
		return err
	}
	buf := make([]byte, dns.MaxMsgSize)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return err
		}
		m := new(dns.Msg)
		if err := m.Unpack(buf[:n]); err != nil || n > dnswire.MaxUDPSize || !m.Response {
			t.Fatalf("got %x, %v; want a reply of at most %d octets", buf[:n], err, dnswire.MaxUDPSize)
		}
		if m.Id == req.Id && slices.Equal(m.Question, req.Question) {
			if len(m.Answer) != 1 {
				t.Fatalf("got %v; want the address", show(m))
			}
			return nil
		}
	}
}

// feedTCP sends packets on one connection, and then a good query.
func feedTCP(t *testing.T, addr, apex string, packets [][]byte) {
	req := new(dns.Msg).SetQuestion("web.nginx."+apex+".", dns.TypeA)
	good, err := req.Pack()
	if err != nil {
		t.Fatal(err)
	}
	ids := make(map[uint16]bool)
	for _, p := range packets {
		if len(p) >= 2 {
			ids[binary.BigEndian.Uint16(p)] = true
		}
	}
	for req.Id = range uint16(0xffff) { // one that no packet has
		if !ids[req.Id] {
			break
		}
	}
	binary.BigEndian.PutUint16(good, req.Id)
	replies := rawTCP(t, addr, req.Id, append(slices.Clone(packets), good)...)
	m := new(dns.Msg)
	if err := m.Unpack(replies[len(replies)-1]); err != nil || len(m.Answer) != 1 {
		t.Errorf("a good query after all packets: got %v, %v; want the address", show(m), err)
	}
	answered := 0
	for _, p := range packets {
		if len(p) >= 12 && p[2]&0x80 == 0 {
			answered++
		}
	}
	if got := len(replies) - 1; got != answered {
		t.Errorf("got %d replies; want one for each of the %d queries", got, answered)
	}
}

// Clients that hold a connection and do not talk, talk half, or never read
// cost the others nothing.
func TestTCPSlowClients(t *testing.T) {
	was := loadNow()
	t.Run("clients", func(t *testing.T) {
		var addrs []string
		for i := range 3000 {
			addrs = append(addrs, fmt.Sprintf("10.1.%d.%d", i/250, i%250))
		}
		z := newTestZone(t, filledRegistry(t, "docker", 0,
			pub{"web", "nginx", 0, "10.0.0.1", ""},
			pub{"many", "redis", 0, strings.Join(addrs, " "), ""}))
		addr := "127.0.0.1:" + serveZone(t, z, "127.0.0.1:0")
		dial := func() net.Conn {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			return c
		}
		for range 200 {
			dial()
		}
		if _, err := dial().Write([]byte{0xff, 0xff}); err != nil { // a length and no body
			t.Fatal(err)
		}
		if _, err := dial().Write([]byte{0xff}); err != nil {
			t.Fatal(err)
		}
		// One that asks for 50 kB each time and never reads, until nothing more can be sent.
		many, err := new(dns.Msg).SetQuestion("many.redis.docker.", dns.TypeA).Pack()
		if err != nil {
			t.Fatal(err)
		}
		many = append(binary.BigEndian.AppendUint16(nil, uint16(len(many))), many...)
		deaf := dial()
		full := make(chan error, 1)
		go func() {
			for {
				if _, err := deaf.Write(many); err != nil {
					full <- err
					return
				}
			}
		}()
		for range 50 {
			for _, network := range []string{"udp", "tcp"} {
				if r := exchange(t, network, addr, new(dns.Msg).SetQuestion("web.nginx.docker.", dns.TypeA)); len(r.Answer) != 1 {
					t.Fatalf("over %s: got %v; want the address", network, show(r))
				}
			}
		}
		_ = deaf.Close() // ends the writer
		<-full
	})
	was.returnsTo(t)
}

// A pipeListener is a net.Listener of connections in memory, for simulated
// time.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

func (l *pipeListener) dial() net.Conn { return l.dialFrom(netip.MustParseAddr("127.0.0.1")) }

func (l *pipeListener) dialFrom(a netip.Addr) net.Conn {
	server, client := net.Pipe()
	l.conns <- tcpPipe{server, a}
	return client
}

// A tcpPipe says that it is TCP, from an address.
type tcpPipe struct {
	net.Conn
	from netip.Addr
}

func (p tcpPipe) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(p.from, 9))
}
func (tcpPipe) LocalAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 53} }

// Every connection ends by itself, whatever its client does or not.
func TestTCPTimeouts(t *testing.T) {
	query, err := new(dns.Msg).SetQuestion("web.nginx.docker.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	query = append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)
	for _, tt := range []struct {
		what  string
		send  []byte
		reads bool // the client takes what comes
	}{
		{"says nothing", nil, true},
		{"sends half a length", []byte{0}, true},
		{"sends a length and no body", []byte{0xff, 0xff}, true},
		{"asks once and stays", query, true},
		{"asks and reads nothing", query, false},
	} {
		t.Run(tt.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := newPipeListener()
				srv := dnsserver.NewTCPServer(newTestZone(t, filledRegistry(t, "docker", 0, pub{"web", "nginx", 0, "10.0.0.1", ""})), ln)
				served := make(chan error, 1)
				go func() { served <- srv.Serve() }()
				c := ln.dial()
				begun := time.Now()
				if _, err := c.Write(tt.send); err != nil {
					t.Fatal(err)
				}
				if !tt.reads {
					time.Sleep(time.Minute) // simulated
				}
				if _, err := io.Copy(io.Discard, c); err != nil && !errors.Is(err, io.ErrClosedPipe) {
					t.Fatal(err)
				}
				if took := time.Since(begun); took > time.Minute {
					t.Errorf("the connection ended after %v; want less than a minute", took)
				}
				if err := srv.Shutdown(t.Context()); err != nil {
					t.Errorf("shutdown: %v", err)
				}
				if err := <-served; err != nil {
					t.Errorf("serve: %v", err)
				}
			})
		})
	}
}

// A bug of ours costs one query.
func TestPanicIsServfail(t *testing.T) {
	log := newLogWatch()
	z := newTestZone(t, filledRegistry(t, "docker", 0))
	z.Reg.Nodes.Store(mustName(t, "web.nginx.docker"), nil)
	z.Log = slog.New(slog.NewTextHandler(log, nil))
	addr := "127.0.0.1:" + serveZone(t, z, "127.0.0.1:0")
	for _, network := range []string{"udp", "tcp"} {
		if r := exchange(t, network, addr, new(dns.Msg).SetQuestion("web.nginx.docker.", dns.TypeA)); r.Rcode != dns.RcodeServerFailure {
			t.Errorf("over %s: got %v; want SERVFAIL", network, show(r))
		}
	}
	log.wait(t, "level=ERROR", "bug in dnsdock")

	// While a reply is completed, too.
	z = newTestZone(t, filledRegistry(t, "docker", 0))
	z.Log = slog.New(slog.DiscardHandler) // as newTestZone's ends the test
	req := new(dns.Msg).SetQuestion("web.nginx.docker.", dns.TypeA)
	m, b, _, err := z.Finish(nil, req, zone.Client{Size: 512}, nil)
	if err != nil || m == nil || m.Rcode != dns.RcodeServerFailure {
		t.Errorf("got %v, %v; want SERVFAIL", m, err)
	}
	checkReply(t, req, b, 512)
}

// checkReply fails the test unless b is a reply to req, of at most size
// octets.
func checkReply(t testing.TB, req *dns.Msg, b []byte, size int) {
	t.Helper()
	if len(b) > size {
		t.Errorf("got %d octets; want at most %d", len(b), size)
	}
	m := new(dns.Msg)
	if err := m.Unpack(b); err != nil {
		t.Fatalf("got %x, which can't be read: %v", b, err)
	}
	if !m.Response || m.Id != req.Id || m.Opcode != dns.OpcodeQuery {
		t.Errorf("got header %v; want a reply under id %d", m.MsgHdr, req.Id)
	}
	if !slices.Equal(m.Question, req.Question) {
		t.Errorf("got question %v; want %v", m.Question, req.Question)
	}
	if (m.IsEdns0() != nil) != (req.IsEdns0() != nil) {
		t.Errorf("got OPT %v; want one only if one was sent", m.IsEdns0())
	}
}

// FuzzQuery: any packet that is a query gets a reply to it that fits, and none
// harms.
func FuzzQuery(f *testing.F) {
	var many []string
	for i := range 100 {
		many = append(many, fmt.Sprintf("10.1.0.%d fd00::%x", i, i))
	}
	reg := filledRegistry(f, "docker", 60,
		pub{"web", "nginx", 30, "172.17.0.2 fd00::2", "shop.example.com com"},
		pub{"many", "redis", 30, strings.Join(many, " "), "a\\.\\000b.docker"},
	)
	publishTest(f, reg,
		`{"name":"srv","image":"nginx","ip":"10.2.0.1","ports":["80/tcp=http","53/udp"],"txt":["a","b"]}`,
		`{"name":"front","image":"nginx","cname":"srv.nginx.docker"}`,
		`{"name":"loop","image":"loop","cname":"x.loop.docker"}`)
	zones := map[bool]*zone.Zone{true: newTestZone(f, reg), false: newTestZone(f, filledRegistry(f, "docker", 0))}
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
		for _, size := range []int{dns.MaxMsgSize, zone.UDPSize(req)} {
			m := reply(zones[ready], req, netip.MustParseAddr("127.0.0.1"), size)
			b, err := zone.Pack(m, size)
			if err != nil {
				t.Fatalf("%v can't be packed: %v", m, err)
			}
			checkReply(t, req, b, size)
			isCNAME := func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeCNAME }
			others := slices.DeleteFunc(slices.Clone(m.Answer), isCNAME)
			if m.Rcode == dns.RcodeNameError && (len(others) != 0 || len(m.Ns) != 1 || !m.Authoritative) {
				t.Errorf("got %v; want NXDOMAIN with AA and the SOA only", show(m))
			}
			if len(m.Answer) > 0 && isCNAME(m.Answer[0]) && len(others) > 0 && forward.EqualNames(others[0].Header().Name, req.Question[0].Name) {
				t.Errorf("got %v; want no data beside a CNAME", show(m))
			}
		}
	})
}

// The longest alias leaves no room for a mailbox below it.
func TestLongAliasNoData(t *testing.T) {
	label := strings.Repeat("a", 61) + "."
	alias := strings.Repeat(label, 4) + "bcdef." // 255 octets on the wire
	z := newTestZone(t, filledRegistry(t, "docker", 0, pub{"web", "nginx", 0, "10.0.0.1", alias}))
	m, _, err := packed(z, new(dns.Msg).SetQuestion(alias, dns.TypeAAAA), netip.Addr{}, dns.MaxMsgSize)
	want := fmt.Sprintf("NOERROR aa;; %s 0 SOA dnsdock.docker. %s 7 3600 600 86400 0", alias, alias)
	if got := showSorted(m); got != want || err != nil {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
}

// A reply of many records is no more work than its size.
func TestReplyIsBounded(t *testing.T) {
	reg := newTestRegistry(t, "docker")
	for i := range 5000 {
		id := fmt.Sprint(i)
		reg.Put(id, testService(t, reg, id, "c"+id, "x", "127.0.0.1 "+fmt.Sprintf("10.0.%d.%d", i/250, i%250)))
	}
	z := newTestZone(t, reg)
	for _, c := range []struct {
		qname string
		qtype uint16
	}{{"1.0.0.127.in-addr.arpa.", dns.TypePTR}, {"docker.", dns.TypeA}, {"*.x.docker.", dns.TypeA}} {
		req := new(dns.Msg).SetQuestion(c.qname, c.qtype)
		m := reply(z, req, netip.Addr{}, dns.MinMsgSize)
		if n := len(m.Answer); n < 2 || n > dns.MinMsgSize/zone.MinRR+1 {
			t.Errorf("%s: %d records; want at most %d", c.qname, n, dns.MinMsgSize/zone.MinRR+1)
		}
		if m, b, err := packed(z, req, netip.Addr{}, dns.MinMsgSize); err != nil || len(b) > dns.MinMsgSize || !m.Truncated {
			t.Errorf("%s: %d octets, TC %v, %v; want at most %d, and TC", c.qname, len(b), m.Truncated, err, dns.MinMsgSize)
		}
	}
}

// publish makes services by hand in reg, from what the HTTP API takes.
func publishTest(t testing.TB, reg *registry, services ...string) {
	t.Helper()
	h := apiOf(t, reg)
	for i, body := range services {
		if r := call(t, h, "PUT", fmt.Sprintf("/services/made%d", i), body); r.Code != http.StatusCreated {
			t.Fatalf("%s: got status %d, %s", body, r.Code, r.Body)
		}
	}
	reg.index.Serial.Store(7)
}

// showExtra is the additional section of m, without OPT, in order of its text.
func showExtra(m *dns.Msg) string {
	_, extra := zone.SplitOPT(m.Extra)
	return strings.TrimPrefix(strings.TrimPrefix(showSorted(&dns.Msg{Answer: extra}), "NOERROR"), ";")
}

// SRV, TXT and CNAME records, and what is in the additional section.
func TestRecords(t *testing.T) {
	reg := filledRegistry(t, "docker", 60)
	publishTest(t, reg,
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
			m := reply(newTestZone(t, reg), new(dns.Msg).SetQuestion(tt.qname, dns.StringToType[tt.qtype]), netip.MustParseAddr("127.0.0.1"), dns.MaxMsgSize)
			if got := showSorted(m); got != tt.want {
				t.Errorf("\ngot  %v;\nwant %v", got, tt.want)
			}
			if got := showExtra(m); got != tt.extra {
				t.Errorf("additional section:\ngot  %v;\nwant %v", got, tt.extra)
			}
		})
	}
}

// Names that no site shares are answered here.
func TestLocalZones(t *testing.T) {
	z := newTestZone(t, filledRegistry(t, "docker", 60, pub{"web", "nginx", 0, "10.0.0.1 fe80::1", ""}))
	soa := func(top string) string {
		return fmt.Sprintf(" %s 5 SOA dnsdock.docker. hostmaster.%s 7 3600 600 86400 5", top, top)
	}
	zeros := strings.Repeat("0.", 31)
	for _, tt := range []struct{ qname, qtype, want string }{
		{"localhost.", "A", "NOERROR aa; localhost. 60 A 127.0.0.1"},
		{"LocalHost.", "AAAA", "NOERROR aa; LocalHost. 60 AAAA ::1"},
		{"x.y.localhost.", "A", "NOERROR aa; x.y.localhost. 60 A 127.0.0.1"},
		{"localhost.", "MX", "NOERROR aa;;" + soa("localhost.")},
		{"invalid.", "A", "NOERROR aa;;" + soa("invalid.")},
		{"x.invalid.", "A", "NXDOMAIN aa;;" + soa("invalid.")},
		{"x.onion.", "AAAA", "NXDOMAIN aa;;" + soa("onion.")},
		{"onion.", "SOA", "NOERROR aa;" + soa("onion.")},
		{"notonion.", "A", "REFUSED"},
		{"10.in-addr.arpa.", "SOA", "NOERROR aa;" + soa("10.in-addr.arpa.")},
		{"0.0.10.in-addr.arpa.", "PTR", "NOERROR aa;;" + soa("10.in-addr.arpa.")}, // 10.0.0.1 is below
		{"1.0.10.in-addr.arpa.", "PTR", "NXDOMAIN aa;;" + soa("10.in-addr.arpa.")},
		{"2.0.0.10.in-addr.arpa.", "PTR", "NXDOMAIN aa;;" + soa("10.in-addr.arpa.")},
		{"1.0.0.127.in-addr.arpa.", "PTR", "NXDOMAIN aa;;" + soa("127.in-addr.arpa.")},
		{"1.1.16.172.in-addr.arpa.", "PTR", "NXDOMAIN aa;;" + soa("16.172.in-addr.arpa.")},
		{"1.1.31.172.in-addr.arpa.", "PTR", "NXDOMAIN aa;;" + soa("31.172.in-addr.arpa.")},
		{"1.1.32.172.in-addr.arpa.", "PTR", "REFUSED"},
		{"1.1.15.172.in-addr.arpa.", "PTR", "REFUSED"},
		{"172.in-addr.arpa.", "PTR", "REFUSED"},
		{"1.1.168.192.in-addr.arpa.", "PTR", "NXDOMAIN aa;;" + soa("168.192.in-addr.arpa.")},
		{"1.1.64.100.in-addr.arpa.", "PTR", "NXDOMAIN aa;;" + soa("64.100.in-addr.arpa.")},
		{"1.1.128.100.in-addr.arpa.", "PTR", "REFUSED"},
		{"1.0." + zeros[:56] + "8.e.f.ip6.arpa.", "PTR", "NXDOMAIN aa;;" + soa("8.e.f.ip6.arpa.")},
		{"0." + zeros + "ip6.arpa.", "PTR", "NOERROR aa;;" + soa("0."+zeros+"ip6.arpa.")},
		{"1." + zeros + "ip6.arpa.", "PTR", "NOERROR aa;;" + soa("1."+zeros+"ip6.arpa.")},
		{"1.8.b.d.0.1.0.0.2.ip6.arpa.", "PTR", "NXDOMAIN aa;;" + soa("8.b.d.0.1.0.0.2.ip6.arpa.")},
		{"1.9.b.d.0.1.0.0.2.ip6.arpa.", "PTR", "REFUSED"},
	} {
		t.Run(tt.qname+" "+tt.qtype, func(t *testing.T) {
			m := reply(z, new(dns.Msg).SetQuestion(tt.qname, dns.StringToType[tt.qtype]), netip.Addr{}, dns.MaxMsgSize)
			if got := showSorted(m); got != tt.want {
				t.Errorf("\ngot  %v;\nwant %v", got, tt.want)
			}
		})
	}
	z.Reg.Ready.Store(false)
	if got := showSorted(reply(z, new(dns.Msg).SetQuestion("x.onion.", dns.TypeA), netip.Addr{}, 512)); !strings.HasPrefix(got, "NXDOMAIN") {
		t.Errorf("x.onion before the first list: got %v; want NXDOMAIN", got)
	}
	if got := showSorted(reply(z, new(dns.Msg).SetQuestion("2.0.0.10.in-addr.arpa.", dns.TypePTR), netip.Addr{}, 512)); got != "SERVFAIL" {
		t.Errorf("2.0.0.10.in-addr.arpa before the first list: got %v; want SERVFAIL", got)
	}
}

// What is above a name that exists exists too, in local zones as elsewhere.
func TestNamesAboveInLocalZones(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	up := servers(netip.MustParseAddrPort("192.0.2.53:53")) // is not asked
	routed := forward.Routes{mustName(t, "a.b.onion"): up, mustName(t, "5.1.168.192.in-addr.arpa"): up}
	z := zone.New(t.Context(), ix(filledRegistry(t, "dev.corp.invalid", 60)), loaded(t, forward.New(routed, nil, 0, log)), log)
	for qname, want := range map[string]int{
		"corp.invalid.": dns.RcodeSuccess, "xcorp.invalid.": dns.RcodeNameError, "x.dev.corp.invalid.": dns.RcodeNameError,
		"b.onion.": dns.RcodeSuccess, "c.b.onion.": dns.RcodeNameError,
		"1.168.192.in-addr.arpa.": dns.RcodeSuccess, "2.168.192.in-addr.arpa.": dns.RcodeNameError,
	} {
		if m, left := z.Reply(new(dns.Msg).SetQuestion(qname, dns.TypeA), zone.Client{Size: 512}); m.Rcode != want || len(m.Answer) > 0 || left != nil {
			t.Errorf("%s: got %v, left %v; want %s and no data", qname, show(m), left, dns.RcodeToString[want])
		}
	}
}

// Of the additional section whole RRsets go where there is no room, without
// TC; of the answer whole records go, with TC.
func TestWhatIsLeftOut(t *testing.T) {
	reg := filledRegistry(t, "docker", 60)
	var services []string
	for i := range 30 {
		services = append(services, fmt.Sprintf(`{"name":"web%d","image":"nginx","ips":["10.0.0.%d","10.0.1.%d"],"ports":"80"}`, i, i, i))
	}
	publishTest(t, reg, services...)
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
		_, b, err := packed(newTestZone(t, reg), req, netip.Addr{}, tt.size)
		m := new(dns.Msg)
		if err != nil || m.Unpack(b) != nil || len(b) > tt.size {
			t.Fatalf("%d octets: got %d, %v", tt.size, len(b), err)
		}
		if len(m.Extra)%2 != 0 || m.Truncated != tt.truncated || len(m.Answer) < tt.answers || (len(m.Answer) == 30) == m.Truncated || len(m.Extra) < tt.extra {
			t.Errorf("%d octets: got %d answers, %d additional, TC %t; want at least %d and %d, by twos, and TC %t",
				tt.size, len(m.Answer), len(m.Extra), m.Truncated, tt.answers, tt.extra, tt.truncated)
		}
	}
}

// A TXT RRset larger than any message costs no more than its reply holds.
func TestMuchTXT(t *testing.T) {
	reg := filledRegistry(t, "docker", 0)
	var services []string
	for i := range 20 {
		services = append(services, fmt.Sprintf(`{"name":"web%d","image":"nginx","ip":"10.0.0.1","txt":"%d%s"}`, i, i, strings.Repeat("x", publish.MaxTXT-5)))
	}
	publishTest(t, reg, services...)
	_, b, err := packed(newTestZone(t, reg), new(dns.Msg).SetQuestion("nginx.docker.", dns.TypeTXT), netip.Addr{}, dns.MaxMsgSize)
	m := new(dns.Msg)
	if err != nil || m.Unpack(b) != nil || len(m.Answer) != 7 || !m.Truncated {
		t.Errorf("got %d octets, %d records, TC %t, %v; want 7 records and TC", len(b), len(m.Answer), m.Truncated, err)
	}
}

// However many short texts there are: whole, or cut with TC as late as can be.
func TestManyTXT(t *testing.T) {
	for _, tt := range []struct{ count, length, size int }{
		{120, 2, dnswire.MaxUDPSize}, {50, 1, dnswire.MaxUDPSize}, {50, 1, 512}, {20, 250, dnswire.MaxUDPSize}, {1300, 62, dns.MaxMsgSize}, {120, 2, dns.MaxMsgSize},
	} {
		reg := filledRegistry(t, "docker", 0)
		for i := range tt.count {
			s := testService(t, reg, fmt.Sprint(i), fmt.Sprint(i), "txt", "10.0.0.1")
			s.TXT = []string{fmt.Sprintf("%0*x", tt.length, i)}
			if tt.length == 1 {
				s.TXT[0] = string(rune('A' + i))
			}
			reg.Put(s.ID, s)
		}
		_, b, err := packed(newTestZone(t, reg), new(dns.Msg).SetQuestion("txt.docker.", dns.TypeTXT), netip.Addr{}, tt.size)
		m := new(dns.Msg)
		if err != nil || m.Unpack(b) != nil || len(b) > tt.size {
			t.Fatalf("%+v: got %d octets, %v", tt, len(b), err)
		}
		whole, room := len(m.Answer) == tt.count, tt.size-len(b) >= zone.MinRR-1+tt.length
		if m.Truncated == whole || !whole && room {
			t.Errorf("%+v: got %d of %d records, TC %t, %d octets", tt, len(m.Answer), tt.count, m.Truncated, len(b))
		}
	}
}

// A text of what the library escapes is as long as it is on the wire.
func TestEscapedTXT(t *testing.T) {
	reg := filledRegistry(t, "docker", 0)
	s := testService(t, reg, "bs", "bs", "bs", "10.0.0.1")
	s.TXT = []string{strings.Repeat(`\`, 250), strings.Repeat(`\`, 249) + "a", strings.Repeat(`\`, 200) + `"`}
	reg.Put(s.ID, s)
	_, b, err := packed(newTestZone(t, reg), new(dns.Msg).SetQuestion("bs.bs.docker.", dns.TypeTXT), netip.Addr{}, dnswire.MaxUDPSize)
	m := new(dns.Msg)
	if err != nil || m.Unpack(b) != nil || len(m.Answer) != 3 || m.Truncated {
		t.Errorf("got %d octets, %d records, TC %t, %v; want 3 records", len(b), len(m.Answer), m.Truncated, err)
	}
}

// Our own name is never a CNAME: NS and SOA name it, RFC 2181 section 10.3.
func TestOwnNameIsNoCNAME(t *testing.T) {
	reg := filledRegistry(t, "docker", 0, pub{"web", "nginx", 0, "10.0.0.1", ""})
	publishTest(t, reg, `{"name":"dnsdock","image":"","cname":"web.nginx.docker"}`)
	m := reply(newTestZone(t, reg), new(dns.Msg).SetQuestion("dnsdock.docker.", dns.TypeA), netip.MustParseAddr("10.0.0.53"), 512)
	if got, want := show(m), "NOERROR aa; dnsdock.docker. 0 A 10.0.0.53;"; got != want {
		t.Errorf("got %v; want %v", got, want)
	}
}

// Queries that look at very many services do so in turn, and only so many
// wait: others are answered at once, with SERVFAIL where they would have to
// look at as many.
func TestManyInTurn(t *testing.T) {
	reg := filledRegistry(t, "docker", 0, pub{"web", "nginx", 0, "10.0.0.1", ""})
	for i := range index.Many + 1 {
		s := testService(t, reg, fmt.Sprint("s", i), fmt.Sprint("s", i), "big", "10.1.0.1")
		s.Ports = []publish.Port{{Number: 80, Proto: "tcp", Name: "http"}}
		reg.Put(s.ID, s)
	}
	z := newTestZone(t, reg)
	ask := func(qname string) string {
		return show(reply(z, new(dns.Msg).SetQuestion(qname, dns.TypeA), netip.Addr{}, 512))
	}
	names := []string{
		"web.*.docker.", "0.0.10.in-addr.arpa.", "1.0.1.10.in-addr.arpa.", "docker.", "big.docker.", "*.big.docker.",
		"_80._tcp.big.docker.", "_tcp.big.docker.", "_http._tcp.*.docker.",
	}
	var wg sync.WaitGroup
	z.Walking.Lock()
	for i := range zone.MaxWalkers {
		wg.Go(func() {
			if n := names[i%len(names)]; !strings.HasPrefix(ask(n), "NOERROR aa") {
				t.Errorf("%s: got %s", n, ask(n))
			}
		})
	}
	for len(z.Walkers) < zone.MaxWalkers {
		runtime.Gosched()
	}
	for _, n := range names {
		if got := ask(n); got != "SERVFAIL;;" {
			t.Errorf("%s: got %s; want SERVFAIL", n, got)
		}
	}
	for qname, want := range map[string]string{
		"web.nginx.docker.": "NOERROR aa; web.nginx.docker. 0 A 10.0.0.1;", "1.0.0.10.in-addr.arpa.": "NOERROR aa",
		"*.nginx.docker.": "NOERROR aa; *.nginx.docker. 0 A 10.0.0.1;", "s1.big.docker.": "NOERROR aa", "_80._tcp.web.nginx.docker.": "NOERROR aa",
		"*.localhost.": "NOERROR aa", "x.nosuch.docker.": "NXDOMAIN aa",
	} {
		if got := ask(qname); !strings.HasPrefix(got, want) {
			t.Errorf("%s: got %s; want %s", qname, got, want)
		}
	}
	z.Walking.Unlock()
	wg.Wait()
}

// Types that are no data are never looked up, nor forwarded.
func TestMetaTypes(t *testing.T) {
	z := newTestZone(t, filledRegistry(t, "docker", 0))
	for qtype, want := range map[uint16]int{
		dns.TypeOPT: dns.RcodeFormatError, dns.TypeTSIG: dns.RcodeFormatError, dns.TypeTKEY: dns.RcodeNotImplemented,
		dns.TypeMAILA: dns.RcodeNotImplemented, dns.TypeMAILB: dns.RcodeNotImplemented, dns.TypeAXFR: dns.RcodeRefused, dns.TypeIXFR: dns.RcodeRefused,
	} {
		for _, qname := range []string{"docker.", "example.com."} {
			if m := reply(z, new(dns.Msg).SetQuestion(qname, qtype), netip.Addr{}, 512); m.Rcode != want {
				t.Errorf("%s %s: got %s; want %s", qname, dns.Type(qtype), dns.RcodeToString[m.Rcode], dns.RcodeToString[want])
			}
		}
	}
}

// putContainers publishes containers as the watcher would.
func putContainers(t testing.TB, reg *registry, list ...publish.Container) {
	t.Helper()
	for _, c := range list {
		if c.ID == "" {
			c.ID = c.Name
		}
		s, problems := reg.index.Rules.ServiceOf(&c, "e")
		if problems != nil {
			t.Fatal(problems)
		}
		reg.Put(c.ID, s)
	}
}

// answersTo is what a client is answered: the rcode and the addresses in order.
func answersTo(z *zone.Zone, client, local, qname string, qtype uint16) string {
	m, _ := z.Reply(new(dns.Msg).SetQuestion(qname, qtype), newClientAt(client, local))
	got := []string{dns.RcodeToString[m.Rcode]}
	for _, rr := range append(m.Answer, m.Extra...) {
		switch rr := rr.(type) {
		case *dns.A:
			got = append(got, rr.A.String())
		case *dns.AAAA:
			got = append(got, rr.AAAA.String())
		case *dns.SRV:
			got = append(got, rr.Target)
		}
	}
	return strings.Join(got, " ")
}

func newClientAt(addr, local string) zone.Client {
	c := zone.Client{Addr: netip.MustParseAddr(addr), Size: dns.MaxMsgSize}
	if local != "" {
		c.Local = netip.MustParseAddr(local)
	}
	return c
}

// Of several containers those on the client's network come first, in an order
// that changes; of one on several networks there is only the one that the
// client is on, and the order for others is always the same.
func TestAnswersByClient(t *testing.T) {
	reg := newTestRegistry(t, "docker")
	z := newTestZone(t, reg)
	tcp := []publish.Port{{Number: 80, Proto: "tcp"}}
	putContainers(t, reg,
		publish.Container{Name: "a1", Image: "web", Networks: []publish.Endpoint{netAt("a", "10.1.0.11/24")}, Exposed: tcp},
		publish.Container{Name: "a2", Image: "web", Networks: []publish.Endpoint{netAt("a", "10.1.0.12/24")}, Exposed: tcp},
		publish.Container{Name: "b1", Image: "web", Networks: []publish.Endpoint{netAt("b", "10.2.0.11/24")}, Exposed: tcp},
		publish.Container{Name: "i1", Image: "web", Networks: []publish.Endpoint{netAt("!i", "10.3.0.11/24")}},
		publish.Container{Name: "ab", Image: "db", Networks: []publish.Endpoint{netAt("b", "10.2.0.20/24"), netAt("a", "10.1.0.20/24 fd00:1::20/64")}, Exposed: tcp},
		publish.Container{Name: "in", Image: "db2", Networks: []publish.Endpoint{netAt("!i", "10.3.0.20/24")}, Exposed: tcp},
	)
	for _, c := range []struct {
		client, qname string
		qtype         uint16
		want          []string // one of them, each at some time
	}{
		{"10.1.0.99", "web.docker.", dns.TypeA, []string{"NOERROR 10.1.0.11 10.1.0.12 10.2.0.11", "NOERROR 10.1.0.12 10.1.0.11 10.2.0.11"}},
		{"10.2.0.99", "web.docker.", dns.TypeA, []string{"NOERROR 10.2.0.11 10.1.0.11 10.1.0.12", "NOERROR 10.2.0.11 10.1.0.12 10.1.0.11"}},
		{"10.3.0.99", "i1.web.docker.", dns.TypeA, []string{"NOERROR 10.3.0.11"}},
		{"10.2.0.99", "i1.web.docker.", dns.TypeA, []string{"NOERROR"}},
		{"192.0.2.1", "ab.db.docker.", dns.TypeA, []string{"NOERROR 10.1.0.20 10.2.0.20"}},
		{"10.1.0.99", "ab.db.docker.", dns.TypeA, []string{"NOERROR 10.1.0.20"}},
		{"10.1.0.99", "ab.db.docker.", dns.TypeAAAA, []string{"NOERROR fd00:1::20"}},
		{"fd00:1::99", "ab.db.docker.", dns.TypeA, []string{"NOERROR 10.1.0.20"}},
		{"10.2.0.99", "ab.db.docker.", dns.TypeAAAA, []string{"NOERROR"}},
		{"10.2.0.99", "_80._tcp.ab.db.docker.", dns.TypeSRV, []string{"NOERROR ab.db.docker. 10.2.0.20"}},
		{"10.1.0.99", "_80._tcp.ab.db.docker.", dns.TypeSRV, []string{"NOERROR ab.db.docker. 10.1.0.20 fd00:1::20"}},
		{"192.0.2.1", "_80._tcp.in.db2.docker.", dns.TypeSRV, []string{"NOERROR in.db2.docker."}},
		{"10.3.0.99", "_80._tcp.in.db2.docker.", dns.TypeSRV, []string{"NOERROR in.db2.docker. 10.3.0.20"}},
		{"192.0.2.1", "in.db2.docker.", dns.TypeA, []string{"NOERROR"}},
	} {
		got := make(map[string]bool)
		for range 100 {
			got[answersTo(z, c.client, "", c.qname, c.qtype)] = true
		}
		if all := slices.Sorted(maps.Keys(got)); !slices.Equal(all, c.want) {
			t.Errorf("%s, %s %s: got %q; want %q", c.client, c.qname, dns.Type(c.qtype), all, c.want)
		}
	}
	if m := reply(z, new(dns.Msg).SetQuestion("20.0.3.10.in-addr.arpa.", dns.TypePTR), netip.Addr{}, dns.MaxMsgSize); len(m.Answer) != 1 {
		t.Errorf("PTR of an internal address: got %v; want its name", show(m))
	}
}

// A container that two others answer for, which are on the same networks, has
// both on each of them.
func TestAnswersByPlaces(t *testing.T) {
	reg := newTestRegistry(t, "docker")
	z := newTestZone(t, reg)
	putContainers(t, reg, publish.Container{Name: "site", Image: "web", Labels: map[string]string{"com.dnsdock.ip_addr": "container:p1,container:p2"}, Others: map[string][]publish.Endpoint{
		"p1": {netAt("a", "10.1.0.11/24"), netAt("b", "10.2.0.11/24")},
		"p2": {netAt("a", "10.1.0.12/24"), netAt("b", "10.2.0.12/24")},
	}})
	for client, want := range map[string]string{
		"10.1.0.99": "NOERROR 10.1.0.11 10.1.0.12",
		"10.2.0.99": "NOERROR 10.2.0.11 10.2.0.12",
		"192.0.2.1": "NOERROR 10.1.0.11 10.1.0.12 10.2.0.11 10.2.0.12",
	} {
		if got := answersTo(z, client, "", "site.web.docker.", dns.TypeA); got != want {
			t.Errorf("%s: got %q; want %q", client, got, want)
		}
	}
}

// What is above the domain of an engine exists, whatever is in that (RFC 8020).
func TestNamesAboveZones(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	reg := newRegistry(publish.NameRules{Apex: mustName(t, "docker")}, 60, log, mustName(t, "b.c.docker"))
	reg.index.Ready.Store(true)
	z := newTestZone(t, reg)
	for qname, want := range map[string]string{"c.docker.": "NOERROR", "b.c.docker.": "NOERROR", "d.docker.": "NXDOMAIN", "x.b.c.docker.": "NXDOMAIN"} {
		if got := answersTo(z, "192.0.2.1", "", qname, dns.TypeA); got != want {
			t.Errorf("%s: got %q; want %q", qname, got, want)
		}
		packet, err := new(dns.Msg).SetQuestion(qname, dns.TypeA).Pack()
		if err != nil {
			t.Fatal(err)
		}
		checkFast(t, dnsserver.NewFastPath(z), packet, netip.MustParseAddr("192.0.2.1"), dnswire.MaxUDPSize)
	}
}

// The first of many are those on the client's network too, where not all fit.
func TestNearFirstOfMany(t *testing.T) {
	reg := newTestRegistry(t, "docker")
	z := newTestZone(t, reg)
	for i := range 2000 {
		n := netAt("far", fmt.Sprintf("10.1.%d.%d/16", i/250, 2+i%250))
		if i%500 == 7 {
			n = netAt("near", fmt.Sprintf("10.2.0.%d/16", 2+i/500))
		}
		putContainers(t, reg, publish.Container{Name: fmt.Sprint("c", i), Image: "many", Networks: []publish.Endpoint{n}})
	}
	c := newClientAt("10.2.9.9", "")
	c.Size = dns.MinMsgSize
	for range 20 {
		m, _ := z.Reply(new(dns.Msg).SetQuestion("many.docker.", dns.TypeA), c)
		for i, rr := range m.Answer[:6] {
			if isNear := netip.MustParsePrefix("10.2.0.0/16").Contains(netip.MustParseAddr(rr.(*dns.A).A.String())); isNear != (i < 4) {
				t.Fatalf("record %d is %v; want the 4 of the network first", i, rr)
			}
		}
	}
}

// A container that has the host's network is answered with the address that
// the client asked, or with the gateway where that is of a container: dnsdock.
func TestHostAddress(t *testing.T) {
	reg := newTestRegistry(t, "docker")
	z := newTestZone(t, reg)
	putContainers(t, reg,
		publish.Container{Name: "h", Image: "app", Networks: []publish.Endpoint{publish.HostNetwork()}},
		publish.Container{Name: "dns", Image: "dnsdock", Networks: []publish.Endpoint{netAt("a", "10.1.0.53/24 fd00:1::53/64"), netAt("b", "10.2.0.53/24")}},
		publish.Container{Name: "mixed", Image: "app", Labels: map[string]string{"com.dnsdock.ip_addr": "host, 192.0.2.7"}},
	)
	check := func(local, qname string, qtype uint16, want string) {
		t.Helper()
		if got := answersTo(z, "192.0.2.1", local, qname, qtype); got != want {
			t.Errorf("%s %s asked at %q: got %q; want %q", qname, dns.Type(qtype), local, got, want)
		}
	}
	check("172.17.0.1", "h.app.docker.", dns.TypeA, "NOERROR 172.17.0.1")
	check("172.17.0.1", "h.app.docker.", dns.TypeAAAA, "NOERROR")
	check("fd00::1", "h.app.docker.", dns.TypeAAAA, "NOERROR fd00::1")
	check("10.1.0.53", "h.app.docker.", dns.TypeA, "NOERROR 10.1.0.1")
	check("10.1.0.53", "h.app.docker.", dns.TypeAAAA, "NOERROR fd00:1::1")
	check("10.2.0.53", "h.app.docker.", dns.TypeA, "NOERROR 10.2.0.1")
	check("", "h.app.docker.", dns.TypeA, "NOERROR") // the system does not tell
	check("172.17.0.1", "1.0.17.172.in-addr.arpa.", dns.TypePTR, "NXDOMAIN")
	putContainers(t, reg, publish.Container{Name: "byhand", Image: "x", Labels: map[string]string{"com.dnsdock.ip_addr": "192.168.1.4"}})
	check("192.168.1.4", "h.app.docker.", dns.TypeA, "NOERROR 192.168.1.4") // the address of the host is a container's by hand
	for range 10 {
		got := strings.Fields(answersTo(z, "192.0.2.1", "172.17.0.1", "mixed.app.docker.", dns.TypeA))
		slices.Sort(got)
		if want := []string{"172.17.0.1", "192.0.2.7", "NOERROR"}; !slices.Equal(got, want) {
			t.Errorf("mixed: got %v; want %v", got, want)
		}
	}
	reg.index.Rules.Host = []netip.Addr{netip.MustParseAddr("198.51.100.4"), netip.MustParseAddr("2001:db8::4")}
	check("10.1.0.53", "h.app.docker.", dns.TypeA, "NOERROR 198.51.100.4")
	check("127.0.0.1", "h.app.docker.", dns.TypeAAAA, "NOERROR 2001:db8::4")
}

// An unhealthy container leaves each name's answer while a healthy one is
// there, for the client that asks.
func TestHealthChecks(t *testing.T) {
	reg := newTestRegistry(t, "docker")
	reg.index.Rules.Health = true
	z := newTestZone(t, reg)
	tcp := []publish.Port{{Number: 80, Proto: "tcp"}}
	put := func(name, image, addr string, sick bool, labels ...string) {
		c := publish.Container{Name: name, Image: image, Sick: sick, Networks: []publish.Endpoint{netAt("a", addr)}, Exposed: tcp, Labels: map[string]string{}}
		for _, l := range labels {
			k, v, _ := strings.Cut(l, "=")
			c.Labels[k] = v
		}
		putContainers(t, reg, c)
	}
	check := func(client, qname string, qtype uint16, want string) {
		t.Helper()
		got := strings.Fields(answersTo(z, client, "", qname, qtype))
		slices.Sort(got[1:])
		if text := strings.Join(got, " "); text != want {
			t.Errorf("%s, %s %s: got %q; want %q", client, qname, dns.Type(qtype), text, want)
		}
	}
	put("w1", "web", "10.1.0.1/24", false)
	put("w2", "web", "10.1.0.2/24 fd00:1::2/64", true)
	check("192.0.2.1", "web.docker.", dns.TypeA, "NOERROR 10.1.0.1")
	check("192.0.2.1", "web.docker.", dns.TypeAAAA, "NOERROR")
	check("192.0.2.1", "w2.web.docker.", dns.TypeA, "NOERROR 10.1.0.2")
	check("192.0.2.1", "w2.web.docker.", dns.TypeAAAA, "NOERROR fd00:1::2")
	check("192.0.2.1", "_80._tcp.web.docker.", dns.TypeSRV, "NOERROR 10.1.0.1 w1.web.docker.")
	put("w1", "web", "10.1.0.1/24", true)
	check("192.0.2.1", "web.docker.", dns.TypeA, "NOERROR 10.1.0.1 10.1.0.2")
	check("192.0.2.1", "_80._tcp.w1.web.docker.", dns.TypeSRV, "NOERROR 10.1.0.1 w1.web.docker.")
	put("w2", "web", "10.1.0.2/24", true, "com.dnsdock.health=ignore")
	check("192.0.2.1", "web.docker.", dns.TypeA, "NOERROR 10.1.0.2")
	reg.index.Rules.Health = false
	put("w1", "web", "10.1.0.1/24", true)
	check("192.0.2.1", "web.docker.", dns.TypeA, "NOERROR 10.1.0.1 10.1.0.2")

	// The healthy one is on an internal network, out of reach of others.
	reg.index.Rules.Health = true
	put("d1", "db", "10.1.0.5/24", true)
	putContainers(t, reg, publish.Container{Name: "d2", Image: "db", Networks: []publish.Endpoint{netAt("!i", "10.3.0.6/24")}})
	check("192.0.2.1", "db.docker.", dns.TypeA, "NOERROR 10.1.0.5")
	check("10.3.0.99", "db.docker.", dns.TypeA, "NOERROR 10.3.0.6")
	check("192.0.2.1", "docker.", dns.TypeA, "NOERROR 10.1.0.1 10.1.0.2")
}

// The names of compose answer where no other does.
func TestComposeNames(t *testing.T) {
	reg := newTestRegistry(t, "docker")
	reg.index.Rules.Second.Compose = true
	z := newTestZone(t, reg)
	instance := func(project, service, number, name, image, addr string) publish.Container {
		return publish.Container{Name: name, Image: image, Networks: []publish.Endpoint{netAt("a", addr)}, Exposed: []publish.Port{{Number: 80, Proto: "tcp"}}, Labels: map[string]string{
			"com.docker.compose.project": project, "com.docker.compose.service": service, "com.docker.compose.container-number": number}}
	}
	putContainers(t, reg,
		instance("shop", "web", "1", "shop_web_1", "nginx", "10.1.0.1/24"),
		instance("shop", "web", "2", "shop_web_2", "nginx", "10.1.0.2/24"),
		instance("shop", "db", "1", "shop_db_1", "redis", "10.1.0.3/24"),
		instance("redis", "web", "1", "redis_web_1", "nginx", "10.1.0.4/24"), // a project that is called as an image is
		publish.Container{Name: "cache", Image: "blog", Networks: []publish.Endpoint{netAt("a", "10.1.0.5/24")}},
		instance("blog", "cache", "1", "blog_cache_1", "nginx", "10.1.0.6/24"),
		publish.Container{Name: "al", Image: "x", Networks: []publish.Endpoint{netAt("a", "10.1.0.7/24")}, Labels: map[string]string{"com.dnsdock.alias": "ali.docker"}},
		instance("ali", "web", "1", "ali_web_1", "nginx", "10.1.0.8/24"),
	)
	for _, c := range []struct{ qname, want string }{
		{"web.shop.docker.", "NOERROR 10.1.0.1 10.1.0.2"},
		{"WEB.Shop.docker.", "NOERROR 10.1.0.1 10.1.0.2"},
		{"1.web.shop.docker.", "NOERROR 10.1.0.1"},
		{"x.y.1.web.shop.docker.", "NOERROR 10.1.0.1"},
		{"3.web.shop.docker.", "NXDOMAIN"},
		{"x.web.shop.docker.", "NXDOMAIN"},
		{"db.shop.docker.", "NOERROR 10.1.0.3"},
		{"shop.docker.", "NOERROR"}, // names are below it
		{"nosuch.shop.docker.", "NXDOMAIN"},
		{"redis.docker.", "NOERROR 10.1.0.3"}, // the image, and not the project
		{"web.redis.docker.", "NOERROR 10.1.0.4"},
		{"shop_db_1.redis.docker.", "NOERROR 10.1.0.3"},
		{"cache.blog.docker.", "NOERROR 10.1.0.5"}, // the container of that name, and not the service
		{"1.cache.blog.docker.", "NOERROR 10.1.0.5"},
		{"blog.docker.", "NOERROR 10.1.0.5"},
		{"web.ali.docker.", "NOERROR 10.1.0.7"}, // below an alias
		{"*.web.shop.docker.", "NOERROR 10.1.0.1 10.1.0.2"},
		{"1.*.shop.docker.", "NOERROR 10.1.0.1 10.1.0.3"},
		{"*.shop.docker.", "NOERROR 10.1.0.1 10.1.0.2 10.1.0.3"},
		{"*.docker.", "NOERROR 10.1.0.1 10.1.0.2 10.1.0.3 10.1.0.4 10.1.0.5 10.1.0.6 10.1.0.7 10.1.0.8"},
		{"docker.", "NOERROR 10.1.0.1 10.1.0.2 10.1.0.3 10.1.0.4 10.1.0.5 10.1.0.6 10.1.0.7 10.1.0.8"},
		{"2.*.docker.", "NOERROR 10.1.0.7"}, // below the alias
	} {
		for _, closest := range []bool{false, true} {
			reg.index.Rules.Closest = closest
			if closest && (c.qname == "redis.docker." || c.qname == "1.*.shop.docker.") { // the same by other rules
				continue
			}
			got := strings.Fields(answersTo(z, "192.0.2.1", "", c.qname, dns.TypeA))
			slices.Sort(got[1:])
			if text := strings.Join(got, " "); text != c.want {
				t.Errorf("%s, closest %t: got %q; want %q", c.qname, closest, text, c.want)
			}
		}
	}
	reg.index.Rules.Closest = false
	if got := answersTo(z, "192.0.2.1", "", "_80._tcp.1.web.shop.docker.", dns.TypeSRV); got != "NOERROR shop_web_1.nginx.docker. 10.1.0.1" {
		t.Errorf("SRV: got %q", got)
	}
	m := reply(z, new(dns.Msg).SetQuestion("1.0.1.10.in-addr.arpa.", dns.TypePTR), netip.Addr{}, dns.MaxMsgSize)
	if len(m.Answer) != 1 || m.Answer[0].(*dns.PTR).Ptr != "shop_web_1.nginx.docker." {
		t.Errorf("PTR: got %v; want the classic name alone", show(m))
	}
	for _, id := range []string{"shop_web_1", "shop_web_2", "shop_db_1"} {
		reg.Forget(id)
	}
	for _, qname := range []string{"web.shop.docker.", "shop.docker.", "1.web.shop.docker."} {
		if got := answersTo(z, "192.0.2.1", "", qname, dns.TypeA); got != "NXDOMAIN" {
			t.Errorf("%s of a project that is gone: got %q; want NXDOMAIN", qname, got)
		}
	}
}
