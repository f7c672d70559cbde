package engine

import (
	"encoding/json"
	"testing"
	"time"
)

// Managers tell all, also where it is 0, and workers what they know.
func TestSwarmAsJSON(t *testing.T) {
	f := func(s Swarm, want string) {
		t.Helper()
		got, err := json.Marshal(Status{URL: "unix:///x", Swarm: &s})
		want = `{"url":"unix:///x","up":false,"events":0,"resyncs":0,"swarm":` + want + `}`
		if err != nil || string(got) != want {
			t.Errorf("got %s, %v; want %s", got, err, want)
		}
	}
	since := time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)
	f(Swarm{
		Role: "manager", Cluster: "c1", Node: "alpha", Up: true, Since: since, Services: 12, Tasks: 40, Nodes: 3,
		Polls: 7, Took: 0.01, PollSeconds: 9,
	}, `{"role":"manager","cluster":"c1","node":"alpha","up":true,"since":"2026-11-25T00:00:00Z",`+
		`"services":12,"tasks":40,"nodes":3,"polls":7,"took":0.01}`)
	f(Swarm{Role: "manager", Cluster: "c1", Node: "alpha", Error: "no leader"},
		`{"role":"manager","cluster":"c1","node":"alpha","up":false,"services":0,"tasks":0,"nodes":0,`+
			`"polls":0,"took":0,"error":"no leader"}`)
	f(Swarm{Role: "worker", Node: "beta", Up: true, Since: since, Polls: 9, Took: 1},
		`{"role":"worker","node":"beta","networks":0,"tasks":0}`)
	f(Swarm{Role: "worker", Node: "beta", Networks: 2, Tasks: 5},
		`{"role":"worker","node":"beta","networks":2,"tasks":5}`)
	got, err := json.Marshal(Status{URL: "unix:///x"})
	if want := `{"url":"unix:///x","up":false,"events":0,"resyncs":0}`; err != nil || string(got) != want {
		t.Errorf("of no swarm: got %s, %v", got, err)
	}
}
