package dnstest

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// An Engine is an http.Handler that answers as a Docker Engine does, and
// misbehaves on demand. Its fields may be set before it serves, and then in
// Update.
type Engine struct {
	Version  string                                    // of its API; empty: it does not say, and takes any
	Quiet    bool                                      // it drops its events
	List     func() string                             // the body for GET /containers/json; nil: what there is
	Inspect  func(id string) (status int, body string) // status 0: as if Inspect were nil
	Hang     chan struct{}                             // if not nil, calls wait until it is closed
	Internal []string                                  // internal networks; nil: GET /networks is refused
	Replies  map[string]http.HandlerFunc               // by path without version: in place of the engine's own

	mu         sync.Mutex // guards all fields
	containers map[string]*Container
	streams    map[chan string]bool // lines of each open event stream; closed to end it
	calls      map[string]int       // by path without version, ids as {id}
}

// A Container is what an Engine says of one.
type Container struct {
	Name, Image, State string
	Addr               string // IPv4 in the network bridge
	Env                []string
	Labels             map[string]string
	Started            string              // RFC 3339
	Networks           map[string]Endpoint // further ones
	Mode               string              // its network mode: "host", or "container:" and an id
	Health             string
}

// An Endpoint is a container's place in a network, as in API 1.41.
type Endpoint struct {
	NetworkID         string `json:",omitempty"`
	IPAddress         string
	Gateway           string
	GlobalIPv6Address string
}

// NewEngine returns an engine without containers.
func NewEngine() *Engine {
	return &Engine{
		Version:    "1.41",
		containers: make(map[string]*Container),
		streams:    make(map[chan string]bool),
		calls:      make(map[string]int),
	}
}

// ID makes the id of 64 digits that begins with prefix.
func ID(prefix string) string { return prefix + strings.Repeat("0", 64-len(prefix)) }

// ServeTCP serves the engine on loopback until the test ends, over TLS if cfg
// is not nil, and returns its URL for -docker.
func (e *Engine) ServeTCP(t testing.TB, cfg *tls.Config) string {
	t.Helper()
	srv := httptest.NewUnstartedServer(e)
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	if srv.TLS = cfg; cfg != nil {
		srv.StartTLS()
	} else {
		srv.Start()
	}
	t.Cleanup(srv.Close)
	return "tcp://" + srv.Listener.Addr().String()
}

// ServeUnix serves the engine at a socket in a directory of its own until the
// test ends, and returns its URL for -docker.
func (e *Engine) ServeUnix(t testing.TB) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "d.sock")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: e}
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close() })
	return "unix://" + socket
}

// Start makes a container of redis:7 run, or changes one, and sends its event.
func (e *Engine) Start(prefix, name, addr string, env ...string) {
	e.Set(prefix, &Container{Name: name, Image: "redis:7", State: "running", Addr: addr, Env: env})
	e.Event("start", ID(prefix))
}

// Set adds or changes a container without an event.
func (e *Engine) Set(prefix string, c *Container) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.containers[ID(prefix)] = c
}

// SetState changes a container's state without an event. One that has exited
// loses its address.
func (e *Engine) SetState(prefix, state string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := *e.containers[ID(prefix)]
	if c.State = state; state == "exited" {
		c.Addr = ""
	}
	e.containers[ID(prefix)] = &c
}

// Destroy removes a container, and sends the event.
func (e *Engine) Destroy(prefix string) {
	e.mu.Lock()
	delete(e.containers, ID(prefix))
	e.mu.Unlock()
	e.Event("destroy", ID(prefix))
}

// Event sends an event of the container id.
func (e *Engine) Event(action, id string) {
	e.Send(fmt.Sprintf(`{"Type":"container","Action":%q,"Actor":{"ID":%q,"Attributes":{}}}`, action, id))
}

// Send sends a line to all event streams.
func (e *Engine) Send(line string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for c := range e.streams {
		if !e.Quiet {
			c <- line
		}
	}
}

// EndStreams ends all event streams.
func (e *Engine) EndStreams() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for c := range e.streams {
		close(c)
		delete(e.streams, c)
	}
}

// Update calls f while the engine waits.
func (e *Engine) Update(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f()
}

// Count returns how often a path was asked for, without its version and with
// {id} for an id.
func (e *Engine) Count(path string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.calls[path]
}

