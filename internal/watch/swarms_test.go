package watch

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/swarm"
)

// A fakeTask is a task as managers list it.
type fakeTask struct {
	id, service, node string
	slot              int
	addr              string // on the overlay "lan"
	state, desired    string // "running" if empty
	more              string // further JSON of the spec's ContainerSpec
}

func (f fakeTask) json() string {
	or := func(s, other string) string {
		if s == "" {
			return other
		}
		return s
	}
	return fmt.Sprintf(`{"ID":%q,"ServiceID":%q,"NodeID":%q,"Slot":%d,"DesiredState":%q,
		"Spec":{"ContainerSpec":{"Image":"app:1"%s}},"Status":{"State":%q,"ContainerStatus":{"ContainerID":%q}},
		"NetworksAttachments":[{"Network":{"ID":"id-lan","Spec":{"Name":"lan"}},"Addresses":["%s/24"]}]}`,
		f.id, f.service, f.node, f.slot, or(f.desired, "running"), f.more, or(f.state, "running"), fakeID(f.id), f.addr)
}

func service(id, more string) string {
	return fmt.Sprintf(`{"ID":%q,"Spec":{"Name":"name-%s"%s}}`, id, id, more)
}

func node(id, addr string) string {
	const text = `{"ID":%q,"Description":{"Hostname":"host-%[1]s"},"Status":{"State":"ready","Addr":%q}}`
	return fmt.Sprintf(text, id, addr)
}

// setLists makes a manager list these tasks, of the service "s" on the nodes "n1" and "n2".
func (e *fakeEngine) setLists(tasks ...fakeTask) {
	var list []string
	for _, t := range tasks {
		list = append(list, t.json())
	}
	e.update(func() {
		if e.swarm.lists == nil {
			e.swarm.lists = map[SwarmList][]string{
				Services: {service("s", "")}, Nodes: {node("n1", "192.0.2.1"), node("n2", "192.0.2.2")},
			}
		}
		e.swarm.lists[Tasks] = list
	})
}

// A swarmOf is several engines of one swarm, in simulated time.
type swarmOf struct {
	*testing.T
	engines  []*fakeEngine
	watchers []*Watcher
	sink     *fakeSink
	log      *dnstest.Log
}

// inSwarm runs f while engines are followed, which are of the nodes "n1", "n2" and so on.
func inSwarm(t *testing.T, roles []swarm.Role, prepare func(*swarmOf), f func(*swarmOf)) {
	synctest.Test(t, func(t *testing.T) {
		s := &swarmOf{T: t, log: dnstest.NewLog()}
		s.sink = &fakeSink{services: make(map[string]*publish.Service), isShared: true}
		swarms := NewSwarms(s.sink, s.sink.setSwarm)
		log := slog.New(dnstest.Unlocked(t, s.log, &swarms.mu, &swarms.problems.mu))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for i, role := range roles {
			e := newFakeEngine()
			e.internal, e.overlays = []string{}, []string{"id-lan"}
			e.swarm.info = swarm.Info{
				Role: role, NodeID: fmt.Sprint("n", i+1), Hostname: fmt.Sprint("host", i+1), Managers: []string{"m"},
				Addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}),
			}
			if role == swarm.Manager {
				e.swarm.info.Cluster = "cluster"
			}
			cfg := Config{URL: fmt.Sprint("engine", i+1), Swarms: swarms, SetGuests: s.sink.setGuests}
			cfg.Naming = publish.NameRules{
				Apex: "\x06docker\x00", Health: true, Second: publish.SecondNames{Compose: true},
			}
			if i > 0 {
				cfg.Suffix = "@" + cfg.URL
			}
			s.engines, s.watchers = append(s.engines, e), append(s.watchers, New(e, cfg, s.sink, log))
		}
		prepare(s)
		var wg sync.WaitGroup
		for _, w := range s.watchers {
			wg.Go(func() {
				if err := w.Run(ctx); err != nil {
					t.Errorf("Run: %v", err)
				}
			})
		}
		f(s)
		cancel()
		wg.Wait()
	})
}

// within waits for at most d of simulated time until qname answers want.
func (s *swarmOf) within(d time.Duration, qname, want string) {
	s.Helper()
	w := watched{T: s.T, sink: s.sink}
	w.wantWithin(d, qname, want)
}

// own makes an engine run the container of a task.
func (s *swarmOf) own(i int, task fakeTask) {
	s.engines[i].set(task.id, &fakeContainer{
		name: "own", image: "app", state: "running",
		networks: map[string]fakeEndpoint{"lan": {"id-lan", task.addr}},
		labels: map[string]string{
			"com.docker.swarm.task.id": task.id, "com.docker.swarm.service.id": task.service,
			"com.docker.swarm.service.name": "name-" + task.service,
			"com.docker.swarm.task.name":    fmt.Sprintf("name-%s.%d.%s", task.service, task.slot, task.id),
		},
	})
	s.engines[i].send(Event{Type: "container", Action: "start", Container: fakeID(task.id), Swarm: TaskNews})
}

