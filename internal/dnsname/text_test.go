package dnsname

import (
	"slices"
	"strings"
	"testing"
)

func TestFromText(t *testing.T) {
	long := strings.Repeat("a", 63)
	for _, c := range []struct{ in, want string }{
		{"docker", "docker."},
		{" DB.Docker.\n", "db.docker."},
		{"_http._tcp.a-b.docker", "_http._tcp.a-b.docker."},
		{"*.docker", "*.docker."},
		{".", "."},
		{"-a-.docker", "-a-.docker."},
		{"ab--c.docker", "ab--c.docker."},
		{"bücher.shop.example", "xn--bcher-kva.shop.example."},
		{"BÜCHER.Shop.Example", "xn--bcher-kva.shop.example."},
		{"bu\u0308cher.example", "xn--bcher-kva.example."}, // a combining diaeresis
		{"xn--bcher-kva.example", "xn--bcher-kva.example."},
		{"xn--zzzzzz", "xn--zzzzzz."}, // no A-label, but a host name
		{"faß.example", "xn--fa-hia.example."},
		{"日本語。jp", "xn--wgv71a119e.jp."}, // an ideographic full stop
		{"ｄｏｃｋｅｒ", "docker."},
		{"doc\u00adker", "docker."}, // a soft hyphen is left out
		{"col·lecció.example", "xn--collecci-ioa91d.example."},
		{"my_бд.ab--c", "xn--my_-dddp.ab--c."},
		{"*.bücher.example", "*.xn--bcher-kva.example."},
		{long + ".docker", long + ".docker."},
		{strings.Repeat("a.", 127), strings.Repeat("a.", 127)},
	} {
		n, err := fromText(c.in)
		if err != nil || n.String() != c.want {
			t.Errorf("fromText(%q) = %v, %v; want %v", c.in, n, err, c.want)
		}
		if again, err := Parse(c.want); err != nil || again != n {
			t.Errorf("%q: %q is not what Parse reads, %q", c.in, n, again)
		}
	}
}

// What is no host name is refused, with a proposal where there is a host name in it.
func TestFromTextRefuses(t *testing.T) {
	for _, c := range []struct{ in, propose string }{
		{"", ""},
		{"  ", ""},
		{"..", ""},
		{".docker", "write docker"},
		{"a..docker", "write a.docker"},
		{"a.docker..", "write a.docker"},
		{`"quoted.shop.example"`, "write quoted.shop.example"},
		{`'quoted.shop.example'`, "write quoted.shop.example"},
		{`“quoted.shop.example”`, "write quoted.shop.example"},
		{`"quoted.shop.example`, "write quoted.shop.example"},
		{"http://url.shop.example/", "write url.shop.example"},
		{"https://user:pw@URL.shop.example:8443/a?b#c", "write url.shop.example"},
		{"//url.shop.example/x", "write url.shop.example"},
		{"url.shop.example/path", "write url.shop.example"},
		{"host:8080", "write host"},
		{"bücher.example:8080", "write bücher.example"},
		{"host:", "write host"},
		{"user@host.example", "write host.example"},
		{"My App", "write my-app"},
		{"name=value", ""},
		{"a\x00b", ""},
		{"a\\.b", "write a"},
		{"a\tb", "write a-b"},
		{"a*b", ""},
		{"a,b", ""},
		{"a;", "write a"},
		{"[::1]:53", ""},
		{"fd00::1", ""},
		{"\xff.docker", ""},
		{"web–1.docker", ""},
		{"💩.docker", ""},
		{strings.Repeat("a", 64), ""},
		{strings.Repeat("ü", 63), ""},
		{strings.Repeat("a.", 128), ""},
		{"://", ""},
		{"\"\"", ""},
	} {
		want := "write labels"
		if c.propose != "" {
			want = c.propose + " ("
		} else if strings.TrimSpace(c.in) == "" {
			want = "write one"
		}
		n, err := fromText(c.in)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("fromText(%q) = %q, %v; want an error with %q", c.in, n, err, want)
		}
		if _, rest, ok := strings.Cut(c.propose, "write "); ok {
			if _, err := fromText(rest); err != nil {
				t.Errorf("%q is proposed for %q, and refused: %v", rest, c.in, err)
			}
		}
	}
}

