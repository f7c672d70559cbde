package publish

import (
	"slices"
	"testing"

	"github.com/rayje/dnsdock/internal/dnsname"
)

// A task has the names of its service and stack besides its own.
func TestTaskNames(t *testing.T) {
	rules := NameRules{Apex: "\x06docker\x00", Second: SecondNames{Compose: true}}
	for _, c := range []struct {
		name, service, stack, node string
		want                       []string
		problems                   int
	}{
		{"web.1.x7kq", "web", "", "n1", []string{"web.docker", "1.web.docker", "tasks.web.docker"}, 0},
		{"shop_web.2.x7kq", "shop_web", "shop", "", []string{"shop_web.docker", "2.shop_web.docker",
			"2.web.shop.docker", "tasks.shop_web.docker", "tasks.web.shop.docker"}, 0},
		{"web.w2x6fbco9jktzppl9miejuux1.x7kq", "web", "", "N1.example", []string{
			"web.docker", "n1.example.web.docker", "tasks.web.docker"}, 0},
		{"web.w2x6fbco9jktzppl9miejuux1.x7kq", "web", "", "", []string{"web.docker", "tasks.web.docker"}, 0},
		{"a.b_web.1.x7kq", "a.b_web", "a.b", "n1", nil, 1},
	} {
		labels := map[string]string{swarmTaskID: "x7kq", swarmTaskName: c.name, swarmService: c.service, swarmStack: c.stack}
		container := &Container{ID: "id", Name: c.name, Image: "nginx", Networks: []Endpoint{HostNetwork()},
			Placed: Placed{Task: TaskOf(labels, c.node)}}
		s, problems := rules.ServiceOf(container, "e")
		if got := dnsname.Texts(s.SecondNames); !slices.Equal(got, c.want) || len(problems) != c.problems {
			t.Errorf("%s: got %v, %v; want %v", c.name, got, problems, c.want)
		}
	}
	if task := TaskOf(map[string]string{"a": "b"}, "n1"); task != nil {
		t.Errorf("a container: got the task %v; want none", task)
	}
}
