package zone

import (
	"cmp"
	"slices"
	"strings"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/index"
	"github.com/rayje/dnsdock/internal/publish"
)

// A found is what there is at a name of ours.
type found struct {
	rule     string // says why, for Explain; empty: nothing is found
	exists   bool
	isZone   bool             // the name is the top of a zone, with SOA and NS
	isStatic bool             // no container changes what is found
	isHost   bool             // the name is that of dnsdock itself, and of no container
	loopback bool             // the name is localhost, below it, or that of its address
	views    []*index.Set     // what the name rule found; ignored if cname is set
	second   bool             // views were found by second names
	hasData  bool             // a service of views has no CNAME
	cname    *publish.Service // whose CNAME the name stands for; nil: none
	ports    []servicePort
	owners   *index.Set // services whose address the name is of; nil: none
}

// A servicePort is a port that a service has at a name.
type servicePort struct {
	*publish.Service
	publish.Port
}

// find looks up n, whose highest name of ours is top.
func (z *Resolver) find(n, top dnsname.Name) (f found) {
	f.isZone = n == top && (z.Reg.IsZone(top) || z.local[top])
	switch {
	case n.IsReverse():
		z.findReverse(&f, n)
	case !z.Reg.IsZone(top) && z.local[top]:
		z.findLocal(&f, n, top)
	default:
		z.findOwn(&f, n, top)
	}
	return f
}

// isShared reports whether several containers may have n, at which f was found:
// it is not at or below the full name of one.
func (f *found) isShared(n dnsname.Name) bool {
	owns := func(s *publish.Service) bool { return s.ContainerLabel != "" && n.Under(s.FullName()) }
	for _, v := range f.views {
		for s := range v.All(^publish.Kind(0)) {
			if owns(s) {
				return false
			}
		}
	}
	for _, p := range f.ports {
		if owns(p.Service) {
			return false
		}
	}
	return len(f.views) > 0 || len(f.ports) > 0
}

// findReverse looks up the name of addresses.
func (z *Resolver) findReverse(f *found, n dnsname.Name) {
	f.owners = z.Reg.At(n)
	f.loopback = f.owners == nil && isLoopback(n)
	f.isStatic = f.loopback
	isAbove := loopback4.Under(n) || z.Fwd.HasRouteBelow(n) || z.Reg.AnyBelow(n)
	f.exists = f.isZone || f.owners != nil || f.loopback || isAbove
	switch {
	case f.owners != nil:
		f.rule = "it is the name of an address that these services have"
	case f.loopback:
		f.rule = "localhost is the machine itself (RFC 6761)"
	case z.Reg.IsReady(n):
		f.rule = "it is the name of private addresses, which nobody else knows (RFC 6303), and no service has"
	}
}

// findLocal looks up a name in the local zone top.
func (z *Resolver) findLocal(f *found, n, top dnsname.Name) {
	f.isStatic, f.loopback = true, top == dnsname.Localhost
	f.exists = f.isZone || f.loopback || top == resolverARPA || z.Reg.IsAboveZone(n) || z.Fwd.HasRouteBelow(n)
	f.rule = "it is nobody's outside of this site (RFC 6761, RFC 7686)"
	if f.loopback {
		f.rule = "localhost is the machine itself (RFC 6761)"
	}
}

// findOwn looks up a name of services.
func (z *Resolver) findOwn(f *found, n, top dnsname.Name) {
	var hasPorts bool
	f.ports, hasPorts = z.findPorts(n, top)
	z.findServices(f, n, top, hasPorts)
}

