package publish

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	intern "unique"

	"github.com/rayje/dnsdock/internal/dnsname"
)

// IsAt reports whether p is the port of the label _number or _name, or '*'.
func (p Port) IsAt(label string) bool {
	text, ok := strings.CutPrefix(label, "_")
	return label == "*" || ok && (text == strconv.Itoa(int(p.Number)) || text == p.Name && text != "")
}

// A Service is what one container, or one call of the HTTP API, publishes:
// records under owner names. It is never written again once the registry
// holds it; a change is a new service.
type Service struct {
	ID             string         // the container's id, or what the API call chose
	ContainerLabel string         // container part of the full name; may be empty
	ImageLabel     string         // image part of the full name, with its region; may be empty
	Addrs          []netip.Addr   // at least one unless there is a cname; those of internal networks last; not valid: the host's
	NetRuns        []addrRun      // whose networks addrs are on, in that order; nil: nobody's, set by hand
	CNAME          dnsname.Name   // the name that all of its own stand for, with no other records; empty: none
	TXT            []string       // one TXT record each, in its octets
	Ports          []Port         // one SRV record each, by number, in a fixed order
	TTL            int            // seconds; defaultTTL: whatever the registry's default is
	Aliases        []dnsname.Name // further absolute names
	Compose        dnsname.Name   // <number>.<service>.<project>.<apex>; empty: compose did not make it
	Sick           bool           // its health check fails
	Origin         Origin
	State          string    // of the container: "running", "exited", ...; empty for one made by hand
	Since          time.Time // when it started, or was made; zero where nobody tells

	// owners are the names that it is found at: the full name, then the
	// aliases, without duplicates. naming.own derives them from the fields above.
	OwnerNames []dnsname.Name
}

// Origin says where a service comes from. It is empty for one made by hand.
type Origin struct {
	Engine    string // URL of the engine, as configured
	Container string // the container's name
	Image     string // the image reference given to docker run
}

const (
	DefaultTTL = -1        // in service.ttl: no TTL of its own
	MaxTTL     = 1<<31 - 1 // seconds, RFC 2181 section 8
)

// An addrRun says that the next addresses of a service are on a network.
type addrRun struct {
	Net   intern.Handle[Network]
	Count int
}

// AddrsFor returns the addresses of s that a client is to get, the best first: those
// of the network that it is on, and it is near then; else those of all
// networks that can be reached from elsewhere.
func (s *Service) AddrsFor(client netip.Addr) (addrs []netip.Addr, near bool) {
	if s.NetRuns == nil {
		return s.Addrs, false
	}
	at, open := 0, 0
	for _, e := range s.NetRuns {
		n := e.Net.Value()
		if n.Has(client) {
			return s.Addrs[at : at+e.Count], true
		}
		at += e.Count
		if !n.Internal {
			open = at // internal ones are the last
		}
	}
	return s.Addrs[:open], false
}

// AllNames are all that s has, the full one first.
func (s *Service) AllNames() []dnsname.Name {
	if s.Compose == "" {
		return s.OwnerNames
	}
	return append(slices.Clip(s.OwnerNames), s.Compose)
}

// Network is the first that s is on.
func (s *Service) Network() (n intern.Handle[Network]) {
	if len(s.NetRuns) > 0 {
		n = s.NetRuns[0].Net
	}
	return n
}

// Endpoints returns what setEnds took.
func (s *Service) Endpoints() (list []Endpoint) {
	if s.NetRuns == nil {
		return []Endpoint{{Addrs: s.Addrs}}
	}
	at := 0
	for _, e := range s.NetRuns {
		list = append(list, Endpoint{Network: e.Net.Value(), Addrs: s.Addrs[at : at+e.Count]})
		at += e.Count
	}
	return list
}

