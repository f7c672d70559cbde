package transfer

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/tsig"
)

const (
	maxTransfers = 10  // at a time: each holds a version that may be an old one
	maxOfClient  = 2   // of these from one address
	manyRecords  = 100 // of a set: BIND refuses more unless max-records-per-type is 0
	maxLost      = 3   // transfers in a row that a secondary seems to have thrown away
)

var (
	errNotAllowed = errors.New("the client may not transfer zones: add it to -transfer")
	errUnsigned   = errors.New("the query has no TSIG, which -transfer-key-file makes necessary")

	// ErrNoZone says that a name is not that of a domain.
	ErrNoZone = errors.New("dnsdock has no such zone: write the domain, or an engine's own")
	// ErrUnknown says that a zone would be empty or half.
	ErrUnknown = errors.New("the engines of the zone have not listed their containers yet: try again")
	errTooMany = errors.New("too many transfers at a time")
)

// Takes reports whether Serve must answer a message: one that asks for a transfer, where the client takes a stream,
// or one that is signed while there are keys.
func (s *Server) Takes(packet []byte, isStream bool) bool {
	const queryBits = 0xf8 // QR and the opcode
	if len(packet) < dnswire.HeaderLen || packet[2]&queryBits != 0 || binary.BigEndian.Uint16(packet[4:]) != 1 {
		return false
	}
	return isStream && isTransfer(packet) || s.cfg.KeyFile != "" && tsig.IsSigned(packet)
}

// isTransfer reports whether the one question of a message asks for a zone.
func isTransfer(packet []byte) bool {
	end, ok := dnswire.SkipQuestions(packet)
	if !ok {
		return false
	}
	qtype, class := binary.BigEndian.Uint16(packet[end-4:]), binary.BigEndian.Uint16(packet[end-2:])
	return class == dns.ClassINET && (qtype == dns.TypeAXFR || qtype == dns.TypeIXFR)
}

// Serve answers a message that it takes. Other questions than those for a transfer are answered by ask. Write sends a
// message to the client, and returns an error if it makes no progress.
func (s *Server) Serve(
	packet []byte, client netip.Addr, isStream bool, ask func(query []byte) []byte, write func([]byte) error,
) error {
	s.mu.Lock()
	keys := s.keys
	s.mu.Unlock()
	var session *tsig.Session
	var bad error
	if s.cfg.KeyFile != "" && tsig.IsSigned(packet) {
		session, packet, bad = tsig.Verify(packet, keys, time.Now())
		if session == nil {
			return bad // no reply: it can't be read
		}
	}
	if bad == nil && !(isStream && isTransfer(packet)) {
		reply := ask(packet)
		if reply == nil {
			return nil
		}
		return write(session.Sign(reply, time.Now()))
	}
	m := new(dns.Msg)
	if err := m.Unpack(packet); err != nil || len(m.Question) != 1 {
		return write(ask(packet)) // FORMERR
	}
	name, err := dnsname.Parse(m.Question[0].Name)
	if err != nil {
		return write(ask(packet))
	}
	st := newStream(packet, name, session, write)
	x := transfer{Server: s, stream: st, client: client.Unmap(), query: m, begun: time.Now()}
	switch {
	case bad != nil:
		return x.refuse(dns.RcodeNotAuth, bad)
	case !s.allows(x.client):
		return x.refuse(dns.RcodeRefused, errNotAllowed)
	case s.cfg.KeyFile != "" && session == nil:
		return x.refuse(dns.RcodeRefused, errUnsigned)
	case !s.begin(x.client):
		return x.refuse(dns.RcodeServerFailure, errTooMany)
	}
	defer s.end(x.client)
	return x.serve()
}

// allows reports whether a client may transfer zones.
func (s *Server) allows(client netip.Addr) bool {
	return slices.ContainsFunc(s.cfg.Allow, func(p netip.Prefix) bool { return p.Contains(client) })
}

// begin counts a transfer, and reports whether there may be one more.
func (s *Server) begin(client netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	total := 0
	for _, n := range s.running {
		total += n
	}
	if total >= maxTransfers || s.running[client] >= maxOfClient {
		return false
	}
	s.running[client]++
	return true
}

