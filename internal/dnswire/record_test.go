package dnswire

import (
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// FuzzReadRecord: the records of a message that the library reads are those that ReadRecord reads.
func FuzzReadRecord(f *testing.F) {
	m := new(dns.Msg).SetQuestion("www.example.com.", dns.TypeMX)
	m.Compress = true
	for _, text := range []string{"www.example.com. 5 IN MX 1 mail.example.com.", "example.com. 7 IN SOA a.example.com. b.example.com. 1 2 3 4 5"} {
		rr, err := dns.NewRR(text)
		if err != nil {
			f.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	m.SetEdns0(1232, true)
	b, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		m := new(dns.Msg)
		if len(b) < HeaderLen || m.Unpack(b) != nil || m.Truncated || len(m.Question) != 1 || len(b) > 1<<15 {
			return
		}
		off, ok := skipQuestion(b, HeaderLen)
		if !ok {
			return // the library follows a pointer here
		}
		for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
			for _, rr := range section {
				r, ok := ReadRecord(b, off)
				h := rr.Header()
				sameHeader := r.Type == h.Rrtype && r.Class == h.Class && r.TTL == h.Ttl && r.Owner == off
				if !ok || !sameHeader || binary.BigEndian.Uint32(b[r.TTLAt:]) != h.Ttl {
					t.Fatalf("%x at %d: got %+v, %t; want %v", b, off, r, ok, rr)
				}
				if r.End-r.Data != int(h.Rdlength) {
					t.Fatalf("%x at %d: got %d bytes of data; want %d", b, off, r.End-r.Data, h.Rdlength)
				}
				off = r.End
			}
		}
	})
}

// crafted returns packets of a size that cost a reader as much as possible.
func crafted(size int) map[string][]byte {
	const question = "\x03www\x07example\x03com\x00\x00\x01\x00\x01"
	fill := func(record string) []byte {
		n := (size - HeaderLen - len(question)) / len(record)
		return wire(1, 0, [4]uint16{1, uint16(n)}, question+strings.Repeat(record, n))
	}
	chain := []byte(question)
	for at := HeaderLen; len(chain) < size-24; at = HeaderLen + len(chain) - 12 { // each name points to the one before
		chain = append(chain, 0xc0|byte(at>>8)&0x3f, byte(at))
		chain = append(chain, make([]byte, 10)...)
	}
	questions := strings.Repeat("\x00\x00\x01\x00\x01", (size-HeaderLen)/5)
	longName := strings.Repeat("\x01a", 120) + "\x00" + strings.Repeat("\x00", 10)
	return map[string][]byte{
		"pointers to pointers": wire(1, 0, [4]uint16{1, uint16((len(chain) - len(question)) / 12)}, string(chain)),
		"root names":           fill("\x00" + strings.Repeat("\x00", 10)),
		"long names":           fill(longName),
		"questions":            wire(1, 0, [4]uint16{uint16(len(questions) / 5)}, questions),
	}
}

// A crafted packet costs the goroutine that reads all clients' queries little:
// no more than adding up its bytes in a plain loop. Unpacking each name cost 70
// times as much. A limit in microseconds would depend on the machine.
func TestSanitizeQueryIsFast(t *testing.T) {
	const limit = 10 // times
	for what, b := range crafted(MaxQuery) {
		total := 0
		sum := fastest(b, func(packet []byte) {
			for _, c := range packet {
				total += int(c)
			}
		})
		got := fastest(b, func(packet []byte) { SanitizeQuery(packet) })
		t.Logf("%s: %v for %d bytes, %v to add them up to %d", what, got, len(b), sum, total)
		if got > limit*sum {
			t.Errorf("%s: %v for %d bytes; want %d times %v at most", what, got, len(b), limit, sum)
		}
	}
}

// fastest returns the least time that f takes for a copy of b, which is that of
// a turn in which nothing else ran.
func fastest(b []byte, f func([]byte)) time.Duration {
	best := time.Hour
	for range 100 {
		packet := append([]byte(nil), b...)
		begun := time.Now()
		f(packet)
		best = min(best, time.Since(begun))
	}
	return best
}

func BenchmarkSanitizeQuery(b *testing.B) {
	plain := map[string][]byte{"plain": wire(uint16(rand.Uint32()), flagRD, [4]uint16{1}, "\x03www\x07example\x03com\x00\x00\x01\x00\x01")}
	for _, packets := range []map[string][]byte{plain, crafted(MaxQuery), crafted(dns.MaxMsgSize)} {
		for what, packet := range packets {
			b.Run(what, func(b *testing.B) {
				b.SetBytes(int64(len(packet)))
				b.ReportAllocs()
				buf := make([]byte, len(packet))
				for b.Loop() {
					copy(buf, packet)
					SanitizeQuery(buf)
				}
			})
		}
	}
}
