package main

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/net/netutil"
)

const (
	maxUDPSize  = 1232            // octets of a UDP reply: what passes everywhere unfragmented (DNS Flag Day 2020)
	maxQuery    = 4096            // octets of a UDP query that are read; no honest one is near it
	maxNegative = 5               // seconds for which an NXDOMAIN or NODATA may be cached: the container may start any moment
	maxConns    = 1000            // TCP connections at a time; a silent one ends after 2 s, an idle one after 8
	tcpWrite    = 5 * time.Second // for a TCP client to take a reply
	minRR       = 14              // octets of the smallest record that is answered: two pointers, type, class, TTL, length
)

// A zone answers DNS queries: ours from the registry, with authority, and
// foreign ones by the forwarder.
type zone struct {
	reg  *registry
	fwd  *forwarder
	apex name
	host name // dnsdock.<apex>: our own name
	log  *slog.Logger
	ctx  context.Context // of the server's life: dns.Handler has none
}

// newZone returns a zone for the apex of reg. When ctx is done, the queries
// that are being forwarded end.
func newZone(ctx context.Context, reg *registry, fwd *forwarder, log *slog.Logger) *zone {
	apex := reg.naming.apex
	return &zone{reg: reg, fwd: fwd, apex: apex, host: "\x07dnsdock" + apex, log: log, ctx: ctx}
}

// ServeDNS answers one query. It is called at once by many goroutines.
func (z *zone) ServeDNS(w dns.ResponseWriter, req *dns.Msg) {
	begun := time.Now()
	size := dns.MaxMsgSize
	if _, ok := w.RemoteAddr().(*net.TCPAddr); !ok {
		size = udpSize(req)
	}
	m, b, err := z.answer(req, localAddr(w), size)
	if err == nil {
		_, err = w.Write(b)
	}
	if z.log.Enabled(z.ctx, slog.LevelDebug) && len(req.Question) > 0 {
		q := req.Question[0]
		z.log.Debug("query", "client", w.RemoteAddr(), "name", q.Name, "type", dns.Type(q.Qtype), "rcode", dns.RcodeToString[m.Rcode],
			"answers", len(m.Answer), "took", time.Since(begun), "err", err)
	}
}

// answer is reply, packed into at most size octets. A bug of ours costs one
// SERVFAIL and not the daemon.
func (z *zone) answer(req *dns.Msg, local netip.Addr, size int) (m *dns.Msg, b []byte, err error) {
	defer func() {
		if bug := recover(); bug != nil {
			z.log.Error("query answered with SERVFAIL because of a bug in dnsdock: please report it", "query", req.Question, "bug", bug)
			m = z.blank(req, dns.RcodeServerFailure)
			b, err = m.Pack()
		}
	}()
	m = z.reply(req, local, size)
	b, err = pack(m, size)
	if err != nil { // an upstream's record that can be read but not written
		m = z.blank(req, dns.RcodeServerFailure)
		b, err = m.Pack()
	}
	return m, b, err
}

// pack cuts m to size octets and gives it in wire format.
func pack(m *dns.Msg, size int) ([]byte, error) {
	m.Truncate(size)
	m.Compress = true
	return m.Pack()
}

// blank returns a reply to req without records, but an OPT if req has one.
func (z *zone) blank(req *dns.Msg, rcode int) *dns.Msg {
	m := new(dns.Msg).SetReply(req)
	m.RecursionAvailable = z.fwd.enabled()
	m.Rcode = rcode
	if opt := req.IsEdns0(); opt != nil {
		m.SetEdns0(maxUDPSize, opt.Do())
	}
	return m
}

// udpSize is how many octets the client of req takes over UDP, RFC 6891
// section 6.2.
func udpSize(req *dns.Msg) int {
	if opt := req.IsEdns0(); opt != nil {
		return min(max(int(opt.UDPSize()), dns.MinMsgSize), maxUDPSize)
	}
	return dns.MinMsgSize
}

// countOPT counts what a message may have one of, RFC 6891 section 6.1.1.
func countOPT(m *dns.Msg) (count int) {
	for _, rr := range m.Extra {
		if rr.Header().Rrtype == dns.TypeOPT {
			count++
		}
	}
	return count
}

