package zone

import (
	"net/netip"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/index"
	"github.com/rayje/dnsdock/internal/stats"
)

// A Query is what a client asks.
type Query struct {
	Name  dnsname.Name // in lower case
	Type  uint16
	Class uint16
	Flags byte   // dnscache.RD, dnscache.CD and dnscache.DO as they are set
	ID    uint16 // of the message
}

// upstream returns q as upstreams are asked it.
func (q Query) upstream() dnscache.Question { return dnscache.NewQuestion(q.Name, q.Type, q.Flags) }

// A Client is who sent a query.
type Client struct {
	Addr  netip.Addr
	Local netip.Addr // our address that the client asked; not valid if the system does not tell
	Size  int        // bytes of a reply that the client takes

	BeforeWait func() // called before the answer waits for others; may be nil
	Quick      bool   // Decide returns nil for what takes longer than a few services do
}

// places returns the addresses that the client is known by.
func (a *Answer) places() []netip.Addr { return a.resolver.Reg.Places(a.client.Addr) }

func (a *Answer) viewer() index.Viewer {
	return index.Viewer{Places: a.places(), Local: a.client.Local}
}

// An Answer is what a reply says. It may be larger than the client takes.
type Answer struct {
	Kind          stats.Kind
	Rcode         int
	Authoritative bool
	Response      *dnscache.Response // all that is said, if it comes from an upstream alone
	EDE           []byte             // extended DNS errors (RFC 8914), as options of an OPT record
	EndsWithSOA   bool               // the last record is a SOA of ours
	packer

	resolver *Resolver
	query    Query
	client   Client
	progress
	basis Basis
	keep  bool // by basis
}

// A progress says how far a query is resolved.
type progress struct {
	chain []dnsname.Name // the names that were resolved, along CNAMEs
	open  *Query         // what upstreams must be asked; nil: nothing
	isTLD bool           // the open question is only for them if they know such a top-level domain
	busy  bool           // too many expensive queries waited
	slow  bool           // the client wants a quick answer, and this one is not
}

// By says which properties of a client an answer depends on, as bits.
type By uint8

const (
	ByNetwork By = 1 << iota // the networks that the client is on
	ByLocal                  // the address of ours that the client asked
)

// A Basis says what an answer was made from, and so how long it may be kept.
type Basis struct {
	Version uint32 // of the index, read before it was looked at: with the same version the answer is the same
	Stamp   uint32 // of the question's name: with the same stamp the answer is the same
	ByStamp bool   // Stamp can be trusted; else only Version can
	By      By
}

// Basis returns what a was made from, and false if a must not be kept.
func (a *Answer) Basis() (b Basis, ok bool) {
	isGood := a.Rcode == dns.RcodeSuccess || a.Rcode == dns.RcodeNameError
	ok = a.keep && a.open == nil && !a.busy && a.Authoritative && isGood
	return a.basis, ok
}

// IsOpen reports whether upstreams must be asked, by Complete.
func (a *Answer) IsOpen() bool { return a.open != nil }

// Records returns the records of a as they follow the question in a message,
// and how many there are in each section.
func (a *Answer) Records() (b []byte, counts [3]uint16) { return a.records, a.counts }

// readOther notes that the answer depends on more than the name that was asked.
func (a *Answer) readOther() { a.basis.ByStamp = false }

// fail makes a an error without records.
func (a *Answer) fail(rcode int) {
	a.reset(a.query.Name)
	a.Rcode, a.Authoritative, a.Response, a.EndsWithSOA = rcode, false, nil, false
}

// keepSize is how many bytes of an answer are made even for a client that
// takes fewer, so that the answer can be kept for others: 256 IPv4 addresses.
const keepSize = 4096

// limit returns how many records of a name with that many services are worth
// making: one more than fit, so that the reply is truncated then.
func (a *Answer) limit(services int) int { return a.sizeFor(services)/minRR + 1 }

// keepBelow lets the answer be kept only if fewer records than limit were
// found, so that there are no others.
func (a *Answer) keepBelow(limit, found int) { a.keep = a.keep && found < limit }

// sizeFor returns how many bytes of records of a name with that many services are made.
func (a *Answer) sizeFor(services int) int {
	if services > index.Many {
		return a.client.Size
	}
	return max(a.client.Size, keepSize)
}
