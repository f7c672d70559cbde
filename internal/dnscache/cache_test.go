package dnscache

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnswire"
)

// question asks for the addresses of a name.
func question(t testing.TB, text string) Question {
	t.Helper()
	n, err := dnsname.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return NewQuestion(n, dns.TypeA, RD)
}

// response is an address of a name, with a TTL in seconds.
func response(t testing.TB, name string, ttl uint32) *Response {
	t.Helper()
	q := question(t, name)
	h := dns.RR_Header{Name: q.Name().String(), Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl}
	m := &dns.Msg{Answer: []dns.RR{&dns.A{Hdr: h, A: net.IPv4(192, 0, 2, 1)}}}
	r, err := NewResponse(q, m, time.Duration(ttl)*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// However many names are asked for, the cache stays within its limit, and a
// name that is used stays in it.
func TestCacheIsBounded(t *testing.T) {
	const limit = 100_000
	c := New(limit)
	c.Put(response(t, "used.example", 60))
	for i := range 5000 {
		if c.Get(question(t, "used.example")) == nil {
			t.Fatalf("a response that is used is dropped for response %d", i)
		}
		c.Put(response(t, fmt.Sprintf("n%d.example", i), 60))
		if s := c.Status(); s.Size > limit || s.Answers == 0 {
			t.Fatalf("after %d responses: got %+v; want at most %d bytes", i, s, limit)
		}
	}
	if c.Get(question(t, "n1.example")) != nil {
		t.Error("the first response is still there")
	}
	if c.Get(question(t, "n4999.example")) == nil {
		t.Error("the last response is not there")
	}
	c.Clear()
	if s := c.Status(); s != (Status{}) || c.Get(question(t, "used.example")) != nil {
		t.Errorf("after Clear: got %+v; want nothing", s)
	}
}

// A cache of no size keeps nothing, and none keeps what would take most of it.
func TestCacheKeepsNothingLarge(t *testing.T) {
	for _, limit := range []int64{0, 1000} {
		c := New(limit)
		c.Put(response(t, "www.example", 60))
		if s := c.Status(); s.Answers != 0 {
			t.Errorf("limit %d: got %+v; want nothing", limit, s)
		}
	}
}

// A response is replaced by a newer one to the same question.
func TestCacheReplaces(t *testing.T) {
	c := New(1 << 20)
	c.Put(response(t, "www.example", 60))
	size := c.Status().Size
	newer := response(t, "www.example", 30)
	c.Put(newer)
	if got := c.Get(newer.Question); got != newer || c.Status() != (Status{1, size}) {
		t.Errorf("got %+v in %+v; want the newer response alone", got, c.Status())
	}
	if before := c.Generation(); before == func() uint32 { c.Clear(); return c.Generation() }() {
		t.Error("Clear does not change the generation")
	}
}

// A response ages: its TTL counts down, it becomes stale, and then it is dead.
func TestFreshness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(1 << 20)
		r := response(t, "www.example", 60)
		c.Put(r)
		want := func(want Freshness, ttl uint32) {
			t.Helper()
			if got := r.At(r.Age(time.Now())); got != want {
				t.Errorf("after %v: got freshness %d; want %d", r.Age(time.Now()), got, want)
			}
			m, err := r.Message(r.Age(time.Now()))
			if err != nil || len(m.Answer) != 1 || m.Answer[0].Header().Ttl != ttl {
				t.Errorf("after %v: got %v, %v; want TTL %d", r.Age(time.Now()), m, err, ttl)
			}
		}
		want(Fresh, 60)
		time.Sleep(20 * time.Second)
		want(Fresh, 40)
		time.Sleep(40 * time.Second)
		want(Stale, staleTTL)
		r.Tire()
		want(Tired, staleTTL)
		time.Sleep(FailureTTL)
		want(Stale, staleTTL)
		c.DropDead()
		if c.Get(r.Question) == nil {
			t.Error("a stale response is dropped")
		}
		time.Sleep(MaxCached)
		want(Dead, staleTTL)
		c.DropDead()
		if c.Get(r.Question) != nil {
			t.Error("a dead response is kept")
		}
		failed := Failed(r.Question)
		time.Sleep(FailureTTL)
		if got := failed.At(failed.Age(time.Now())); got != Dead || failed.Rcode() != dns.RcodeServerFailure {
			t.Errorf("a failure of 5 s ago has freshness %d; want %d", got, Dead)
		}
	})
}