// Equal reports whether s and t publish the same; both may be nil.
func (s *Service) Equal(t *Service) bool {
	if s == nil || t == nil {
		return s == t
	}
	return s.ID == t.ID && s.ContainerLabel == t.ContainerLabel && s.ImageLabel == t.ImageLabel && s.TTL == t.TTL && s.Origin == t.Origin && s.CNAME == t.CNAME && s.Compose == t.Compose && s.Sick == t.Sick && s.State == t.State && s.Since.Equal(t.Since) && slices.Equal(s.NetRuns, t.NetRuns) &&
		slices.Equal(s.TXT, t.TXT) && slices.Equal(s.Ports, t.Ports) && slices.Equal(s.Addrs, t.Addrs) && slices.Equal(s.Aliases, t.Aliases) && slices.Equal(s.OwnerNames, t.OwnerNames)
}

// NameRules makes services and their owner names. It is read-only after start.
type NameRules struct {
	Apex    dnsname.Name // [environment.]domain: the name that all full names end in
	Alias   bool         // each container is <container-name>.<apex> too
	All     bool         // containers that do not run are published too
	Closest bool         // a query is answered from the closest owner name only

	Second       SecondNames
	AliasDomains []dnsname.Name // aliases outside of the apex must be below one of these; nil: they may be anything
	Health       bool           // health checks count
	Networks     []string       // whose addresses are answered, the best first; nil: all
	Host         []netip.Addr   // the host's addresses; nil: the one that a client asked
}

// SetOwnerNames sets the owner names of s, which must not be published yet. The error
// says which part can't be used.
func (n NameRules) SetOwnerNames(s *Service) error {
	full, err := n.join(s.ContainerLabel, s.ImageLabel)
	if err != nil {
		return err
	}
	owners := append([]dnsname.Name{full}, s.Aliases...)
	if n.Alias && s.ContainerLabel != "" && s.Origin != (Origin{}) {
		bare, err := n.join(s.ContainerLabel)
		if err != nil {
			return err
		}
		owners = append(owners, bare)
	}
	s.OwnerNames = Dedup(owners)
	return nil
}

// Dedup returns list without the values that were in it before. It may
// overwrite list.
func Dedup[T comparable](list []T) []T {
	seen := make(map[T]bool, len(list))
	return slices.DeleteFunc(list, func(v T) bool {
		had := seen[v]
		seen[v] = true
		return had
	})
}

// join makes the name of parts under the apex; an empty part is left out.
func (n NameRules) join(parts ...string) (dnsname.Name, error) {
	var labels string
	for _, p := range parts {
		l, err := dnsname.LabelsFromText(p)
		if err != nil {
			return "", err
		}
		labels += l
	}
	if len(labels)+len(n.Apex) > dnsname.MaxLen {
		return "", fmt.Errorf("%q with %v has over %d octets: write a shorter one", strings.Join(parts, "."), n.Apex, dnsname.MaxLen)
	}
	return dnsname.Name(labels) + n.Apex, nil
}

// ServiceOf maps a container to the service it publishes: nil where it is
// ignored, or has neither an address nor a CNAME. Values that can't be used are left out and
// returned as problems. Whether the container's state lets it be published
// is the caller's to ask.
func (n NameRules) ServiceOf(c *Container, engine string) (*Service, []Problem) {
	if _, ok := c.setting("$DNSDOCK_IGNORE", "$SERVICE_IGNORE", "com.dnsdock.ignore", "SERVICE_IGNORE"); ok {
		return nil, nil
	}
	m := &labelReader{Container: c}
	s := &Service{
		ID:      c.ID,
		CNAME:   m.cname(),
		TXT:     m.txt(),
		Ports:   m.ports(),
		TTL:     m.ttl(),
		Aliases: m.aliases(),
		Origin:  Origin{Engine: engine, Container: c.Name, Image: c.Image},
		State:   c.State,
		Since:   c.Since,
	}
	if s.CNAME == "" {
		s.setEnds(m.endpoints(n.Networks))
	}
	s.Sick = n.Health && c.Sick && !m.ignoresHealth()
	if n.Second.Compose {
		s.Compose = m.compose(n)
	}
	names, images, regions := m.names(), m.images(), m.regions()
	for {
		s.ContainerLabel, s.ImageLabel = names.text(), images.text()
		if region := regions.text(); region != "" {
			s.ImageLabel = strings.TrimPrefix(strings.TrimSuffix(s.ImageLabel, ".")+"."+region, ".")
		}
		err := n.SetOwnerNames(s)
		if err == nil {
			break
		}
		m.tooLong(err, &names, &images, &regions)
	}
	if len(s.Addrs) == 0 && s.CNAME == "" {
		return nil, m.problems
	}
	return s, m.problems
}

