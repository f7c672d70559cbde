package swarm

import (
	"encoding/json"
	"net/netip"
	"strconv"
	"strings"

	"github.com/rayje/dnsdock/internal/publish"
)

// A Heard task is one that engines tell each other of: where it is on a network, by
// its name and that of its service.
type Heard struct {
	Name     string
	Service  string
	Endpoint publish.Endpoint
}

// ID returns the ID of the task, and "" if the name holds none.
func (h *Heard) ID() string { return h.Name[strings.LastIndexByte(h.Name, '.')+1:] }

// ReadGossip reads what an engine hears of an overlay network: the reply of GET
// /networks/{id}?verbose=true, Docker API 1.28 to 1.51. Containers that are of no
// service are left out.
func ReadGossip(d *json.Decoder) (list []Heard, err error) {
	var j struct {
		Name     string
		Internal bool
		IPAM     struct{ Config []struct{ Subnet string } }
		Services map[string]struct {
			Tasks []struct{ Name, EndpointIP string }
		}
	}
	if err := d.Decode(&j); err != nil {
		return nil, err
	}
	subnet := ""
	if len(j.IPAM.Config) > 0 {
		subnet = j.IPAM.Config[0].Subnet
	}
	for _, name := range publish.SortedKeys(j.Services) {
		for _, t := range j.Services[name].Tasks {
			n := publish.Network{Name: j.Name, Internal: j.Internal, Routed: true}
			a := addrIn(t.EndpointIP, subnet, &n)
			if name == "" || !a.IsValid() || !strings.HasPrefix(t.Name, name+".") {
				continue
			}
			h := Heard{Name: t.Name, Service: name}
			h.Endpoint = publish.Endpoint{Network: n, Addrs: []netip.Addr{a}}
			list = append(list, h)
		}
	}
	return list, nil
}

// ContainerOf returns a task that engines tell each other of as a container. List has
// it on each of its networks. Stacks are those that are known, whose names services begin with.
func ContainerOf(list []Heard, stacks map[string]bool) *publish.Container {
	h := list[0]
	c := &publish.Container{ID: h.ID(), Name: h.Name, State: stateRunning}
	c.Task = &publish.Task{ID: h.ID(), Service: h.Service}
	for i, r := range h.Service {
		if r == '_' && stacks[h.Service[:i]] {
			c.Task.Stack = h.Service[:i]
		}
	}
	text, _, _ := strings.Cut(strings.TrimPrefix(h.Name, h.Service+"."), ".")
	if slot, err := strconv.ParseInt(text, 10, 32); err == nil && slot > 0 { // else it is the ID of a node
		c.Task.Slot = int(slot)
	}
	for _, h := range list {
		c.Networks = append(c.Networks, h.Endpoint)
	}
	return c
}
