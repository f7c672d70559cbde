package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rayje/dnsdock/internal/engine"
	"github.com/rayje/dnsdock/internal/host"
	"github.com/rayje/dnsdock/internal/publish"
)

const (
	// maxAPI is the newest version of the Docker Remote API that dnsdock was
	// tested with, and minAPI the oldest that it is written for.
	maxAPI = "1.51"
	minAPI = "1.24"

	callTimeout   = 10 * time.Second // for one answer of the engine; a busy one takes seconds to list 10,000 containers
	resyncPeriod  = 30 * time.Second // with callTimeout below the 45 s in which a lost event is to be corrected
	retryPeriod   = 2 * time.Second  // until a list after an inspect that failed
	maxInspects   = 4                // at the same time: more only wait for each other in the engine, and answers for them here
	muchWork      = 1000             // containers read, after which the memory that it took is given back
	minBackoff    = 100 * time.Millisecond
	maxBackoff    = time.Second     // a dial of a local socket costs nothing, and users wait for what comes after it
	longLived     = 5 * time.Second // a stream older than this ended by a restart or an idle proxy: reconnect at once
	maxList       = 1 << 28         // octets of a list: 10,000 containers are 20 MB, with long labels 200
	maxInspect    = 1 << 24         // octets of one container: an engine takes 1 MiB of labels, or a little more
	maxEvent      = 1 << 23         // octets of an event, which holds the labels too, '<' in them as 6 octets
	maxErrorReply = 4 << 10         // octets of an error reply that are read
)

// errGone is the answer to an inspect of a container that does not exist.
var errGone = errors.New("no such container")

// A statusError is an engine's answer other than 200.
type statusError struct {
	code int
	text string
}

func (e *statusError) Error() string {
	return fmt.Sprintf("%d %s: %.300s", e.code, http.StatusText(e.code), e.text)
}

// A dockerClient speaks the Docker Remote API to one engine:
// https://docs.docker.com/reference/api/engine/
//
// Four calls are enough, all of them GET: /_ping, /containers/json,
// /containers/{id}/json and /events. Where GET /networks is allowed too, it
// tells the internal networks.
type dockerClient struct {
	engine engine.URL
	base   string       // "http://docker" or "https://docker"
	prefix string       // "/v1.41", or empty for an engine that does not tell its version
	call   *http.Client // ends with callTimeout, the body included
	stream *http.Client // has no such end
}

// newDockerClient returns a client of the engine, over TLS where files is not
// nil. It does not connect.
func newDockerClient(url engine.URL, files *engine.TLSFiles) *dockerClient {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return url.Dial(ctx, files) }
	if files == nil {
		return newClient(url, "http://docker", &http.Transport{DialContext: dial})
	}
	return newClient(url, "https://docker", &http.Transport{DialTLSContext: dial})
}

// newClient makes the two clients over one transport, without a proxy:
// $HTTP_PROXY is not meant for the engine.
func newClient(url engine.URL, base string, t *http.Transport) *dockerClient {
	t.MaxIdleConnsPerHost = maxInspects
	t.IdleConnTimeout = 2 * resyncPeriod
	t.ResponseHeaderTimeout = callTimeout
	return &dockerClient{
		engine: url,
		base:   base,
		call:   &http.Client{Transport: t, Timeout: callTimeout},
		stream: &http.Client{Transport: t},
	}
}

// get sends a GET and returns the body of a 200; the caller closes it.
func (c *dockerClient) get(ctx context.Context, client *http.Client, path string, query url.Values) (*http.Response, error) {
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
	return nil, replyError(resp)
}

// replyError makes a *statusError of the message that engines send with a
// status, {"message": "..."}.
func replyError(resp *http.Response) error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorReply)) // what came is better than nothing
	var reply struct{ Message string }
	if json.Unmarshal(body, &reply) != nil || reply.Message == "" {
		reply.Message = strings.TrimSpace(string(body))
	}
	return &statusError{resp.StatusCode, engine.ExplainReply(reply.Message)}
}

// ping asks for the engine's API version and settles on one for the calls
// to come: the smaller of the engine's and maxAPI. An engine that does not
// tell gets calls without a version. Not safe together with other calls.
//
// Docker API 1.51: GET /_ping.
func (c *dockerClient) ping(ctx context.Context) error {
	resp, err := c.get(ctx, c.call, "/_ping", nil)
	if err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxErrorReply)) // so that the connection is used again
	c.prefix, err = negotiate(resp.Header.Get("Api-Version"))
	return err
}

