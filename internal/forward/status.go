package forward

import (
	"maps"
	"slices"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnsname"
)

// An UpstreamStatus is what users see of an upstream.
type UpstreamStatus struct {
	Addr     string   `json:"addr"`              // as -nameserver has it
	Domains  []string `json:"domains,omitempty"` // of -nameserver=DOMAIN=; none: it is for all names
	Up       bool     `json:"up"`
	Queries  uint64   `json:"queries"`
	Failures uint64   `json:"failures"`
}

// A Status is what users see of a forwarder.
type Status struct {
	Upstreams []UpstreamStatus `json:"upstreams"`
	InFlight  int              `json:"in_flight"`
	Cache     dnscache.Status  `json:"cache"`
}

// Status returns the state of f, with each upstream once, in the order of their addresses.
func (f *Forwarder) Status() Status {
	s := Status{Upstreams: []UpstreamStatus{}, Cache: f.Cache.Status()}
	all := make(map[string]*UpstreamStatus)
	for _, g := range f.all() {
		s.InFlight += g.waiting.Total()
		for _, u := range g.upstreams {
			addr := u.String()
			if all[addr] == nil {
				all[addr] = &UpstreamStatus{Addr: addr, Up: !u.health.isAway(), Queries: u.queries.Load(),
					Failures: u.failures.Load()}
			}
			if g.domain != dnsname.Root {
				all[addr].Domains = append(all[addr].Domains, dnsname.Text(g.domain))
			}
		}
	}
	for _, addr := range slices.Sorted(maps.Keys(all)) {
		s.Upstreams = append(s.Upstreams, *all[addr])
	}
	return s
}