var (
	task1 = fakeTask{id: "aa", service: "s", node: "n1", slot: 1, addr: "10.9.0.1"}
	task2 = fakeTask{id: "bb", service: "s", node: "n2", slot: 2, addr: "10.9.0.2"}
	task3 = fakeTask{id: "cc", service: "s", node: "n3", slot: 3, addr: "10.9.0.3"}
)

const web = "app.docker"

// The managers' tasks are answered: those of other nodes, and one that an engine has the
// container of once. They come and go within 2 s of what managers say.
func TestSwarmsView(t *testing.T) {
	start := func(s *swarmOf) { s.engines[0].setLists(task1, task2) }
	inSwarm(t, []swarm.Role{swarm.Manager}, start, func(s *swarmOf) {
		s.own(0, task1)
		s.within(time.Second, web, "10.9.0.1 10.9.0.2")
		if services, _, _ := s.sink.seen(); len(services) != 4 { // and the two nodes
			t.Errorf("%d services are put; want 2, and 2 nodes", len(services))
		}
		e := s.engines[0]
		e.setLists(task1, task2, task3)
		s.within(2*time.Second, web, "10.9.0.1 10.9.0.2 10.9.0.3")
		waiting := task3
		waiting.state = "starting"
		e.setLists(task1, waiting)
		s.within(2*time.Second, web, "10.9.0.1")
		e.setLists(task2) // the managers want the end of a task whose container still runs
		s.within(2*time.Second, web, "10.9.0.2")
		e.setLists(task1, task2)
		s.within(2*time.Second, web, "10.9.0.1 10.9.0.2")
		e.destroy(task1.id) // the container ends before the managers know
		s.within(0, web, "10.9.0.2")
		time.Sleep(time.Minute)
		s.within(0, web, "10.9.0.2")
		e.setLists()
		s.within(2*time.Second, web, "")
	})
}

// A poll without news puts nothing, and polls take at most one second of twenty.
func TestSwarmsPace(t *testing.T) {
	start := func(s *swarmOf) { s.engines[0].setLists(task2, task3) }
	inSwarm(t, []swarm.Role{swarm.Manager}, start, func(s *swarmOf) {
		s.within(time.Second, web, "10.9.0.2 10.9.0.3")
		_, _, puts := s.sink.seen()
		polls := s.engines[0].count("SwarmList tasks")
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if _, _, now := s.sink.seen(); now != puts {
			t.Errorf("%d puts in two idle minutes", now-puts)
		}
		if n := s.engines[0].count("SwarmList tasks") - polls; n < 110 || n > 126 { // and one with each resync
			t.Errorf("%d polls in two minutes; want one each second", n)
		}
		polls = s.engines[0].count("SwarmList tasks")
		for range 1000 { // a stream of events is no stream of polls
			s.engines[0].send(Event{Type: "service", Action: "update", Swarm: AnyNews})
			time.Sleep(10 * time.Millisecond)
		}
		if n := s.engines[0].count("SwarmList tasks") - polls; n > 101 {
			t.Errorf("%d polls in 10 s of events", n)
		}
	})
}

// Managers that fail: the next one is asked at once; if none answers, what is known stays, and containers of
// engines go on changing it. That is logged once when it begins, after an election's time, and once when it ends.
func TestSwarmsFailover(t *testing.T) {
	start := func(s *swarmOf) {
		for _, e := range s.engines {
			e.setLists(task1, task2, task3)
		}
	}
	inSwarm(t, []swarm.Role{swarm.Manager, swarm.Manager}, start, func(s *swarmOf) {
		s.own(0, task1)
		s.own(1, task2)
		s.within(time.Second, web, "10.9.0.1 10.9.0.2 10.9.0.3")
		s.engines[0].update(func() { s.engines[0].swarm.hang = true })
		s.engines[1].setLists(task1, task2)
		s.within(swarmTimeout+2*time.Second, web, "10.9.0.1 10.9.0.2")
		s.engines[0].setDown(true) // its engine is away, and its node goes on
		s.engines[1].setLists(task2)
		s.within(2*time.Second, web, "10.9.0.2")
		s.engines[1].setLists(task1, task2)
		s.within(2*time.Second, web, "10.9.0.1 10.9.0.2")
		s.engines[1].update(func() { s.engines[1].swarm.lists = nil })
		time.Sleep(15 * time.Second)
		if n := strings.Count(s.log.String(), "swarm away"); n != 0 {
			t.Error("an election is logged")
		}
		time.Sleep(time.Minute)
		s.within(0, web, "10.9.0.1 10.9.0.2")
		if n := strings.Count(s.log.String(), "swarm away"); n != 1 {
			t.Errorf("the loss of the managers is logged %d times", n)
		}
		s.engines[1].destroy(task2.id)
		s.within(0, web, "10.9.0.1")
		s.engines[1].setLists(task1)
		time.Sleep(2 * time.Second)
		if n := strings.Count(s.log.String(), "swarm found"); n != 2 {
			t.Errorf("the swarm is found %d times; want 2", n)
		}
		if _, got, _ := s.sink.seen(); !strings.HasSuffix(got, ", lost, swarm lost, swarm found") {
			t.Errorf("news: %s", got)
		}
		if st := s.watchers[1].Status().Swarm; st == nil || !st.Up || st.Tasks != 1 || st.Role != "manager" {
			t.Errorf("status: %+v", st)
		}
	})
}

