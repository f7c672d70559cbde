package swarm

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	"github.com/rayje/dnsdock/internal/publish"
)

// An Info is what an engine says of its part in a swarm.
type Info struct {
	Role     Role
	Cluster  string     // ID of the swarm; workers are not told
	NodeID   string     // of the engine's machine
	Hostname string     // of that machine
	Addr     netip.Addr // of that machine; not valid: unknown
	Managers []string   // IDs of the managers' machines
}

// A Role is what an engine is in a swarm.
type Role int

const (
	NoRole  Role = iota // it is in none
	Worker              // it runs tasks
	Manager             // it knows all tasks, and may run some
)

func (r Role) String() string { return [...]string{"none", "worker", "manager"}[r] }

// ReadInfo reads the reply of GET /info, Docker API 1.24 to 1.51. It returns an error
// while an engine that starts does not know yet what it is.
func ReadInfo(d *json.Decoder) (Info, error) {
	var j struct {
		Name  string
		Swarm struct {
			NodeID, NodeAddr, LocalNodeState string
			ControlAvailable                 bool
			RemoteManagers                   []struct{ NodeID string }
			Cluster                          *struct{ ID string }
		}
	}
	if err := d.Decode(&j); err != nil {
		return Info{}, err
	}
	s := &j.Swarm
	switch s.LocalNodeState {
	case "active":
	case "", "inactive":
		return Info{}, nil
	default: // "pending", "locked" or "error"
		return Info{}, fmt.Errorf("the engine's node is %s in its swarm", s.LocalNodeState)
	}
	i := Info{Role: Worker, NodeID: s.NodeID, Hostname: j.Name, Addr: reachable(s.NodeAddr)}
	if s.ControlAvailable {
		i.Role = Manager
	}
	if s.Cluster != nil {
		i.Cluster = s.Cluster.ID
	}
	for _, m := range s.RemoteManagers {
		i.Managers = append(i.Managers, m.NodeID)
	}
	return i, nil
}

// reachable reads an address that others reach a machine by. It is not valid if the
// text is none: a leader says 0.0.0.0 of itself (https://github.com/moby/moby/issues/35437).
func reachable(text string) netip.Addr {
	a, err := publish.ParseAddr(text)
	if err != nil || a.IsUnspecified() || a.IsLoopback() {
		return netip.Addr{}
	}
	return a
}

// IsSame reports whether i and k are of one swarm: of one ID, or, where a worker
// is not told it, of one node, or with a manager in common.
func (i Info) IsSame(k Info) bool {
	if i.Cluster != "" && k.Cluster != "" {
		return i.Cluster == k.Cluster
	}
	if i.NodeID == k.NodeID && i.NodeID != "" {
		return true
	}
	isOfBoth := func(manager string) bool { return slices.Contains(k.Managers, manager) }
	return slices.ContainsFunc(i.Managers, isOfBoth)
}
