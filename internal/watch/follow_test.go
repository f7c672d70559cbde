package watch

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rayje/dnsdock/internal/publish"
)

// A container without a network of its own is answered with the addresses of
// the one whose network it shares, whatever becomes of that.
func TestFollows(t *testing.T) {
	inBubble(t, publish.NameRules{}, true, func(w *watched) {
		e := w.engine
		at := func(prefix, name, mode, label string) {
			c := &fakeContainer{name: name, image: "app", state: "running", shares: mode}
			if label != "" {
				c.labels = map[string]string{"com.dnsdock.ip_addr": label}
			}
			e.set(prefix, c)
			e.event("start", fakeID(prefix))
		}
		at("b1", "sidecar", fakeID("aa"), "")
		at("b2", "second", fakeID("b1"), "") // a chain
		at("b3", "site", "", "container:proxy")
		at("b4", "blog", "", "192.0.2.9,container:site")
		w.want("sidecar.app.docker", "")
		w.want("site.app.docker", "") // and not its own, which nobody is to use
		w.want("blog.app.docker", "192.0.2.9")
		e.start("aa", "main", "10.0.0.1", "DNSDOCK_IGNORE=") // its addresses are there all the same
		w.want("sidecar.app.docker", "10.0.0.1")
		w.want("second.app.docker", "10.0.0.1")
		e.setState("aa", "exited")
		e.event("die", fakeID("aa"))
		w.want("sidecar.app.docker", "")
		w.want("second.app.docker", "")
		e.start("aa", "main", "10.0.0.2", "DNSDOCK_IGNORE=")
		w.want("second.app.docker", "10.0.0.2")
		e.destroy("aa")
		w.want("sidecar.app.docker", "")

		e.start("cc", "proxy", "10.0.0.3")
		w.want("site.app.docker", "10.0.0.3")
		w.want("blog.app.docker", "10.0.0.3 192.0.2.9")
		e.start("cc", "proxy", "10.0.0.4", "DNSDOCK_IPADDRESS=192.0.2.4")
		e.setState("cc", "paused") // the variables of a container do not change, so nobody looks
		e.event("pause", fakeID("cc"))
		w.want("site.app.docker", "")
		e.setState("cc", "running")
		e.event("unpause", fakeID("cc"))
		w.want("site.app.docker", "192.0.2.4")
		e.start("cc", "other", "10.0.0.4")
		w.want("site.app.docker", "")
		e.start("dd", "proxy", "10.0.0.6")
		w.want("site.app.docker", "10.0.0.6")
		w.want("blog.app.docker", "10.0.0.6 192.0.2.9")
		e.update(func() { e.quiet = true })
		e.start("dd", "proxy", "10.0.0.7") // is found by a list
		w.wantWithin(time.Minute, "site.app.docker", "10.0.0.7")
		e.update(func() { e.quiet = false })

		e.set("dd", &fakeContainer{name: "proxy", image: "app", state: "running", host: true})
		e.event("start", fakeID("dd"))
		w.want("site.app.docker", "host")
	})
}

// A follower that saw the other while that did not run gets its addresses
// back, though nobody else saw it stop.
func TestFollowsRestart(t *testing.T) {
	inBubble(t, publish.NameRules{}, true, func(w *watched) {
		e := w.engine
		e.start("aa", "main", "10.0.0.1")
		e.set("bb", &fakeContainer{name: "sidecar", image: "app", state: "running", shares: fakeID("aa")})
		e.event("start", fakeID("bb"))
		w.want("sidecar.app.docker", "10.0.0.1")
		e.setState("aa", "exited") // and is still to be inspected
		e.event("start", fakeID("bb"))
		w.want("sidecar.app.docker", "")
		e.start("aa", "main", "10.0.0.1") // as it was
		w.want("sidecar.app.docker", "10.0.0.1")
	})
}

// What leads back to itself, or on and on, comes to an end.
func TestFollowsInCircles(t *testing.T) {
	inBubble(t, publish.NameRules{}, true, func(w *watched) {
		e := w.engine
		set := func(prefix, name, mode, label string) {
			e.set(prefix, &fakeContainer{name: name, image: "app", state: "running", shares: mode, labels: map[string]string{"com.dnsdock.ip_addr": label}})
			e.event("start", fakeID(prefix))
		}
		set("a1", "self", "", "container:self")
		set("a2", "ping", "", "container:pong, 10.0.0.2")
		set("a3", "pong", "", "container:ping, 10.0.0.3")
		set("a4", "shared", fakeID("a5"), "")
		set("a5", "back", fakeID("a4"), "")
		for i := range 40 {
			set(fmt.Sprintf("b%02d", i), fmt.Sprintf("chain%d", i), "", fmt.Sprintf("container:chain%d", i+1))
		}
		var refs []string
		for i := range 3000 {
			refs = append(refs, fmt.Sprintf("container:nosuch%d", i))
		}
		set("cc", "many", "", strings.Join(refs, ","))
		w.want("self.app.docker", "")
		w.want("ping.app.docker", "10.0.0.2 10.0.0.3")
		w.want("pong.app.docker", "10.0.0.2 10.0.0.3")
		w.want("shared.app.docker", "")
		w.want("chain0.app.docker", "")
		e.start("dd", "last", "10.0.0.4")
		w.want("last.redis.docker", "10.0.0.4")
		w.wantNoInspects()
	})
}