// acceptQuery says what of a message is looked at, by its header: queries
// with one question. A reply is never answered: two servers would go on for ever.
func acceptQuery(h dns.Header) dns.MsgAcceptAction {
	const qr, opcode = 1 << 15, 0xf << 11
	switch {
	case h.Bits&qr != 0:
		return dns.MsgIgnore
	case h.Bits&opcode != dns.OpcodeQuery<<11:
		return dns.MsgRejectNotImplemented
	case h.Qdcount != 1:
		return dns.MsgReject
	}
	return dns.MsgAccept
}

// reply makes the answer to req, which came to the address local. It may be
// larger than size: that only bounds the work.
func (z *zone) reply(req *dns.Msg, local netip.Addr, size int) *dns.Msg {
	m := z.blank(req, dns.RcodeSuccess)
	if opt := req.IsEdns0(); opt != nil && opt.Version() != 0 {
		m.Rcode = dns.RcodeBadVers
		return m
	}
	if len(req.Question) != 1 || countOPT(req) > 1 { // the header promised one question, and the message ended there
		m.Rcode = dns.RcodeFormatError
		return m
	}
	q := req.Question[0]
	n, err := parseName(q.Name)
	switch {
	case err != nil:
		m.Rcode = dns.RcodeFormatError
	case q.Qclass != dns.ClassINET, q.Qtype == dns.TypeAXFR, q.Qtype == dns.TypeIXFR:
		m.Rcode = dns.RcodeRefused
	case z.answerReverse(m, n, size):
	case z.answerForward(m, n, local, size):
	default:
		z.forward(m, req)
	}
	return m
}

// answerReverse answers for the name of an address that we know. It returns
// false if n is not one.
func (z *zone) answerReverse(m *dns.Msg, n name, size int) bool {
	a, ok := n.addr()
	if !ok {
		return false
	}
	services := z.reg.at(a)
	if len(services) == 0 {
		return false
	}
	m.Authoritative = true
	q := m.Question[0]
	switch q.Qtype {
	case dns.TypePTR:
		z.addPTR(m, services, size/minRR+1)
	case dns.TypeANY:
		z.addHINFO(m)
	default:
		z.addSOA(m, n)
	}
	return true
}

// addPTR adds the owner names of services, the most specific one first, and
// no more than that many.
func (z *zone) addPTR(m *dns.Msg, services []*service, most int) {
	var byLabels [maxNameLen/2 + 1][]name
	for _, s := range services {
		for _, o := range s.owners {
			byLabels[o.labels()] = append(byLabels[o.labels()], o)
		}
	}
	ttl := z.reg.minTTL(services)
	seen := make(map[name]bool)
	for _, owners := range slices.Backward(byLabels[:]) {
		for _, o := range owners {
			if len(m.Answer) == most {
				return
			}
			if !seen[o] {
				seen[o] = true
				m.Answer = append(m.Answer, &dns.PTR{Hdr: z.header(m, dns.TypePTR, ttl), Ptr: o.String()})
			}
		}
	}
}

// answerForward answers for a name at or below the apex or an alias. It
// returns false if n is not one.
func (z *zone) answerForward(m *dns.Msg, n name, local netip.Addr, size int) bool {
	top := z.apex
	if !n.under(top) {
		var ok bool
		if top, ok = z.reg.cover(n); !ok {
			return false
		}
	}
	ready := z.reg.ready.Load() // before match: what is published between the two is not missed
	services := z.reg.match(n)
	m.Authoritative = true
	exists := len(services) > 0 || n == z.apex || n == z.host
	if exists {
		z.addAnswer(m, n, services, local, size)
	}
	switch {
	case len(m.Answer) > 0:
	case !ready && len(services) == 0 && n != z.host:
		z.notReady(m)
	default:
		if !exists {
			m.Rcode = dns.RcodeNameError
		}
		z.addSOA(m, top)
	}
	return true
}

// notReady makes m say that nobody knows yet, RFC 8914 section 4.15.
func (z *zone) notReady(m *dns.Msg) {
	m.Authoritative = false
	m.Rcode = dns.RcodeServerFailure
	if opt := m.IsEdns0(); opt != nil {
		opt.Option = append(opt.Option, &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeNotReady})
	}
}

