package swarm

import (
	"errors"
	"net/netip"
	"strings"

	"github.com/rayje/dnsdock/internal/publish"
)

// Extra returns what else than a task is answered under a key: a machine, or the
// virtual addresses of a service. It is nil if that is none. A value that can't be used is a problem.
func (v *View) Extra(key string, names publish.NameRules, engine string) (*publish.Service, []publish.Problem) {
	if id, ok := strings.CutPrefix(key, publish.NodePrefix); ok {
		if n := v.node(id); n != nil {
			return names.NodeOf(n.ID, n.Hostname, n.Addr, engine)
		}
	}
	if id, ok := strings.CutPrefix(key, publish.VIPPrefix); ok {
		return v.vip(id, names, engine)
	}
	return nil, nil
}

// vip returns the virtual addresses of a service, on the networks that a task of it runs on, if its label
// asks for them.
func (v *View) vip(id string, names publish.NameRules, engine string) (*publish.Service, []publish.Problem) {
	s := v.services.get(id)
	if s == nil || !s.wantsVIP() || s.IsJob {
		return nil, nil
	}
	problem := func(text string) []publish.Problem {
		return []publish.Problem{{Source: vipLabel, Value: s.Labels[vipLabel], Err: errors.New(text)}}
	}
	if s.Labels[vipLabel] != "vip" {
		return nil, problem("write vip, or leave it out")
	}
	var endpoints []publish.Endpoint
	seen := make(map[string]bool)
	var stack string
	runs := false
	for _, i := range v.tasks.items {
		t := i.value
		if t == nil || t.ServiceID != id || t.State != stateRunning {
			continue
		}
		runs = true
		m := Member{t, s, nil}
		stack = m.labels(t.spec.labels)[stackLabel]
		for _, a := range t.Networks {
			if p, ok := s.VIPs[a.id]; ok && !seen[a.id] && !a.isIngress && !a.isHost {
				seen[a.id] = true
				e := a.Endpoint
				e.Addrs, e.Aliases = []netip.Addr{p.Addr()}, nil
				endpoints = append(endpoints, e)
			}
		}
	}
	switch {
	case !runs:
		return nil, nil
	case len(endpoints) == 0:
		return nil, problem("the service has no virtual address on a network of its tasks, which are answered: " +
			"create it with --endpoint-mode=vip, or leave the label out")
	}
	t := publish.Task{ServiceID: s.ID, Service: s.Name, Stack: stack}
	return names.VIPOf(t, endpoints, engine)
}