// An engine that is stopped is of no swarm for a while, and one that starts does not know yet: that changes
// nothing. One that left its swarm has none.
func TestSwarmsLeft(t *testing.T) {
	start := func(s *swarmOf) { s.engines[0].setLists(task2, task3) }
	inSwarm(t, []swarm.Role{swarm.Manager}, start, func(s *swarmOf) {
		e := s.engines[0]
		s.within(time.Second, web, "10.9.0.2 10.9.0.3")
		info, lists := e.swarm.info, e.swarm.lists
		leave := func() { e.update(func() { e.swarm.info, e.swarm.lists = swarm.Info{}, nil }) }
		leave()
		time.Sleep(leaveTime / 2)
		s.within(0, web, "10.9.0.2 10.9.0.3")
		e.setDown(true)
		time.Sleep(time.Minute)
		e.setDown(false)
		time.Sleep(leaveTime / 2)
		s.within(0, web, "10.9.0.2 10.9.0.3")
		e.update(func() { e.swarm.info, e.swarm.lists = info, lists })
		time.Sleep(ResyncPeriod)
		s.within(0, web, "10.9.0.2 10.9.0.3")
		leave()
		s.within(leaveTime+3*time.Second, web, "")
		if st := s.watchers[0].Status().Swarm; st != nil {
			t.Errorf("status: %+v", st)
		}
	})
}

// Dnsdock starts while the swarm has no leader: it is ready after the first try, by labels.
func TestSwarmsWithoutQuorum(t *testing.T) {
	inSwarm(t, []swarm.Role{swarm.Manager}, func(s *swarmOf) {
		s.engines[0].update(func() { s.engines[0].swarm.hang = true })
		s.own(0, task1)
	}, func(s *swarmOf) {
		synctest.Wait()
		if s.sink.isListed() {
			t.Error("listed before the managers were asked")
		}
		s.within(0, web, "10.9.0.1")
		time.Sleep(swarmTimeout + time.Second)
		if !s.sink.isListed() {
			t.Error("not listed after the first try")
		}
		s.engines[0].update(func() { s.engines[0].swarm.hang = false })
		s.engines[0].setLists(task1, task2)
		s.within(swarmTimeout+2*time.Second, web, "10.9.0.1 10.9.0.2")
	})
}

// A worker answers what its engine hears, and a manager that becomes one goes on with that.
func TestSwarmsGossip(t *testing.T) {
	heard := func(names ...string) (list []swarm.Heard) {
		for _, name := range names {
			e := publish.Endpoint{Network: publish.Network{Name: "lan", Routed: true}}
			e.Addrs = []netip.Addr{netip.MustParseAddr("10.9.0." + name)}
			list = append(list, swarm.Heard{Name: "web." + name + ".t" + name, Service: "web", Endpoint: e})
		}
		return list
	}
	const name = "docker"
	start := func(s *swarmOf) {
		s.engines[0].swarm.gossip = map[string][]swarm.Heard{"id-lan": heard("5", "6")}
		s.own(0, task1)
	}
	inSwarm(t, []swarm.Role{swarm.Worker}, start, func(s *swarmOf) {
		s.within(2*time.Second, name, "10.9.0.1 10.9.0.5 10.9.0.6")
		if n := s.engines[0].count("SwarmList tasks", "SwarmList nodes", "SwarmList services"); n > 0 {
			t.Errorf("a worker is asked for lists %d times", n)
		}
		calls := s.engines[0].count("Gossip")
		s.engines[0].send(Event{Type: "container", Action: "health_status", Container: fakeID("aa"), Swarm: TaskNews})
		time.Sleep(time.Minute)
		if n := s.engines[0].count("Gossip") - calls; n < 55 || n > 64 {
			t.Errorf("the engine is asked what it hears %d times in a minute; want each second", n)
		}
		s.engines[0].update(func() { s.engines[0].swarm.gossip["id-lan"] = heard("6") })
		s.within(2*time.Second, name, "10.9.0.1 10.9.0.6")
		s.engines[0].setLists(task1, task2)
		s.engines[0].update(func() { s.engines[0].swarm.info.Role = swarm.Manager })
		s.within(ResyncPeriod+2*time.Second, web, "10.9.0.1 10.9.0.2")
		time.Sleep(time.Second)
		if got := s.sink.answer("6.t6.docker"); got != "" {
			t.Errorf("what was heard is answered beside the view: %s", got)
		}
		s.engines[0].update(func() { s.engines[0].swarm.info.Role = swarm.Worker })
		time.Sleep(ResyncPeriod + 2*time.Second)
		s.within(0, name, "10.9.0.1 10.9.0.6")
		s.engines[0].update(func() { s.engines[0].swarm.info = swarm.Info{} })
		time.Sleep(2*ResyncPeriod + time.Second)
		s.within(0, name, "10.9.0.1")
	})
}

