package zone

import (
	"net/netip"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/index"
	"github.com/rayje/dnsdock/internal/publish"
)

const (
	maxNegative = 5  // seconds for which an NXDOMAIN or NODATA may be cached: the container may start any moment
	minRR       = 14 // bytes of the smallest record that is answered: two pointers, type, class, TTL, length

	hostmaster dnsname.Name = "\x0ahostmaster" // the label before a zone's name, RFC 2142 section 7

	soaRefresh, soaRetry, soaExpire = 60, 10, 7 * 86400 // seconds; for secondaries of a zone that changes often
)

// ours answers q, whose name's highest name of ours is top. If the name is a
// CNAME that q goes on with, it returns its target.
func (d *decision) ours(q Query, top dnsname.Name) (next dnsname.Name) {
	n := q.Name
	ready := d.Reg.IsReady(n) // before find: what is published between the two is not missed
	done, ok := d.inTurn(n, top)
	if !ok {
		d.fail(dns.RcodeServerFailure)
		return ""
	}
	defer done()
	f := d.find(n, top)
	d.noteReads(n, f)
	if d.Reg.IsListing(n) && f.isShared(n) && q.Type != dns.TypeSOA && q.Type != dns.TypeNS {
		d.trace.note(n,
			"nobody knows yet: several containers may have this name, and an engine's first list is not done")
		d.notReady()
		return ""
	}
	d.explain(q, top, f)
	if f.cname != nil {
		d.addCNAME(n, f)
		if q.Type == dns.TypeCNAME || q.Type == dns.TypeANY {
			return ""
		}
		return f.cname.CNAME
	}
	before := d.counts[answerSection]
	d.addRecords(q, f)
	switch {
	case d.counts[answerSection] > before:
	case !ready && !f.isHost && !f.isStatic && !f.hasData && f.owners == nil && len(f.ports) == 0:
		d.notReady()
	default:
		if !f.exists {
			d.Rcode = dns.RcodeNameError
		}
		d.addSOA(authoritySection, top, maxNegative) // RFC 2308 section 3
	}
	return ""
}

// addCNAME adds the record of f, which is the only one of its name.
func (d *decision) addCNAME(n dnsname.Name, f found) {
	data := d.begin(answerSection, n, dns.TypeCNAME, d.Reg.TTLOf(f.cname))
	d.name(f.cname.CNAME)
	d.end(data)
}

// notReady says that the answer is not known yet, RFC 8914 section 4.15.
func (d *decision) notReady() {
	d.fail(dns.RcodeServerFailure)
	d.EDE = dnscache.ExtendedError(dns.ExtendedErrorCodeNotReady)
}

// noteReads notes what f, which was found at n, was read from beside the services at, below and above n.
func (d *decision) noteReads(n dnsname.Name, f found) {
	if p, ok := n.Prefix(); n.IsReverse() && ok && !p.IsSingleIP() { // all addresses were looked at
		d.readOther()
	}
	if f.isHost || index.AnyHas(f.views, publish.HasHost) && d.Reg.Rules.Host == nil {
		d.basis.By |= ByLocal
		d.readOther()
	}
}

// addRecords adds the records that q asks for, and to the additional section
// the addresses that clients ask for next.
func (d *decision) addRecords(q Query, f found) {
	n := q.Name
	switch q.Type {
	case dns.TypeA, dns.TypeAAAA:
		d.addAddrs(answerSection, n, f, q.Type)
	case dns.TypePTR:
		if f.loopback && n.IsReverse() {
			data := d.begin(answerSection, n, q.Type, d.Reg.TTL.Load())
			d.name(dnsname.Localhost)
			d.end(data)
		}
		d.addPTR(n, f.owners)
	case dns.TypeMX:
		if f.hasData || f.isHost {
			data := d.begin(answerSection, n, q.Type, d.Reg.MinTTL(f.views))
			d.uint16s(0) // the preference
			d.name(n)
			d.end(data)
			d.addBothAddrs(n, f)
		}
	case dns.TypeTXT:
		d.addTXT(n, f.views)
	case dns.TypeSRV:
		d.addSRV(n, f.ports)
	case dns.TypeSOA:
		if f.isZone {
			d.addSOA(answerSection, n, maxNegative)
		}
	case dns.TypeNS:
		if f.isZone {
			for _, server := range append([]dnsname.Name{d.host}, d.Secondaries...) {
				data := d.begin(answerSection, n, q.Type, d.Reg.TTL.Load())
				d.name(server)
				d.end(data)
			}
			d.addAddrsOf(d.host, d.apex)
		}
	case dns.TypeANY:
		if f.isZone || f.isHost || f.loopback || f.hasData || f.owners != nil || len(f.ports) > 0 {
			data := d.begin(answerSection, n, dns.TypeHINFO, d.Reg.TTL.Load())
			d.text("RFC8482") // section 4.2
			d.text("")
			d.end(data)
		}
	}
}

