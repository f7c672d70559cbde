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
	loopback bool             // the name is localhost, or below it
	views    []*index.View    // what the name rule found; ignored if cname is set
	hasData  bool             // a service of views has no CNAME
	cname    *publish.Service // whose CNAME the name stands for; nil: none
	ports    []servicePort
	owners   *index.View // services whose address the name is of; nil: none
}

// A servicePort is one SRV record.
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

// findReverse looks up the name of addresses.
func (z *Resolver) findReverse(f *found, n dnsname.Name) {
	f.owners = z.Reg.At(n)
	f.exists = f.isZone || f.owners != nil || z.Fwd.HasRouteBelow(n) || z.Reg.AnyBelow(n)
	switch {
	case f.owners != nil:
		f.rule = "it is the name of an address that these services have"
	case z.Reg.IsReady(n):
		f.rule = "it is the name of private addresses, which nobody else knows (RFC 6303), and no service has"
	}
}

// findLocal looks up a name in the local zone top.
func (z *Resolver) findLocal(f *found, n, top dnsname.Name) {
	f.isStatic, f.loopback = true, top == dnsname.Localhost
	f.exists = f.isZone || f.loopback || z.Reg.IsAboveZone(n) || z.Fwd.HasRouteBelow(n)
	f.rule = "it is nobody's outside of this site (RFC 6761, RFC 7686)"
	if f.loopback {
		f.rule = "localhost is the machine itself (RFC 6761)"
	}
}

// findOwn looks up a name of services.
func (z *Resolver) findOwn(f *found, n, top dnsname.Name) {
	var hasPorts, second bool
	f.views, second = z.Reg.Match(n, nil)
	f.hasData = index.AnyHas(f.views, publish.HasData)
	f.isHost = n == z.host && !f.hasData
	f.ports, hasPorts = z.findPorts(n, top)
	f.exists = f.isZone || f.isHost || hasPorts || len(f.views) > 0 || z.Reg.IsAboveCompose(n) || z.Reg.IsAboveZone(n)
	if !f.isZone && n != z.host && index.AnyHas(f.views, publish.HasCNAME) { // SOA, NS and what names them must be no CNAME
		f.cname = z.cnameOf(n, f.views)
	}
	switch {
	case f.isHost:
		f.rule = "it is the name of dnsdock itself: the address that was asked"
	case len(f.ports) > 0:
		f.rule = "these services have such a port at the name behind it"
	case f.cname != nil:
		f.rule = "the closest service with a name that fits is a CNAME"
	case len(f.views) > 0 && z.Reg.Rules.Closest:
		f.rule = "the closest names that fit it (-match=closest)"
	case second:
		f.rule = "a second name of these services, as no other name fits"
	case len(f.views) > 0:
		f.rule = "all names that are at it, below it or above it"
	}
}

// cnameOf returns the service whose CNAME n stands for, where n is answered
// from views: that of the closest owner name at or above n, unless a service
// with addresses is closer; or one of those below n if there is nothing else.
// Of several it is always the same.
func (z *Resolver) cnameOf(n dnsname.Name, views []*index.View) (best *publish.Service) {
	at, ok := z.Reg.Nodes.Load(n)
	if !ok {
		at, ok = z.Reg.Compose.Load(n)
		ok = ok && views[0] == &at.Subtree
	}
	if ok { // its view is the first: what is at n itself counts before all others, what is below n after them
		below := views[0]
		views = slices.Clone(views[1:])
		if at.Exact != nil {
			views = slices.Insert(views, 0, at.Exact)
		}
		views = append(views, below)
	}
	ofAnyDepth := func(i int) bool { return n.HasWildcard() || ok && i == len(views)-1 }
	for i, v := range views {
		switch {
		case v.Has(publish.HasData) && (ofAnyDepth(i) || !v.Has(publish.HasCNAME)):
			return nil
		case !v.Has(publish.HasCNAME):
			continue
		}
		for s := range v.All(publish.HasCNAME) {
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
	return cmp.Or(cmp.Compare(publish.TrueFirst(!a.Sick), publish.TrueFirst(!b.Sick)), strings.Compare(string(a.CNAME), string(b.CNAME)))
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
	views, _ := z.Reg.Match(rest, nil)
	for s := range index.Shuffled(views, publish.HasPorts) {
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
	isWell := func(p servicePort) bool { return !p.Sick }
	if slices.ContainsFunc(list, isWell) {
		list = slices.DeleteFunc(list, func(p servicePort) bool { return p.Sick })
	}
	return list, len(list) > 0
}

func isProtoLabel(label string) bool {
	return label != "" && label[0] == '_' && publish.IsProto(label[1:])
}
