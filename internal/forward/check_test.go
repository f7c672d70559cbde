package forward

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnstest"
)

// Only the reply to our query is taken: whoever guesses wrong has won nothing.
func TestForwardChecksReply(t *testing.T) {
	fakes := map[string]func(q *dns.Msg) []byte{
		"wrong ID": func(q *dns.Msg) []byte { return dnstest.AnswerTo(t, q, func(m *dns.Msg) { m.Id++ }) },
		"wrong name": func(q *dns.Msg) []byte {
			return dnstest.AnswerTo(t, q, func(m *dns.Msg) { m.Question[0].Name = "www.example.net." })
		},
		"longer name": func(q *dns.Msg) []byte {
			return dnstest.AnswerTo(t, q, func(m *dns.Msg) { m.Question[0].Name = "a.www.example.com." })
		},
		"wrong type": func(q *dns.Msg) []byte {
			return dnstest.AnswerTo(t, q, func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAAAA })
		},
		"wrong class": func(q *dns.Msg) []byte {
			return dnstest.AnswerTo(t, q, func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS })
		},
		"no question": func(q *dns.Msg) []byte { return dnstest.AnswerTo(t, q, func(m *dns.Msg) { m.Question = nil }) },
		"two questions": func(q *dns.Msg) []byte {
			return dnstest.AnswerTo(t, q, func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) })
		},
		"a query": func(q *dns.Msg) []byte { return dnstest.AnswerTo(t, q, func(m *dns.Msg) { m.Response = false }) },
		"another opcode": func(q *dns.Msg) []byte {
			return dnstest.AnswerTo(t, q,
				func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify })
		},
		"cut in a record": func(q *dns.Msg) []byte { b := dnstest.AnswerTo(t, q, nil); return b[:len(b)-3] },
		"5 bytes":         func(q *dns.Msg) []byte { return dnstest.AnswerTo(t, q, nil)[:5] },
		"no byte":         func(q *dns.Msg) []byte { return []byte{} },
		"junk":            func(q *dns.Msg) []byte { return []byte(strings.Repeat("junk", 100)) },
		"a header only":   func(q *dns.Msg) []byte { return dnstest.AnswerTo(t, q, nil)[:12] },
		"a pointer loop": func(q *dns.Msg) []byte {
			return append(dnstest.AnswerTo(t, q, nil)[:12],
				"\xc0\x0c\x00\x01\x00\x01"...)
		},
	}
	req := func() *dns.Msg { return queryFor("www.example.com.") }
	for _, what := range slices.Sorted(maps.Keys(fakes)) {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			t.Run("first", func(t *testing.T) {
				f := newForwarder(t, dnstest.StartUpstream(t, func(q *dns.Msg, _ netip.AddrPort) [][]byte {
					return [][]byte{fakes[what](q), fakes[what](q), dnstest.AnswerTo(t, q, dnstest.Address("192.0.2.2"))}
				}, nil))
				m := reply(t, f, req())
				if got, want := show(m), "NOERROR ra; www.example.com. 77 A 192.0.2.2"; got != want {
					t.Errorf("got %v; want %v", got, want)
				}
			})
			t.Run("only", func(t *testing.T) {
				f := newForwarder(t, dnstest.StartUpstream(t, func(q *dns.Msg, _ netip.AddrPort) [][]byte {
					return [][]byte{fakes[what](q)}
				}, nil))
				f.Timeout = shortTimeout
				if got, want := show(reply(t, f, req())), "SERVFAIL ra"; got != want {
					t.Errorf("got %v; want %v", got, want)
				}
			})
		})
	}
	t.Run("another sender", func(t *testing.T) {
		other, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		for _, tt := range []struct {
			last [][]byte
			want string
		}{
			{[][]byte{nil}, "NOERROR ra; www.example.com. 77 A 192.0.2.2"},
			{nil, "SERVFAIL ra"},
		} {
			f := newForwarder(t, dnstest.StartUpstream(t, func(q *dns.Msg, from netip.AddrPort) [][]byte {
				if _, err := other.WriteTo(dnstest.AnswerTo(t, q, dnstest.Address("192.0.2.66")),
					net.UDPAddrFromAddrPort(from)); err != nil && !isProbe(q) {
					t.Error(err)
				}
				if tt.last == nil {
					return nil
				}
				return [][]byte{dnstest.AnswerTo(t, q, dnstest.Address("192.0.2.2"))}
			}, nil))
			if tt.last == nil {
				f.Timeout = shortTimeout
			}
			if got := show(reply(t, f, req())); got != tt.want {
				t.Errorf("got %v; want %v", got, tt.want)
			}
		}
	})
	t.Run("the question in other letter case", func(t *testing.T) {
		f := newForwarder(t, dnstest.StartUpstream(t, dnstest.Answer(t,
			func(m *dns.Msg) { m.Question[0].Name = "WWW.example.COM." }), nil))
		if got, want := show(reply(t, f, req())), "NOERROR ra; www.example.com. 77 A 192.0.2.1"; got != want {
			t.Errorf("got %v; want %v", got, want)
		}
	})
}

