package forward

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/dnswire"
)

// withID makes p a reply under id, and otherwise leaves it as it is.
func withID(p []byte, id uint16) []byte {
	p = slices.Clone(p)
	if len(p) >= 4 {
		binary.BigEndian.PutUint16(p, id)
		p[2] |= 0x80 // QR
		p[2] &^= 0x78 | 0x02
	}
	return p
}

// Whatever an upstream sends, the client gets a reply that fits, and the
// next query its answer.
func TestCorpusReplies(t *testing.T) {
	packets := dnstest.Corpus(t)
	was := dnstest.LoadNow()
	t.Run("replies", func(t *testing.T) {
		var wg sync.WaitGroup
		workers := 4
		for w := range workers {
			var packet atomic.Pointer[[]byte]
			var overTCP atomic.Bool
			evil := func(q *dns.Msg, _ netip.AddrPort) [][]byte {
				return [][]byte{withID(*packet.Load(), q.Id), dnstest.AnswerTo(t, q, nil)}
			}
			f := newForwarder(t, dnstest.StartUpstream(t, func(q *dns.Msg, from netip.AddrPort) [][]byte {
				if overTCP.Load() {
					return dnstest.Answer(t, truncated)(q, from)
				}
				return evil(q, from)
			}, evil))
			f.Timeout = UpstreamTimeout // one packet of so many may get lost
			wg.Go(func() {
				for i := w; i < len(packets); i += workers {
					req := queryFor("www.example.com.")
					p := packets[i]
					m := new(dns.Msg)
					if m.Unpack(p) == nil && len(m.Question) == 1 && m.Question[0].Qclass == dns.ClassINET {
						req.Question = m.Question
					}
					packet.Store(&p)
					overTCP.Store(i/workers%8 == 0)
					r := f.Answer(t.Context(), questionOf(t, req), req.Id, localhost)
					if r == nil || r.Question != questionOf(t, req) {
						t.Errorf("after %x: got %v; want a response to the question", p, r)
						return
					}
					if m, err := r.Message(0); err != nil || m.Question[0].Qtype != req.Question[0].Qtype {
						t.Errorf("after %x: got %v, %v", p, m, err)
					}
				}
			})
		}
		wg.Wait()
	})
	was.ReturnsTo(t)
}

// FuzzUpstreamReply: whatever an upstream sends, the response can be written, with all records of what was asked,
// and says the same when it comes from the cache.
func FuzzUpstreamReply(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte, dnssec bool) {
		r := new(dns.Msg)
		if r.Unpack(data) != nil || len(r.Question) != 1 || r.Question[0].Qclass != dns.ClassINET {
			return
		}
		n, err := dnsname.Parse(r.Question[0].Name)
		if err != nil {
			return
		}
		flags := byte(dnscache.RD)
		if dnssec {
			flags |= dnscache.DO
		}
		q := dnscache.NewQuestion(n, r.Question[0].Qtype, flags)
		w := &waiter{query: q.Message(true, false), replies: make(chan []byte, 1)}
		s := &socket{waiting: map[uint16]*waiter{binary.BigEndian.Uint16(data): w}}
		copy(w.query, data[:2])
		if s.deliver(data, nil); len(w.replies) == 0 {
			return
		}
		b := <-w.replies
		if r, err = readReply(b); err != nil {
			return
		}
		told, err := readAnswer(q, r)
		if err != nil {
			return
		}
		first, err := told.Message(0)
		if err != nil {
			t.Fatalf("%x can't be read: %v", data, err)
		}
		if first.Rcode != r.Rcode || first.Truncated {
			t.Errorf("got %v; want the rcode of %v", first, r)
		}
		for _, rr := range first.Answer {
			if rr.Header().Class != dns.ClassINET || rr.Header().Ttl > dnswire.MaxTTL {
				t.Errorf("%v must not be passed on", rr)
			}
		}
		if plain := dnscache.PlainResponse(q, b); plain != nil && r.Rcode <= 0xf {
			again, err := plain.Message(0)
			if err != nil || show(again) != show(&dns.Msg{MsgHdr: first.MsgHdr, Answer: first.Answer}) {
				t.Errorf("%x without the library: got %v, %v; want %v", data, again, err, first)
			}
		}
	})
}

// FuzzPlainResponse: what is read without the library is what is read with it.
func FuzzPlainResponse(f *testing.F) {
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		m := new(dns.Msg).SetQuestion("www.example.com.", qtype)
		m.Response, m.AuthenticatedData, m.Compress = true, true, true
		m.Answer = dnstest.Records(f,
			map[uint16]string{dns.TypeA: "www.example.com. 5 IN A 192.0.2.1\nwww.example.com. 7 IN A 192.0.2.2",
				dns.TypeAAAA: "www.example.com. 5 IN AAAA ::1"}[qtype])
		m.Ns = dnstest.Records(f, "example.com. 5 IN NS ns.example.com.")
		m.Extra = dnstest.Records(f, "ns.example.com. 5 IN A 192.0.2.3")
		m.SetEdns0(1232, false)
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, qtype == dns.TypeAAAA)
	}
	f.Fuzz(func(t *testing.T, data []byte, six bool) {
		qtype := dns.TypeA
		if six {
			qtype = dns.TypeAAAA
		}
		q := dnscache.NewQuestion(mustName(t, "www.example.com"), qtype, dnscache.RD)
		if len(data) < dnswire.HeaderLen || !dnswire.IsReply(data, q.Message(true, false)) {
			return
		}
		data = append([]byte(nil), data...)
		copy(data[dnswire.HeaderLen:], dnswire.Question(q.Message(true, false)))
		r := dnscache.PlainResponse(q, data)
		if r == nil {
			return
		}
		got, err := r.Message(0)
		if err != nil {
			t.Fatalf("%x: %v", data, err)
		}
		m, err := dnswire.UnpackReply(data)
		if err != nil || m.Rcode > 0xf {
			return // what was left out is malformed, or an OPT that has an owner
		}
		m.Ns = nil // as in a positive answer, but for signatures
		with, err := readAnswer(q, m)
		if err != nil {
			t.Fatalf("%x: %v", data, err)
		}
		want, err := with.Message(0)
		if err != nil {
			t.Fatalf("%x: %v", data, err)
		}
		if show(got) != show(want) || got.AuthenticatedData != want.AuthenticatedData || r.Good != with.Good {
			t.Errorf("%x:\ngot  %v, good for %v\nwant %v, for %v", data, show(got), r.Good, show(want), with.Good)
		}
	})
}
