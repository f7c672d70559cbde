package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/engine"
	"github.com/rayje/dnsdock/internal/index"
	"github.com/rayje/dnsdock/internal/publish"
)

// newTestRegistry returns an empty, ready registry of the given domain.
func newTestRegistry(t testing.TB, domain string) *registry {
	t.Helper()
	r := newRegistry(publish.NameRules{Apex: mustName(t, domain)}, 0, nil)
	r.log = slog.New(dnstest.Unlocked(t, io.Discard, &r.mu))
	r.index.Ready.Store(true)
	return r
}

// testService is a container's service; names are the aliases after
// the two parts.
func testService(t testing.TB, r *registry, id, part, image, addr string, aliases ...string) *publish.Service {
	t.Helper()
	s := &publish.Service{ID: id, ContainerLabel: part, ImageLabel: image, TTL: publish.DefaultTTL, Origin: publish.Origin{Engine: "e", Container: part, Image: image}}
	for text := range strings.FieldsSeq(addr) {
		s.Addrs = append(s.Addrs, netip.MustParseAddr(text))
	}
	for _, a := range aliases {
		s.Aliases = append(s.Aliases, mustName(t, a))
	}
	if err := r.index.Rules.SetOwnerNames(s); err != nil {
		t.Fatal(err)
	}
	return s
}

// matched returns the ids of the services that answer for q, sorted, each
// once; "foreign" if q is not ours.
func matched(t testing.TB, r *registry, q string) string {
	t.Helper()
	n := mustName(t, q)
	if _, ok := r.index.AliasFor(n); !ok && !n.Under(r.index.Rules.Apex) {
		return "foreign"
	}
	var ids []string
	for s := range index.Shuffled(r.index.Match(n).Sets, publish.AnyKind) {
		ids = append(ids, s.ID)
	}
	slices.Sort(ids)
	return strings.Join(slices.Compact(ids), " ")
}

// checkRegistry holds what is published against what must be.
func checkRegistry(t testing.TB, r *registry) {
	t.Helper()
	count := 0
	for id, h := range r.services.All() {
		if h.published == nil {
			continue
		}
		count++
		if !h.published.Equal(desired(r, id)) {
			t.Fatalf("%s is not what it must be", id)
		}
	}
	for s := range r.index.Published().All(publish.AnyKind) {
		if count--; r.held(s.ID).published != s {
			t.Fatalf("%s is stale in the index", s.ID)
		}
	}
	if count != 0 {
		t.Fatalf("the index lacks %d services", count)
	}
}

func TestSerialGrowsWithChanges(t *testing.T) {
	r := newTestRegistry(t, "docker")
	s := testService(t, r, "s", "a", "x", "10.0.0.1")
	last := r.index.Serial.Load()
	grows := func(what string, want bool, change func()) {
		t.Helper()
		change()
		if now := r.index.Serial.Load(); (now != last) != want {
			t.Errorf("%s: serial from %d to %d; want a change: %v", what, last, now, want)
		} else {
			last = now
		}
	}
	grows("new", true, func() { r.Put("s", s) })
	same := *s
	grows("same again", false, func() { r.Put("s", &same) })
	grows("address", true, func() { r.Put("s", testService(t, r, "s", "a", "x", "10.0.0.2")) })
	grows("default TTL", true, func() { r.setTTL(5) })
	grows("gone", true, func() { r.Forget("s") })
	grows("unknown gone", false, func() { r.Forget("s") })
}