// What an upstream adds must not keep a reply from being cut to the client's
// size.
func TestOPTInAnswerIsNotRelayed(t *testing.T) {
	opt := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT, Class: 1232}}
	for what, change := range map[string]func(*dns.Msg){
		"answer":    func(m *dns.Msg) { m.Answer = append(m.Answer, opt) },
		"authority": func(m *dns.Msg) { m.Ns = append(m.Ns, opt) },
	} {
		f := newForwarder(t, dnstest.StartUpstream(t, dnstest.Answer(t, change), nil),
			dnstest.StartUpstream(t, dnstest.Answer(t, dnstest.Address("192.0.2.2")), nil))
		m := reply(t, f, queryFor("www.example.com."))
		if got, want := show(m), "NOERROR ra; www.example.com. 77 A 192.0.2.2"; got != want {
			t.Errorf("%s: got %v; want %v of the next upstream", what, got, want)
		}
	}
}

func TestForwardedTSIG(t *testing.T) {
	f := newForwarder(t, dnstest.StartUpstream(t, dnstest.Answer(t, func(m *dns.Msg) {
		for i := range 60 {
			m.Answer = append(m.Answer, dnstest.Records(t, fmt.Sprintf("www.example.com. 77 IN A 10.1.0.%d", i))...)
		}
		m.Extra = []dns.RR{
			&dns.TSIG{Hdr: dns.RR_Header{Name: "key.", Rrtype: dns.TypeTSIG, Class: dns.ClassANY},
				Algorithm: "hmac-sha256."},
			// behind it, so that no TSIG ends the message
			&dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT, Class: 1232}},
		}
		m.Compress = true
	}), nil))
	m := reply(t, f, queryFor("www.example.com."))
	if len(m.Answer) != 61 {
		t.Errorf("got %d records; want 61", len(m.Answer))
	}
	if len(m.Extra) != 0 {
		t.Errorf("got %v; want no TSIG: it is between us and the upstream", m.Extra)
	}
}

