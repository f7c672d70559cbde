package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/engine"
	"github.com/rayje/dnsdock/internal/feed"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/index"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/servicejson"
	"github.com/rayje/dnsdock/internal/stats"
	"github.com/rayje/dnsdock/internal/transfer"
	"github.com/rayje/dnsdock/internal/web"
	"github.com/rayje/dnsdock/internal/zone"
)

const (
	maxBody = 1 << 20 // bytes of a request's body
	maxID   = 255     // bytes of a service's ID
)

// An api handles HTTP requests: it shows the overview page, services as JSON and how the program
// is, and changes services. Every error is {"error": "..."}. 403 and 401 come from web.Guard, 405
// and 404 for unknown paths from unknown.
type api struct {
	zone    *zone.Resolver
	traffic *stats.Traffic
	zones   *transfer.Server
	reg     *registry
	auth    *web.WriteAuth
	lines   *web.Lines
	engines []func() engine.Status // each returns how one engine is
	started time.Time              // set by newAPI
}

// newAPI returns the handler of all HTTP requests, of which a says what it shows and changes.
func newAPI(a *api) http.Handler {
	a.started = time.Now()
	mux, routes := http.NewServeMux(), a.routes()
	for pattern, h := range routes {
		mux.Handle(pattern, h)
	}
	mux.Handle("/", unknown(mux, slices.Sorted(maps.Keys(routes))))
	guard := &web.Guard{Apexes: append([]dnsname.Name{a.reg.index.Rules.Apex}, a.reg.index.Zones...), Auth: a.auth}
	return guard.Wrap(http.MaxBytesHandler(mux, maxBody))
}

// routes returns what answers which method of which path.
func (a *api) routes() map[string]http.Handler {
	page := &web.Page{Status: a.current, Services: a.services, Resolve: a.explain, Lines: a.lines.About}
	return map[string]http.Handler{
		"GET /{$}":               page,
		"GET /services":          http.HandlerFunc(a.list),
		"GET /services/{id}":     jsonHandler(a.get),
		"GET /services/{id}/log": jsonHandler(a.log),
		"PUT /services/{id}":     a.change(a.put),
		"PATCH /services/{id}":   a.change(a.patch),
		"DELETE /services/{id}":  a.change(a.remove),
		"GET /ttl":               jsonHandler(a.ttl),
		"PUT /set/ttl":           a.change(a.setTTL),
		"DELETE /cache":          jsonHandler(a.clearCache),
		"GET /resolve":           jsonHandler(a.resolve),
		"GET /events":            &web.Events{Feed: a.reg.feed, Encode: encodeChange},
		"GET /zone":              http.HandlerFunc(a.zoneText),
		"GET /status":            jsonHandler(a.status),
		"GET /metrics":           http.HandlerFunc(a.metrics),
		"GET /healthz":           jsonHandler(a.healthz),
		"GET /readyz":            jsonHandler(a.readyz),
	}
}

// unknown replies 405 for a path that has other methods, and 404 for a path that has none.
func unknown(mux *http.ServeMux, patterns []string) http.Handler {
	var paths []string
	for _, p := range patterns {
		_, path, _ := strings.Cut(p, " ")
		paths = append(paths, strings.TrimSuffix(path, "{$}"))
	}
	slices.Sort(paths)
	known := strings.Join(slices.Compact(paths), ", ")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var allowed []string
		for _, method := range []string{http.MethodDelete, http.MethodGet, http.MethodPatch, http.MethodPut} {
			other := r.Clone(r.Context())
			other.Method = method
			if _, pattern := mux.Handler(other); strings.HasPrefix(pattern, method+" ") {
				allowed = append(allowed, method)
			}
		}
		if len(allowed) == 0 {
			web.WriteError(w, http.StatusNotFound, fmt.Errorf("no such path: use %s", known))
			return
		}
		methods := strings.Join(allowed, ", ")
		w.Header().Set("Allow", methods)
		err := fmt.Errorf("method %s is not for this path: use %s", r.Method, methods)
		web.WriteError(w, http.StatusMethodNotAllowed, err)
	})
}

// A jsonHandler does the work of a request. Its value is sent as JSON, its error with the status of statusFor.
type jsonHandler func(*http.Request) (status int, v any, err error)

// ServeHTTP implements http.Handler.
func (f jsonHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	status, v, err := f(r)
	if err != nil {
		web.WriteError(w, statusFor(err), err)
		return
	}
	web.WriteJSON(w, status, v)
}

var errNotSaved = errors.New("the change is made, but a restart of dnsdock may lose it: " +
	"it can't be kept in the file of -state")