// What is refused is done without, and that is said once.
func TestSwarmsRefused(t *testing.T) {
	for call, want := range map[string]string{
		"/info": "10.9.0.1", "/tasks": "10.9.0.1", "/services": "10.9.0.1", "/nodes": "10.9.0.1 10.9.0.2",
	} {
		start := func(s *swarmOf) {
			s.engines[0].setLists(task1, task2)
			s.engines[0].swarm.refused = []string{call}
			s.own(0, task1)
		}
		inSwarm(t, []swarm.Role{swarm.Manager}, start, func(s *swarmOf) {
			time.Sleep(2 * time.Minute)
			s.within(0, web, want)
			if n := strings.Count(s.log.String(), "allow GET "+call); n != 1 {
				t.Errorf("%s: %d warnings: %s", call, n, s.log)
			}
			if !s.sink.isListed() {
				t.Errorf("%s: not listed", call)
			}
		})
	}
}

// Managers are upgraded one after the other: no name of a task that goes on running leaves.
func TestManagersUpgraded(t *testing.T) {
	start := func(s *swarmOf) {
		for _, e := range s.engines {
			e.setLists(task1, task2, task3)
		}
		s.own(0, task1)
		s.own(1, task2)
	}
	inSwarm(t, []swarm.Role{swarm.Manager, swarm.Manager}, start, func(s *swarmOf) {
		const all = "10.9.0.1 10.9.0.2 10.9.0.3"
		s.within(time.Second, web, all)
		for i, e := range s.engines {
			e.setDown(true)
			s.engines[1-i].update(func() { s.engines[1-i].swarm.lists = nil }) // there is no leader for a while
			for range 15 {
				time.Sleep(time.Second)
				s.within(0, web, all)
			}
			s.engines[1-i].setLists(task1, task2, task3)
			for range 15 {
				time.Sleep(time.Second)
				s.within(0, web, all)
			}
			e.setDown(false)
			time.Sleep(ResyncPeriod)
			s.within(0, web, all)
		}
		if n := strings.Count(s.log.String(), "swarm away"); n != 0 {
			t.Errorf("an upgrade is a loss of the swarm: %s", s.log)
		}
	})
}

// A node dies: its tasks leave when the managers say so, though its engine, which is followed, says
// nothing any more. It comes back, and so do they.
func TestNodeDies(t *testing.T) {
	start := func(s *swarmOf) {
		s.engines[0].setLists(task1, task2)
		s.own(0, task1)
		s.own(1, task2)
	}
	inSwarm(t, []swarm.Role{swarm.Manager, swarm.Worker}, start, func(s *swarmOf) {
		s.within(time.Second, web, "10.9.0.1 10.9.0.2")
		s.engines[1].setDown(true)
		time.Sleep(5 * time.Second)
		s.within(0, web, "10.9.0.1 10.9.0.2")
		s.engines[0].setLists(task1)
		s.within(2*time.Second, web, "10.9.0.1")
		s.engines[1].setDown(false)
		s.engines[0].setLists(task1, task2)
		s.within(2*time.Second, web, "10.9.0.1 10.9.0.2")
		s.engines[0].setDown(true) // the only manager
		s.engines[1].destroy(task2.id)
		s.within(time.Second, web, "10.9.0.1")
		time.Sleep(quietLoss)
		if st := s.watchers[1].Status().Swarm; st == nil || st.Up {
			t.Errorf("without a manager: status %+v", st)
		}
	})
}
