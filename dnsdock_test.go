package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rayje/dnsdock/internal/config"
	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/dockerjson"
	"github.com/rayje/dnsdock/internal/engine"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/index"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/servicejson"
	"github.com/rayje/dnsdock/internal/stats"
	"github.com/rayje/dnsdock/internal/transfer"
	"github.com/rayje/dnsdock/internal/watch"
	"github.com/rayje/dnsdock/internal/web"
	"github.com/rayje/dnsdock/internal/zone"
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
	s := &publish.Service{
		ID: id, ContainerLabel: part, ImageLabel: image, TTL: publish.DefaultTTL, Extras: new(publish.Extras),
		Origin: publish.Origin{Engine: "e", Container: part, Image: image},
	}
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
	for id, h := range r.everything {
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
		return publish.Patch{
			Name: &part, Image: &image, Addrs: []netip.Addr{netip.MustParseAddr(addr)}, TTL: &ttl,
			Aliases: &[]dnsname.Name{},
		}
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
			if _, isNew, err := r.set(id, whole("m", "n", "192.168.0.1"), time.Now()); isNew || err != nil {
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
			if _, isNew, err := r.set(id, whole("m", "n", "192.168.0.1"), time.Now()); !isNew || err != nil {
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
			if _, _, err := r.set(id, whole("z", "z", "10.0.0.7"), time.Now()); !errors.Is(err, errNotPublished) {
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
	p := publish.Patch{
		Name: &part, Image: &image, Addrs: []netip.Addr{netip.MustParseAddr("192.168.0.3")}, TTL: &ttl,
		Aliases: &[]dnsname.Name{},
	}
	if _, isNew, err := r.set("newid", p, time.Now()); !isNew || err != nil {
		t.Fatalf("set: new %v, %v", isNew, err)
	}
	if _, isNew, err := r.set("newid", p, time.Now()); isNew || err != nil {
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
		isReady := func(name string) bool { return reg.index.IsReady(mustName(t, name)) }
		got := [4]bool{
			isReady("x.docker"), isReady("x.b.docker2"), isReady("1.0.0.10.in-addr.arpa"), reg.index.IsKnown(),
		}
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

// A log whose reader is slow stops its own writer, and no other.
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
		{"set", func() { _, _, _ = r.set("hand", whole, time.Now()) }, "hand s"},
		{"remove", func() { _ = r.remove("hand") }, "s"},
		{"restore", func() { _ = (&stateFile{reg: r}).load([]byte(`{"removed":["s"]}`)) }, ""},
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

// An event without end, or of any length, does not take all memory.
func TestEventWithoutEnd(t *testing.T) {
	endless := io.MultiReader(strings.NewReader(`{"Type":"container","Actor":{"ID":"`), neverEnds{})
	s := newEventStream(io.NopCloser(endless))
	if e, err := s.Next(); err == nil {
		t.Errorf("next = %+v; want an error", e)
	}
	var many strings.Builder
	for i := range 3 * maxEvent / 100 {
		fmt.Fprintf(&many, `{"Type":"container","Action":"start","Actor":{"ID":"%0100d"}}`, i)
	}
	s = newEventStream(io.NopCloser(strings.NewReader(many.String())))
	for i := range 3 * maxEvent / 100 {
		if e, err := s.Next(); err != nil || e.Container != fmt.Sprintf("%0100d", i) {
			t.Fatalf("event %d: %+v, %v", i, e, err)
		}
	}
}

type neverEnds struct{}

func (neverEnds) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}

func TestContainerOfEvent(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{`{"Type":"container","Action":"start","Actor":{"ID":"c1","Attributes":{"container":"x"}}}`, "c1"},
		{`{"Type":"network","Action":"connect","Actor":{"ID":"n1","Attributes":{"container":"c1"}}}`, "c1"},
		{`{"Type":"network","Action":"connect","Actor":{"ID":"c1","Attributes":{"name":"podman"}}}`, "c1"}, // podman's
		{`{}`, ""},
		{`{"Type":"network","Action":"connect"}`, ""},
		{`null`, ""},
		{`{"Type":"container","Action":"start","Actor":null}`, ""},
	} {
		e, err := newEventStream(io.NopCloser(strings.NewReader(c.line))).Next()
		if err != nil || e.Container != c.want {
			t.Errorf("%s: %q, %v; want %q", c.line, e.Container, err, c.want)
		}
	}
}

// startEngine serves h on loopback and returns the engine's URL.
func startEngine(t *testing.T, h http.Handler) engine.URL {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	u, err := engine.ParseURL("tcp://" + srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// Whatever an engine sends as a list or as events is read to an end.
func FuzzEngine(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		err := readElements(json.NewDecoder(bytes.NewReader(data)), func(s *dockerjson.Summary) error {
			s.Fingerprint()
			return nil
		})
		if first := bytes.TrimLeft(data, " \t\r\n"); err == nil && !bytes.HasPrefix(first, []byte("[")) {
			t.Fatalf("%q is taken for a list", data)
		}
		s := newEventStream(io.NopCloser(bytes.NewReader(data)))
		for n := 0; ; n++ {
			e, err := s.Next()
			if err != nil {
				break
			}
			if n > len(data) {
				t.Fatalf("more events than bytes, the last one %+v", e)
			}
		}
	})
}

// listed returns the list of containers that an engine sends.
func listed(t *testing.T, c *dockerClient) (list map[string]watch.Fingerprint, err error) {
	list = make(map[string]watch.Fingerprint)
	err = c.List(t.Context(), func(id string, f watch.Fingerprint) { list[id] = f })
	return list, err
}

// An engine that refuses all versions of the API that dnsdock knows is asked by
// its oldest one, or by none where it names none.
func TestEngineTooNew(t *testing.T) {
	const dockers = "client version %s is too old. Minimum supported API version is %s, " +
		"please upgrade your client to a newer version"
	for _, c := range []struct{ newest, oldest, text, want string }{
		{"1.99", "1.60", dockers, "1.60"},
		{"1.99", "1.60", "no %s below %s", ""},
		{"1.99", "1.60", "%.0s%.0snot so", ""},
		{"1.52", "1.44", dockers, engine.MaxAPI},
		{"1.41", "1.12", dockers, "1.41"},
		{"2.5", "2.0", dockers, ""},
	} {
		var log bytes.Buffer
		u := startEngine(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Api-Version", c.newest)
			version, path, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v"), "/")
			if n, err := strconv.ParseFloat(version, 64); ok && err == nil {
				if oldest, _ := strconv.ParseFloat(c.oldest, 64); n < oldest {
					message := fmt.Sprintf(c.text, version, c.oldest)
					w.WriteHeader(http.StatusBadRequest)
					_ = json.NewEncoder(w).Encode(map[string]string{"message": message})
					return
				}
			}
			if strings.HasSuffix(path, "containers/json") {
				fmt.Fprint(w, "[]")
			}
		}))
		client := newDockerClient(u, nil, slog.New(slog.NewTextHandler(&log, nil)))
		for range 2 {
			got, stream, err := client.Connect(t.Context())
			if got != c.want || err != nil {
				t.Fatalf("%s to %s: got version %q, %v; want %q", c.oldest, c.newest, got, err, c.want)
			}
			stream.Close()
			if _, err := listed(t, client); err != nil {
				t.Errorf("%s to %s: list: %v", c.oldest, c.newest, err)
			}
		}
		warnings := 0
		if c.oldest == "1.60" {
			warnings = 1
		}
		if got := strings.Count(log.String(), "level=WARN"); got != warnings {
			t.Errorf("%s to %s: %d warnings; want %d:\n%s", c.oldest, c.newest, got, warnings, &log)
		}
		client.reload()
	}
}

// The labels of -filter are handed to the engine, for lists and for events.
func TestFiltersOfEngine(t *testing.T) {
	var queries sync.Map // by path
	u := startEngine(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		queries.Store(r.URL.Path, cmp.Or(r.URL.Query().Get("filters"), "{}"))
		if r.URL.Path == "/containers/json" {
			fmt.Fprint(w, "[]")
		}
	}))
	for _, labels := range [][]string{nil, {"public", "site=a,b"}} {
		client := newDockerClient(u, nil, slog.New(slog.DiscardHandler))
		client.labels = labels
		_, stream, err := client.Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		stream.Close()
		if _, err := listed(t, client); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{"/events", "/containers/json"} {
			var f map[string][]string
			text, _ := queries.Load(path)
			if err := json.Unmarshal([]byte(text.(string)), &f); err != nil || !slices.Equal(f["label"], labels) {
				t.Errorf("%s with labels %q: got filters %s, %v", path, labels, text, err)
			}
		}
		client.reload()
	}
}

