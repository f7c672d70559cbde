package swarm

import (
	"cmp"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/rayje/dnsdock/internal/publish"
)

// A Member is a task with what it belongs to.
type Member struct {
	Task    *Task
	Service *Service
	Node    *Node // nil: unknown
}

// stackLabel is on each service of a stack, and on its containers.
const stackLabel = "com.docker.stack.namespace"

// Addr returns the address of the node; not valid if it is unknown.
func (m *Member) Addr() netip.Addr {
	if m.Node == nil {
		return netip.Addr{}
	}
	return m.Node.Addr
}

// name returns the name of the task's container.
func (m *Member) name() string {
	place := m.Task.NodeID
	if m.Task.Slot > 0 {
		place = strconv.Itoa(m.Task.Slot)
	}
	return m.Service.Name + "." + place + "." + m.Task.ID
}

// Complete adds to a container of the task's engine what only managers know: the
// labels of the service, published ports, and the node.
func (m *Member) Complete(c *publish.Container) {
	c.Labels = m.labels(c.Labels)
	for _, p := range m.published() {
		port := publish.Port{Number: p.Number, Proto: p.Proto}
		if !slices.Contains(c.Exposed, port) {
			c.Exposed = append(slices.Clip(c.Exposed), port)
		}
	}
	c.Sick = c.Sick || m.Node != nil && m.Node.IsLost
	c.Task = &publish.Task{
		ID: m.Task.ID, ServiceID: m.Service.ID, Service: m.Service.Name, Stack: c.Labels[stackLabel], Slot: m.Task.Slot,
	}
	if m.Node != nil {
		c.Task.Node = m.Node.Hostname
	}
}

// labels returns labels of a container with those of the service that it does not set itself.
func (m *Member) labels(own map[string]string) map[string]string {
	if len(m.Service.Labels) == 0 {
		return own
	}
	all := maps.Clone(m.Service.Labels)
	delete(all, vipLabel)
	maps.Copy(all, own)
	return all
}

func (m *Member) published() []publish.PublishedPort {
	return slices.Concat(m.Task.Ports, m.Service.Ports)
}

// Bindings returns the ports that nodes publish, at all their addresses.
func (m *Member) Bindings() (list []publish.Binding) {
	for _, p := range m.published() {
		list = append(list, publish.Binding{PublishedPort: p})
	}
	return list
}

// Container returns the task as a container, if it runs, as far as managers
// know it: what the image sets they do not. Variables that are templates are
// left out, and are problems.
func (m *Member) Container() (c *publish.Container, problems []publish.Problem) {
	t := m.Task
	if t.State != stateRunning {
		return nil, nil
	}
	c = &publish.Container{
		ID: cmp.Or(t.Container, t.ID), Name: m.name(), Image: t.spec.image, State: stateRunning, Since: t.Since,
		Env: t.spec.env, Labels: t.spec.labels,
	}
	if isTemplate(t.spec.hostname) {
		problems = append(problems, publish.Problem{Source: "hostname", Value: t.spec.hostname, Err: errTemplate})
	} else {
		c.Host.Name = t.spec.hostname
	}
	for _, name := range publish.SortedKeys(c.Env) {
		if v := c.Env[name]; isTemplate(v) {
			problems = append(problems, publish.Problem{Source: name, Value: v, Err: errTemplate})
		}
	}
	if slices.ContainsFunc(slices.Collect(maps.Values(c.Env)), isTemplate) {
		c.Env = maps.Clone(c.Env)
		maps.DeleteFunc(c.Env, func(_, v string) bool { return isTemplate(v) })
	}
	for _, name := range c.Reaches() {
		problems = append(problems, publish.Problem{Source: "ip_addr", Value: "container:" + name, Err: errElsewhere})
	}
	for _, a := range t.Networks {
		switch {
		case a.isIngress:
		case !a.isHost:
			c.Networks = append(c.Networks, a.Endpoint)
		case m.Addr().IsValid():
			host := publish.HostNetwork()
			host.Addrs = []netip.Addr{m.Addr()}
			c.Networks = append(c.Networks, host)
		}
	}
	slices.SortStableFunc(c.Networks, func(a, b publish.Endpoint) int { return strings.Compare(a.Name, b.Name) })
	if m.Addr().IsValid() {
		c.Outside = publish.NewOutside([]netip.Addr{m.Addr()}, m.Bindings())
	}
	m.Complete(c)
	return c, problems
}

// AtNode returns addresses of the task with its node's in place of the host's.
func (m *Member) AtNode(addrs []netip.Addr) []netip.Addr {
	if !slices.Contains(addrs, netip.Addr{}) {
		return addrs
	}
	addrs = slices.Clone(addrs)
	for i, a := range addrs {
		if !a.IsValid() {
			addrs[i] = m.Addr()
		}
	}
	return slices.DeleteFunc(addrs, func(a netip.Addr) bool { return !a.IsValid() })
}

var errElsewhere = errors.New("the task is on another engine: only the dnsdock there knows that container's addresses")

var errTemplate = errors.New("only its own engine fills in what is between {{ and }}: " +
	"write a value without, or ask the dnsdock of that node")

func isTemplate(s string) bool { return strings.Contains(s, "{{") }

// vipLabel of a service chooses its virtual addresses in place of its tasks.
const vipLabel = "com.dnsdock.swarm"

func (s *Service) wantsVIP() bool { return s.Labels[vipLabel] != "" }