// negotiate returns the path prefix for an engine of the given version.
func negotiate(version string) (prefix string, err error) {
	if version == "" {
		return "", nil
	}
	minor, ok := strings.CutPrefix(version, "1.")
	n, err := strconv.Atoi(minor)
	if !ok || err != nil {
		return "", nil // a version we know nothing of: take its default
	}
	oldest, _ := strconv.Atoi(minAPI[2:])
	newest, _ := strconv.Atoi(maxAPI[2:])
	if n < oldest {
		return "", fmt.Errorf("the engine speaks API %s; dnsdock needs %s (Docker 1.12) or newer", version, minAPI)
	}
	return fmt.Sprintf("/v1.%d", min(n, newest)), nil
}

// fetch decodes the JSON that a GET of path returns, of which it reads
// size octets at most.
func (c *dockerClient) fetch(ctx context.Context, path string, query url.Values, size int64, decode func(*json.Decoder) error) error {
	resp, err := c.get(ctx, c.call, c.prefix+path, query)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := decode(json.NewDecoder(io.LimitReader(resp.Body, size))); err != nil {
		return fmt.Errorf("reply is no JSON as expected: %w", err)
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxErrorReply)) // so that the connection is used again
	return nil
}

// list returns the fingerprint of each container that exists, by id.
func (c *dockerClient) list(ctx context.Context) (map[string]fingerprint, error) {
	var all map[string]fingerprint
	err := c.fetch(ctx, "/containers/json", url.Values{"all": {"1"}}, maxList, func(d *json.Decoder) (err error) {
		all, err = readList(d)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	return all, nil
}

// readList decodes one container at a time: the whole would take much memory.
func readList(d *json.Decoder) (map[string]fingerprint, error) {
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return nil, cmp.Or(err, errors.New("no list"))
	}
	all := make(map[string]fingerprint)
	for d.More() {
		var s containerSummary
		if err := d.Decode(&s); err != nil {
			return nil, err
		}
		if s.ID != "" { // else there is nothing to ask for
			all[s.ID] = s.fingerprint()
		}
	}
	_, err := d.Token()
	return all, err
}

// inspect returns what the engine knows of one container; errGone if
// there is none.
func (c *dockerClient) inspect(ctx context.Context, id string) (*containerJSON, error) {
	var j containerJSON
	err := c.fetch(ctx, "/containers/"+url.PathEscape(id)+"/json", nil, maxInspect, func(d *json.Decoder) error { return d.Decode(&j) })
	if e, ok := errors.AsType[*statusError](err); ok && (e.code == http.StatusNotFound ||
		e.code == http.StatusInternalServerError && strings.HasSuffix(e.text, "no such container")) { // podman, while it removes it
		return nil, errGone
	}
	if err != nil {
		return nil, fmt.Errorf("inspect %.12s: %w", id, err)
	}
	return &j, nil
}

// internalNetworks tells of each network by its id, and by its name for
// podman, whether it is internal. Docker API 1.24 to 1.51.
func (c *dockerClient) internalNetworks(ctx context.Context) (map[string]bool, error) {
	internal := make(map[string]bool)
	var list []struct {
		ID       string `json:"Id"`
		Name     string
		Internal bool
	}
	if err := c.fetch(ctx, "/networks", nil, maxInspect, func(d *json.Decoder) error { return d.Decode(&list) }); err != nil {
		return internal, fmt.Errorf("list networks: %w", err)
	}
	for _, n := range list {
		internal[n.ID], internal[n.Name] = n.Internal, n.Internal
	}
	return internal, nil
}

// containerSummary is an element of GET /containers/json, Docker API 1.24 to
// 1.51.
type containerSummary struct {
	ID              string `json:"Id"`
	Names           []string
	State           string
	Status          string // "Up 2 hours (unhealthy)"; podman's has no health
	NetworkSettings struct{ Networks map[string]endpointJSON }
}

// containerJSON is the reply of GET /containers/{id}/json, Docker API 1.24 to
// 1.51. NetworkSettings.IPAddress is gone in 1.52, and says less.
type containerJSON struct {
	ID      string `json:"Id"`
	Name    string
	Image   string // "sha256:..."
	Created string // RFC 3339, as StartedAt
	State   struct {
		Status, StartedAt string
		Health            *struct{ Status string }
	}
	HostConfig struct{ NetworkMode string } // "host", "container:<id>", or the name of a network

	Config struct {
		Image        string // the reference given to docker run
		Env          []string
		Labels       map[string]string
		ExposedPorts map[string]struct{} // "80/tcp"; those of docker run -p too
	}
	NetworkSettings struct{ Networks map[string]endpointJSON }
}

// endpointJSON is a container's end of a network. Docker 20.10 gives internal
// networks a gateway too, though no container uses it.
type endpointJSON struct {
	NetworkID           string // of podman the name
	IPAddress           string
	IPPrefixLen         int
	Gateway             string
	GlobalIPv6Address   string
	GlobalIPv6PrefixLen int
	IPv6Gateway         string
	GwPriority          int                                        // since API 1.48
	IPAMConfig          *struct{ IPv4Address, IPv6Address string } // what --ip and --ip6 asked for
}

// addrs returns the addresses of the endpoint, IPv4 first. While the
// container does not run only those that it was given by hand are known.
func (e endpointJSON) addrs() (addrs []netip.Addr) {
	texts := []string{e.IPAddress, e.GlobalIPv6Address}
	if c := e.IPAMConfig; c != nil && e.IPAddress == "" && e.GlobalIPv6Address == "" {
		texts = []string{c.IPv4Address, c.IPv6Address}
	}
	for _, s := range texts {
		if a, err := publish.ParseAddr(s); err == nil { // empty where there is none; podman says "<nil>" too
			addrs = append(addrs, a)
		}
	}
	return addrs
}

// endpoint returns what the mapping needs of e, but whether it is internal.
func (e endpointJSON) endpoint(name string) publish.Endpoint {
	return publish.Endpoint{
		Network:  publish.Network{Name: name, V4: newIPNet(e.IPAddress, e.IPPrefixLen, e.Gateway), V6: newIPNet(e.GlobalIPv6Address, e.GlobalIPv6PrefixLen, e.IPv6Gateway)},
		Addrs:    e.addrs(),
		Priority: e.GwPriority,
	}
}

// newIPNet returns the network of an address, not valid where the engine does not tell it.
func newIPNet(addr string, bits int, gateway string) (s publish.IPNet) {
	if a, err := publish.ParseAddr(addr); err == nil && bits > 0 {
		s.Prefix, _ = a.Prefix(bits)              // stays as it is with a length that can't be
		s.Gateway, _ = publish.ParseAddr(gateway) // or there is none
	}
	return s
}

func (j *containerJSON) isSick() bool {
	return j.State.Health != nil && j.State.Health.Status == "unhealthy"
}

// container returns what the mapping needs of j. Which networks are internal
// is by their ids.
func (j *containerJSON) container(internal map[string]bool) *publish.Container {
	c := &publish.Container{
		ID:      j.ID,
		Name:    strings.TrimPrefix(j.Name, "/"),
		Image:   j.Config.Image,
		ImageID: j.Image,
		State:   j.State.Status,
		Sick:    j.isSick(),
		Since:   j.since(),
		Env:     make(map[string]string, len(j.Config.Env)),
		Labels:  j.Config.Labels,
	}
	for _, kv := range j.Config.Env {
		k, v, _ := strings.Cut(kv, "=")
		c.Env[k] = v
	}
	switch id, shared := strings.CutPrefix(j.HostConfig.NetworkMode, "container:"); {
	case shared:
		c.Shares = id
	case j.HostConfig.NetworkMode == "host":
		c.Networks = []publish.Endpoint{publish.HostNetwork()}
	default:
		for _, n := range publish.SortedKeys(j.NetworkSettings.Networks) {
			e := j.NetworkSettings.Networks[n]
			end := e.endpoint(n)
			end.Internal = internal[e.NetworkID]
			c.Networks = append(c.Networks, end)
		}
	}
	for text := range j.Config.ExposedPorts {
		if p, err := publish.ParsePort(text); err == nil {
			c.Exposed = append(c.Exposed, p)
		}
	}
	return c
}

// since returns when the container started, or was made if it never did; zero
// where the engine tells neither.
func (j *containerJSON) since() time.Time {
	for _, text := range []string{j.State.StartedAt, j.Created} {
		if t, err := time.Parse(time.RFC3339, text); err == nil && t.Year() > 1 {
			return t.UTC().Truncate(time.Second)
		}
	}
	return time.Time{}
}

// A fingerprint is a hash of all of a container that may change while it
// exists and that is in the list too: with it, a list tells which containers
// are to be inspected again. Half of SHA-256 is more than enough.
type fingerprint [sha256.Size / 2]byte

func newFingerprint(name, state string, sick bool, networks map[string]endpointJSON) fingerprint {
	h := sha256.New()
	fmt.Fprintf(h, "%s %s %t", strings.TrimPrefix(name, "/"), state, sick)
	for _, n := range publish.SortedKeys(networks) {
		fmt.Fprintf(h, " %s %v", n, networks[n].addrs())
	}
	return fingerprint(h.Sum(nil)[:len(fingerprint{})])
}

func (s *containerSummary) fingerprint() fingerprint {
	return newFingerprint(s.name(), s.State, strings.HasSuffix(s.Status, "(unhealthy)"), s.NetworkSettings.Networks)
}

func (j *containerJSON) fingerprint() fingerprint {
	return newFingerprint(j.Name, j.State.Status, j.isSick(), j.NetworkSettings.Networks)
}

// name is the container's own name: the others, of links, have a second slash.
func (s *containerSummary) name() string {
	for _, n := range s.Names {
		if !strings.Contains(strings.TrimPrefix(n, "/"), "/") {
			return n
		}
	}
	return ""
}

// An event is a line of GET /events, Docker API 1.24 to 1.51. The top-level
// status, id and from are gone in 1.52.
type event struct {
	Type   string
	Action string
	Actor  struct {
		ID         string
		Attributes map[string]string
	}
}

// container returns the id of the container that e is about: an attribute
// for the events of networks, but not podman's.
func (e *event) container() string {
	if e.Type == "network" {
		return cmp.Or(e.Actor.Attributes["container"], e.Actor.ID)
	}
	return e.Actor.ID
}

// An eventStream reads the engine's events. Its user closes it.
type eventStream struct {
	body io.ReadCloser
	rest io.LimitedReader // of body, for the next event
	dec  *json.Decoder    // of rest
}

// events opens the stream of the events that may change what is published.
func (c *dockerClient) events(ctx context.Context) (*eventStream, error) {
	filters, err := json.Marshal(map[string][]string{
		"type": {"container", "network"},
		"event": {"create", "start", "die", "pause", "unpause", "rename", "destroy", "connect", "disconnect",
			"health_status",   // with what it is behind a colon, but for podman's
			"died", "remove"}, // podman's die, which it calls die only when it sends it, and its destroy
	})
	if err != nil {
		return nil, err
	}
	resp, err := c.get(ctx, c.stream, c.prefix+"/events", url.Values{"filters": {string(filters)}})
	if err != nil {
		return nil, fmt.Errorf("events: %w", err)
	}
	return newEventStream(resp.Body), nil
}

func newEventStream(body io.ReadCloser) *eventStream {
	s := &eventStream{body: body, rest: io.LimitedReader{R: body}}
	s.dec = json.NewDecoder(&s.rest)
	return s
}

// next waits for an event. Its error ends the stream: the engine closed it,
// or sent what is none.
func (s *eventStream) next() (event, error) {
	var e event
	s.rest.N = maxEvent
	if err := s.dec.Decode(&e); err != nil {
		return e, fmt.Errorf("event stream ended: %w", err)
	}
	return e, nil
}

func (s *eventStream) close() { _ = s.body.Close() } // read only: nothing can be lost

// A watcher keeps the registry at what one engine says. Events and lists
// are only hints that a container may have changed: reconcile inspects it
// and goes by its state, so that lost, repeated, late and reordered events
// all end at the truth.
type watcher struct {
	client *dockerClient
	naming publish.Naming
	reg    *registry
	log    *slog.Logger
	suffix string // of its containers' ids in the registry: of all engines but the first, as cloned machines have equal ones

	state           atomic.Pointer[engine.Status] // what changes with the engine; nil before anything is known
	events, resyncs atomic.Uint64
	kick            chan struct{} // of capacity 1: a resync is wanted at once

	// Of run, and of relist while run waits for it:
	found  bool      // what the log said of the engine last; false before it said anything
	away   bool      // and what the registry knows
	warned bool      // the log said once that it is away
	synced time.Time // when this session had its first list; zero before

	mu      sync.Mutex             // guards what follows
	follows map[string][]followed  // by id of a container: those whose addresses it is answered with
	known   map[string]fingerprint // by id: each container as it was reconciled last; zero where it could not be inspected
	told    map[string][]string    // by id: the problems of a container that were logged
	dirty   map[string]bool        // ids to be reconciled
	work    int                    // containers that were listed or inspected since memory was given back
	busy    map[string]bool        // ids that are being reconciled
	first   map[string]bool        // ids of the first list that are still to be reconciled; nil before it
	listed  bool                   // all of the first list were reconciled
	stuck   map[string]bool        // ids that could not be inspected since the last list
	wake    chan struct{}          // of capacity 1: dirty or busy changed
	soon    chan struct{}          // of capacity 1: a container could not be inspected

	asking   sync.Mutex      // guards what follows, and is held while it is asked for
	internal map[string]bool // of this session, by the network's id and podman's by name; nil before it is asked for
	refused  bool            // the log said once that it is not told
}

// newWatcher returns a watcher that fills reg from the client's engine, whose
// containers have the names that n makes. All are made before one runs.
func newWatcher(client *dockerClient, n publish.Naming, reg *registry, log *slog.Logger) *watcher {
	suffix := ""
	if len(reg.engines) > 0 {
		suffix = "@" + client.engine.Text
	}
	reg.addEngine(client.engine.Text, n.Apex)
	return &watcher{
		client:  client,
		naming:  n,
		reg:     reg,
		suffix:  suffix,
		follows: make(map[string][]followed),
		log:     log.With("engine", client.engine.Text),
		known:   make(map[string]fingerprint),
		told:    make(map[string][]string),
		dirty:   make(map[string]bool),
		busy:    make(map[string]bool),
		wake:    make(chan struct{}, 1),
		soon:    make(chan struct{}, 1),
		kick:    make(chan struct{}, 1),
	}
}

// run watches until ctx is done. The engine's being away never ends it, and
// changes nothing in the registry.
func (w *watcher) run(ctx context.Context) error {
	backoff := minBackoff
	w.setAway(true)
	for ctx.Err() == nil {
		lived, err := w.session(ctx)
		if ctx.Err() != nil {
			break
		}
		w.setAway(true)
		if lived >= longLived {
			w.log.Debug("engine lost", "err", err)
			backoff = minBackoff
			continue
		}
		w.note(false, err)
		if w.found || !w.warned {
			w.found, w.warned = false, true
			w.log.Warn("engine away: what is known goes on being answered", "known", len(w.known), "err", err)
		}
		w.reg.engineAway(w.client.engine.Text)
		w.log.Debug("no connection to the engine", "err", err, "retry", backoff)
		select {
		case <-ctx.Done():
		case <-time.After(backoff/2 + rand.N(backoff/2)):
		}
		backoff = min(2*backoff, maxBackoff)
	}
	return nil
}

// setAway tells the registry whether the engine can be asked.
func (w *watcher) setAway(away bool) {
	switch {
	case away && !w.away:
		w.reg.Away.Add(1)
	case !away && w.away:
		w.reg.Away.Add(-1)
	}
	w.away = away
}

// session connects, and works until the engine is lost. It returns for how
// long that went well, and always an error.
func (w *watcher) session(ctx context.Context) (lived time.Duration, err error) {
	if err := w.client.ping(ctx); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stream, err := w.client.events(ctx)
	if err != nil {
		return 0, err
	}
	defer stream.close()
	w.stuck = make(map[string]bool)
	w.synced = time.Time{}
	w.internal = nil
	var wg sync.WaitGroup
	wg.Go(func() { cancel(w.read(stream)) })
	wg.Go(func() { cancel(w.relist(ctx)) }) // after the stream is open, so that nothing falls between
	w.dispatch(ctx)
	wg.Wait()
	if !w.synced.IsZero() {
		lived = time.Since(w.synced)
	}
	return lived, context.Cause(ctx)
}

// read takes events off the stream as fast as they come: engines drop them
// for slow readers without a word.
func (w *watcher) read(stream *eventStream) error {
	for {
		e, err := stream.next()
		if err != nil {
			return err
		}
		w.events.Add(1)
		if id := e.container(); id != "" {
			w.log.Debug("event", "type", e.Type, "action", e.Action, "id", id)
			w.hint(id)
		}
	}
}

// hint has a container reconciled.
func (w *watcher) hint(id string) {
	w.mu.Lock()
	w.dirty[id] = true
	w.mu.Unlock()
	wakeUp(w.wake)
}

// wakeUp leaves a token in c, a channel of capacity 1, unless one is there.
func wakeUp(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// relist resyncs at once, then from time to time, and soon after an inspect
// failed.
func (w *watcher) relist(ctx context.Context) error {
	if err := w.resync(ctx); err != nil {
		return err
	}
	if w.note(true, nil); !w.found { // of a reconnect whose reason nobody was told, nobody is told either
		w.log.Info("engine found", "api", strings.TrimPrefix(w.client.prefix, "/v"))
	}
	w.setAway(false)
	w.found, w.synced = true, time.Now()
	for next := time.Now().Add(resyncPeriod); ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.soon:
			if soon := time.Now().Add(retryPeriod); soon.Before(next) {
				next = soon
			}
			continue
		case <-w.kick:
		case <-time.After(time.Until(next)):
		}
		if err := w.resync(ctx); err != nil {
			return err
		}
		next = time.Now().Add(resyncPeriod)
	}
}

