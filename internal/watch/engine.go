package watch

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/rayje/dnsdock/internal/engine"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/swarm"
)

// An Engine is a Docker Engine as a Watcher asks it. List, Inspect and Networks
// may run at the same time; Connect runs alone.
type Engine interface {
	// Connect opens a stream of events, which ends when ctx is done, and
	// settles on the version of the API that the other calls use. The version
	// is empty if the engine does not name one.
	Connect(ctx context.Context) (version string, s Stream, err error)

	// List calls each for each container that exists. After an error the list is
	// not whole.
	List(ctx context.Context, each func(id string, f Fingerprint)) error

	// Inspect returns a container by its ID or name. The error is ErrGone if
	// there is none.
	Inspect(ctx context.Context, ref string) (*Container, error)

	// Networks returns the networks that exist. The error is ErrRefused if the
	// engine, or a proxy in front of it, refuses the call.
	Networks(ctx context.Context) (Networks, error)

	// GatewayBridge returns the address of each container, by ID, on the network
	// docker_gwbridge; none if there is no such network. The error is ErrRefused
	// if the engine, or a proxy in front of it, refuses the call.
	GatewayBridge(ctx context.Context) (map[string]netip.Addr, error)

	// Machine returns the address at which the engine was last reached, if
	// that is none of this machine's; else it is not valid.
	Machine() netip.Addr

	// SwarmInfo returns the engine's part in a swarm. The error is ErrRefused if the
	// engine, or a proxy in front of it, refuses the call.
	SwarmInfo(ctx context.Context) (swarm.Info, error)

	// SwarmList calls each for each element of a list that managers have, as JSON
	// that it does not keep, and begun when the reply begins. After an error the
	// list is not whole. The error is ErrRefused if a proxy, or what is no
	// manager, refuses the call.
	SwarmList(ctx context.Context, list SwarmList, begun func(), each func(raw []byte) error) error

	// Gossip returns what the engine hears of the tasks on an overlay network, by the
	// ID of the network. The error is ErrRefused if the engine, or a proxy in front of it, refuses the call.
	Gossip(ctx context.Context, network string) ([]swarm.Heard, error)

	// Image returns what an image sets, by its ID. The error is ErrRefused if the
	// engine, or a proxy in front of it, refuses the call.
	Image(ctx context.Context, id string) (publish.Baked, error)
}

// Networks are what an engine tells of its networks.
type Networks struct {
	Kinds   map[string]NetworkKind // by ID and by name: podman's containers know only the name
	Subnets []netip.Prefix         // of those that are on the engine's machine only

	// Overlays are the IDs of a swarm's networks for tasks.
	Overlays []string
}

// A SwarmList is a list that managers of a swarm have, as in the path of its call.
type SwarmList string

const (
	Tasks    SwarmList = "tasks" // that are to run
	Services SwarmList = "services"
	Nodes    SwarmList = "nodes"
)

// News is what an event may say of a swarm.
type News int

const (
	NoNews   News = iota
	TaskNews      // of a task
	AnyNews       // of services or nodes too
)

// A NetworkKind says who can use the addresses on a network.
type NetworkKind int

const (
	Open     NetworkKind = iota // everyone whom the host lets through
	Internal                    // only containers on the network
	Ingress                     // only Swarm's routing mesh
	Routed                      // as Open, but its gateway is a router elsewhere (macvlan, ipvlan, overlay)
)

// A Stream is an open stream of events. Whoever opened it closes it.
type Stream interface {
	Next() (Event, error) // waits for an event; an error ends the stream
	Close()
}

// An Event says that a container may have changed.
type Event struct {
	Type, Action string // "container" and "start", for example
	Container    string // ID; empty if the event is not about a container
	Swarm        News
}

// Actions are the actions of events that may change what is published.
var Actions = []string{
	"create", "start", "die", "pause", "unpause", "rename", "destroy", "connect", "disconnect",
	"health_status",  // followed by a colon and the health, but not in podman's
	"died", "remove", // podman's die, which it calls die only when it sends it, and its destroy
	"update", // of a swarm's service or node; these are created and removed too
}

// isWanted reports whether an event was asked for. A proxy may leave the filter
// out, and each health check sends three events that change nothing.
func (e Event) isWanted() bool {
	action, _, _ := strings.Cut(e.Action, ":")
	return e.Container != "" && (e.Type == "container" || e.Type == "network") && slices.Contains(Actions, action)
}

var (
	ErrGone    = errors.New("no such container")
	ErrRefused = errors.New("the engine refuses the call")
)

// A Container is what Inspect returns. Its networks are not marked as internal,
// and those of Swarm's routing mesh are there: only Engine.Networks tells which ones are.
type Container struct {
	*publish.Container
	NetworkIDs  map[string]string // by the name of the network
	Bindings    []publish.Binding // the ports that it publishes
	Restarts    bool              // a restart policy starts it again when it ends by itself
	Fingerprint Fingerprint
}

// Starting is the state of a task that runs, but whose health check has not
// succeeded yet.
const Starting = "starting"

// A Fingerprint is a hash of everything that both a list and Inspect tell of a
// container and that may change while the container exists. So a list shows
// which containers must be inspected again. 12 bytes of SHA-256 are enough.
type Fingerprint [12]byte

// NewFingerprint returns the fingerprint of a container. Networks are sorted by
// name; ports may be in any order, and twice.
func NewFingerprint(
	name, state string, sick bool, networks []publish.Endpoint, ports []publish.PublishedPort,
) Fingerprint {
	h := sha256.New()
	fmt.Fprintf(h, "%s %s %t", name, state, sick)
	for _, e := range networks {
		fmt.Fprintf(h, " %s %v", e.Name, e.Addrs)
	}
	fmt.Fprint(h, publish.SortPorts(ports))
	return Fingerprint(h.Sum(nil)[:len(Fingerprint{})])
}

// A Sink takes what the engine says. It must not call the Watcher back, except
// for the function that it is given.
type Sink interface {
	// Put publishes the service of a container, or, if s is nil, notes that
	// the container exists but publishes nothing.
	Put(id string, s *publish.Service)

	// Forget withdraws the service of a container that does not exist any more.
	Forget(id string)

	// Endpoints returns the addresses that were last put for a container.
	Endpoints(id string) []publish.Endpoint

	// SetEngine notes that the engine was found or lost.
	SetEngine(engine.Status)

	// Listed notes that all containers of an engine's first list were put.
	// IsGone reports whether an ID belongs to a container of this engine that
	// does not exist any more.
	Listed(engine string, isGone func(id string) bool)
}
