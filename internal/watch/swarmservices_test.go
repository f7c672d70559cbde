package watch

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/swarm"
)

// Labels of a service count as its containers' do, and are below these.
func TestServiceLabels(t *testing.T) {
	labels := func(text string) func(*swarmOf) {
		return func(s *swarmOf) {
			named := task2
			named.more = `,"Labels":{"com.dnsdock.image":"mine"}`
			s.engines[0].setLists(task1, named)
			s.engines[0].swarm.lists[Services] = []string{service("s", `,"Labels":{`+text+`}`)}
			s.own(0, task1)
		}
	}
	inSwarm(t, []swarm.Role{swarm.Manager}, labels(`"com.dnsdock.image":"theirs"`), func(s *swarmOf) {
		s.within(time.Second, "theirs.docker", "10.9.0.1")
		s.within(time.Second, "mine.docker", "10.9.0.2")
	})
	inSwarm(t, []swarm.Role{swarm.Manager}, labels(`"com.dnsdock.ignore":""`), func(s *swarmOf) {
		time.Sleep(2 * time.Second)
		s.within(0, "docker", "")
	})
}

// A job ends by itself: its containers are ordinary ones, and have no names of the swarm.
func TestJobs(t *testing.T) {
	start := func(s *swarmOf) {
		s.engines[0].setLists()
		s.engines[0].swarm.lists[Services] = []string{service("s", `,"Mode":{"ReplicatedJob":{}}`)}
		s.own(0, task1)
	}
	inSwarm(t, []swarm.Role{swarm.Manager}, start, func(s *swarmOf) {
		time.Sleep(5 * time.Second)
		s.within(0, web, "10.9.0.1")
		if p := s.sink.service("aa"); p == nil || p.Origin.Task != nil || len(p.SecondNames) > 0 {
			t.Errorf("got %+v", p)
		}
	})
}

// Clients outside get the address of the node, if the task publishes a port.
func TestNodeAddresses(t *testing.T) {
	start := func(s *swarmOf) {
		s.engines[0].setLists(task1, task2)
		s.engines[0].swarm.lists[Services] = []string{`{"ID":"s","Spec":{"Name":"web"},"Endpoint":{"Ports":[
			{"Protocol":"tcp","TargetPort":80,"PublishedPort":8080,"PublishMode":"ingress"}]}}`}
		s.own(0, task1)
	}
	inSwarm(t, []swarm.Role{swarm.Manager}, start, func(s *swarmOf) {
		s.within(time.Second, web, "192.0.2.1 192.0.2.2")
		svc, port := s.sink.service("bb"), publish.Port{Number: 80, Proto: "tcp"}
		inside, outside := netip.MustParseAddr("10.9.0.9"), netip.MustParseAddr("203.0.113.1")
		addrs, near := svc.AddrsFor(inside)
		if !near || addrs[0].String() != "10.9.0.2" || svc.NumbersFor(port, inside)[0] != 80 ||
			svc.NumbersFor(port, outside)[0] != 8080 {
			t.Errorf("got %+v", svc)
		}
	})
}

// Names and labels of any size are taken, or are problems that are logged once.
func TestLargeServices(t *testing.T) {
	long := strings.Repeat("x", 63)
	start := func(s *swarmOf) {
		s.engines[0].setLists(task2, task3)
		s.engines[0].swarm.lists[Services] = []string{fmt.Sprintf(
			`{"ID":"s","Spec":{"Name":%q,"Labels":{"com.dnsdock.txt":%q,"com.dnsdock.swarm":"yes"}}}`,
			long, strings.Repeat("y", 1<<20))}
	}
	inSwarm(t, []swarm.Role{swarm.Manager}, start, func(s *swarmOf) {
		time.Sleep(time.Minute)
		s.within(0, web, "10.9.0.2 10.9.0.3")
		if svc := s.sink.service("bb"); !slices.Contains(dnsname.Texts(svc.SecondNames), long+".docker") {
			t.Errorf("second names %v", svc.SecondNames)
		}
		for _, about := range []string{"source=com.dnsdock.txt", "source=com.dnsdock.swarm"} {
			if n := strings.Count(s.log.String(), about); n != 1 {
				t.Errorf("%s is logged %d times", about, n)
			}
		}
	})
}