// Nothing outside of the chain is relayed.
func TestOutsideOfTheChain(t *testing.T) {
	const soa = "example.com. 60 IN SOA ns.example.com. host.example.com. 1 2 3 4 60"
	for what, tt := range map[string]struct {
		change func(*dns.Msg)
		want   string
	}{
		"NSEC of others": {func(m *dns.Msg) { m.Ns = dnstest.Records(t, "bank.example.net. 60 IN NSEC z.example.net. A") },
			"NOERROR ra; www.example.com. 77 A 192.0.2.1"},
		"RRSIG of others": {func(m *dns.Msg) {
			m.Ns = dnstest.Records(t, "bank.example.net. 60 IN RRSIG A 8 2 60 20300101000000 20200101000000 1 example.net. AAAA")
		}, "NOERROR ra; www.example.com. 77 A 192.0.2.1"},
		"SOA of class CH": {func(m *dns.Msg) {
			m.Answer, m.Ns = nil,
				dnstest.Records(t, strings.Replace(soa, " IN ", " CH ", 1))
		}, "NOERROR ra"},
		"DNAME twice": {func(m *dns.Msg) {
			m.Answer = dnstest.Records(t,
				"example.com. 60 IN DNAME example.net.\nwww.example.com. 60 IN CNAME b.example.com.\nb.example.com. 60 IN CNAME c.example.com.\nc.example.com. 60 IN A 192.0.2.1")
		}, "NOERROR ra; b.example.com. 60 CNAME c.example.com., c.example.com. 60 A 192.0.2.1, example.com. 60 DNAME example.net., www.example.com. 60 CNAME b.example.com."},
	} {
		f := newForwarder(t, dnstest.StartUpstream(t, dnstest.Answer(t, tt.change), nil))
		if got := show(reply(t, f, queryFor("www.example.com."))); got != tt.want {
			t.Errorf("%s: got %v; want %v", what, got, tt.want)
		}
	}
}

// A BADVERS is a failure, also where addresses come with it.
func TestBadversWithAddress(t *testing.T) {
	for _, bursts := range []bool{false, true} {
		f := newForwarder(t, dnstest.StartUpstream(t, dnstest.Answer(t,
			func(m *dns.Msg) { m.SetEdns0(1232, false); m.Rcode = dns.RcodeBadVers; m.Compress = true }), nil))
		ask := asker(t, f, bursts)
		if got := show(ask(queryFor("www.example.com."))); got != "SERVFAIL ra" {
			t.Errorf("in bursts %t: got %v", bursts, got)
		}
	}
}

// Whatever is in a reply, all of it that answers the question comes back.
func TestLargeAndLongReplies(t *testing.T) {
	many := func(m *dns.Msg) { // as much as a message can hold
		m.Answer, m.Compress = nil, true
		for i := range 4090 {
			m.Answer = append(m.Answer, &dns.A{Hdr: header(m.Question[0].Name, dns.TypeA, 60),
				A: net.IPv4(10, 0, byte(i>>8), byte(i))})
		}
	}
	chainOf := func(n int) func(*dns.Msg) {
		return func(m *dns.Msg) {
			a := m.Answer[0].(*dns.A)
			m.Answer = nil
			for i := range n {
				m.Answer = append(m.Answer, &dns.CNAME{Hdr: header(a.Hdr.Name, dns.TypeCNAME, 60),
					Target: fmt.Sprintf("c%d.example.com.", i)})
				a.Hdr.Name = fmt.Sprintf("c%d.example.com.", i)
			}
			slices.Reverse(m.Answer) // in any order
			m.Answer = append(m.Answer, a)
		}
	}
	loop := func(m *dns.Msg) {
		m.Answer = dnstest.Records(t, "www.example.com. 60 IN CNAME a.example.com.\n"+
			"a.example.com. 60 IN CNAME www.example.com.")
	}
	for _, tt := range []struct {
		what    string
		change  func(*dns.Msg)
		records int
	}{{"65,535 bytes", many, 4090}, {"a chain", chainOf(5), 6}, {"a chain without end", chainOf(100),
		MaxChain}, {"a loop", loop, MaxChain}} {
		for _, inBursts := range []bool{false, true} {
			f := newForwarder(t, dnstest.StartUpstream(t, func(q *dns.Msg, from netip.AddrPort) [][]byte {
				if b := dnstest.AnswerTo(t, q, tt.change); len(b) < 1232 {
					return [][]byte{b}
				}
				return dnstest.Answer(t, truncated)(q, from)
			}, dnstest.Answer(t, tt.change)))
			ask := asker(t, f, inBursts)
			if r := ask(queryFor("www.example.com.")); len(r.Answer) != tt.records || r.Rcode != 0 || r.Truncated {
				t.Errorf("%s, in bursts %t: got %d records; want %d", tt.what, inBursts, len(r.Answer), tt.records)
			}
		}
	}
}
