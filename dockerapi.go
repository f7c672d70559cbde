package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"sync/atomic"

	"github.com/rayje/dnsdock/internal/dockerjson"
	"github.com/rayje/dnsdock/internal/engine"
	"github.com/rayje/dnsdock/internal/host"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/swarm"
	"github.com/rayje/dnsdock/internal/watch"
)

const (
	maxList    = 1 << 28 // bytes of a list: 10,000 containers are 20 MB, with long labels 200 MB
	maxInspect = 1 << 24 // bytes of one container: an engine takes 1 MiB of labels, or a little more
	maxEvent   = 1 << 23 // bytes of an event, which holds the labels too, '<' in them as 6 bytes
)

// A dockerClient asks one Docker Engine by the Docker Remote API:
// https://docs.docker.com/reference/api/engine/
//
// Four calls are enough, all of them GET: /_ping, /containers/json,
// /containers/{id}/json and /events. GET /networks, where it is allowed,
// returns which networks are internal; /info, /tasks, /services and /nodes tell of a swarm.
type dockerClient struct {
	engine engine.URL
	base   string       // "http://docker" or "https://docker"
	labels []string     // KEY or KEY=VALUE: only containers that have all of them are listed
	prefix string       // "/v1.41", or empty for an engine that does not name its version
	call   *http.Client // gives up after watch.CallTimeout, which covers the body too
	stream *http.Client // has no such limit
	log    *slog.Logger
	warned bool // that the engine is too new, in the log

	machine atomic.Pointer[netip.Addr] // that was last reached; nil before
}

var _ watch.Engine = (*dockerClient)(nil)

// newDockerClient returns a client of the engine, over TLS where files is not
// nil. It does not connect.
func newDockerClient(url engine.URL, files *engine.TLSFiles, log *slog.Logger) *dockerClient {
	c := &dockerClient{engine: url, log: log}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := url.Dial(ctx, files)
		if err == nil {
			c.noteMachine(conn.RemoteAddr())
		}
		return conn, err
	}
	base, t := "http://docker", &http.Transport{DialContext: dial} // no proxy: $HTTP_PROXY is not meant for the engine
	if files != nil {
		base, t = "https://docker", &http.Transport{DialTLSContext: dial}
	}
	t.MaxIdleConnsPerHost = watch.MaxInspects
	t.IdleConnTimeout = 2 * watch.ResyncPeriod
	t.ResponseHeaderTimeout = watch.CallTimeout
	c.base = base
	c.call, c.stream = &http.Client{Transport: t, Timeout: watch.CallTimeout}, &http.Client{Transport: t}
	return c
}

// noteMachine notes where the engine was reached: at a socket file, or at the
// address of a machine.
func (c *dockerClient) noteMachine(remote net.Addr) {
	var machine netip.Addr
	if tcp, ok := remote.(*net.TCPAddr); ok {
		machine = tcp.AddrPort().Addr().Unmap().WithZone("")
	}
	if host.HasAddr(machine) {
		machine = netip.Addr{}
	}
	c.machine.Store(&machine)
}

// Machine implements watch.Engine.
func (c *dockerClient) Machine() netip.Addr {
	if machine := c.machine.Load(); machine != nil {
		return *machine
	}
	return netip.Addr{}
}

// reload closes the idle connections, so that the next ones read the TLS files again.
func (c *dockerClient) reload() { c.call.CloseIdleConnections() }

