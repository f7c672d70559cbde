package zone

import (
	"net/netip"
	"slices"
	"sort"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/index"
	"github.com/rayje/dnsdock/internal/stats"
)

// A Client is who sent a query.
type Client struct {
	Addr  netip.Addr
	Local netip.Addr // our address that the client asked; not valid if the system does not tell
	Size  int        // bytes of a reply that the client takes

	BeforeWait func() // called before the answer waits for others; may be nil
	Quick      bool   // Decide returns nil for what takes longer than a few services do
}

func (c Client) viewer() index.Viewer { return index.Viewer{Addr: c.Addr, Local: c.Local} }

// An Answer is the reply to a query.
type Answer struct {
	Msg  *dns.Msg // may be larger than the client takes
	Kind stats.Kind

	resolver *Resolver
	req      *dns.Msg
	client   Client
	open     *dns.Question // what upstreams must be asked; nil: nothing
	busy     bool          // too many expensive queries waited
	slow     bool          // the client wants a quick answer, and this one is not

	keep      bool
	version   uint32 // of the index, read before it was looked at
	stamp     uint32 // of the name that was asked
	readsMore bool   // the answer was made from more than that name
	by        By
}

// By says which properties of a client an answer depends on, as bits.
type By uint8

const (
	ByNetwork By = 1 << iota // the networks that the client is on
	ByLocal                  // the address of ours that the client asked
)

// A Basis says what an answer was made from, and so how long it may be kept.
type Basis struct {
	Version uint32 // of the index: with the same version the answer is the same
	Stamp   uint32 // of the question's name: with the same stamp the answer is the same
	ByStamp bool   // Stamp can be trusted; else only Version can
	By      By
}

// Basis returns what a was made from, and false if a must not be kept.
func (a *Answer) Basis() (b Basis, ok bool) {
	ok = a.keep && a.open == nil && !a.busy && a.Msg.Authoritative && (a.Msg.Rcode == dns.RcodeSuccess || a.Msg.Rcode == dns.RcodeNameError)
	return Basis{a.version, a.stamp, !a.readsMore, a.by}, ok
}

// IsOpen reports whether upstreams must be asked, by Complete.
func (a *Answer) IsOpen() bool { return a.open != nil }

// readOther notes that the answer depends on more than the name that was asked.
func (a *Answer) readOther() { a.readsMore = true }

// KeepSize is how many bytes of an answer are made even for a client that
// takes fewer, so that the answer can be kept for others: 256 IPv4 addresses.
const KeepSize = 4096

// limit returns how many records of a name with that many services are worth making:
// one more than fit, so that the reply is truncated then.
func (a *Answer) limit(services int) int { return a.sizeFor(services)/minRR + 1 }

// keepBelow lets the answer be kept only if fewer records than limit were
// found, so that there are no others.
func (a *Answer) keepBelow(limit, found int) { a.keep = a.keep && found < limit }

// sizeFor returns how many bytes of records of a name with that many services are made.
func (a *Answer) sizeFor(services int) int {
	if services > index.Many {
		return a.client.Size
	}
	return max(a.client.Size, KeepSize)
}

// UDPSize returns how many bytes the client of req takes over UDP, RFC 6891
// section 6.2.
func UDPSize(req *dns.Msg) int {
	if opt := req.IsEdns0(); opt != nil {
		return min(max(int(opt.UDPSize()), dns.MinMsgSize), dnswire.MaxUDPSize)
	}
	return dns.MinMsgSize
}

// pack returns m in wire format, in at most size bytes. It first leaves out
// addresses of the additional section, by whole RRsets (RFC 2181 section 9),
// then truncates with TC.
func pack(m *dns.Msg, size int) ([]byte, error) {
	m.Compress = true
	if b, err := m.Pack(); err != nil || len(b) <= size {
		return b, err
	}
	if m.Len() > size {
		opt, extra := splitOPT(m.Extra)
		n := sort.Search(len(extra), func(n int) bool {
			m.Extra = slices.Concat(extra[:n+1], opt)
			return m.Len() > size
		})
		for n > 0 && n < len(extra) && sameRRset(extra[n-1], extra[n]) {
			n--
		}
		m.Extra = slices.Concat(extra[:n], opt)
	}
	m.Truncate(size)
	m.Compress = true
	return m.Pack()
}

// splitOPT splits an additional section into its OPT and its other records.
func splitOPT(extra []dns.RR) (opt, others []dns.RR) {
	for _, rr := range extra {
		if rr.Header().Rrtype == dns.TypeOPT {
			opt = append(opt, rr)
		} else {
			others = append(others, rr)
		}
	}
	return opt, others
}

func sameRRset(a, b dns.RR) bool {
	x, y := a.Header(), b.Header()
	return x.Rrtype == y.Rrtype && x.Name == y.Name
}