// TrueFirst is for comparing: what is true comes first.
func TrueFirst(first bool) int {
	if first {
		return 0
	}
	return 1
}

// IsHex reports whether s is at least n lower-case hex digits and nothing else.
func IsHex(s string, n int) bool {
	return len(s) >= n && strings.Trim(s, "0123456789abcdef") == ""
}

// setEnds sets the addresses of s to those of list, each once, in that order but
// those of one network together, those of internal networks last, and no more than are allowed.
func (s *Service) setEnds(list []Endpoint) {
	first := make(map[Network]int) // of list, for each network
	for i, e := range slices.Backward(list) {
		first[e.Network] = i
	}
	slices.SortStableFunc(list, func(a, b Endpoint) int {
		return cmp.Or(cmp.Compare(TrueFirst(!a.Internal), TrueFirst(!b.Internal)), cmp.Compare(first[a.Network], first[b.Network]))
	})
	seen := make(map[netip.Addr]bool)
	placed := false
	for _, e := range list {
		count := 0
		for _, a := range e.Addrs {
			if seen[a] || len(seen) == MaxItems/costOfAddr {
				continue
			}
			seen[a] = true
			s.Addrs = append(s.Addrs, a)
			count++
		}
		net := intern.Make(e.Network)
		switch last := len(s.NetRuns) - 1; {
		case count == 0:
		case last >= 0 && s.NetRuns[last].Net == net:
			s.NetRuns[last].Count += count
		default:
			s.NetRuns = append(s.NetRuns, addrRun{net, count})
		}
		placed = placed || count > 0 && e.Network != Network{}
	}
	if !placed {
		s.NetRuns = nil
	}
}

// A Port is one that a service listens on.
type Port struct {
	Number uint16
	Proto  string // "tcp", "udp" or "sctp"
	Name   string // a label of letters, digits, '-' and '_', in lower case; may be empty
}

// Compare orders ports by number.
func (p Port) Compare(q Port) int {
	return cmp.Or(cmp.Compare(p.Number, q.Number), strings.Compare(p.Proto, q.Proto), strings.Compare(p.Name, q.Name))
}

// String gives what parsePort reads.
func (p Port) String() string {
	s := fmt.Sprintf("%d/%s", p.Number, p.Proto)
	if p.Name != "" {
		s += "=" + p.Name
	}
	return s
}

// ParsePort reads PORT[/PROTOCOL][=NAME].
func ParsePort(s string) (p Port, err error) {
	s, label, named := strings.Cut(strings.TrimSpace(s), "=")
	if named {
		if p.Name, err = parsePortName(label); err != nil {
			return p, err
		}
	}
	number, proto, ok := strings.Cut(strings.ToLower(s), "/")
	p.Proto = proto
	if !ok {
		p.Proto = "tcp"
	}
	p.Number, err = parsePortNumber(number)
	if err != nil || !IsProto(p.Proto) {
		return p, errors.New("write PORT/PROTOCOL or PORT/PROTOCOL=NAME, as in 80/tcp, 53/udp or 8080/tcp=http")
	}
	return p, nil
}

func IsProto(s string) bool { return s == "tcp" || s == "udp" || s == "sctp" }

// parsePortNumber reads what has one spelling only.
func parsePortNumber(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || strconv.FormatUint(n, 10) != s {
		return 0, errors.New("write a port from 0 to 65535")
	}
	return uint16(n), nil
}

// parsePortName reads the name of a port, which with '_' before it is a label.
func parsePortName(s string) (string, error) {
	s = strings.ToLower(strings.TrimSpace(s))
	if s == "" || len(s) >= dnsname.MaxLabelLen || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
		return "", errors.New("write the port's name in letters, digits, '-' and '_', as in http")
	}
	return s, nil
}

