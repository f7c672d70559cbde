package transfer

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/tsig"
	"github.com/rayje/dnsdock/internal/zonetest"
)

const secret, otherSecret = "c2VjcmV0IG9mIDE2IGJ5dGVzIG9yIG1vcmU=", "YW5vdGhlciBzZWNyZXQgb2YgMTYgYnl0ZXM="

// keyText is a file of one key.
func keyText(name, secret string) string {
	return fmt.Sprintf("key %q { algorithm hmac-sha256; secret %q; };\n", name, secret)
}

// signed is a query for the zone that is signed at a time.
func signed(t testing.TB, key, secret string, at time.Time) []byte {
	t.Helper()
	b, err := new(dns.Msg).SetAxfr("docker.").Pack()
	if err != nil {
		t.Fatal(err)
	}
	s := tsig.Session{Key: tsig.Key{Name: key + ".", Algorithm: dns.HmacSHA256, Secret: secret}}
	return s.Sign(b, at)
}

// rcodeTo returns the rcode of the first reply to a query, and its TSIG; nil: there is none.
func rcodeTo(t testing.TB, s *Server, packet []byte) (rcode string, sig *dns.TSIG) {
	t.Helper()
	err := s.Serve(packet, client, true, func([]byte) []byte { panic("not asked") }, func(b []byte) error {
		m := new(dns.Msg)
		if err := m.Unpack(b); err != nil {
			t.Fatal(err)
		}
		if rcode == "" {
			rcode, sig = dns.RcodeToString[m.Rcode], m.IsTsig()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rcode, sig
}

// Only queries that are signed with a key of the file get the zone, and Reload takes keys from it and adds others. With
// a file that can't be used those from before stay.
func TestKeys(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(keyText("old", secret))
	s, log := newServer(t, zonetest.Filled(t, 3))
	s.cfg.KeyFile = file
	s.Reload()
	s.step(100)
	unsigned, err := new(dns.Msg).SetAxfr("docker.").Pack()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for _, c := range []struct {
		what, change, key, secret string
		at                        time.Time
		rcode                     string
		code                      uint16
	}{
		{"the key", "", "old", secret, now, "NOERROR", 0},
		{"another secret", "", "old", otherSecret, now, "NOTAUTH", dns.RcodeBadSig},
		{"an unknown key", "", "new", otherSecret, now, "NOTAUTH", dns.RcodeBadKey},
		{"another time", "", "old", secret, now.Add(-time.Hour), "NOTAUTH", dns.RcodeBadTime},
		{"the new key", keyText("new", otherSecret), "new", otherSecret, now, "NOERROR", 0},
		{"the old key", "", "old", secret, now, "NOTAUTH", dns.RcodeBadKey},
		{"the new key, after a bad file", "key", "new", otherSecret, now, "NOERROR", 0},
		{"the key of a mended file", keyText("old", secret), "old", secret, now, "NOERROR", 0},
	} {
		if c.change != "" {
			write(c.change)
			s.Reload()
		}
		rcode, sig := rcodeTo(t, s, signed(t, c.key, c.secret, c.at))
		if rcode != c.rcode || sig == nil || sig.Error != c.code {
			t.Errorf("%s: got %s, %v; want %s and the error %d", c.what, rcode, sig, c.rcode, c.code)
		}
	}
	if rcode, sig := rcodeTo(t, s, unsigned); rcode != "REFUSED" || sig != nil {
		t.Errorf("unsigned: got %s, %v", rcode, sig)
	}
	if n := strings.Count(log.String(), "level=ERROR msg=\"keys can't be read: those from before stay\""); n != 1 {
		t.Errorf("%d errors of the key file in the log; want 1:\n%s", n, log)
	}
}

// Of 1,000 clients that take nothing, ten hold a transfer, and two of one address. The others are told to come later,
// and when the ten are gone the next one is served.
func TestThousandClients(t *testing.T) {
	s, _ := newServer(t, zonetest.Filled(t, 3))
	s.cfg.Allow = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	s.step(100)
	q, err := new(dns.Msg).SetAxfr("docker.").Pack()
	if err != nil {
		t.Fatal(err)
	}
	release := make(chan struct{})
	held := make(chan netip.Addr, 1000)
	var refused, all sync.WaitGroup
	refused.Add(1000 - maxTransfers)
	for i := range 1000 {
		from := netip.AddrFrom4([4]byte{192, 0, 2, byte(i % 250)})
		all.Go(func() {
			_ = s.Serve(q, from, true, nil, func(b []byte) error { // it returns what this does
				if binary.BigEndian.Uint16(b[2:])&0xf == dns.RcodeServerFailure {
					refused.Done()
					return nil
				}
				held <- from
				<-release
				return nil
			})
		})
	}
	refused.Wait()
	count := make(map[netip.Addr]int)
	for range maxTransfers {
		from := <-held
		if count[from]++; count[from] > maxOfClient {
			t.Errorf("%v has %d transfers", from, count[from])
		}
	}
	close(release)
	all.Wait()
	rcode, _ := rcodeTo(t, s, q)
	isKnown := slices.ContainsFunc(s.Status(), func(o Secondary) bool { return o.Addr == client && o.Kind == "AXFR" })
	if rcode != "NOERROR" || len(s.running) != 0 || len(held) != 0 {
		t.Errorf("after them: got %s, and %v transfers are counted", rcode, s.running)
	}
	if len(s.Status()) > maxSecondaries || !isKnown {
		t.Errorf("%d clients are remembered, the last one: %t", len(s.Status()), isKnown)
	}
}

// A transfer is over TCP: over UDP its question is answered as any other.
func TestOverUDP(t *testing.T) {
	s, _ := newServer(t, zonetest.Filled(t, 3))
	q, err := new(dns.Msg).SetAxfr("docker.").Pack()
	if err != nil {
		t.Fatal(err)
	}
	if s.Takes(q, false) {
		t.Error("it takes a query for a zone over UDP")
	}
	s.cfg.KeyFile = "keys" // a signed one is taken, to be answered signed
	s.keys = []tsig.Key{{Name: "k.", Algorithm: dns.HmacSHA256, Secret: secret}}
	asked := 0
	q = signed(t, "k", secret, time.Now())
	err = s.Serve(q, client, false, func(b []byte) []byte { asked++; return b }, func([]byte) error { return nil })
	if !s.Takes(q, false) || asked != 1 || err != nil {
		t.Errorf("signed: it was asked %d times, %v; want once", asked, err)
	}
}

// A secondary that throws away each zone with a large set seems to be BIND, and the log says what helps, once. One
// that keeps what it has is none.
func TestLargeSetHint(t *testing.T) {
	for _, c := range []struct {
		count int
		again func(s *Server) (qtype uint16, serial uint32)
		want  int
	}{
		{200, func(*Server) (uint16, uint32) { return dns.TypeAXFR, 0 }, 1},
		{200, func(*Server) (uint16, uint32) { return dns.TypeIXFR, 1 }, 1},
		{50, func(*Server) (uint16, uint32) { return dns.TypeAXFR, 0 }, 0},
		{200, func(s *Server) (uint16, uint32) { return dns.TypeIXFR, s.Status()[0].Serial }, 0},
	} {
		ix := zonetest.Filled(t, c.count)
		s, log := newServer(t, ix)
		s.step(100)
		ask(t, s, client, dns.TypeAXFR, 0)
		for i := range 6 {
			ix.Put("more", ix.Service(t, "more", "more", "image", fmt.Sprintf("10.9.9.%d", i)))
			s.step(uint32(101 + i))
			qtype, serial := c.again(s)
			ask(t, s, client, qtype, serial)
		}
		if got := strings.Count(log.String(), "max-records-per-type 0"); got != c.want {
			t.Errorf("%d records: %d hints; want %d:\n%s", c.count, got, c.want, log)
		}
	}
}
