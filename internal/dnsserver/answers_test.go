package dnsserver

import (
	"fmt"
	"testing"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/zonetest"
)

// check fails the test unless the counts of c are those of its table, and below the bounds.
func (c *answerCache) check(t *testing.T) (count int) {
	t.Helper()
	bytes := 0
	table := *c.table.Load()
	for i := range table {
		for j := range table[i].entries {
			if e := table[i].entries[j].Load(); e != nil {
				count++
				bytes += e.space()
			}
		}
	}
	if count != c.count || bytes != c.bytes || count > maxAnswers || bytes > maxKept {
		t.Fatalf("%d answers in %d bytes, counted %d and %d; want the same, at most %d and %d",
			count, bytes, c.count, c.bytes, maxAnswers, maxKept)
	}
	return count
}

// However many questions clients ask, and however long the answers are, what
// is kept of them has a bound.
func TestAnswersAreBounded(t *testing.T) {
	ix := zonetest.New(t, "docker", 0, pub("web", "nginx", 0, "10.0.0.1", ""))
	big := ix.Service(t, "big", "big", "img", "10.0.0.1")
	for i := range 200 {
		big.Ports = append(big.Ports, publish.Port{Number: uint16(i), Proto: "tcp", Name: "http"})
	}
	ix.Put(big.ID, big)
	r := newRig(t, ix)
	for i := range maxAnswers + maxAnswers/8 {
		r.ask(dnstest.Pack(t, 1, fmt.Sprintf("x%d.docker.", i), dns.TypeA), localhost, dns.MaxMsgSize)
		if i%40 == 0 {
			r.ask(dnstest.Pack(t, 1, fmt.Sprintf("_http._tcp.x%d.big.img.docker.", i), dns.TypeSRV), localhost,
				dns.MaxMsgSize)
		}
		if i%(maxAnswers/2) == 0 {
			r.answers.check(t)
		}
	}
	if count := r.answers.check(t); count < maxAnswers/4 {
		t.Errorf("%d answers are kept; want more", count)
	}
	packet := dnstest.Pack(t, 1, "web.nginx.docker.", dns.TypeA)
	r.ask(packet, localhost, dns.MaxMsgSize)
	for range 2 {
		if r.replayed(packet, localhost, dns.MaxMsgSize) == nil {
			t.Error("an answer that is asked for all the time is gone")
		}
		r.answers.tidy()
	}
	if count := r.answers.check(t); count != 1 {
		t.Errorf("after two tidies, %d answers are kept; want the one that is asked for", count)
	}
	if size := len(*r.answers.table.Load()); size != minBuckets {
		t.Errorf("the table has %d buckets for one answer; want %d", size, minBuckets)
	}
}

// What is asked for stays, whatever others ask.
func TestAnswersInUseStay(t *testing.T) {
	ix := zonetest.Filled(t, 2000)
	r := newRig(t, ix)
	var packets [][]byte
	for i := range 2000 {
		packets = append(packets, dnstest.Pack(t, 1, fmt.Sprintf("c%d.image%d.docker.", i, i/10), dns.TypeA))
	}
	lost := 0
	for round := range 3 {
		for _, p := range packets {
			if r.replayed(p, localhost, dns.MaxMsgSize) == nil {
				if round > 0 {
					lost++
				}
				r.ask(p, localhost, dns.MaxMsgSize)
			}
		}
		for i := range 5000 {
			r.ask(dnstest.Pack(t, 1, fmt.Sprintf("x%d-%d.docker.", round, i), dns.TypeA), localhost, dns.MaxMsgSize)
		}
	}
	if lost > 40 { // a hundredth
		t.Errorf("%d of 4000 answers that are asked for again were lost", lost)
	}
}
