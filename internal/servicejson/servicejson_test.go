package servicejson

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/publish"
)

// Properties that can't be used are refused with an error that says what to write.
func TestReadRefuses(t *testing.T) {
	for _, tt := range []struct{ body, want string }{
		{``, "no JSON object"},
		{`name=foo&image=bar`, "no JSON object"},
		{`{"name":"foo"`, "no JSON object"},
		{`{"ttl":1}{"ttl":2}`, "no JSON object"},
		{`{"ttl":1} x`, "no JSON object"},
		{`{"ttl":1,}`, "no JSON object"},
		{`[]`, "no JSON object"},
		{`null`, "no JSON object"},
		{`"ttl"`, "no JSON object"},
		{`5`, "no JSON object"},
		{`{"ttl":01}`, "no JSON object"},
		{"\xff\xfe", "no JSON object"},
		{`{"nme":"foo"}`, `"nme": unknown: write name, image, ip, ips, cname, txt, ports, ttl or aliases`},
		{`{"":1}`, `unknown`},
		{`{"id":"x"}`, `"id": unknown`},
		{`{"name":5}`, `"name": write a string`},
		{`{"name":null}`, `"name": write a string`},
		{`{"name":["foo"]}`, `"name": write a string`},
		{`{"image":true}`, `"image": write a string`},
		{`{"name":"a..b"}`, `"name": "a..b"`},
		{`{"name":"."}`, `"name": "."`},
		{`{"name":"*"}`, `can't be part of a name`},
		{`{"image":"a.*"}`, `can't be part of a name`},
		{`{"name":"` + strings.Repeat("a", 64) + `"}`, `labels of 1 to 63 bytes`},
		{`{"name":"` + strings.Repeat("a.", 126) + `aa"}`, `255`},
		{`{"ttl":"10"}`, `"ttl": write seconds from 0 to 2147483647, or -1 for the default`},
		{`{"ttl":-2}`, `"ttl": write seconds`},
		{`{"ttl":2147483648}`, `"ttl": write seconds`},
		{`{"ttl":1e99}`, `"ttl": write seconds`},
		{`{"ttl":99999999999999999999}`, `"ttl": write seconds`},
		{`{"ttl":1.5}`, `"ttl": write seconds`},
		{`{"ttl":null}`, `"ttl": write seconds`},
		{`{"ip":"192.168.0"}`, `"ip": "192.168.0": write an IPv4 or IPv6 address`},
		{`{"ip":"192.168.0.3/24"}`, `write an IPv4 or IPv6 address`},
		{`{"ip":"fe80::1%eth0"}`, `write an IPv4 or IPv6 address`},
		{`{"ip":""}`, `"ip": write at least one address`},
		{`{"ips":[]}`, `"ip": write at least one address`},
		{`{"ip":null}`, `"ip": write a string`},
		{`{"ips":null}`, `"ips": write a string`},
		{`{"ip":3232235523}`, `"ip": write a string`},
		{`{"ips":[1]}`, `"ips": write a string`},
		{`{"ips":[null,"10.0.0.1"]}`, `"ips": write a string`},
		{`{"ips":{"a":"b"}}`, `"ips": write a string`},
		{`{"ip":"10.0.0.1","ips":["10.0.0.2"]}`, `write only one of the two`},
		{`{"ip":"10.0.0.1,10.0.0.9","ips":["10.0.0.1"]}`, `write only one of the two`},
		{`{"alias":"www.onion"}`, `"aliases": "www.onion": an alias can't be under localhost, invalid or onion`},
		{`{"alias":"."}`, `"aliases": ".": an alias can't be the root`},
		{`{"alias":"*.docker"}`, `'*'`},
		{`{"alias":"1.0.0.10.in-addr.arpa"}`, `reverse zone`},
		{`{"aliases":["x.ip6.arpa"]}`, `reverse zone`},
		{`{"aliases":["a..b"]}`, `no domain name`},
		{`{"aliases":null}`, `"aliases": write a string`},
		{`{"aliases":[null]}`, `"aliases": write a string`},
		{`{"aliases":5}`, `"aliases": write a string`},
		{`{"alias":"a.docker","aliases":["b.docker"]}`, `"aliases" is there twice`},
		{`{"cname":"www.example.com","ip":"10.0.0.1"}`, `can't be both`},
		{`{"cname":"."}`, `"cname": a CNAME can't point to the root`},
		{`{"cname":"*.docker"}`, `'*'`},
		{`{"cname":["a.docker"]}`, `"cname": write a name`},
		{`{"cname":null}`, `"cname": write a name`},
		{`{"cname":"a..b"}`, `no domain name`},
		{`{"txt":5}`, `"txt": write a string or a list`},
		{`{"txt":null}`, `"txt": write a string or a list`},
		{`{"txt":[null]}`, `"txt": write a string or a list`},
		{`{"txt":"` + strings.Repeat("x", publish.MaxTXT) + `"}`, `"txt": too long`},
		{`{"ports":"http"}`, `"ports": "http": write PORT/PROTOCOL`},
		{`{"ports":["80/icmp"]}`, `write PORT/PROTOCOL`},
		{`{"ports":["80/tcp=a.b"]}`, `write the port's name`},
		{`{"ports":80}`, `"ports": write a string or a list`},
		{`{"ports":"` + manyPorts() + `"}`, `"ports": too many: at most 1000`},
		{`{"ttl":1,"TTL":2}`, `"ttl" is there twice`},
		{`{"ttl":1,"ttl":2}`, `"ttl" is there twice`},
		{`{"ttl":1,"ttl":1}`, `"ttl" is there twice`},
		{`{"alias":"a.docker","alias":"a.docker"}`, `"aliases" is there twice`},
		{`{"names":[],"names":[]}`, `"names" is there twice`},
		{`{"t\u0074l":1,"ttl":2}`, `"ttl" is there twice`},
		{`{"ttl":1,"ttl":2`, "no JSON object"},
		{`{"ttl":1]`, "no JSON object"},
		{`{ttl:1}`, "no JSON object"},
		{`{"ttl" 1}`, "no JSON object"},
		{`{"ttl":1}}`, "no JSON object"},
	} {
		t.Run(fmt.Sprintf("%.60q", tt.body), func(t *testing.T) {
			if _, err := ReadPatch([]byte(tt.body)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("ReadPatch: got error %v; want one with %q", err, tt.want)
			}
			if _, err := ReadService([]byte(tt.body), false); err == nil { // it names the first of several faults
				t.Error("ReadService: got no error")
			}
		})
	}
}