// statusFor returns the status of a reply that reports err.
func statusFor(err error) int {
	_, tooLarge := errors.AsType[*http.MaxBytesError](err)
	switch {
	case errors.Is(err, errNotFound), errors.Is(err, transfer.ErrNoZone):
		return http.StatusNotFound
	case errors.Is(err, errAmbiguous), errors.Is(err, errNotPublished):
		return http.StatusConflict
	case tooLarge:
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, errTooManyMade):
		return http.StatusInsufficientStorage
	case errors.Is(err, zone.ErrBusy), errors.Is(err, transfer.ErrUnknown):
		return http.StatusServiceUnavailable
	case errors.Is(err, errNotSaved):
		return http.StatusInternalServerError
	}
	return http.StatusBadRequest
}

// change returns f followed by a write of the state file, so that the reply promises that the
// change survives a restart.
func (a *api) change(f jsonHandler) jsonHandler {
	return func(r *http.Request) (int, any, error) {
		status, v, err := f(r)
		if err != nil || a.reg.save == nil {
			return status, v, err
		}
		if err := a.reg.save(); err != nil {
			return 0, nil, fmt.Errorf("%w: %w", errNotSaved, err)
		}
		return status, v, nil
	}
}

// list: GET /services, 200 with all services by ID. It sends each service as soon as it is encoded:
// all of them, for many slow clients at once, would take much memory.
func (a *api) list(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	before, after := "{", "{}\n"
	for s := range a.reg.index.Everything {
		id, _ := json.Marshal(s.ID) // no errors: it is strings and numbers
		service, _ := json.MarshalIndent(servicejson.Of(s), "  ", "  ")
		if _, err := fmt.Fprintf(w, "%s\n  %s: %s", before, id, service); err != nil {
			return // the client went away
		}
		before, after = ",", "\n}\n"
	}
	_, _ = io.WriteString(w, after) // it fails only if the client went away
}

// services iterates over all services, and lets others run during long walks.
func (a *api) services(yield func(*publish.Service) bool) {
	a.reg.index.Everything(index.Pausing(yield))
}