// resync lists the containers and marks those that are not as they were when
// they were reconciled last, and those that are gone.
func (w *watcher) resync(ctx context.Context) error {
	list, err := w.client.list(ctx)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.resyncs.Add(1)
	w.work += len(list)
	gone := maps.Clone(w.known)
	for id, fingerprint := range list {
		delete(gone, id)
		if known, ok := w.known[id]; !ok || known != fingerprint {
			w.dirty[id] = true
		}
	}
	for id := range gone {
		w.dirty[id] = true
	}
	if w.first == nil {
		w.first = maps.Clone(w.dirty)
	}
	w.doneLocked(w.stuck) // the engine lists them, but can't tell more: the others shall not wait for them
	w.stuck = make(map[string]bool)
	wakeUp(w.wake)
	return nil
}

// doneLocked notes that ids need not be waited for any more; the registry is
// ready once that goes for all of the first list.
func (w *watcher) doneLocked(ids map[string]bool) {
	for id := range ids {
		delete(w.first, id)
	}
	if w.first != nil && len(w.first) == 0 && !w.listed {
		w.listed = true
		w.first = make(map[string]bool) // a map keeps the memory of what it had
		w.reg.engineFound(w.client.engine.Text, w.isGoneLocked)
	}
}

// isGoneLocked reports whether an id of the registry is of a container of this
// engine that does not exist any more.
func (w *watcher) isGoneLocked(id string) bool {
	id, ok := strings.CutSuffix(id, w.suffix)
	_, known := w.known[id]
	return ok && !known && !strings.Contains(id, "@")
}

