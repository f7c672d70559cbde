package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/publish"
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
	engines []*watcher
	started time.Time
	looking sync.Mutex // held by the one that looks at all services for a page
}

// newAPI returns the handler of the HTTP side. It is about z and what fills
// its registry from engines.
func newAPI(z *zone.Zone, reg *registry, l *lock, engines ...*watcher) http.Handler {
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
		service, _ := json.MarshalIndent(toJSON(s), "  ", "  ")
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
	return http.StatusOK, toJSON(s), nil
}

// put: PUT /services/{id} with a whole service.
func (a *api) put(r *http.Request) (int, any, error) {
	id := r.PathValue("id")
	if len(id) > maxID {
		return 0, nil, fmt.Errorf("an id has at most %d octets", maxID)
	}
	p, err := readPatch(r.Body)
	if err != nil {
		return 0, nil, err
	}
	switch {
	case p.Name == nil:
		err = errors.New(`property "name" is missing: write the container part, as in "name": "foo"`)
	case p.Image == nil:
		err = errors.New(`property "image" is missing: write the image part, as in "image": "bar"`)
	case *p.Name == "" && *p.Image == "" && !a.exists(id): // a container may have neither, and what GET gives, PUT takes
		err = errors.New(`properties "name" and "image" are both empty: write one of them, as in "name": "foo"`)
	case len(p.Addrs) == 0 && (p.CNAME == nil || *p.CNAME == ""):
		err = errors.New(`property "ip" is missing: write an address, as in "ip": "192.168.0.3", or a "cname"`)
	}
	if err != nil {
		return 0, nil, err
	}
	s, isNew, err := a.reg.set(id, whole(p))
	if err != nil {
		return 0, nil, err
	}
	if isNew {
		return http.StatusCreated, toJSON(s), nil
	}
	return http.StatusOK, toJSON(s), nil
}

// whole returns p with defaults for what it does not set.
func whole(p publish.Patch) publish.Patch {
	return publish.Patch{CNAME: new(dnsname.Name), TXT: &[]string{}, Ports: &[]publish.Port{}, TTL: new(publish.DefaultTTL), Aliases: &[]dnsname.Name{}}.Over(p)
}

func (a *api) exists(id string) bool {
	_, err := a.reg.lookup(id)
	return err == nil
}

