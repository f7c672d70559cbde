package stats

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// MaxReaders bounds the UDP sockets of one address.
const MaxReaders = 16

// A Transport is how a query came.
type Transport uint8

const (
	UDP Transport = iota
	TCP
	transports
)

var TransportNames = [transports]string{"udp", "tcp"}

// An Kind is what an answer was made of.
type Kind uint8

const (
	Own       Kind = iota // the registry
	Forwarded             // an upstream was asked
	Cached                // an upstream had been asked before
	Refused               // nothing: it is REFUSED, malformed or not implemented
	Kinds
)

var KindNames = [Kinds]string{"own", "forwarded", "cached", "refused"}

func (k Kind) String() string { return KindNames[k] }

// Types and rcodes that are counted by name. The others are one: clients can
// send 65,536 of each.
var (
	countedTypes = [...]uint16{dns.TypeNone, dns.TypeA, dns.TypeAAAA, dns.TypePTR, dns.TypeSRV, dns.TypeTXT, dns.TypeCNAME, dns.TypeMX,
		dns.TypeNS, dns.TypeSOA, dns.TypeANY, dns.TypeHTTPS, dns.TypeSVCB, dns.TypeDS, dns.TypeDNSKEY, dns.TypeNAPTR}
	rcodeNames = [...]string{"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "other"}

	typeIndex = func() (index [256]uint8) { // of a type in countedTypes
		for i, t := range countedTypes {
			index[t] = uint8(i)
		}
		return index
	}()
)

// Bounds are the upper ones of a histogram's buckets: from an answer out of
// memory to an upstream that does not come.
var Bounds = [...]time.Duration{
	10 * time.Microsecond, 25 * time.Microsecond, 50 * time.Microsecond, 100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second,
}

// Counts are what was answered over one transport. Each reader of a socket
// has some to itself, so that counting is one add that nobody else waits for.
type Counts struct {
	_       [64]byte // a line of the processor's cache, so that none is shared with the counts before
	Queries [Kinds][len(rcodeNames)][len(countedTypes)]atomic.Uint64
	Took    [Kinds]histogram
}

// A histogram counts durations.
type histogram struct {
	Buckets [len(Bounds) + 1]atomic.Uint64
	sum     atomic.Int64 // nanoseconds
}

// Add counts a query.
func (c *Counts) Add(k Kind, rcode int, qtype uint16) {
	i := uint8(0)
	if qtype < uint16(len(typeIndex)) {
		i = typeIndex[qtype]
	}
	c.Queries[k][min(rcode, len(rcodeNames)-1)][i].Add(1)
}

// AddTime counts the time that n answers took, each that long.
func (c *Counts) AddTime(k Kind, d time.Duration, n uint64) {
	i, d := 0, max(d, 0) // a clock may be set back
	for i < len(Bounds) && d > Bounds[i] {
		i++
	}
	c.Took[k].Buckets[i].Add(n)
	c.Took[k].sum.Add(int64(d) * int64(n))
}

// Traffic is what all transports have counted. Those who have no counts to
// themselves share the first of each.
type Traffic struct {
	sets [transports][MaxReaders]Counts
	next [transports]atomic.Uint32
}

// Take returns counts that are another's only where there are many.
func (t *Traffic) Take(over Transport) *Counts {
	return &t.sets[over][t.next[over].Add(1)%MaxReaders]
}

// Shared returns the counts of all who have none to themselves.
func (t *Traffic) Shared(over Transport) *Counts { return &t.sets[over][0] }

// ByKind returns how many queries were answered in all.
func (t *Traffic) ByKind() map[string]uint64 {
	all := make(map[string]uint64)
	for k, kind := range KindNames {
		all[kind] = 0
		for over := range t.sets {
			for rcode := range rcodeNames {
				for i := range countedTypes {
					all[kind] += t.Sum(over, func(c *Counts) uint64 { return c.Queries[k][rcode][i].Load() })
				}
			}
		}
	}
	return all
}

// Sum adds up a number of all counts of a transport.
func (t *Traffic) Sum(over int, number func(*Counts) uint64) (sum uint64) {
	for i := range t.sets[over] {
		sum += number(&t.sets[over][i])
	}
	return sum
}

// Write writes what was counted as metrics.
func (t *Traffic) Write(p *Exposition) {
	p.Family("dnsdock_queries_total", "counter", "Queries that were answered, by what the answer was made of.")
	for over, transport := range TransportNames {
		for k, kind := range KindNames {
			for rcode, name := range rcodeNames {
				for i, qtype := range countedTypes {
					n := t.Sum(over, func(c *Counts) uint64 { return c.Queries[k][rcode][i].Load() })
					if n > 0 {
						p.Sample("", float64(n), "transport", transport, "type", typeName(qtype), "rcode", name, "kind", kind)
					}
				}
			}
		}
	}
	p.Family("dnsdock_query_duration_seconds", "histogram", "Time from the arrival of a query, or of the packets that came with it, to its answer.")
	for over, transport := range TransportNames {
		for k, kind := range KindNames {
			t.writeTimes(p, over, k, "transport", transport, "kind", kind)
		}
	}
}

func (t *Traffic) writeTimes(p *Exposition, over, k int, labels ...string) {
	count := uint64(0)
	for i := range len(Bounds) + 1 {
		count += t.Sum(over, func(c *Counts) uint64 { return c.Took[k].Buckets[i].Load() })
		le := "+Inf"
		if i < len(Bounds) {
			le = strconv.FormatFloat(Bounds[i].Seconds(), 'f', -1, 64)
		}
		p.Sample("_bucket", float64(count), append(labels[:4:4], "le", le)...)
	}
	sum := t.Sum(over, func(c *Counts) uint64 { return uint64(c.Took[k].sum.Load()) })
	p.Sample("_sum", time.Duration(sum).Seconds(), labels...)
	p.Sample("_count", float64(count), labels...)
}

func typeName(qtype uint16) string {
	if qtype == dns.TypeNone {
		return "other"
	}
	return dns.TypeToString[qtype]
}
