package dnsserver

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/zonetest"
)

// A script is what an upstream says to questions, "www.example. A", as
// "RCODE", or as records of the answer, "; " and records of the authority section.
type script struct {
	t       testing.TB
	replies map[string]string

	mu    sync.Mutex
	asked []string
}

// serve returns the address of an upstream that plays s.
func (s *script) serve() netip.AddrPort {
	return dnstest.StartUpstream(s.t, func(q *dns.Msg, _ netip.AddrPort) [][]byte {
		question := strings.ToLower(q.Question[0].Name) + " " + dns.Type(q.Question[0].Qtype).String()
		s.mu.Lock()
		s.asked = append(s.asked, question)
		said, ok := s.replies[question]
		s.mu.Unlock()
		if !ok {
			s.t.Errorf("the upstream was asked %s", question)
		}
		return [][]byte{dnstest.AnswerTo(s.t, q, func(m *dns.Msg) {
			m.RecursionAvailable, m.AuthenticatedData, m.Answer = true, true, nil
			head, rest, _ := strings.Cut(said, " ")
			if code, ok := dns.StringToRcode[head]; ok {
				m.Rcode, said = code, rest
			}
			answer, authority, _ := strings.Cut(said, ";")
			m.Answer = dnstest.Records(s.t, strings.ReplaceAll(answer, ",", "\n"))
			m.Ns = dnstest.Records(s.t, strings.ReplaceAll(authority, ",", "\n"))
		})}
	}, nil)
}

// take returns what was asked since the last call.
func (s *script) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := strings.Join(s.asked, ", ")
	s.asked = nil
	return asked
}

const (
	rootSOA = ". 300 IN SOA a.root. nstld.root. 1 2 3 4 300"
	comSOA  = "com. 300 IN SOA ns.com. host.com. 1 2 3 4 300"
	arpaSOA = "in-addr.arpa. 300 IN SOA ns.arpa. host.arpa. 1 2 3 4 300"
)

// The DS records of the top of a zone are in the zone above it, and a name of
// one label is there if it is a top-level domain.
func TestZoneCuts(t *testing.T) {
	up := &script{t: t, replies: map[string]string{
		"dev.docker. DS":           "NXDOMAIN ;" + rootSOA,
		"shop.example.com. DS":     ";" + comSOA,
		"17.172.in-addr.arpa. DS":  ";" + arpaSOA,
		"127.in-addr.arpa. DS":     ";" + arpaSOA,
		"9.9.9.9.in-addr.arpa. DS": ";" + arpaSOA,
		"test. DS":                 ";" + rootSOA,
		"home.arpa. DS":            ";" + rootSOA,
		"com. NS":                  "com. 300 IN NS ns.com.",
		"com. A":                   ";" + comSOA,
		"com. TXT":                 "com. 60 IN TXT \"x\"",
		"com. DS":                  "com. 60 IN DS 1 8 2 " + strings.Repeat("AB", 32),
		"myhost. NS":               "NXDOMAIN ;" + rootSOA,
		"broken. NS":               "SERVFAIL",
		"corp. NS":                 "NXDOMAIN ;" + rootSOA,
	}}
	r := forwarding(t, dnstest.Patience, up.serve())
	ix := zonetest.New(t, "dev.docker", 5, pub("web", "nginx", 0, "172.17.0.2 9.9.9.9", "shop.example.com db.corp"))
	r = rigWith(t, ix, r.fwd)
	const soa = "dev.docker. 5 SOA dnsdock.dev.docker. hostmaster.dev.docker. 7 60 10 604800 5"
	root, com, arpa := "; . 300 SOA a.root. nstld.root. 1 2 3 4 300", "; com. 300 SOA ns.com. host.com. 1 2 3 4 300",
		"; in-addr.arpa. 300 SOA ns.arpa. host.arpa. 1 2 3 4 300"
	for _, tt := range []struct{ question, want, asked string }{
		{"dev.docker. DS", "NXDOMAIN ra;" + root, "dev.docker. DS"},
		{"nginx.dev.docker. DS", "NOERROR aa ra;; " + soa, ""},
		{"x.dev.docker. DS", "NXDOMAIN aa ra;; " + soa, ""},
		{"shop.example.com. DS", "NOERROR ra;" + com, "shop.example.com. DS"},
		{"www.shop.example.com. DS", "NOERROR aa ra;; shop.example.com. 5 SOA dnsdock.dev.docker. hostmaster.shop.example.com. 7 60 10 604800 5", ""},
		{"17.172.in-addr.arpa. DS", "NOERROR ra;" + arpa, "17.172.in-addr.arpa. DS"},
		{"127.in-addr.arpa. DS", "NOERROR ra;" + arpa, "127.in-addr.arpa. DS"},
		{"9.9.9.9.in-addr.arpa. DS", "NOERROR ra;" + arpa, "9.9.9.9.in-addr.arpa. DS"},
		{"test. DS", "NOERROR ra;" + root, "test. DS"},
		{"home.arpa. DS", "NOERROR ra;" + root, "home.arpa. DS"},
		{"com. A", "NOERROR ra;" + com, "com. NS, com. A"},
		{"com. TXT", "NOERROR ra; com. 60 TXT \"x\"", "com. TXT"}, // that it exists is known now
		{"com. NS", "NOERROR ra; com. 300 NS ns.com.", ""},
		{"com. DS", "NOERROR ra; com. 60 DS 1 8 2 " + strings.Repeat("AB", 32), "com. DS"},
		{"myhost. A", "NXDOMAIN ra;" + root, "myhost. NS"},
		{"MyHost. AAAA", "NXDOMAIN ra;" + root, ""},
		{"myhost. CAA", "NXDOMAIN ra;" + root, ""},
		{"myhost. NS", "NXDOMAIN ra;" + root, ""},
		{"broken. A", "SERVFAIL ra", "broken. NS"},
		{"docker. A", "NOERROR ra", ""},       // above the domain: it exists
		{"corp. A", "NOERROR ra", "corp. NS"}, // above an alias
	} {
		qname, qtype, _ := strings.Cut(tt.question, " ")
		m := r.reply(new(dns.Msg).SetQuestion(qname, dns.StringToType[qtype]), netip.Addr{}, 1232)
		got := strings.ReplaceAll(dnstest.ShowSorted(m), "ra;;", "ra;")
		if got != strings.ReplaceAll(tt.want, "ra;;", "ra;") {
			t.Errorf("%s:\ngot  %s;\nwant %s", tt.question, got, tt.want)
		}
		if asked := up.take(); asked != tt.asked {
			t.Errorf("%s: the upstream was asked %q; want %q", tt.question, asked, tt.asked)
		}
	}
}

