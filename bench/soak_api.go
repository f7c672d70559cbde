//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

const madeCount = 20

// made are services that only the API knows: by number their address, or "".
var made = func() (list []*truth[string]) {
	for range madeCount {
		list = append(list, newTruth(""))
	}
	return list
}()

// client has a connection for each request, as curl does.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}

// call sends a request to the API and returns the status.
func (s *soak) call(method, path, body string) (int, error) {
	req, err := http.NewRequest(method, "http://"+s.http+path, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// changeByAPI makes, changes and removes services. Each is answered as soon as
// the API has replied.
func (s *soak) changeByAPI(ctx context.Context) {
	s.repeat(ctx, 500*time.Millisecond, func() error {
		i := rand.N(madeCount)
		t := made[i]
		path := fmt.Sprintf("/services/made-%d", i)
		var status int
		var err error
		switch before := t.now(); {
		case before == "":
			addr := fmt.Sprintf("192.0.2.%d", 1+rand.N(250))
			t.change(addr)
			status, err = s.call("PUT", path, fmt.Sprintf(`{"name": "m%d", "image": "made", "ip": %q}`, i, addr))
		case rand.N(2) == 0:
			addr := fmt.Sprintf("198.18.0.%d", 1+rand.N(250))
			t.change(addr)
			status, err = s.call("PATCH", path, fmt.Sprintf(`{"ip": %q}`, addr))
		default:
			t.change("")
			status, err = s.call("DELETE", path, "")
		}
		s.tally.add("changes by the API")
		if err != nil || status >= 300 {
			s.tally.fail("changes by the API", "%s: status %d, %v", path, status, err)
		}
		t.settle()
		return nil
	})
}

// askMade asks for a service that the API made.
func (s questions) askMade() {
	i := rand.N(madeCount)
	from, away := made[i].open(), s.world.away.open()
	name := fmt.Sprintf("m%d.made.docker.", i)
	got := s.query(name, "A", network())
	var want []string
	for _, addr := range made[i].since(from) {
		if addr != "" {
			want = append(want, "NOERROR "+addr)
		} else if want = append(want, "NXDOMAIN"); slices.Contains(s.world.away.since(away), true) {
			want = append(want, "SERVFAIL")
		}
	}
	s.check("services of the API", name, "A", got, slices.Contains(want, got), want)
}

// abuses are what attackers do all the time.
type abuses struct{ *soak }

// abuseHTTP sends requests that no honest client sends.
func (s abuses) abuseHTTP(ctx context.Context) {
	var idle []net.Conn
	defer func() {
		for _, c := range idle {
			_ = c.Close()
		}
	}()
	s.repeat(ctx, 300*time.Millisecond, func() error {
		s.tally.add("abuses of HTTP")
		for len(idle) > rand.N(100) {
			_ = idle[0].Close()
			idle = idle[1:]
		}
		raw := rudeRequests[rand.N(len(rudeRequests))]
		if rand.N(4) > 0 {
			c, err := net.DialTimeout("tcp", s.http, time.Minute)
			if err != nil {
				s.tally.fail("abuses of HTTP", "%v", err)
				return nil
			}
			_, _ = io.WriteString(c, raw[:rand.N(len(raw)+1)]) // it may be refused
			idle = append(idle, c)
			return nil
		}
		path := paths[rand.N(len(paths))]
		if status, err := s.call("GET", path, ""); err != nil || status >= 500 {
			s.tally.fail("abuses of HTTP", "GET %s: status %d, %v", path, status, err)
		}
		return nil
	})
}

// paths are asked for as an honest client does, beside the abuses.
var paths = []string{"/", "/services", "/metrics", "/status", "/resolve?name=s1.steady.docker", "/no/such"}

// rudeRequests are sent in whole or in part, and their replies are not read.
var rudeRequests = []string{
	"GET /events HTTP/1.1\r\nHost: x\r\n\r\n",
	"GET /services HTTP/1.1\r\nHost: x\r\n\r\nGET /services HTTP/1.1\r\nHost: x\r\n\r\n",
	"PUT /services/rude HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n{" + strings.Repeat(" ", 10_000),
	"PUT /services/rude HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
	"PATCH /services/made-1 HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n{{{{",
	"GET /" + strings.Repeat("a/", 20_000) + " HTTP/1.1\r\nHost: x\r\n\r\n",
	"GET / HTTP/1.1\r\n" + strings.Repeat("X-Header: y\r\n", 5_000),
	"DELETE /services/../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
	"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
	"\x00\xff\r\n\r\n",
}

// sendGarbage sends UDP packets that are no queries, or hostile ones. What is
// answered must be a reply to it.
func (s abuses) sendGarbage(ctx context.Context) {
	s.repeat(ctx, 20*time.Millisecond, func() error {
		d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.IPv4(127, 0, 1, byte(1+rand.N(200)))}}
		c, err := d.Dial("udp", s.dns)
		if err != nil {
			s.tally.fail("hostile packets", "%v", err)
			return nil
		}
		defer c.Close()
		packet := hostilePacket()
		if _, err := c.Write(packet); err != nil {
			s.tally.fail("hostile packets", "%v", err)
			return nil
		}
		s.tally.add("hostile packets")
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond)) // can't fail
		buf := make([]byte, 65536)
		n, err := c.Read(buf)
		if err != nil {
			return nil // it need not be answered
		}
		if err := replies(packet, buf[:n]); err != nil {
			s.tally.fail("hostile packets", "%x: %v: %x", packet, err, buf[:min(n, 100)])
		}
		return nil
	})
}