// wallEarlier returns t with another reading of the wall clock, as if the monotonic one had stood still for d. It knows
// the layout of time.Time: in the first word, seconds of the wall clock are above 30 bits of nanoseconds.
func wallEarlier(t *testing.T, at time.Time, d time.Duration) time.Time {
	t.Helper()
	was := at
	*(*uint64)(unsafe.Pointer(&at)) -= uint64(d/time.Second) << 30
	if at.Sub(was) != 0 || was.UnixNano()-at.UnixNano() != int64(d) {
		t.Fatalf("time.Time has another layout: %v before %v became %v", d, was, at)
	}
	return at
}

// Nothing is fresh after a night in which a laptop, and so the monotonic clock, slept; and a wall clock that is set
// back makes nothing fresh again.
func TestAgeOverSleep(t *testing.T) {
	const night = 8 * time.Hour
	kept := func() *Response { return response(t, "www.example", 60) }
	awake, slept, setBack := kept(), kept(), kept()
	slept.Born = wallEarlier(t, slept.Born, night)
	setBack.Born = wallEarlier(t, setBack.Born.Add(-night), -2*night)
	for _, tt := range []struct {
		what string
		*Response
		want Freshness
	}{{"slept", slept, Stale}, {"set back", setBack, Stale}, {"awake", awake, Fresh}} {
		if age := tt.Age(time.Now()); tt.At(age) != tt.want || tt.want == Stale && age < night {
			t.Errorf("%s: got freshness %d at %v; want %d", tt.what, tt.At(age), age, tt.want)
		}
	}
}

// A question becomes a query that the library reads as it was meant, and a
// padded one has a multiple of 128 bytes.
func TestQuestionMessage(t *testing.T) {
	for _, name := range []string{"a.example", strings.Repeat("label.", 20) + "example"} {
		for _, flags := range []byte{0, RD, CD, DO, RD | CD | DO} {
			n, err := dnsname.Parse(name)
			if err != nil {
				t.Fatal(err)
			}
			q := NewQuestion(n, dns.TypeAAAA, flags)
			b := q.Message(true, true)
			m := new(dns.Msg)
			if err := m.Unpack(b); err != nil {
				t.Fatal(err)
			}
			want := dns.Question{Name: dns.Fqdn(name), Qtype: dns.TypeAAAA, Qclass: dns.ClassINET}
			if len(m.Question) != 1 || m.Question[0] != want || !m.AuthenticatedData {
				t.Errorf("got %v; want %v with AD", m, want)
			}
			got := [3]bool{m.RecursionDesired, m.CheckingDisabled, m.IsEdns0().Do()}
			if got != [3]bool{flags&RD != 0, flags&CD != 0, flags&DO != 0} {
				t.Errorf("flags %x: got RD, CD, DO %v", flags, got)
			}
			if len(b)%padding != 0 || m.IsEdns0().UDPSize() != dnswire.MaxUDPSize {
				t.Errorf("%d bytes, size %d; want a multiple of %d, and %d",
					len(b), m.IsEdns0().UDPSize(), padding, dnswire.MaxUDPSize)
			}
			if q.Name() != n || q.Qtype() != dns.TypeAAAA || q.Flags() != flags {
				t.Errorf("got %s, %d, %x of the question; want what it was made of", q.Name(), q.Qtype(), q.Flags())
			}
			if plain := q.Message(false, false); m.Unpack(plain) != nil || m.IsEdns0() != nil {
				t.Errorf("without EDNS: got %v", m)
			}
		}
	}
}
