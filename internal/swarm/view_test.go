package swarm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/rayje/dnsdock/internal/publish"
)

// versions are those of the engines whose replies are in testdata.
var versions = []string{"20.10", "28.5"}

// recorded returns the elements of a list that an engine sent.
func recorded(t testing.TB, version, list string) (elements []json.RawMessage) {
	t.Helper()
	text, err := os.ReadFile("testdata/" + version + "/" + list + ".json")
	if err == nil {
		err = json.Unmarshal(text, &elements)
	}
	if err != nil {
		t.Fatal(err)
	}
	return elements
}

// read reads a list, and returns the keys that it changed.
func read[T ~string | ~[]byte](t testing.TB, r *Reading, elements ...T) []string {
	t.Helper()
	for _, raw := range elements {
		if err := r.Add([]byte(raw)); err != nil {
			t.Fatal(err)
		}
	}
	changed, dropped := r.End()
	if dropped != 0 {
		t.Errorf("%d elements are left out", dropped)
	}
	slices.Sort(changed)
	return slices.Compact(changed)
}

// recordedView returns the view that an engine told.
func recordedView(t testing.TB, version string) *View {
	t.Helper()
	v := NewView()
	read(t, v.Services(), recorded(t, version, "services")...)
	read(t, v.Nodes(), recorded(t, version, "nodes")...)
	read(t, v.Tasks(), recorded(t, version, "tasks")...)
	return v
}

// containers returns the containers of a view, by name, where the ID of the task is
// left out.
func containers(v *View) (all map[string]*publish.Container, problems []publish.Problem) {
	all = make(map[string]*publish.Container)
	for key := range v.Keys() {
		m := v.Of(key)
		if m == nil {
			continue
		}
		if c, p := m.Container(); c != nil {
			all[strings.TrimSuffix(c.Name, "."+m.Task.ID)] = c
			problems = append(problems, p...)
		}
	}
	return all, problems
}

func TestRecorded(t *testing.T) {
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			all, problems := containers(recordedView(t, version))
			web := all["sw-web.1"]
			if web == nil {
				t.Fatalf("no sw-web.1 in %v", slices.Sorted(maps.Keys(all)))
			}
			if len(web.Networks) != 2 || web.Env["FOO"] != "" || web.Labels["com.dnsdock.ttl"] != "7" {
				t.Errorf("sw-web.1: %+v", web)
			}
			port := publish.PublishedPort{Number: 80, Proto: "tcp", Published: 8451}
			if o := web.Outside; o == nil || len(o.Ports) != 1 || o.Ports[0] != port {
				t.Errorf("sw-web.1: outside %+v", o)
			}
			host := all["sw-host.1"]
			if host == nil || len(host.Networks) != 1 || host.Networks[0].Name != "host" ||
				!host.Networks[0].Addrs[0].IsValid() || host.Outside != nil {
				t.Errorf("sw-host.1: %+v", host)
			}
			inner := all["sw-inw.1"]
			if inner == nil || !inner.Networks[0].Internal || inner.Outside != nil || inner.Image != "sw-app:1" {
				t.Errorf("sw-inw.1: %+v", inner)
			}
			stack := all["sw-st_app.1"]
			if stack == nil || stack.Task.Stack != "sw-st" || stack.Labels["com.dnsdock.alias"] != "c.example.com" ||
				!slices.Contains(stack.Networks[0].Aliases, "app") {
				t.Errorf("sw-st_app.1: %+v", stack)
			}
			for name, c := range all {
				if strings.HasPrefix(name, "sw-rnd.") && c.Host.Name != "" {
					t.Errorf("%s: a template is its host name: %q", name, c.Host.Name)
				}
				if strings.HasPrefix(name, "sw-pend") || c.Task.Node == "" {
					t.Errorf("%s is answered, on node %q", name, c.Task.Node)
				}
			}
			if len(problems) == 0 {
				t.Error("the templates of sw-rnd are no problem")
			}
		})
	}
}