// A CNAME of an upstream is followed here where its target is ours, has other
// nameservers, or was left without an answer.
func TestUpstreamCNAMEs(t *testing.T) {
	const wrong = "NXDOMAIN "
	up := &script{t: t, replies: map[string]string{
		"ours.example. A":     wrong + "ours.example. 60 IN CNAME web.nginx.docker.;" + rootSOA,
		"twice.example. A":    wrong + "twice.example. 60 IN CNAME b.example.,b.example. 50 IN CNAME web.nginx.docker.;" + rootSOA,
		"gone.example. A":     wrong + "gone.example. 60 IN CNAME nosuch.docker.;" + rootSOA,
		"routed.example. A":   wrong + "routed.example. 60 IN CNAME www.corp.test.;" + rootSOA,
		"open.example. A":     "open.example. 60 IN CNAME www.example.",
		"www.example. A":      "www.example. 70 IN A 192.0.2.9",
		"whole.example. A":    "whole.example. 60 IN CNAME www.example.,www.example. 70 IN A 192.0.2.9",
		"dangling.example. A": wrong + "dangling.example. 60 IN CNAME nosuch.example.;" + rootSOA,
		"local.example. A":    wrong + "local.example. 60 IN CNAME localhost.;" + rootSOA,
		"round.example. A":    "round.example. 60 IN CNAME back.cname.docker.",
		"nodata.example. A":   "nodata.example. 60 IN CNAME web.nginx.docker.",
		"nodata.example. TXT": "nodata.example. 60 IN CNAME web.nginx.docker.",
	}}
	corp := &script{t: t, replies: map[string]string{"www.corp.test. A": "www.corp.test. 80 IN A 192.0.2.8"}}
	r := forwarding(t, dnstest.Patience)
	routes := forward.Routes{dnsname.Root: {{Addr: up.serve()}}, zonetest.Name(t, "corp.test"): {{Addr: corp.serve()}}}
	fwd := forward.New(routes, nil, 1<<20, r.log)
	if err := fwd.Load(); err != nil {
		t.Fatal(err)
	}
	ix := zonetest.New(t, "docker", 5, pub("web", "nginx", 30, "10.0.0.1", ""))
	ix.Publish(t, `{"name":"back","image":"cname","cname":"round.example"}`)
	r = rigWith(t, ix, fwd)
	addr := "127.0.0.1:" + serveZone(t, r, "127.0.0.1:0")
	const soa = "docker. 5 SOA dnsdock.docker. hostmaster.docker. 7 60 10 604800 5"
	for _, tt := range []struct{ question, want string }{
		{"ours.example. A", "NOERROR ra; ours.example. 60 CNAME web.nginx.docker., web.nginx.docker. 30 A 10.0.0.1"},
		{"Twice.example. A", "NOERROR ra; Twice.example. 60 CNAME b.example., b.example. 50 CNAME web.nginx.docker., web.nginx.docker. 30 A 10.0.0.1"},
		{"gone.example. A", "NXDOMAIN ra; gone.example. 60 CNAME nosuch.docker.; " + soa},
		{"routed.example. A", "NOERROR ra; routed.example. 60 CNAME www.corp.test., www.corp.test. 80 A 192.0.2.8"},
		{"open.example. A", "NOERROR ra; open.example. 60 CNAME www.example., www.example. 70 A 192.0.2.9"},
		{"whole.example. A", "NOERROR ra; whole.example. 60 CNAME www.example., www.example. 70 A 192.0.2.9"},
		{"dangling.example. A", "NXDOMAIN ra; dangling.example. 60 CNAME nosuch.example.; . 300 SOA a.root. nstld.root. 1 2 3 4 300"},
		{"local.example. A", "NOERROR ra; local.example. 60 CNAME localhost., localhost. 5 A 127.0.0.1"},
		{"round.example. A", "NOERROR ra; round.example. 60 CNAME back.cname.docker., back.cname.docker. 5 CNAME round.example."},
		{"nodata.example. TXT", "NOERROR ra; nodata.example. 60 CNAME web.nginx.docker.; " + soa},
	} {
		qname, qtype, _ := strings.Cut(tt.question, " ")
		for _, network := range []string{"udp", "tcp", "udp"} { // the last from what is kept
			m := dnstest.Exchange(t, network, addr,
				new(dns.Msg).SetQuestion(qname, dns.StringToType[qtype]).SetEdns0(1232, true))
			for _, rr := range slices.Concat(m.Answer, m.Ns) {
				if h := rr.Header(); h.Ttl+2 > 50 && h.Ttl%10 > 7 {
					h.Ttl += 10 - h.Ttl%10 // a second or two has gone by
				}
			}
			if got := dnstest.Show(m); got != tt.want {
				t.Errorf("%s over %s:\ngot  %s;\nwant %s", tt.question, network, got, tt.want)
			}
			if isOurs := !strings.HasPrefix(tt.question, "whole") && !strings.HasPrefix(tt.question,
				"dangling"); m.AuthenticatedData && isOurs {
				t.Errorf("%s over %s: got AD for records that are not signed", tt.question, network)
			}
		}
	}
}

