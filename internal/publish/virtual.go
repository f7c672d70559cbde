package publish

import (
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/rayje/dnsdock/internal/dnsname"
)

// The IDs of what is no container.
const (
	VIPPrefix  = "vip:"  // and the ID of a swarm's service
	NodePrefix = "node:" // and the ID of a machine
)

const (
	nodesLabel = "nodes" // in front of the domain: the machines of a swarm
	ownLabel   = "dnsdock"
)

// ErrNotOurs says that the API can't change a service, but withdraw it.
var ErrNotOurs = errors.New("it is no container: its names and addresses are the swarm's")

// isVirtual reports whether s is of no container, and has second names only.
func (s *Service) isVirtual() bool { return s.VIP != "" || s.IsNode }

// VIPOf returns what a swarm's service is answered with in place of its tasks to clients on
// its networks: its virtual addresses. Of t only the service counts. It returns nil if
// there is no name or no address.
func (n NameRules) VIPOf(t Task, addrs []Endpoint, engine string) (*Service, []Problem) {
	s := newVirtual(VIPPrefix+t.ServiceID, t.Service, engine)
	s.Origin.Task = &Task{ServiceID: t.ServiceID, Service: t.Service, Stack: t.Stack}
	s.VIP = t.ServiceID
	m := new(virtualNames)
	if t.hasStackWithDot() {
		m.problem(swarmStack, t.Stack, errStackWithDot)
	} else {
		for _, parts := range t.serviceNames() {
			m.add(n, swarmService, t.Service, parts...)
		}
	}
	isNowhere := func(e Endpoint) bool { return e.Network == Network{} }
	s.setAddrs(chosen(slices.DeleteFunc(slices.Clone(addrs), isNowhere), n.Networks))
	return m.finish(n, s), m.problems
}

// NodeOf returns a machine of a swarm, by its ID and host name. It returns nil if it has no name or no address.
func (n NameRules) NodeOf(id, hostname string, addr netip.Addr, engine string) (*Service, []Problem) {
	s := newVirtual(NodePrefix+id, hostname, engine)
	s.Origin.Task = &Task{Node: hostname}
	s.IsNode = true
	m := new(virtualNames)
	if hostname != "" {
		m.add(n, "hostname", hostname, hostname, nodesLabel)
	}
	m.add(n, "hostname", hostname, nodesLabel)
	if addr.IsValid() {
		s.Addrs = []netip.Addr{addr.Unmap()}
	}
	return m.finish(n, s), m.problems
}

func newVirtual(id, name, engine string) *Service {
	return &Service{
		ID: id, TTL: DefaultTTL, Extras: new(Extras), Origin: Origin{Engine: engine, Container: name},
	}
}

// virtualNames collects the names of a service that is of no container.
type virtualNames struct {
	names    []dnsname.Name
	problems []Problem
}

func (m *virtualNames) problem(source, value string, err error) {
	m.problems = append(m.problems, Problem{source, shortened(value), err})
}

// add adds the name of parts.
func (m *virtualNames) add(n NameRules, source, value string, parts ...string) {
	switch name, err := n.join(parts...); {
	case err != nil:
		m.problem(source, value, err)
	case name != n.ownName():
		m.names = append(m.names, name)
	}
}

// finish gives s the names. It returns nil if there is none, or no address.
func (m *virtualNames) finish(n NameRules, s *Service) *Service {
	if n.Second.Hyphen {
		m.names = append(m.names, n.hyphenated(m.names)...)
	}
	s.SecondNames = Dedup(m.names)
	if !n.Second.Compose || len(s.SecondNames) == 0 || len(s.Addrs) == 0 {
		return nil
	}
	return s
}

// ownName returns the name of dnsdock, which no service of a swarm takes.
func (n NameRules) ownName() dnsname.Name {
	name, _ := n.join(ownLabel) // else the domain leaves no room for it
	return name
}

// serviceNames returns the parts of each name that a service has in its swarm.
func (t *Task) serviceNames() [][]string {
	list := [][]string{{t.Service}}
	if short, ok := strings.CutPrefix(t.Service, t.Stack+"_"); ok && t.Stack != "" {
		list = append(list, []string{short, t.Stack})
	}
	return list
}

func (t *Task) hasStackWithDot() bool { return strings.Contains(t.Stack, ".") }

// MainNames returns the owner names, or the second names of what has no others.
func (s *Service) MainNames() []dnsname.Name {
	if len(s.OwnerNames) > 0 {
		return s.OwnerNames
	}
	return s.SecondNames
}

// FullName returns the first of the owner names, and "" if there is none.
func (s *Service) FullName() dnsname.Name {
	if len(s.OwnerNames) > 0 {
		return s.OwnerNames[0]
	}
	return ""
}

// ClosedNames returns those second names that answer for no name below them: where s has names directly below itself,
// as a service of a swarm has those of its slots, and all of virtual addresses.
func (s *Service) ClosedNames() map[dnsname.Name]bool {
	closed := make(map[dnsname.Name]bool)
	if len(s.SecondNames) < 2 && s.VIP == "" {
		return closed
	}
	own := make(map[dnsname.Name]bool, len(s.SecondNames))
	for _, n := range s.SecondNames {
		own[n] = true
		if s.VIP != "" {
			closed[n] = true
		}
	}
	for n := range own {
		for a := n.Parent(); a != dnsname.Root; a = a.Parent() {
			if own[a] {
				closed[a] = true
			}
			if !s.IsNode { // whose host name may have several labels
				break
			}
		}
	}
	return closed
}
