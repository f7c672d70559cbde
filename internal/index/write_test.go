package index

import (
	"sync"
	"testing"

	"github.com/rayje/dnsdock/internal/publish"
)

// A change of a service must not leave a moment in which a name that it has
// before and after is unknown, or a foreign one of two aliases.
func TestChangeLeavesNoGap(t *testing.T) {
	r := newRig(t, "docker")
	versions := []*publish.Service{
		testService(t, r, "s", "a", "x", "10.0.0.1", "shop.example.com"),
		testService(t, r, "s", "b", "x", "10.0.0.1 10.0.0.2", "db.docker", "shop.example.com"),
		testService(t, r, "s", "c", "x", "10.0.0.1", "z.db.docker", "shop.example.com"),
	}
	r.put("s", versions[0])
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				for _, q := range []string{"docker", "x.docker", "*.x.docker", "shop.example.com", "w.shop.example.com"} {
					if got := matched(t, r, q); got != "s" {
						t.Errorf("%s: %q; want s", q, got)
						return
					}
				}
				if r.At(mustName(t, "1.0.0.10.in-addr.arpa")) == nil {
					t.Error("10.0.0.1 has no service")
					return
				}
			}
		})
	}
	for i := range 20000 {
		r.put("s", versions[i%len(versions)])
	}
	close(stop)
	wg.Wait()
	r.check(t)
}