// patch: PATCH /services/{id} with the properties to change.
func (a *api) patch(r *http.Request) (int, any, error) {
	p, err := readPatch(r.Body)
	if err != nil {
		return 0, nil, err
	}
	s, err := a.reg.update(r.PathValue("id"), p)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, toJSON(s), nil
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

// serviceJSON is a service as the API shows it. All of it is taken by PUT
// too, and what is read-only is ignored there.
type serviceJSON struct {
	Name    string     `json:"name"`  // container part
	Image   string     `json:"image"` // image part
	IP      string     `json:"ip"`    // the first of ips
	IPs     []string   `json:"ips"`   // at least one, but none where there is a cname; "host" is the host's
	CNAME   string     `json:"cname,omitempty"`
	TXT     []string   `json:"txt,omitempty"`
	Ports   []string   `json:"ports,omitempty"` // as parsePort reads them
	TTL     int        `json:"ttl"`             // seconds; -1: the default
	Aliases []string   `json:"aliases"`         // absolute names
	Names   []string   `json:"names"`           // read-only: the full name and the aliases
	Origin  originJSON `json:"origin"`          // read-only
	State   string     `json:"state,omitempty"` // read-only: of the container
	Since   time.Time  `json:"since,omitzero"`  // read-only: when it started, or was made
}

// originJSON says where a service is from: {} for one made by hand.
type originJSON struct {
	Engine    string `json:"engine,omitempty"`
	Container string `json:"container,omitempty"`
	Image     string `json:"image,omitempty"`
}

func toJSON(s *publish.Service) serviceJSON {
	j := serviceJSON{
		Name: s.Name, Image: s.Image, IPs: publish.AddrTexts(s.Addrs), TXT: s.TXT, TTL: s.TTL,
		Aliases: dnsname.Texts(s.Aliases), Names: dnsname.Texts(s.Names()),
		Origin: originJSON{s.Origin.Engine, s.Origin.Container, s.Origin.Image},
		State:  s.State, Since: s.Since,
	}
	if s.CNAME == "" {
		j.IP = j.IPs[0]
	} else {
		j.CNAME = dnsname.Text(s.CNAME)
	}
	for _, p := range s.Ports {
		j.Ports = append(j.Ports, p.String())
	}
	return j
}

// readPatch reads a JSON object of properties, in any letter case. The body
// may be of any content type: curl -d sends that of a form.
func readPatch(body io.Reader) (p publish.Patch, err error) {
	data, err := io.ReadAll(body)
	if err != nil {
		return p, err
	}
	var raw map[string]json.RawMessage
	if err := decode(data, &raw); err != nil || raw == nil {
		return p, errors.New(`body is no JSON object: write one, as in {"name": "foo", "image": "bar", "ip": "192.168.0.3"}`)
	}
	properties := make(map[string]json.RawMessage)
	for _, key := range publish.SortedKeys(raw) {
		k := strings.ToLower(key)
		if k == "alias" {
			k = "aliases"
		}
		if _, ok := properties[k]; ok {
			return p, fmt.Errorf("property %q is there twice: write it once", k)
		}
		properties[k] = raw[key]
	}
	for _, k := range publish.SortedKeys(properties) {
		if err := setProperty(&p, k, properties[k]); err != nil {
			return p, fmt.Errorf("property %q: %w", k, err)
		}
	}
	switch isAlias := p.CNAME != nil && *p.CNAME != ""; {
	case isAlias && len(p.Addrs) > 0:
		err = errors.New(`properties "cname" and "ip" can't be both: write only one of the two`)
	case !isAlias && p.Addrs != nil && len(p.Addrs) == 0:
		err = errors.New(`property "ip": write at least one address, as in "192.168.0.3", or a "cname" instead`)
	}
	return p, err
}

// decode reads one JSON value that is all of data.
func decode(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("more than one value")
	}
	return nil
}

// setProperty sets the property k, in lower case. For each service, ip comes
// before ips.
func setProperty(p *publish.Patch, k string, value json.RawMessage) (err error) {
	switch k {
	case "name":
		p.Name, err = readPart(value)
	case "image":
		p.Image, err = readPart(value)
	case "ip":
		p.Addrs, err = readAddrs(value)
	case "ips":
		given := p.Addrs
		missing := func(a netip.Addr) bool { return !slices.Contains(p.Addrs, a) }
		if p.Addrs, err = readAddrs(value); err == nil && slices.ContainsFunc(given, missing) {
			err = errors.New(`"ip" is not one of them: write only one of the two`)
		}
	case "cname":
		p.CNAME, err = readTarget(value)
	case "txt":
		p.TXT, err = readTXT(value)
	case "ports":
		p.Ports, err = readPorts(value)
	case "ttl":
		p.TTL, err = readTTL(value)
	case "aliases":
		p.Aliases, err = readAliases(value)
	case "names", "origin", "state", "since": // read-only: what GET gives, PUT takes
	default:
		err = errors.New("unknown: write name, image, ip, ips, cname, txt, ports, ttl or aliases")
	}
	return err
}

func readPart(value json.RawMessage) (*string, error) {
	var s *string
	if err := json.Unmarshal(value, &s); err != nil || s == nil {
		return nil, errors.New(`write a string, as in "foo"`)
	}
	*s = strings.TrimSpace(*s)
	_, err := dnsname.ParseLabels(*s)
	return s, err
}

