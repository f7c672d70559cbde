package publish

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/rayje/dnsdock/internal/dnsname"
)

// A Task is what a swarm says of one of its containers. It is never written again.
type Task struct {
	ID        string
	ServiceID string
	Service   string // as docker service ls shows it
	Stack     string // empty: the service is not of a stack
	Slot      int    // 0: the service is global, or the slot is unknown
	Node      string // host name of the node; empty: unknown
}

// Labels that Swarm sets:
// https://github.com/moby/moby/blob/master/daemon/cluster/executor/container/container.go
const (
	swarmTaskID    = "com.docker.swarm.task.id"
	swarmTaskName  = "com.docker.swarm.task.name"
	swarmServiceID = "com.docker.swarm.service.id"
	swarmService   = "com.docker.swarm.service.name"
	swarmStack     = "com.docker.stack.namespace"
)

// IsTask reports whether labels are those of a task's container.
func IsTask(labels map[string]string) bool { return TaskID(labels) != "" }

// TaskID returns the ID of the task that labels are of, and "" if there is none.
func TaskID(labels map[string]string) string { return labels[swarmTaskID] }

// ServiceID returns the ID of that task's service.
func ServiceID(labels map[string]string) string { return labels[swarmServiceID] }

// TaskOf returns the task of a container on the node with that host name, by the labels that
// its engine sets. It is nil for a container that is no task.
func TaskOf(labels map[string]string, node string) *Task {
	t := &Task{
		ID: labels[swarmTaskID], ServiceID: labels[swarmServiceID], Service: labels[swarmService],
		Stack: labels[swarmStack], Node: node,
	}
	if t.ID == "" || t.Service == "" {
		return nil
	}
	t.Slot = slotIn(labels[swarmTaskName], t.Service)
	return t
}

// slotIn returns the slot in the name of a task, as in web.1.x7kq; 0 if the
// service is global, whose tasks have the ID of the node in its place.
func slotIn(name, service string) int {
	text, _ := strings.CutPrefix(name, service+".")
	text, _, _ = strings.Cut(text, ".")
	n, err := strconv.ParseInt(text, 10, 32) // the ID of a node has 25 characters
	if err != nil || n < 0 {
		return 0
	}
	return int(n)
}

var errStackWithDot = errors.New("write a stack's name without a dot: with one, it has no names of the swarm")

func (t *Task) equal(u *Task) bool { return t == u || t != nil && u != nil && *t == *u }

// names returns the parts of each name that the task has in its swarm, with
// the slot in front and without.
func (t *Task) names() (list [][]string) {
	slot := strings.ToLower(t.Node)
	if t.Slot > 0 {
		slot = strconv.Itoa(t.Slot)
	}
	fronts := []string{cmp.Or(slot, "tasks"), "tasks"}
	list = [][]string{{t.Service}}
	for _, front := range fronts {
		for _, parts := range t.serviceNames() {
			list = append(list, append([]string{front}, parts...))
		}
	}
	return list
}

// swarmNames passes the parts of the names that the container has as a task to add.
func (m *labelReader) swarmNames(add func(source, value string, parts ...string)) {
	t := m.Task
	switch {
	case t == nil:
	case t.hasStackWithDot():
		m.problem(swarmStack, t.Stack, errStackWithDot)
	default:
		for _, parts := range t.names() {
			add(swarmTaskName, strings.Join(parts, "."), parts...)
		}
	}
}

// HasOfSwarm reports whether name, which is a second name of s under an apex, is one that its swarm gives.
func (s *Service) HasOfSwarm(name, apex dnsname.Name) bool {
	t := s.Origin.Task
	if t == nil || s.isVirtual() {
		return t != nil
	}
	text := strings.ReplaceAll(dnsname.Text(name), "_", "-") // as -names=hyphen has it
	return slices.ContainsFunc(t.names(), func(parts []string) bool {
		of := strings.ToLower(strings.Join(parts, ".")) + "." + dnsname.Text(apex)
		return text == strings.ReplaceAll(of, "_", "-")
	})
}
