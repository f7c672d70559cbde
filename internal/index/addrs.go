package index

import (
	"iter"
	"net/netip"
	"runtime"
	"slices"
	"sync/atomic"
	intern "unique"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/table"
)

// addresses find services by address.
type addresses struct {
	addrs    table.Table[netip.Addr, *Set] // by each address that is answered
	networks map[network]int               // number of services on each network; used by writers only
	prefixes table.Table[netip.Prefix, []network]
	lengths  [129]atomic.Int32 // number of networks with a prefix of that many bits
	guests
}

type network = intern.Handle[publish.Network]

// At returns the services that have the address whose reverse name n is. It is
// nil if there are none.
func (x *addresses) At(n dnsname.Name) *Set {
	if !n.IsReverse() {
		return nil
	}
	p, ok := n.Prefix()
	if !ok || !p.IsSingleIP() {
		return nil
	}
	t, _ := x.addrs.Load(p.Addr())
	return t
}

// isLost reports whether an address of s, a stopped container, is that of a
// running one of its engine now.
func (x *addresses) isLost(s *publish.Service, a netip.Addr) bool {
	t, _ := x.addrs.Load(a)
	return runsAt(t)[s.Origin.Engine]
}

// runsAt returns the engines of the containers in t that run.
func runsAt(t *Set) map[string]bool {
	engines := make(map[string]bool)
	for s := range t.All(publish.Runs) {
		if !s.IsByHand() {
			engines[s.Origin.Engine] = true
		}
	}
	return engines
}

// stoppedAt returns the services of stopped containers that have an address of s.
func (x *addresses) stoppedAt(s *publish.Service) (list []*publish.Service) {
	if s == nil {
		return nil
	}
	for _, a := range s.Addrs {
		t, _ := x.addrs.Load(a)
		list = slices.AppendSeq(list, t.All(publish.HasStopped))
	}
	return list
}

// AnyBelow reports whether a reverse name of a published address is below n.
// It walks all addresses.
func (x *addresses) AnyBelow(n dnsname.Name) bool {
	p, ok := n.Prefix()
	if !ok || p.IsSingleIP() {
		return false
	}
	count := 0
	for a := range x.addrs.All() {
		if count++; count%Many == 0 {
			runtime.Gosched()
		}
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// swap puts the service of single at its addresses, and takes old from its.
func (x *addresses) swap(old *publish.Service, single *Set) {
	var now, before []netip.Addr
	if single != nil {
		now = single.services[0].Addrs
		x.count(single.services[0], 1)
	}
	if old != nil {
		before = old.Addrs
		x.count(old, -1)
	}
	kept := make(map[netip.Addr]bool, len(now))
	for _, a := range now {
		kept[a] = true
		if a.IsValid() && !single.services[0].IsNode { // else it is the host's, or has its name elsewhere
			t, _ := x.addrs.Load(a)
			x.addrs.Store(a, t.with(single))
		}
	}
	for _, a := range before {
		if kept[a] || !a.IsValid() {
			continue
		}
		t, _ := x.addrs.Load(a)
		if t = t.without(old.ID); t != nil {
			x.addrs.Store(a, t)
		} else {
			x.addrs.Remove(a)
		}
	}
}

// count adds to the number of services on the networks of s.
func (x *addresses) count(s *publish.Service, by int) {
	for _, run := range s.NetRuns {
		x.networks[run.Net] += by
		switch n := x.networks[run.Net]; {
		case n == 0:
			delete(x.networks, run.Net)
			x.addPrefixes(run.Net, -1)
		case n == by: // the first service
			x.addPrefixes(run.Net, 1)
		}
	}
}

// addPrefixes adds a network to those of its prefixes, or removes it if by is -1.
func (x *addresses) addPrefixes(net network, by int32) {
	for _, p := range []netip.Prefix{net.Value().V4.Prefix, net.Value().V6.Prefix} {
		if !p.IsValid() {
			continue
		}
		old, _ := x.prefixes.Load(p)
		next := slices.DeleteFunc(slices.Clone(old), func(n network) bool { return n == net })
		if by > 0 {
			next = append(next, net)
		}
		if len(next) > 0 {
			x.prefixes.Store(p, next)
		} else {
			x.prefixes.Remove(p)
		}
		x.lengths[p.Bits()].Add(by)
	}
}

// networksAt iterates over the networks that a client with an address is on.
// With 1,000 networks a look at each would cost 50 times as much as the rest of
// an answer.
func (x *addresses) networksAt(client netip.Addr) iter.Seq[network] {
	return func(yield func(network) bool) {
		for bits := range client.BitLen() + 1 {
			if x.lengths[bits].Load() == 0 {
				continue
			}
			p, _ := client.Prefix(bits) // no error: there are so many bits
			list, _ := x.prefixes.Load(p)
			for _, n := range list {
				if n.Value().Has(client) && !yield(n) {
					return
				}
			}
		}
	}
}

// gatewayFor returns the addresses of the host on a network that the client is
// on. It is empty if the client is on none.
func (x *addresses) gatewayFor(client ...netip.Addr) (addrs []netip.Addr) {
	for _, a := range client {
		for n := range x.networksAt(a) {
			if addrs := n.Value().HostAddrs(); len(addrs) > 0 {
				return addrs
			}
		}
	}
	return nil
}

// isNear reports whether a client is on a network of a service. If it reports
// false, no service can be on the client's network.
func (x *addresses) isNear(client ...netip.Addr) bool {
	for _, a := range client {
		for range x.networksAt(a) {
			return true
		}
	}
	return false
}