// get: GET /services/{id}, 200 with the service; 404, 409.
func (a *api) get(r *http.Request) (int, any, error) {
	s, err := a.reg.lookup(r.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, servicejson.Of(s), nil
}

// log: GET /services/{id}/log, 200 with the newest lines of the log about the service; 404, 409.
func (a *api) log(r *http.Request) (int, any, error) {
	s, err := a.reg.lookup(r.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, append([]web.Line{}, a.lines.About(s)...), nil
}

// put: PUT /services/{id} with a whole service, 201 if it is new, else 200; 400, 409, 413, 507.
func (a *api) put(r *http.Request) (int, any, error) {
	id := r.PathValue("id")
	if len(id) > maxID {
		return 0, nil, fmt.Errorf("an id has at most %d bytes", maxID)
	}
	body, err := readBody(r)
	if err != nil {
		return 0, nil, err
	}
	_, errNone := a.reg.lookup(id)
	p, err := servicejson.ReadService(body, errNone == nil)
	if err != nil {
		return 0, nil, err
	}
	s, isNew, err := a.reg.set(id, p, time.Now())
	if err != nil {
		return 0, nil, err
	}
	if isNew {
		return http.StatusCreated, servicejson.Of(s), nil
	}
	return http.StatusOK, servicejson.Of(s), nil
}

// readBody reads a body of any content type: curl -d sends a form's.
func readBody(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(r.Body)
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		err = fmt.Errorf("write a body of at most %d bytes: %w", maxBody, err)
	}
	return body, err
}

// patch: PATCH /services/{id} with the properties to change, 200 with the service; 400, 404, 409, 413.
func (a *api) patch(r *http.Request) (int, any, error) {
	body, err := readBody(r)
	if err != nil {
		return 0, nil, err
	}
	p, err := servicejson.ReadPatch(body)
	if err != nil {
		return 0, nil, err
	}
	s, err := a.reg.update(r.PathValue("id"), p)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, servicejson.Of(s), nil
}

// remove: DELETE /services/{id}, 204; 404, 409.
func (a *api) remove(r *http.Request) (int, any, error) {
	return http.StatusNoContent, nil, a.reg.remove(r.PathValue("id"))
}

// ttl: GET /ttl, 200 with the default TTL in seconds.
func (a *api) ttl(*http.Request) (int, any, error) {
	return http.StatusOK, a.reg.index.TTL.Load(), nil
}

// setTTL: PUT /set/ttl with a number of seconds, 200 with the default TTL; 400, 413.
func (a *api) setTTL(r *http.Request) (int, any, error) {
	body, err := readBody(r)
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

// clearCache: DELETE /cache, 204. Upstreams are asked again.
func (a *api) clearCache(*http.Request) (int, any, error) {
	a.zone.Fwd.Cache.Clear()
	return http.StatusNoContent, nil, nil
}

// encodeChange returns the data of the event that GET /events sends for a change.
func encodeChange(c feed.Change) any {
	switch about := c.About.(type) {
	case *publish.Service:
		return map[string]any{"id": c.ID, "service": servicejson.Of(about)}
	case engine.Status:
		return about
	case uint32:
		return map[string]uint32{"ttl": about}
	}
	return nil
}

// current returns how the program is now.
func (a *api) current() web.Status {
	s := web.Status{
		Version:  buildVersion(),
		Started:  a.started.UTC(),
		Ready:    a.reg.index.IsKnown(),
		Domain:   dnsname.Text(a.reg.index.Rules.Apex),
		TTL:      a.reg.index.TTL.Load(),
		Writes:   a.auth.Mode(),
		Services: a.reg.index.Len(),
		Queries:  a.traffic.ByKind(),
		Hour:     a.traffic.LastHour(),
		Engines:  []engine.Status{},
		Status:   a.zone.Fwd.Status(),

		Secondaries: a.zones.Status(),
	}
	for _, status := range a.engines {
		s.Engines = append(s.Engines, status())
	}
	return s
}

// zoneText: GET /zone?name=DOMAIN, 200 with the zone as a master file (RFC 1035 section 5); 400, 404, 503. The domain
// is the apex unless it is given.
func (a *api) zoneText(w http.ResponseWriter, r *http.Request) {
	n := a.reg.index.Rules.Apex
	if text := r.URL.Query().Get("name"); text != "" {
		var err error
		if n, err = dnsname.ParseQuestion(text); err != nil {
			web.WriteError(w, http.StatusBadRequest, fmt.Errorf("parameter name: %w", err))
			return
		}
	}
	w.Header().Set("Content-Type", "text/dns; charset=us-ascii") // RFC 4027
	if err := a.zones.WriteText(w, n); errors.Is(err, transfer.ErrNoZone) || errors.Is(err, transfer.ErrUnknown) {
		web.WriteError(w, statusFor(err), err)
	} // any other error says that the client went away
}

// status: GET /status, 200 with engines, upstreams and counts of queries.
func (a *api) status(*http.Request) (int, any, error) { return http.StatusOK, a.current(), nil }

// isLost reports whether no retry will help to reach one of the engines.
func isLost(engines []func() engine.Status) bool {
	return slices.ContainsFunc(engines, func(status func() engine.Status) bool { return status().Lost })
}

// healthz: GET /healthz, 200, and 503 once an engine can't come back without a restart of dnsdock.
func (a *api) healthz(*http.Request) (int, any, error) {
	if isLost(a.engines) {
		return http.StatusServiceUnavailable, map[string]bool{"ok": false}, nil
	}
	return http.StatusOK, map[string]bool{"ok": true}, nil
}

// readyz: GET /readyz, 200 once the containers are known, 503 before that, and once an engine can't come back. An
// engine that goes away for a while changes only what the reply says: names are answered as before.
func (a *api) readyz(*http.Request) (int, any, error) {
	s, status := a.current(), http.StatusOK
	if !s.Ready || isLost(a.engines) {
		status = http.StatusServiceUnavailable
	}
	return status, map[string]any{"ready": status == http.StatusOK, "engines": s.Engines}, nil
}

// resolve: GET /resolve?name=NAME&type=A&client=ADDRESS, 200 with what the client is answered, and
// why; 400, 503. The type is A and the client is the one that asks unless they are given.
func (a *api) resolve(r *http.Request) (int, any, error) {
	res, err := a.explain(r)
	return http.StatusOK, res, err
}

func (a *api) explain(r *http.Request) (*zone.Resolution, error) {
	parameter := func(name string) string { return strings.TrimSpace(r.URL.Query().Get(name)) }
	n, err := dnsname.ParseQuestion(parameter("name"))
	if err != nil {
		return nil, fmt.Errorf("parameter name: %w", err)
	}
	qtype, err := parseType(cmp.Or(parameter("type"), "A"))
	if err != nil {
		return nil, fmt.Errorf("parameter type: %w", err)
	}
	c := zone.Client{Addr: web.ClientAddr(r), Local: localAddr(r), Size: dns.MaxMsgSize}
	if from := parameter("client"); from != "" {
		if c.Addr, err = publish.ParseAddr(from); err != nil {
			return nil, fmt.Errorf("parameter client: %w", err)
		}
	}
	return a.zone.Explain(n, qtype, c)
}

// localAddr returns the address that the client sent r to. It is invalid for a unix socket.
func localAddr(r *http.Request) netip.Addr {
	at, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return at.AddrPort().Addr().Unmap().WithZone("")
}

// parseType reads a type by its name, or as TYPE and a number (RFC 3597 section 5).
func parseType(s string) (uint16, error) {
	s = strings.ToUpper(s)
	if t, ok := dns.StringToType[s]; ok {
		return t, nil
	}
	if digits, ok := strings.CutPrefix(s, "TYPE"); ok {
		if n, err := strconv.ParseUint(digits, 10, 16); err == nil {
			return uint16(n), nil
		}
	}
	return 0, errors.New("write a type of records, as in A, AAAA, SRV or TYPE65")
}

// metrics: GET /metrics, 200 with counts for Prometheus.
func (a *api) metrics(w http.ResponseWriter, _ *http.Request) {
	var p stats.Exposition
	s := a.current()
	a.traffic.Write(&p)
	web.WriteEngines(&p, s.Engines)
	writeForwarder(&p, s)
	writeSecondaries(&p, s.Secondaries)
	p.Metric("dnsdock_services", "gauge", "Services that are published.", float64(s.Services))
	p.Metric("dnsdock_ready", "gauge", "1 once the containers are known for the first time.", stats.OneIf(s.Ready))
	p.Metric("dnsdock_event_listeners", "gauge", "Clients of /events.", float64(a.reg.feed.Count()))
	p.Family("dnsdock_build_info", "gauge", "1; the labels say what runs.")
	p.Sample("", 1, "version", s.Version, "goversion", runtime.Version())
	stats.WriteRuntime(&p)
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(p.Bytes()) // it fails only if the client went away
}

func writeSecondaries(p *stats.Exposition, list []transfer.Secondary) {
	each := func(name, kind, help string, value func(transfer.Secondary) float64) {
		p.Family(name, kind, help)
		for _, s := range list {
			p.Sample("", value(s), "secondary", s.Addr.String())
		}
	}
	unix := func(t time.Time) float64 { return float64(max(0, t.Unix())) }
	each("dnsdock_secondary_serial", "gauge", "Serial that the secondary has since its last transfer; 0: none.",
		func(s transfer.Secondary) float64 { return float64(s.Serial) })
	each("dnsdock_secondary_transfer_timestamp_seconds", "gauge", "Unix time of its last transfer; 0: there was none.",
		func(s transfer.Secondary) float64 { return unix(s.Transferred) })
	each("dnsdock_secondary_notify_timestamp_seconds", "gauge", "Unix time of the NOTIFY that it took last; 0: none.",
		func(s transfer.Secondary) float64 { return unix(s.Notified) })
}

func writeForwarder(p *stats.Exposition, s web.Status) {
	each := func(name, kind, help string, value func(forward.UpstreamStatus) float64) {
		p.Family(name, kind, help)
		for _, u := range s.Upstreams {
			p.Sample("", value(u), "upstream", u.Addr)
		}
	}
	each("dnsdock_upstream_up", "gauge", "0 while the upstream does not answer.",
		func(u forward.UpstreamStatus) float64 { return stats.OneIf(u.Up) })
	each("dnsdock_upstream_queries_total", "counter", "Queries that the upstream was asked.",
		func(u forward.UpstreamStatus) float64 { return float64(u.Queries) })
	each("dnsdock_upstream_failures_total", "counter", "Queries that it did not answer.",
		func(u forward.UpstreamStatus) float64 { return float64(u.Failures) })
	p.Metric("dnsdock_forward_in_flight", "gauge", "Queries that wait for an upstream.", float64(s.InFlight))
	p.Metric("dnsdock_cache_answers", "gauge", "Answers of upstreams that are kept.", float64(s.Cache.Answers))
	p.Metric("dnsdock_cache_bytes", "gauge", "Memory that they take.", float64(s.Cache.Size))
	p.Metric("dnsdock_cache_hits_total", "counter", "Queries that were answered from them.",
		float64(s.Queries[stats.Cached.String()]))
	p.Metric("dnsdock_cache_misses_total", "counter", "Queries for which an upstream had to be asked.",
		float64(s.Queries[stats.Forwarded.String()]))
}

// version is set at link time: -ldflags "-X main.version=v1.2.3".
var version string

// buildVersion returns the version that was linked in, else the version of the module or of its checkout.
func buildVersion() string {
	v := version
	if info, ok := debug.ReadBuildInfo(); ok && v == "" {
		v = strings.Trim(info.Main.Version, "()")
	}
	return cmp.Or(v, "devel")
}
