package transfer

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnsname"
)

// maxSecondaries is the number of clients whose state is kept: a network of -transfer may hold many.
const maxSecondaries = 100

// A Secondary is a nameserver that transfers zones, or is told of changes.
type Secondary struct {
	Addr        netip.Addr `json:"addr"`
	Notified    time.Time  `json:"notified,omitzero"`      // when it last took a NOTIFY
	NotifyError string     `json:"notify_error,omitempty"` // of the last NOTIFY
	Transferred time.Time  `json:"transferred,omitzero"`
	Kind        string     `json:"kind,omitempty"`    // AXFR, IXFR or none, of the last transfer
	Serial      uint32     `json:"serial,omitempty"`  // that it has since then
	Refused     string     `json:"refused,omitempty"` // why its last query was refused

	given map[dnsname.Name]uint32 // the serial of each zone that it was given last
	lost  int                     // transfers in a row after which it did not have that one
}

// isStuck notes a transfer of a zone to a secondary that had a serial, if any. It reports whether that was one of many
// after which it did not have what it was given before.
func (o *Secondary) isStuck(zone dnsname.Name, has uint32, isKnown bool, serial uint32) bool {
	if was, ok := o.given[zone]; !ok || isKnown && has == was {
		o.lost = 0
	} else {
		o.lost++
	}
	if o.given == nil {
		o.given = make(map[dnsname.Name]uint32)
	}
	o.given[zone] = serial
	return o.lost == maxLost
}

// note changes what is known of the client, and returns what change does. If too many are known the client takes the
// place of the one whose transfer is the oldest, and note returns false.
func (x *transfer) note(change func(*Secondary) bool) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	o := x.second[x.client]
	isFull := o == nil && len(x.second) >= maxSecondaries
	if isFull {
		x.dropOldestLocked()
	}
	if o == nil {
		o = &Secondary{Addr: x.client}
		x.second[x.client] = o
	}
	return change(o) && !isFull
}

// dropOldestLocked forgets the secondary whose transfer is the oldest, of those that are not sent NOTIFY.
func (s *Server) dropOldestLocked() {
	var oldest *Secondary
	for _, o := range s.second {
		isTarget := slices.ContainsFunc(s.targets, func(t *target) bool { return t.addr.Addr() == o.Addr })
		if !isTarget && (oldest == nil || o.Transferred.Before(oldest.Transferred)) {
			oldest = o
		}
	}
	if oldest != nil {
		delete(s.second, oldest.Addr)
	}
}

// Status returns how secondaries are, sorted by address. It is empty if nobody may transfer zones.
func (s *Server) Status() []Secondary {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Secondary, 0, len(s.second))
	for _, o := range s.second {
		list = append(list, *o)
	}
	slices.SortStableFunc(list, func(a, b Secondary) int { return a.Addr.Compare(b.Addr) })
	return list
}

// WriteText writes a zone as a master file (RFC 1035 section 5). Errors: ErrNoZone, ErrUnknown,
// or that of out.
func (s *Server) WriteText(out io.Writer, name dnsname.Name) error {
	c := s.copyOf(name)
	if c == nil {
		return ErrNoZone
	}
	v := c.current
	if v == nil {
		if s.IsOn() {
			return ErrUnknown
		}
		s.building.Lock()
		nodes, _ := c.read(s.zone, nil, s.cfg.Local)
		s.building.Unlock()
		v = &version{soa: s.zone.SOA(name), nodes: nodes}
	}
	w := bufio.NewWriter(out)
	write := func(owner dnsname.Name, rr string) bool {
		r, _, err := dns.UnpackRR(append([]byte(owner), rr...), 0)
		if err == nil {
			_, err = fmt.Fprintln(w, r)
		}
		return err == nil
	}
	if write(name, v.soa) {
		records(v.nodes, write)
	}
	return w.Flush()
}
