//go:build linux

package main

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// What an upstream does with a query.
const (
	working   = iota
	slow      // it answers after 100 to 400 ms
	truncates // it answers over TCP only
	silent
	failing // SERVFAIL
	refuses
	garbage  // bytes that are no message
	mistaken // another ID, or another question
	conducts // how many there are
)

// upstreams are three nameservers, which fail in several ways.
type upstreams struct {
	list []*upstream
	down *truth[bool] // whether none of them works
}

type upstream struct {
	addr    string
	conduct atomic.Int32
}

// startUpstreams serves three upstreams on loopback until the context ends.
func startUpstreams(ctx context.Context) (*upstreams, error) {
	u := &upstreams{down: newTruth(false)}
	for range 3 {
		up := new(upstream)
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		udp, err := net.ListenPacket("udp", tcp.Addr().String())
		if err != nil {
			return nil, err
		}
		up.addr = tcp.Addr().String()
		for _, srv := range []*dns.Server{{Listener: tcp, Handler: up}, {PacketConn: udp, Handler: up}} {
			go func() { _ = srv.ActivateAndServe() }() // until the context ends
			context.AfterFunc(ctx, func() { _ = srv.Shutdown() })
		}
		u.list = append(u.list, up)
	}
	return u, nil
}

func (u *upstreams) addrs() (list []string) {
	for _, up := range u.list {
		list = append(list, up.addr)
	}
	return list
}

// set gives all upstreams one conduct.
func (u *upstreams) set(conduct int32) {
	for _, up := range u.list {
		up.conduct.Store(conduct)
	}
}

// forwardedName returns one of the names that upstreams know, and its address.
func forwardedName() (name, addr string) {
	name = fmt.Sprintf("w%d.example.", rand.N(3000))
	return name, addressOf(name)
}

// addressOf returns the address of a name, whatever its case.
func addressOf(name string) string {
	h := fnv.New32()
	_, _ = h.Write([]byte(strings.ToLower(name))) // can't fail
	n := h.Sum32()
	return fmt.Sprintf("198.51.%d.%d", n>>8&255, n&255)
}

func (up *upstream) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	_, overUDP := w.RemoteAddr().(*net.UDPAddr)
	r := new(dns.Msg).SetReply(q)
	r.RecursionAvailable = true
	switch up.conduct.Load() {
	case slow:
		time.Sleep(100*time.Millisecond + rand.N(300*time.Millisecond))
		up.answer(r)
	case truncates:
		if r.Truncated = overUDP; !overUDP {
			up.answer(r)
		}
	case silent:
		return
	case failing:
		r.Rcode = dns.RcodeServerFailure
	case refuses:
		r.Rcode = dns.RcodeRefused
	case garbage:
		b := make([]byte, rand.N(600))
		for i := range b {
			b[i] = byte(rand.Uint32())
		}
		_, _ = w.Write(b) // the other side may be gone
		return
	case mistaken:
		up.answer(r)
		if rand.N(2) == 0 {
			r.Id++
		} else {
			r.Question[0].Name = "other." + r.Question[0].Name
		}
	default:
		up.answer(r)
	}
	_ = w.WriteMsg(r) // the other side may be gone
}

// answer adds what the upstream knows.
func (up *upstream) answer(r *dns.Msg) {
	q := r.Question[0]
	ttl := uint32(rand.N(20))
	if !strings.HasPrefix(strings.ToLower(q.Name), "w") {
		r.Rcode = dns.RcodeNameError
		r.Ns = append(r.Ns, &dns.SOA{
			Hdr: dns.RR_Header{Name: "example.", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: ttl},
			Ns:  "ns.example.", Mbox: "hostmaster.example.", Minttl: ttl,
		})
		return
	}
	if q.Qtype == dns.TypeA {
		r.Answer = append(r.Answer, &dns.A{
			Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl},
			A:   net.ParseIP(addressOf(q.Name)),
		})
	}
}

// breakUpstreams changes the conduct of upstreams. At least one of them works,
// but for some seconds in between.
func (s *soak) breakUpstreams(ctx context.Context) {
	u := s.upstreams
	s.repeat(ctx, 8*time.Second, func() error {
		if rand.N(8) == 0 {
			s.tally.add("all upstreams fail")
			u.down.change(true)
			u.set(silent + rand.Int32N(conducts-silent))
			_ = pause(ctx, time.Second+rand.N(5*time.Second)) // they work again in any case
			u.set(working)
			// A query that began before may fail by its last attempt, and the
			// failure is kept for 5 seconds.
			_ = pause(ctx, 20*time.Second)
			u.down.change(false)
			u.down.settle()
			return nil
		}
		s.tally.add("changes of upstreams")
		good := rand.N(len(u.list))
		for i, up := range u.list {
			if i == good {
				up.conduct.Store(rand.Int32N(silent))
			} else {
				up.conduct.Store(rand.Int32N(conducts))
			}
		}
		return nil
	})
}

// askForwarded asks for a name that only upstreams know.
func (s questions) askForwarded() {
	down := s.upstreams.down.open()
	name, addr := forwardedName()
	want := "NOERROR " + addr
	if rand.N(4) == 0 {
		name, want = "x"+name, "NXDOMAIN"
	}
	got := s.query(name, "A", network())
	failed := slices.Contains(s.upstreams.down.since(down), true)
	right := got == want || failed && (got == "SERVFAIL" || strings.HasPrefix(got, "no reply"))
	s.check("forwarded", name, "A", got, right, want)
}