// addAnswer adds what a name that exists has of the type asked for.
func (z *zone) addAnswer(m *dns.Msg, n name, services []*service, local netip.Addr, size int) {
	switch q := m.Question[0]; q.Qtype {
	case dns.TypeA, dns.TypeAAAA:
		v4 := q.Qtype == dns.TypeA
		addrs, ttl := z.reg.rrset(services, v4, size/minRR+1) // one more than can fit: that makes it truncated
		if len(services) == 0 && n == z.host && local.IsValid() && local.Is4() == v4 {
			addrs, ttl = []netip.Addr{local}, z.reg.ttl.Load()
		}
		z.addAddrs(m, addrs, ttl)
	case dns.TypeMX:
		if len(services) > 0 || n == z.host {
			m.Answer = append(m.Answer, &dns.MX{Hdr: z.header(m, dns.TypeMX, z.reg.minTTL(services)), Mx: q.Name})
		}
	case dns.TypeSOA:
		if n == z.apex {
			m.Answer = append(m.Answer, z.soa(q.Name, z.apex))
		}
	case dns.TypeNS:
		if n == z.apex {
			m.Answer = append(m.Answer, &dns.NS{Hdr: z.header(m, dns.TypeNS, z.reg.ttl.Load()), Ns: z.host.String()})
		}
	case dns.TypeANY:
		z.addHINFO(m)
	}
}

// addAddrs adds address records in the order of addrs.
func (z *zone) addAddrs(m *dns.Msg, addrs []netip.Addr, ttl uint32) {
	for _, a := range addrs {
		if a.Is4() {
			m.Answer = append(m.Answer, &dns.A{Hdr: z.header(m, dns.TypeA, ttl), A: a.AsSlice()})
		} else {
			m.Answer = append(m.Answer, &dns.AAAA{Hdr: z.header(m, dns.TypeAAAA, ttl), AAAA: a.AsSlice()})
		}
	}
}

// addHINFO adds the minimal answer to ANY, RFC 8482 section 4.2.
func (z *zone) addHINFO(m *dns.Msg) {
	m.Answer = append(m.Answer, &dns.HINFO{Hdr: z.header(m, dns.TypeHINFO, z.reg.ttl.Load()), Cpu: "RFC8482"})
}

// header returns the header of a record whose owner is the qname, as it was
// asked.
func (z *zone) header(m *dns.Msg, rrtype uint16, ttl uint32) dns.RR_Header {
	return dns.RR_Header{Name: m.Question[0].Name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: ttl}
}

// addSOA adds what makes a negative answer cacheable, RFC 2308 section 3.
// Top is the highest name that we answer for: the apex, or an alias outside it.
func (z *zone) addSOA(m *dns.Msg, top name) {
	m.Ns = append(m.Ns, z.soa(top.String(), top))
}

// soa returns the SOA record of the zone top. Its TTL and its last field are
// how long a negative answer may be cached.
func (z *zone) soa(owner string, top name) *dns.SOA {
	ttl := min(z.reg.ttl.Load(), maxNegative)
	mbox := "\x0ahostmaster" + top
	if len(mbox) > maxNameLen { // only a long alias can be
		mbox = top
	}
	return &dns.SOA{
		Hdr:     dns.RR_Header{Name: owner, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: ttl},
		Ns:      z.host.String(),
		Mbox:    mbox.String(),
		Serial:  z.reg.ser.Load(),
		Refresh: 3600, // refresh, retry and expire are for secondaries, of which there are none
		Retry:   600,
		Expire:  86400,
		Minttl:  ttl,
	}
}

// forward makes m the answer of an upstream.
func (z *zone) forward(m, req *dns.Msg) {
	if !z.fwd.enabled() {
		m.Rcode = dns.RcodeRefused
		return
	}
	r := z.fwd.forward(z.ctx, req)
	if r == nil {
		m.Rcode = dns.RcodeServerFailure
		return
	}
	z.relay(m, r)
}

// relay makes m, a reply without records, what the upstream's r says.
func (z *zone) relay(m, r *dns.Msg) {
	qname := m.Question[0].Name
	m.Rcode, m.Truncated, m.AuthenticatedData, m.CheckingDisabled = r.Rcode, r.Truncated, r.AuthenticatedData, r.CheckingDisabled
	m.Answer, m.Ns = r.Answer, r.Ns
	for _, rr := range r.Extra {
		if t := rr.Header().Rrtype; t != dns.TypeOPT && t != dns.TypeTSIG { // these are between us and the upstream
			m.Extra = append(m.Extra, rr)
		}
	}
	for _, rr := range slices.Concat(m.Answer, m.Ns, m.Extra) {
		h := rr.Header()
		if h.Rrtype == dns.TypeOPT {
			continue
		}
		if z.fwd.forceTTL {
			h.Ttl = z.reg.ttl.Load()
		}
		if equalNames(h.Name, qname) {
			h.Name = qname // in the client's case
		}
	}
}

