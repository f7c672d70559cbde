package transfer

import (
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/zone"
)

// maxJournal is the number of nodes that differ between the oldest version that is remembered and the newest one, each
// counted for every version: about 4 MB. A secondary that has an older one gets all.
const maxJournal = 8192

// A version is the content of a zone at one time. It is never written again.
type version struct {
	serial uint32
	soa    string
	nodes  []*zone.Node // sorted by compare
}

// A step is what led from one version to the next.
type step struct {
	from   *version                    // without nodes
	before map[dnsname.Name]*zone.Node // those that changed as they were; nil: there was none
}

// A zoneCopy is what is kept of one zone.
type zoneCopy struct {
	name    dnsname.Name
	current *version // nil: too little is known of the zone
	journal []step   // the newest is the last
}

// compare orders names by their labels from the right: what is at or below a name follows it at once.
func compare(a, b dnsname.Name) int {
	var ofA, ofB [dnsname.MaxLen / 2]string
	x, y := labels(a, ofA[:0]), labels(b, ofB[:0])
	for len(x) > 0 && len(y) > 0 {
		if c := strings.Compare(x[len(x)-1], y[len(y)-1]); c != 0 {
			return c
		}
		x, y = x[:len(x)-1], y[:len(y)-1]
	}
	return len(x) - len(y)
}

func labels(n dnsname.Name, list []string) []string {
	for ; n != dnsname.Root; n = n.Parent() {
		list = append(list, string(n[1:1+n[0]]))
	}
	return list
}

// find returns where a name is in nodes, or would be.
func find(nodes []*zone.Node, n dnsname.Name) (at int, ok bool) {
	return slices.BinarySearchFunc(nodes, n, func(node *zone.Node, n dnsname.Name) int { return compare(node.Name, n) })
}

// read returns the nodes of a zone as it is now.
func read(z *zone.Resolver, name dnsname.Name, local netip.Addr) (nodes []*zone.Node) {
	names := slices.SortedFunc(z.NamesIn(name), compare)
	for _, n := range slices.Compact(names) {
		if node := z.Node(n, name, local); node != nil {
			nodes = append(nodes, node)
		}
	}
	return nodes
}

// update returns the nodes of c as they are now, where touched are the names that may have changed: the true ones with
// all names below them. It returns those that did change as they were before.
func (c *zoneCopy) update(z *zone.Resolver, touched map[dnsname.Name]bool, local netip.Addr) ([]*zone.Node, step) {
	s := step{from: &version{serial: c.current.serial, soa: c.current.soa}, before: make(map[dnsname.Name]*zone.Node)}
	old := c.current.nodes
	if touched == nil {
		nodes := read(z, c.name, local)
		for _, n := range nodes {
			if at, ok := find(old, n.Name); !ok {
				s.before[n.Name] = nil
			} else if !n.Equal(old[at]) {
				s.before[n.Name] = old[at]
			}
		}
		for _, n := range old {
			if _, ok := find(nodes, n.Name); !ok {
				s.before[n.Name] = n
			}
		}
		return nodes, s
	}
	var changed []*zone.Node // as they are now
	for _, name := range slices.SortedFunc(maps.Keys(c.affected(touched)), compare) {
		var was *zone.Node
		if at, ok := find(old, name); ok {
			was = old[at]
		}
		if now := z.Node(name, c.name, local); !now.Equal(was) {
			s.before[name] = was
			if now != nil {
				changed = append(changed, now)
			}
		}
	}
	nodes := make([]*zone.Node, 0, len(old)+len(changed))
	for _, n := range old {
		for len(changed) > 0 && compare(changed[0].Name, n.Name) < 0 {
			nodes, changed = append(nodes, changed[0]), changed[1:]
		}
		if _, ok := s.before[n.Name]; !ok {
			nodes = append(nodes, n)
		}
	}
	return append(nodes, changed...), s
}

// affected returns the names of c among touched and below those of them that are true.
func (c *zoneCopy) affected(touched map[dnsname.Name]bool) map[dnsname.Name]bool {
	all := make(map[dnsname.Name]bool)
	for n, below := range touched {
		if !n.Under(c.name) {
			continue
		}
		all[n] = true
		if !below {
			continue
		}
		at, _ := find(c.current.nodes, n)
		for _, node := range c.current.nodes[at:] {
			if !node.Name.Under(n) {
				break
			}
			all[node.Name] = true
		}
	}
	return all
}

// remember adds a step to the journal, and drops the oldest ones if it is too long.
func (c *zoneCopy) remember(s step) {
	c.journal = append(slices.Clip(c.journal), s)
	size := 0
	for i := len(c.journal) - 1; i >= 0; i-- {
		if size += 1 + len(c.journal[i].before); size > maxJournal {
			c.journal = slices.Clone(c.journal[i+1:])
			return
		}
	}
}

// since returns the version with a serial, without its nodes, and those nodes as they were that changed since then. It
// reports false if the journal does not reach that far.
func (c *zoneCopy) since(serial uint32) (from *version, before map[dnsname.Name]*zone.Node, ok bool) {
	before = make(map[dnsname.Name]*zone.Node)
	for _, s := range slices.Backward(c.journal) {
		maps.Copy(before, s.before)
		if s.from.serial == serial {
			return s.from, before, true
		}
	}
	return nil, nil, false
}

// records iterates over the records of nodes, each without its owner name.
func records(nodes iter.Seq[*zone.Node]) iter.Seq2[dnsname.Name, string] {
	return func(yield func(owner dnsname.Name, rr string) bool) {
		nodes(func(n *zone.Node) bool { return ofNode(n, yield) })
	}
}

func ofNode(n *zone.Node, yield func(dnsname.Name, string) bool) bool {
	if n == nil {
		return true
	}
	for _, set := range []ownedRecord{{n.Name, n.Own}, {"\x01*" + n.Name, n.Wild}} {
		for rr := set.rr; rr != ""; {
			end := 10 + int(rr[8])<<8 + int(rr[9]) // type, class, TTL, length and data
			if !yield(set.owner, rr[:end]) {
				return false
			}
			rr = rr[end:]
		}
	}
	for _, p := range n.Ports {
		if !ofNode(p, yield) {
			return false
		}
	}
	return true
}

// An ownedRecord is a record with its owner name.
type ownedRecord struct {
	owner dnsname.Name
	rr    string
}

// difference returns the records of nodes as they were that are no more, and those that are new.
func (v *version) difference(before map[dnsname.Name]*zone.Node) (removed, added []ownedRecord) {
	for _, name := range slices.SortedFunc(maps.Keys(before), compare) {
		set := make(map[ownedRecord]bool)
		for owner, rr := range records(slices.Values([]*zone.Node{before[name]})) {
			set[ownedRecord{owner, rr}] = true
		}
		if at, ok := find(v.nodes, name); ok {
			for owner, rr := range records(slices.Values(v.nodes[at : at+1])) {
				if r := (ownedRecord{owner, rr}); set[r] {
					delete(set, r)
				} else {
					added = append(added, r)
				}
			}
		}
		for r := range set {
			removed = append(removed, r)
		}
	}
	return removed, added
}
