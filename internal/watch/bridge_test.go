package watch

import (
	"net/netip"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rayje/dnsdock/internal/publish"
)

// A container on overlays is known by its addresses there, when its query comes
// over the bridge to its machine. The engine is asked when such a container
// comes or goes and with each list, and not at all where there is none.
func TestGuests(t *testing.T) {
	inBubble(t, publish.NameRules{}, true, func(w *watched) {
		addr := netip.MustParseAddr
		want := func(want map[netip.Addr][]netip.Addr) {
			w.Helper()
			synctest.Wait()
			w.sink.mu.Lock()
			defer w.sink.mu.Unlock()
			if !reflect.DeepEqual(w.sink.guests, want) {
				w.Errorf("guests: got %v; want %v", w.sink.guests, want)
			}
		}
		w.engine.update(func() {
			w.engine.internal = []string{}
			w.engine.bridge = map[string]netip.Addr{
				fakeID("aa"): addr("172.18.0.3"), fakeID("bb"): addr("172.18.0.4"), "ingress-sbox": addr("172.18.0.2"),
			}
		})
		w.engine.start("bb", "plain", "10.0.0.2")
		want(nil)
		if n := w.engine.count("GatewayBridge"); n != 0 {
			t.Errorf("without overlays the bridge was asked for %d times", n)
		}
		task := &fakeContainer{name: "task", image: "app", state: "running", networks: map[string]fakeEndpoint{
			"lan": {"id-lan", "10.9.0.5"}, "other": {"id-other", "10.8.0.5"},
		}}
		w.engine.set("aa", task)
		w.engine.event("start", fakeID("aa"))
		want(map[netip.Addr][]netip.Addr{addr("172.18.0.3"): {addr("172.18.0.3"), addr("10.9.0.5")}})
		w.engine.update(func() { w.engine.bridge[fakeID("aa")] = addr("172.18.0.7") })
		time.Sleep(ResyncPeriod)
		want(map[netip.Addr][]netip.Addr{addr("172.18.0.7"): {addr("172.18.0.7"), addr("10.9.0.5")}})
		w.engine.destroy("aa")
		want(map[netip.Addr][]netip.Addr{})
	})
}

// The bridge of another machine has the same addresses: it is not asked for, nor is any with -swarm=false.
// An engine that refuses to tell is done without, and that is logged once.
func TestGuestsUnknown(t *testing.T) {
	task := &fakeContainer{name: "task", image: "app", state: "running",
		networks: map[string]fakeEndpoint{"lan": {"id-lan", "10.9.0.5"}}}
	f := func(machine netip.Addr, swarm bool, calls, warnings int) {
		inBubbleOf(t, publish.NameRules{}, false, swarm, func(w *watched) {
			w.engine.update(func() { w.engine.internal, w.engine.machine = []string{}, machine })
			w.engine.set("aa", task)
			w.engine.setDown(false)
			time.Sleep(3 * ResyncPeriod / 2)
			synctest.Wait()
			if n := w.engine.count("GatewayBridge"); (n > 0) != (calls > 0) || len(w.sink.guests) > 0 {
				t.Errorf("engine at %v: %d calls, %v; want %d, and no guests", machine, n, w.sink.guests, calls)
			}
			if n := w.logged("GET /networks/docker_gwbridge"); n != warnings {
				t.Errorf("engine at %v: %d warnings; want %d", machine, n, warnings)
			}
		})
	}
	f(netip.MustParseAddr("203.0.113.5"), true, 0, 0)
	f(netip.Addr{}, true, 1, 1)
	f(netip.Addr{}, false, 0, 0)
}