// dispatch reconciles what is dirty, maxInspects at a time and never one
// container twice at once, until ctx is done. An engine that takes long for
// one container delays no other.
func (w *watcher) dispatch(ctx context.Context) {
	slots := make(chan struct{}, maxInspects)
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case slots <- struct{}{}:
		}
		id, ok := w.take()
		if !ok {
			<-slots
			w.rest()
			select {
			case <-ctx.Done():
				return
			case <-w.wake:
			}
			continue
		}
		wg.Go(func() {
			err := w.reconcile(ctx, id)
			w.release(id, err, ctx.Err() != nil)
			<-slots
		})
	}
}

// take moves an id that is dirty and not busy to busy, if there is one.
func (w *watcher) take() (id string, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id := range w.dirty {
		if !w.busy[id] {
			delete(w.dirty, id)
			w.busy[id] = true
			w.work++
			return id, true
		}
	}
	return "", false
}

// rest gives the memory back that much work took, once it is done: what the
// garbage collector keeps for the next is as much as all that is known.
func (w *watcher) rest() {
	w.mu.Lock()
	done := len(w.busy) == 0 && len(w.dirty) == 0 && w.work >= muchWork
	if done {
		w.work = 0
		w.dirty = make(map[string]bool) // a map keeps the memory of what it had
	}
	w.mu.Unlock()
	if done {
		debug.FreeOSMemory()
	}
}

