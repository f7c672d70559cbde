package web

import (
	"github.com/rayje/dnsdock/internal/engine"
	"github.com/rayje/dnsdock/internal/stats"
)

// WriteEngines writes the metrics of engines, and of the swarms that they are of.
func WriteEngines(p *stats.Exposition, engines []engine.Status) {
	each := func(list []engine.Status, name, kind, help string, value func(engine.Status) float64) {
		p.Family(name, kind, help)
		for _, e := range list {
			p.Sample("", value(e), "engine", e.URL)
		}
	}
	each(engines, "dnsdock_engine_up", "gauge", "1 while the engine answers.",
		func(e engine.Status) float64 { return stats.OneIf(e.Up) })
	each(engines, "dnsdock_engine_events_total", "counter", "Events that the engine sent.",
		func(e engine.Status) float64 { return float64(e.Events) })
	each(engines, "dnsdock_engine_resyncs_total", "counter", "Lists of all containers that were read.",
		func(e engine.Status) float64 { return float64(e.Resyncs) })
	var swarms []engine.Status
	for _, e := range engines {
		if e.Swarm != nil {
			swarms = append(swarms, e)
		}
	}
	each(swarms, "dnsdock_swarm_up", "gauge", "1 while the tasks of the engine's swarm are known as they are now.",
		func(e engine.Status) float64 { return stats.OneIf(e.Swarm.Up) })
	each(swarms, "dnsdock_swarm_polls_total", "counter", "Times that the engine was asked for tasks of its swarm.",
		func(e engine.Status) float64 { return float64(e.Swarm.Polls) })
	each(swarms, "dnsdock_swarm_poll_seconds_total", "counter", "Time that took, from the first octet of a reply on.",
		func(e engine.Status) float64 { return e.Swarm.PollSeconds })
	each(swarms, "dnsdock_swarm_tasks", "gauge", "Tasks of the swarm that are to run, as far as they are known.",
		func(e engine.Status) float64 { return float64(e.Swarm.Tasks) })
}
