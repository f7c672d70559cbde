package publish

import (
	"slices"
	"strings"
	"testing"
)

// A service notes its project, which settings were read, and which of them can't be used. It holds no other variable.
func TestNotes(t *testing.T) {
	c := &Container{
		ID: strings.Repeat("a", 64), Name: "web", Image: "nginx", State: "running",
		Env:    map[string]string{"DNSDOCK_TTL": "soon", "PASSWORD": "secret", "SERVICE_80_NAME": "http"},
		Labels: map[string]string{composeProject: "shop", "com.dnsdock.alias": strings.Repeat("x", 60) + ".docker, " + strings.Repeat("y", 60)},
	}
	c.Networks = []Endpoint{netOf("bridge", addrs("172.17.0.2"))}
	rules := NameRules{Apex: "docker."}
	read := func() Origin {
		t.Helper()
		s, _ := rules.ServiceOf(c, "unix:///x")
		if s == nil {
			t.Fatal("the container is not published")
		}
		return s.Origin
	}
	first := read()
	want := []Setting{
		{"com.dnsdock.alias", shortened(c.Labels["com.dnsdock.alias"])}, {"$DNSDOCK_TTL", "soon"}, {"$SERVICE_80_NAME", "http"},
	}
	if n := first.Notes; first.Project() != "shop" || n == nil || !slices.Equal(n.Settings, want) ||
		len(n.Problems) != 1 || !strings.HasPrefix(n.Problems[0], `DNSDOCK_TTL="soon": `) {
		t.Errorf("got %q, %+v; want shop, %v and a problem of DNSDOCK_TTL", first.Project(), n, want)
	}
	if !first.equal(read()) {
		t.Error("two readings of one container differ")
	}
	c.Env["DNSDOCK_TTL"] = "5"
	if first.equal(read()) {
		t.Error("a change of a setting is no change of the origin")
	}
	c.Env, c.Labels = nil, nil
	if o := read(); o.Project() != "" || o.Notes != nil {
		t.Errorf("got %q, %+v; want neither a project nor notes", o.Project(), o.Notes)
	}
	if got := (Origin{Task: &Task{Stack: "pile"}}).Project(); got != "pile" {
		t.Errorf("got %q; want pile", got)
	}
}