func TestHealth(t *testing.T) {
	inBubble(t, publish.NameRules{Health: true}, true, func(w *watched) {
		e := w.engine
		set := func(prefix, name, addr string, sick bool) {
			e.set(prefix, &fakeContainer{name: name, image: "web", state: "running", addr: addr, sick: sick})
		}
		set("aa", "a", "10.0.0.1", false)
		set("bb", "b", "10.0.0.2", false)
		e.event("start", fakeID("aa"))
		e.event("start", fakeID("bb"))
		w.want("web.docker", "10.0.0.1 10.0.0.2")
		set("bb", "b", "10.0.0.2", true)
		e.event("health_status: unhealthy", fakeID("bb"))
		w.want("web.docker", "10.0.0.1")
		w.want("b.web.docker", "10.0.0.2")
		set("aa", "a", "10.0.0.1", true)
		w.wantWithin(time.Minute, "web.docker", "10.0.0.1 10.0.0.2") // by a list
		set("bb", "b", "10.0.0.2", false)
		e.event("health_status", fakeID("bb")) // podman's
		w.want("web.docker", "10.0.0.2")
		w.wantNoInspects()
	})
}

// Which networks are internal is asked for where that is allowed; where it is
// refused the rest goes on, and the log says so once.
func TestInternalNetworks(t *testing.T) {
	for _, refused := range []bool{false, true} {
		inBubble(t, publish.NameRules{}, true, func(w *watched) {
			e := w.engine
			if !refused {
				e.internal = []string{"in", "pod"}
			}
			for i, name := range []string{"a", "b"} {
				networks := map[string]fakeEndpoint{
					"out": {addrs: fmt.Sprintf("10.0.0.%d", i)},
					"in":  {"id-in", fmt.Sprintf("10.0.1.%d", i)},
					"pod": {"pod", fmt.Sprintf("10.0.2.%d", i)}, // podman's ID is the name
				}
				e.set("a"+name, &fakeContainer{
					name: name, image: "x", state: "running", addr: "10.0.3.1", networks: networks,
				})
				e.event("start", fakeID("a"+name))
			}
			want := "10.0.0.0 10.0.3.1"
			if refused {
				want = "10.0.0.0 10.0.1.0 10.0.2.0 10.0.3.1"
			}
			w.want("a.x.docker", want)
			if got := w.logged("internal networks can't be told"); refused && got != 1 || !refused && got != 0 {
				t.Errorf("refused %t: the log says %d times that internal networks can't be told", refused, got)
			}
		})
	}
}

// Addresses on the network of Swarm's routing mesh are answered to nobody. It is
// known by its name if the engine does not tell.
func TestIngressNetwork(t *testing.T) {
	for _, refused := range []bool{false, true} {
		inBubble(t, publish.NameRules{}, true, func(w *watched) {
			e := w.engine
			name := "ingress"
			if !refused {
				e.internal, name = []string{"in"}, "mesh"
			}
			networks := map[string]fakeEndpoint{name: {"id-" + name, "10.0.1.3"}, "front": {"id-front", "10.0.2.3"}}
			e.set("aa", &fakeContainer{name: "a", image: "x", state: "running", addr: "10.0.3.1", networks: networks})
			e.event("start", fakeID("aa"))
			w.want("a.x.docker", "10.0.2.3 10.0.3.1")
		})
	}
}

// The gateway of a network that a router serves is not the host.
func TestRoutedNetwork(t *testing.T) {
	e := newFakeEngine()
	e.internal = []string{}
	c := &Container{Container: &publish.Container{}, NetworkIDs: map[string]string{"lan": "id-lan", "front": "id-front"}}
	for _, name := range []string{"lan", "front"} {
		n := publish.Network{Name: name, V4: publish.IPNet{Gateway: netip.MustParseAddr("10.0.1.1")}}
		c.Networks = append(c.Networks, publish.Endpoint{Network: n, Addrs: []netip.Addr{netip.MustParseAddr("10.0.1.2")}})
	}
	var n networks
	if _, err := n.mark(t.Context(), e, c); err != nil {
		t.Fatal(err)
	}
	for _, e := range c.Networks {
		if got := len(e.HostAddrs()) > 0; got != (e.Name == "front") {
			t.Errorf("%s: the host is known to be the gateway: %t", e.Name, got)
		}
	}
}