// ParseTTL reads seconds in decimal, from 0 to 2^31-1 (RFC 2181 section 8).
func ParseTTL(s string) (uint32, error) {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 31)
	if err != nil {
		return 0, fmt.Errorf("write seconds from 0 to %d", MaxTTL)
	}
	return uint32(n), nil
}

// ParseAddr reads an IPv4 or IPv6 address without a zone.
func ParseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(strings.TrimSpace(s))
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, errors.New("write an IPv4 or IPv6 address, as in 192.168.0.3 or fd00::3")
	}
	return a.Unmap(), nil
}

// Paths returns each name at or above one of the owner names of s, the root
// left out; true for the owner names themselves.
func (s *Service) Paths() map[dnsname.Name]bool {
	all := make(map[dnsname.Name]bool)
	if s == nil {
		return all
	}
	for _, o := range s.OwnerNames {
		for n := o; n != dnsname.Root; n = n.Parent() {
			if _, ok := all[n]; !ok {
				all[n] = false
			}
		}
		all[o] = true
	}
	return all
}

// ComposePaths returns each name from the one of compose up to below the apex.
func (s *Service) ComposePaths(apex func(dnsname.Name) dnsname.Name) map[dnsname.Name]bool {
	all := make(map[dnsname.Name]bool)
	if s == nil || s.Compose == "" {
		return all
	}
	for n, top := s.Compose, apex(s.Compose); n != top && n != dnsname.Root; n = n.Parent() {
		all[n] = n == s.Compose
	}
	return all
}

// Patched returns a copy of s with p applied, and its owner names. Errors:
// errNoAddress, or which part can't be used.
func (n NameRules) Patched(s *Service, p Patch) (*Service, error) {
	ends := s.NetRuns
	if len(p.Addrs) > 0 || p.CNAME != nil && *p.CNAME != "" {
		ends = nil
	}
	p = Patch{&s.ContainerLabel, &s.ImageLabel, s.Addrs, &s.CNAME, &s.TXT, &s.Ports, &s.TTL, &s.Aliases}.Over(p)
	t := &Service{
		ID: s.ID, ContainerLabel: *p.Name, ImageLabel: *p.Image, Addrs: p.Addrs, NetRuns: ends, CNAME: *p.CNAME, TXT: *p.TXT, Ports: *p.Ports,
		TTL: *p.TTL, Aliases: *p.Aliases, Compose: s.Compose, Sick: s.Sick, Origin: s.Origin, State: s.State, Since: s.Since,
	}
	if len(t.Addrs) == 0 && t.CNAME == "" {
		return nil, ErrNoAddress
	}
	return t, n.SetOwnerNames(t)
}

// SortedKeys returns the keys of m in order, so that nothing that users see
// depends on a map's.
func SortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// Kinds tells what s has.
func (s *Service) Kinds() (k Kind) {
	if s.CNAME != "" {
		return HasCNAME
	}
	k = HasData
	for _, a := range s.Addrs {
		switch {
		case !a.IsValid():
			k |= HasA | HasAAAA | HasHost
		case a.Is4():
			k |= HasA
		default:
			k |= HasAAAA
		}
	}
	if len(s.NetRuns) > 1 || len(s.NetRuns) == 1 && s.NetRuns[0].Net.Value().Internal {
		k |= Varies
	}
	if s.Sick {
		k |= IsSick
	} else {
		k |= IsWell
	}
	if len(s.TXT) > 0 {
		k |= HasTXT
	}
	if len(s.Ports) > 0 {
		k |= HasPorts
	}
	if s.TTL == DefaultTTL {
		k |= HasDefault
	}
	return k
}

// AddrTexts returns addresses as parsePlace reads them.
func AddrTexts(addrs []netip.Addr) []string {
	list := make([]string, 0, len(addrs))
	for _, a := range addrs {
		if a.IsValid() {
			list = append(list, a.String())
		} else {
			list = append(list, "host")
		}
	}
	return list
}

// FirstFew returns as much of list as fits into a line of the log.
func FirstFew[T any](list []T) []T { return list[:min(len(list), 20)] }