// release ends what take began. What was interrupted is still to be done;
// what failed is tried again after the next list, which is soon the first time.
func (w *watcher) release(id string, err error, interrupted bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.busy, id)
	switch {
	case interrupted:
		w.dirty[id] = true
	case err != nil:
		w.stuck[id] = true
		known, ok := w.known[id]
		w.known[id] = fingerprint{}
		if !ok || known != (fingerprint{}) {
			w.log.Warn("container can't be inspected: its names stay as they were", "err", err)
			wakeUp(w.soon)
		}
	default:
		w.doneLocked(map[string]bool{id: true})
	}
	if w.dirty[id] || len(w.busy) == 0 {
		wakeUp(w.wake)
	}
}

// reconcile makes the registry say of one container what the engine says.
// When the engine does not answer nothing changes, and it returns an error.
func (w *watcher) reconcile(ctx context.Context, id string) error {
	j, err := w.client.inspect(ctx, id)
	if err == nil && j.ID != id {
		err = fmt.Errorf("inspect %.12s: the reply is about %.12q", id, j.ID)
	}
	switch {
	case errors.Is(err, errGone):
		w.reg.forget(id + w.suffix)
		w.mu.Lock()
		delete(w.known, id)
		delete(w.told, id)
		delete(w.follows, id)
		w.mu.Unlock()
		w.moved(id, "", fingerprint{})
		return nil
	case err != nil:
		return err
	}
	j.ID = id // the same, once in memory
	c, err := w.container(ctx, j)
	if err != nil {
		return err
	}
	s, problems := w.service(c)
	w.remember(j, problems)
	w.moved(id, c.Name, j.fingerprint()) // though it is as before: they may have seen what nobody saw here
	w.reg.put(id+w.suffix, s)
	return nil
}

