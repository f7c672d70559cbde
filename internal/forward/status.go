package forward

import (
	"github.com/rayje/dnsdock/internal/dnscache"
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
