package e2e

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rayje/dnsdock/internal/dnstest"
)

// A swarm is three engines on one machine, each in a network namespace of its
// own, on a bridge in the first one's: 10.45.0.11 to 13.
type swarm struct {
	nodes [3]*ownEngine
	dns   [3]*process // dnsdock on each node, for the engine there; nil: it was not started
}

// newSwarm makes a swarm of managers, with two overlay networks.
func newSwarm(t *testing.T) *swarm {
	t.Helper()
	dnstest.Needs(t, "hostname", "unshare")
	s := new(swarm)
	for i := range s.nodes {
		s.nodes[i] = newOwnEngine(t)
	}
	hub := s.nodes[0].netns
	s.ip(t, "-n "+hub+" link add hub type bridge")
	s.ip(t, "-n "+hub+" addr add 10.45.0.11/24 dev hub")
	s.ip(t, "-n "+hub+" link set hub up")
	for i, e := range s.nodes {
		s.ip(t, "-n "+e.netns+" link set lo up")
		if i > 0 {
			port := fmt.Sprint("port", i)
			s.ip(t, "-n "+hub+" link add "+port+" type veth peer name eth0 netns "+e.netns)
			s.ip(t, "-n "+hub+" link set "+port+" master hub up")
			s.ip(t, fmt.Sprintf("-n %s addr add %s/24 dev eth0", e.netns, nodeAddr(i)))
			s.ip(t, "-n "+e.netns+" link set eth0 up")
		}
		e.wrapper = []string{"unshare", "--uts", "sh", "-c", `hostname "$0" && exec "$@"`, fmt.Sprint("node", i+1)}
		s.start(t, i)
	}
	last := s.nodes[2] // its engine runs until the end
	last.importApp(t)
	last.docker(t, "save", "--output="+last.dir+"/image", last.image)
	for _, e := range s.nodes[:2] {
		e.docker(t, "load", "--quiet", "--input="+last.dir+"/image")
	}
	listen := func(i int) []string {
		return []string{"--advertise-addr=" + nodeAddr(i), "--listen-addr=" + nodeAddr(i) + ":2377"}
	}
	s.docker(t, 0, append([]string{"swarm", "init", "--default-addr-pool=10.45.128.0/17",
		"--default-addr-pool-mask-length=24"}, listen(0)...)...)
	token := s.docker(t, 0, "swarm", "join-token", "--quiet", "manager")
	for i := range s.nodes[1:] {
		s.docker(t, i+1, append([]string{"swarm", "join", "--token=" + token, nodeAddr(0) + ":2377"}, listen(i+1)...)...)
	}
	for _, network := range []string{"one", "two"} {
		s.docker(t, 0, "network", "create", "--driver=overlay", "--attachable", network)
	}
	return s
}

func nodeAddr(i int) string { return fmt.Sprint("10.45.0.1", i+1) }

func (s *swarm) ip(t *testing.T, args string) {
	t.Helper()
	if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", args, err, out)
	}
}

// start starts the engine of a node.
func (s *swarm) start(t *testing.T, i int) {
	t.Helper()
	s.nodes[i].start(t, "--storage-driver=vfs", "--shutdown-timeout=1", fmt.Sprintf("--bip=10.45.3%d.1/24", i+1),
		"--default-address-pool=base=10.45.20.0/22,size=24") // docker_gwbridge is equal on all nodes
}

// docker runs the docker command on a node. A change of the swarm is tried again while
// the swarm does not know its leader yet.
func (s *swarm) docker(t *testing.T, i int, args ...string) (out string) {
	t.Helper()
	var err error
	for end := time.Now().Add(dnstest.Patience); time.Now().Before(end); {
		if out, err = s.nodes[i].try(nil, args...); err == nil {
			return out
		}
	}
	t.Fatal(err)
	return ""
}

// service makes a service of the test's image, which waits for nothing.
func (s *swarm) service(t *testing.T, name string, args ...string) {
	t.Helper()
	create := []string{"service", "create", "--detach", "--no-resolve-image", "--name=" + name,
		"--stop-grace-period=1s", "--network=one"}
	s.docker(t, 0, slices.Concat(create, args, []string{s.nodes[2].image})...)
}

// dnsdock starts dnsdock on a node, for the engines with these flags.
func (s *swarm) dnsdock(t *testing.T, i int, args ...string) {
	t.Helper()
	binary, err := built()
	if err != nil {
		t.Fatal(err)
	}
	command := []string{"--net=/run/netns/" + s.nodes[i].netns, binary, "-nameserver=",
		"-docker=unix://" + s.nodes[i].socket}
	s.dns[i] = startCommand(t, "nsenter", append(command, args...)...)
	s.dns[i].log.Wait(t, "engine found")
}

