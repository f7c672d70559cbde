package e2e

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rayje/dnsdock/internal/dnstest"
)

// managerInfo is what a manager says of itself.
const managerInfo = `{"Name":"boss","Swarm":{"LocalNodeState":"active","ControlAvailable":true,"NodeID":"n0",
	"NodeAddr":"192.0.2.200","Cluster":{"ID":"c"},"RemoteManagers":[{"NodeID":"n0"}]}}`

// newSwarmManager returns an engine that is a manager of these services, each of so many tasks, on ten nodes.
func newSwarmManager(services, tasks int) *dnstest.Engine {
	e := dnstest.NewEngine()
	e.Internal = []string{}
	e.Replies = map[string]http.HandlerFunc{"/info": replyOf(managerInfo)}
	setSwarm(e, services, tasks)
	return e
}

// setSwarm makes a manager list services, which publish a port, and their tasks.
func setSwarm(e *dnstest.Engine, services, tasks int) {
	var s, t, n []string
	for i := range services {
		s = append(s, fmt.Sprintf(`{"ID":"s%d","Spec":{"Name":"web%[1]d","Labels":{"com.example.team":"shop"}},
			"Endpoint":{"Ports":[{"Protocol":"tcp","TargetPort":80,"PublishedPort":%d}]}}`, i, 10000+i))
		for j := range tasks {
			k := i*tasks + j
			t = append(t, fmt.Sprintf(`{"ID":"t%[1]dx%[2]d","ServiceID":"s%[1]d","Slot":%[4]d,"NodeID":"n%[5]d",
				"DesiredState":"running","Status":{"State":"running","Timestamp":"2026-01-02T03:04:05Z",
				"ContainerStatus":{"ContainerID":"%064[6]x","PID":%[3]d},"PortStatus":{}},
				"Spec":{"ContainerSpec":{"Image":"app:%[1]d","Env":["A=b","DNSDOCK_TTL=7"],"Labels":{"a":"b"}}},
				"NetworksAttachments":[{"Network":{"ID":"o","Spec":{"Name":"over"}},
				"Addresses":["10.%[7]d.%[8]d.%[9]d/9"]}]}`,
				i, j, k, j+1, 1+k%10, 1<<40+i<<20+j, 1+k>>16, k>>8&255, k&255))
		}
	}
	for i := range 10 {
		n = append(n, fmt.Sprintf(`{"ID":"n%d","Description":{"Hostname":"node%[1]d"},
			"Status":{"State":"ready","Addr":"192.0.2.%[1]d"}}`, i+1))
	}
	e.Update(func() {
		for path, list := range map[string][]string{"/services": s, "/tasks": t, "/nodes": n} {
			e.Replies[path] = replyOf("[" + strings.Join(list, ",") + "]")
		}
	})
}

func replyOf(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) }
}

// Whatever a manager replies, what was known goes on being answered, and it is asked again.
func TestSwarmFaults(t *testing.T) {
	t.Parallel()
	end := make(chan struct{})
	t.Cleanup(func() { close(end) })
	for name, fault := range map[string]http.HandlerFunc{
		"500": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, `{"message":"rpc error: The swarm does not have a leader"}`, http.StatusInternalServerError)
		},
		"503": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, `{"message":"This node is not a swarm manager."}`, http.StatusServiceUnavailable)
		},
		"cut": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			fmt.Fprint(w, `[{"ID":"t0x0","DesiredState":"running"`)
		},
		"HTML":       replyOf("<html><body>It works!</body></html>"),
		"no list":    replyOf(`{"message":"no"}`),
		"half":       replyOf(`[{"ID":"x","ServiceID":"s0","DesiredState":"running"},`),
		"odd values": replyOf(`[{"ID":"x","Slot":"first"}]`),
		"silence": func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-end:
			case <-r.Context().Done():
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newSwarmManager(2, 2)
			in := startDnsdock(t, "-docker="+e.ServeTCP(t, nil))
			in.log.Wait(t, "swarm found")
			in.ready(t)
			before := e.Count("/tasks")
			e.Update(func() { e.Replies["/tasks"] = fault })
			for end := time.Now().Add(dnstest.Patience); e.Count("/tasks") < before+3; {
				if time.Now().After(end) {
					t.Fatal("the manager is not asked again")
				}
				if got := len(in.addrs(t, "web1.docker")); got != 2 {
					t.Fatalf("%d addresses; want 2", got)
				}
			}
			setSwarm(e, 2, 3)
			in.eventually(t, "3 tasks", func() bool { return len(in.addrs(t, "web1.docker")) == 3 })
			setSwarm(e, 0, 0) // an empty list is believed
			in.eventually(t, "no task", func() bool { return len(in.addrs(t, "web1.docker")) == 0 })
		})
	}
}

// Many tasks are known soon after the start, and take little memory. Asking for them
// again and again takes no more.
func TestSwarmOfMany(t *testing.T) {
	if testing.Short() {
		t.Skip("it makes 10,000 tasks")
	}
	t.Parallel()
	e := newSwarmManager(1000, 10)
	began := time.Now()
	p := startProcess(t, "-dns=127.0.0.1:0", "-http=127.0.0.1:0", "-nameserver=", "-docker="+e.ServeTCP(t, nil))
	in := newInstance(t, p)
	in.log.Wait(t, "swarm found", "tasks=10000")
	in.ready(t)
	t.Logf("10,000 tasks after %.1f s", time.Since(began).Seconds())
	if got := len(in.addrs(t, "tasks.web999.docker")); got != 10 {
		t.Errorf("web999 has %d addresses; want 10", got)
	}
	for _, path := range []string{"/tasks", "/containers/{id}/json", "/networks/{id}"} {
		if n := e.Count(path); n > 20 {
			t.Errorf("%s was called %d times", path, n)
		}
	}
	polls := e.Count("/tasks")
	in.eventually(t, "two more polls", func() bool { return e.Count("/tasks") >= polls+2 })
	if peak, now := p.memory(t, "VmHWM"), p.memory(t, "VmRSS"); peak > 250 || now > 150 {
		t.Errorf("memory: %d MB, at most %d; want 150, and 250 at the most", now, peak)
	} else {
		t.Logf("memory: %d MB, at most %d", now, peak)
	}
}

// memory returns a line of the process's status in MB.
func (p *process) memory(t *testing.T, line string) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(line + `:\s+(\d+)`).FindSubmatch(status)
	if m == nil {
		t.Fatalf("no %s in %s", line, status)
	}
	n, _ := strconv.Atoi(string(m[1])) // digits
	return n / 1024
}

// eventually waits until a condition holds.
func (in *instance) eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(dnstest.Patience); !holds(); {
		if time.Now().After(end) {
			t.Fatalf("never %s: %s", what, in.log)
		}
	}
}
