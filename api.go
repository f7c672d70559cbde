package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/rayje/dnsdock/internal/engine"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/servicejson"
	"github.com/rayje/dnsdock/internal/stats"
	"github.com/rayje/dnsdock/internal/zone"
)

const (
	maxBody     = 1 << 20          // octets of a request's body
	maxHeader   = 16 << 10         // octets of a request's header: curl sends 100
	maxID       = 255              // octets of a service's id
	readTimeout = 10 * time.Second // for a request
	sendTimeout = 30 * time.Second // for a reply: 10,000 services are 4 MB
)

// An api is the HTTP side: the overview page, services as JSON, and what
// tells how the program is.
//
//	GET    /               200 the overview page
//	GET    /services       200 all services, by id
//	GET    /services/{id}  200 the service; 404, 409
//	PUT    /services/{id}  201 new, 200 replaced; 400, 409, 413
//	PATCH  /services/{id}  200 the service; 400, 404, 409, 413
//	DELETE /services/{id}  204; 404, 409
//	GET    /ttl            200 the default TTL in seconds
//	PUT    /set/ttl        200 the default TTL; 400, 413
//	DELETE /cache          204, and upstreams are asked anew
//	GET    /resolve        200 what a client is answered, and why; 400, 503
//	GET    /events         200 what changes, as server-sent events; 503
//	GET    /status         200 engines, upstreams and queries
//	GET    /metrics        200 the same for Prometheus
//	GET    /healthz        200
//	GET    /readyz         200; 503 before the first list of the engine
//
// What a foreign web page asks is 403, and so is a write to what is
// read-only; one without the token is 401. Every error is {"error": "..."}.
type api struct {
	zone    *zone.Zone
	reg     *registry
	lock    *lock
	engines []func() engine.Status
	started time.Time
	looking sync.Mutex // held by the one that looks at all services for a page
}

// newAPI returns the handler of the HTTP side. It is about z and what fills
// its registry from engines.
func newAPI(z *zone.Zone, reg *registry, l *lock, engines ...func() engine.Status) http.Handler {
	a := &api{zone: z, reg: reg, lock: l, engines: engines, started: time.Now()}
	mux, routes := http.NewServeMux(), a.routes()
	for path, calls := range routes {
		for method, call := range calls {
			if method != "GET" {
				call = a.kept(call)
			}
			mux.Handle(method+" "+path, call)
		}
		allowed := strings.Join(publish.SortedKeys(calls), ", ")
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Allow", allowed)
			writeError(w, http.StatusMethodNotAllowed, fmt.Errorf("method %s is not for this path: use %s", r.Method, allowed))
		})
	}
	known := strings.ReplaceAll(strings.Join(publish.SortedKeys(routes), ", "), "{$}", "")
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, http.StatusNotFound, fmt.Errorf("no such path: use %s", known))
	})
	return a.guard(http.MaxBytesHandler(mux, maxBody))
}

var errNotKept = errors.New("the change is made, but a restart of dnsdock may lose it: it can't be kept in the file of -state")

// kept returns call, which changes something, with what it did kept on disk before
// the reply.
func (a *api) kept(call http.Handler) http.Handler {
	do, ok := call.(apiCall)
	if !ok {
		return call
	}
	return apiCall(func(r *http.Request) (int, any, error) {
		status, v, err := do(r)
		if err == nil && a.reg.save != nil {
			if e := a.reg.save(); e != nil {
				return 0, nil, fmt.Errorf("%w: %w", errNotKept, e)
			}
		}
		return status, v, err
	})
}

// routes are all paths, and what answers each method of them.
func (a *api) routes() map[string]map[string]http.Handler {
	return map[string]map[string]http.Handler{
		"/{$}":           {"GET": http.HandlerFunc(a.page)},
		"/services":      {"GET": http.HandlerFunc(a.list)},
		"/services/{id}": {"GET": apiCall(a.get), "PUT": apiCall(a.put), "PATCH": apiCall(a.patch), "DELETE": apiCall(a.remove)},
		"/ttl":           {"GET": apiCall(a.ttl)},
		"/set/ttl":       {"PUT": apiCall(a.setTTL)},
		"/cache":         {"DELETE": apiCall(a.clearCache)},
		"/resolve":       {"GET": apiCall(a.resolve)},
		"/events":        {"GET": http.HandlerFunc(a.events)},
		"/status":        {"GET": apiCall(a.status)},
		"/metrics":       {"GET": http.HandlerFunc(a.metrics)},
		"/healthz":       {"GET": apiCall(a.healthz)},
		"/readyz":        {"GET": apiCall(a.readyz)},
	}
}

// An apiCall is the work of one call of the API. Its value is sent as JSON,
// its error with the status that fits it.
type apiCall func(*http.Request) (status int, v any, err error)

// ServeHTTP implements http.Handler.
func (call apiCall) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	status, v, err := call(r)
	switch {
	case err == nil:
		writeJSON(w, status, v)
	case errors.Is(err, errNotFound):
		writeError(w, http.StatusNotFound, err)
	case errors.Is(err, zone.ErrBusy):
		writeError(w, http.StatusServiceUnavailable, err)
	case errors.Is(err, errAmbiguous), errors.Is(err, errNotPublished):
		writeError(w, http.StatusConflict, err)
	case errors.Is(err, errNotKept):
		writeError(w, http.StatusInternalServerError, err)
	case isTooLarge(err):
		writeError(w, http.StatusRequestEntityTooLarge, fmt.Errorf("body over %d octets", maxBody))
	default:
		writeError(w, http.StatusBadRequest, err)
	}
}

