package zone

import (
	"context"
	"encoding/binary"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/zonetest"
)

// A bugHandler is for a log in which there must be no error: that would be a
// bug that is answered with SERVFAIL, which a test might not see.
type bugHandler struct{ slog.Handler }

func (bugHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelError }

func (bugHandler) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool { panic(a) })
	return nil
}

// newResolver returns a resolver of ix without upstreams.
func newResolver(t testing.TB, ix *zonetest.Index) *Resolver {
	log := slog.New(bugHandler{slog.DiscardHandler})
	return New(t.Context(), ix.Index, forward.New(nil, nil, 0, log), log)
}

func pub(name, image string, ttl int, addrs, aliases string) zonetest.Pub {
	return zonetest.Pub{Name: name, Image: image, TTL: ttl, Addrs: addrs, Aliases: aliases}
}

// reply is the answer of z to a client on this host.
func reply(z *Resolver, req *dns.Msg, local netip.Addr, size int) *dns.Msg {
	return replyTo(z, req, Client{Addr: netip.MustParseAddr("127.0.0.1"), Local: local, Size: size})
}

// replyTo is the answer of z to req as a message, however large.
func replyTo(z *Resolver, req *dns.Msg, c Client) *dns.Msg {
	m, _ := decided(z, req, c)
	return m
}

// decided is replyTo with the answer.
func decided(z *Resolver, req *dns.Msg, c Client) (*dns.Msg, *Answer) {
	n, err := dnsname.Parse(req.Question[0].Name)
	if err != nil {
		panic(err)
	}
	q := Query{Name: n, Type: req.Question[0].Qtype, Class: req.Question[0].Qclass, ID: req.Id}
	if req.RecursionDesired {
		q.Flags = dnscache.RD
	}
	a := z.Decide(q, c)
	head := &dns.Msg{MsgHdr: req.MsgHdr, Question: req.Question}
	head.Response, head.Authoritative, head.Rcode = true, a.Authoritative, a.Rcode
	head.RecursionAvailable = z.ServesNow(c.Addr)
	b, err := head.Pack()
	if err != nil {
		panic(err)
	}
	records, counts := a.Records()
	for section, count := range counts {
		binary.BigEndian.PutUint16(b[6+2*section:], count)
	}
	b = append(b, records...)
	if req.IsEdns0() != nil {
		b[11]++
		b = dnswire.AppendOPT(b, 0)
		b[len(b)-1] = byte(len(a.EDE))
		b = append(b, a.EDE...)
	}
	m := new(dns.Msg)
	if err := m.Unpack(b); err != nil {
		panic(err)
	}
	return m, a
}

// answersTo is the code and the addresses and SRV targets that a client gets.
func answersTo(z *Resolver, client, local, qname string, qtype uint16) string {
	m := replyTo(z, new(dns.Msg).SetQuestion(qname, qtype), newClientAt(client, local))
	got := []string{dns.RcodeToString[m.Rcode]}
	for _, rr := range append(m.Answer, m.Extra...) {
		switch rr := rr.(type) {
		case *dns.A:
			got = append(got, rr.A.String())
		case *dns.AAAA:
			got = append(got, rr.AAAA.String())
		case *dns.SRV:
			got = append(got, rr.Target+strconv.Itoa(int(rr.Port)))
		}
	}
	return strings.Join(got, " ")
}

func newClientAt(addr, local string) Client {
	c := Client{Addr: netip.MustParseAddr(addr), Size: dns.MaxMsgSize}
	if local != "" {
		c.Local = netip.MustParseAddr(local)
	}
	return c
}