func (e *Engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	path, versioned := strings.CutPrefix(r.URL.Path, "/v"+e.Version)
	versioned = versioned || e.Version == ""
	id, isContainer := strings.CutPrefix(path, "/containers/")
	id, isInspect := strings.CutSuffix(id, "/json")
	if isInspect = isInspect && isContainer; isInspect {
		e.calls["/containers/{id}/json"]++
	} else {
		e.calls[path]++
	}
	hang, list, inspect, networks, version := e.Hang, e.List, e.Inspect, e.Internal, e.Version
	e.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-r.Context().Done():
			return
		}
	}
	switch reply := e.reply(path); {
	case r.Method != "GET":
		http.Error(w, "read only", http.StatusForbidden)
	case path == "/_ping":
		w.Header().Set("Api-Version", version)
		fmt.Fprint(w, "OK")
	case !versioned:
		http.Error(w, `{"message":"client version is wrong"}`, http.StatusBadRequest)
	case reply != nil:
		reply(w, r)
	case path == "/info":
		fmt.Fprint(w, `{"Swarm":{"LocalNodeState":"inactive"}}`)
	case path == "/containers/json" && list != nil:
		fmt.Fprint(w, list())
	case path == "/containers/json":
		e.serveList(w)
	case path == "/networks" && networks != nil:
		serveNetworks(w, networks)
	case strings.HasPrefix(path, "/images/"): // none of which sets anything
		fmt.Fprint(w, `{"Config":{}}`)
	case path == "/events":
		e.serveEvents(w, r)
	case isInspect && inspect != nil:
		if status, body := inspect(id); status != 0 {
			w.WriteHeader(status)
			fmt.Fprint(w, body)
			return
		}
		e.serveInspect(w, id)
	case isInspect:
		e.serveInspect(w, id)
	default:
		http.Error(w, `{"message":"forbidden"}`, http.StatusForbidden)
	}
}

// reply returns what replies to a path in place of the engine, and nil if nothing does.
func (e *Engine) reply(path string) http.HandlerFunc {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.Replies[path]
}

func serveNetworks(w http.ResponseWriter, internal []string) {
	list := []any{}
	for _, n := range internal {
		list = append(list, map[string]any{"Id": "id-" + n, "Name": n, "Internal": true})
	}
	_ = json.NewEncoder(w).Encode(list) // the client may be gone
}

func (e *Engine) serveList(w http.ResponseWriter) {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := []any{}
	for id, c := range e.containers {
		list = append(list, map[string]any{
			"Id": id, "Names": []string{"/other/link", "/" + c.Name}, "State": c.State, "Status": c.status(),
			"NetworkSettings": map[string]any{"Networks": c.endpoints()},
		})
	}
	_ = json.NewEncoder(w).Encode(list) // the client may be gone
}

// status is what a list says of a container's health.
func (c *Container) status() string {
	if c.Health == "" {
		return "Up 2 hours"
	}
	return "Up 2 hours (" + strings.Replace(c.Health, "starting", "health: starting", 1) + ")"
}

func (c *Container) endpoints() map[string]Endpoint {
	if c.Mode != "" {
		return nil
	}
	all := map[string]Endpoint{"bridge": {IPAddress: c.Addr}}
	for n, e := range c.Networks {
		all[n] = e
	}
	return all
}

// serveInspect serves the container of an id or of a name.
func (e *Engine) serveInspect(w http.ResponseWriter, id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.containers[id]
	for other, named := range e.containers {
		if named.Name == id {
			id, c = other, named
		}
	}
	if c == nil {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintf(w, `{"message":"No such container: %s"}`, id)
		return
	}
	state := map[string]any{"Status": c.State, "StartedAt": c.Started}
	if c.Health != "" {
		state["Health"] = map[string]any{"Status": c.Health}
	}
	_ = json.NewEncoder(w).Encode(map[string]any{ // the client may be gone
		"Id": id, "Name": "/" + c.Name, "Image": "sha256:01", "State": state,
		"Config":          map[string]any{"Image": c.Image, "Env": c.Env, "Labels": c.Labels},
		"HostConfig":      map[string]any{"NetworkMode": c.Mode},
		"NetworkSettings": map[string]any{"Networks": c.endpoints()},
	})
}

func (e *Engine) serveEvents(w http.ResponseWriter, r *http.Request) {
	lines := make(chan string, 1024)
	e.mu.Lock()
	e.streams[lines] = true
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		delete(e.streams, lines)
		e.mu.Unlock()
	}()
	flush := w.(http.Flusher).Flush
	flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case line, ok := <-lines:
			if !ok {
				return
			}
			fmt.Fprintln(w, line)
			flush()
		}
	}
}
