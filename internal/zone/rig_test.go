package zone

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

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
	return z.Decide(req, Client{Addr: netip.MustParseAddr("127.0.0.1"), Local: local, Size: size}).Msg
}

// packed is reply in wire format.
func packed(z *Resolver, req *dns.Msg, local netip.Addr, size int) (*dns.Msg, []byte, error) {
	a := z.Decide(req, Client{Addr: netip.MustParseAddr("127.0.0.1"), Local: local, Size: size})
	b, err := a.Pack(size)
	return a.Msg, b, err
}

// answersTo is the code and the addresses and SRV targets that a client gets.
func answersTo(z *Resolver, client, local, qname string, qtype uint16) string {
	m := z.Decide(new(dns.Msg).SetQuestion(qname, qtype), newClientAt(client, local)).Msg
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

func newClientAt(addr, local string) Client {
	c := Client{Addr: netip.MustParseAddr(addr), Size: dns.MaxMsgSize}
	if local != "" {
		c.Local = netip.MustParseAddr(local)
	}
	return c
}
