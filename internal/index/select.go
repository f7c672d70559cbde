package index

import (
	"hash/maphash"
	"iter"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/publish"
)

// MostSpecific returns the names for a PTR record of services: what they call
// themselves first, then the main names with the most labels first, and limit
// names at most. Stopped containers are left out if a running one of their
// engine is there.
func MostSpecific(services *Set, limit int) (list []dnsname.Name) {
	var byLabels [dnsname.MaxLen/2 + 1][]dnsname.Name
	var runs map[string]bool // by engine; nil: no container is stopped
	if services.Has(publish.HasStopped) {
		runs = runsAt(services)
	}
	for s := range Shuffled([]*Set{services}, publish.AnyKind) { // none has a CNAME
		if runs[s.Origin.Engine] && s.IsStopped() {
			continue
		}
		if s.HostName != "" {
			list = append(list, s.HostName)
		}
		for _, o := range s.MainNames() {
			byLabels[o.Labels()] = append(byLabels[o.Labels()], o)
		}
	}
	slices.Reverse(byLabels[:])
	list = publish.Dedup(slices.Concat(list, slices.Concat(byLabels[:]...)))
	return list[:min(len(list), limit)]
}

// A Viewer is who a query is from, and which address of ours it asks.
type Viewer struct {
	Places []netip.Addr // that the client is known by, of Index.Places
	Local  netip.Addr
}

// Rrset returns the addresses of views for a viewer, IPv4 or IPv6, without
// duplicates (RFC 2181 section 5), and the TTL in seconds that they share: the
// smallest of the services' (section 5.2). Addresses on the viewer's network
// come first, and within that the services' order rotates. It returns at most
// limit addresses, starting at a random service, so that a name of 10,000
// services costs no more than its reply holds. It reports differs if viewers on other
// networks may get other addresses, or another order.
func (x *Index) Rrset(views []*Set, v4 bool, limit int, c Viewer) (addrs []netip.Addr, ttl uint32, differs bool) {
	var seen map[netip.Addr]bool // nil if no address can come twice
	if len(views) > 1 || len(views) == 1 && views[0].Len() > 1 || AnyHas(views, publish.HasHost) {
		seen = make(map[netip.Addr]bool)
	}
	isFar, isFull := false, false // the viewer is on no network of a service, which is asked for once
	var near, far rotation
	var last network
	isFirst := true
	for s, got := range x.giving(views, v4, c) {
		differs = differs || !isFirst && s.Network() != last
		last, isFirst = s.Network(), false
		group := &far
		if got.near {
			group = &near
		}
		from := group.count
		for _, a := range got.addrs {
			if a.IsValid() && a.Is4() == v4 && !seen[a] && group.count < limit {
				if seen != nil {
					seen[a] = true
				}
				group.add(a, from)
			}
		}
		if far.count == limit && !isFull {
			isFull, isFar = true, !x.isNear(c.Places...)
		}
		if near.count == limit || isFar {
			break
		}
	}
	addrs = append(near.turned(), far.turned()...)
	return addrs[:min(len(addrs), limit)], x.MinTTL(views), differs || AnyHas(views, publish.Varies)
}

// A choice is the addresses of a service that a viewer is to get.
type choice struct {
	addrs []netip.Addr
	near  bool // they are on the viewer's network
}

// giving iterates over the services of views that have addresses of a family
// for a viewer, starting at a random one. Sick ones are left out if others are well, and
// tasks of a swarm's service whose virtual address the viewer gets.
func (x *Index) giving(views []*Set, v4 bool, c Viewer) iter.Seq2[*publish.Service, choice] {
	family := publish.HasAAAA
	if v4 {
		family = publish.HasA
	}
	return func(yield func(*publish.Service, choice) bool) {
		well, replaced := x.anyWell(views, c), virtualIn(views, c)
		for s := range Shuffled(views, family) {
			if s.Sick && well || replaced[swarmServiceOf(s)] != (s.VIP != "") {
				continue
			}
			addrs, near := x.addrsFor(s, c)
			has := slices.ContainsFunc(addrs, func(a netip.Addr) bool { return a.IsValid() && a.Is4() == v4 })
			if has && !yield(s, choice{addrs, near}) {
				return
			}
		}
	}
}