// The addresses that containers have on Swarm's bridge to their machine, as Docker
// 20.10 tells them; an engine without that bridge has none.
func TestGatewayBridge(t *testing.T) {
	for _, c := range []struct {
		status  int
		body    string
		want    map[string]netip.Addr
		refused bool
	}{
		{200, `{"Name": "docker_gwbridge", "Containers": {
			"1ccd1183de03": {"Name": "gateway_6cbe807f8014", "IPv4Address": "10.45.20.3/24", "IPv6Address": ""},
			"ingress-sbox": {"Name": "gateway_ingress-sbox", "IPv4Address": "10.45.20.2/24"}, "odd": {"IPv4Address": "x"}}}`,
			map[string]netip.Addr{
				"1ccd1183de03": netip.MustParseAddr("10.45.20.3"), "ingress-sbox": netip.MustParseAddr("10.45.20.2"),
			}, false},
		{200, `{"Containers": null}`, map[string]netip.Addr{}, false},
		{404, `{"message": "network docker_gwbridge not found"}`, map[string]netip.Addr{}, false},
		{403, "no", nil, true},
	} {
		var path string
		u := startEngine(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			path = r.URL.Path
			w.WriteHeader(c.status)
			fmt.Fprint(w, c.body)
		}))
		client := newDockerClient(u, nil, slog.New(slog.DiscardHandler))
		got, err := client.GatewayBridge(t.Context())
		if !maps.Equal(got, c.want) || errors.Is(err, watch.ErrRefused) != c.refused || (err != nil) != c.refused {
			t.Errorf("%d %s: got %v, %v; want %v", c.status, c.body, got, err, c.want)
		}
		if path != "/networks/docker_gwbridge" {
			t.Errorf("asked for %s", path)
		}
		client.reload()
	}
}