func manyPorts() string {
	var b strings.Builder
	for i := range publish.MaxPorts + 1 {
		fmt.Fprintf(&b, "%d,", i)
	}
	return b.String()
}

// What a whole service must have, and its defaults.
func TestReadService(t *testing.T) {
	f := func(body string, mayBeNameless bool, want string) {
		t.Helper()
		p, err := ReadService([]byte(body), mayBeNameless)
		got := fmt.Sprint(err)
		if err == nil {
			text, _ := json.Marshal(OfPatch(p)) // no error: it is strings and numbers
			got = string(text)
		}
		if !strings.Contains(got, want) {
			t.Errorf("%s: got %s; want %s", body, got, want)
		}
	}
	f(`{"name":"foo","image":"bar","ip":"10.0.0.1"}`, false, `{"name":"foo","image":"bar",`+
		`"ip":"10.0.0.1","ips":["10.0.0.1"],"cname":"","txt":[],"ports":[],"ttl":-1,"aliases":[]}`)
	f(`{"name":"foo","image":"","cname":"a.example"}`, false, `{"name":"foo","image":"",`+
		`"cname":"a.example","txt":[],"ports":[],"ttl":-1,"aliases":[]}`)
	f(`{"name":"","image":"","ip":"host"}`, false, "both empty")
	f(`{"name":"","image":"","ip":"host"}`, true, `"ips":["host"]`)
	f(`{"image":"bar","ip":"10.0.0.1"}`, false, `"name" is missing`)
	f(`{"name":"foo","ip":"10.0.0.1"}`, false, `"image" is missing`)
	f(`{"name":"foo","image":"bar"}`, false, `"ip" is missing`)
	f(`{"name":"foo","image":"bar","cname":""}`, false, `"ip" is missing`)
}

// Names are shown in both spellings, and second names apart from the first. What is shown is read
// again.
func TestOf(t *testing.T) {
	s := &publish.Service{
		ID: "x", ContainerLabel: "a", ImageLabel: "b", TTL: publish.DefaultTTL,
		OwnerNames:  []dnsname.Name{mustName(t, "a.b.docker"), mustName(t, "xn--bcher-kva.shop.example")},
		SecondNames: []dnsname.Name{mustName(t, "1.web.shop.docker"), mustName(t, "xn--n-nga1b.docker")},
		Extras: &publish.Extras{
			CNAME:   mustName(t, "xn--mnchen-3ya.example"),
			Aliases: []dnsname.Name{mustName(t, "xn--bcher-kva.shop.example")},
		},
	}
	text, err := json.Marshal(Of(s))
	want := `{"name":"a","image":"b","ip":"","ips":[],"cname":"xn--mnchen-3ya.example","ttl":-1,` +
		`"aliases":["xn--bcher-kva.shop.example"],"names":["a.b.docker","xn--bcher-kva.shop.example"],` +
		`"second_names":["1.web.shop.docker","xn--n-nga1b.docker"],` +
		`"unicode":{"xn--bcher-kva.shop.example":"bücher.shop.example",` +
		`"xn--mnchen-3ya.example":"münchen.example","xn--n-nga1b.docker":"ünï.docker"},"origin":{}}`
	if err != nil || string(text) != want {
		t.Errorf("got %s, %v; want %s", text, err, want)
	}
	if _, err := ReadPatch(text); err != nil {
		t.Errorf("ReadPatch: %v", err)
	}
}

