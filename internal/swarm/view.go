package swarm

import (
	"hash/maphash"
	"iter"
	"maps"
	"slices"

	"github.com/rayje/dnsdock/internal/publish"
)

const (
	maxTasks = 20000 // of a swarm, and of its services
	maxNodes = 2000
)

// A View is what the managers of a swarm say: three lists, which need not be of
// one moment. What is answered of it has keys: a task its ID, all else the ID of
// its service, as publish has it. It is not safe for use by several goroutines, but
// for Reading.Add, which may run beside all but a Reading.End.
type View struct {
	tasks    list[Task]
	services list[Service]
	nodes    list[Node]
	specs    map[uint64]*spec // by the hash of their text; used by a reading of tasks only
	seed     maphash.Seed
}

// NewView returns a view of nothing.
func NewView() *View { return &View{specs: make(map[uint64]*spec), seed: maphash.MakeSeed()} }

// Tasks begins a list of tasks.
func (v *View) Tasks() *Reading {
	return begin(&v.tasks, v.seed, maxTasks, v.readTask, func(ids []string) []string {
		keys := ids
		used := make(map[*spec]bool)
		for _, i := range v.tasks.items {
			if i.value != nil {
				used[i.value.spec] = true
			}
		}
		maps.DeleteFunc(v.specs, func(_ uint64, s *spec) bool { return !used[s] })
		for id, s := range v.services.items {
			if s.value != nil && s.value.wantsVIP() {
				keys = append(keys, publish.VIPPrefix+id)
			}
		}
		return keys
	})
}

// Services begins a list of services.
func (v *View) Services() *Reading {
	return begin(&v.services, v.seed, maxTasks, readService, func(ids []string) (keys []string) {
		isChanged := setOf(ids)
		for _, id := range ids {
			keys = append(keys, publish.VIPPrefix+id)
		}
		return slices.AppendSeq(keys, v.tasksThat(func(t *Task) bool { return isChanged[t.ServiceID] }))
	})
}

// Nodes begins a list of nodes.
func (v *View) Nodes() *Reading {
	return begin(&v.nodes, v.seed, maxNodes, readNode, func(ids []string) (keys []string) {
		for _, id := range ids {
			keys = append(keys, publish.NodePrefix+id)
		}
		for id := range v.nodes.items { // whether one is answered depends on the others
			keys = append(keys, publish.NodePrefix+id)
		}
		isChanged := setOf(ids)
		return slices.AppendSeq(keys, v.tasksThat(func(t *Task) bool { return isChanged[t.NodeID] }))
	})
}

func setOf(ids []string) map[string]bool {
	set := make(map[string]bool, len(ids))
	for _, id := range ids {
		set[id] = true
	}
	return set
}

// tasksThat iterates over the IDs of those tasks that are wanted.
func (v *View) tasksThat(isWanted func(*Task) bool) iter.Seq[string] {
	return func(yield func(string) bool) {
		for id, i := range v.tasks.items {
			if i.value != nil && isWanted(i.value) && !yield(id) {
				return
			}
		}
	}
}

// Keys iterates over the keys of all that may be answered.
func (v *View) Keys() iter.Seq[string] {
	return func(yield func(string) bool) {
		for id := range v.tasks.items {
			if !yield(id) {
				return
			}
		}
		for id := range v.services.items {
			if !yield(publish.VIPPrefix + id) {
				return
			}
		}
		for id := range v.nodes.items {
			if !yield(publish.NodePrefix + id) {
				return
			}
		}
	}
}

// IsIncomplete reports whether a task is of a service or on a node that is unknown.
func (v *View) IsIncomplete(needsNodes bool) bool {
	isAlone := func(t *Task) bool {
		return v.services.get(t.ServiceID) == nil || needsNodes && t.NodeID != "" && v.nodes.get(t.NodeID) == nil
	}
	for range v.tasksThat(isAlone) {
		return true
	}
	return false
}

// Counts returns how many services, tasks and nodes there are.
func (v *View) Counts() (services, tasks, nodes int) {
	for range v.tasksThat(func(*Task) bool { return true }) {
		tasks++
	}
	return len(v.services.items), tasks, len(v.nodes.items)
}

// IsJob reports whether a service ends by itself, and has no names in the swarm.
func (v *View) IsJob(service string) bool {
	s := v.services.get(service)
	return s != nil && s.IsJob
}

// Has reports whether a task is to run.
func (v *View) Has(task string) bool { return v.tasks.get(task) != nil }

// ServiceKey returns the key of what is answered of a service beside its tasks.
func ServiceKey(id string) string { return publish.VIPPrefix + id }

// Of returns what the managers say of a task; nil if it is not to run, or its
// service is unknown.
func (v *View) Of(task string) *Member {
	t := v.tasks.get(task)
	if t == nil {
		return nil
	}
	s := v.services.get(t.ServiceID)
	if s == nil {
		return nil
	}
	return &Member{t, s, v.nodes.get(t.NodeID)}
}

// node returns a node that is answered under its name; nil if there is none: those
// that are up, or all if none is.
func (v *View) node(id string) *Node {
	n := v.nodes.get(id)
	if n == nil || !n.Addr.IsValid() {
		return nil
	}
	for _, i := range v.nodes.items {
		if i.value.IsUp && !n.IsUp {
			return nil
		}
	}
	return n
}