// localAddr is the address of ours that the query came to; not valid if
// the system does not tell.
func localAddr(w dns.ResponseWriter) netip.Addr {
	if p, ok := w.RemoteAddr().(peer); ok && p.local.IsValid() {
		return p.local
	}
	a, err := netip.ParseAddrPort(w.LocalAddr().String())
	if err != nil || a.Addr().IsUnspecified() {
		return netip.Addr{}
	}
	return a.Addr().Unmap().WithZone("")
}

// newDNSServer returns a server of h on one socket, conn or ln, and a channel
// that is closed once it can be shut down.
func newDNSServer(h dns.Handler, conn net.PacketConn, ln net.Listener) (*dns.Server, <-chan struct{}) {
	started := make(chan struct{})
	s := &dns.Server{
		Handler:           h,
		MsgAcceptFunc:     acceptQuery,
		UDPSize:           maxQuery,
		MaxTCPQueries:     -1, // the idle timeout ends a connection
		NotifyStartedFunc: func() { close(started) },
	}
	if conn != nil {
		s.PacketConn = conn
	} else {
		s.Listener = writeTimeoutListener{netutil.LimitListener(ln, maxConns)}
	}
	return s, started
}

// writeTimeoutListener bounds how long a write to a client may take:
// dns.Server does not, and one that reads nothing would hold it for ever.
type writeTimeoutListener struct{ net.Listener }

func (l writeTimeoutListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return writeTimeoutConn{c}, nil
}

type writeTimeoutConn struct{ net.Conn }

func (c writeTimeoutConn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(tcpWrite)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// A packetConn is a UDP socket whose replies leave from the address that
// the query came to, on a host of several too.
type packetConn struct {
	*net.UDPConn
	oobSize int // octets for control messages; 0: bound to one address, or the system has none
}

// A peer is the net.Addr of a packetConn's packets: the far end, and the
// address of ours that they talk to.
type peer struct {
	netip.AddrPort
	local netip.Addr
}

func (peer) Network() string { return "udp" }

// newPacketConn wraps conn, whose owner it becomes.
func newPacketConn(conn *net.UDPConn) *packetConn {
	p := &packetConn{UDPConn: conn}
	if a := conn.LocalAddr().(*net.UDPAddr); !a.IP.IsUnspecified() {
		return p
	}
	err6 := ipv6.NewPacketConn(conn).SetControlMessage(ipv6.FlagDst, true)
	err4 := ipv4.NewPacketConn(conn).SetControlMessage(ipv4.FlagDst, true)
	if err6 == nil || err4 == nil { // either fails on a socket of the other family
		p.oobSize = max(len(ipv6.NewControlMessage(ipv6.FlagDst)), len(ipv4.NewControlMessage(ipv4.FlagDst)))
	}
	return p
}

// ReadFrom implements net.PacketConn; the address is a peer.
func (p *packetConn) ReadFrom(b []byte) (int, net.Addr, error) {
	oob := make([]byte, p.oobSize)
	n, oobn, _, from, err := p.ReadMsgUDPAddrPort(b, oob)
	if err != nil {
		return n, nil, err
	}
	return n, peer{from, destination(oob[:oobn])}, nil
}

// destination reads a control message; the address is not valid if there is none.
func destination(oob []byte) netip.Addr {
	var dst net.IP
	var cm6 ipv6.ControlMessage
	var cm4 ipv4.ControlMessage
	if cm6.Parse(oob) == nil && cm6.Dst != nil {
		dst = cm6.Dst
	} else if cm4.Parse(oob) == nil {
		dst = cm4.Dst
	}
	a, _ := netip.AddrFromSlice(dst)
	return a.Unmap()
}

// WriteTo implements net.PacketConn; addr is a peer.
func (p *packetConn) WriteTo(b []byte, addr net.Addr) (int, error) {
	to := addr.(peer)
	var oob []byte
	switch {
	case !to.local.IsValid():
	case to.local.Is4():
		oob = (&ipv4.ControlMessage{Src: to.local.AsSlice()}).Marshal()
	default:
		oob = (&ipv6.ControlMessage{Src: to.local.AsSlice()}).Marshal()
	}
	n, _, err := p.WriteMsgUDPAddrPort(b, oob, to.AddrPort)
	return n, err
}