// findServices looks up a name of services whose ports are found. The argument hasPorts reports whether they make
// the name exist.
func (z *Resolver) findServices(f *found, n, top dnsname.Name, hasPorts bool) {
	f.isZone = n == top && z.Reg.IsZone(top)
	m := z.Reg.Match(n)
	f.views, f.second = m.Sets, m.Kind == index.BySecondName
	f.hasData = index.AnyHas(f.views, publish.HasData)
	f.isHost = n == z.host && !f.hasData
	f.exists = f.isZone || f.isHost || hasPorts || len(f.views) > 0 || z.Reg.IsAboveSecond(n) || z.Reg.IsAboveZone(n)
	mayBeCNAME := !f.isZone && n != z.host // what has SOA and NS, and what these name, must not
	if mayBeCNAME && index.AnyHas(f.views, publish.HasCNAME) {
		f.cname = cnameOf(n, m)
	}
	switch {
	case f.isHost:
		f.rule = "it is the name of dnsdock itself: the address that was asked"
	case len(f.ports) > 0:
		f.rule = "these services have such a port at the name behind it"
	case f.cname != nil:
		f.rule = "the closest service with a name that fits is a CNAME"
	case m.Kind == index.BySecondName:
		f.rule = "a second name of these services, as no other name fits"
	case m.Kind == index.ByHost:
		f.rule = "it is the host, as this client reaches it"
	case m.Kind == index.ByCatchAll:
		f.rule = "no other name fits, and these services have the alias *"
	case len(f.views) > 0 && z.Reg.Rules.Closest:
		f.rule = "the closest names that fit it (-match=closest)"
	case len(f.views) > 0:
		f.rule = "all names that are at it, below it or above it"
	}
}

// cnameOf returns the service whose CNAME n stands for, where m is what n is
// answered from: that of the closest owner name at or above n, unless a service
// with addresses is closer; or one of those below n if there is nothing else.
// Of several it is always the same.
func cnameOf(n dnsname.Name, m index.Match) (best *publish.Service) {
	sets := m.Sets
	if m.Below != nil { // what is at n itself counts before all others, what is below n after them
		sets = slices.Clone(sets[1:])
		if m.Exact != nil {
			sets = slices.Insert(sets, 0, m.Exact)
		}
		sets = append(sets, m.Below)
	}
	ofAnyDepth := func(i int) bool { return n.HasWildcard() || m.Below != nil && i == len(sets)-1 }
	for i, t := range sets {
		switch {
		case t.Has(publish.HasData) && (ofAnyDepth(i) || !t.Has(publish.HasCNAME)):
			return nil
		case !t.Has(publish.HasCNAME):
			continue
		}
		for s := range t.All(publish.HasCNAME) {
			if best == nil || compareCNAMEs(s, best) < 0 {
				best = s
			}
		}
		if !n.HasWildcard() {
			break
		}
	}
	return best
}

// compareCNAMEs orders services that are well before sick ones, then by target.
func compareCNAMEs(a, b *publish.Service) int {
	return cmp.Or(
		cmp.Compare(publish.TrueFirst(!a.Sick), publish.TrueFirst(!b.Sick)),
		strings.Compare(string(a.CNAME), string(b.CNAME)),
	)
}

// findPorts returns what a name _port._protocol.name finds: the services at
// name, by the name rule, that have such a port. Port is a number or a name.
// It also reports whether the name exists: _protocol.name does if a service
// has a port of that protocol.
func (z *Resolver) findPorts(n, top dnsname.Name) (list []servicePort, exists bool) {
	label, proto, rest := n.Label(), n.Parent().Label(), n.Parent().Parent()
	between := !isProtoLabel(proto) && isProtoLabel(label)
	if between {
		proto, rest = label, n.Parent()
	}
	if !isProtoLabel(proto) || !rest.Under(top) {
		return nil, false
	}
	for s := range index.Shuffled(z.Reg.Match(rest).Sets, publish.HasPorts) {
		for _, p := range s.Ports {
			if proto != "_"+p.Proto || !between && !p.IsAt(label) {
				continue
			}
			if between {
				return nil, true
			}
			list = append(list, servicePort{s, p})
		}
	}
	list = wellPorts(list)
	return list, len(list) > 0
}

// wellPorts returns the ports of services that are well, all if none is. It may overwrite list.
func wellPorts(list []servicePort) []servicePort {
	if slices.ContainsFunc(list, func(p servicePort) bool { return !p.Sick }) {
		list = slices.DeleteFunc(list, func(p servicePort) bool { return p.Sick })
	}
	return list
}

func isProtoLabel(label string) bool {
	return label != "" && label[0] == '_' && publish.IsProto(label[1:])
}
