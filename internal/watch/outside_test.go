package watch

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/rayje/dnsdock/internal/publish"
)

// The host of an engine elsewhere is that machine, and not the one that the
// client asked. A proxy in a container of the engine, and its host as dnsdock in
// a container sees it, are not elsewhere.
func TestHostOfAnEngineElsewhere(t *testing.T) {
	addrs := []netip.Addr{{}, netip.MustParseAddr("10.0.0.1")}
	bound := []publish.Binding{newBinding("0.0.0.0", 80, 8080), newBinding("::", 80, 8080)}
	f := func(machine, self string, refused bool, ours []netip.Addr, want string) {
		t.Helper()
		e := newFakeEngine()
		if machine != "" {
			e.machine = netip.MustParseAddr(machine)
		}
		if !refused {
			e.internal = []string{}
		}
		w := &Watcher{Config: Config{Naming: publish.NameRules{Host: ours}, Self: self}, engine: e}
		c := &Container{Container: new(publish.Container), Bindings: bound}
		if _, err := w.networks.mark(t.Context(), e, c); err != nil {
			t.Fatal(err)
		}
		got := publish.AddrTexts(w.replaceHost(addrs, w.machine()))
		if got[0] != want || got[1] != "10.0.0.1" || addrs[0].IsValid() {
			t.Errorf("engine at %q, -host-address %v: got %v; want %s", machine, ours, got, want)
		}
		o := w.outside(c)
		if isElsewhere := want != "host" || ours != nil; (o != nil) != isElsewhere ||
			isElsewhere && (o.Addrs[0].String() != machine || len(o.Ports) != 1) {
			t.Errorf("engine at %q: outside: got %+v", machine, o)
		}
	}
	f("", "", false, nil, "host")
	f("203.0.113.5", "", false, nil, "203.0.113.5")
	f("2001:db8::5", "", false, nil, "2001:db8::5")
	f("203.0.113.5", "", true, nil, "203.0.113.5")
	f("203.0.113.5", "self", true, nil, "host")                                         // may be a proxy: nobody says
	f("172.17.0.1", "self", false, nil, "host")                                         // the gateway
	f("172.17.0.9", "", false, nil, "host")                                             // a proxy
	f("203.0.113.5", "", false, []netip.Addr{netip.MustParseAddr("192.0.2.1")}, "host") // left to the flag
}

func newBinding(addr string, number, published uint16) publish.Binding {
	return publish.Binding{Addr: netip.MustParseAddr(addr), PublishedPort: publish.PublishedPort{
		Number: number, Proto: "tcp", Published: published,
	}}
}

// With -published, clients outside get the host for what publishes ports, of
// which those that are bound to one address only count where it is answered.
func TestPublished(t *testing.T) {
	six := netip.MustParseAddr("2001:db8::5")
	lan, loopback := netip.MustParseAddr("192.168.1.5"), netip.MustParseAddr("127.0.0.1")
	port := func(number, published uint16) publish.PublishedPort {
		return newBinding("::", number, published).PublishedPort
	}
	bound := func(list ...publish.Binding) []publish.Binding { return list }
	for _, c := range []struct {
		name     string
		host     []netip.Addr
		bindings []publish.Binding
		want     *publish.Outside
	}{
		{"nothing is published", nil, nil, nil},
		{"the address that was asked", nil, bound(newBinding("0.0.0.0", 80, 8080)),
			&publish.Outside{Addrs: []netip.Addr{{}}, Ports: []publish.PublishedPort{port(80, 8080)}}},
		{"the flag", []netip.Addr{lan}, bound(newBinding("0.0.0.0", 80, 8080), newBinding("::", 80, 8080)),
			&publish.Outside{Addrs: []netip.Addr{lan}, Ports: []publish.PublishedPort{port(80, 8080)}}},
		{"another port for IPv6", []netip.Addr{lan}, bound(newBinding("::", 80, 8081), newBinding("0.0.0.0", 80, 8080)),
			&publish.Outside{Addrs: []netip.Addr{lan}, Ports: []publish.PublishedPort{port(80, 8080)}}},
		{"an IPv6 host", []netip.Addr{six}, bound(newBinding("::", 80, 8081), newBinding("0.0.0.0", 80, 8080)),
			&publish.Outside{Addrs: []netip.Addr{six}, Ports: []publish.PublishedPort{port(80, 8081)}}},
		{"only on the loopback interface", []netip.Addr{lan}, bound(newBinding("127.0.0.1", 80, 8080)), nil},
		{"Docker Desktop", []netip.Addr{loopback}, bound(newBinding("127.0.0.1", 80, 8080)),
			&publish.Outside{Addrs: []netip.Addr{loopback}, Ports: []publish.PublishedPort{port(80, 8080)}}},
		{"only on another address", nil, bound(newBinding("192.168.1.5", 443, 443), newBinding("127.0.0.1", 80, 8080)),
			&publish.Outside{Addrs: []netip.Addr{lan}, Ports: []publish.PublishedPort{port(443, 443)}}},
	} {
		w := &Watcher{
			Config: Config{Published: true, Naming: publish.NameRules{Host: c.host}}, engine: newFakeEngine(),
		}
		got := w.outside(&Container{Container: new(publish.Container), Bindings: c.bindings})
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v; want %+v", c.name, got, c.want)
		}
	}
}
