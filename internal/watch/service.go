package watch

import (
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/rayje/dnsdock/internal/publish"
)

// service returns what a container publishes, nil for nothing, and the values
// of it that can't be used.
// The host is at the machine, if that is valid.
func (w *Watcher) service(c *publish.Container, machine netip.Addr) (*publish.Service, []publish.Problem) {
	if c.State == Starting && !(w.Swarms != nil && w.Naming.Health) {
		c.State = "running" // for all containers but tasks, it is
	}
	hasAddrs := func(e publish.Endpoint) bool { return len(e.Addrs) > 0 }
	switch {
	case c.State == "running":
	case !w.Naming.All:
		return nil, nil
	case !slices.ContainsFunc(c.Networks, hasAddrs):
		// The engine takes the addresses of a container that stopped: keep the last ones.
		c.Networks = w.sink.Endpoints(c.ID + w.Suffix)
	}
	s, problems := w.Naming.ServiceOf(c, w.URL)
	if s != nil {
		s.ID += w.Suffix
		s.Addrs = w.replaceHost(s.Addrs, machine)
	}
	return s, problems
}

// machine returns the address of the engine's machine if that is another one than
// this; else it is not valid. A proxy in a container, or the host as its
// containers see it, is no other machine.
func (w *Watcher) machine() netip.Addr {
	a := w.engine.Machine()
	if known, has := w.networks.has(a); has || !known && w.Self != "" {
		return netip.Addr{}
	}
	return a
}

// replaceHost returns addrs with the address of a machine, if that is valid, in place
// of the host's: the address at which a client asked belongs to this machine.
func (w *Watcher) replaceHost(addrs []netip.Addr, machine netip.Addr) []netip.Addr {
	if !machine.IsValid() || w.Naming.Host != nil {
		return addrs
	}
	addrs = slices.Clone(addrs)
	for i, a := range addrs {
		if !a.IsValid() {
			addrs[i] = machine
		}
	}
	return addrs
}

// outside returns what clients on no network of c get, if it publishes ports: the
// engine's machine, if that is another one than this or such clients can't reach
// c. Else it is nil.
func (w *Watcher) outside(c *Container) *publish.Outside {
	machine := w.machine()
	switch {
	case machine.IsValid():
		return publish.NewOutside([]netip.Addr{machine}, c.Bindings)
	case w.Published && w.Naming.Host != nil:
		return publish.NewOutside(w.Naming.Host, c.Bindings)
	case w.Published:
		return publish.NewOutside([]netip.Addr{{}}, c.Bindings)
	}
	return nil
}

// problems remembers which problems of a container were logged, by its ID.
type problems struct {
	mu     sync.Mutex // guards logged
	logged map[string][]string
}

// add returns those of list that were not logged before, and notes that they
// are.
func (p *problems) add(id string, list []publish.Problem) (unlogged []publish.Problem) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, problem := range list {
		text := problem.Source + "=" + problem.Value
		if slices.Contains(p.logged[id], text) {
			continue
		}
		if p.logged == nil {
			p.logged = make(map[string][]string)
		}
		p.logged[id] = append(p.logged[id], text)
		unlogged = append(unlogged, problem)
	}
	return unlogged
}

func (p *problems) forget(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.logged, id)
}

// logProblems logs problems of a container.
func (w *Watcher) logProblems(container string, list []publish.Problem) {
	for _, p := range list {
		w.log.Warn("value can't be used, the rest of the container is published",
			"container", container, "source", p.Source, "value", p.Value, "err", p.Err)
	}
}

// hasLabels reports whether a container with labels has all of wanted, each KEY
// or KEY=VALUE.
func hasLabels(labels map[string]string, wanted []string) bool {
	return !slices.ContainsFunc(wanted, func(label string) bool {
		key, value, hasValue := strings.Cut(label, "=")
		got, ok := labels[key]
		return !ok || hasValue && got != value
	})
}
