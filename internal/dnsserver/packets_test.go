package dnsserver

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/zonetest"
)

// Whatever comes is answered with an error or dropped, and a good query
// right after it is answered.
func TestBadPackets(t *testing.T) {
	z := newRig(t, zonetest.New(t, "docker", 0, pub("web", "nginx", 0, "10.0.0.1", "")))
	addr := "127.0.0.1:" + serveZone(t, z, "127.0.0.1:0")
	const (
		web     = "\x03web\x05nginx\x06docker\x00"
		webA    = web + "\x00\x01\x00\x01"
		opt     = "\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00"
		answer  = "web.nginx.docker. 0 A 10.0.0.1"
		dropped = ""
		bad     = uint16(0xbad)
	)
	one := [4]uint16{1}
	for _, tt := range []struct {
		what   string
		packet []byte
		want   string // show of the reply; empty: none
	}{
		{"good", dnstest.Wire(bad, 0, one, webA), "NOERROR aa; " + answer},
		{"trailing bytes", dnstest.Wire(bad, 0, one, webA+"trailing"), "FORMERR"},
		{"class CH", dnstest.Wire(bad, 0, one, "\x07version\x04bind\x00\x00\x10\x00\x03"), "REFUSED"},
		{"class ANY", dnstest.Wire(bad, 0, one, web+"\x00\x01\x00\xff"), "REFUSED"},
		{"class NONE", dnstest.Wire(bad, 0, one, web+"\x00\x01\x00\xfe"), "REFUSED"},
		{"AXFR", dnstest.Wire(bad, 0, one, "\x06docker\x00\x00\xfc\x00\x01"), "REFUSED"},
		{"opcode IQUERY", dnstest.Wire(bad, 1<<11, one, webA), "NOTIMP"},
		{"opcode STATUS", dnstest.Wire(bad, 2<<11, one, webA), "NOTIMP"},
		{"opcode 3", dnstest.Wire(bad, 3<<11, one, webA), "NOTIMP"},
		{"opcode NOTIFY", dnstest.Wire(bad, 4<<11, one, webA), "NOTIMP"},
		{"opcode UPDATE", dnstest.Wire(bad, 5<<11, one, webA), "NOTIMP"},
		{"opcode DSO", dnstest.Wire(bad, 6<<11, [4]uint16{}, ""), "NOTIMP"},
		{"opcode 15", dnstest.Wire(bad, 15<<11, one, webA), "NOTIMP"},
		{"no question", dnstest.Wire(bad, 0, [4]uint16{}, ""), "FORMERR"},
		{"no question but OPT", dnstest.Wire(bad, 0, [4]uint16{0, 0, 0, 1}, opt), "FORMERR"},
		{"two questions", dnstest.Wire(bad, 0, [4]uint16{2}, webA+webA), "FORMERR"},
		{"65535 questions", dnstest.Wire(bad, 0, [4]uint16{65535}, webA), "FORMERR"},
		{"a header only", dnstest.Wire(bad, 0, one, ""), "FORMERR"},
		{"half a name", dnstest.Wire(bad, 0, one, "\x03we"), "FORMERR"},
		{"a name without end", dnstest.Wire(bad, 0, one, "\x03web"), "FORMERR"},
		{"a name without type", dnstest.Wire(bad, 0, one, web), "FORMERR"},
		{"half a type", dnstest.Wire(bad, 0, one, web+"\x00"), "FORMERR"},
		{"no class", dnstest.Wire(bad, 0, one, web+"\x00\x01"), "FORMERR"},
		{"a pointer to itself", dnstest.Wire(bad, 0, one, "\xc0\x0c\x00\x01\x00\x01"), "FORMERR"},
		{"a pointer loop", dnstest.Wire(bad, 0, one, "\x01a\xc0\x10\x01b\xc0\x0c\x00\x01\x00\x01"), "FORMERR"},
		{"a pointer ahead", dnstest.Wire(bad, 0, one, "\xc0\xff\x00\x01\x00\x01"), "FORMERR"},
		{"a pointer into the header", dnstest.Wire(0x0001, 0, one, "\xc0\x00\x00\x01\x00\x01"), "FORMERR"},
		{"a label of type 01", dnstest.Wire(bad, 0, one, "\x41a\x00\x00\x01\x00\x01"), "FORMERR"},
		{"a name of over 255 bytes", dnstest.Wire(bad, 0, one, strings.Repeat("\x3f"+strings.Repeat("a", 63), 5)+"\x00\x00\x01\x00\x01"), "FORMERR"},
		{"answers promised", dnstest.Wire(bad, 0, [4]uint16{1, 65535, 65535, 65535}, webA), "FORMERR"},
		{"half a record", dnstest.Wire(bad, 0, [4]uint16{1, 0, 0, 1}, webA+"\x00\x00\x29\x04\xd0"), "FORMERR"},
		{"a record longer than the packet", dnstest.Wire(bad, 0, [4]uint16{1, 0, 0, 1}, webA+"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\xff\xff"), "FORMERR"},
		{"EDNS version 1", dnstest.Wire(bad, 0, [4]uint16{1, 0, 0, 1}, webA+"\x00\x00\x29\x04\xd0\x00\x01\x00\x00\x00\x00"), "BADSIG"}, // 16, which is BADVERS here
		{"two OPT", dnstest.Wire(bad, 0, [4]uint16{1, 0, 0, 2}, webA+opt+opt), "FORMERR"},                                              // RFC 6891 section 6.1.1
		{"TC set", dnstest.Wire(bad, 1<<9, one, webA), "NOERROR aa; " + answer},
		{"AA, RA, Z, AD and CD set", dnstest.Wire(bad, 1<<10|1<<7|1<<6|1<<5|1<<4, one, webA), "NOERROR aa; " + answer},
		{"an rcode set", dnstest.Wire(bad, 9, one, webA), "NOERROR aa; " + answer},
		{"a reply", dnstest.Wire(bad, 1<<15, one, webA), dropped},
		{"a reply with FORMERR", dnstest.Wire(bad, 1<<15|1, [4]uint16{}, ""), dropped},
		{"a NOTIFY reply", dnstest.Wire(bad, 1<<15|4<<11, one, webA), dropped},
		{"nothing", nil, dropped},
		{"1 octet", []byte{1}, dropped},
		{"11 bytes", dnstest.Wire(bad, 0, one, "")[:11], dropped},
	} {
		t.Run(tt.what, func(t *testing.T) {
			const good = 0x600d
			b, id := dnstest.Pack(t, good, "web.nginx.docker.", dns.TypeA), uint16(good)
			if tt.want != dropped {
				id = binary.BigEndian.Uint16(tt.packet)
			}
			check := func(network string, replies [][]byte) {
				t.Helper()
				last := replies[len(replies)-1]
				if tt.want == dropped {
					if len(replies) > 1 {
						t.Errorf("over %s: got the reply %x; want none", network, replies[0])
					}
					return
				}
				m := new(dns.Msg)
				if err := m.Unpack(last); err != nil {
					t.Fatal(err)
				}
				if got := dnstest.ShowSorted(m); got != tt.want || !m.Response {
					t.Errorf("over %s: got %v, QR %t; want %v", network, got, m.Response, tt.want)
				}
			}
			// On UDP a reply may overtake another: first the bad packet's, then the good one's.
			if tt.want != dropped {
				check("udp", dnstest.RawUDP(t, addr, id, tt.packet))
				dnstest.RawUDP(t, addr, good, b)
			} else {
				check("udp", dnstest.RawUDP(t, addr, good, tt.packet, b))
			}
			replies := dnstest.RawTCP(t, addr, good, tt.packet, b)
			if tt.want != dropped {
				if len(replies) != 2 {
					t.Fatalf("over tcp: got %d replies; want 2", len(replies))
				}
				replies = replies[:1]
			}
			check("tcp", replies)
		})
	}
}

