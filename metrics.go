package main

import (
	"bytes"
	"fmt"
	"net/http"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// A transport is how a query came.
type transport uint8

const (
	overUDP transport = iota
	overTCP
	transports
)

var transportNames = [transports]string{"udp", "tcp"}

// An answerKind is what an answer was made of.
type answerKind uint8

const (
	kindOwn       answerKind = iota // the registry
	kindForwarded                   // an upstream was asked
	kindCached                      // an upstream had been asked before
	kindRefused                     // nothing: it is REFUSED, malformed or not implemented
	answerKinds
)

var kindNames = [answerKinds]string{"own", "forwarded", "cached", "refused"}

func (k answerKind) String() string { return kindNames[k] }

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

// bounds are the upper ones of a histogram's buckets: from an answer out of
// memory to an upstream that does not come.
var bounds = [...]time.Duration{
	10 * time.Microsecond, 25 * time.Microsecond, 50 * time.Microsecond, 100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second,
}

// Counts are what was answered over one transport. Each reader of a socket
// has some to itself, so that counting is one add that nobody else waits for.
type counts struct {
	_       [64]byte // a line of the processor's cache, so that none is shared with the counts before
	queries [answerKinds][len(rcodeNames)][len(countedTypes)]atomic.Uint64
	took    [answerKinds]histogram
}

// A histogram counts durations.
type histogram struct {
	buckets [len(bounds) + 1]atomic.Uint64
	sum     atomic.Int64 // nanoseconds
}

// add counts a query.
func (c *counts) add(k answerKind, rcode int, qtype uint16) {
	i := uint8(0)
	if qtype < uint16(len(typeIndex)) {
		i = typeIndex[qtype]
	}
	c.queries[k][min(rcode, len(rcodeNames)-1)][i].Add(1)
}

// addTime counts the time that n answers took, each that long.
func (c *counts) addTime(k answerKind, d time.Duration, n uint64) {
	i, d := 0, max(d, 0) // a clock may be set back
	for i < len(bounds) && d > bounds[i] {
		i++
	}
	c.took[k].buckets[i].Add(n)
	c.took[k].sum.Add(int64(d) * int64(n))
}

// Traffic is what all transports have counted. Those who have no counts to
// themselves share the first of each.
type traffic struct {
	sets [transports][maxReaders]counts
	next [transports]atomic.Uint32
}

// take returns counts that are another's only where there are many.
func (t *traffic) take(over transport) *counts {
	return &t.sets[over][t.next[over].Add(1)%maxReaders]
}

// shared returns the counts of all who have none to themselves.
func (t *traffic) shared(over transport) *counts { return &t.sets[over][0] }

// byKind returns how many queries were answered in all.
func (t *traffic) byKind() map[string]uint64 {
	all := make(map[string]uint64)
	for k, kind := range kindNames {
		all[kind] = 0
		for over := range t.sets {
			for rcode := range rcodeNames {
				for i := range countedTypes {
					all[kind] += t.sum(over, func(c *counts) uint64 { return c.queries[k][rcode][i].Load() })
				}
			}
		}
	}
	return all
}

// sum adds up a number of all counts of a transport.
func (t *traffic) sum(over int, number func(*counts) uint64) (sum uint64) {
	for i := range t.sets[over] {
		sum += number(&t.sets[over][i])
	}
	return sum
}

// write writes what was counted as metrics.
func (t *traffic) write(p *exposition) {
	p.family("dnsdock_queries_total", "counter", "Queries that were answered, by what the answer was made of.")
	for over, transport := range transportNames {
		for k, kind := range kindNames {
			for rcode, name := range rcodeNames {
				for i, qtype := range countedTypes {
					n := t.sum(over, func(c *counts) uint64 { return c.queries[k][rcode][i].Load() })
					if n > 0 {
						p.sample("", float64(n), "transport", transport, "type", typeName(qtype), "rcode", name, "kind", kind)
					}
				}
			}
		}
	}
	p.family("dnsdock_query_duration_seconds", "histogram", "Time from the arrival of a query, or of the packets that came with it, to its answer.")
	for over, transport := range transportNames {
		for k, kind := range kindNames {
			t.writeTimes(p, over, k, "transport", transport, "kind", kind)
		}
	}
}

func (t *traffic) writeTimes(p *exposition, over, k int, labels ...string) {
	count := uint64(0)
	for i := range len(bounds) + 1 {
		count += t.sum(over, func(c *counts) uint64 { return c.took[k].buckets[i].Load() })
		le := "+Inf"
		if i < len(bounds) {
			le = strconv.FormatFloat(bounds[i].Seconds(), 'f', -1, 64)
		}
		p.sample("_bucket", float64(count), append(labels[:4:4], "le", le)...)
	}
	sum := t.sum(over, func(c *counts) uint64 { return uint64(c.took[k].sum.Load()) })
	p.sample("_sum", time.Duration(sum).Seconds(), labels...)
	p.sample("_count", float64(count), labels...)
}

func typeName(qtype uint16) string {
	if qtype == dns.TypeNone {
		return "other"
	}
	return dns.TypeToString[qtype]
}

// An exposition is text that Prometheus reads:
// https://prometheus.io/docs/instrumenting/exposition_formats/
type exposition struct {
	bytes.Buffer
	name string // of the family that samples are of
}

// family begins the samples of one metric.
func (p *exposition) family(name, kind, help string) {
	p.name = name
	fmt.Fprintf(p, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

// sample writes a value with labels, names and values in turn.
func (p *exposition) sample(suffix string, value float64, labels ...string) {
	p.WriteString(p.name + suffix)
	for i := 0; i < len(labels); i += 2 {
		v := strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`).Replace(strings.ToValidUTF8(labels[i+1], "\uFFFD"))
		fmt.Fprintf(p, `%c%s="%s"`, "{,"[min(i, 1)], labels[i], v)
	}
	if len(labels) > 0 {
		p.WriteByte('}')
	}
	fmt.Fprintf(p, " %s\n", strconv.FormatFloat(value, 'f', -1, 64))
}

// metric writes a metric of one value.
func (p *exposition) metric(name, kind, help string, value float64) {
	p.family(name, kind, help)
	p.sample("", value)
}

// metrics: GET /metrics.
func (a *api) metrics(w http.ResponseWriter, _ *http.Request) {
	var p exposition
	a.zone.traffic.write(&p)
	a.writeEngines(&p)
	a.writeForwarder(&p)
	p.metric("dnsdock_services", "gauge", "Services that are published.", float64(a.reg.published().len()))
	p.metric("dnsdock_ready", "gauge", "1 once the containers are known for the first time.", oneIf(a.reg.isKnown()))
	p.metric("dnsdock_event_listeners", "gauge", "Clients of /events.", float64(a.reg.feed.count()))
	p.family("dnsdock_build_info", "gauge", "1; the labels say what runs.")
	p.sample("", 1, "version", buildVersion(), "goversion", runtime.Version())
	writeRuntime(&p)
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(p.Bytes()) // the client went away
}

func (a *api) writeEngines(p *exposition) {
	engines := a.engineStates()
	each := func(name, kind, help string, value func(engineStatus) float64) {
		p.family(name, kind, help)
		for _, e := range engines {
			p.sample("", value(e), "engine", e.URL)
		}
	}
	each("dnsdock_engine_up", "gauge", "1 while the engine answers.", func(e engineStatus) float64 { return oneIf(e.Up) })
	each("dnsdock_engine_events_total", "counter", "Events that the engine sent.", func(e engineStatus) float64 { return float64(e.Events) })
	each("dnsdock_engine_resyncs_total", "counter", "Lists of all containers that were read.", func(e engineStatus) float64 { return float64(e.Resyncs) })
}

func (a *api) writeForwarder(p *exposition) {
	f := a.zone.fwd.status()
	each := func(name, kind, help string, value func(upstreamStatus) float64) {
		p.family(name, kind, help)
		for _, u := range f.Upstreams {
			p.sample("", value(u), "upstream", u.Addr)
		}
	}
	each("dnsdock_upstream_up", "gauge", "0 while the upstream does not answer.", func(u upstreamStatus) float64 { return oneIf(u.Up) })
	each("dnsdock_upstream_queries_total", "counter", "Queries that the upstream was asked.", func(u upstreamStatus) float64 { return float64(u.Queries) })
	each("dnsdock_upstream_failures_total", "counter", "Queries that it did not answer.", func(u upstreamStatus) float64 { return float64(u.Failures) })
	p.metric("dnsdock_forward_in_flight", "gauge", "Queries that wait for an upstream.", float64(f.InFlight))
	queries := a.zone.traffic.byKind()
	p.metric("dnsdock_cache_answers", "gauge", "Answers of upstreams that are kept.", float64(f.Cache.Answers))
	p.metric("dnsdock_cache_bytes", "gauge", "Memory that they take.", float64(f.Cache.Size))
	p.metric("dnsdock_cache_hits_total", "counter", "Queries that were answered from them.", float64(queries[kindNames[kindCached]]))
	p.metric("dnsdock_cache_misses_total", "counter", "Queries for which an upstream had to be asked.", float64(queries[kindNames[kindForwarded]]))
}

// writeRuntime writes what Go tells of itself, under the names that
// Prometheus' own clients have for it.
func writeRuntime(p *exposition) {
	samples := []metrics.Sample{{Name: "/sched/goroutines:goroutines"}, {Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/total:bytes"}}
	metrics.Read(samples)
	p.metric("go_goroutines", "gauge", "Goroutines.", float64(samples[0].Value.Uint64()))
	p.metric("go_memstats_heap_alloc_bytes", "gauge", "Memory of objects, those that are garbage among them.", float64(samples[1].Value.Uint64()))
	p.metric("go_memstats_sys_bytes", "gauge", "Memory that was taken from the system.", float64(samples[2].Value.Uint64()))
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
