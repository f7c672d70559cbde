package dnstest

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// RawUDP sends packets to addr from one socket and returns the packets that
// come back until one of them has the given id.
func RawUDP(t testing.TB, addr string, id uint16, packets ...[]byte) (replies [][]byte) {
	t.Helper()
	c, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(Patience)); err != nil {
		t.Fatal(err)
	}
	for _, p := range packets {
		if _, err := c.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, dns.MaxMsgSize)
	for {
		n, err := c.Read(buf)
		if err != nil {
			t.Fatalf("no reply with id %d: %v", id, err)
		}
		replies = append(replies, bytes.Clone(buf[:n]))
		if n >= 2 && binary.BigEndian.Uint16(buf) == id {
			return replies
		}
	}
}

// RawTCP sends packets on one connection and returns the replies until
// one of them has the given id.
func RawTCP(t testing.TB, addr string, id uint16, packets ...[]byte) (replies [][]byte) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(Patience)); err != nil {
		t.Fatal(err)
	}
	var stream []byte
	for _, p := range packets {
		stream = append(binary.BigEndian.AppendUint16(stream, uint16(len(p))), p...)
	}
	wrote := make(chan error, 1)
	go func() {
		_, err := c.Write(stream)
		wrote <- err
	}()
	defer func() {
		if err := <-wrote; err != nil {
			t.Errorf("write: %v", err)
		}
	}()
	for {
		var n uint16
		if err := binary.Read(c, binary.BigEndian, &n); err != nil {
			t.Fatalf("no reply with id %d: %v", id, err)
		}
		reply := make([]byte, n)
		if _, err := io.ReadFull(c, reply); err != nil {
			t.Fatal(err)
		}
		replies = append(replies, reply)
		if n >= 2 && binary.BigEndian.Uint16(reply) == id {
			return replies
		}
	}
}

// Exchange sends q to addr and returns the reply.
func Exchange(t testing.TB, network, addr string, q *dns.Msg) *dns.Msg {
	t.Helper()
	c := dns.Client{Net: network, Timeout: Patience, UDPSize: dns.MaxMsgSize}
	r, _, err := c.Exchange(q, addr)
	if err != nil {
		t.Fatalf("%v over %s to %s: %v", q.Question, network, addr, err)
	}
	return r
}
