package dnsserver

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/listener"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/stats"
	"github.com/rayje/dnsdock/internal/zone"
	"github.com/rayje/dnsdock/internal/zonetest"
)

// A rig is a server with all that is behind it.
type rig struct {
	*Server
	zone *zone.Resolver
	ix   *zonetest.Index
}

// A bugHandler is for a log in which there must be no error: that would be a
// bug that is answered with SERVFAIL, which a test might not see.
type bugHandler struct{ slog.Handler }

func (bugHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelError }

func (bugHandler) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool { panic(a) })
	return nil
}

// newRig returns a server for ix, without upstreams.
func newRig(t testing.TB, ix *zonetest.Index) rig {
	log := slog.New(bugHandler{slog.DiscardHandler})
	return rigWith(t, ix, forward.New(nil, nil, 0, log))
}

func rigWith(t testing.TB, ix *zonetest.Index, fwd *forward.Forwarder) rig {
	log := slog.New(bugHandler{slog.DiscardHandler})
	z := zone.New(t.Context(), ix.Index, fwd, log)
	return rig{New(t.Context(), z, ix.Index, fwd, new(stats.Traffic), log), z, ix}
}

// everyKind returns a server of names of all kinds.
func everyKind(t testing.TB) rig {
	t.Helper()
	var many, more []string
	for i := range 100 {
		many = append(many, fmt.Sprintf("10.1.0.%d fd00::%x", i, i))
	}
	for i := range 512 {
		more = append(more, fmt.Sprintf("10.2.%d.%d", i/256, i%256))
	}
	ix := zonetest.New(t, "docker", 60,
		zonetest.Pub{Name: "web", Image: "nginx", TTL: 30, Addrs: "172.17.0.2 fd00::2",
			Aliases: "shop.example.com com"},
		zonetest.Pub{Name: "many", Image: "redis", TTL: 30, Addrs: strings.Join(many, " "),
			Aliases: "a\\.\\000b.docker"},
		zonetest.Pub{Name: "more", Image: "than", TTL: publish.DefaultTTL, Addrs: strings.Join(more, " ")},
		zonetest.Pub{Name: "only4", Image: "nginx", TTL: publish.DefaultTTL, Addrs: "172.17.0.3",
			Aliases: "www.shop.example.com"},
		zonetest.Pub{Name: "a", Image: "b", TTL: 7, Addrs: "172.17.0.4",
			Aliases: "b.docker"}, // a.b.docker is answered from two
	)
	ix.Publish(t,
		`{"name":"srv","image":"nginx","ip":"10.2.0.1","ports":["80/tcp=http","53/udp"],"txt":["a","b"]}`,
		`{"name":"srv2","image":"nginx","ip":"10.2.0.2","ports":["80/tcp=http"]}`,
		`{"name":"front","image":"nginx","cname":"srv.nginx.docker"}`,
		`{"name":"loop","image":"loop","cname":"x.loop.docker"}`)
	ix.Rules.Second.Compose, ix.Rules.Health = true, true
	ix.PutContainers(t, containersOfEveryKind()...)
	ix.SetGuests("engine", map[netip.Addr][]netip.Addr{
		guest: {guest, netip.MustParseAddr("10.8.1.10"), netip.MustParseAddr("10.8.2.10")},
	})
	return newRig(t, ix)
}