// What an engine sends again changes nothing, whatever its order; an element that is
// other, new or gone changes what it is about.
func TestChanges(t *testing.T) {
	v := recordedView(t, "28.5")
	tasks := recorded(t, "28.5", "tasks")
	slices.Reverse(tasks)
	if got := read(t, v.Tasks(), tasks...); len(got) != 0 {
		t.Errorf("the same tasks change %v", got)
	}
	m := func() *Member { return v.Of(taskIn(t, tasks[0])) }
	if m() == nil {
		t.Fatal("no task")
	}
	id, service, node := m().Task.ID, m().Task.ServiceID, m().Task.NodeID
	if got := read(t, v.Tasks(), tasks[1:]...); !slices.Contains(got, id) || v.Has(id) || m() != nil {
		t.Errorf("a task that is gone: changed %v, has %t", got, v.Has(id))
	}
	if got := read(t, v.Tasks(), tasks...); !slices.Contains(got, id) || m() == nil {
		t.Errorf("a task that is new: changed %v", got)
	}
	text := bytes.Replace(tasks[0], []byte(`"DesiredState":"running"`), []byte(`"DesiredState":"shutdown"`), 1)
	others := append([]json.RawMessage{text}, tasks[1:]...)
	if got := read(t, v.Tasks(), others...); !slices.Contains(got, id) || v.Has(id) {
		t.Errorf("a task that is to stop: changed %v, has %t", got, v.Has(id))
	}
	read(t, v.Tasks(), tasks...)
	got := read(t, v.Services(), recorded(t, "28.5", "services")[:1]...)
	if !slices.Contains(got, id) || !slices.Contains(got, ServiceKey(service)) || !v.IsIncomplete(false) {
		t.Errorf("services that are gone: changed %v", got)
	}
	read(t, v.Services(), recorded(t, "28.5", "services")...)
	nodes := recorded(t, "28.5", "nodes")
	for i, n := range nodes {
		if bytes.Contains(n, []byte(`"ID":"`+node+`"`)) {
			nodes[i] = bytes.Replace(n, []byte(`"State":"ready"`), []byte(`"State":"unknown"`), 1)
			nodes[i] = bytes.Replace(nodes[i], []byte(`"reachable"`), []byte(`"unreachable"`), 1)
		}
	}
	if got := read(t, v.Nodes(), nodes...); !slices.Contains(got, id) || !m().Node.IsLost {
		t.Errorf("a node that is lost: changed %v, %+v", got, m().Node)
	}
	if c, _ := m().Container(); c == nil || !c.Sick {
		t.Errorf("a task of a lost manager: %+v; want it sick", c)
	}
}

func taskIn(t *testing.T, raw []byte) string {
	var j struct{ ID string }
	if err := json.Unmarshal(raw, &j); err != nil {
		t.Fatal(err)
	}
	return j.ID
}

// What is missing, twice or odd in a list is no reason to stop.
func TestOddLists(t *testing.T) {
	v := NewView()
	read(t, v.Services(), `{"ID":"s","Spec":{"Name":"web"},"Endpoint":{"VirtualIPs":[{"Addr":""}]}}`, `{}`,
		`{"ID":"job","Spec":{"Name":"job","Mode":{"ReplicatedJob":{}}}}`)
	read(t, v.Nodes(), `{"ID":"n1","Description":{"Hostname":"x"},"Status":{"State":"ready","Addr":"0.0.0.0"},
		"ManagerStatus":{"Addr":"10.0.0.1:2377"}}`,
		`{"ID":"n2","Description":{"Hostname":"x"},"Status":{"Addr":"10.0.0.2"}}`,
		`{"ID":"n3","Status":{"State":"ready","Addr":"127.0.0.1"},"ManagerStatus":{"Addr":"0.0.0.0:2377"}}`)
	const spec = `"ServiceID":"s","DesiredState":"running","Spec":{"ContainerSpec":{"Image":"app"}}`
	read(t, v.Tasks(), `{}`, `{"ID":"no status",`+spec+`}`,
		`{"ID":"plugin","ServiceID":"s","DesiredState":"running","Status":{"State":"running"},"Spec":{}}`,
		`{"ID":"no spec","ServiceID":"s","DesiredState":"running","Status":{"State":"running"}}`,
		`{"ID":"bare",`+spec+`,"Status":{"State":"running"},"NetworksAttachments":null}`,
		`{"ID":"no service","ServiceID":"other","DesiredState":"running","Spec":{"ContainerSpec":{}},
			"Status":{"State":"running"}}`,
		`{"ID":"no prefix","NodeID":"n1","Slot":2,`+spec+`,"Status":{"State":"running","ContainerStatus":{}},
			"NetworksAttachments":[{"Network":{"ID":"x","Spec":{"Name":"one"},
				"IPAMOptions":{"Configs":[{"Subnet":"10.9.0.0/24"}]}},"Addresses":["10.9.0.5","fd00::5","","x"]},
			{"Addresses":null}]}`)
	all, problems := containers(v)
	if got := slices.Sorted(maps.Keys(all)); !slices.Equal(got, []string{"web.", "web.2"}) || len(problems) > 0 {
		t.Fatalf("got %q, %v", got, problems)
	}
	c := all["web.2"]
	if got := publish.AddrTexts(c.Networks[1].Addrs); !slices.Equal(got, []string{"10.9.0.5", "fd00::5"}) {
		t.Errorf("addresses without a prefix: %q of %+v", got, c.Networks)
	}
	if got := c.Networks[1].V4.Prefix.String(); got != "10.9.0.0/24" {
		t.Errorf("the prefix of the network is %s", got)
	}
	if c.ID != "no prefix" || c.Task.Node != "x" || v.nodes.get("n1").Addr.String() != "10.0.0.1" ||
		v.nodes.get("n3").Addr.IsValid() || !v.IsJob("job") || v.IsJob("s") {
		t.Errorf("got %+v", c)
	}
	for _, raw := range []string{`<html>`, `{"ID":1}`, `{"ID":"x","Slot":"1"}`, `[]`} {
		r := v.Tasks()
		if err := r.Add([]byte(raw)); err == nil {
			t.Errorf("%s is taken for a task", raw)
		}
	}
	if !v.Has("bare") {
		t.Error("a list that could not be read changed the view")
	}
	if got := read[string](t, v.Tasks()); !slices.Contains(got, "bare") || v.Has("bare") {
		t.Errorf("an empty list changed %v", got)
	}
}

