package udpio

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"
)

// listenUDP opens a socket, or skips the test where the system has no such
// address.
func listenUDP(t *testing.T, network, addr string) *net.UDPConn {
	t.Helper()
	c, err := net.ListenPacket(network, addr)
	if err != nil {
		t.Skipf("no address %s here: %v", addr, err)
	}
	t.Cleanup(func() { _ = c.Close() })
	conn := c.(*net.UDPConn)
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// Packets of many sizes come as they were sent, and their replies go back,
// from the address that was asked.
func TestBatch(t *testing.T) {
	for _, c := range []struct{ network, listen, ask string }{
		{"udp4", "127.0.0.1:0", "127.0.0.1"},
		{"udp4", "0.0.0.0:0", "127.0.0.1"},
		{"udp4", "0.0.0.0:0", "127.0.0.9"},
		{"udp6", "[::1]:0", "::1"},
		{"udp", "[::]:0", "127.0.0.9"},
		{"udp", "[::]:0", "::1"},
	} {
		t.Run(c.listen+" "+c.ask, func(t *testing.T) {
			server := listenUDP(t, c.network, c.listen)
			b := NewBatch(server, WantDestinations(server))
			port := server.LocalAddr().(*net.UDPAddr).AddrPort().Port()
			to := netip.AddrPortFrom(netip.MustParseAddr(c.ask), port)
			client, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
			if err != nil {
				t.Skipf("no way to %s: %v", to, err)
			}
			defer client.Close()
			if err := client.SetDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			testPackets(t, b, server, client)
		})
	}
}

// testPackets sends packets from client, and checks the batch and the replies.
func testPackets(t *testing.T, b *Batch, server, client *net.UDPConn) {
	const packets = 2*BatchSize + 1 // the socket has to hold them all
	asked := client.RemoteAddr().(*net.UDPAddr).AddrPort().Addr()
	from := client.LocalAddr().(*net.UDPAddr).AddrPort()
	for i := range packets {
		if _, err := client.Write(packet(i)); err != nil {
			t.Fatal(err)
		}
	}
	for i := 0; i < packets; {
		n, err := b.Read()
		if err != nil {
			t.Fatal(err)
		}
		for j := range n {
			if !bytes.Equal(b.Packet(j), packet(i)) {
				t.Errorf("packet %d: got %.40q of %d bytes", i, b.Packet(j), len(b.Packet(j)))
			}
			if got := b.From(j); got != from {
				t.Errorf("packet %d: from %v; want %v", i, got, from)
			}
			peer := b.Peer(j)
			if one := !server.LocalAddr().(*net.UDPAddr).IP.IsUnspecified(); !one && peer.Local != asked {
				t.Errorf("packet %d: to %v; want %v", i, peer.Local, asked)
			}
			if i%2 == 0 {
				b.Send(j, append(b.Space(), fmt.Sprintf("reply %d", i)...))
			} else if _, err := WriteTo(server, fmt.Appendf(nil, "reply %d", i), peer); err != nil {
				t.Errorf("packet %d: %v", i, err)
			}
			i++
		}
		b.Flush()
	}
	buf, got := make([]byte, 100), make(map[string]bool)
	for range packets {
		n, err := client.Read(buf) // which takes replies from the address that it asked only
		if err != nil {
			t.Fatalf("after %d replies: %v", len(got), err)
		}
		got[string(buf[:n])] = true
	}
	if len(got) != packets {
		t.Errorf("got %d different replies; want %d", len(got), packets)
	}
}

// packet returns packet i: of its own size, and empty at first.
func packet(i int) []byte { return bytes.Repeat([]byte{byte(i)}, i*10) }

// A read ends when its socket is closed, and a flush after that does nothing.
func TestClosed(t *testing.T) {
	server := listenUDP(t, "udp4", "127.0.0.1:0")
	b := NewBatch(server, 0)
	ended := make(chan error)
	go func() {
		_, err := b.Read()
		ended <- err
	}()
	_ = server.Close()
	if err := <-ended; err == nil {
		t.Error("a read of a closed socket has no error")
	}
	b.Flush()
}

// A packet that is too long is cut off, and none follows into it.
func TestLongPacket(t *testing.T) {
	server := listenUDP(t, "udp4", "127.0.0.1:0")
	client, err := net.Dial("udp", server.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	b := NewBatch(server, 0)
	for _, size := range []int{MaxIn - 1, MaxIn, MaxIn + 1, 60_000} {
		if _, err := client.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		n, err := b.Read()
		if err != nil || n != 1 || len(b.Packet(0)) != min(size, MaxIn) {
			t.Errorf("%d bytes: got %d packets, the first of %d bytes, %v", size, n, len(b.Packet(0)), err)
		}
	}
}

// Reading and sending allocate nothing.
func TestBatchAllocs(t *testing.T) {
	server := listenUDP(t, "udp4", "127.0.0.1:0")
	client := listenUDP(t, "udp4", "127.0.0.1:0")
	b := NewBatch(server, 0)
	to := server.LocalAddr().(*net.UDPAddr).AddrPort()
	buf, query := make([]byte, 100), []byte("query")
	allocs := testing.AllocsPerRun(100, func() {
		if _, err := client.WriteToUDPAddrPort(query, to); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Read(); err != nil {
			t.Fatal(err)
		}
		b.Send(0, append(b.Space(), b.Packet(0)...))
		b.Flush()
		if _, _, err := client.ReadFromUDPAddrPort(buf); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 && BatchSize > 1 {
		t.Errorf("%v allocations for a packet and its reply; want none", allocs)
	}
}
