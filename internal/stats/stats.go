package stats

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// MaxReaders bounds how many UDP sockets one address has, and how many Counts one transport has.
const MaxReaders = 16

// A Transport is how a query came.
type Transport uint8

const (
	UDP Transport = iota
	TCP
	transports
)

// TransportNames are the names of transports in metrics and in the log.
var TransportNames = [transports]string{"udp", "tcp"}

// A Kind says what an answer was made of.
type Kind uint8

const (
	Own       Kind = iota // the registry
	Forwarded             // what an upstream answered to this query
	Cached                // what an upstream answered before
	Refused               // nothing: it is REFUSED, FORMERR or NOTIMP
	Kinds
)

// KindNames are the names of kinds in metrics, in /status and on the page.
var KindNames = [Kinds]string{"own", "forwarded", "cached", "refused"}

func (k Kind) String() string { return KindNames[k] }

// The types and rcodes that are counted one by one. All others count as "other": clients can send 65,536 of each.
var (
	countedTypes = [...]uint16{
		dns.TypeNone, dns.TypeA, dns.TypeAAAA, dns.TypePTR, dns.TypeSRV, dns.TypeTXT, dns.TypeCNAME, dns.TypeMX,
		dns.TypeNS, dns.TypeSOA, dns.TypeANY, dns.TypeHTTPS, dns.TypeSVCB, dns.TypeDS, dns.TypeDNSKEY, dns.TypeNAPTR,
	}
	rcodeNames = [...]string{"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "other"}

	typeIndex = func() (index [256]uint8) { // index in countedTypes, by type
		for i, t := range countedTypes {
			index[t] = uint8(i)
		}
		return index
	}()
)

// bounds are the upper bounds of a histogram's buckets: from an answer out of memory to an upstream that times out.
var bounds = [...]time.Duration{
	10 * time.Microsecond, 25 * time.Microsecond, 50 * time.Microsecond,
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second,
}

// Each Counts is one array of counters: queries by kind, rcode and type; then by kind the buckets
// of a histogram; then by kind the sum of all times in nanoseconds.
const (
	rcodes      = len(rcodeNames)
	types       = len(countedTypes)
	buckets     = len(bounds) + 1
	firstBucket = int(Kinds) * rcodes * types
	firstSum    = firstBucket + int(Kinds)*buckets
	counters    = firstSum + int(Kinds)
)

func queryAt(k Kind, rcode, qtype int) int { return (int(k)*rcodes+rcode)*types + qtype }
func bucketAt(k Kind, bucket int) int      { return firstBucket + int(k)*buckets + bucket }
func sumAt(k Kind) int                     { return firstSum + int(k) }

// Counts counts what one reader answers, so that readers on several processors do not wait for each other.
type Counts struct {
	_ [64]byte // a line of the processor's cache, which is shared with whatever lies before
	n [counters]atomic.Uint64
}

// Add counts a query.
func (c *Counts) Add(k Kind, rcode int, qtype uint16) {
	i := uint8(0)
	if qtype < uint16(len(typeIndex)) {
		i = typeIndex[qtype]
	}
	c.n[queryAt(k, min(rcode, rcodes-1), int(i))].Add(1)
}

// AddTime counts n answers that took d each.
func (c *Counts) AddTime(k Kind, d time.Duration, n uint64) {
	i, d := 0, max(d, 0) // a clock may be set back
	for i < len(bounds) && d > bounds[i] {
		i++
	}
	c.n[bucketAt(k, i)].Add(n)
	c.n[sumAt(k)].Add(uint64(d) * n)
}

// Traffic is what was counted over all transports. Its zero value is ready to use.
type Traffic struct {
	shared  [transports]Counts
	history history

	mu    sync.Mutex // guards what follows
	own   [transports][]*Counts
	taken [transports]int // how often Take was called
}

// Take returns the Counts of a new reader. Readers share them from the one with number MaxReaders on.
func (t *Traffic) Take(over Transport) *Counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := t.taken[over] % MaxReaders
	t.taken[over]++
	if i == len(t.own[over]) {
		t.own[over] = append(t.own[over], new(Counts))
	}
	return t.own[over][i]
}

// Shared returns the Counts that all share who are no readers.
func (t *Traffic) Shared(over Transport) *Counts { return &t.shared[over] }

// sum adds up what was counted over a transport.
func (t *Traffic) sum(over Transport) (total [counters]uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range append(t.own[over][:len(t.own[over]):len(t.own[over])], &t.shared[over]) {
		for i := range c.n {
			total[i] += c.n[i].Load()
		}
	}
	return total
}

// ByKind returns how many queries were answered, by the name of their kind.
func (t *Traffic) ByKind() map[string]uint64 {
	all := make(map[string]uint64)
	for k, n := range t.byKind() {
		all[KindNames[k]] = n
	}
	return all
}

func (t *Traffic) byKind() (all [Kinds]uint64) {
	for over := range transports {
		total := t.sum(over)
		for k := range Kinds {
			for _, n := range total[queryAt(k, 0, 0):queryAt(k+1, 0, 0)] {
				all[k] += n
			}
		}
	}
	return all
}

// Write writes what was counted as metrics.
func (t *Traffic) Write(p *Exposition) {
	var totals [transports][counters]uint64
	p.Family("dnsdock_queries_total", "counter", "Queries that were answered, by what the answer was made of.")
	for over := range transports {
		totals[over] = t.sum(over)
		for i, n := range totals[over][:firstBucket] {
			if n > 0 {
				p.Sample("", float64(n), "transport", TransportNames[over], "type", typeName(countedTypes[i%types]),
					"rcode", rcodeNames[i/types%rcodes], "kind", KindNames[i/types/rcodes])
			}
		}
	}
	p.Family("dnsdock_query_duration_seconds", "histogram",
		"Time from the arrival of a query, or of the packets that came with it, to its answer.")
	for over := range transports {
		for k := range Kinds {
			writeHistogram(p, &totals[over], k, "transport", TransportNames[over], "kind", k.String())
		}
	}
}

func writeHistogram(p *Exposition, total *[counters]uint64, k Kind, labels ...string) {
	count := uint64(0)
	for i := range buckets {
		count += total[bucketAt(k, i)]
		le := "+Inf"
		if i < len(bounds) {
			le = strconv.FormatFloat(bounds[i].Seconds(), 'f', -1, 64)
		}
		p.Sample("_bucket", float64(count), append(labels[:4:4], "le", le)...)
	}
	p.Sample("_sum", time.Duration(total[sumAt(k)]).Seconds(), labels...)
	p.Sample("_count", float64(count), labels...)
}

func typeName(qtype uint16) string {
	if qtype == dns.TypeNone {
		return "other"
	}
	return dns.TypeToString[qtype]
}