func TestLimits(t *testing.T) {
	v := NewView()
	r := v.Nodes()
	for i := range maxNodes + 3 {
		if err := r.Add(fmt.Appendf(nil, `{"ID":"n%05d"}`, i)); err != nil {
			t.Fatal(err)
		}
	}
	if _, dropped := r.End(); dropped != 3 || v.nodes.get("n02000") != nil || v.nodes.get("n01999") == nil {
		t.Errorf("%d nodes are left out", dropped)
	}
}

func TestInfo(t *testing.T) {
	for _, version := range versions {
		text, err := os.ReadFile("testdata/" + version + "/info.json")
		if err != nil {
			t.Fatal(err)
		}
		i, err := ReadInfo(json.NewDecoder(bytes.NewReader(text)))
		if err != nil || i.Role != Manager || i.Cluster == "" || len(i.Managers) != 3 || !i.Addr.IsValid() ||
			i.Hostname == "" {
			t.Errorf("%s: %+v, %v", version, i, err)
		}
		worker := Info{Role: Worker, Managers: i.Managers[1:2]}
		if alone := (Info{NodeID: "x"}); !alone.IsSame(alone) || alone.IsSame(Info{NodeID: "y"}) {
			t.Error("a node is not of its own swarm, or of another one's")
		}
		if !i.IsSame(worker) || !worker.IsSame(i) || worker.IsSame(Info{Managers: []string{"x"}}) ||
			i.IsSame(Info{Cluster: "x"}) {
			t.Errorf("%s: whether engines are of one swarm is wrong", version)
		}
	}
	if i, err := ReadInfo(json.NewDecoder(strings.NewReader(`{"Swarm":{"LocalNodeState":"pending"}}`))); err == nil {
		t.Errorf("an engine that starts is %+v", i)
	}
	for _, text := range []string{`{}`, `{"Swarm":null}`, `{"Swarm":{"LocalNodeState":"inactive","NodeID":""}}`} {
		if i, err := ReadInfo(json.NewDecoder(strings.NewReader(text))); err != nil || i.Role != NoRole {
			t.Errorf("%s: %+v, %v", text, i, err)
		}
	}
}

func TestGossip(t *testing.T) {
	for _, version := range versions {
		text, err := os.ReadFile("testdata/" + version + "/network-sw-net-verbose.json")
		if err != nil {
			t.Fatal(err)
		}
		list, err := ReadGossip(json.NewDecoder(bytes.NewReader(text)))
		if err != nil || len(list) == 0 {
			t.Fatalf("%s: %v, %v", version, list, err)
		}
		for _, h := range list {
			c := ContainerOf([]Heard{h, h}, map[string]bool{"sw": true})
			n := c.Networks[0]
			if h.ID() == "" || c.Name != h.Name || !n.V4.Contains(n.Addrs[0]) || n.Name != "sw-net" ||
				len(c.Networks) != 2 {
				t.Errorf("%s: %+v", version, c)
			}
			if isGlobal := h.Service == "sw-rr"; isGlobal != (c.Task.Slot == 0) {
				t.Errorf("%s: %s has slot %d", version, h.Name, c.Task.Slot)
			}
			if c.Name == "sw-alone" || c.Task.Stack != "" {
				t.Errorf("%s: %+v", version, c.Task)
			}
		}
	}
	h := Heard{Name: "shop_web.2.x", Service: "shop_web"}
	c := ContainerOf([]Heard{h}, map[string]bool{"shop": true})
	if c.Task.Stack != "shop" || c.Task.Slot != 2 || c.ID != "x" {
		t.Errorf("%+v", c.Task)
	}
}

// Whatever managers send is read to an end.
func FuzzView(f *testing.F) {
	for _, version := range versions {
		for _, list := range []string{"tasks", "services", "nodes"} {
			for _, raw := range recorded(f, version, list) {
				f.Add([]byte(raw))
			}
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		v := NewView()
		for _, r := range []*Reading{v.Services(), v.Nodes(), v.Tasks()} {
			if r.Add(raw) == nil {
				r.End()
			}
		}
		names := publish.NameRules{Apex: "\x06docker\x00"}
		for key := range v.Keys() {
			if m := v.Of(key); m != nil {
				if c, _ := m.Container(); c != nil {
					names.ServiceOf(c, "fuzz")
				}
			}
			v.Extra(key, names, "fuzz")
		}
		if list, err := ReadGossip(json.NewDecoder(bytes.NewReader(raw))); err == nil {
			for _, h := range list {
				names.ServiceOf(ContainerOf([]Heard{h}, nil), "fuzz")
			}
		}
	})
}
