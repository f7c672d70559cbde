package dnsserver

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/zonetest"
)

// The server of 2015 died of this query.
func TestNoDataForManyServices(t *testing.T) {
	for _, n := range []int{4, 5, 6, 100} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			var pubs []zonetest.Pub
			for i := range n {
				pubs = append(pubs, pub(fmt.Sprintf("redis%d", i), "redis", publish.DefaultTTL,
					fmt.Sprintf("172.17.0.%d", i+1), ""))
			}
			z := newRig(t, zonetest.New(t, "docker", 0, pubs...))
			addr := "127.0.0.1:" + serveZone(t, z, "127.0.0.1:0")
			for _, network := range []string{"udp", "tcp"} {
				const want = "NOERROR aa;; docker. 0 SOA dnsdock.docker. hostmaster.docker. 7 60 10 604800 0"
				r := dnstest.Exchange(t, network, addr, new(dns.Msg).SetQuestion("redis.docker.", dns.TypeAAAA))
				if got := dnstest.ShowSorted(r); got != want {
					t.Errorf("AAAA over %s: got %v; want %v", network, got, want)
				}
				r = dnstest.Exchange(t, network, addr, new(dns.Msg).SetQuestion("redis.docker.", dns.TypeA))
				if r.Rcode != dns.RcodeSuccess || (len(r.Answer) != n && !r.Truncated) {
					t.Errorf("A over %s right after: got %v; want %d addresses", network, dnstest.Show(r), n)
				}
			}
		})
	}
}

// Where the query came to is our address, and what the reply leaves from, on a
// socket that is bound to all addresses too.
func TestLocalAddress(t *testing.T) {
	z := newRig(t, zonetest.New(t, "docker", 0))
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
			if err := c.SetDeadline(time.Now().Add(dnstest.Patience)); err != nil {
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
			if got := dnstest.ShowSorted(m); got != want {
				t.Errorf("over UDP: got %v; want %v", got, want)
			}
			if got := dnstest.ShowSorted(dnstest.Exchange(t, "tcp", to.String(), req)); got != want {
				t.Errorf("over TCP: got %v; want %v", got, want)
			}
			req.Question[0].Qtype = other
			if got := dnstest.Exchange(t, "udp", to.String(),
				req); got.Rcode != dns.RcodeSuccess || len(got.Answer) != 0 {
				t.Errorf("%v: got %v; want no data", dns.Type(other), dnstest.Show(got))
			}
		})
	}
}

func TestEDNS(t *testing.T) {
	z := newRig(t, zonetest.New(t, "docker", 0, pub("web", "nginx", 0, "10.0.0.1", "")))
	addr := "127.0.0.1:" + serveZone(t, z, "127.0.0.1:0")
	for _, qname := range []string{"web.nginx.docker.", "nobody.docker.", "example.com.", "1.0.0.10.in-addr.arpa."} {
		for _, network := range []string{"udp", "tcp"} {
			for _, do := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s over %s DO=%t", qname, network, do), func(t *testing.T) {
					r := dnstest.Exchange(t, network, addr,
						new(dns.Msg).SetQuestion(qname, dns.TypeA).SetEdns0(4096, do))
					opt := r.IsEdns0()
					if opt == nil {
						t.Fatal("got no OPT; want one, as one was sent")
					}
					isOurs := opt.Version() == 0 && opt.UDPSize() == dnswire.MaxUDPSize && opt.Hdr.Name == "."
					if opt.Do() != do || !isOurs {
						t.Errorf("got %v; want version 0, DO %t, size %d", opt, do, dnswire.MaxUDPSize)
					}
					if r := dnstest.Exchange(t, network, addr,
						new(dns.Msg).SetQuestion(qname, dns.TypeA)); r.IsEdns0() != nil {
						t.Errorf("got %v; want no OPT, as none was sent", r.IsEdns0())
					}
				})
			}
		}
	}
	t.Run("version 1", func(t *testing.T) {
		req := new(dns.Msg).SetQuestion("web.nginx.docker.", dns.TypeA).SetEdns0(4096, true)
		req.IsEdns0().SetVersion(1)
		r := dnstest.Exchange(t, "udp", addr, req)
		if r.Rcode != dns.RcodeBadVers || len(r.Answer) != 0 {
			t.Errorf("got %v; want BADVERS and no answer", dnstest.Show(r))
		}
		if opt := r.IsEdns0(); opt == nil || opt.Version() != 0 {
			t.Errorf("got %v; want an OPT of version 0", opt)
		}
	})
	t.Run("options are ignored", func(t *testing.T) {
		req := new(dns.Msg).SetQuestion("web.nginx.docker.", dns.TypeA).SetEdns0(4096, false)
		opt := req.IsEdns0()
		opt.Option = append(opt.Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0123456789abcdef"},
			&dns.EDNS0_NSID{Code: dns.EDNS0NSID})
		r := dnstest.Exchange(t, "udp", addr, req)
		if opt := r.IsEdns0(); len(r.Answer) != 1 || opt == nil || len(opt.Option) != 0 {
			t.Errorf("got %v and %v; want the address and no option", dnstest.Show(r), opt)
		}
	})
}