// A reply has the RD of its query, whatever the opcode and whether it is an error.
func TestRDIsCopied(t *testing.T) {
	addr := "127.0.0.1:" + serveZone(t, newRig(t, zonetest.New(t, "docker", 0)), "127.0.0.1:0")
	const question, rd, others = "\x06docker\x00\x00\x06\x00\x01", 1 << 8, 0x06f0
	for opcode := range uint16(16) {
		for _, flags := range []uint16{0, rd, others, others | rd} {
			for _, counts := range [][4]uint16{{1}, {}, {2}} {
				packet := dnstest.Wire(7, opcode<<11|flags, counts, strings.Repeat(question, int(counts[0])))
				for _, b := range [][]byte{dnstest.RawUDP(t, addr, 7, packet)[0], dnstest.RawTCP(t, addr, 7, packet)[0]} {
					if got := binary.BigEndian.Uint16(b[2:]); got&rd != flags&rd || got>>11&0xf != opcode {
						t.Errorf("opcode %d, flags %x: got %x; want RD and the opcode as they were", opcode, flags, got)
					}
				}
			}
		}
	}
}

// The tests that RFC 8906 section 8 has for servers.
func TestRFC8906(t *testing.T) {
	var addrs []string
	for i := range 100 {
		addrs = append(addrs, fmt.Sprintf("10.0.0.%d", i))
	}
	z := newRig(t, zonetest.New(t, "docker", 0, pub("web", "nginx", 0, strings.Join(addrs, " "), "")))
	addr := "127.0.0.1:" + serveZone(t, z, "127.0.0.1:0")
	const (
		docker = "\x06docker\x00"
		soa    = docker + "\x00\x06\x00\x01"
		ad     = 1 << 5
		cd     = 1 << 4
		zero   = 1 << 6
		rd     = 1 << 8
	)
	opt := func(version, flags, options string) string {
		return "\x00\x00\x29\x10\x00\x00" + version + flags + string(binary.BigEndian.AppendUint16(nil,
			uint16(len(options)))) + options
	}
	const unknown = "\x00\x64\x00\x00"
	const several = "\x00\x03\x00\x00" + "\x00\x0a\x00\x08abcdefgh" + // NSID, COOKIE
		"\x00\x09\x00\x00" + "\x00\x08\x00\x04\x00\x01\x00\x00" // EXPIRE, subnet
	one, oneOPT := [4]uint16{1}, [4]uint16{1, 0, 0, 1}
	for _, tt := range []struct {
		what, packet string
		want         string // rcode, flags, SOA if it is answered, OPT with its version, DO and options
	}{
		{"8.1.1 SOA", string(dnstest.Wire(1, 0, one, soa)), "NOERROR aa SOA"},
		{"8.1.2 unknown type", string(dnstest.Wire(1, 0, one, docker+"\x03\xe8\x00\x01")), "NOERROR aa"},
		{"8.1.3.1 CD", string(dnstest.Wire(1, cd, one, soa)), "NOERROR aa cd SOA"}, // copied, RFC 4035 section 3.2.2
		{"8.1.3.2 AD", string(dnstest.Wire(1, ad, one, soa)), "NOERROR aa SOA"},
		{"8.1.3.3 reserved bit", string(dnstest.Wire(1, zero, one, soa)), "NOERROR aa SOA"},
		{"8.1.3.4 RD", string(dnstest.Wire(1, rd, one, soa)), "NOERROR aa rd SOA"},
		{"8.1.4 unknown opcode", string(dnstest.Wire(1, 15<<11, one, soa)), "NOTIMP"},
		{"8.1.4 unknown opcode, header only", string(dnstest.Wire(1, 15<<11, [4]uint16{}, "")), "NOTIMP"},
		{"8.2.1 EDNS", string(dnstest.Wire(1, 0, oneOPT, soa+opt("\x00", "\x00\x00", ""))), "NOERROR aa SOA OPT 0"},
		{"8.2.2 EDNS version", string(dnstest.Wire(1, 0, oneOPT, soa+opt("\x64", "\x00\x00", ""))), "BADVERS OPT 0"},
		{"8.2.3 unknown option", string(dnstest.Wire(1, 0, oneOPT, soa+opt("\x00", "\x00\x00", unknown))), "NOERROR aa SOA OPT 0"},
		{"8.2.4 unknown flag", string(dnstest.Wire(1, 0, oneOPT, soa+opt("\x00", "\x00\x40", ""))), "NOERROR aa SOA OPT 0"},
		{"8.2.5 version and unknown flag", string(dnstest.Wire(1, 0, oneOPT, soa+opt("\x64", "\x00\x40", ""))), "BADVERS OPT 0"},
		{"8.2.6 version and unknown option", string(dnstest.Wire(1, 0, oneOPT, soa+opt("\x64", "\x00\x00", unknown))), "BADVERS OPT 0"},
		{"8.2.7 truncated", string(dnstest.Wire(1, 0, oneOPT, docker+"\x00\x01\x00\x01\x00\x00\x29\x02\x00\x00\x00\x80\x00\x00\x00")), "NOERROR aa tc OPT 0 do"},
		{"8.2.8 DO", string(dnstest.Wire(1, 0, oneOPT, soa+opt("\x00", "\x80\x00", ""))), "NOERROR aa SOA OPT 0 do"},
		{"8.2.9 version and DO", string(dnstest.Wire(1, 0, oneOPT, soa+opt("\x64", "\x80\x00", ""))), "BADVERS OPT 0 do"},
		{"8.2.10 several options", string(dnstest.Wire(1, 0, oneOPT, soa+opt("\x00", "\x00\x00", several))), "NOERROR aa SOA OPT 0"},
	} {
		for network, raw := range map[string]func(testing.TB, string, uint16,
			...[]byte) [][]byte{"udp": dnstest.RawUDP, "tcp": dnstest.RawTCP} { // 8.1.5 is TCP
			t.Run(tt.what+" over "+network, func(t *testing.T) {
				b := raw(t, addr, 1, []byte(tt.packet))[0]
				m := new(dns.Msg)
				if err := m.Unpack(b); err != nil {
					t.Fatal(err)
				}
				want := tt.want
				if network == "tcp" {
					want = strings.Replace(want, " tc", "", 1)
				}
				if got := headline(m); got != want {
					t.Errorf("got %q; want %q", got, want)
				}
			})
		}
	}
}

