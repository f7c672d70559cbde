package stats

import (
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/miekg/dns"
)

// Readers that count at the same time share no line of the processor's cache.
func TestCountsAreApart(t *testing.T) {
	var all Traffic
	at := make(map[uintptr]int)
	for i := range MaxReaders {
		c := all.Take(UDP)
		first, last := uintptr(unsafe.Pointer(&c.n)), uintptr(unsafe.Pointer(c))+unsafe.Sizeof(*c)-1
		for line := first / 64; line <= last/64; line++ {
			if other, ok := at[line]; ok {
				t.Fatalf("the counts %d and %d share a line", other, i)
			}
			at[line] = i
		}
	}
	if all.Take(UDP) != all.own[UDP][0] || len(all.own[UDP]) != MaxReaders {
		t.Errorf("there are %d counts; want no more than %d", len(all.own[UDP]), MaxReaders)
	}
}

// What is counted is what is written, whoever counts it.
func TestTraffic(t *testing.T) {
	var all Traffic
	for range MaxReaders + 3 {
		c := all.Take(UDP)
		c.Add(Own, dns.RcodeSuccess, dns.TypeA)
		c.AddTime(Own, 20*time.Microsecond, 1)
	}
	all.Shared(UDP).Add(Cached, dns.RcodeNameError, dns.TypeNAPTR)
	all.Shared(UDP).Add(Own, dns.RcodeSuccess, 4711)
	all.Shared(UDP).Add(Own, dns.RcodeSuccess, 255+256) // no type that is counted by name
	all.Shared(TCP).Add(Refused, dns.RcodeBadVers, dns.TypeANY)
	all.Shared(TCP).AddTime(Refused, time.Hour, 2)
	all.Shared(TCP).AddTime(Refused, -time.Hour, 1) // the clock was set back
	for kind, want := range map[string]uint64{"own": MaxReaders + 5, "cached": 1, "refused": 1, "forwarded": 0} {
		if got, ok := all.ByKind()[kind]; got != want || !ok {
			t.Errorf("ByKind: %d are %s; want %d", got, kind, want)
		}
	}
	var p Exposition
	all.Write(&p)
	for _, line := range []string{
		`dnsdock_queries_total{transport="udp",type="A",rcode="NOERROR",kind="own"} 19`,
		`dnsdock_queries_total{transport="udp",type="other",rcode="NOERROR",kind="own"} 2`,
		`dnsdock_queries_total{transport="udp",type="NAPTR",rcode="NXDOMAIN",kind="cached"} 1`,
		`dnsdock_queries_total{transport="tcp",type="ANY",rcode="other",kind="refused"} 1`,
		`dnsdock_query_duration_seconds_bucket{transport="udp",kind="own",le="0.00001"} 0`,
		`dnsdock_query_duration_seconds_bucket{transport="udp",kind="own",le="0.000025"} 19`,
		`dnsdock_query_duration_seconds_bucket{transport="udp",kind="own",le="+Inf"} 19`,
		`dnsdock_query_duration_seconds_sum{transport="udp",kind="own"} 0.00038`,
		`dnsdock_query_duration_seconds_count{transport="udp",kind="own"} 19`,
		`dnsdock_query_duration_seconds_bucket{transport="tcp",kind="refused",le="5"} 1`,
		`dnsdock_query_duration_seconds_sum{transport="tcp",kind="refused"} 7200`,
		`dnsdock_query_duration_seconds_count{transport="tcp",kind="refused"} 3`,
		`dnsdock_query_duration_seconds_count{transport="tcp",kind="forwarded"} 0`,
	} {
		if !strings.Contains(p.String(), line+"\n") {
			t.Errorf("the text has no line %s", line)
		}
	}
	if got := strings.Count(p.String(), "dnsdock_queries_total{"); got != 4 {
		t.Errorf("%d series of queries; want 4", got)
	}
}

// Counting is part of each answer.
func TestAddAllocates(t *testing.T) {
	var all Traffic
	c := all.Take(UDP)
	if n := testing.AllocsPerRun(100, func() { c.Add(Own, 0, dns.TypeA); c.AddTime(Own, time.Second, 1) }); n != 0 {
		t.Errorf("%v allocations; want none", n)
	}
}

func BenchmarkAdd(b *testing.B) {
	var all Traffic
	c := all.Take(UDP)
	for b.Loop() {
		c.Add(Own, 0, dns.TypeA)
	}
}

// Labels hold whatever engines and upstreams are called.
func TestExpositionEscapes(t *testing.T) {
	var p Exposition
	p.Family("x", "gauge", "X.")
	p.Sample("", 1, "a", "\"\\\n\xff{}", "b", "")
	if got, want := p.String(), "# HELP x X.\n# TYPE x gauge\nx{a=\"\\\"\\\\\\n\uFFFD{}\",b=\"\"} 1\n"; got != want {
		t.Errorf("got %s; want %s", got, want)
	}
}
