package web

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/rayje/dnsdock/internal/engine"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/stats"
)

var aSwarm = engine.Swarm{
	Role: "manager", Cluster: "c1", Node: "boss", Up: true, Since: time.Unix(1, 0).UTC(), Services: 2, Tasks: 5,
	Nodes: 3, Polls: 7, Took: 0.25, PollSeconds: 1.5,
}

// The page says on which node a task runs, and what the engine is in the swarm; without a swarm
// there is no column for it.
func TestPageShowsNodes(t *testing.T) {
	s := newSite(t)
	s.put("id", "web.1.x", "nginx", "10.0.0.1", "", func(s *publish.Service) {
		s.Origin.Task = &publish.Task{ID: "x", Service: "web", Slot: 1, Node: "worker7"}
	})
	s.put("byhand", "a", "b", "10.0.0.2", "")
	body := func() string { return call(t, s.handler(), "GET", "/", "").Body.String() }
	if strings.Contains(body(), "<th>node") {
		t.Error("without a swarm there is a column for nodes")
	}
	w := aSwarm
	w.Error = "no <leader>"
	s.engines[0].Swarm = &w
	for _, part := range []string{"<th>node", `data-label="node">worker7`,
		"manager boss of a swarm", "5 tasks", "no &lt;leader&gt;"} {
		if !strings.Contains(body(), part) {
			t.Errorf("the page has no %s", part)
		}
	}
}

func TestMetricsOfSwarms(t *testing.T) {
	var p stats.Exposition
	WriteEngines(&p, []engine.Status{{URL: "a", Swarm: &aSwarm}, {URL: "b"}})
	got := string(p.Bytes())
	for _, line := range []string{
		`dnsdock_swarm_up{engine="a"} 1`, `dnsdock_swarm_polls_total{engine="a"} 7`,
		`dnsdock_swarm_poll_seconds_total{engine="a"} 1.5`, `dnsdock_swarm_tasks{engine="a"} 5`,
		"# TYPE dnsdock_swarm_polls_total counter", `dnsdock_engine_up{engine="b"} 0`,
	} {
		if !strings.Contains(got, line+"\n") {
			t.Errorf("no %s in %s", line, got)
		}
	}
	if strings.Contains(got, `swarm_up{engine="b"}`) {
		t.Error("an engine of no swarm has one")
	}
}

func TestStatusOfSwarms(t *testing.T) {
	f := func(s *engine.Swarm, want string) {
		t.Helper()
		got, err := json.Marshal(s)
		if err != nil || string(got) != want {
			t.Errorf("got %s, %v; want %s", got, err, want)
		}
	}
	f(&aSwarm, `{"role":"manager","cluster":"c1","node":"boss","up":true,"since":"1970-01-01T00:00:01Z",`+
		`"services":2,"tasks":5,"nodes":3,"polls":7,"took":0.25}`)
	f(&engine.Swarm{Role: "worker", Node: "w", Networks: 1, Error: "x"},
		`{"role":"worker","node":"w","up":false,"tasks":0,"networks":1,"polls":0,"took":0,"error":"x"}`)
}
