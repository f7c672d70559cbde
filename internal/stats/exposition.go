// Package stats counts answers: each reader of a socket has counts to itself,
// so that counting is one add that nobody else waits for; and writes them as text
// that Prometheus reads. It knows neither zones nor servers.
package stats

import (
	"bytes"
	"fmt"
	"runtime/metrics"
	"strconv"
	"strings"
)

// An Exposition is text that Prometheus reads:
// https://prometheus.io/docs/instrumenting/exposition_formats/
type Exposition struct {
	bytes.Buffer
	name string // of the family that samples are of
}

// Family begins the samples of one metric.
func (p *Exposition) Family(name, kind, help string) {
	p.name = name
	fmt.Fprintf(p, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

// Sample writes a value with labels, names and values in turn.
func (p *Exposition) Sample(suffix string, value float64, labels ...string) {
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

// Metric writes a metric of one value.
func (p *Exposition) Metric(name, kind, help string, value float64) {
	p.Family(name, kind, help)
	p.Sample("", value)
}

// WriteRuntime writes what Go tells of itself, under the names that
// Prometheus' own clients have for it.
func WriteRuntime(p *Exposition) {
	samples := []metrics.Sample{{Name: "/sched/goroutines:goroutines"}, {Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/total:bytes"}}
	metrics.Read(samples)
	p.Metric("go_goroutines", "gauge", "Goroutines.", float64(samples[0].Value.Uint64()))
	p.Metric("go_memstats_heap_alloc_bytes", "gauge", "Memory of objects, those that are garbage among them.", float64(samples[1].Value.Uint64()))
	p.Metric("go_memstats_sys_bytes", "gauge", "Memory that was taken from the system.", float64(samples[2].Value.Uint64()))
}

func OneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