// What an engine sends wrongly is an error of that call, and never the end of a
// container.
func TestClientGarbage(t *testing.T) {
	e := dnstest.NewEngine()
	e.Set("aa", &dnstest.Container{Name: "a", Image: "redis:7", State: "running", Addr: "10.0.0.1"})
	client := newDockerClient(startEngine(t, e), nil, slog.New(slog.DiscardHandler))
	defer client.reload()
	_, stream, err := client.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	inspect := func(status int, body string) (*watch.Container, error) {
		e.Update(func() { e.Inspect = func(string) (int, string) { return status, body } })
		return client.Inspect(t.Context(), dnstest.ID("aa"))
	}
	for _, body := range []string{"", "{", "[]", `{"Id":5}`, strings.Repeat("[", 20000)} {
		if c, err := inspect(200, body); err == nil || errors.Is(err, watch.ErrGone) {
			t.Errorf("inspect %.20q: got %v, %v; want an error", body, c, err)
		}
	}
	// The watcher sees that it is about another container.
	for body, id := range map[string]string{"null": "", `{"Id":"x"}`: "x"} {
		if c, err := inspect(200, body); err != nil || c.ID != id {
			t.Errorf("inspect %q: got %v, %v; want ID %q", body, c, err, id)
		}
	}
	for _, status := range []int{500, 403, 301, 204} {
		if c, err := inspect(status, "no"); err == nil || errors.Is(err, watch.ErrGone) {
			t.Errorf("inspect with %d: got %v, %v; want an error", status, c, err)
		}
	}
	for status, body := range map[int]string{404: "", 500: "container aa: no such container"} { // podman's
		if _, err := inspect(status, body); !errors.Is(err, watch.ErrGone) {
			t.Errorf("inspect with %d %s: got %v; want %v", status, body, err, watch.ErrGone)
		}
	}
	for _, body := range []string{"", "garbage", "{}", `[{"Id":5}]`} {
		e.Update(func() { e.List = func() string { return body } })
		if list, err := listed(t, client); err == nil {
			t.Errorf("list %q: got %v; want an error", body, list)
		}
	}
	for _, line := range []string{"garbage", "[]", `{"Type":5}`, "{", `"x"`} {
		if e, err := newEventStream(io.NopCloser(strings.NewReader(line))).Next(); err == nil {
			t.Errorf("event %q: got %+v; want an error", line, e)
		}
	}
	if _, err := client.Networks(t.Context()); !errors.Is(err, watch.ErrRefused) {
		t.Errorf("networks that are refused: got %v; want %v", err, watch.ErrRefused)
	}
}