func readTTL(value json.RawMessage) (*int, error) {
	var n *int
	if err := json.Unmarshal(value, &n); err != nil || n == nil || *n < publish.DefaultTTL || *n > publish.MaxTTL {
		return nil, fmt.Errorf("write seconds from 0 to %d, or -1 for the default", publish.MaxTTL)
	}
	return n, nil
}

// readAddrs reads one string or a list of them; a string may hold several
// addresses with commas between.
func readAddrs(value json.RawMessage) ([]netip.Addr, error) {
	parse := func(s string) (netip.Addr, error) {
		if s == "host" {
			return netip.Addr{}, nil
		}
		return publish.ParseAddr(s)
	}
	return readItems(value, `"192.168.0.3"`, parse, publish.AddrCost)
}

// readTarget reads the name of a CNAME; the empty one takes it away.
func readTarget(value json.RawMessage) (*dnsname.Name, error) {
	var s *string
	if err := json.Unmarshal(value, &s); err != nil || s == nil {
		return nil, errors.New(`write a name, as in "www.example.com", or ""`)
	}
	if strings.TrimSpace(*s) == "" {
		return new(dnsname.Name), nil
	}
	target, err := dnsname.ParseTarget(*s)
	return &target, err
}

// readTXT reads one string, which may hold commas, or a list of them.
func readTXT(value json.RawMessage) (*[]string, error) {
	list, _, err := readTexts(value)
	if err != nil {
		return nil, fmt.Errorf(`%w, as in "v=spf1 -all"`, err)
	}
	list, err = publish.ParseTXT(list)
	return &list, err
}

// readPorts reads what readStrings does, as ports; none is good.
func readPorts(value json.RawMessage) (*[]publish.Port, error) {
	ports, err := readItems(value, `["80/tcp=http"]`, publish.ParsePort, func(publish.Port) int { return publish.MaxItems / publish.MaxPorts })
	if errors.Is(err, publish.ErrTooMany) {
		err = publish.ErrPorts
	}
	slices.SortFunc(ports, publish.Port.Compare)
	return &ports, err
}

// readAliases reads what readStrings does, as absolute names; none is good.
func readAliases(value json.RawMessage) (*[]dnsname.Name, error) {
	aliases, err := readItems(value, `["db.docker"]`, dnsname.ParseAlias, dnsname.Name.Labels)
	return &aliases, err
}

// readItems reads what readStrings does, each by parse, without duplicates
// and at a cost of maxItems in all.
func readItems[T comparable](value json.RawMessage, example string, parse func(string) (T, error), cost func(T) int) ([]T, error) {
	list, err := readStrings(value)
	if err != nil {
		return nil, fmt.Errorf("%w, as in %s", err, example)
	}
	items := make([]T, 0, len(list))
	for _, s := range list {
		item, err := parse(s)
		if err != nil {
			return nil, fmt.Errorf("%.100q: %w", s, err)
		}
		items = append(items, item)
	}
	items = publish.Unique(items)
	left := publish.MaxItems
	for _, item := range items {
		if left -= cost(item); left < 0 {
			return nil, publish.ErrTooMany
		}
	}
	return items, nil
}

// readStrings reads a string, whose commas part it, or a list of strings.
// Empty ones are left out.
func readStrings(value json.RawMessage) ([]string, error) {
	list, isList, err := readTexts(value)
	if err == nil && !isList {
		list = strings.Split(list[0], ",")
	}
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	return slices.DeleteFunc(list, func(s string) bool { return s == "" }), err
}

// readTexts reads a string or a list of strings.
func readTexts(value json.RawMessage) (list []string, isList bool, err error) {
	var s *string
	var items []*string // a pointer tells null from ""
	if json.Unmarshal(value, &s) == nil && s != nil {
		return []string{*s}, false, nil
	}
	if err := json.Unmarshal(value, &items); err != nil || items == nil || slices.Contains(items, nil) {
		return nil, false, errors.New("write a string or a list of strings")
	}
	for _, item := range items {
		list = append(list, *item)
	}
	return list, true, nil
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