// What the API did to a container's service holds for as long as the
// container exists, and no longer.
func TestOverlays(t *testing.T) {
	const id, other = "abcd00", "abcd11"
	ptr := func(s string) *string { return &s }
	whole := func(part, image, addr string) publish.Patch {
		ttl := 7
		return publish.Patch{Name: &part, Image: &image, Addrs: []netip.Addr{netip.MustParseAddr(addr)}, TTL: &ttl, Aliases: &[]dnsname.Name{}}
	}
	for _, c := range []struct {
		what string
		do   func(t *testing.T, r *registry)
		want string // names and addresses after a restart with the address 10.0.0.9
	}{
		{"nothing", func(t *testing.T, r *registry) {}, "[a.x.docker.] [10.0.0.9]"},
		{"patched name", func(t *testing.T, r *registry) {
			if s, err := r.update(id, publish.Patch{Name: ptr("b")}); err != nil || s.ContainerLabel != "b" {
				t.Errorf("update: %+v, %v", s, err)
			}
		}, "[b.x.docker.] [10.0.0.9]"},
		{"patched twice, by a short id", func(t *testing.T, r *registry) {
			for _, p := range []publish.Patch{{Name: ptr("b")}, {Image: ptr("y")}} {
				if _, err := r.update("abcd0", p); err != nil {
					t.Error(err)
				}
			}
		}, "[b.y.docker.] [10.0.0.9]"},
		{"set whole", func(t *testing.T, r *registry) {
			if _, isNew, err := r.set(id, whole("m", "n", "192.168.0.1")); isNew || err != nil {
				t.Errorf("set: new %v, %v", isNew, err)
			}
		}, "[m.n.docker.] [192.168.0.1]"},
		{"removed", func(t *testing.T, r *registry) {
			if err := r.remove(id); err != nil {
				t.Error(err)
			}
			if err := r.remove(id); !errors.Is(err, errNotFound) {
				t.Errorf("remove again: %v", err)
			}
			if _, err := r.update(id, publish.Patch{Name: ptr("b")}); !errors.Is(err, errNotFound) {
				t.Errorf("update of a removed one: %v", err)
			}
		}, ""},
		{"removed and set", func(t *testing.T, r *registry) {
			if err := r.remove(id); err != nil {
				t.Error(err)
			}
			if _, isNew, err := r.set(id, whole("m", "n", "192.168.0.1")); !isNew || err != nil {
				t.Errorf("set: new %v, %v", isNew, err)
			}
		}, "[m.n.docker.] [192.168.0.1]"},
	} {
		t.Run(c.what, func(t *testing.T) {
			r := newTestRegistry(t, "docker")
			published := func() string {
				s, err := r.lookup(id)
				if err != nil {
					return ""
				}
				return fmt.Sprint(s.OwnerNames, " ", s.Addrs)
			}
			r.Put(other, testService(t, r, other, "o", "x", "10.0.0.8"))
			r.Put(id, testService(t, r, id, "a", "x", "10.0.0.1"))
			c.do(t, r)
			r.Put(id, nil) // stopped
			if got := published(); got != "" {
				t.Errorf("while it is stopped: %s", got)
			}
			if _, err := r.update(id, publish.Patch{Name: ptr("z")}); !errors.Is(err, errNotFound) {
				t.Errorf("update of a stopped one: %v; want %v", err, errNotFound)
			}
			if _, _, err := r.set(id, whole("z", "z", "10.0.0.7")); !errors.Is(err, errNotPublished) {
				t.Errorf("set of a stopped one: %v; want %v", err, errNotPublished)
			}
			r.Put(id, testService(t, r, id, "a", "x", "10.0.0.9"))
			if got := published(); got != c.want {
				t.Errorf("after the restart: %q; want %q", got, c.want)
			}
			r.Forget(id)
			if got := published(); got != "" {
				t.Errorf("after its end: %s", got)
			}
			r.Put(id, testService(t, r, id, "a", "x", "10.0.0.9"))
			if got, want := published(), "[a.x.docker.] [10.0.0.9]"; got != want {
				t.Errorf("as a new container: %q; want %q", got, want)
			}
			checkRegistry(t, r)
		})
	}
}

// A name that the API set and that can't be for now leaves the rest of the
// change as it is, and comes back.
func TestOverlayTooLongForNow(t *testing.T) {
	r := newTestRegistry(t, "docker")
	log := dnstest.NewLog()
	r.log = slog.New(dnstest.Unlocked(t, log, &r.mu))
	image, ttl := strings.TrimSuffix(strings.Repeat(strings.Repeat("y", 55)+".", 4), "."), 77
	r.Put("s", testService(t, r, "s", "a", "x", "10.0.0.1"))
	if _, err := r.update("s", publish.Patch{Image: &image, TTL: &ttl}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, image string }{{strings.Repeat("n", 60), "x"}, {"a", image}} {
		for range 3 {
			r.Put("s", nil)
			r.Put("s", testService(t, r, "s", c.name, "x", "10.0.0.1"))
		}
		if s, err := r.lookup("s"); err != nil || s.ImageLabel != c.image || s.TTL != ttl {
			t.Errorf("as %s: %+v, %v; want image %s, TTL %d", c.name, s, err, c.image, ttl)
		}
	}
	if n := strings.Count(log.String(), "left out for now"); n != 1 {
		t.Errorf("logged %d times; want once", n)
	}
	r.Put("s", testService(t, r, "s", strings.Repeat("n", 60), "x", "10.0.0.1"))
	part, short := strings.Repeat("m", 60), "m"
	if s, err := r.update("s", publish.Patch{Name: &part}); err == nil {
		t.Errorf("a name too long with the image that was set: %v; want an error", s.OwnerNames)
	}
	for _, p := range []publish.Patch{{TTL: &ttl}, {Name: &short}} { // what update returns is what is answered
		s, err := r.update("s", p)
		if live, _ := r.lookup("s"); err != nil || s != live {
			t.Errorf("update = %+v, %v; want %+v", s, err, live)
		}
	}
	if got, want := matched(t, r, "m."+image+".docker"), "s"; got != want {
		t.Errorf("the name that was set: %q; want %q", got, want)
	}
}