// headline says of a reply what RFC 8906 asks about.
func headline(m *dns.Msg) string {
	rcode, opt := m.Rcode, m.IsEdns0()
	s := dns.RcodeToString[rcode]
	if rcode == dns.RcodeBadVers {
		s = "BADVERS" // and not BADSIG, which has the same number
	}
	for _, f := range []struct {
		set  bool
		name string
	}{
		{m.Authoritative, "aa"}, {m.Truncated, "tc"}, {m.RecursionDesired, "rd"}, {m.RecursionAvailable, "ra"},
		{m.Zero, "z"}, {m.AuthenticatedData, "ad"}, {m.CheckingDisabled, "cd"},
		{len(m.Answer) == 1 && m.Answer[0].Header().Rrtype == dns.TypeSOA, "SOA"}, {opt != nil, "OPT"},
	} {
		if f.set {
			s += " " + f.name
		}
	}
	if opt == nil {
		return s
	}
	s += fmt.Sprint(" ", opt.Version())
	if opt.Do() {
		s += " do"
	}
	if z := opt.Hdr.Ttl & 0x7fff; z != 0 || len(opt.Option) > 0 || opt.UDPSize() != dnswire.MaxUDPSize {
		s += fmt.Sprintf(" z=%x options=%v size=%d", z, opt.Option, opt.UDPSize())
	}
	return s
}