// query asks the dnsdock of a node from its host, or from a container there.
func (s *swarm) query(t *testing.T, i int, container, query string) string {
	t.Helper()
	args := append([]string{"--net=/run/netns/" + s.nodes[i].netns, "dig", "@127.0.0.1"}, strings.Fields(query)...)
	if container != "" {
		pid := s.docker(t, i, "inspect", "--format={{.State.Pid}}", container)
		args = append([]string{"--net=/proc/" + pid + "/ns/net", "dig", "@10.45.20.1"}, strings.Fields(query)...)
	}
	args = append(args, "+noall", "+comments", "+answer", "+tries=1", "+time=5")
	out, err := exec.Command("nsenter", args...).CombinedOutput()
	if err != nil {
		return err.Error()
	}
	rcode, data := parseDig(string(out))
	slices.Sort(data)
	return strings.Join(append([]string{rcode}, data...), " ")
}

// soon asks until the answer is want.
func (s *swarm) soon(t *testing.T, i int, container, query, want string) {
	t.Helper()
	got, began := "", time.Now()
	for time.Since(began) < dnstest.Patience {
		if got = s.query(t, i, container, query); got == want {
			t.Logf("node %d, %s: %s after %.1f s", i+1, query, got, time.Since(began).Seconds())
			return
		}
	}
	t.Fatalf("node %d, from %q, %s: got %q; want %q", i+1, container, query, got, want)
}

// task waits for a running task of a service on a node. It returns its
// container, its slot, and its address on a network.
func (s *swarm) task(t *testing.T, i int, service, network string) (id, slot, addr string) {
	t.Helper()
	for end := time.Now().Add(dnstest.Patience); time.Now().Before(end); {
		id = s.docker(t, i, "ps", "--quiet", "--filter=label=com.docker.swarm.service.name="+service)
		if id != "" && !strings.Contains(id, "\n") {
			format := "{{.Name}} {{(index .NetworkSettings.Networks \"" + network + "\").IPAddress}}"
			name, addr, _ := strings.Cut(s.docker(t, i, "inspect", "--format="+format, id), " ")
			return id, strings.Split(name, ".")[1], addr
		}
	}
	t.Fatalf("no task of %s on node %d: %s", service, i+1, s.docker(t, 0, "service", "ps", "--no-trunc", service))
	return "", "", ""
}

// all is the answer with an address for each node.
func (s *swarm) all(addr func(i int) string) string {
	var addrs []string
	for i := range s.nodes {
		addrs = append(addrs, addr(i))
	}
	slices.Sort(addrs)
	return "NOERROR " + strings.Join(addrs, " ")
}

// Tasks on three engines, each with a dnsdock that asks the engine of its node: names, addresses by who asks,
// labels of services, health checks, a worker, drain, and a leader that dies.
func TestSwarm(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a minute")
	}
	t.Parallel() // most of the time it waits
	s := newSwarm(t)
	for i := range s.nodes {
		s.dnsdock(t, i, "-dns=:53", "-http=")
	}
	s.service(t, "shop_web", "--replicas=3", "--replicas-max-per-node=1", "--network=two", "--publish=8080:80",
		"--label=com.docker.stack.namespace=shop", "--container-label=com.docker.stack.namespace=shop",
		"--label=com.dnsdock.alias=special.docker")
	s.service(t, "open", "--mode=global", "--publish=mode=host,published=8000,target=80")
	s.service(t, "virtual", "--replicas=2", "--label=com.dnsdock.swarm=vip")
	s.service(t, "sick", "--replicas=1", "--constraint=node.hostname==node1", "--health-cmd=test -e /ready",
		"--health-interval=1s", "--health-start-period=1h", "--mount=type=bind,source=/usr,target=/usr,readonly")
	two := make([]string, len(s.nodes))
	slots := make([]string, len(s.nodes))
	for i := range s.nodes {
		_, slots[i], two[i] = s.task(t, i, "shop_web", "two")
		s.docker(t, i, "run", "--detach", "--rm", fmt.Sprint("--name=client", i), "--network=two", s.nodes[2].image)
	}
	for i := range s.nodes {
		t.Run(fmt.Sprint("node", i+1), func(t *testing.T) { testNode(t, s, i, slots, two) })
	}
	t.Run("virtual address", func(t *testing.T) {
		s.docker(t, 0, "run", "--detach", "--rm", "--name=other", "--network=one", s.nodes[2].image)
		format := "--format={{range .Endpoint.VirtualIPs}}{{.Addr}}{{end}}"
		vip, _, _ := strings.Cut(s.docker(t, 0, "service", "inspect", format, "virtual"), "/")
		s.soon(t, 0, "other", "virtual.docker A", "NOERROR "+vip)
	})
	t.Run("global service", func(t *testing.T) { testGlobalService(t, s) })
	t.Run("health", func(t *testing.T) {
		id, _, addr := s.task(t, 0, "sick", "one")
		s.soon(t, 1, "", "sick.docker A", "NXDOMAIN")
		s.docker(t, 0, "exec", id, "touch", "/ready")
		s.soon(t, 1, "", "sick.docker A", "NOERROR "+addr)
	})
	t.Run("worker", func(t *testing.T) {
		s.docker(t, 2, "node", "demote", "node2")
		s.dns[1].signal(t, syscall.SIGHUP)                    // else it is asked within 30 s
		s.soon(t, 1, "client1", "nodes.docker A", "NXDOMAIN") // it is told by no manager now
		s.soon(t, 1, "client1", "shop_web.docker A", s.all(func(i int) string { return two[i] }))
	})
	t.Run("node drained", func(t *testing.T) {
		s.docker(t, 2, "node", "update", "--availability=drain", "node2")
		for _, i := range []int{0, 2} {
			s.soon(t, i, fmt.Sprint("client", i), slots[1]+".shop_web.docker A", "NXDOMAIN")
		}
		s.soon(t, 1, "client1", slots[1]+".shop_web.docker A", "NXDOMAIN")
	})
	t.Run("leader killed", func(t *testing.T) { testLeaderKilled(t, s) })
}