// get sends a GET and returns the body of a 200; the caller closes it.
func (c *dockerClient) get(
	ctx context.Context, client *http.Client, path string, query url.Values,
) (*http.Response, error) {
	u := c.base + path
	if query != nil {
		u += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, engine.Explain(err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, engine.ReplyError(resp)
}

// Connect implements watch.Engine: it pings the engine, settles on an API version
// for the calls to come, and opens the stream of the events that may change what
// is published. An engine that does not name its version gets calls without one.
//
// Docker API 1.51: GET /_ping, GET /events.
func (c *dockerClient) Connect(ctx context.Context) (version string, stream watch.Stream, err error) {
	newest, err := c.ping(ctx)
	if err != nil {
		return "", nil, fmt.Errorf("ping: %w", err)
	}
	version, isNewer, err := engine.Negotiate(newest)
	if err != nil {
		return "", nil, err
	}
	body, err := c.events(ctx, version)
	if oldest, isTooOld := engine.IsTooOld(err); isNewer && isTooOld {
		if !c.warned {
			c.log.Warn("engine refuses the versions of its API that dnsdock was tested with: a newer one is used",
				"engine", c.engine.Text, "tested", engine.MaxAPI, "api", oldest, "err", err)
		}
		c.warned, version = true, oldest
		body, err = c.events(ctx, version)
	}
	if err != nil {
		return "", nil, fmt.Errorf("events: %w", err)
	}
	return version, newEventStream(body), nil
}

// ping returns the newest API version that the engine has.
func (c *dockerClient) ping(ctx context.Context) (newest string, err error) {
	resp, err := c.get(ctx, c.call, "/_ping", nil)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	drain(resp.Body)
	return resp.Header.Get("Api-Version"), nil
}

// events makes the calls to come use an API version, empty for none, and returns
// the body of a stream of events. With labels there are none of networks, which
// have no label of a container: the next list finds what they would tell.
func (c *dockerClient) events(ctx context.Context, version string) (io.ReadCloser, error) {
	if c.prefix = ""; version != "" {
		c.prefix = "/v" + version
	}
	resp, err := c.get(ctx, c.stream, c.prefix+"/events", engine.Filters(map[string][]string{
		"type": {"container", "network", "service", "node"}, "event": watch.Actions, "label": c.labels,
	}))
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// drain reads what is left of a reply, so that its connection is used again.
func drain(body io.Reader) { _, _ = io.Copy(io.Discard, io.LimitReader(body, engine.MaxErrorReply)) }

// fetch decodes the JSON that a GET of path returns, of which it reads size
// bytes at most.
func (c *dockerClient) fetch(
	ctx context.Context, path string, query url.Values, size int64, decode func(*json.Decoder) error,
) error {
	resp, err := c.get(ctx, c.call, c.prefix+path, query)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := decode(json.NewDecoder(io.LimitReader(resp.Body, size))); err != nil {
		return fmt.Errorf("reply is not the expected JSON: %w", err)
	}
	drain(resp.Body)
	return nil
}

// List implements watch.Engine.
func (c *dockerClient) List(ctx context.Context, each func(id string, f watch.Fingerprint)) error {
	query := engine.Filters(map[string][]string{"label": c.labels})
	query.Set("all", "1")
	decode := func(d *json.Decoder) error {
		return readElements(d, func(s *dockerjson.Summary) error {
			if s.ID != "" { // else there is nothing to ask for
				each(s.ID, s.Fingerprint())
			}
			return nil
		})
	}
	if err := c.fetch(ctx, "/containers/json", query, maxList, decode); err != nil {
		return fmt.Errorf("list containers: %w", err)
	}
	return nil
}

// readElements decodes one element of a list at a time: the whole list would take much memory.
func readElements[T any](d *json.Decoder, each func(*T) error) error {
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return cmp.Or(err, errors.New("no list"))
	}
	for d.More() {
		var element T
		if err := d.Decode(&element); err != nil {
			return err
		}
		if err := each(&element); err != nil {
			return err
		}
	}
	_, err := d.Token()
	return err
}

// Inspect returns what the engine knows of one container, watch.ErrGone if it
// does not exist.
func (c *dockerClient) Inspect(ctx context.Context, ref string) (*watch.Container, error) {
	var j dockerjson.Container
	path := "/containers/" + url.PathEscape(ref) + "/json"
	err := c.fetch(ctx, path, nil, maxInspect, func(d *json.Decoder) error { return d.Decode(&j) })
	if engine.IsGone(err) {
		return nil, watch.ErrGone
	}
	if err != nil {
		return nil, fmt.Errorf("inspect %.12s: %w", ref, err)
	}
	return j.Watched(), nil
}

// networkJSON is an element of GET /networks, Docker API 1.24 to 1.51.
type networkJSON struct {
	ID       string `json:"Id"`
	Name     string
	Internal bool
	Ingress  bool // the network of Swarm's routing mesh
	Driver   string
	Scope    string
	IPAM     struct {
		Config []struct{ Subnet string }
	}
}

// imageJSON is the reply of GET /images/{id}/json, Docker API 1.24 to 1.51.
type imageJSON struct {
	Config struct {
		Env    []string
		Labels map[string]string
	}
}

// Image returns what an image sets.
func (c *dockerClient) Image(ctx context.Context, id string) (publish.Baked, error) {
	var j imageJSON
	path := "/images/" + url.PathEscape(id) + "/json"
	if err := c.fetch(ctx, path, nil, maxInspect, func(d *json.Decoder) error { return d.Decode(&j) }); err != nil {
		return publish.Baked{}, fmt.Errorf("inspect image %.19s: %w", id, err)
	}
	return publish.Baked{Env: publish.Variables(j.Config.Env), Labels: j.Config.Labels}, nil
}

// Networks returns the networks of the engine.
func (c *dockerClient) Networks(ctx context.Context) (all watch.Networks, err error) {
	var list []networkJSON
	decode := func(d *json.Decoder) error { return d.Decode(&list) }
	err = c.fetch(ctx, "/networks", nil, maxInspect, decode)
	if _, ok := errors.AsType[*engine.StatusError](err); ok {
		return all, fmt.Errorf("list networks: %w: %w", watch.ErrRefused, err)
	}
	if err != nil {
		return all, fmt.Errorf("list networks: %w", err)
	}
	all.Kinds = make(map[string]watch.NetworkKind, 2*len(list))
	for _, n := range list {
		kind := watch.Open
		switch {
		case n.Ingress:
			kind = watch.Ingress
		case n.Internal:
			kind = watch.Internal
		case n.Driver == "macvlan", n.Driver == "ipvlan", n.Driver == "overlay":
			kind = watch.Routed
		}
		all.Kinds[n.ID], all.Kinds[n.Name] = kind, kind
		for _, c := range n.IPAM.Config {
			if p, err := netip.ParsePrefix(c.Subnet); err == nil && kind != watch.Routed {
				all.Subnets = append(all.Subnets, p)
			}
		}
		if n.Driver == "overlay" && n.Scope == "swarm" && !n.Ingress {
			all.Overlays = append(all.Overlays, n.ID)
		}
	}
	return all, nil
}

// GatewayBridge implements watch.Engine.
//
// Docker API 1.51: GET /networks/{id}.
func (c *dockerClient) GatewayBridge(ctx context.Context) (map[string]netip.Addr, error) {
	var n struct {
		Containers map[string]struct{ IPv4Address string } // by ID; ingress-sbox is Swarm's own
	}
	decode := func(d *json.Decoder) error { return d.Decode(&n) }
	err := c.fetch(ctx, "/networks/docker_gwbridge", nil, maxInspect, decode)
	if _, refused := errors.AsType[*engine.StatusError](err); refused && !engine.IsGone(err) {
		return nil, fmt.Errorf("inspect network: %w: %w", watch.ErrRefused, err)
	} else if err != nil && !refused {
		return nil, fmt.Errorf("inspect network: %w", err)
	}
	addrs := make(map[string]netip.Addr, len(n.Containers))
	for id, e := range n.Containers {
		if p, err := netip.ParsePrefix(e.IPv4Address); err == nil {
			addrs[id] = p.Addr()
		}
	}
	return addrs, nil
}

// refused makes err one of watch.ErrRefused if a proxy refused the call, or an
// engine does not have it.
func refused(what string, err error) error {
	e, ok := errors.AsType[*engine.StatusError](err)
	switch {
	case err == nil:
		return nil
	case ok && slices.Contains([]int{403, 404, 405, 501}, e.Code):
		return fmt.Errorf("%s: %w: %w", what, watch.ErrRefused, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// SwarmInfo implements watch.Engine.
//
// Docker API 1.51: GET /info.
func (c *dockerClient) SwarmInfo(ctx context.Context) (info swarm.Info, err error) {
	decode := func(d *json.Decoder) (err error) { info, err = swarm.ReadInfo(d); return err }
	return info, refused("info", c.fetch(ctx, "/info", nil, maxInspect, decode))
}

// SwarmList implements watch.Engine.
//
// Docker API 1.51: GET /tasks, GET /services, GET /nodes.
func (c *dockerClient) SwarmList(
	ctx context.Context, list watch.SwarmList, begun func(), each func(raw []byte) error,
) error {
	var query url.Values
	if list == watch.Tasks {
		query = engine.Filters(map[string][]string{"desired-state": {"running"}})
	}
	decode := func(d *json.Decoder) error {
		begun()
		return readElements(d, func(raw *json.RawMessage) error { return each(*raw) })
	}
	return refused("list "+string(list), c.fetch(ctx, "/"+string(list), query, maxList, decode))
}

// Gossip implements watch.Engine.
//
// Docker API 1.51: GET /networks/{id}.
func (c *dockerClient) Gossip(ctx context.Context, network string) (list []swarm.Heard, err error) {
	decode := func(d *json.Decoder) (err error) { list, err = swarm.ReadGossip(d); return err }
	err = c.fetch(ctx, "/networks/"+url.PathEscape(network), url.Values{"verbose": {"true"}}, maxList, decode)
	if engine.IsGone(err) {
		return nil, watch.ErrGone
	}
	return list, refused("inspect network", err)
}

// eventJSON is a line of GET /events, Docker API 1.24 to 1.51. The top-level
// status, id and from are gone in 1.52.
type eventJSON struct {
	Type   string
	Action string
	Scope  string `json:"scope"` // "local" or "swarm"
	Actor  struct {
		ID         string
		Attributes map[string]string
	}
}

// event returns what the watcher needs of e. The container of an event of a
// network is in an attribute, but podman's is the actor.
func (e *eventJSON) event() watch.Event {
	id := e.Actor.ID
	if e.Type == "network" {
		id = cmp.Or(e.Actor.Attributes["container"], id)
	}
	w := watch.Event{Type: e.Type, Action: e.Action, Container: id}
	switch {
	case e.Type == "service", e.Type == "node", e.Scope == "swarm":
		w.Container, w.Swarm = "", watch.AnyNews
	case publish.IsTask(e.Actor.Attributes):
		w.Swarm = watch.TaskNews
	}
	return w
}

// An eventStream reads the engine's events. Whoever opened it closes it.
type eventStream struct {
	body io.ReadCloser
	rest io.LimitedReader // of body, for the next event
	dec  *json.Decoder    // of rest
}

var _ watch.Stream = (*eventStream)(nil)

func newEventStream(body io.ReadCloser) *eventStream {
	s := &eventStream{body: body, rest: io.LimitedReader{R: body}}
	s.dec = json.NewDecoder(&s.rest)
	return s
}

// Next waits for an event. An error ends the stream: the engine closed it, or
// sent something that is no event.
func (s *eventStream) Next() (watch.Event, error) {
	var e eventJSON
	s.rest.N = maxEvent
	if err := s.dec.Decode(&e); err != nil {
		return watch.Event{}, fmt.Errorf("event stream ended: %w", err)
	}
	return e.event(), nil
}

// Close ends the stream. It is only read, so no error of its body matters.
func (s *eventStream) Close() { _ = s.body.Close() }
