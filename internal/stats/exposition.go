package stats

import (
	"bytes"
	"fmt"
	"runtime/metrics"
	"strconv"
	"strings"
)

// An Exposition is text that Prometheus reads: https://prometheus.io/docs/instrumenting/exposition_formats/
type Exposition struct {
	bytes.Buffer
	name string // of the metric whose samples are being written
}

// Family begins the samples of a metric.
func (p *Exposition) Family(name, kind, help string) {
	p.name = name
	fmt.Fprintf(p, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

// Sample writes a value. Labels are names and values in turn.
func (p *Exposition) Sample(suffix string, value float64, labels ...string) {
	p.WriteString(p.name + suffix)
	for i := 0; i < len(labels); i += 2 {
		value := strings.ToValidUTF8(labels[i+1], "\uFFFD")
		fmt.Fprintf(p, `%c%s="%s"`, "{,"[min(i, 1)], labels[i], escaper.Replace(value))
	}
	if len(labels) > 0 {
		p.WriteByte('}')
	}
	fmt.Fprintf(p, " %s\n", strconv.FormatFloat(value, 'f', -1, 64))
}

// escaper is read-only.
var escaper = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

// Metric writes a metric that has one value.
func (p *Exposition) Metric(name, kind, help string, value float64) {
	p.Family(name, kind, help)
	p.Sample("", value)
}

// WriteRuntime writes metrics of Go's runtime, under the names that Prometheus' own clients use for them.
func WriteRuntime(p *Exposition) {
	samples := []metrics.Sample{
		{Name: "/sched/goroutines:goroutines"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/total:bytes"},
	}
	metrics.Read(samples)
	value := func(i int) float64 { return float64(samples[i].Value.Uint64()) }
	p.Metric("go_goroutines", "gauge", "Goroutines.", value(0))
	p.Metric("go_memstats_heap_alloc_bytes", "gauge", "Memory of objects, including garbage.", value(1))
	p.Metric("go_memstats_sys_bytes", "gauge", "Memory that was taken from the system.", value(2))
}

// OneIf returns 1 for true and 0 for false.
func OneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