// A reply over UDP fits the size that the client takes, and says TC with as
// many addresses as fit; over TCP it is whole.
func TestTruncation(t *testing.T) {
	var v4, v6 []string
	for i := range 3000 {
		v4 = append(v4, fmt.Sprintf("10.1.%d.%d", i/250, i%250))
		v6 = append(v6, fmt.Sprintf("fd00::%x", i+1))
	}
	z := newRig(t, zonetest.New(t, "docker", 0,
		pub("many4", "nginx", 0, strings.Join(v4, " "), ""),
		pub("many6", "nginx", 0, strings.Join(v6[:2000], " "), ""),
		pub("few", "redis", 0, "10.2.0.1 10.2.0.2", ""),
		pub(strings.Repeat("a", 60)+"."+strings.Repeat("b", 60), strings.Repeat("c", 60), 0,
			strings.Join(v4[:100], " "), ""),
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
			{-1, 512}, {0, 512}, {100, 512}, {512, 512}, {513, 513}, {1000, 1000}, {1232, 1232},
			{4096, 1232}, {65535, 1232},
		} {
			t.Run(fmt.Sprintf("%.20s size %d", tt.qname, size.asked), func(t *testing.T) {
				checkTruncated(t, addr, tt.qname, tt.qtype, tt.total, size.asked, size.limit)
			})
		}
		t.Run(fmt.Sprintf("%.20s TCP", tt.qname), func(t *testing.T) {
			m := dnstest.Exchange(t, "tcp", addr, new(dns.Msg).SetQuestion(tt.qname, tt.qtype).SetEdns0(512, false))
			seen := make(map[string]bool)
			for _, rr := range m.Answer {
				seen[rr.String()] = true
			}
			if len(seen) != tt.total || len(m.Answer) != tt.total || m.Truncated {
				t.Errorf("got %d addresses, %d different ones, TC %t; want all %d", len(m.Answer), len(seen),
					m.Truncated, tt.total)
			}
		})
	}
}

// checkTruncated asks over UDP for a name of total addresses, with EDNS unless
// asked is -1: as many are answered as fit into limit bytes.
func checkTruncated(t *testing.T, addr, qname string, qtype uint16, total, asked, limit int) {
	t.Helper()
	req := new(dns.Msg).SetQuestion(qname, qtype)
	overhead := 12 + len(qname) + 1 + 4
	if asked >= 0 {
		req.SetEdns0(uint16(asked), true)
		overhead += 11
	}
	b, err := req.Pack()
	if err != nil {
		t.Fatal(err)
	}
	reply := dnstest.RawUDP(t, addr, req.Id, b)[0]
	if len(reply) > limit {
		t.Errorf("got %d bytes; want %d at most", len(reply), limit)
	}
	m := new(dns.Msg)
	if err := m.Unpack(reply); err != nil {
		t.Fatal(err)
	}
	rr := 16 // with its owner compressed
	if qtype == dns.TypeAAAA {
		rr = 28
	}
	fit := min((limit-overhead)/rr, total)
	if len(m.Answer) != fit || m.Truncated != (fit < total) {
		t.Errorf("got %d addresses, TC %t; want %d, TC %t", len(m.Answer), m.Truncated, fit, fit < total)
	}
	if (m.IsEdns0() != nil) != (asked >= 0) {
		t.Errorf("got OPT %v; want one only if one was sent", m.IsEdns0())
	}
	seen := make(map[string]bool)
	for _, rr := range m.Answer {
		seen[rr.String()] = true
	}
	if len(seen) != len(m.Answer) {
		t.Errorf("got %d different addresses of %d", len(seen), len(m.Answer))
	}
}

// Negative answers and errors fit too.
func TestNegativeFits(t *testing.T) {
	addr := "127.0.0.1:" + serveZone(t, newRig(t, zonetest.New(t, "docker", 0)), "127.0.0.1:0")
	long := strings.Repeat("a", 60) + "." + strings.Repeat("b", 60) + "." + strings.Repeat("c", 60) + ".docker."
	for _, size := range []int{-1, 512} {
		req := new(dns.Msg).SetQuestion("x."+strings.Replace(long, "docker.", "no.docker.", 1), dns.TypeA)
		if size > 0 {
			req.SetEdns0(uint16(size), false)
		}
		if r := dnstest.Exchange(t, "udp", addr, req); r.Rcode != dns.RcodeNameError || r.Truncated || len(r.Ns) != 1 {
			t.Errorf("got %v; want NXDOMAIN, whole", dnstest.Show(r))
		}
	}
}
