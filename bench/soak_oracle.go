//go:build linux

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// A truth is what is right at a time: the versions of a value that changes.
// While it changes both the old and the new version are right.
type truth[T any] struct {
	mu       sync.Mutex
	versions []T
	settled  int // version from which on answers are right, counted from the first
	dropped  int // versions that are no longer kept
}

func newTruth[T any](v T) *truth[T] { return &truth[T]{versions: []T{v}} }

// change begins a new version. The old one stays right until settle.
func (t *truth[T]) change(v T) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.versions = append(t.versions, v)
}

// settle makes the newest version the only right one. Windows that are open
// keep the older ones, of which at most 100 are kept.
func (t *truth[T]) settle() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.settled = t.dropped + len(t.versions) - 1
	if n := len(t.versions) - 100; n > 0 {
		t.versions = slices.Clone(t.versions[n:])
		t.dropped += n
	}
}

// open returns the oldest version that is right now.
func (t *truth[T]) open() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.settled
}

// since returns the versions that were right since open returned from.
func (t *truth[T]) since(from int) []T {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.versions[max(0, from-t.dropped):])
}

// now returns the newest version.
func (t *truth[T]) now() T {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.versions[len(t.versions)-1]
}

// query asks for a name, and returns the rcode and the sorted data: "NOERROR
// 10.0.0.1", or why there is no reply.
func (s *soak) query(name, qtype, network string) string {
	c := dns.Client{Net: network, Timeout: 15 * time.Second}
	q := new(dns.Msg).SetQuestion(name, dns.StringToType[qtype])
	if rand.N(2) == 0 {
		q.SetEdns0(1232, false)
	}
	r, _, err := c.Exchange(q, s.dns)
	if err != nil {
		return "no reply: " + err.Error()
	}
	var data []string
	for _, rr := range r.Answer {
		_, text, _ := strings.Cut(rr.String(), "\t"+dns.TypeToString[rr.Header().Rrtype]+"\t")
		data = append(data, text)
	}
	slices.Sort(data)
	return strings.Join(append([]string{dns.RcodeToString[r.Rcode]}, data...), " ")
}

// questions are what clients ask all the time.
type questions struct{ *soak }

// ask asks questions of all kinds, at its share of the rate.
func (s questions) ask(ctx context.Context, i int) {
	every := time.Second * askers / time.Duration(s.rate)
	kinds := []func(){s.askStable, s.askSlot, s.askGroup, s.askUnknown, s.askMade, s.askForwarded, s.askReal}
	s.repeat(ctx, every, func() error {
		kinds[rand.N(len(kinds))]()
		return nil
	})
}

// network is UDP in most cases.
func network() string {
	if rand.N(5) == 0 {
		return "tcp"
	}
	return "udp"
}

// check counts a question, and fails if the answer is wrong.
func (s questions) check(kind, name, qtype, got string, right bool, want any) {
	s.tally.add(kind)
	if !right {
		s.tally.fail(kind, "%s %s: got %.200q; want %.300v", name, qtype, got, want)
	}
}

// askStable asks for a container that never changes, whatever happens.
func (s questions) askStable() {
	c := s.world.stable[rand.N(len(s.world.stable))]
	for _, q := range []struct{ name, qtype, want string }{
		{c.name + ".steady.docker.", "A", "NOERROR " + c.addr},
		{"x." + strings.ToUpper(c.name) + ".steady.docker.", "A", "NOERROR " + c.addr},
		{c.name + ".steady.docker.", "AAAA", "NOERROR"},
		{c.name + ".steady.docker.", "TXT", `NOERROR "of ` + c.name + `"`},
		{reverse(c.addr), "PTR", "NOERROR " + c.name + ".steady.docker."},
	}[rand.N(5):][:1] {
		got := s.query(q.name, q.qtype, network())
		s.check("containers that stay", q.name, q.qtype, got, got == q.want, q.want)
	}
}

// askSlot asks for a container that comes and goes.
func (s questions) askSlot() {
	w := s.world
	slot := w.slots[rand.N(len(w.slots))]
	name := slot.names[rand.N(len(slot.names))]
	from, away := slot.truth.open(), w.away.open()
	got := s.query(name+"."+slot.image+".docker.", "A", network())
	var want []string
	for _, v := range slot.truth.since(from) {
		want = append(want, v.answer(name))
	}
	if slices.Contains(w.away.since(away), true) && slices.Contains(want, "NXDOMAIN") {
		want = append(want, "SERVFAIL")
	}
	s.check("containers that change", name+"."+slot.image, "A", got, slices.Contains(want, got), want)
}

// askGroup asks for all containers of an image.
func (s questions) askGroup() {
	w := s.world
	image := w.slots[rand.N(len(w.slots))].image
	from := make(map[*slot]int)
	for _, slot := range w.slots {
		if slot.image == image {
			from[slot] = slot.truth.open()
		}
	}
	away := w.away.open()
	got := s.query(image+".docker.", "A", network())
	rcode, data, _ := strings.Cut(got, " ")
	must, may := make(map[string]bool), make(map[string]bool)
	for slot, first := range from {
		versions := slot.truth.since(first)
		seen := make(map[string]int)
		for _, v := range versions {
			for _, a := range v.addrs {
				seen[a]++
				may[a] = true
			}
		}
		for a, n := range seen {
			must[a] = must[a] || n == len(versions)
		}
	}
	right := rcode == "NOERROR" || rcode == "NXDOMAIN" && data == "" ||
		rcode == "SERVFAIL" && slices.Contains(w.away.since(away), true)
	have := strings.Fields(data)
	for _, a := range have {
		right = right && may[a]
	}
	for a, needed := range must {
		right = right && (!needed || slices.Contains(have, a))
	}
	s.check("all of an image", image, "A", got, right, fmt.Sprint("must ", must))
}

// askUnknown asks for a name of the domain that no container has.
func (s questions) askUnknown() {
	away := s.world.away.open()
	name := fmt.Sprintf("n%d.nosuch.docker.", rand.N(1_000_000))
	got := s.query(name, "A", network())
	right := got == "NXDOMAIN" || got == "SERVFAIL" && slices.Contains(s.world.away.since(away), true)
	s.check("names that are not there", name, "A", got, right, "NXDOMAIN")
}

// reverse returns the reverse name of an address.
func reverse(addr string) string {
	name, _ := dns.ReverseAddr(addr) // addr is ours and valid
	return name
}