// What an upstream says why it fails is passed on, and dnsdock says why it refuses.
func TestExtendedErrors(t *testing.T) {
	up := dnstest.StartUpstream(t, func(q *dns.Msg, _ netip.AddrPort) [][]byte {
		return [][]byte{dnstest.AnswerTo(t, q, func(m *dns.Msg) {
			m.Answer, m.Rcode = nil, dns.RcodeServerFailure
			m.SetEdns0(1232, false)
			m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeDNSBogus,
				ExtraText: "no RRSIG"}}
		})}
	}, nil)
	r := forwarding(t, dnstest.Patience)
	routes := forward.Routes{dnsname.Root: {{Addr: up}}, zonetest.Name(t, "blocked.test"): nil}
	fwd := forward.New(routes, nil, 1<<20, r.log)
	if err := fwd.Load(); err != nil {
		t.Fatal(err)
	}
	r = rigWith(t, zonetest.New(t, "docker", 5), fwd)
	starting := rigWith(t, zonetest.New(t, "docker", 5), fwd)
	starting.ix.Ready.Store(false)
	for _, tt := range []struct {
		rig
		client, qname, want string
	}{
		{r, "127.0.0.1", "www.example.", "SERVFAIL [6 (DNSSEC Bogus): (no RRSIG)]"},
		{r, "127.0.0.1", "x.blocked.test.", "REFUSED [15 (Blocked): ()]"},
		{r, "198.51.100.1", "www.example.", "REFUSED [18 (Prohibited): ()]"},
		{r, "127.0.0.1", "nosuch.docker.", "NXDOMAIN []"},
		{starting, "127.0.0.1", "nosuch.docker.", "SERVFAIL [14 (Not Ready): ()]"},
	} {
		for _, edns := range []bool{true, false} {
			req := new(dns.Msg).SetQuestion(tt.qname, dns.TypeA)
			want, _, _ := strings.Cut(tt.want, " ")
			if edns {
				req.SetEdns0(1232, false)
				want = tt.want
			}
			c := localhost
			c.Addr, c.Size = netip.MustParseAddr(tt.client), 1232
			m := tt.replyTo(req, c)
			got := dns.RcodeToString[m.Rcode]
			if opt := m.IsEdns0(); opt != nil {
				got += fmt.Sprint(" ", opt.Option)
			}
			if got != want {
				t.Errorf("%s, EDNS %t: got %s; want %s", tt.qname, edns, got, want)
			}
		}
	}
}
