package engine

import "time"

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
}
