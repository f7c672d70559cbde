package dnstest

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// Pack returns a query in wire format.
func Pack(t testing.TB, id uint16, qname string, qtype uint16) []byte {
	t.Helper()
	q := new(dns.Msg).SetQuestion(qname, qtype)
	q.Id = id
	b, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Wire makes a message of a header and what follows it.
func Wire(id, bits uint16, counts [4]uint16, rest string) []byte {
	b := binary.BigEndian.AppendUint16(nil, id)
	b = binary.BigEndian.AppendUint16(b, bits)
	for _, c := range counts {
		b = binary.BigEndian.AppendUint16(b, c)
	}
	return append(b, rest...)
}

// Show returns what matters of a reply on one line: the code, the flags that
// a client sees, the answer, and the authority section.
func Show(m *dns.Msg) string {
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
	return strings.TrimRight(strings.ReplaceAll(b.String(), ",;", ";"), ",;")
}

// ShowSorted is Show with the answer in the order of its text.
func ShowSorted(m *dns.Msg) string {
	m = m.Copy()
	slices.SortFunc(m.Answer, func(a, b dns.RR) int { return strings.Compare(a.String(), b.String()) })
	return Show(m)
}

// ShowExtra returns the additional section of m, without OPT, in the order of its text.
func ShowExtra(m *dns.Msg) string {
	var extra []dns.RR
	for _, rr := range m.Extra {
		if rr.Header().Rrtype != dns.TypeOPT {
			extra = append(extra, rr)
		}
	}
	return strings.TrimPrefix(strings.TrimPrefix(ShowSorted(&dns.Msg{Answer: extra}), "NOERROR"), ";")
}

// CheckReply fails the test unless b is a reply to req, in at most size bytes.
func CheckReply(t testing.TB, req *dns.Msg, b []byte, size int) {
	t.Helper()
	if len(b) > size {
		t.Errorf("got %d bytes; want at most %d", len(b), size)
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