var mutants = flag.Int("mutants", 20_000, "packets that TestMutants sends")

// Mutated packets over UDP and TCP: none harms, and good queries in between
// are answered, all of them.
func TestMutants(t *testing.T) {
	seeds := [][]byte{
		dnstest.Pack(t, 1, "web.nginx.docker.", dns.TypeA),
		dnstest.Pack(t, 2, "_http._tcp.nginx.docker.", dns.TypeSRV),
		dnstest.Pack(t, 3, "*.docker.", dns.TypeTXT),
		dnstest.Pack(t, 4, "front.nginx.docker.", dns.TypeMX),
		dnstest.Pack(t, 5, "1.0.0.10.in-addr.arpa.", dns.TypePTR),
		dnstest.Wire(6, 1<<8, [4]uint16{1, 0, 0, 1},
			"\x03web\x05nginx\x06docker\x00\x00\x01\x00\x01\x00\x00\x29\x10\x00\x00\x00\x80\x00\x00\x0c\x00\x0a\x00\x08abcdefgh"),
		dnstest.Wire(7, 0, [4]uint16{1, 1, 0, 1},
			"\x06docker\x00\x00\x06\x00\x01\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04\x0a\x00\x00\x01\x00\x00\x29\x10\x00\x00\x00\x80\x00\x00\x00"),
	}
	for range 6 { // as often as what others found
		seeds = append(seeds, seeds...)
	}
	seeds = append(seeds, dnstest.SomeCorpus(t)...)
	reg := zonetest.New(t, "docker", 0, pub("web", "nginx", 0, "10.0.0.1", "shop.example.com"))
	reg.Publish(t, `{"name":"srv","image":"nginx","ip":"10.2.0.1","ports":["80/tcp=http"],"txt":["a","b"]}`,
		`{"name":"front","image":"nginx","cname":"srv.nginx.docker"}`)
	begun, was := time.Now(), dnstest.LoadNow()
	t.Run("packets", func(t *testing.T) {
		addr := "127.0.0.1:" + serveZone(t, newRig(t, reg), "127.0.0.1:0")
		const batch = 1000
		for worker := range 2 {
			t.Run([]string{"udp", "tcp"}[worker], func(t *testing.T) {
				t.Parallel()
				rnd := rand.New(rand.NewPCG(uint64(worker), 8906))
				for sent := 0; sent < *mutants/2; sent += batch {
					packets := make([][]byte, min(batch, *mutants/2-sent))
					for i := range packets {
						packets[i] = mutate(rnd, seeds)
					}
					if worker == 0 {
						feedUDP(t, addr, "docker", packets)
					} else {
						feedTCP(t, addr, "docker", packets)
					}
				}
			})
		}
	})
	was.ReturnsTo(t)
	t.Logf("%d packets in %v; load before %+v, after %+v", *mutants, time.Since(begun).Round(time.Second), was,
		dnstest.LoadNow())
}

