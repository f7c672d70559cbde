package zone

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/index"
	"github.com/rayje/dnsdock/internal/publish"
)

const (
	maxNegative = 5  // seconds for which an NXDOMAIN or NODATA may be cached: the container may start any moment
	minRR       = 14 // bytes of the smallest record that is answered: two pointers, type, class, TTL, length

	hostmaster = "\x0ahostmaster" // the label before a zone's name, RFC 2142 section 7

	soaRefresh, soaRetry, soaExpire = 3600, 600, 86400 // seconds; for secondaries, of which there are none
)

// ours answers q, the question about n, whose highest name of ours is top. If
// n is a CNAME that q goes on with, it returns its target.
func (d *decision) ours(q dns.Question, n, top dnsname.Name) (next dnsname.Name) {
	ready := d.Reg.IsReady(n) // before find: what is published between the two is not missed
	done, ok := d.inTurn(n, top)
	if !ok {
		d.Msg.Authoritative, d.Msg.Answer, d.Msg.Rcode = false, nil, dns.RcodeServerFailure
		return ""
	}
	defer done()
	f := d.find(n, top)
	d.noteReads(n, f)
	d.explain(q, n, top, f)
	m := d.Msg
	if f.cname != nil {
		h := header(q.Name, dns.TypeCNAME, d.Reg.TTLOf(f.cname))
		m.Answer = append(m.Answer, &dns.CNAME{Hdr: h, Target: f.cname.CNAME.String()})
		if q.Qtype == dns.TypeCNAME || q.Qtype == dns.TypeANY {
			return ""
		}
		return f.cname.CNAME
	}
	before := len(m.Answer)
	d.addRecords(q, n, f)
	switch {
	case len(m.Answer) > before:
	case !ready && !f.isHost && !f.isStatic && !f.hasData && f.owners == nil && len(f.ports) == 0:
		d.notReady()
	default:
		if !f.exists {
			m.Rcode = dns.RcodeNameError
		}
		m.Ns = append(m.Ns, d.soa(ending(q.Name, top.Labels()), top, maxNegative)) // RFC 2308 section 3
	}
	return ""
}

// noteReads notes what f, which was found at n, was read from beside the services at, below and above n.
func (d *decision) noteReads(n dnsname.Name, f found) {
	if p, ok := n.Prefix(); n.IsReverse() && ok && !p.IsSingleIP() { // all addresses were looked at
		d.readOther()
	}
	if f.isHost || index.AnyHas(f.views, publish.HasHost) && d.Reg.Rules.Host == nil {
		d.by |= ByLocal
		d.readOther()
	}
}

// notReady says that it is not known yet whether the name exists, RFC 8914 section 4.15.
func (d *decision) notReady() {
	m := d.Msg
	m.Authoritative, m.Answer = false, nil
	m.Rcode = dns.RcodeServerFailure
	if opt := m.IsEdns0(); opt != nil {
		opt.Option = append(opt.Option, &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeNotReady})
	}
}

