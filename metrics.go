package main

import (
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/stats"
	"net/http"
	"runtime"
)

// metrics: GET /metrics.
func (a *api) metrics(w http.ResponseWriter, _ *http.Request) {
	var p stats.Exposition
	a.zone.Traffic.Write(&p)
	a.writeEngines(&p)
	a.writeForwarder(&p)
	p.Metric("dnsdock_services", "gauge", "Services that are published.", float64(a.reg.Published().Len()))
	p.Metric("dnsdock_ready", "gauge", "1 once the containers are known for the first time.", stats.OneIf(a.reg.IsKnown()))
	p.Metric("dnsdock_event_listeners", "gauge", "Clients of /events.", float64(a.reg.feed.count()))
	p.Family("dnsdock_build_info", "gauge", "1; the labels say what runs.")
	p.Sample("", 1, "version", buildVersion(), "goversion", runtime.Version())
	stats.WriteRuntime(&p)
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(p.Bytes()) // the client went away
}

func (a *api) writeEngines(p *stats.Exposition) {
	engines := a.engineStates()
	each := func(name, kind, help string, value func(engineStatus) float64) {
		p.Family(name, kind, help)
		for _, e := range engines {
			p.Sample("", value(e), "engine", e.URL)
		}
	}
	each("dnsdock_engine_up", "gauge", "1 while the engine answers.", func(e engineStatus) float64 { return stats.OneIf(e.Up) })
	each("dnsdock_engine_events_total", "counter", "Events that the engine sent.", func(e engineStatus) float64 { return float64(e.Events) })
	each("dnsdock_engine_resyncs_total", "counter", "Lists of all containers that were read.", func(e engineStatus) float64 { return float64(e.Resyncs) })
}

func (a *api) writeForwarder(p *stats.Exposition) {
	f := a.zone.Fwd.Status()
	each := func(name, kind, help string, value func(forward.UpstreamStatus) float64) {
		p.Family(name, kind, help)
		for _, u := range f.Upstreams {
			p.Sample("", value(u), "upstream", u.Addr)
		}
	}
	each("dnsdock_upstream_up", "gauge", "0 while the upstream does not answer.", func(u forward.UpstreamStatus) float64 { return stats.OneIf(u.Up) })
	each("dnsdock_upstream_queries_total", "counter", "Queries that the upstream was asked.", func(u forward.UpstreamStatus) float64 { return float64(u.Queries) })
	each("dnsdock_upstream_failures_total", "counter", "Queries that it did not answer.", func(u forward.UpstreamStatus) float64 { return float64(u.Failures) })
	p.Metric("dnsdock_forward_in_flight", "gauge", "Queries that wait for an upstream.", float64(f.InFlight))
	queries := a.zone.Traffic.ByKind()
	p.Metric("dnsdock_cache_answers", "gauge", "Answers of upstreams that are kept.", float64(f.Cache.Answers))
	p.Metric("dnsdock_cache_bytes", "gauge", "Memory that they take.", float64(f.Cache.Size))
	p.Metric("dnsdock_cache_hits_total", "counter", "Queries that were answered from them.", float64(queries[stats.KindNames[stats.Cached]]))
	p.Metric("dnsdock_cache_misses_total", "counter", "Queries for which an upstream had to be asked.", float64(queries[stats.KindNames[stats.Forwarded]]))
}
