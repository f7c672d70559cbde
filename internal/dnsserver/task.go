package dnsserver

import (
	"bytes"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/stats"
	"github.com/rayje/dnsdock/internal/zone"
)

// A task is a query that no kept answer fits.
type task struct {
	*Server
	query
	from  zone.Client
	over  stats.Transport
	begun time.Time
}

// keep copies the query from memory that others overwrite.
func (t *task) keep() {
	t.Name, t.packet = dnsname.Name(strings.Clone(string(t.Name))), bytes.Clone(t.packet)
}

// decide returns the answer; nil if the client wants a quick one that is not.
func (t *task) decide() *zone.Answer {
	q := t.Query
	q.Name = dnsname.Name(strings.Clone(string(q.Name))) // it may be kept
	return t.authority.Decide(q, t.from)
}

// write appends the reply that says a.
func (t *task) write(a *zone.Answer, reply []byte) []byte {
	w := writer{server: t.Server, query: t.query, start: len(reply), reply: reply, ede: a.EDE}
	w.begin(t.authority.ServesNow(t.from.Addr))
	w.setHeader(a.Authoritative, a.Rcode)
	if a.Response != nil {
		w.cached(a.Response, time.Now())
	} else {
		w.replay(t.entryOf(a))
	}
	return w.finish()
}

// writeBadVersion appends the reply to a query of an unknown version of EDNS,
// RFC 6891 section 6.1.3.
func (t *task) writeBadVersion(reply []byte) []byte {
	w := writer{server: t.Server, query: t.query, start: len(reply), reply: reply}
	w.begin(t.authority.ServesNow(t.from.Addr))
	w.setHeader(false, dns.RcodeBadVers)
	return w.finish()
}

// note counts and logs a reply. Err is the error of sending it.
func (t *task) note(kind stats.Kind, rcode int, reply []byte, err error) {
	took := time.Since(t.begun)
	counts := t.traffic.Shared(t.over)
	counts.Add(kind, rcode, t.Type)
	counts.AddTime(kind, took, 1)
	if !t.logsQueries() {
		return
	}
	m := new(dns.Msg)
	if m.Unpack(reply) != nil || len(m.Question) != 1 {
		m.Question = []dns.Question{{Name: t.Name.String()}}
	}
	t.log.Debug("query", "client", t.from.Addr, "over", stats.TransportNames[t.over],
		"name", m.Question[0].Name, "type", dns.Type(t.Type), "rcode", dns.RcodeToString[rcode],
		"kind", kind, "answers", len(m.Answer), "took", took, "err", err)
}