// What a label sets in place of a task's addresses is of its node, or of its own engine only.
func TestAddressesOfLabels(t *testing.T) {
	labelled := func(value string) func(*swarmOf) {
		return func(s *swarmOf) {
			task := task2
			task.more = fmt.Sprintf(`,"Labels":{"com.dnsdock.ip_addr":%q}`, value)
			s.engines[0].setLists(task)
			s.watchers[0].Naming.Host = []netip.Addr{netip.MustParseAddr("203.0.113.9")}
		}
	}
	for value, want := range map[string]string{
		"host": "192.0.2.2", "198.51.100.7": "198.51.100.7", "container:db": "",
		"host,198.51.100.7": "192.0.2.2 198.51.100.7",
	} {
		inSwarm(t, []swarm.Role{swarm.Manager}, labelled(value), func(s *swarmOf) {
			time.Sleep(2 * time.Second)
			s.within(0, web, want)
			if n := strings.Count(s.log.String(), "source=ip_addr value=container:db"); (n == 1) != (want == "") {
				t.Errorf("%s: a problem is logged %d times", value, n)
			}
		})
	}
}

// A task of a service that managers do not list is no reason to ask for services with each poll.
func TestGap(t *testing.T) {
	start := func(s *swarmOf) {
		lost := task3
		lost.service = "none"
		s.engines[0].setLists(task2, lost)
	}
	inSwarm(t, []swarm.Role{swarm.Manager}, start, func(s *swarmOf) {
		time.Sleep(2 * time.Minute)
		s.within(0, web, "10.9.0.2")
		if n := s.engines[0].count("SwarmList services"); n > 10 {
			t.Errorf("services are asked for %d times in two minutes", n)
		}
	})
}

// A swarm gives an address again while the task that had it is still stopping, and says what it said
// before under an older version: only who is to run counts.
func TestAddressGivenAgain(t *testing.T) {
	again := task3
	again.addr = task2.addr
	start := func(s *swarmOf) { s.engines[0].setLists(task2, again) }
	inSwarm(t, []swarm.Role{swarm.Manager}, start, func(s *swarmOf) {
		s.within(time.Second, web, task2.addr)
		stopping := task2
		stopping.desired = "shutdown"
		s.engines[0].setLists(stopping, again)
		time.Sleep(2 * time.Second)
		s.within(0, web, task2.addr)
		if s.sink.service(task2.id) != nil || s.sink.service(again.id) == nil {
			t.Error("the task that stops is answered, or the one that runs is not")
		}
		s.engines[0].setLists(task2, again)
		time.Sleep(2 * time.Second)
		if s.sink.service(task2.id) == nil {
			t.Error("what managers say again is not believed")
		}
	})
}

// An event stream that ends is opened again, and one that is silent is no loss: managers are polled.
func TestSwarmsWithoutEvents(t *testing.T) {
	start := func(s *swarmOf) { s.engines[0].setLists(task2) }
	inSwarm(t, []swarm.Role{swarm.Manager}, start, func(s *swarmOf) {
		e := s.engines[0]
		e.update(func() { e.quiet = true })
		s.within(time.Second, web, "10.9.0.2")
		for _, lists := range [][]fakeTask{{task2, task3}, {task3}, {task2, task3}} {
			e.endStreams()
			e.setLists(lists...)
			want := "10.9.0.2 10.9.0.3"
			if len(lists) == 1 {
				want = "10.9.0.3"
			}
			s.within(3*time.Second, web, want)
		}
	})
}