// A followed container is one whose addresses another is answered with.
type followed struct {
	ref  string      // its id or name
	seen fingerprint // when it was looked at for the other; zero before, and where there was none
}

// maxFollowed bounds the containers that are inspected for one that is
// answered with the addresses of others, which may be so too.
const maxFollowed = 16

// container returns what the mapping needs of j, and notes which others it
// follows before these are inspected: so that no change of them is missed.
func (w *watcher) container(ctx context.Context, j *containerJSON) (*publish.Container, error) {
	c, err := w.networked(ctx, j)
	if err != nil {
		return nil, err
	}
	var all []followed
	err = w.follow(ctx, c, []string{j.ID}, &all)
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(all) == 0 {
		delete(w.follows, j.ID)
	}
	return c, err
}

// follow gives c the addresses that are of others: the networks of the container
// that it shares them with, and those of the containers that it is to be reached by.
// Path is how it came here; what leads back is left out.
func (w *watcher) follow(ctx context.Context, c *publish.Container, path []string, all *[]followed) error {
	if c.Shares != "" {
		other, err := w.other(ctx, c.Shares, path, all)
		if err != nil {
			return err
		}
		if other != nil {
			c.Networks = other.Networks
		}
	}
	c.Others = make(map[string][]publish.Endpoint)
	for _, ref := range c.Reaches() {
		other, err := w.other(ctx, ref, path, all)
		if err != nil {
			return err
		}
		if other != nil {
			c.Others[ref] = (&publish.Mapping{Container: other}).Endpoints(w.naming.Networks)
		}
	}
	return nil
}

