package zone

import (
	"encoding/binary"
	"iter"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/index"
	"github.com/rayje/dnsdock/internal/publish"
)

const (
	// unusual is a label that no name has: what is found for it below a name is what all other labels find there.
	unusual = "\x01\x00"

	wholeSet   = 1 << 26 // bytes of records that are made of a set, before it is cut
	maxSetSize = 65_000  // bytes of a set's records in a message, with room for a question, an OPT and a TSIG

	typeFiller = 65280 // for private use, RFC 6895 section 3.1: a name with no other record exists
)

// A Node is a name of a zone as a secondary has it, with what its wildcard (RFC 4592) has. Records are in
// the order of their bytes, each without its owner name, and with whole names in its data.
type Node struct {
	Name dnsname.Name
	Own  string // the records of the name; a zone's SOA is left out
	Wild string // the records of *.name
	// Ports are the names _port._protocol.name and _protocol.name.
	Ports []*Node
}

// Node returns what the names rule says of n, a name of zone, to a client on no network that asks the address
// local: the address records of each name, MX and TXT, the CNAME in their place, SRV, and NS at the zone's apex.
// What no message holds is cut. It returns nil if there is no such name.
func (z *Resolver) Node(n, zone dnsname.Name, local netip.Addr) *Node {
	if !z.Reg.HasName(n, zone) && !z.isSelf(n, zone) {
		return nil
	}
	w := nodeWriter{z, zone, Client{Local: local, Size: wholeSet}}
	f := z.find(n, zone)
	node := w.node(n, f)
	for at, ports := range portsAt(f.views) {
		name := dnsname.Name(at) + n
		if len(name) > dnsname.MaxLen || z.Reg.HasName(name, zone) {
			continue // too long, or a node of its own
		}
		var f found
		f.ports = ports
		z.findServices(&f, name, zone, true)
		node.Ports = append(node.Ports, w.node(name, f))
	}
	slices.SortFunc(node.Ports, func(a, b *Node) int { return strings.Compare(string(a.Name), string(b.Name)) })
	return node
}

// portsAt returns the ports of services by the labels in front of their name. The ports of a label _protocol, which
// has no records, are nil.
func portsAt(views []*index.Set) map[string][]servicePort {
	all := make(map[string][]servicePort)
	label := func(text string) string { return string(byte(len(text))) + text }
	for _, v := range views {
		for s := range v.All(publish.HasPorts) {
			for _, p := range s.Ports {
				proto := label("_" + p.Proto)
				number := label("_"+strconv.Itoa(int(p.Number))) + proto
				all[proto] = nil
				all[number] = append(all[number], servicePort{s, p})
				if name := label("_"+p.Name) + proto; p.Name != "" && name != number {
					all[name] = append(all[name], servicePort{s, p})
				}
			}
		}
	}
	for at, ports := range all {
		all[at] = wellPorts(ports)
	}
	return all
}

// SOA returns the data of a zone's SOA record as in Node. Its serial is the 4 bytes that begin 20 before the end.
func (z *Resolver) SOA(zone dnsname.Name) string {
	w := nodeWriter{z, zone, Client{}}
	return w.records(zone, found{isZone: true}, dns.TypeSOA)
}

// A nodeWriter writes the nodes of one zone.
type nodeWriter struct {
	*Resolver
	zone   dnsname.Name
	client Client
}

// node returns the node of n, where f is found.
func (w *nodeWriter) node(n dnsname.Name, f found) *Node {
	node := &Node{Name: n}
	node.Own = w.records(n, f, dns.TypeA, dns.TypeNS, dns.TypeMX, dns.TypeTXT, dns.TypeAAAA, dns.TypeSRV)
	if node.Own == "" && f.exists && w.Reg.IsAboveZone(n) { // it has no name below it in this zone
		node.Own = filler()
	}
	below := dnsname.Name(unusual) + n
	if len(below) > dnsname.MaxLen {
		return node
	}
	if f = w.find(below, w.zone); !f.exists {
		return node
	}
	f.ports = nil
	node.Wild = w.records(below, f, dns.TypeA, dns.TypeTXT, dns.TypeAAAA) // a MX names the question's own name
	if node.Wild == "" {
		node.Wild = filler()
	}
	return node
}

// filler returns a record of no use, but for the name that has it.
func filler() string {
	var b [10]byte // its data are empty
	binary.BigEndian.PutUint16(b[:], typeFiller)
	b[3] = dns.ClassINET
	return string(b[:])
}

// records returns the records of n of some types.
func (w *nodeWriter) records(n dnsname.Name, f found, types ...uint16) string {
	d := &decision{Resolver: w.Resolver, Answer: &Answer{resolver: w.Resolver, client: w.client}}
	d.plain = true
	if f.cname != nil {
		d.addCNAME(n, f)
		return string(d.records[len(n):])
	}
	var all []string
	for _, t := range types {
		d.records = d.records[:0]
		d.addRecords(Query{Name: n, Type: t}, f)
		text := string(d.records)
		var set []string
		for at := 0; at < len(text); {
			r, _ := dnswire.ReadRecord(d.records, at) // ok: it was written here
			set = append(set, text[at+len(n):r.End])
			at = r.End
		}
		slices.Sort(set)
		all = append(all, cutSet(slices.Compact(set))...)
	}
	return strings.Join(all, "")
}

// cutSet returns as many records as a message holds.
func cutSet(set []string) []string {
	size := 0
	for i, r := range set {
		if size += 2 + len(r); size > maxSetSize {
			return set[:i]
		}
	}
	return set
}

// NamesIn iterates over the names of a zone's nodes. Some may come twice.
func (z *Resolver) NamesIn(zone dnsname.Name) iter.Seq[dnsname.Name] {
	return func(yield func(dnsname.Name) bool) {
		for n := range z.Reg.NamesIn(zone) {
			if !yield(n) {
				return
			}
		}
		if z.isSelf(z.host, zone) {
			yield(z.host)
		}
	}
}

// isSelf reports whether n is the name of dnsdock, and in a zone.
func (z *Resolver) isSelf(n, zone dnsname.Name) bool {
	own, _ := z.Reg.ZoneOf(n)
	return n == z.host && own == zone
}

// Records calls yield for each record of n, which may be nil, and its owner name. It returns false if yield did.
func (n *Node) Records(yield func(owner dnsname.Name, rr string) bool) bool {
	if n == nil {
		return true
	}
	for owner, all := n.Name, n.Own; all != "" || owner == n.Name; {
		if all == "" {
			owner, all = "\x01*"+n.Name, n.Wild
			continue
		}
		end := 10 + int(all[8])<<8 + int(all[9]) // type, class, TTL, length and data
		if !yield(owner, all[:end]) {
			return false
		}
		all = all[end:]
	}
	return !slices.ContainsFunc(n.Ports, func(p *Node) bool { return !p.Records(yield) })
}

// Size returns the bytes of the records of n, which may be nil.
func (n *Node) Size() (bytes int) {
	if n != nil {
		bytes = len(n.Own) + len(n.Wild)
		for _, p := range n.Ports {
			bytes += p.Size()
		}
	}
	return bytes
}

// Equal reports whether n and o have the same records. Both may be nil.
func (n *Node) Equal(o *Node) bool {
	if n == nil || o == nil {
		return n == o
	}
	return n.Name == o.Name && n.Own == o.Own && n.Wild == o.Wild && slices.EqualFunc(n.Ports, o.Ports, (*Node).Equal)
}
