package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnsserver"
	"github.com/rayje/dnsdock/internal/dnswire"
)

// The tests that RFC 8906 section 8 has for servers.
func TestRFC8906(t *testing.T) {
	var addrs []string
	for i := range 100 {
		addrs = append(addrs, fmt.Sprintf("10.0.0.%d", i))
	}
	z := newTestZone(t, filledRegistry(t, "docker", 0, pub{"web", "nginx", 0, strings.Join(addrs, " "), ""}))
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
		return "\x00\x00\x29\x10\x00\x00" + version + flags + string(binary.BigEndian.AppendUint16(nil, uint16(len(options)))) + options
	}
	const unknown, several = "\x00\x64\x00\x00", "\x00\x03\x00\x00" + "\x00\x0a\x00\x08abcdefgh" + "\x00\x09\x00\x00" + "\x00\x08\x00\x04\x00\x01\x00\x00" // NSID, COOKIE, EXPIRE, subnet
	one, oneOPT := [4]uint16{1}, [4]uint16{1, 0, 0, 1}
	for _, tt := range []struct {
		what, packet string
		want         string // rcode, flags, SOA if it is answered, OPT with its version, DO and options
	}{
		{"8.1.1 SOA", string(wire(1, 0, one, soa)), "NOERROR aa SOA"},
		{"8.1.2 unknown type", string(wire(1, 0, one, docker+"\x03\xe8\x00\x01")), "NOERROR aa"},
		{"8.1.3.1 CD", string(wire(1, cd, one, soa)), "NOERROR aa cd SOA"}, // copied, RFC 4035 section 3.2.2
		{"8.1.3.2 AD", string(wire(1, ad, one, soa)), "NOERROR aa SOA"},
		{"8.1.3.3 reserved bit", string(wire(1, zero, one, soa)), "NOERROR aa SOA"},
		{"8.1.3.4 RD", string(wire(1, rd, one, soa)), "NOERROR aa rd SOA"},
		{"8.1.4 unknown opcode", string(wire(1, 15<<11, one, soa)), "NOTIMP"},
		{"8.1.4 unknown opcode, header only", string(wire(1, 15<<11, [4]uint16{}, "")), "NOTIMP"},
		{"8.2.1 EDNS", string(wire(1, 0, oneOPT, soa+opt("\x00", "\x00\x00", ""))), "NOERROR aa SOA OPT 0"},
		{"8.2.2 EDNS version", string(wire(1, 0, oneOPT, soa+opt("\x64", "\x00\x00", ""))), "BADVERS OPT 0"},
		{"8.2.3 unknown option", string(wire(1, 0, oneOPT, soa+opt("\x00", "\x00\x00", unknown))), "NOERROR aa SOA OPT 0"},
		{"8.2.4 unknown flag", string(wire(1, 0, oneOPT, soa+opt("\x00", "\x00\x40", ""))), "NOERROR aa SOA OPT 0"},
		{"8.2.5 version and unknown flag", string(wire(1, 0, oneOPT, soa+opt("\x64", "\x00\x40", ""))), "BADVERS OPT 0"},
		{"8.2.6 version and unknown option", string(wire(1, 0, oneOPT, soa+opt("\x64", "\x00\x00", unknown))), "BADVERS OPT 0"},
		{"8.2.7 truncated", string(wire(1, 0, oneOPT, docker+"\x00\x01\x00\x01\x00\x00\x29\x02\x00\x00\x00\x80\x00\x00\x00")), "NOERROR aa tc OPT 0 do"},
		{"8.2.8 DO", string(wire(1, 0, oneOPT, soa+opt("\x00", "\x80\x00", ""))), "NOERROR aa SOA OPT 0 do"},
		{"8.2.9 version and DO", string(wire(1, 0, oneOPT, soa+opt("\x64", "\x80\x00", ""))), "BADVERS OPT 0 do"},
		{"8.2.10 several options", string(wire(1, 0, oneOPT, soa+opt("\x00", "\x00\x00", several))), "NOERROR aa SOA OPT 0"},
	} {
		for network, raw := range map[string]func(testing.TB, string, uint16, ...[]byte) [][]byte{"udp": rawUDP, "tcp": rawTCP} { // 8.1.5 is TCP
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

// heldUpstream answers queries for names in "held." only after release is closed.
func heldUpstream(t *testing.T) (up netip.AddrPort, asked <-chan struct{}, release chan struct{}) {
	seen := make(chan struct{}, 100)
	release = make(chan struct{})
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	pc, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pc.Close() })
	wg.Go(func() {
		buf := make([]byte, dnswire.MaxQuery)
		for {
			n, from, err := pc.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			q := new(dns.Msg)
			if err := q.Unpack(buf[:n]); err != nil {
				t.Error(err)
				return
			}
			b := answerTo(t, q, nil)
			seen <- struct{}{}
			wg.Go(func() {
				<-release
				_, _ = pc.WriteToUDPAddrPort(b, from) // the test has ended
			})
		}
	})
	return pc.LocalAddr().(*net.UDPAddr).AddrPort(), seen, release
}