// Text becomes a name in one way, and what is no name is refused with what to write instead.
func TestReadNames(t *testing.T) {
	f := func(body, want string) {
		t.Helper()
		p, err := ReadPatch([]byte(body))
		got := fmt.Sprint(err)
		if err == nil {
			text, _ := json.Marshal(OfPatch(p)) // no error: it is strings and numbers
			got = string(text)
		}
		if !strings.Contains(got, want) {
			t.Errorf("%s: got %s; want it with %s", body, got, want)
		}
	}
	f(`{"aliases":"BÜCHER.example, b.docker\n c.docker\td.docker,,"}`,
		`{"aliases":["xn--bcher-kva.example","b.docker","c.docker","d.docker"]}`)
	f(`{"aliases":["bücher.example","xn--bcher-kva.example"]}`, `{"aliases":["xn--bcher-kva.example"]}`)
	f(`{"cname":"bu\u0308cher.example"}`, `{"cname":"xn--bcher-kva.example"}`)
	f(`{"ips":"10.0.0.1 10.0.0.2\nfd00::1"}`, `"ips":["10.0.0.1","10.0.0.2","fd00::1"]`)
	f(`{"ports":"80 443"}`, `"ports":["80/tcp","443/tcp"]`)
	f(`{"alias":["http://host.example/"]}`, `write host.example`)
	f(`{"alias":["host.example:8080"]}`, `write host.example`)
	f(`{"alias":["\"host.example\""]}`, `write host.example`)
	f(`{"alias":["My App"]}`, `write my-app`)
	f(`{"alias":["a\u0000b.docker"]}`, `is no domain name: write labels`)
	f(`{"name":"a\u0000b"}`, `is no domain name: write labels`)
	f(`{"name":"My App"}`, `write my-app`)
	f(`{"image":"http://x/"}`, `write x`)
	f(`{"cname":"https://host.example/path"}`, `write host.example`)
	f(`{"alias":"com"}`, `can't be com`)
}

// An empty patch sets nothing, and so it is written.
func TestOfPatch(t *testing.T) {
	f := func(body, want string) {
		t.Helper()
		p, err := ReadPatch([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := json.Marshal(OfPatch(p)); err != nil || string(got) != want {
			t.Errorf("%s: got %s, %v; want %s", body, got, err, want)
		}
	}
	f(`{}`, `{}`)
	f(`{"Alias":"","TXT":[],"ports":[],"cname":"","ttl":0,"name":"","image":""}`,
		`{"name":"","image":"","cname":"","txt":[],"ports":[],"ttl":0,"aliases":[]}`)
	f(`{"ips":["10.0.0.1","host"]}`, `{"ip":"10.0.0.1","ips":["10.0.0.1","host"]}`)
	f(`{"names":["x"],"origin":{},"state":"running","since":"x"}`, `{}`)
}

// FuzzServiceJSON: no body harms, and what is accepted is given back as what
// is accepted again and means the same.
func FuzzServiceJSON(f *testing.F) {
	naming := publish.NameRules{Apex: mustName(f, "docker")}
	addrs := []netip.Addr{netip.MustParseAddr("10.9.9.9")}
	empty := &publish.Service{ID: "x", Extras: new(publish.Extras)}
	base := &publish.Service{ID: "x", ContainerLabel: "n", ImageLabel: "i", Addrs: addrs, Extras: empty.Extras}
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := ReadPatch(body)
		if err != nil {
			return
		}
		s, err := naming.Patched(base, p)
		if err != nil {
			return // its parts are too long together
		}
		text, err := json.Marshal(Of(s))
		if err != nil {
			t.Fatalf("%v can't be written: %v", s, err)
		}
		again, err := ReadPatch(text)
		if err != nil {
			t.Fatalf("%s is given and not accepted: %v", text, err)
		}
		if got, err := naming.Patched(empty, again); err != nil || !got.Equal(s) {
			t.Errorf("%s: got %+v, %v; want %+v", text, got, err, s)
		}
	})
}

// As many aliases as a body holds cost no more than their number.
func TestReadVeryManyAliases(t *testing.T) {
	var text strings.Builder
	for i := range 90000 {
		fmt.Fprintf(&text, "a%d.d,", i)
	}
	body := func(aliases string) string {
		return fmt.Sprintf(`{"name":"a","image":"b","ip":"10.0.0.1","aliases":%q}`, aliases)
	}
	if _, err := ReadPatch([]byte(body(text.String()))); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("ReadPatch: %v; want an error that says how many", err)
	}
	p, err := ReadPatch([]byte(body(strings.Repeat("a.d,", 200000))))
	if err != nil || len(*p.Aliases) != 1 {
		t.Errorf("the same alias again and again: %v; want it once", err)
	}
}

func mustName(t testing.TB, s string) dnsname.Name {
	t.Helper()
	n, err := dnsname.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
