package web

import (
	"github.com/rayje/dnsdock/internal/engine"
	"github.com/rayje/dnsdock/internal/stats"
)

// WriteEngines writes the metrics of engines, and of the swarms that they are of.
func WriteEngines(p *stats.Exposition, engines []engine.Status) {
	each := func(name, kind, help string, value func(engine.Status) float64) {
		p.Family(name, kind, help)
		for _, e := range engines {
			p.Sample("", value(e), "engine", e.URL)
		}
	}
	each("dnsdock_engine_up", "gauge", "1 while the engine answers.",
		func(e engine.Status) float64 { return stats.OneIf(e.Up) })
	each("dnsdock_engine_events_total", "counter", "Events that the engine sent.",
		func(e engine.Status) float64 { return float64(e.Events) })
	each("dnsdock_engine_resyncs_total", "counter", "Lists of all containers that were read.",
		func(e engine.Status) float64 { return float64(e.Resyncs) })
	ofSwarms := func(name, kind, help string, value func(*engine.Swarm) float64) {
		p.Family(name, kind, help)
		for _, e := range engines {
			if e.Swarm != nil {
				p.Sample("", value(e.Swarm), "engine", e.URL)
			}
		}
	}
	ofSwarms("dnsdock_swarm_up", "gauge", "1 while the tasks of the engine's swarm are known as they are now.",
		func(s *engine.Swarm) float64 { return stats.OneIf(s.Up) })
	ofSwarms("dnsdock_swarm_polls_total", "counter", "Times that the engine was asked for tasks of its swarm.",
		func(s *engine.Swarm) float64 { return float64(s.Polls) })
	ofSwarms("dnsdock_swarm_poll_seconds_total", "counter", "Time that took, from the first octet of a reply on.",
		func(s *engine.Swarm) float64 { return s.PollSeconds })
	ofSwarms("dnsdock_swarm_tasks", "gauge", "Tasks of the swarm that are to run, as far as they are known.",
		func(s *engine.Swarm) float64 { return float64(s.Tasks) })
}