func TestParseAlias(t *testing.T) {
	for _, in := range []string{"db.docker", "shop.example.com", "intranet", "test", "docker", "a.co.uk", "bücher.example", "*"} {
		if _, err := ParseAlias(in); err != nil {
			t.Errorf("%q: %v; want no error", in, err)
		}
	}
	for _, in := range []string{".", "*.docker", "*.*", "2.0.17.172.in-addr.arpa", "ip6.arpa", "a.localhost", "onion", "invalid",
		"com", "co.uk", "xn--p1ai", "рф", "10.0.0.1", "com.br", "", "a b"} {
		if n, err := ParseAlias(in); err == nil {
			t.Errorf("%q is %v; want an error", in, n)
		}
	}
}

func TestParseTarget(t *testing.T) {
	if n, err := ParseTarget("Bücher.example"); err != nil || n.String() != "xn--bcher-kva.example." {
		t.Errorf("got %v, %v", n, err)
	}
	for _, in := range []string{".", "*", "*.example.com", "http://example.com", ""} {
		if n, err := ParseTarget(in); err == nil {
			t.Errorf("%q is %v; want an error", in, n)
		}
	}
}

func TestParseQuestion(t *testing.T) {
	for in, want := range map[string]string{
		" bücher.docker ": "xn--bcher-kva.docker.", "*.docker": "*.docker.", `a\000b.docker`: `a\000b.docker.`, "my app.docker": `my\ app.docker.`,
	} {
		if n, err := ParseQuestion(in); err != nil || n.String() != want {
			t.Errorf("%q: got %v, %v; want %s", in, n, err, want)
		}
	}
	if n, err := ParseQuestion("a..b"); err == nil {
		t.Errorf("got %v; want an error", n)
	}
}

func TestSplitList(t *testing.T) {
	got := SplitList(" a.docker,b.docker\n\tc.docker\r\n,, d.docker ")
	if want := []string{"a.docker", "b.docker", "c.docker", "d.docker"}; !slices.Equal(got, want) {
		t.Errorf("got %q; want %q", got, want)
	}
}

func TestUnicode(t *testing.T) {
	for in, want := range map[string]string{
		"xn--bcher-kva.shop.example": "bücher.shop.example", "a.docker": "a.docker", "xn--zzzzzz.docker": "xn--zzzzzz.docker", `xn--a\000.docker`: `xn--a\000.docker`,
	} {
		if got := Unicode(mustName(t, in)); got != want {
			t.Errorf("%q: got %q; want %q", in, got, want)
		}
	}
}

// FuzzFromText holds that a name made of any text is a host name, is the same
// when its spellings are read again, and that what an error proposes is taken.
func FuzzFromText(f *testing.F) {
	for _, s := range []string{"bücher.shop.example", "http://host:80/", "a b", "日本語。jp", "\u05d0.docker", "a\u200db", "xn--zzzzzz"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := fromText(s)
		if err != nil {
			if host := hostIn(s); host != "" {
				if _, err := fromText(host); err != nil {
					t.Fatalf("%q: proposes %q, which is refused: %v", s, host, err)
				}
			}
			return
		}
		if len(n) > MaxLen || strings.Trim(Text(n), hostChars+".*") != "" {
			t.Fatalf("%q: %q is no host name", s, n)
		}
		for _, text := range []string{n.String(), Text(n), Unicode(n)} {
			if n == Root {
				break
			}
			if again, err := fromText(text); err != nil || again != n {
				t.Fatalf("%q: fromText(%q) = %q, %v; want %q", s, text, again, err, n)
			}
		}
		if again, err := Parse(n.String()); err != nil || again != n {
			t.Fatalf("%q: Parse(%q) = %q, %v; want %q", s, n.String(), again, err, n)
		}
	})
}
