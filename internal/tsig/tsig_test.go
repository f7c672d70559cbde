package tsig

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const secret = "c2VjcmV0IG9mIDE2IGJ5dGVzIG9yIG1vcmU="

func TestParse(t *testing.T) {
	text := "# two keys\nkey \"a\" {\n\talgorithm hmac-sha256;\n\tsecret \"" + secret + "\";\n};\n" +
		"/* or { */ key B.example { secret " + secret + "; algorithm HMAC-SHA512; }; // last"
	keys, err := parse(text)
	if err != nil || len(keys) != 2 || keys[0] != (Key{"a.", dns.HmacSHA256, secret}) ||
		keys[1] != (Key{"b.example.", dns.HmacSHA512, secret}) {
		t.Errorf("got %+v, %v", keys, err)
	}
	for bad, want := range map[string]string{
		"":                          "there is no key",
		"zone \"x\" { type y; };":   "is no key",
		`key "a" { algorithm`:       "is no key",
		text + text:                 "there twice",
		`key "a" { b c; };`:         `"b" is not known`,
		`key "a..b" { secret x; };`: "no domain name",
		`key "a" { algorithm hmac-sha1; secret "` + secret + `"; };`:      "use hmac-sha256",
		`key "a" { algorithm hmac-md5; secret "` + secret + `"; };`:       "use hmac-sha256",
		`key "a" { algorithm hmac-sha256; secret "c2hvcnQ="; };`:          "16 bytes or more",
		`key "a" { algorithm hmac-sha256; secret "` + secret + `" };`:     "is not known",
		`key "a" { algorithm hmac-sha256; secret "no base64 at all"; }; `: "16 bytes or more",
	} {
		if _, err := parse(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v; want %q", bad, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("key \"a\" { algorithm hmac-sha256; secret \"" + secret + "\"; }; # x")
	f.Fuzz(func(t *testing.T, text string) {
		if keys, err := parse(text); err == nil && (len(keys) == 0 || keys[0].Name == "") {
			t.Errorf("got %+v and no error", keys)
		}
	})
}

// Messages of this package are good for miekg/dns, and the other way round.
func TestSessions(t *testing.T) {
	now := time.Now()
	for _, algorithm := range algorithms {
		key := Key{"k.example.", algorithm, secret}
		q := new(dns.Msg).SetQuestion("docker.", dns.TypeAXFR)
		q.SetTsig("K.example.", algorithm, fudge, now.Unix())
		b, mac, err := dns.TsigGenerate(q, secret, "", false)
		if err != nil {
			t.Fatal(err)
		}
		s, query, err := Verify(b, []Key{{"other.", algorithm, secret}, key}, now)
		if err != nil || IsSigned(query) || !IsSigned(b) {
			t.Fatalf("%s: got %v", algorithm, err)
		}
		reply, err := new(dns.Msg).SetReply(q).Pack()
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			signed := s.Sign(append([]byte(nil), reply...), now)
			m := new(dns.Msg)
			if err := m.Unpack(signed); err != nil {
				t.Fatal(err)
			}
			if err := dns.TsigVerify(signed, secret, mac, i > 0); err != nil {
				t.Errorf("%s: message %d: %v", algorithm, i, err)
			}
			mac = m.IsTsig().MAC
		}
	}
}

func TestBadSignatures(t *testing.T) {
	now := time.Now()
	key := Key{"k.", dns.HmacSHA256, secret}
	sign := func(k Key, at time.Time) []byte {
		b, err := new(dns.Msg).SetQuestion("docker.", dns.TypeSOA).Pack()
		if err != nil {
			t.Fatal(err)
		}
		return (&Session{Key: k}).Sign(b, at)
	}
	changed := sign(key, now)
	changed[13] ^= 1 // a letter of the question
	short := new(dns.Msg).SetQuestion("docker.", dns.TypeSOA)
	short.Extra = append(short.Extra, &dns.TSIG{
		Hdr: dns.RR_Header{Name: "k.", Rrtype: dns.TypeTSIG, Class: dns.ClassANY}, Algorithm: dns.HmacSHA256,
		TimeSigned: uint64(now.Unix()), Fudge: fudge,
	})
	empty, err := short.Pack()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		b    []byte
		err  error
		code uint16
	}{
		"another secret": {sign(Key{"k.", dns.HmacSHA256, "YW5vdGhlciBzZWNyZXQgb2YgMTY="}, now), dns.ErrSig, dns.RcodeBadSig},
		"another key":    {sign(Key{"x.", dns.HmacSHA256, secret}, now), dns.ErrSecret, dns.RcodeBadKey},
		"algorithm":      {sign(Key{"k.", dns.HmacSHA512, secret}, now), dns.ErrSecret, dns.RcodeBadKey},
		"late":           {sign(key, now.Add(-301*time.Second)), dns.ErrTime, dns.RcodeBadTime},
		"early":          {sign(key, now.Add(301*time.Second)), dns.ErrTime, dns.RcodeBadTime},
		"changed":        {changed, dns.ErrSig, dns.RcodeBadSig},
		"no signature":   {empty, dns.ErrSig, dns.RcodeBadSig},
	} {
		s, _, err := Verify(c.b, []Key{key}, now)
		if !errors.Is(err, c.err) || s == nil {
			t.Errorf("%s: got %v; want %v", name, err, c.err)
			continue
		}
		m, q := new(dns.Msg), new(dns.Msg).SetQuestion("docker.", dns.TypeSOA)
		reply, _ := new(dns.Msg).SetRcode(q, dns.RcodeNotAuth).Pack()
		if err := m.Unpack(s.Sign(reply, now)); err != nil || m.IsTsig().Error != c.code ||
			(m.IsTsig().MACSize > 0) != (c.code == dns.RcodeBadTime) {
			t.Errorf("%s: got %v, %v; want error %d", name, m.IsTsig(), err, c.code)
		}
	}
}

func FuzzVerify(f *testing.F) {
	b, _ := new(dns.Msg).SetQuestion("docker.", dns.TypeSOA).Pack()
	key := Key{"k.", dns.HmacSHA256, secret}
	now := time.Unix(1_700_000_000, 0)
	good := (&Session{Key: key}).Sign(b, now)
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, query, err := Verify(b, []Key{key}, now)
		if s != nil && IsSigned(b) && len(query) < 12 {
			t.Error("the query has no header")
		}
		if err == nil && string(b[12:20]) != string(good[12:20]) {
			t.Errorf("%x is taken for signed", b)
		}
	})
}