// other returns the container of that id or name if it runs, with what it
// follows itself; nil if it does not, or leads back.
func (w *watcher) other(ctx context.Context, ref string, path []string, all *[]followed) (*publish.Container, error) {
	if len(*all) >= 2*maxFollowed || slices.Contains(path, ref) {
		return nil, nil
	}
	note := func(more ...followed) {
		*all = append(slices.Clone(*all), more...)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.follows[path[0]] = *all
	}
	note(followed{ref: ref})
	j, err := w.client.inspect(ctx, ref)
	if errors.Is(err, errGone) || err == nil && slices.Contains(path, j.ID) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	*all = (*all)[:len(*all)-1]
	note(followed{ref, j.fingerprint()}, followed{j.ID, j.fingerprint()}) // by both: it may be renamed
	c, err := w.networked(ctx, j)
	if err != nil || c.State != "running" {
		return nil, err
	}
	return c, w.follow(ctx, c, append(slices.Clone(path), j.ID), all)
}

// moved has the containers reconciled that follow the one of that id or name, and
// saw it otherwise than it is now.
func (w *watcher) moved(id, name string, now fingerprint) {
	w.mu.Lock()
	defer w.mu.Unlock()
	isNews := func(f followed) bool { return (f.ref == id || f.ref == name) && f.seen != now }
	for follower, list := range w.follows {
		if follower != id && slices.ContainsFunc(list, isNews) {
			w.dirty[follower] = true
			wakeUp(w.wake)
		}
	}
}

