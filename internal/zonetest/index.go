package zonetest

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/index"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/servicejson"
)

// Serial is the SOA serial of an index when a test begins.
const Serial = 7

// A Pub is a service that a test publishes.
type Pub struct {
	Name, Image string
	TTL         int    // seconds; publish.DefaultTTL for that of the index
	Addrs       string // with spaces between
	Aliases     string // with spaces between
}

// An Index is an index with what its writer knows: the services by id.
type Index struct {
	*index.Index
	services map[string]*publish.Service
}

// New returns an index under apex whose engine has listed its containers:
// pubs.
func New(t testing.TB, apex string, ttl uint32, pubs ...Pub) *Index {
	t.Helper()
	ix := WithZones(t, apex, ttl)
	for i, p := range pubs {
		s := ix.Service(t, fmt.Sprintf("%04x", i), p.Name, p.Image, p.Addrs, strings.Fields(p.Aliases)...)
		s.TTL, s.Origin = p.TTL, publish.Origin{}
		ix.own(t, s)
		ix.Put(s.ID, s)
	}
	ix.Serial.Store(Serial)
	return ix
}

// WithZones returns an empty index under apex, whose engines have domains of
// their own too: zones.
func WithZones(t testing.TB, apex string, ttl uint32, zones ...string) *Index {
	t.Helper()
	var names []dnsname.Name
	for _, z := range zones {
		names = append(names, Name(t, z))
	}
	ix := &Index{index.New(publish.NameRules{Apex: Name(t, apex)}, ttl, names...), make(map[string]*publish.Service)}
	ix.Ready.Store(true)
	ix.Serial.Store(Serial)
	return ix
}

// Filled returns an index of count services: c<i>.image<i/10>.docker.
func Filled(t testing.TB, count int) *Index {
	ix := New(t, "docker", 0)
	for i := range count {
		addr := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		id := fmt.Sprint(i)
		ix.Put(id, ix.Service(t, id, fmt.Sprintf("c%d", i), fmt.Sprintf("image%d", i/10), addr.String()))
	}
	return ix
}

// Service returns the service of a container, which is not published yet.
func (ix *Index) Service(t testing.TB, id, name, image, addrs string, aliases ...string) *publish.Service {
	t.Helper()
	s := &publish.Service{
		ID: id, ContainerLabel: name, ImageLabel: image, TTL: publish.DefaultTTL, Extras: new(publish.Extras),
		Origin: publish.Origin{Engine: "e", Container: name, Image: image},
	}
	for text := range strings.FieldsSeq(addrs) {
		s.Addrs = append(s.Addrs, netip.MustParseAddr(text))
	}
	for _, a := range aliases {
		s.Aliases = append(s.Aliases, Name(t, a))
	}
	ix.own(t, s)
	return s
}

func (ix *Index) own(t testing.TB, s *publish.Service) {
	t.Helper()
	if err := ix.Rules.SetOwnerNames(s); err != nil {
		t.Fatal(err)
	}
}

// Put publishes s under id in the place of what was published there; nil
// publishes nothing.
func (ix *Index) Put(id string, s *publish.Service) {
	ix.Replace(ix.services[id], s, true)
	if ix.services[id] = s; s == nil {
		delete(ix.services, id)
	}
}

// Publish publishes services as the HTTP API takes them.
func (ix *Index) Publish(t testing.TB, services ...string) {
	t.Helper()
	for i, body := range services {
		p, err := servicejson.ReadService([]byte(body), false)
		if err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		id := fmt.Sprintf("made%d", i)
		s, err := ix.Rules.Patched(&publish.Service{ID: id, Extras: new(publish.Extras)}, p)
		if err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		ix.Put(id, s)
	}
	ix.Serial.Store(Serial)
}

// PutContainers publishes containers, whose ids are their names if they have none.
func (ix *Index) PutContainers(t testing.TB, list ...publish.Container) {
	t.Helper()
	for _, c := range list {
		if c.ID == "" {
			c.ID = c.Name
		}
		s, problems := ix.Rules.ServiceOf(&c, "e")
		if len(problems) > 0 {
			t.Fatalf("%s: %v", c.Name, problems)
		}
		ix.Put(c.ID, s)
	}
}

// PutVIP publishes the virtual addresses of the service of t.
func (ix *Index) PutVIP(t testing.TB, of publish.Task, addrs ...publish.Endpoint) {
	t.Helper()
	s, problems := ix.Rules.VIPOf(of, addrs, "e")
	ix.putVirtual(t, s, problems)
}

// PutNode publishes a machine of a swarm.
func (ix *Index) PutNode(t testing.TB, id, hostname, addr string) {
	t.Helper()
	s, problems := ix.Rules.NodeOf(id, hostname, netip.MustParseAddr(addr), "e")
	ix.putVirtual(t, s, problems)
}

func (ix *Index) putVirtual(t testing.TB, s *publish.Service, problems []publish.Problem) {
	t.Helper()
	if s == nil || len(problems) > 0 {
		t.Fatalf("got %v, %v", s, problems)
	}
	ix.Put(s.ID, s)
}

// PutBroken publishes a service whose answer makes whoever decides it panic: it
// says that it has more addresses on its network than it has.
func (ix *Index) PutBroken(t testing.TB, name, image string) {
	t.Helper()
	s, _ := ix.Rules.ServiceOf(&publish.Container{
		ID: name, Name: name, Image: image, Networks: []publish.Endpoint{Endpoint("broken", "10.9.0.5/24 10.9.0.6/24")},
	}, "e")
	s.Addrs = s.Addrs[:1:1]
	ix.Put(s.ID, s)
}

// Endpoint returns the endpoint of a container on a network, with addresses
// and prefixes; with '!' before its name the network is internal. The first
// address of a network is its gateway.
func Endpoint(name, addrs string) publish.Endpoint {
	name, internal := strings.CutPrefix(name, "!")
	e := publish.Endpoint{Network: publish.Network{Name: name, Internal: internal}}
	for text := range strings.FieldsSeq(addrs) {
		p := netip.MustParsePrefix(text)
		e.Addrs = append(e.Addrs, p.Addr())
		if s := (publish.IPNet{Prefix: p.Masked(), Gateway: p.Masked().Addr().Next()}); p.Addr().Is4() {
			e.V4 = s
		} else {
			e.V6 = s
		}
	}
	return e
}

// Name returns the name that s writes.
func Name(t testing.TB, s string) dnsname.Name {
	t.Helper()
	n, err := dnsname.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