func TestMadeByHand(t *testing.T) {
	r := newTestRegistry(t, "docker")
	part, image, ttl := "foo", "bar", 30
	p := publish.Patch{Name: &part, Image: &image, Addrs: []netip.Addr{netip.MustParseAddr("192.168.0.3")}, TTL: &ttl, Aliases: &[]dnsname.Name{}}
	if _, isNew, err := r.set("newid", p); !isNew || err != nil {
		t.Fatalf("set: new %v, %v", isNew, err)
	}
	if _, isNew, err := r.set("newid", p); isNew || err != nil {
		t.Fatalf("set again: new %v, %v", isNew, err)
	}
	if got := matched(t, r, "foo.bar.docker"); got != "newid" {
		t.Errorf("foo.bar.docker: %q; want newid", got)
	}
	zero := 0
	if s, err := r.update("newid", publish.Patch{TTL: &zero}); err != nil || s.TTL != 0 || s.ContainerLabel != "foo" {
		t.Errorf("update: %+v, %v", s, err)
	}
	if err := r.remove("newid"); err != nil {
		t.Error(err)
	}
	if got := matched(t, r, "foo.bar.docker"); got != "" {
		t.Errorf("foo.bar.docker after remove: %q; want none", got)
	}
	checkRegistry(t, r)
}

func TestShortIDs(t *testing.T) {
	r := newTestRegistry(t, "docker")
	ids := []string{strings.Repeat("ab", 32), "abab" + strings.Repeat("cd", 30), "beef" + strings.Repeat("ef", 30)}
	for i, id := range ids {
		r.Put(id, testService(t, r, id, fmt.Sprintf("c%d", i), "x", "10.0.0.1"))
	}
	for _, c := range []struct {
		id   string
		want string
		err  error
	}{
		{ids[0], ids[0], nil},
		{"beef", ids[2], nil},
		{"bee", "", errNotFound}, // too short
		{"abab", "", errAmbiguous},
		{"ababc", ids[1], nil},
		{"BEEF", "", errNotFound},
		{"dead", "", errNotFound},
		{"", "", errNotFound},
	} {
		s, err := r.lookup(c.id)
		if !errors.Is(err, c.err) || c.err == nil && s.ID != c.want {
			t.Errorf("lookup(%q) = %+v, %v; want %s, %v", c.id, s, err, c.want, c.err)
		}
	}
}

// An engine that is away since the start keeps the names of its own zone
// waiting, and nothing else.
func TestEngineAwayKeepsOthersReady(t *testing.T) {
	b := mustName(t, "b.docker2")
	reg := newRegistry(publish.NameRules{Apex: mustName(t, "docker")}, 5, slog.New(slog.DiscardHandler), b)
	reg.addEngine("one", mustName(t, "docker"))
	reg.addEngine("two", b)
	want := func(what string, own, other, reverse, known bool) {
		t.Helper()
		got := [4]bool{reg.index.IsReady(mustName(t, "x.docker")), reg.index.IsReady(mustName(t, "x.b.docker2")), reg.index.IsReady(mustName(t, "1.0.0.10.in-addr.arpa")), reg.index.IsKnown()}
		if got != [4]bool{own, other, reverse, known} {
			t.Errorf("%s: got %v; want %v", what, got, [4]bool{own, other, reverse, known})
		}
	}
	none := func(string) bool { return false }
	away := func(url string) { reg.SetEngine(engine.Status{URL: url}) }
	want("at first", false, false, false, false)
	away("two")
	want("one is away", false, false, false, false)
	reg.SetEngine(engine.Status{URL: "one", Up: true})
	reg.Listed("one", none)
	want("the other has told", true, false, true, true)
	reg.SetEngine(engine.Status{URL: "two", Up: true})
	reg.Listed("two", none)
	want("both have", true, true, true, true)
}