// A recording is what an engine answered to scripts/engines.sh -record.
type recording struct {
	Version  string
	List     []json.RawMessage
	Inspect  []json.RawMessage
	Networks json.RawMessage
	Events   []json.RawMessage
}

// ServeHTTP answers as the engine did, to those calls that dnsdock makes.
func (r *recording) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	path := strings.TrimPrefix(req.URL.Path, "/v"+r.Version)
	if path == "/_ping" {
		w.Header().Set("Api-Version", r.Version)
		return
	}
	if path == req.URL.Path {
		http.Error(w, "without its version", http.StatusBadRequest)
		return
	}
	switch path {
	case "/containers/json":
		_ = json.NewEncoder(w).Encode(r.List)
	case "/networks":
		_, _ = w.Write(r.Networks)
	case "/events":
		for _, e := range r.Events {
			_, _ = w.Write(append(e, '\n'))
		}
		w.(http.Flusher).Flush()
		<-req.Context().Done()
	default:
		for _, c := range r.Inspect {
			var j struct{ ID, Name string }
			if json.Unmarshal(c, &j); path == "/containers/"+j.ID+"/json" || path == "/containers"+j.Name+"/json" {
				_, _ = w.Write(c)
				return
			}
		}
		http.Error(w, `{"message":"no such container"}`, http.StatusNotFound)
	}
}

// What each engine was seen to answer makes the same of the same containers.
func TestRecordedEngines(t *testing.T) {
	files, err := filepath.Glob("testdata/engines/*.json")
	if err != nil || len(files) < 5 {
		t.Fatalf("recordings: %v, %v; want five", files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) { testRecording(t, file) })
	}
}