// mutate returns one of seeds with some changes.
func mutate(rnd *rand.Rand, seeds [][]byte) []byte {
	b := bytes.Clone(seeds[rnd.IntN(len(seeds))])
	for range 1 + rnd.IntN(4) {
		at := rnd.IntN(len(b) + 1)
		switch rnd.IntN(6) {
		case 0:
			b = b[:at]
		case 1:
			other := seeds[rnd.IntN(len(seeds))]
			b = append(b[:at:at], other[rnd.IntN(len(other)+1):]...)
		case 2:
			b = append(b, byte(rnd.Uint32()))
		case 3: // a length, a pointer, or the end of a name
			if at < len(b) {
				b[at] = []byte{0, 0x3f, 0x40, 0xc0, 0xff}[rnd.IntN(5)]
			}
		default:
			if at < len(b) {
				b[at] ^= 1 << rnd.IntN(8)
			}
		}
	}
	return b[:min(len(b), dns.MaxMsgSize)]
}

func TestCorpusQueries(t *testing.T) {
	packets := dnstest.Corpus(t)
	was := dnstest.LoadNow()
	for _, apex := range []string{"docker", "com"} { // nearly all foreign, many ours
		t.Run(apex, func(t *testing.T) {
			z := newRig(t, zonetest.New(t, apex, 0, pub("web", "nginx", 0, "10.0.0.1", "example.org")))
			addr := "127.0.0.1:" + serveZone(t, z, "127.0.0.1:0")
			t.Run("udp", func(t *testing.T) { feedUDP(t, addr, apex, packets) })
			t.Run("tcp", func(t *testing.T) { feedTCP(t, addr, apex, packets) })
		})
	}
	was.ReturnsTo(t)
}