func frame(b []byte) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...) }

func packQuery(t testing.TB, id uint16, qname string, qtype uint16) []byte {
	t.Helper()
	q := new(dns.Msg).SetQuestion(qname, qtype)
	q.Id = id
	b, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// readReply reads the next message of a TCP connection.
func readReply(t testing.TB, c net.Conn) *dns.Msg {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	m, err := (&dns.Conn{Conn: c}).ReadMsg()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// A query that waits for an upstream delays no other of its connection, and
// its answer comes also where the client has closed its end, and where the
// server ends.
func TestTCPOutOfOrder(t *testing.T) {
	up, asked, release := heldUpstream(t)
	z := newForwardZone(t, up)
	z.Fwd.Timeout = patience
	publishTest(t, regOf(z), `{"name":"web","image":"nginx","ip":"10.0.0.1"}`)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := dnsserver.NewTCPServer(z, ln)
	served, ended := make(chan error, 1), make(chan error, 1)
	go func() { served <- srv.Serve() }()
	dial := func() *net.TCPConn {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c.(*net.TCPConn)
	}
	busy, half := dial(), dial()
	var stream []byte
	for i := range uint16(10) {
		stream = append(stream, frame(packQuery(t, i, fmt.Sprintf("%d.example.com.", i), dns.TypeA))...) // else they would share one query
		stream = append(stream, frame(packQuery(t, 100+i, "web.nginx.docker.", dns.TypeA))...)
	}
	if _, err := busy.Write(stream); err != nil {
		t.Fatal(err)
	}
	for i := range uint16(10) { // ours come first, in order
		if m := readReply(t, busy); m.Id != 100+i || len(m.Answer) != 1 {
			t.Fatalf("got %d, %v; want the answer to %d", m.Id, show(m), 100+i)
		}
	}
	if _, err := half.Write(frame(packQuery(t, 7, "www.example.com.", dns.TypeA))); err != nil {
		t.Fatal(err)
	}
	if err := half.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	for range 11 {
		<-asked
	}
	go func() { ended <- srv.Shutdown(t.Context()) }()
	if err := <-served; err != nil {
		t.Errorf("serve: %v", err)
	}
	close(release)
	got := make(map[uint16]bool)
	for range 10 {
		m := readReply(t, busy)
		if got[m.Id] = true; len(m.Answer) != 1 || m.Id > 9 {
			t.Errorf("got %d, %v; want an address", m.Id, show(m))
		}
	}
	if len(got) != 10 {
		t.Errorf("got the answers to %v; want those to 10 queries", got)
	}
	if m := readReply(t, half); m.Id != 7 || len(m.Answer) != 1 {
		t.Errorf("half-closed: got %d, %v; want an address", m.Id, show(m))
	}
	if err := <-ended; err != nil {
		t.Errorf("shutdown: %v", err)
	}
	if _, err := busy.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after shutdown: got %v; want EOF", err)
	}
}

// Shutdown does not wait for ever.
func TestTCPShutdownIsBounded(t *testing.T) {
	up, asked, release := heldUpstream(t)
	defer close(release)
	z := newForwardZone(t, up)
	z.Fwd.Timeout = shortTimeout
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := dnsserver.NewTCPServer(z, ln)
	served := make(chan error, 1)
	go func() { served <- srv.Serve() }()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(frame(packQuery(t, 7, "www.example.com.", dns.TypeA))); err != nil {
		t.Fatal(err)
	}
	<-asked
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := srv.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// A client that has its share of connections loses its own, and where all
// are taken the one that is idle for longest makes room.
func TestTCPConnectionsAreShared(t *testing.T) {
	z := newTestZone(t, filledRegistry(t, "docker", 0, pub{"web", "nginx", 0, "10.0.0.1", ""}))
	ends := func(c net.Conn) bool {
		_, err := c.Read(make([]byte, 1))
		return errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe)
	}
	synctest.Test(t, func(t *testing.T) {
		ln := newPipeListener()
		srv := dnsserver.NewTCPServer(z, ln)
		served := make(chan error, 1)
		go func() { served <- srv.Serve() }()
		dial := func(from string) net.Conn {
			time.Sleep(time.Millisecond) // simulated: none is as old as another
			c := ln.dialFrom(netip.MustParseAddr(from))
			synctest.Wait()
			return c
		}
		ask := func(c net.Conn) {
			t.Helper()
			time.Sleep(time.Millisecond)
			go func() { _, _ = c.Write(frame(packQuery(t, 7, "web.nginx.docker.", dns.TypeA))) }()
			if m := readReply(t, c); len(m.Answer) != 1 {
				t.Errorf("got %v; want the address", show(m))
			}
			_ = c.SetReadDeadline(time.Time{})
		}
		other := dial("192.0.2.1")
		first, second := dial("2001:db8::1"), dial("2001:db8::2") // one client: the same /64
		ask(first)
		for i := range dnsserver.MaxClientConns - 2 {
			dial(fmt.Sprintf("2001:db8::%x", 3+i))
		}
		ask(dial("2001:db8::ffff"))
		if !ends(second) {
			t.Error("the client's connection that was idle for longest goes on")
		}
		ask(first)
		ask(other)
		for n := 1 + dnsserver.MaxClientConns; n < dnsserver.MaxConns; n++ {
			dial(fmt.Sprintf("10.%d.0.1", n%250))
		}
		ask(other)
		ask(first)
		third := dial("203.0.113.1")
		ask(third)
		ask(other)
		ask(first)
		srv.Mu.Lock()
		if got := len(srv.Conns); got != dnsserver.MaxConns {
			t.Errorf("got %d connections; want %d", got, dnsserver.MaxConns)
		}
		srv.Mu.Unlock()
		if err := srv.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

// A failingListener has no descriptors left some times.
type failingListener struct {
	net.Listener
	failures int
}

func (l *failingListener) Accept() (net.Conn, error) {
	if l.failures--; l.failures >= 0 {
		return nil, os.ErrDeadlineExceeded // any error but that of a closed listener
	}
	return l.Listener.Accept()
}

func TestTCPAcceptFails(t *testing.T) {
	z := newTestZone(t, filledRegistry(t, "docker", 0, pub{"web", "nginx", 0, "10.0.0.1", ""}))
	synctest.Test(t, func(t *testing.T) {
		ln := newPipeListener()
		srv := dnsserver.NewTCPServer(z, &failingListener{ln, 100})
		served := make(chan error, 1)
		go func() { served <- srv.Serve() }()
		begun := time.Now()
		c := ln.dialFrom(netip.MustParseAddr("192.0.2.1"))
		if took := time.Since(begun); took != 100*dnsserver.AcceptPause {
			t.Errorf("accepted after %v; want %v", took, 100*dnsserver.AcceptPause)
		}
		_ = c.Close()
		if err := srv.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

var mutants = flag.Int("mutants", 20_000, "packets that TestMutants sends")

// Mutated packets over UDP and TCP: none harms, and good queries in between
// are answered, all of them.
func TestMutants(t *testing.T) {
	seeds := [][]byte{
		packQuery(t, 1, "web.nginx.docker.", dns.TypeA),
		packQuery(t, 2, "_http._tcp.nginx.docker.", dns.TypeSRV),
		packQuery(t, 3, "*.docker.", dns.TypeTXT),
		packQuery(t, 4, "front.nginx.docker.", dns.TypeMX),
		packQuery(t, 5, "1.0.0.10.in-addr.arpa.", dns.TypePTR),
		wire(6, 1<<8, [4]uint16{1, 0, 0, 1}, "\x03web\x05nginx\x06docker\x00\x00\x01\x00\x01\x00\x00\x29\x10\x00\x00\x00\x80\x00\x00\x0c\x00\x0a\x00\x08abcdefgh"),
		wire(7, 0, [4]uint16{1, 1, 0, 1}, "\x06docker\x00\x00\x06\x00\x01\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04\x0a\x00\x00\x01\x00\x00\x29\x10\x00\x00\x00\x80\x00\x00\x00"),
	}
	for range 6 { // as often as what others found
		seeds = append(seeds, seeds...)
	}
	if _, err := os.Stat(corpusFile); err == nil {
		seeds = append(seeds, corpus(t)...)
	}
	reg := filledRegistry(t, "docker", 0, pub{"web", "nginx", 0, "10.0.0.1", "shop.example.com"})
	publishTest(t, reg, `{"name":"srv","image":"nginx","ip":"10.2.0.1","ports":["80/tcp=http"],"txt":["a","b"]}`, `{"name":"front","image":"nginx","cname":"srv.nginx.docker"}`)
	begun, was := time.Now(), loadNow()
	t.Run("packets", func(t *testing.T) {
		addr := "127.0.0.1:" + serveZone(t, newTestZone(t, reg), "127.0.0.1:0")
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
	was.returnsTo(t)
	t.Logf("%d packets in %v; load before %+v, after %+v", *mutants, time.Since(begun).Round(time.Second), was, loadNow())
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

// What is answered goes out before the server waits for its turn to look at
// many services.
func TestTCPRepliesDoNotWaitForATurn(t *testing.T) {
	z := newTestZone(t, filledRegistry(t, "docker", 0, pub{"web", "nginx", 0, "10.0.0.1", ""}))
	addr := "127.0.0.1:" + serveZone(t, z, "127.0.0.1:0")
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	z.Walking.Lock()
	stream := append(frame(packQuery(t, 1, "web.nginx.docker.", dns.TypeA)), frame(packQuery(t, 2, "web.nginx.docker.", dns.TypeMX))...)
	if _, err := c.Write(append(stream, frame(packQuery(t, 3, "web.*.docker.", dns.TypeA))...)); err != nil {
		t.Fatal(err)
	}
	for id := range uint16(3) {
		if id == 2 {
			z.Walking.Unlock()
		}
		if m := readReply(t, c); m.Id != id+1 || len(m.Answer) != 1 {
			t.Errorf("got %d, %s; want an answer to %d", m.Id, show(m), id+1)
		}
	}
}

// A connection is used as long as queries come, also where none of them ends
// with a segment.
func TestTCPUsed(t *testing.T) {
	z := newTestZone(t, filledRegistry(t, "docker", 0, pub{"web", "nginx", 0, "10.0.0.1", ""}))
	synctest.Test(t, func(t *testing.T) {
		ln := newPipeListener()
		srv := dnsserver.NewTCPServer(z, ln)
		served := make(chan error, 1)
		go func() { served <- srv.Serve() }()
		c := ln.dialFrom(netip.MustParseAddr("192.0.2.1"))
		query := frame(packQuery(t, 7, "web.nginx.docker.", dns.TypeA))
		go func() { _, _ = io.Copy(io.Discard, c) }() // until it is closed
		half := len(query) / 2
		stream := query[:half]
		for range 5 {
			time.Sleep(time.Second)
			if _, err := c.Write(stream); err != nil {
				t.Fatal(err)
			}
			stream = slices.Concat(query[half:], query[:half])
			synctest.Wait()
			srv.Mu.Lock()
			for conn := range srv.Conns {
				if idle := time.Now().UnixNano() - conn.Used.Load(); idle != 0 {
					t.Errorf("idle for %v; want 0", time.Duration(idle))
				}
			}
			srv.Mu.Unlock()
		}
		_ = c.Close()
		if err := srv.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}
