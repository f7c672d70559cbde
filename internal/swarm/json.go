package swarm

import (
	"encoding/json"
	"hash/maphash"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/rayje/dnsdock/internal/publish"
)

// A Task is what managers say of a task that is to run.
type Task struct {
	ID, ServiceID string
	NodeID        string // empty: it waits for a node
	Slot          int    // 0: of a global service
	Container     string // ID of its container; empty before it has one
	State         string // "running", or a state before or after that
	Since         time.Time
	Networks      []attachment
	Ports         []publish.PublishedPort // in host mode, at its node
	spec          *spec
}

// An attachment connects a task to a network of its swarm.
type attachment struct {
	id string // of the network
	publish.Endpoint
	isIngress, isHost bool
}

// A spec is what its service makes all tasks of a version alike by.
type spec struct {
	image, hostname string
	env, labels     map[string]string
	aliases         map[string][]string // by ID of the network
}

// A Service is what managers say of a service.
type Service struct {
	ID, Name string
	Labels   map[string]string
	IsJob    bool                    // its tasks end by themselves
	Ports    []publish.PublishedPort // in ingress mode, at each node
	VIPs     map[string]netip.Prefix // by ID of the network
}

// A Node is what managers say of a machine.
type Node struct {
	ID, Hostname string
	Addr         netip.Addr // not valid: unknown
	IsUp         bool       // it is ready, or not known to be away
	IsLost       bool       // it is a manager that nobody reaches
}

// stateRunning is the state in which tasks are, and that they are to be in.
const stateRunning = "running"

// taskJSON is an element of GET /tasks, Docker API 1.24 to 1.51.
type taskJSON struct {
	ID, ServiceID, NodeID string
	Slot                  int
	DesiredState          string
	Spec                  json.RawMessage
	Status                struct {
		State           string
		Timestamp       time.Time
		ContainerStatus *struct{ ContainerID string }
		PortStatus      struct{ Ports []portJSON }
	}
	NetworksAttachments []struct {
		Network struct {
			ID   string
			Spec struct {
				Name              string
				Internal, Ingress bool
			}
			DriverState struct{ Name string }
			IPAMOptions struct{ Configs []struct{ Subnet string } }
		}
		Addresses []string
	}
}

type portJSON struct {
	Protocol                  string
	TargetPort, PublishedPort uint16
	PublishMode               string
}

// specJSON is what is read of a task's Spec.
type specJSON struct {
	ContainerSpec *struct {
		Image, Hostname string
		Env             []string
		Labels          map[string]string
	}
	Networks []struct {
		Target  string
		Aliases []string
	}
}

// published returns ports in a mode, "host" or "ingress", each once: the engine lists those
// in host mode for IPv4 and for IPv6.
func published(list []portJSON, mode string) (ports []publish.PublishedPort) {
	for _, p := range list {
		isMode := p.PublishMode == mode || p.PublishMode == "" && mode == "ingress"
		if isMode && p.PublishedPort != 0 && publish.IsProto(p.Protocol) {
			ports = append(ports, publish.PublishedPort{
				Number: p.TargetPort, Proto: p.Protocol, Published: p.PublishedPort,
			})
		}
	}
	return publish.SortPorts(ports)
}

// readTask reads a task. It is nil if the task is not to run, or has no container.
func (v *View) readTask(raw []byte) (id string, t *Task, err error) {
	var j taskJSON
	if err := json.Unmarshal(raw, &j); err != nil {
		return "", nil, err
	}
	s, err := v.specOf(j.Spec)
	if err != nil || s == nil || j.DesiredState != stateRunning {
		return j.ID, nil, err
	}
	t = &Task{
		ID: j.ID, ServiceID: j.ServiceID, NodeID: j.NodeID, Slot: j.Slot, spec: s,
		State: j.Status.State, Since: j.Status.Timestamp.UTC().Truncate(time.Second),
		Ports: published(j.Status.PortStatus.Ports, "host"),
	}
	if c := j.Status.ContainerStatus; c != nil {
		t.Container = c.ContainerID
	}
	for _, a := range j.NetworksAttachments {
		n := &a.Network
		e := publish.Endpoint{Network: publish.Network{Name: n.Spec.Name, Internal: n.Spec.Internal, Routed: true}}
		e.Aliases = s.aliases[n.ID]
		subnet := ""
		if len(n.IPAMOptions.Configs) > 0 {
			subnet = n.IPAMOptions.Configs[0].Subnet
		}
		for _, text := range a.Addresses {
			if a := addrIn(text, subnet, &e.Network); a.IsValid() {
				e.Addrs = append(e.Addrs, a)
			}
		}
		t.Networks = append(t.Networks, attachment{
			id: n.ID, Endpoint: e, isIngress: n.Spec.Ingress, isHost: n.DriverState.Name == "host",
		})
	}
	return j.ID, t, nil
}