// feedUDP sends packets, and a good query after each few of them.
func feedUDP(t *testing.T, addr, apex string, packets [][]byte) {
	c, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const maxPayload = 65507                     // of UDP over IPv4
	for few := range slices.Chunk(packets, 20) { // no more than a socket's buffer holds
		for _, p := range few {
			if _, err := c.Write(p[:min(len(p), maxPayload)]); err != nil {
				t.Fatal(err)
			}
		}
		req := new(dns.Msg).SetQuestion("WEB.NGINX."+apex+".",
			dns.TypeA) // as packets do not ask, so that the reply is to it
		for tries := 1; ; tries++ { // one packet of so many may get lost
			if err := awaitUDP(t, c, req); err == nil {
				break
			} else if tries == 10 {
				t.Fatalf("a good query after packets like %x: %v", few[0], err)
			}
		}
	}
}

// awaitUDP sends req and reads replies until that to req comes.
func awaitUDP(t *testing.T, c net.Conn, req *dns.Msg) error {
	good, err := req.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(dnstest.Patience / 10)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(good); err != nil {
		return err
	}
	buf := make([]byte, dns.MaxMsgSize)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return err
		}
		m := new(dns.Msg)
		if err := m.Unpack(buf[:n]); err != nil || n > dnswire.MaxUDPSize || !m.Response {
			t.Fatalf("got %x, %v; want a reply of at most %d bytes", buf[:n], err, dnswire.MaxUDPSize)
		}
		if m.Id == req.Id && slices.Equal(m.Question, req.Question) {
			if len(m.Answer) != 1 {
				t.Fatalf("got %v; want the address", dnstest.Show(m))
			}
			return nil
		}
	}
}

// feedTCP sends packets on one connection, and then a good query.
func feedTCP(t *testing.T, addr, apex string, packets [][]byte) {
	req := new(dns.Msg).SetQuestion("web.nginx."+apex+".", dns.TypeA)
	good, err := req.Pack()
	if err != nil {
		t.Fatal(err)
	}
	ids := make(map[uint16]bool)
	for _, p := range packets {
		if len(p) >= 2 {
			ids[binary.BigEndian.Uint16(p)] = true
		}
	}
	for req.Id = range uint16(0xffff) { // one that no packet has
		if !ids[req.Id] {
			break
		}
	}
	binary.BigEndian.PutUint16(good, req.Id)
	replies := dnstest.RawTCP(t, addr, req.Id, append(slices.Clone(packets), good)...)
	m := new(dns.Msg)
	if err := m.Unpack(replies[len(replies)-1]); err != nil || len(m.Answer) != 1 {
		t.Errorf("a good query after all packets: got %v, %v; want the address", dnstest.Show(m), err)
	}
	answered := 0
	for _, p := range packets {
		if len(p) >= 12 && p[2]&0x80 == 0 {
			answered++
		}
	}
	if got := len(replies) - 1; got != answered {
		t.Errorf("got %d replies; want one for each of the %d queries", got, answered)
	}
}