// replies returns an error if b can't be a reply to the packet.
func replies(packet, b []byte) error {
	switch {
	case len(packet) < 12 || packet[2]&0x80 != 0:
		return errors.New("a packet that must not be answered got a reply")
	case len(b) < 12:
		return fmt.Errorf("a reply of %d bytes", len(b))
	case !bytes.Equal(b[:2], packet[:2]) || b[2]&0x80 == 0:
		return errors.New("a reply with another ID, or without QR")
	}
	return nil
}

// hostilePacket returns a query that was changed, or random bytes.
func hostilePacket() []byte {
	b := query(uint16(rand.Uint32()), "s1.steady.docker", uint16(rand.N(260)))
	if rand.N(4) == 0 {
		b = make([]byte, rand.N(600))
		for i := range b {
			b[i] = byte(rand.Uint32())
		}
		return b
	}
	for range rand.N(6) {
		switch i := rand.N(len(b)); rand.N(4) {
		case 0:
			b[i] = byte(rand.Uint32())
		case 1:
			b = b[:max(1, i)]
		case 2: // a pointer into the message
			b[i] = 0xc0
		default:
			b = slices.Insert(b, i, byte(rand.Uint32()), byte(rand.Uint32()))
		}
	}
	return b
}

// abuseTCP opens connections that send parts of messages, or nothing, and asks
// in between as an honest client does.
func (s abuses) abuseTCP(ctx context.Context) {
	var idle []net.Conn
	defer func() {
		for _, c := range idle {
			_ = c.Close()
		}
	}()
	s.repeat(ctx, 100*time.Millisecond, func() error {
		s.tally.add("abuses of TCP")
		for len(idle) > rand.N(300) {
			_ = idle[0].Close()
			idle = idle[1:]
		}
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 2, byte(1+rand.N(200)))}, Timeout: time.Minute}
		c, err := d.Dial("tcp", s.dns)
		if err != nil {
			s.tally.fail("abuses of TCP", "%v", err)
			return nil
		}
		b := hostilePacket()
		frame := append([]byte{byte(len(b) >> 8), byte(len(b))}, b...)
		if rand.N(3) == 0 {
			frame[0] = 0xff // it promises more than it sends
		}
		_, _ = c.Write(frame[:rand.N(len(frame)+1)]) // it may be refused
		idle = append(idle, c)
		return nil
	})
}