// What the API did outlives restarts, renames and outages of the engine, and
// ends with the container, also when its end is not seen.
func TestOverlayOutlivesEngine(t *testing.T) {
	r := newTestRegistry(t, "docker")
	r.addEngine("e", r.index.Rules.Apex)
	up := func(up bool) { r.SetEngine(engine.Status{URL: "e", Up: up}) }
	put := func(id, name, addr string) { r.Put(id, testService(t, r, id, name, "redis", addr)) }
	want := func(q, want string) {
		t.Helper()
		if got := matched(t, r, q); got != want {
			t.Errorf("%s: got %q; want %q", q, got, want)
		}
	}
	up(true)
	put("aa", "a", "10.0.0.1")
	put("bb", "b", "10.0.0.2")
	part := "z"
	if _, err := r.update("aa", publish.Patch{Name: &part}); err != nil {
		t.Fatal(err)
	}
	if err := r.remove("bb"); err != nil {
		t.Fatal(err)
	}
	want("z.redis.docker", "aa")
	up(false)
	want("docker", "aa")
	up(true)
	put("aa", "a2", "10.0.0.7")
	put("bb", "b", "10.0.0.2") // again
	want("z.redis.docker", "aa")
	want("docker", "aa")
	up(false)
	up(true)
	r.Forget("aa")
	r.Forget("bb")
	want("docker", "")
	put("aa", "a", "10.0.0.1")
	put("bb", "b", "10.0.0.2")
	want("a.redis.docker", "aa")
	want("b.redis.docker", "bb")
	checkRegistry(t, r)
}

func desired(r *registry, id string) *publish.Service {
	s, _ := r.desiredLocked(r.held(id)) // what is left out for now is logged
	return s
}

// A log that nobody reads stops its own writer, and no other.
func TestLogThatBlocks(t *testing.T) {
	r := newTestRegistry(t, "docker")
	log := &blockingLog{entered: make(chan struct{}), release: make(chan struct{})}
	r.log = slog.New(slog.NewTextHandler(log, nil))
	r.addEngine("e", r.index.Rules.Apex)
	part, ttl := strings.Repeat("n", 60), 7
	image := strings.TrimSuffix(strings.Repeat(strings.Repeat("y", 55)+".", 4), ".")
	whole := publish.Patch{
		Name: &part, Image: &part, Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, TTL: &ttl, Aliases: &[]dnsname.Name{},
	}
	for _, c := range []struct {
		what string
		do   func()
		want string // what is published then
	}{
		{"Put", func() { r.Put("s", testService(t, r, "s", "a", "x", "10.0.0.1")) }, "s"},
		{"Put of another", func() { r.Put("s", testService(t, r, "s", "b", "x", "10.0.0.1")) }, "s"},
		{"update", func() { _, _ = r.update("s", publish.Patch{Image: &image}) }, "s"},
		{"Put that is too long", func() { r.Put("s", testService(t, r, "s", part, "x", "10.0.0.1")) }, "s"},
		{"set", func() { _, _, _ = r.set("hand", whole) }, "hand s"},
		{"remove", func() { _ = r.remove("hand") }, "s"},
		{"restore", func() { r.restoreChanges(map[string]*change{"s": {removed: true}}) }, ""},
		{"Forget", func() { r.Forget("s") }, ""},
	} {
		done := make(chan struct{})
		go func() { defer close(done); c.do() }()
		if c.what != "Forget" { // of what was removed, which is not published any more
			<-log.entered
		}
		if got := matched(t, r, "docker"); got != c.want { // what is logged has happened
			t.Errorf("%s: %q is published; want %q", c.what, got, c.want)
		}
		if !r.mu.TryLock() {
			t.Fatalf("%s: the lock is held while a line is logged", c.what)
		}
		r.mu.Unlock()
		log.releaseUntil(done)
	}
}

// A blockingLog says when a line is written, and waits until it is released.
type blockingLog struct{ entered, release chan struct{} }

func (l *blockingLog) Write(b []byte) (int, error) {
	l.entered <- struct{}{}
	<-l.release
	return len(b), nil
}

// releaseUntil lets all lines be written until done is closed.
func (l *blockingLog) releaseUntil(done <-chan struct{}) {
	for {
		select {
		case l.release <- struct{}{}:
		case <-l.entered:
		case <-done:
			return
		}
	}
}

// filled returns a registry of that many services, ten of an image.
func filled(t testing.TB, count int) *registry {
	r := newTestRegistry(t, "docker")
	for i := range count {
		addr := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		id := fmt.Sprint(i)
		r.Put(id, testService(t, r, id, fmt.Sprintf("c%d", i), fmt.Sprintf("image%d", i/10), addr.String()))
	}
	return r
}
