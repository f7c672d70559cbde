package dnsname

import (
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// mustName is Parse for names that tests know to be good.
func mustName(t testing.TB, s string) Name {
	t.Helper()
	n, err := Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestParseName(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"docker", "docker."},
		{"docker.", "docker."},
		{"Redis1.REDIS.docker", "redis1.redis.docker."},
		{".", "."},
		{"a_b.docker", "a_b.docker."},
		{"my app.docker", `my\ app.docker.`},
		{`a\.b.docker`, `a\.b.docker.`},
		{"É.docker", `\195\137.docker.`},
		{strings.Repeat("a", 63) + ".docker", strings.Repeat("a", 63) + ".docker."},
	} {
		n, err := Parse(c.in)
		if err != nil || n.String() != c.want {
			t.Errorf("Parse(%q) = %v, %v; want %v", c.in, n, err, c.want)
		}
	}
	for _, in := range []string{"", "..", ".docker", "a..docker", strings.Repeat("a", 64), strings.Repeat("a.", 128), `a\`} {
		if n, err := Parse(in); err == nil {
			t.Errorf("Parse(%q) = %v; want an error", in, n)
		}
	}
}

func TestNameUnder(t *testing.T) {
	for _, c := range []struct {
		n, zone string
		want    bool
	}{
		{"docker", "docker", true},
		{"a.docker", "docker", true},
		{"adocker", "docker", false},
		{"docker", "a.docker", false},
		{`a\.docker`, "docker", false}, // one label
		{"docker", ".", true},
	} {
		if got := mustName(t, c.n).Under(mustName(t, c.zone)); got != c.want {
			t.Errorf("%s under %s = %v; want %v", c.n, c.zone, got, c.want)
		}
	}
}

func TestNameAddr(t *testing.T) {
	for _, text := range []string{"172.17.0.2", "8.8.8.8", "fd00:dd::1", "::1", "2001:db8:1:2:3:4:5:6"} {
		rev, err := dns.ReverseAddr(text)
		if err != nil {
			t.Fatal(err)
		}
		if a, ok := mustName(t, rev).Prefix(); !ok || !a.IsSingleIP() || a.Addr().String() != text {
			t.Errorf("addr of %s = %v, %v; want %s", rev, a, ok, text)
		}
	}
	for _, n := range []string{
		"in-addr.arpa", "17.172.in-addr.arpa", "x.2.0.17.172.in-addr.arpa", "02.0.17.172.in-addr.arpa", "256.0.17.172.in-addr.arpa",
		`1\.2.0.17.172.in-addr.arpa`, "ip6.arpa", "1.ip6.arpa", strings.Repeat("g.", 32) + "ip6.arpa", strings.Repeat(":.", 32) + "ip6.arpa",
		"2.0.17.172.docker",
	} {
		if a, ok := mustName(t, n).Prefix(); ok && a.IsSingleIP() {
			t.Errorf("addr of %s = %v; want none", n, a)
		}
	}
}

// FuzzName holds that a name survives its own presentation, and that its
// octets are what goes over the wire.
func FuzzName(f *testing.F) {
	f.Add(strings.Repeat("a.", 127))
	f.Fuzz(func(t *testing.T, s string) {
		n, err := Parse(s)
		if err != nil {
			return
		}
		if len(n) > MaxLen {
			t.Fatalf("%q: %d octets", s, len(n))
		}
		if again, err := Parse(n.String()); err != nil || again != n {
			t.Fatalf("Parse(%q) = %q, %v; want %q", n.String(), again, err, n)
		}
		if got := len(n.Split()); got != n.Labels() || got != dns.CountLabel(n.String()) {
			t.Fatalf("%v: %d labels, split gives %d; want %d", n, n.Labels(), got, dns.CountLabel(n.String()))
		}
		if _, ok := n.Prefix(); ok && !n.IsReverse() {
			t.Fatalf("%v is of addresses but not reverse", n)
		}
	})
}