func isTooLarge(err error) bool {
	_, ok := errors.AsType[*http.MaxBytesError](err)
	return ok
}

func writeError(w http.ResponseWriter, status int, err error) {
	writeJSON(w, status, map[string]string{"error": err.Error()})
}

// writeJSON sends v; nothing with 204.
func writeJSON(w http.ResponseWriter, status int, v any) {
	if status == http.StatusNoContent {
		w.WriteHeader(status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(v) // the client went away
}

// list: GET /services. Each service is sent as soon as it is written: all of
// them at once, for many slow clients, would take much memory.
func (a *api) list(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	before, after := "{", "{}\n"
	for s := range a.reg.Published().All(^publish.Kind(0)) {
		id, _ := json.Marshal(s.ID) // no errors: it is strings and numbers
		service, _ := json.MarshalIndent(servicejson.Of(s), "  ", "  ")
		if _, err := fmt.Fprintf(w, "%s\n  %s: %s", before, id, service); err != nil {
			return // the client went away
		}
		before, after = ",", "\n}\n"
	}
	_, _ = io.WriteString(w, after) // nor here
}

// get: GET /services/{id}.
func (a *api) get(r *http.Request) (int, any, error) {
	s, err := a.reg.lookup(r.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, servicejson.Of(s), nil
}

// put: PUT /services/{id} with a whole service.
func (a *api) put(r *http.Request) (int, any, error) {
	id := r.PathValue("id")
	if len(id) > maxID {
		return 0, nil, fmt.Errorf("an id has at most %d octets", maxID)
	}
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return 0, nil, err
	}
	_, errNone := a.reg.lookup(id)
	p, err := servicejson.ReadService(data, errNone == nil)
	if err != nil {
		return 0, nil, err
	}
	s, isNew, err := a.reg.set(id, p)
	if err != nil {
		return 0, nil, err
	}
	if isNew {
		return http.StatusCreated, servicejson.Of(s), nil
	}
	return http.StatusOK, servicejson.Of(s), nil
}

// patch: PATCH /services/{id} with the properties to change.
func (a *api) patch(r *http.Request) (int, any, error) {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return 0, nil, err
	}
	p, err := servicejson.ReadPatch(data)
	if err != nil {
		return 0, nil, err
	}
	s, err := a.reg.update(r.PathValue("id"), p)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, servicejson.Of(s), nil
}

// remove: DELETE /services/{id}.
func (a *api) remove(r *http.Request) (int, any, error) {
	return http.StatusNoContent, nil, a.reg.remove(r.PathValue("id"))
}

// ttl: GET /ttl.
func (a *api) ttl(*http.Request) (int, any, error) {
	return http.StatusOK, a.reg.TTL.Load(), nil
}

// clearCache: DELETE /cache.
func (a *api) clearCache(*http.Request) (int, any, error) {
	a.zone.Fwd.Cache.Clear()
	return http.StatusNoContent, nil, nil
}

// setTTL: PUT /set/ttl with a number of seconds.
func (a *api) setTTL(r *http.Request) (int, any, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return 0, nil, err
	}
	ttl, err := publish.ParseTTL(string(body))
	if err != nil {
		return 0, nil, err
	}
	a.reg.setTTL(ttl)
	return http.StatusOK, ttl, nil
}

// metrics: GET /metrics.
func (a *api) metrics(w http.ResponseWriter, _ *http.Request) {
	var p stats.Exposition
	a.zone.Traffic.Write(&p)
	a.writeEngines(&p)
	a.writeForwarder(&p)
	p.Metric("dnsdock_services", "gauge", "Services that are published.", float64(a.reg.Published().Len()))
	p.Metric("dnsdock_ready", "gauge", "1 once the containers are known for the first time.", stats.OneIf(a.reg.IsKnown()))
	p.Metric("dnsdock_event_listeners", "gauge", "Clients of /events.", float64(a.reg.feed.Count()))
	p.Family("dnsdock_build_info", "gauge", "1; the labels say what runs.")
	p.Sample("", 1, "version", buildVersion(), "goversion", runtime.Version())
	stats.WriteRuntime(&p)
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(p.Bytes()) // the client went away
}

func (a *api) writeEngines(p *stats.Exposition) {
	engines := a.engineStates()
	each := func(name, kind, help string, value func(engine.Status) float64) {
		p.Family(name, kind, help)
		for _, e := range engines {
			p.Sample("", value(e), "engine", e.URL)
		}
	}
	each("dnsdock_engine_up", "gauge", "1 while the engine answers.", func(e engine.Status) float64 { return stats.OneIf(e.Up) })
	each("dnsdock_engine_events_total", "counter", "Events that the engine sent.", func(e engine.Status) float64 { return float64(e.Events) })
	each("dnsdock_engine_resyncs_total", "counter", "Lists of all containers that were read.", func(e engine.Status) float64 { return float64(e.Resyncs) })
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

// version is set at link time: -ldflags "-X main.version=v1.2.3".
var version string

// buildVersion is the version that was linked in, else that of the module
// or of its checkout.
func buildVersion() string {
	v := version
	if info, ok := debug.ReadBuildInfo(); ok && v == "" {
		v = strings.Trim(info.Main.Version, "()")
	}
	return cmp.Or(v, "devel")
}