func (s *Server) end(client netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[client]--; s.running[client] == 0 {
		delete(s.running, client)
	}
}

// A transfer is the reply to one query for a zone.
type transfer struct {
	*Server
	*stream
	client netip.Addr
	query  *dns.Msg
	begun  time.Time
}

// refuse replies with an error and logs it: once for a secondary, until it succeeds.
func (x *transfer) refuse(rcode int, why error) error {
	log := x.log.Debug // strangers may ask as often as they like
	if x.allows(x.client) && x.note(func(o *Secondary) bool {
		isNew := o.Refused != why.Error()
		o.Refused = why.Error()
		return isNew
	}) {
		log = x.log.Warn
	}
	log("transfer refused", "client", x.client, "zone", x.stream.zone, "rcode", dns.RcodeToString[rcode], "err", why)
	return x.stream.refuse(rcode)
}

// serve sends the zone, or what changed since the serial that the client has.
func (x *transfer) serve() error {
	c := x.copyOf(x.stream.zone)
	switch {
	case c == nil:
		return x.refuse(dns.RcodeNotAuth, ErrNoZone)
	case c.current == nil:
		return x.refuse(dns.RcodeServerFailure, ErrUnknown)
	}
	has, isKnown := x.serial()
	kind, err := x.send(c, has, isKnown)
	if err != nil {
		x.log.Warn("transfer broken off", "client", x.client, "zone", c.name, "records", x.records, "err", err)
		return err
	}
	serial := c.current.serial
	isStuck := x.note(func(o *Secondary) bool {
		o.Transferred, o.Serial, o.Kind, o.Refused = time.Now(), serial, kind, ""
		return o.isStuck(c.name, has, isKnown, serial)
	})
	x.log.Info("zone transferred", "client", x.client, "zone", c.name, "kind", kind,
		"serial", serial, "records", x.records, "bytes", x.bytes, "took", time.Since(x.begun))
	if isStuck && c.current.hasLargeSet() {
		x.log.Warn("a secondary takes the zone again and again: BIND refuses more than 100 records of one type"+
			" unless its options have max-records-per-type 0", "client", x.client, "zone", c.name)
	}
	return nil
}

// serial returns the serial that an IXFR query says the client has, RFC 1995 section 3.
func (x *transfer) serial() (serial uint32, ok bool) {
	if x.query.Question[0].Qtype != dns.TypeIXFR || len(x.query.Ns) != 1 {
		return 0, false
	}
	soa, ok := x.query.Ns[0].(*dns.SOA)
	if !ok {
		return 0, false
	}
	return soa.Serial, true
}

// send sends c to a client that has a serial, and returns how.
func (x *transfer) send(c *zoneCopy, has uint32, isKnown bool) (kind string, err error) {
	v := c.current
	put := func(owner dnsname.Name, rr string) bool {
		err = x.add(owner, rr)
		return err == nil
	}
	all := func(list []ownedRecord) bool {
		return !slices.ContainsFunc(list, func(r ownedRecord) bool { return !put(r.owner, r.rr) })
	}
	put(c.name, v.soa)
	switch since, ok := c.since(has); {
	case isKnown && int32(has-v.serial) >= 0: // RFC 1982: it has this one, or one of the future
		kind = "none"
	case isKnown && ok:
		kind = "IXFR"
		removed, added := v.difference(since.before)
		_ = put(c.name, since.soa) && all(removed) && put(c.name, v.soa) && all(added) && put(c.name, v.soa)
	default:
		kind = "AXFR"
		_ = records(v.nodes, put) && put(c.name, v.soa)
	}
	if err == nil {
		err = x.flush()
	}
	return kind, err
}

// hasLargeSet reports whether a name has more records of a type than BIND takes by default.
func (v *version) hasLargeSet() bool {
	var last ownedRecord
	count := 0
	return !records(v.nodes, func(owner dnsname.Name, rr string) bool {
		if r := (ownedRecord{owner, rr[:2]}); r != last {
			last, count = r, 0
		}
		count++
		return count <= manyRecords
	})
}