// containersOfEveryKind are on one network, on several, on that of the host, sick, and of Compose.
func containersOfEveryKind() []publish.Container {
	on := func(list ...publish.Endpoint) []publish.Endpoint { return list }
	at := zonetest.Endpoint
	port := []publish.Port{{Number: 80, Proto: "tcp"}}
	compose := func(project, number string) map[string]string {
		return map[string]string{
			"com.docker.compose.project": project, "com.docker.compose.service": "web", "com.docker.compose.container-number": number,
		}
	}
	return []publish.Container{
		{Name: "both", Image: "nets", Networks: on(at("a", "10.8.1.2/24 fd00:8:1::2/64"), at("b", "10.8.2.2/24"))},
		{Name: "inside", Image: "nets2", Networks: on(at("!i", "10.8.3.2/24")), Exposed: port},
		{Name: "one", Image: "sides", Networks: on(at("a", "10.8.1.3/24")), Exposed: port},
		{Name: "two", Image: "sides", Networks: on(at("b", "10.8.2.3/24")), Exposed: port},
		{Name: "out", Image: "sides", Networks: on(at("b", "10.8.2.4/24")), Exposed: port,
			Placed: publish.Placed{Outside: &publish.Outside{
				Addrs: []netip.Addr{netip.MustParseAddr("192.168.1.5")},
				Ports: []publish.PublishedPort{{Number: 80, Proto: "tcp", Published: 8080}}}}},
		{Name: "h", Image: "host", Networks: on(publish.HostNetwork())},
		{Name: "well", Image: "health", Networks: on(at("a", "10.8.1.4/24"))},
		{Name: "sick", Image: "health", Sick: true, Networks: on(at("a", "10.8.1.5/24 fd00:8:1::5/64"))},
		{Name: "web1", Image: "c", Networks: on(at("a", "10.8.1.6/24")), Labels: compose("nets", "1")},
		{Name: "web2", Image: "c", Networks: on(at("a", "10.8.1.7/24")), Labels: compose("shop", "1")},
		{Name: "web3", Image: "c", Networks: on(at("b", "10.8.2.7/24")), Labels: compose("shop", "2")},
	}
}

// guest is a client on two networks of everyKind, whose queries come from a third one.
var guest = netip.MustParseAddr("172.18.0.3")

// nearby are clients on and off the networks of everyKind.
func nearby() (list []zone.Client) {
	for _, text := range []string{"192.0.2.1", "10.8.1.9", "fd00:8:1::9", "10.8.2.9", "10.8.3.9", "10.8.1.1", guest.String()} {
		for _, local := range []string{"10.8.1.1", "127.0.0.1"} {
			list = append(list, zone.Client{Addr: netip.MustParseAddr(text), Local: netip.MustParseAddr(local)})
		}
	}
	return list
}

// taskOf returns a packet as a task; not ok if it is no query.
func (r rig) taskOf(packet []byte, from zone.Client, limit int) (t *task, ok bool) {
	packet, _ = dnswire.SanitizeQuery(bytes.Clone(packet))
	t = &task{Server: r.Server, from: from, over: stats.TCP, begun: time.Now()}
	t.query, ok = new(reader).read(packet, limit)
	t.from.Size = t.size
	return t, ok
}

// decided is the reply that is decided for a packet, and not kept; nil if
// upstreams have to be asked.
func (r rig) decided(packet []byte, from zone.Client, limit int) []byte {
	r.Server = &Server{authority: r.authority, changes: r.changes, fwd: r.fwd, traffic: r.traffic, log: r.log,
		ctx: r.ctx, answers: newAnswerCache()}
	return r.ask(packet, from, limit)
}

// ask has a packet answered as a server does that finds no kept answer: the
// answer is kept.
func (r rig) ask(packet []byte, from zone.Client, limit int) []byte {
	t, ok := r.taskOf(packet, from, limit)
	switch {
	case !ok:
		return nil
	case t.version != 0:
		return t.writeBadVersion(nil)
	}
	a := t.decide()
	if a.IsOpen() {
		return nil
	}
	return t.write(a, nil)
}

// packed is the reply to req in at most size bytes.
func packed(r rig, req *dns.Msg, local netip.Addr, size int) (*dns.Msg, []byte, error) {
	b, err := req.Pack()
	if err != nil {
		return nil, nil, err
	}
	t, _ := r.taskOf(b, zone.Client{Addr: localhost.Addr, Local: local}, dns.MaxMsgSize)
	t.size, t.from.Size = size, size
	b = t.write(t.decide(), nil)
	m := new(dns.Msg)
	return m, b, m.Unpack(b)
}

// reply is the whole reply to req.
func reply(r rig, req *dns.Msg, local netip.Addr, size int) *dns.Msg {
	m, _, err := packed(r, req, local, size)
	if err != nil {
		panic(err)
	}
	return m
}

// replayed is the reply to a packet from what is kept; nil if nothing fits.
func (r rig) replayed(packet []byte, from zone.Client, limit int) []byte {
	return r.newReplayer(r.traffic.Shared(stats.TCP)).answer(packet, clientSource(from), limit, nil)
}

