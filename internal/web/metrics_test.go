package web

import (
	"slices"
	"strings"
	"testing"

	"github.com/rayje/dnsdock/internal/engine"
	"github.com/rayje/dnsdock/internal/stats"
)

// Only engines in a swarm have metrics of it.
func TestMetricsOfSwarm(t *testing.T) {
	var p stats.Exposition
	WriteEngines(&p, []engine.Status{
		{URL: "unix:///x", Up: true, Events: 3, Resyncs: 2},
		{URL: "tcp://m", Up: true, Swarm: &engine.Swarm{
			Role: "manager", Up: true, Tasks: 40, Polls: 7, Took: 0.01, PollSeconds: 1.5,
		}},
	})
	var got []string
	for line := range strings.Lines(p.String()) {
		if strings.Contains(line, "dnsdock_swarm_") && !strings.HasPrefix(line, "# HELP") {
			got = append(got, strings.TrimSpace(line))
		}
	}
	want := []string{
		"# TYPE dnsdock_swarm_up gauge", `dnsdock_swarm_up{engine="tcp://m"} 1`,
		"# TYPE dnsdock_swarm_polls_total counter", `dnsdock_swarm_polls_total{engine="tcp://m"} 7`,
		"# TYPE dnsdock_swarm_poll_seconds_total counter", `dnsdock_swarm_poll_seconds_total{engine="tcp://m"} 1.5`,
		"# TYPE dnsdock_swarm_tasks gauge", `dnsdock_swarm_tasks{engine="tcp://m"} 40`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q; want %q", got, want)
	}
	if n := strings.Count(p.String(), "# HELP dnsdock_swarm_"); n != 4 {
		t.Errorf("%d of the metrics are explained; want 4", n)
	}
}