// testNode asks the dnsdock of a node for tasks on all nodes.
func testNode(t *testing.T, s *swarm, i int, slots, two []string) {
	client := fmt.Sprint("client", i)
	onTwo, onNodes := s.all(func(i int) string { return two[i] }), s.all(nodeAddr)
	for _, name := range []string{"shop_web.docker", "web.shop.docker", "tasks.web.shop.docker", "special.docker"} {
		s.soon(t, i, client, name+" A", onTwo)
		s.soon(t, i, "", name+" A", onNodes) // by the port that is published
	}
	for other, slot := range slots {
		s.soon(t, i, client, slot+".web.shop.docker A", "NOERROR "+two[other])
		s.soon(t, i, "", slot+".web.shop.docker A", "NOERROR "+nodeAddr(other))
		s.soon(t, i, "", fmt.Sprintf("node%d.nodes.docker A", other+1), "NOERROR "+nodeAddr(other))
	}
	s.soon(t, i, client, "7.web.shop.docker A", "NXDOMAIN")
	s.soon(t, i, client, "open.docker A", onNodes) // it is on another overlay
	s.soon(t, i, "", "nodes.docker A", onNodes)
	s.soon(t, i, "", fmt.Sprintf("node%d.open.docker A", i+1), "NOERROR "+nodeAddr(i))
	for name, port := range map[string]string{"_80._tcp.open.docker": "8000", "_80._tcp.shop_web.docker": "8080"} {
		if got := s.query(t, i, "", name+" SRV"); strings.Count(got, " 1 "+port+" ") != 3 {
			t.Errorf("%s SRV from outside: got %q; want port %s of 3 tasks", name, got, port)
		}
	}
	if got := s.query(t, i, client, "_80._tcp.shop_web.docker SRV"); strings.Count(got, " 1 80 ") != 3 {
		t.Errorf("SRV from inside: got %q; want port 80 of 3 tasks", got)
	}
}

// testLeaderKilled kills the leader's engine, without which the only other manager has no
// quorum: what is known stays, also by a dnsdock that starts then, until the engine is back.
func testLeaderKilled(t *testing.T, s *swarm) {
	_, slot, _ := s.task(t, 2, "shop_web", "one")
	id, _, two := s.task(t, 2, "shop_web", "two")
	s.nodes[0].stop(t, "KILL")
	for range 20 {
		if got := s.query(t, 2, "client2", slot+".shop_web.docker A"); got != "NOERROR "+two {
			t.Errorf("without the leader: got %q; want %s", got, two)
		}
	}
	s.dnsdock(t, 2, "-dns=:5301", "-http=")
	s.soon(t, 2, "client2", "-p 5301 "+slot+".shop_web.docker A", "NOERROR "+two)
	s.docker(t, 2, "kill", id)
	for _, port := range []string{"53", "5301"} {
		s.soon(t, 2, "client2", "-p "+port+" "+slot+".shop_web.docker A", "NXDOMAIN")
	}
	s.start(t, 0)
	s.soon(t, 2, "", "-p 5301 nodes.docker A", s.all(nodeAddr))
	_, slot, _ = s.task(t, 2, "shop_web", "one")
	_, _, two = s.task(t, 2, "shop_web", "two")
	s.soon(t, 2, "client2", "-p 5301 "+slot+".shop_web.docker A", "NOERROR "+two)
}

// testGlobalService starts dnsdock as the manual says, but on one node, and on a port of its own.
func testGlobalService(t *testing.T, s *swarm) {
	image := "dnsdock-test-" + random() + "/dnsdock:1"
	s.nodes[2].importImage(t, image, "dnsdock", goBuild(t, s.nodes[2].arch, program))
	s.docker(t, 0, "service", "create", "--detach", "--no-resolve-image", "--name=dnsdock", "--mode=global",
		"--constraint=node.hostname==node3", "--network=host",
		"--mount=type=bind,source="+s.nodes[2].dir+",target=/var/run,readonly", image, "-dns=10.45.20.1:5300", "-http=")
	defer s.docker(t, 1, "service", "rm", "dnsdock")
	s.soon(t, 2, "client2", "-p 5300 node3.nodes.docker A", "NOERROR "+nodeAddr(2))
}