// total returns how many services views have in all.
func total(views []*index.Set) (n int) {
	for _, v := range views {
		n += v.Len()
	}
	return n
}

// addAddrs adds the address records of f under the name owner.
func (d *decision) addAddrs(section int, owner dnsname.Name, f found, qtype uint16) {
	v4, ttl := qtype == dns.TypeA, d.Reg.TTL.Load()
	var addrs []netip.Addr
	switch {
	case f.loopback && owner.IsReverse(): // its name has no address
	case f.loopback && v4:
		addrs = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	case f.loopback:
		addrs = []netip.Addr{netip.IPv6Loopback()}
	case f.isHost && d.client.Local.IsValid() && d.client.Local.Is4() == v4:
		addrs = []netip.Addr{d.client.Local}
	case len(f.views) > 0:
		var differs bool
		limit := d.limit(total(f.views))
		addrs, ttl, differs = d.Reg.Rrset(f.views, v4, limit, d.viewer())
		if differs {
			d.basis.By |= ByNetwork
		}
		d.keepBelow(limit, len(addrs))
	}
	for _, a := range addrs {
		data := d.begin(section, owner, qtype, ttl)
		if v4 {
			b := a.As4()
			d.records = append(d.records, b[:]...)
		} else {
			b := a.As16()
			d.records = append(d.records, b[:]...)
		}
		d.end(data)
	}
}

// addBothAddrs adds the IPv4 and the IPv6 addresses of f to the additional section.
func (d *decision) addBothAddrs(owner dnsname.Name, f found) {
	if f.cname != nil || d.plain {
		return
	}
	d.addAddrs(additionalSection, owner, f, dns.TypeA)
	d.addAddrs(additionalSection, owner, f, dns.TypeAAAA)
}

// addAddrsOf adds the addresses of another name than the one that was asked,
// whose highest name of ours is top.
func (d *decision) addAddrsOf(n, top dnsname.Name) {
	if d.plain {
		return
	}
	f := d.find(n, top)
	d.readOther()
	d.noteReads(n, f)
	d.addBothAddrs(n, f)
}

// addPTR adds the names of the services that have an address; nil: no service has it.
func (d *decision) addPTR(owner dnsname.Name, services *index.Set) {
	if services == nil {
		return
	}
	ttl, limit := d.Reg.MinTTL([]*index.Set{services}), d.limit(services.Len())
	names := index.MostSpecific(services, limit)
	for _, n := range names {
		data := d.begin(answerSection, owner, dns.TypePTR, ttl)
		d.name(n)
		d.end(data)
	}
	d.keepBelow(limit, len(names))
}

// addTXT adds the TXT records of views, each once, until they fill a reply.
func (d *decision) addTXT(owner dnsname.Name, views []*index.Set) {
	ttl, size := d.Reg.MinTTL(views), d.sizeFor(total(views))
	seen := make(map[string]bool)
	for s := range index.Shuffled(views, publish.HasTXT) {
		for _, text := range s.TXT {
			if seen[text] {
				continue
			}
			seen[text] = true
			data := d.begin(answerSection, owner, dns.TypeTXT, ttl)
			d.text(text)
			d.end(data)
			if len(d.records) > size {
				d.keep = false // there may be more
				return
			}
		}
	}
}

// addSOA adds the SOA record of the zone top. Its TTL and its last field are
// how many seconds a negative answer may be cached, at most most.
func (d *decision) addSOA(section int, top dnsname.Name, most uint32) {
	ttl := min(d.Reg.TTL.Load(), most)
	data := d.begin(section, top, dns.TypeSOA, ttl)
	d.name(d.host)
	if len(hostmaster)+len(top) <= dnsname.MaxLen { // only a long alias leaves no room
		d.name(hostmaster + top)
	} else {
		d.name(top)
	}
	d.uint32s(d.Reg.SOASerial(), soaRefresh, soaRetry, soaExpire, ttl)
	d.end(data)
	d.EndsWithSOA = true
}