// networked returns what the mapping needs of j, by itself. Where the engine
// does not tell which networks are internal, none is.
func (w *watcher) networked(ctx context.Context, j *containerJSON) (*publish.Container, error) {
	w.asking.Lock()
	defer w.asking.Unlock()
	isNew := func(name string, e endpointJSON) bool {
		_, known := w.internal[e.NetworkID]
		return e.NetworkID != "" && (!known || e.NetworkID == name) && len(e.addrs()) > 0 // podman's id is the name, that another may have had
	}
	for name, e := range j.NetworkSettings.Networks {
		if !isNew(name, e) {
			continue
		}
		internal, err := w.client.internalNetworks(ctx)
		if refused, ok := errors.AsType[*statusError](err); ok {
			if !w.refused {
				w.log.Warn("internal networks can't be told, and are answered as others are: allow GET /networks", "err", refused)
			}
			w.refused, err = true, nil
		}
		if err != nil {
			return nil, err
		}
		for _, e := range j.NetworkSettings.Networks {
			if !internal[e.NetworkID] {
				internal[e.NetworkID] = false // also where it is not told: nor will it be the next time
			}
		}
		w.internal = internal
		break
	}
	return j.container(w.internal), nil
}

// service maps a container to what it publishes, if anything.
func (w *watcher) service(c *publish.Container) (*publish.Service, []publish.Problem) {
	n := w.naming
	if c.State != "running" && !n.All {
		return nil, nil
	}
	if n.All && c.State != "running" && !slices.ContainsFunc(c.Networks, func(e publish.Endpoint) bool { return len(e.Addrs) > 0 }) {
		// The engine takes the addresses of a container that stopped: keep the last ones.
		c.Networks = w.reg.last(c.ID + w.suffix)
	}
	s, problems := n.ServiceOf(c, w.client.engine.Text)
	if s != nil {
		s.ID += w.suffix
		s.Addrs = w.ofHost(s.Addrs)
	}
	return s, problems
}

// ofHost returns addrs with the address of an engine elsewhere in the place of
// the host's, which is not the one that a client asked then.
func (w *watcher) ofHost(addrs []netip.Addr) []netip.Addr {
	at, err := netip.ParseAddrPort(w.client.engine.Addr)
	if err != nil || w.client.engine.Network != "tcp" || host.HasAddr(at.Addr()) || w.naming.Host != nil {
		return addrs
	}
	addrs = slices.Clone(addrs)
	for i, a := range addrs {
		if !a.IsValid() {
			addrs[i] = at.Addr().Unmap().WithZone("")
		}
	}
	return addrs
}

// remember notes that j was reconciled as it is, and logs each of its
// problems once in its life.
func (w *watcher) remember(j *containerJSON, problems []publish.Problem) {
	w.mu.Lock()
	known, ok := w.known[j.ID]
	logged := w.told[j.ID]
	w.mu.Unlock()
	name := strings.TrimPrefix(j.Name, "/")
	if ok && known == (fingerprint{}) {
		w.log.Info("container can be inspected again", "container", name, "id", j.ID)
	}
	for _, p := range problems {
		text := fmt.Sprintf("%s=%s", p.Source, p.Value)
		if slices.Contains(logged, text) {
			continue
		}
		logged = append(logged, text)
		w.log.Warn("value can't be used, the rest of the container is published", "container", name,
			"source", p.Source, "value", p.Value, "err", p.Err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.known[j.ID] = j.fingerprint() // nobody else wrote it: j is busy
	if len(logged) > 0 {
		w.told[j.ID] = logged
	}
}

// status returns how the engine is.
func (w *watcher) status() (s engine.Status) {
	if known := w.state.Load(); known != nil {
		s = *known
	}
	s.URL, s.Events, s.Resyncs = w.client.engine.Text, w.events.Load(), w.resyncs.Load()
	return s
}

// note notes for those who ask that the engine answers, or why not, and tells
// those who listen when that changes.
func (w *watcher) note(up bool, err error) {
	known := w.state.Load()
	s, what := &engine.Status{Up: up, Since: time.Now().UTC(), API: strings.TrimPrefix(w.client.prefix, "/v")}, "engine-found"
	if err != nil {
		s.Error, what = err.Error(), "engine-lost"
	}
	if known != nil && known.Up == up {
		s.Since = known.Since
	}
	w.state.Store(s)
	if known == nil || known.Up != up {
		w.reg.feed.Publish(what, "", w.status())
	}
}

// reload has all containers listed at once, and the TLS files read for what
// is asked from now on.
func (w *watcher) reload() {
	w.client.call.CloseIdleConnections()
	wakeUp(w.kick)
}
