package index

import (
	"testing"

	"github.com/rayje/dnsdock/internal/publish"
)

func TestNamesRule(t *testing.T) {
	r := newRig(t, "docker")
	for _, s := range []*publish.Service{
		testService(t, r, "r1", "redis1", "redis", "172.17.0.2"),
		testService(t, r, "r2", "redis2", "redis", "172.17.0.3"),
		testService(t, r, "db", "master", "mysql", "172.17.0.4", "db.docker", "shop.example.com", "com"),
		testService(t, r, "in", "inner", "x", "172.17.0.5", "mysql.docker", "www.shop.example.com"),
	} {
		r.put(s.ID, s)
	}
	for _, c := range []struct{ q, want string }{
		{"docker", "db in r1 r2"},
		{"*.docker", "db in r1 r2"},
		{"redis.docker", "r1 r2"},
		{"REDIS.docker", "r1 r2"},
		{"redis1.redis.docker", "r1"},
		{"x.y.redis1.redis.docker", "r1"},
		{"redis1.*.docker", "db in r1"}, // the aliases db and mysql are at *
		{"*.redis.docker", "r1 r2"},
		{"x.*.redis.docker", "r1 r2"},
		{"*.*.*.docker", "db in r1 r2"},
		{"redis3.redis.docker", ""},
		{"redis1.docker", ""},
		{"db.docker", "db"},
		{"x.db.docker", "db"},
		{"mysql.docker", "db in"},        // an alias that is an image name too
		{"master.mysql.docker", "db in"}, // below the alias
		{"other.mysql.docker", "in"},     // below the alias only
		{"shop.example.com", "db in"},    // below it is an alias
		{"a.shop.example.com", "db"},
		{"www.shop.example.com", "db in"},
		{"*.shop.example.com", "db in"},
		{"example.com", "foreign"},
		{"*.example.com", "foreign"},
		{"com", "db in"}, // at an alias, and another below; but an alias of one label answers nothing below it
		{"net", "foreign"},
		{"x.com", "foreign"},
		{".", "foreign"},
	} {
		if got := matched(t, r, c.q); got != c.want {
			t.Errorf("%s: %q; want %q", c.q, got, c.want)
		}
	}
	r.forget("in") // what it shared lives on
	for q, want := range map[string]string{"mysql.docker": "db", "other.mysql.docker": "", "shop.example.com": "db", "www.shop.example.com": "db"} {
		if got := matched(t, r, q); got != want {
			t.Errorf("after forget, %s: %q; want %q", q, got, want)
		}
	}
	r.forget("db")
	for _, q := range []string{"shop.example.com", "a.shop.example.com", "com"} {
		if got := matched(t, r, q); got != "foreign" {
			t.Errorf("after forget, %s: %q; want foreign", q, got)
		}
	}
}

// With closest, what stands at a name is all that it answers, and a longer
// query goes to the nearest name only.
func TestClosest(t *testing.T) {
	r := newRig(t, "docker")
	r.Rules.Closest = true
	for _, s := range []*publish.Service{
		testService(t, r, "a", "a", "app", "172.17.0.2", "service.x.com"),
		testService(t, r, "b", "b", "app", "172.17.0.3", "client.service.x.com", "app.docker"),
		testService(t, r, "c", "c", "db", "172.17.0.4", "x.y.client.service.x.com", "service.x.com"),
		testService(t, r, "d", "d", "db", "172.17.0.5"),
	} {
		r.put(s.ID, s)
	}
	for _, c := range []struct{ q, want string }{
		{"service.x.com", "a c"},
		{"other.service.x.com", "a c"},
		{"client.service.x.com", "b"},
		{"z.client.service.x.com", "b"},
		{"y.client.service.x.com", "c"}, // nothing stands there: what is below it
		{"z.x.y.client.service.x.com", "c"},
		{"z.y.client.service.x.com", "b"},
		{"app.docker", "b"},
		{"a.app.docker", "a"},
		{"z.app.docker", "b"},
		{"db.docker", "c d"},
		{"d.db.docker", "d"},
		{"z.d.db.docker", "d"},
		{"e.db.docker", ""},
		{"docker", "a b c d"},
		{"*.service.x.com", "b c"},
		{"*.client.service.x.com", "c"},
		{"z.*.service.x.com", "b"},
		{"*.z.client.service.x.com", "b"},
		{"x.com", "foreign"},
	} {
		if got := matched(t, r, c.q); got != c.want {
			t.Errorf("%s: %q; want %q", c.q, got, c.want)
		}
	}
}

// The apex and what is above it must not swallow the unknown names below.
func TestNamesRuleAtTheApex(t *testing.T) {
	r := newRig(t, "docker.example.com")
	s := testService(t, r, "s", "", "", "172.17.0.2", "docker.example.com", "example.com")
	r.put(s.ID, s)
	for _, c := range []struct{ q, want string }{
		{"docker.example.com", "s"},
		{"x.docker.example.com", ""},
		{"*.x.docker.example.com", ""},
		{"example.com", "s"},
		{"x.example.com", "s"},
	} {
		if got := matched(t, r, c.q); got != c.want {
			t.Errorf("%s: %q; want %q", c.q, got, c.want)
		}
	}
}

// The '*' in front that make no difference go, and no others.
func TestTrim(t *testing.T) {
	r := newRig(t, "docker")
	r.put("a", testService(t, r, "a", "web", "nginx", "10.0.0.1"))
	r.put("b", testService(t, r, "b", "", "", "10.0.0.2")) // of the apex, which answers itself only
	for q, want := range map[string]string{
		"*.nginx.docker": "nginx.docker.", "*.*.web.nginx.docker": "web.nginx.docker.", "web.*.docker": "web.*.docker.",
		"*.docker": "*.docker.", "*.*.docker": "*.docker.", "*": ".",
	} {
		if got := r.Trim(mustName(t, q)).String(); got != want {
			t.Errorf("%s: got %s; want %s", q, got, want)
		}
	}
	r.Rules.Closest = true
	if got := r.Trim(mustName(t, "*.nginx.docker")).String(); got != "*.nginx.docker." {
		t.Errorf("closest: got %s", got)
	}
}