// addRecords adds the records of n that q asks for, and to the additional
// section the addresses that clients ask for next.
func (d *decision) addRecords(q dns.Question, n dnsname.Name, f found) {
	m := d.Msg
	add := func(rr dns.RR) { m.Answer = append(m.Answer, rr) }
	switch q.Qtype {
	case dns.TypeA, dns.TypeAAAA:
		m.Answer = append(m.Answer, d.addrs(q.Name, f, q.Qtype)...)
	case dns.TypePTR:
		d.addPTR(q.Name, f.owners)
	case dns.TypeMX:
		if f.hasData || f.isHost {
			add(&dns.MX{Hdr: header(q.Name, q.Qtype, d.Reg.MinTTL(f.views)), Mx: q.Name})
			d.addExtra(d.bothAddrs(q.Name, f))
		}
	case dns.TypeTXT:
		h := header(q.Name, q.Qtype, d.Reg.MinTTL(f.views))
		list, whole := allTXT(f.views, d.sizeFor(total(f.views)))
		for _, text := range list {
			add(&dns.TXT{Hdr: h, Txt: charStrings(text)})
		}
		d.keep = d.keep && whole
	case dns.TypeSRV:
		d.addSRV(q.Name, f.ports)
	case dns.TypeSOA:
		if f.isZone {
			add(d.soa(q.Name, n, maxNegative))
		}
	case dns.TypeNS:
		if f.isZone {
			add(&dns.NS{Hdr: header(q.Name, q.Qtype, d.Reg.TTL.Load()), Ns: d.host.String()})
			d.addExtra(d.addrsOf(d.host, d.apex))
		}
	case dns.TypeANY:
		if f.isZone || f.isHost || f.loopback || f.hasData || f.owners != nil || len(f.ports) > 0 {
			add(&dns.HINFO{Hdr: header(q.Name, dns.TypeHINFO, d.Reg.TTL.Load()), Cpu: "RFC8482"}) // section 4.2
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

// addrs returns the address records under the name owner that f holds.
func (d *decision) addrs(owner string, f found, qtype uint16) (list []dns.RR) {
	var addrs []netip.Addr
	v4, ttl := qtype == dns.TypeA, d.Reg.TTL.Load()
	switch {
	case f.loopback && v4:
		addrs = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	case f.loopback:
		addrs = []netip.Addr{netip.IPv6Loopback()}
	case f.isHost && d.client.Local.IsValid() && d.client.Local.Is4() == v4:
		addrs = []netip.Addr{d.client.Local}
	default:
		var differs bool
		limit := d.limit(total(f.views))
		addrs, ttl, differs = d.Reg.Rrset(f.views, v4, limit, d.client.viewer())
		if differs {
			d.by |= ByNetwork
		}
		d.keepBelow(limit, len(addrs))
	}
	for _, a := range addrs {
		if v4 {
			list = append(list, &dns.A{Hdr: header(owner, qtype, ttl), A: a.AsSlice()})
		} else {
			list = append(list, &dns.AAAA{Hdr: header(owner, qtype, ttl), AAAA: a.AsSlice()})
		}
	}
	return list
}

// bothAddrs returns the IPv4 and the IPv6 address records of f.
func (d *decision) bothAddrs(owner string, f found) []dns.RR {
	if f.cname != nil {
		return nil
	}
	return slices.Concat(d.addrs(owner, f, dns.TypeA), d.addrs(owner, f, dns.TypeAAAA))
}

// addrsOf returns the address records of another name than the one that was
// asked, whose highest name of ours is top.
func (d *decision) addrsOf(n, top dnsname.Name) []dns.RR {
	f := d.find(n, top)
	d.readOther()
	d.noteReads(n, f)
	return d.bothAddrs(n.String(), f)
}

// addExtra adds to the additional section. Pack leaves out what does not fit.
func (d *decision) addExtra(rrs []dns.RR) { d.Msg.Extra = append(rrs, d.Msg.Extra...) }

// addPTR adds the names of the services that have an address; nil: no service has it.
func (d *decision) addPTR(owner string, services *index.Set) {
	if services == nil {
		return
	}
	h, limit := header(owner, dns.TypePTR, d.Reg.MinTTL([]*index.Set{services})), d.limit(services.Len())
	names := index.MostSpecific(services, limit)
	for _, o := range names {
		d.Msg.Answer = append(d.Msg.Answer, &dns.PTR{Hdr: h, Ptr: o.String()})
	}
	d.keepBelow(limit, len(names))
}

// allTXT returns the TXT records of views, each once, and whether these are
// all: it ends when they have size bytes.
func allTXT(views []*index.Set, size int) (list []string, whole bool) {
	seen := make(map[string]bool)
	for s := range index.Shuffled(views, publish.HasTXT) {
		for _, text := range s.TXT {
			if seen[text] {
				continue
			}
			seen[text] = true
			list = append(list, text)
			if size -= minRR - 1 + len(text); size < 0 { // the record's length, and at least a byte for that of its strings
				return list, false
			}
		}
	}
	return list, true
}

// charStrings splits text into the strings of a TXT record, each of at most
// 255 bytes (RFC 1035 section 3.3.14), and escapes what miekg/dns would read
// as an escape.
func charStrings(text string) (list []string) {
	for part := range slices.Chunk([]byte(text), 255) {
		list = append(list, strings.ReplaceAll(string(part), `\`, `\\`))
	}
	return list
}

// header returns the header of a record.
func header(owner string, rrtype uint16, ttl uint32) dns.RR_Header {
	return dns.RR_Header{Name: owner, Rrtype: rrtype, Class: dns.ClassINET, Ttl: ttl}
}

// ending returns the last labels of a name, as many as are asked for.
func ending(s string, labels int) string {
	starts := dns.Split(s)
	return s[starts[len(starts)-labels]:]
}

// soa returns the SOA record of the zone top. Owner is the name of top in the
// case that was asked, so that all names in the record compress. Its TTL and
// its last field are how many seconds a negative answer may be cached, at
// most most.
func (z *Resolver) soa(owner string, top dnsname.Name, most uint32) *dns.SOA {
	ttl := min(z.Reg.TTL.Load(), most)
	ns, mbox := z.host.String(), owner
	if top == z.apex {
		ns = "dnsdock." + owner
	}
	if len(hostmaster)+len(top) <= dnsname.MaxLen { // only a long alias leaves no room
		mbox = "hostmaster." + owner
	}
	return &dns.SOA{
		Hdr:     header(owner, dns.TypeSOA, ttl),
		Ns:      ns,
		Mbox:    mbox,
		Serial:  z.Reg.Serial.Load(),
		Refresh: soaRefresh,
		Retry:   soaRetry,
		Expire:  soaExpire,
		Minttl:  ttl,
	}
}