// Giving iterates over the services that Rrset takes addresses from.
func (x *Index) Giving(views []*Set, v4 bool, c Viewer) iter.Seq[*publish.Service] {
	return func(yield func(*publish.Service) bool) {
		for s := range x.giving(views, v4, c) {
			if !yield(s) {
				return
			}
		}
	}
}

// addrsFor is service.addrsFor, in an order that changes where that does not
// matter, with the host's addresses.
func (x *Index) addrsFor(s *publish.Service, c Viewer) (addrs []netip.Addr, near bool) {
	addrs, near = s.AddrsFor(c.Places...)
	if s.IsStopped() {
		isLost := func(a netip.Addr) bool { return x.isLost(s, a) }
		addrs = slices.DeleteFunc(slices.Clone(addrs), isLost)
	}
	if n := len(addrs); n > 1 && len(s.NetRuns) < 2 {
		turn := rand.IntN(n)
		addrs = slices.Concat(addrs[turn:], addrs[:turn])
	}
	if at := slices.Index(addrs, netip.Addr{}); at >= 0 {
		host := x.hostAddrs(c.Local)
		if gateway := x.gatewayFor(c.Places...); x.isHost(s) && len(gateway) > 0 {
			host = gateway
		}
		addrs = slices.Concat(addrs[:at], host, addrs[at+1:])
	}
	return addrs, near
}

// hostAddrs returns the addresses of the host: what is configured, else the
// one that a client asked. Where that is a container's, dnsdock is in it, and
// the host is the gateway of its network.
func (x *Index) hostAddrs(asked netip.Addr) (addrs []netip.Addr) {
	if x.Rules.Host != nil {
		return x.Rules.Host
	}
	t, _ := x.addrs.Load(asked)
	for s := range t.All(publish.HasData) {
		for _, run := range s.NetRuns {
			n := run.Net.Value()
			if host := n.HostAddrs(); len(host) > 0 && (n.V4.Contains(asked) || n.V6.Contains(asked)) {
				return host
			}
		}
	}
	return []netip.Addr{asked}
}

// anyWell reports whether a service of views whose health check does not
// fail has an address for the client, where others fail.
func (x *Index) anyWell(views []*Set, c Viewer) bool {
	if !AnyHas(views, publish.IsSick) {
		return false
	}
	for s := range Shuffled(views, publish.IsWell) {
		if addrs, _ := s.AddrsFor(c.Places...); len(addrs) > 0 {
			return true
		}
	}
	return false
}

// NetworksOf returns a number that two clients have in common if they are on
// the same networks of services, and so get the same addresses; 0 for a
// client on none.
func (x *Index) NetworksOf(client netip.Addr) (sum uint64) {
	one := [1]netip.Addr{client}
	places := one[:]
	if of := x.placesOf(client); of != nil { // Places would allocate
		places = of
	}
	for _, a := range places {
		for n := range x.networksAt(a) {
			sum += maphash.Comparable(x.seed, n)
		}
	}
	return sum
}

// A rotation is addresses of services, one after the other.
type rotation struct {
	addrs  []netip.Addr
	starts []int // of each service's
	count  int
}

// add adds an address of the service whose begin at from.
func (t *rotation) add(a netip.Addr, from int) {
	if t.count == from {
		t.starts = append(t.starts, from)
	}
	t.addrs = append(t.addrs, a)
	t.count++
}

// turned returns the addresses from a random service on.
func (t *rotation) turned() []netip.Addr {
	if len(t.starts) == 0 {
		return nil
	}
	turn := t.starts[rand.IntN(len(t.starts))]
	return slices.Concat(t.addrs[turn:], t.addrs[:turn])
}

// MinTTL returns the smallest TTL of views in seconds, without those of a
// CNAME; the default where there is none.
func (x *Index) MinTTL(views []*Set) uint32 {
	ttl, standard := uint32(publish.MaxTTL), x.TTL.Load()
	for _, v := range views {
		ttl = min(ttl, uint32(v.minTTL))
		if v.Has(publish.HasDefault) {
			ttl = min(ttl, standard)
		}
	}
	if !AnyHas(views, publish.HasData) {
		return standard
	}
	return ttl
}

// TTLOf returns the TTL of a service in seconds.
func (x *Index) TTLOf(s *publish.Service) uint32 {
	if s.TTL == publish.DefaultTTL {
		return x.TTL.Load()
	}
	return uint32(s.TTL)
}
