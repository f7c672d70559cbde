package transfer

import (
	"maps"
	"net/netip"
	"runtime"
	"slices"
	"strings"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/zone"
)

// maxJournal bounds what is remembered of a zone: so many nodes, of 2 KB each. A secondary that has an older version
// gets all.
const maxJournal, perNode = 8192, 2 << 10

// A version is the content of a zone at one time. It is never written again.
type version struct {
	serial uint32
	soa    string
	nodes  []*zone.Node // sorted by compare
}

// A step is what led from one version to the next.
type step struct {
	serial uint32 // of the version before it
	soa    string
	before map[dnsname.Name]*zone.Node // the nodes that changed as they were in it; nil: there was none
}

// A zoneCopy is what is kept of one zone. It is never written again.
type zoneCopy struct {
	name    dnsname.Name
	current *version // nil: too little is known of the zone
	journal []step   // the newest is the last
}

// compare orders names by their labels from the right: what is at or below a name follows it at once.
func compare(a, b dnsname.Name) int {
	var ofA, ofB [dnsname.MaxLen / 2]byte
	x, y := starts(a, ofA[:0]), starts(b, ofB[:0])
	for len(x) > 0 && len(y) > 0 {
		if c := strings.Compare(labelAt(a, x[len(x)-1]), labelAt(b, y[len(y)-1])); c != 0 {
			return c
		}
		x, y = x[:len(x)-1], y[:len(y)-1]
	}
	return len(x) - len(y)
}

// starts appends to list where the labels of n begin.
func starts(n dnsname.Name, list []byte) []byte {
	for at := byte(0); n[at] != 0; at += 1 + n[at] {
		list = append(list, at)
	}
	return list
}

func labelAt(n dnsname.Name, at byte) string { return string(n[at+1 : at+1+n[at]]) }

// find returns where a name is in nodes, or would be.
func find(nodes []*zone.Node, n dnsname.Name) (at int, ok bool) {
	return slices.BinarySearchFunc(nodes, n, func(node *zone.Node, n dnsname.Name) int { return compare(node.Name, n) })
}

// read returns the nodes of c as they are now, and those that changed as they were before. Touched are the names that
// may have changed, the true ones with all below them; nil: all.
func (c *zoneCopy) read(
	z *zone.Resolver, touched map[dnsname.Name]bool, local netip.Addr,
) (nodes []*zone.Node, before map[dnsname.Name]*zone.Node) {
	var old []*zone.Node
	if c.current != nil {
		old = c.current.nodes
	}
	before = make(map[dnsname.Name]*zone.Node)
	names := affected(z, c.name, old, touched)
	nodes = make([]*zone.Node, 0, max(len(old), len(names)))
	for i, name := range names {
		at, ok := find(old, name)
		nodes, old = append(nodes, old[:at]...), old[at:]
		var was *zone.Node
		if ok {
			was, old = old[0], old[1:]
		}
		now := z.Node(name, c.name, local)
		if now.Equal(was) {
			now = was // the memory of one
		} else {
			before[name] = was
		}
		if now != nil {
			nodes = append(nodes, now)
		}
		if i%64 == 63 { // others want to run too
			runtime.Gosched()
		}
	}
	return append(nodes, old...), before
}

// affected returns the names of a zone among touched and below those of them that are true, sorted. Old are the nodes
// that it had.
func affected(z *zone.Resolver, in dnsname.Name, old []*zone.Node, touched map[dnsname.Name]bool) []dnsname.Name {
	var all []dnsname.Name
	if touched == nil {
		all, touched = slices.Collect(z.NamesIn(in)), map[dnsname.Name]bool{in: true}
	}
	for n, below := range touched {
		if !n.Under(in) {
			continue
		}
		all = append(all, n)
		at, _ := find(old, n)
		for ; below && at < len(old) && old[at].Name.Under(n); at++ {
			all = append(all, old[at].Name)
		}
	}
	slices.SortFunc(all, compare)
	return slices.Compact(all)
}

// next returns the copy that follows c.
func (c *zoneCopy) next(v *version, before map[dnsname.Name]*zone.Node) *zoneCopy {
	n := &zoneCopy{name: c.name, current: v}
	if c.current == nil {
		return n
	}
	n.journal = append(slices.Clip(c.journal), step{c.current.serial, c.current.soa, before})
	size := 0
	for i, s := range slices.Backward(n.journal) {
		size++
		for _, node := range s.before {
			size += 1 + node.Size()/perNode
		}
		if size > maxJournal {
			n.journal = slices.Clone(n.journal[i+1:])
			break
		}
	}
	return n
}

// since returns what led from the version with a serial to the current one. It reports false if the journal does not
// reach that far.
func (c *zoneCopy) since(serial uint32) (all step, ok bool) {
	at := slices.IndexFunc(c.journal, func(s step) bool { return s.serial == serial })
	if at < 0 {
		return all, false
	}
	all = step{c.journal[at].serial, c.journal[at].soa, make(map[dnsname.Name]*zone.Node)}
	for _, s := range slices.Backward(c.journal[at:]) {
		maps.Copy(all.before, s.before) // the oldest state of each is the one
	}
	return all, true
}

// An ownedRecord is a record with its owner name.
type ownedRecord struct {
	owner dnsname.Name
	rr    string
}

// records calls put for each record of nodes, until it returns false.
func records(nodes []*zone.Node, put func(owner dnsname.Name, rr string) bool) bool {
	return !slices.ContainsFunc(nodes, func(n *zone.Node) bool {
		return !n.Records(put)
	})
}

// difference returns the records of nodes as they were before that are no more, and those that are new.
func (v *version) difference(before map[dnsname.Name]*zone.Node) (removed, added []ownedRecord) {
	for _, name := range slices.SortedFunc(maps.Keys(before), compare) {
		set := make(map[ownedRecord]bool)
		before[name].Records(func(owner dnsname.Name, rr string) bool {
			set[ownedRecord{owner, rr}] = true
			return true
		})
		if at, ok := find(v.nodes, name); ok {
			v.nodes[at].Records(func(owner dnsname.Name, rr string) bool {
				r := ownedRecord{owner, rr}
				if !set[r] {
					added = append(added, r)
				}
				delete(set, r)
				return true
			})
		}
		removed = slices.AppendSeq(removed, maps.Keys(set))
	}
	return removed, added
}
