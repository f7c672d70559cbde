package engine

import (
	"encoding/json"
	"time"
)

// A Status is what users see of an engine.
type Status struct {
	URL     string    `json:"url"`
	Up      bool      `json:"up"`
	Since   time.Time `json:"since,omitzero"`  // when Up changed last
	API     string    `json:"api,omitempty"`   // version of the Docker Remote API that is in use
	Events  uint64    `json:"events"`          // events that were received
	Resyncs uint64    `json:"resyncs"`         // full lists of containers that were read
	Error   string    `json:"error,omitempty"` // why the engine is not up
	Lost    bool      `json:"lost,omitempty"`  // no retry will help: see ErrSocketDeleted
	Swarm   *Swarm    `json:"swarm,omitempty"` // nil: the engine is of none
}

// A Swarm is what users see of a swarm, as one of its engines knows it.
type Swarm struct {
	Role     string    `json:"role"`               // "manager" or "worker"
	Cluster  string    `json:"cluster,omitempty"`  // ID of the swarm, which workers are not told
	Node     string    `json:"node"`               // host name of the engine's machine
	Up       bool      `json:"up"`                 // the tasks of other nodes are known as they are now
	Since    time.Time `json:"since,omitzero"`     // when Up changed last
	Services int       `json:"services"`           // of the swarm
	Tasks    int       `json:"tasks"`              // that are to run, or that the engine hears of
	Nodes    int       `json:"nodes"`              // of the swarm
	Networks int       `json:"networks,omitempty"` // overlay networks that a worker listens on
	Polls    uint64    `json:"polls"`              // lists of tasks that this engine was asked for
	Took     float64   `json:"took"`               // seconds of the last one, from the first octet of the reply on
	Error    string    `json:"error,omitempty"`    // why it is not up

	PollSeconds float64 `json:"-"` // of all polls
}

// MarshalJSON leaves out what only managers tell where the engine is none.
func (s Swarm) MarshalJSON() ([]byte, error) {
	type all Swarm // without this method
	if s.Role == "manager" {
		return json.Marshal(all(s))
	}
	return json.Marshal(struct {
		Role     string `json:"role"`
		Node     string `json:"node"`
		Networks int    `json:"networks"`
		Tasks    int    `json:"tasks"`
		Error    string `json:"error,omitempty"`
	}{s.Role, s.Node, s.Networks, s.Tasks, s.Error})
}
