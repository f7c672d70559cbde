package watch

import (
	"testing"

	"github.com/rayje/dnsdock/internal/publish"
)

// What an image claims outside of the domain does not count, and each image is
// asked for once.
func TestImages(t *testing.T) {
	inBubble(t, publish.NameRules{}, true, func(w *watched) {
		e := w.engine
		claims := map[string]string{"com.dnsdock.alias": "login.bank.example,db.docker", "com.dnsdock.ip_addr": "203.0.113.66"}
		own := map[string]string{"com.dnsdock.alias": "own.bank.example", "com.dnsdock.ip_addr": "203.0.113.67"}
		e.update(func() { e.images = map[string]publish.Baked{"sha256:01": {Labels: claims}} })
		for prefix, c := range map[string]*fakeContainer{
			"a1": {name: "a", image: "x", state: "running", addr: "10.0.0.1", labels: claims},
			"a2": {name: "b", image: "x", state: "running", addr: "10.0.0.2", labels: claims},
			"a3": {name: "c", image: "x", state: "running", addr: "10.0.0.3", labels: own},
			"a4": {name: "d", image: "x", state: "running", addr: "10.0.0.4"},
		} {
			e.set(prefix, c)
			e.event("start", fakeID(prefix))
		}
		w.want("a.x.docker", "10.0.0.1")
		w.want("b.x.docker", "10.0.0.2")
		w.want("c.x.docker", "203.0.113.67")
		w.want("d.x.docker", "10.0.0.4")
		w.want("db.docker", "10.0.0.1 10.0.0.2")
		w.want("login.bank.example", "")
		w.want("own.bank.example", "203.0.113.67")
		if n := e.count("Image"); n != 1 {
			t.Errorf("the image was asked for %d times; want 1", n)
		}
		if n := w.logged("value can't be used"); n != 4 {
			t.Errorf("the log warns of %d values; want 4: an alias and an address, of two containers", n)
		}
	})
}

// Where the engine refuses to tell, only claims inside the domain count.
func TestImagesRefused(t *testing.T) {
	inBubble(t, publish.NameRules{}, true, func(w *watched) {
		e := w.engine
		e.update(func() { e.noImages = true })
		for _, name := range []string{"a", "b"} {
			e.set("a"+name, &fakeContainer{name: name, image: "x", state: "running", addr: "10.0.0.1",
				labels: map[string]string{"com.dnsdock.alias": name + ".bank.example," + name + ".docker"}})
			e.event("start", fakeID("a"+name))
		}
		w.want("a.docker", "10.0.0.1")
		w.want("b.docker", "10.0.0.1")
		w.want("a.bank.example", "")
		if n := w.logged("images can't be read"); n != 1 {
			t.Errorf("the log says %d times that images can't be read; want 1", n)
		}
	})
}