// testRecording has a watcher follow an engine that answers as recorded.
func testRecording(t *testing.T, file string) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r recording
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	n := publish.NameRules{Apex: mustName(t, "docker"), Health: true}
	reg := newRegistry(n, 0, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	log := dnstest.NewLog()
	client := newDockerClient(startEngine(t, &r), nil, slog.New(slog.DiscardHandler))
	reg.addEngine("recorded", n.Apex)
	cfg := watch.Config{URL: "recorded", Naming: n}
	w := watch.New(client, cfg, reg, slog.New(slog.NewTextHandler(log, nil)))
	wg.Go(func() { _ = w.Run(ctx) })
	log.Wait(t, "engine found")
	for !reg.index.Ready.Load() {
		runtime.Gosched()
	}
	checkRecorded(t, reg)
	list, err := listed(t, client)
	if err != nil {
		t.Fatal(err)
	}
	for id, listed := range list {
		c, err := client.Inspect(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		// Podman's list does not tell the health: an unhealthy container is inspected with each list.
		if c.Fingerprint != listed && !(strings.Contains(file, "podman") && c.Sick) {
			t.Errorf("%.12s: the list says something else than the inspect", id)
		}
	}
}

// checkRecorded checks what is published of the containers of the recordings,
// which are the same for all engines.
func checkRecorded(t *testing.T, reg *registry) {
	t.Helper()
	byName := make(map[string]*publish.Service)
	for s := range reg.all() {
		byName[s.ContainerLabel] = s
		if s.Sick != (s.ContainerLabel == "sick") {
			t.Errorf("%s: unhealthy %t", s.ContainerLabel, s.Sick)
		}
	}
	clients := map[string]string{
		"host": "127.0.0.1", "one": "10.201.1.99", "an-inside": "10.201.2.99", "six": "fd00:201:3::99",
	}
	for _, c := range []struct{ client, name, want string }{
		{"host", "multi", "10.201.1 10.201.3"},
		{"one", "multi", "10.201.1"},
		{"an-inside", "multi", "10.201.2"},
		{"six", "multi", "10.201.3"},
		{"host", "shared", "10.201.1 10.201.3"},
		{"an-inside", "shared", "10.201.2"},
		{"host", "hosted", "host"},
		{"host", "none", ""},
		{"host", "gone", ""},
		{"host", "plain", ""},
	} {
		if got := subnetsFor(byName[c.name], clients[c.client]); got != c.want {
			t.Errorf("%s asks for %s: got addresses in %q; want %q", c.client, c.name, got, c.want)
		}
	}
	if s := byName["renamed"]; s == nil || s.TTL != 7 || byName["sick"] == nil {
		t.Errorf("published: %v; want renamed with TTL 7, and sick too", slices.Collect(maps.Keys(byName)))
	}
	if s := byName["multi"]; s == nil || !slices.Contains(s.OwnerNames, mustName(t, "m.docker")) {
		t.Errorf("multi: got %+v; want the alias m.docker", s)
	}
}

// subnetsFor returns the /24s of the IPv4 addresses that a client gets of s.
func subnetsFor(s *publish.Service, client string) string {
	if s == nil {
		return ""
	}
	var subnets []string
	addrs, _ := s.AddrsFor(netip.MustParseAddr(client))
	for _, a := range addrs {
		if !a.IsValid() {
			subnets = append(subnets, "host")
		} else if a.Is4() {
			subnets = append(subnets, a.String()[:strings.LastIndexByte(a.String(), '.')])
		}
	}
	return strings.Join(subnets, " ")
}

// Ids of containers, and a service made by hand.
var (
	webID   = "aaaa1" + strings.Repeat("0", 59)
	redisID = "aaaa2" + strings.Repeat("0", 59)
	downID  = "bbbb0" + strings.Repeat("0", 59) // stopped
)

const manualBody = `{"name":"foo","image":"bar","ip":"192.168.0.3","ttl":30}`

// newTestAPI returns the HTTP side of a registry with two containers that
// run, one that is stopped, and one service made by hand.
func newTestAPI(t testing.TB) (http.Handler, *registry) {
	t.Helper()
	reg := newTestRegistry(t, "docker")
	reg.Put(webID, testService(t, reg, webID, "web", "nginx", "172.17.0.2 fd00::2", "www.docker"))
	reg.Put(redisID, testService(t, reg, redisID, "one", "redis", "172.17.0.3"))
	reg.Put(downID, nil)
	h := apiOf(t, reg)
	if r := call(t, h, "PUT", "/services/manual", manualBody); r.Code != http.StatusCreated {
		t.Fatalf("PUT of a service: got %d %s; want 201", r.Code, r.Body)
	}
	return h, reg
}

// apiOf returns the HTTP side of a registry, open to all.
func apiOf(t testing.TB, reg *registry, engines ...func() engine.Status) http.Handler {
	t.Helper()
	z := newTestZone(t, reg)
	zones := transfer.New(z, transfer.Config{}, reg.log)
	return newAPI(&api{
		zone: z, traffic: new(stats.Traffic), zones: zones, reg: reg, auth: &web.WriteAuth{Open: true},
		lines: new(web.Lines), engines: engines,
	})
}

// An engine that can't come back makes dnsdock unhealthy, so that somebody restarts it.
func TestLostEngineIsUnhealthy(t *testing.T) {
	reg := newTestRegistry(t, "docker")
	var status engine.Status
	up := func() engine.Status { return status }
	h := apiOf(t, reg, up)
	for _, lost := range []bool{false, true, false} {
		status.Lost = lost
		want := http.StatusOK
		if lost {
			want = http.StatusServiceUnavailable
		}
		for _, path := range []string{"/healthz", "/readyz"} {
			if r := call(t, h, "GET", path, ""); r.Code != want {
				t.Errorf("%s, lost %t: got %d %s; want %d", path, lost, r.Code, r.Body, want)
			}
		}
	}
}

// call sends one request as curl does, whose -d sends a form's content
// type; headers are "Name: value", and Host sets the host.
func call(t testing.TB, h http.Handler, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "http://127.0.0.1"+path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for _, line := range headers {
		k, v, _ := strings.Cut(line, ": ")
		if k == "Host" {
			r.Host = v
		}
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// errorOf returns the text of an error reply; the test fails if it has another
// form.
func errorOf(t *testing.T, r *httptest.ResponseRecorder) string {
	t.Helper()
	var e map[string]string
	if err := json.Unmarshal(r.Body.Bytes(), &e); err != nil || len(e) != 1 || e["error"] == "" {
		t.Errorf(`got body %s; want {"error": "..."}`, r.Body)
	}
	return e["error"]
}

// A container that dies while a PATCH changes it does not come back.
func TestPatchRacesDeath(t *testing.T) {
	h, reg := newTestAPI(t)
	for i := range 300 {
		id := fmt.Sprintf("c%063d", i)
		s := testService(t, reg, id, fmt.Sprintf("c%d", i), "app", "10.0.0.1")
		reg.Put(id, s)
		var wg sync.WaitGroup
		wg.Go(func() {
			for range 3 {
				r := call(t, h, "PATCH", "/services/"+id, `{"ttl":7,"alias":"back.docker"}`)
				if r.Code != 200 && r.Code != 404 {
					t.Errorf("PATCH: got %d %s; want 200 or 404", r.Code, r.Body)
				}
			}
		})
		wg.Go(func() {
			if i%2 == 0 {
				reg.Put(id, nil) // it stops
			} else {
				reg.Forget(id) // it is removed
			}
		})
		wg.Wait()
		if r := call(t, h, "GET", "/services/"+id, ""); r.Code != http.StatusNotFound {
			t.Fatalf("after its death: got %d %s; want 404", r.Code, r.Body)
		}
		if got := reg.index.Match(mustName(t, fmt.Sprintf("c%d.app.docker", i))).Sets; len(got) != 0 {
			t.Fatalf("after its death: got %v; want no answer", got)
		}
		if got := reg.index.Match(mustName(t, "back.docker")).Sets; len(got) != 0 {
			t.Fatalf("after its death: its alias got %v; want no answer", got)
		}
		if i%2 == 1 {
			reg.Put(id, s)
			if got, _ := reg.lookup(id); got == nil || got.TTL != publish.DefaultTTL {
				t.Fatalf("a new one under its id: got %v; want no trace of the PATCH", got)
			}
			reg.Forget(id)
		}
	}
}

// A container may publish neither part; what GET gives of it, PUT takes. One
// made by hand must have a name.
func TestAPIPutNeitherPart(t *testing.T) {
	reg := newTestRegistry(t, "docker")
	id := strings.Repeat("ab", 32)
	reg.Put(id, testService(t, reg, id, "", "", "10.0.0.1"))
	h := apiOf(t, reg)
	got := call(t, h, "GET", "/services/"+id, "").Body.String()
	if r := call(t, h, "PUT", "/services/"+id, got); r.Code != http.StatusOK || r.Body.String() != got {
		t.Errorf("PUT of what GET gave: %d %s; want 200 %s", r.Code, r.Body, got)
	}
	if r := call(t, h, "PUT", "/services/byhand", got); r.Code != http.StatusBadRequest {
		t.Errorf("PUT of a new one without a name: %d %s; want 400", r.Code, r.Body)
	}
}

// Services made by hand are bounded. What exists can be changed all the same.
func TestAPIBoundsMade(t *testing.T) {
	h, reg := newTestAPI(t)
	want := func(method, id, body string, status int) {
		t.Helper()
		if r := call(t, h, method, "/services/"+id, body); r.Code != status {
			t.Errorf("%s %s: got %d %s; want %d", method, id, r.Code, r.Body, status)
		} else if status >= 400 && !strings.Contains(errorOf(t, r), "10000") {
			t.Errorf("%s %s: got error %s; want one with the limit", method, id, r.Body)
		}
	}
	p, err := servicejson.ReadService([]byte(manualBody), false)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 9998 {
		if _, _, err := reg.set(fmt.Sprintf("made%d", i), p, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	want("PUT", "last", manualBody, 201) // beside the one of newTestAPI
	want("PUT", "more", manualBody, 507)
	want("PUT", "more", manualBody, 507)
	want("PUT", "last", manualBody, 200)
	want("PATCH", "last", `{"ttl":7}`, 200)
	want("PUT", "aaaa1", manualBody, 200) // of a container
	want("DELETE", "made7", "", 204)
	want("PUT", "more", manualBody, 201)
	want("PUT", "more2", manualBody, 507)
	reg.Put("made8", testService(t, reg, "made8", "web", "nginx", "10.0.0.1")) // an ID that a container has now too
	reg.Forget("made8")
	want("DELETE", "made8", "", 204)
	want("PUT", "made8", manualBody, 201)
	want("PUT", "more2", manualBody, 507)
}

// The gateway of a network that a container is on is the host.
func TestGateways(t *testing.T) {
	reg := newTestRegistry(t, "docker")
	gateway := netip.MustParseAddr("172.30.0.1")
	has := func(want bool) {
		t.Helper()
		if got := reg.isGateway(gateway); got != want {
			t.Errorf("got %t; want %t", got, want)
		}
	}
	has(false)
	n := publish.Network{Name: "n", V4: publish.IPNet{Prefix: netip.MustParsePrefix("172.30.0.0/16"), Gateway: gateway}}
	s, _ := reg.names.ServiceOf(&publish.Container{
		ID: webID, Name: "web", Image: "nginx", State: "running",
		Networks: []publish.Endpoint{{Network: n, Addrs: []netip.Addr{netip.MustParseAddr("172.30.0.2")}}},
	}, "e")
	reg.Put(webID, s)
	has(true)
	if reg.isGateway(netip.MustParseAddr("172.30.0.2")) || reg.isGateway(netip.Addr{}) {
		t.Error("a container, or none at all, is a gateway")
	}
	if err := reg.remove(webID); err != nil { // the container is on its network all the same
		t.Fatal(err)
	}
	has(true)
	reg.Forget(webID)
	has(false)
	n.Routed = true // a router of the LAN, as with macvlan
	s, _ = reg.names.ServiceOf(&publish.Container{
		ID: webID, Name: "web", Image: "nginx", State: "running",
		Networks: []publish.Endpoint{{Network: n, Addrs: []netip.Addr{netip.MustParseAddr("172.30.0.2")}}},
	}, "e")
	reg.Put(webID, s)
	has(false)
}

// follow keeps known true to the services of reg by events, as a client does,
// until the service "end" is there.
func follow(t *testing.T, s *dnstest.EventStream, reg *registry, known map[string]bool) {
	for !known["end"] {
		event, _, data, err := s.Next()
		var about struct{ ID string }
		if err != nil || json.Unmarshal([]byte(data), &about) != nil {
			t.Errorf("an event: %s %v", data, err)
			return
		}
		switch event {
		case "service-removed":
			delete(known, about.ID)
		case "missed":
			clear(known)
			for s := range reg.index.Published().All(^publish.Kind(0)) {
				known[s.ID] = true
			}
		default:
			known[about.ID] = true
		}
	}
}

// Containers die, the API changes them, and listeners read, all at once: what
// a listener knows in the end is what there is.
func TestEventsBesidePatchAndDeath(t *testing.T) {
	reg := newTestRegistry(t, "docker")
	h := apiOf(t, reg)
	srv := web.NewServer(t.Context(), h, slog.New(slog.DiscardHandler))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	var writers, readers sync.WaitGroup
	known := make([]map[string]bool, 4) // by each listener
	for i := range known {
		s := dnstest.ListenEvents(t, http.DefaultClient, "http://"+ln.Addr().String(), "")
		s.Want("hello")
		known[i] = make(map[string]bool)
		readers.Go(func() { follow(t, s, reg, known[i]) })
	}
	for w := range 4 {
		writers.Go(func() {
			for i := range 150 {
				id := fmt.Sprintf("c%d-%d", w, i)
				reg.Put(id, testService(t, reg, id, "web", "nginx", "10.0.0.1"))
				_ = call(t, h, "PATCH", "/services/"+id, `{"ttl":7}`)
				_ = call(t, h, "GET", "/metrics", "")
				if i%3 == 0 {
					continue
				}
				reg.Forget(id)
				_ = call(t, h, "PATCH", "/services/"+id, `{"ttl":8}`)
				if got := call(t, h, "GET", "/services/"+id, "").Code; got != 404 {
					t.Errorf("%s is dead and answers %d", id, got)
				}
			}
		})
	}
	writers.Wait()
	reg.Put("end", testService(t, reg, "end", "end", "nginx", "10.0.0.2"))
	readers.Wait()
	for i := range known {
		if got := len(known[i]); got != 4*50+1 {
			t.Errorf("listener %d knows %d services; want %d", i, got, 4*50+1)
		}
	}
	_ = srv.Close()
	<-served
}

// A bugHandler is for a log in which there must be no error: that would be a
// bug that is answered with SERVFAIL, which a test might not see.
type bugHandler struct{ slog.Handler }

func (bugHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelError }

func (bugHandler) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool { panic(a) })
	return nil
}

// newTestZone returns a zone of reg without upstreams.
func newTestZone(t testing.TB, reg *registry) *zone.Resolver {
	log := slog.New(bugHandler{slog.DiscardHandler})
	return zone.New(t.Context(), reg.index, forward.New(nil, nil, 0, log), log)
}

// mustName is parseName for names that tests know to be good.
func mustName(t testing.TB, s string) dnsname.Name {
	t.Helper()
	n, err := dnsname.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// With -dns=:0, which is a port that the system chooses, a nameserver of a file that is on this machine is not dnsdock.
func TestNameserverHereIsNotDnsdock(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, []byte("nameserver 127.0.0.1\nnameserver 192.0.2.53\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for listen, want := range map[string]string{":0": "[127.0.0.1:53 192.0.2.53:53]", ":53": "[192.0.2.53:53]"} {
		cfg, err := config.Parse([]string{"-dns=" + listen, "-nameserver=" + file}, func(string) string { return "" })
		if err != nil {
			t.Fatal(err)
		}
		if _, got := newForwarder(cfg, slog.New(slog.DiscardHandler)).Route(dnsname.Root); fmt.Sprint(got) != want {
			t.Errorf("-dns=%s: nameservers %v; want %s", listen, got, want)
		}
	}
}

// What users see of tasks of a swarm, and how long what they change of one holds.
func TestAPIOfSwarm(t *testing.T) {
	reg := newTestRegistry(t, "docker")
	status := engine.Status{URL: "tcp://m", Up: true, Swarm: &engine.Swarm{Role: "manager", Node: "alpha", Tasks: 1}}
	h := apiOf(t, reg, func() engine.Status { return status })
	const id = "abcd00"
	task := &publish.Task{ID: "x7kq", Service: "shop_web", Stack: "shop", Slot: 1, Node: "beta"}
	over := publish.Endpoint{
		Network: publish.Network{Name: "over"}, Addrs: []netip.Addr{netip.MustParseAddr("10.0.1.3")},
	}
	put := func() {
		t.Helper()
		s, problems := reg.index.Rules.ServiceOf(&publish.Container{
			ID: id, Name: "shop_web.1.x7kq", Image: "nginx:1", State: "running",
			Networks: []publish.Endpoint{over},
			Placed:   publish.Placed{Task: task},
		}, "tcp://m")
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		reg.Put(id, s)
	}
	f := func(method, path, body string, code int, parts ...string) {
		t.Helper()
		r := call(t, h, method, path, body)
		text := strings.Join(strings.Fields(r.Body.String()), "")
		if r.Code != code || !dnstest.ContainsAll(text, parts) {
			t.Errorf("%s %s: got %d %s; want %d with %q", method, path, r.Code, text, code, parts)
		}
	}
	put()
	origin := `"origin":{"engine":"tcp://m","container":"shop_web.1.x7kq","image":"nginx:1",` +
		`"service":"shop_web","task":"x7kq","slot":1,"node":"beta","stack":"shop"},"state":"running"`
	f("GET", "/services", "", 200, `"`+id+`":{`, origin)
	f("GET", "/services/abcd", "", 200, origin)
	f("GET", "/status", "", 200, `"swarm":{"role":"manager","node":"alpha","up":false,"services":0,"tasks":1,`)
	f("GET", "/metrics", "", 200, `dnsdock_swarm_tasks{engine="tcp://m"}1`)

	f("PATCH", "/services/"+id, `{"ttl": 7}`, 200, `"ttl":7`)
	put() // by the next poll
	f("GET", "/services/"+id, "", 200, `"ttl":7`, origin)
	f("DELETE", "/services/"+id, "", 204)
	put()
	f("GET", "/services/"+id, "", 404)
	reg.Forget(id)
	put()
	f("GET", "/services/"+id, "", 200, `"ttl":-1`)
}

// Events say that a swarm's managers tell its tasks, or no longer.
func TestEventsOfSwarm(t *testing.T) {
	for isUp, event := range map[bool]string{true: "swarm-found", false: "swarm-lost"} {
		reg := newTestRegistry(t, "docker")
		l, _, err := reg.feed.Listen(netip.MustParseAddr("127.0.0.1"))
		if err != nil {
			t.Fatal(err)
		}
		defer reg.feed.Leave(l)
		swarm := engine.Swarm{Role: "manager", Up: isUp}
		reg.feed.PublishState("swarm", isUp, engine.Status{URL: "tcp://m", Swarm: &swarm})
		c := <-l.Changes
		data, err := json.Marshal(encodeChange(c))
		want := fmt.Sprintf(`"swarm":{"role":"manager","node":"","up":%t,`, isUp)
		if c.Event != event || err != nil || !strings.Contains(string(data), want) {
			t.Errorf("got %s %s, %v; want %s with %s", c.Event, data, err, event, want)
		}
	}
}