// addrIn reads an address with the length of its prefix, or without it, and
// notes it at the network. It is not valid if the text is none.
func addrIn(text, subnet string, n *publish.Network) netip.Addr {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		a, _ := publish.ParseAddr(text)
		s, err := netip.ParsePrefix(subnet)
		if err != nil || !s.Contains(a) {
			return a
		}
		p = netip.PrefixFrom(a, s.Bits())
	}
	if p.Addr().Is4() {
		n.V4.Prefix = p.Masked()
	} else {
		n.V6.Prefix = p.Masked()
	}
	return p.Addr()
}

// specOf reads a task's Spec, which all tasks of one text share. It is nil for
// what runs no container.
func (v *View) specOf(raw []byte) (*spec, error) {
	sum := maphash.Bytes(v.seed, raw)
	if s, ok := v.specs[sum]; ok || len(raw) == 0 {
		return s, nil
	}
	var j specJSON
	if err := json.Unmarshal(raw, &j); err != nil {
		return nil, err
	}
	var s *spec
	if c := j.ContainerSpec; c != nil {
		s = &spec{image: c.Image, hostname: c.Hostname, labels: c.Labels, aliases: make(map[string][]string)}
		s.env = publish.Variables(c.Env)
		maps.DeleteFunc(s.env, func(name, _ string) bool { return !isOurs(name) })
		for _, n := range j.Networks {
			s.aliases[n.Target] = n.Aliases
		}
	}
	v.specs[sum] = s
	return s, nil
}

// isOurs reports whether dnsdock reads a variable.
func isOurs(name string) bool {
	return strings.HasPrefix(name, "DNSDOCK_") || strings.HasPrefix(name, "SERVICE_")
}

// readService reads an element of GET /services, Docker API 1.24 to 1.51.
func readService(raw []byte) (id string, s *Service, err error) {
	var j struct {
		ID   string
		Spec struct {
			Name   string
			Labels map[string]string
			Mode   struct{ ReplicatedJob, GlobalJob *struct{} }
		}
		Endpoint struct {
			Ports      []portJSON
			VirtualIPs []struct{ NetworkID, Addr string }
		}
	}
	if err := json.Unmarshal(raw, &j); err != nil {
		return "", nil, err
	}
	s = &Service{ID: j.ID, Name: j.Spec.Name, Labels: j.Spec.Labels, Ports: published(j.Endpoint.Ports, "ingress")}
	s.IsJob = j.Spec.Mode.ReplicatedJob != nil || j.Spec.Mode.GlobalJob != nil
	for _, vip := range j.Endpoint.VirtualIPs {
		if p, err := netip.ParsePrefix(vip.Addr); err == nil {
			if s.VIPs == nil {
				s.VIPs = make(map[string]netip.Prefix)
			}
			s.VIPs[vip.NetworkID] = p
		}
	}
	return j.ID, s, nil
}

// readNode reads an element of GET /nodes, Docker API 1.24 to 1.51.
func readNode(raw []byte) (id string, n *Node, err error) {
	var j struct {
		ID            string
		Description   struct{ Hostname string }
		Status        struct{ State, Addr string }
		ManagerStatus *struct{ Reachability, Addr string }
	}
	if err := json.Unmarshal(raw, &j); err != nil {
		return "", nil, err
	}
	isUnknown := j.Status.State == "unknown"
	n = &Node{ID: j.ID, Hostname: j.Description.Hostname, IsUp: isUnknown || j.Status.State == "ready"}
	addrs := []string{j.Status.Addr}
	if m := j.ManagerStatus; m != nil {
		n.IsLost = isUnknown && m.Reachability == "unreachable"
		if a, err := netip.ParseAddrPort(m.Addr); err == nil {
			addrs = slices.Insert(addrs, 0, a.Addr().String())
		}
	}
	for _, text := range addrs {
		if a := reachable(text); a.IsValid() {
			n.Addr = a
			break
		}
	}
	return j.ID, n, nil
}