// checkReplay holds what is replayed to a packet against what is decided, and
// reports whether it is replayed.
func (r rig) checkReplay(t testing.TB, packet []byte, from zone.Client, limit int) bool {
	t.Helper()
	before := bytes.Clone(packet)
	got := r.replayed(packet, from, limit)
	if !bytes.Equal(packet, before) {
		t.Fatalf("the query %x became %x", before, packet)
	}
	if got == nil {
		return false
	}
	want := r.decided(packet, from, limit)
	if want == nil {
		t.Fatalf("%x is answered by %x; want it to be left to the zone", packet, got)
	}
	gotHead, gotParts := parts(t, got)
	wantHead, wantParts := parts(t, want)
	if gotHead != wantHead {
		t.Fatalf("%x from %v:\ngot  %s\nwant %s", packet, from.Addr, gotHead, wantHead)
	}
	truncated := got[2]&0x02 != 0
	_, whole := parts(t, r.decided(packet, from, dns.MaxMsgSize))
	for i := range gotParts {
		if len(wantParts[i]) < len(whole[i]) && i == 2 {
			continue // which addresses are left out depends on the order of the others
		}
		if len(gotParts[i]) != len(wantParts[i]) || !truncated && !slices.Equal(gotParts[i], wantParts[i]) {
			t.Fatalf("%x from %v, section %d:\ngot  %.500s\nwant %.500s", packet, from.Addr, i, gotParts[i],
				wantParts[i])
		}
	}
	if len(got) > limit {
		t.Fatalf("%x: %d bytes; want at most %d", packet, len(got), limit)
	}
	return true
}

// parts is a reply as it may be compared with another: records without their
// order, and names without their case but for that of the question.
func parts(t testing.TB, b []byte) (header string, sections [3][]string) {
	t.Helper()
	m := new(dns.Msg)
	if err := m.Unpack(b); err != nil {
		t.Fatalf("%x can't be read: %v", b, err)
	}
	for i, rrs := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range rrs {
			sections[i] = append(sections[i], strings.ToLower(rr.String()))
		}
		slices.Sort(sections[i])
	}
	return fmt.Sprintf("%+v %v", m.MsgHdr, m.Question), sections
}

func pub(name, image string, ttl int, addrs, aliases string) zonetest.Pub {
	return zonetest.Pub{Name: name, Image: image, TTL: ttl, Addrs: addrs, Aliases: aliases}
}

// forwarding returns a server of an empty index with upstreams.
func forwarding(t testing.TB, timeout time.Duration, upstreams ...netip.AddrPort) rig {
	t.Helper()
	var servers []forward.Server
	for _, a := range upstreams {
		servers = append(servers, forward.Server{Addr: a})
	}
	fwd := forward.New(forward.Routes{dnsname.Root: servers}, nil, 1<<20, slog.New(slog.DiscardHandler))
	if err := fwd.Load(); err != nil {
		t.Fatal(err)
	}
	fwd.Timeout = timeout
	return rigWith(t, zonetest.New(t, "docker", 5), fwd)
}

// serveZone serves r over UDP and TCP on addr, which ends in port 0, until
// the test ends; it returns the port.
func serveZone(t testing.TB, r rig, addr string) (port string) {
	t.Helper()
	socks, err := listener.Open(nil, []string{addr}, "")
	if err != nil {
		t.Skipf("no address %s here: %v", addr, err)
	}
	var wg sync.WaitGroup
	serve := func(serve func() error, stop func(context.Context) error) {
		wg.Go(func() {
			if err := serve(); err != nil {
				t.Errorf("server on %s: %v", addr, err)
			}
		})
		t.Cleanup(func() {
			if err := stop(context.Background()); err != nil {
				t.Errorf("shutdown on %s: %v", addr, err)
			}
		})
	}
	t.Cleanup(wg.Wait) // runs after the shutdowns
	for _, conn := range socks.UDP {
		srv := r.UDP(conn)
		serve(srv.Serve, srv.Shutdown)
	}
	ln := socks.TCP[0]
	srv := r.TCP(ln)
	serve(srv.Serve, srv.Shutdown)
	_, port, err = net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
