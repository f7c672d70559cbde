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
	again       int        // whole transfers of that serial
}

// note changes what is known of the client, and returns what change does. It returns false if too many are known.
func (x *transfer) note(change func(*Secondary) bool) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	o := x.second[x.client]
	if o == nil {
		if len(x.second) >= maxSecondaries {
			return false
		}
		o = &Secondary{Addr: x.client}
		x.second[x.client] = o
	}
	return change(o)
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
		v = &version{soa: s.zone.SOA(name), nodes: read(s.zone, name, s.cfg.Local)}
		s.building.Unlock()
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
		records(slices.Values(v.nodes))(write)
	}
	return w.Flush()
}
