package publish

import (
	"maps"
	"net/netip"
	"slices"
	"time"
	intern "unique"

	"github.com/rayje/dnsdock/internal/dnsname"
)

// A Service is what one container, or one call of the HTTP API, publishes:
// records under owner names. It is never written again once it is published; a
// change is a new Service.
type Service struct {
	ID             string       // the container's ID, or what the API call chose
	ContainerLabel string       // container part of the full name: no label, one or several
	ImageLabel     string       // image part of the full name, with the region: as above
	Addrs          []netip.Addr // none if there is a CNAME; those of internal networks last; not valid: the host's
	NetRuns        []addrRun    // the networks that Addrs are on, in that order; nil: on none, set by hand
	Ports          []Port       // one SRV record each, by number
	TTL            int          // seconds, or DefaultTTL
	Sick           bool         // its health check fails
	Origin         Origin
	*Extras        // never nil

	// OwnerNames are the names that the name rule finds the service by: the full
	// name, HostName and the aliases, each once. NameRules.SetOwnerNames derives
	// them from the fields above.
	OwnerNames []dnsname.Name
	// SecondNames are names under the apex that are answered only where no owner
	// name of any service matches.
	SecondNames []dnsname.Name
}

// Extras are what few services have. Those that have none share noExtras, so
// that 100,000 services take 10 MB less.
type Extras struct {
	CNAME    dnsname.Name   // the name that all names of the service stand for; empty: none
	TXT      []string       // one TXT record each
	Aliases  []dnsname.Name // further absolute names
	HostName dnsname.Name   // what the container calls itself, a full name; empty: none
	Outside  *Outside       // for clients on none of the networks; nil: they get Addrs and Ports too
	VIP      string         // ID of the swarm's service whose virtual addresses these are; empty: they are none
	IsNode   bool           // it is a machine of a swarm, whose address has its PTR record elsewhere
}

var noExtras Extras // is never written

// shareExtras makes s use noExtras if it has none. Its extras must not be written after that.
func (s *Service) shareExtras() {
	if s.CNAME == "" && s.HostName == "" && len(s.TXT)+len(s.Aliases) == 0 && s.Outside == nil && s.VIP == "" &&
		!s.IsNode {
		s.Extras = &noExtras
	}
}

// An Origin says where a service comes from. Of a service made by hand only Since
// is set.
type Origin struct {
	Engine    string    // URL of the engine, as configured
	Container string    // the container's name
	Image     string    // the image reference given to docker run
	State     string    // of the container: "running", "exited", ...
	Since     time.Time // when the container started, or the service was made; zero if unknown
	Task      *Task     // of a swarm; nil: none
	Notes     *Notes    // nil: none
}

// An addrRun says that the next addresses of a service are on a network.
type addrRun struct {
	Net      intern.Handle[Network]
	Count    int32
	Internal bool // as the network says, near at hand
}

// shared returns s in memory that it shares with all equal strings: thousands of
// containers may have one image, and one state.
func shared(s string) string { return intern.Make(s).Value() }

// IsByHand reports whether s was made through the API.
func (s *Service) IsByHand() bool { return s.Origin.Engine == "" }

// IsStopped reports whether s is of a container that does not run. Its engine may
// have given its addresses to another one.
func (s *Service) IsStopped() bool {
	switch s.Origin.State {
	case "", "running", "paused", "restarting":
		return false
	}
	return s.NetRuns != nil
}

// CatchesAll reports whether s has the names in its domain that are unknown otherwise.
func (s *Service) CatchesAll() bool { return slices.Contains(s.Aliases, dnsname.Star) }

// AddrsFor returns the addresses of s that a client gets, the best first: those
// on its own network, if it is on one with s; else those of the machine that
// publishes its ports, or those on all networks that can be reached from elsewhere,
// where virtual ones are not.
// The client is known by the addresses that it is given.
func (s *Service) AddrsFor(client ...netip.Addr) (addrs []netip.Addr, near bool) {
	if s.NetRuns == nil && s.Outside == nil {
		return s.Addrs, false
	}
	at, open := 0, 0
	for _, run := range s.NetRuns {
		next := at + int(run.Count)
		if run.Net.Value().Has(client...) {
			return s.Addrs[at:next], true
		}
		at = next
		if !run.Internal {
			open = at // internal ones are the last
		}
	}
	switch {
	case s.Outside != nil:
		return s.Outside.Addrs, false
	case s.VIP != "":
		return nil, false
	}
	return s.Addrs[:open], false
}

// AllNames returns the owner names and the second names.
func (s *Service) AllNames() []dnsname.Name {
	return append(slices.Clip(s.OwnerNames), s.SecondNames...)
}

// Network returns the first network that s is on.
func (s *Service) Network() (n intern.Handle[Network]) {
	if len(s.NetRuns) > 0 {
		n = s.NetRuns[0].Net
	}
	return n
}

// Endpoints returns the endpoints that the addresses of s come from.
func (s *Service) Endpoints() (list []Endpoint) {
	if s.NetRuns == nil {
		return []Endpoint{{Addrs: s.Addrs}}
	}
	at := 0
	for _, run := range s.NetRuns {
		next := at + int(run.Count)
		list = append(list, Endpoint{Network: run.Net.Value(), Addrs: s.Addrs[at:next]})
		at = next
	}
	return list
}

// addRun notes that the last count addresses of s are on a network.
func (s *Service) addRun(network Network, count int) {
	n := intern.Make(network)
	switch last := len(s.NetRuns) - 1; {
	case count == 0:
	case last >= 0 && s.NetRuns[last].Net == n:
		s.NetRuns[last].Count += int32(count)
	default:
		s.NetRuns = append(s.NetRuns, addrRun{n, int32(count), network.Internal})
	}
}

// Equal reports whether s and t publish the same. Both may be nil.
func (s *Service) Equal(t *Service) bool {
	if s == nil || t == nil {
		return s == t
	}
	return s.ID == t.ID && s.ContainerLabel == t.ContainerLabel && s.ImageLabel == t.ImageLabel &&
		s.TTL == t.TTL && s.CNAME == t.CNAME && s.HostName == t.HostName && s.Sick == t.Sick &&
		s.Origin.equal(t.Origin) &&
		slices.Equal(s.Addrs, t.Addrs) && slices.Equal(s.NetRuns, t.NetRuns) &&
		s.Outside.equal(t.Outside) && s.VIP == t.VIP && s.IsNode == t.IsNode &&
		slices.Equal(s.TXT, t.TXT) && slices.Equal(s.Ports, t.Ports) && slices.Equal(s.Aliases, t.Aliases) &&
		slices.Equal(s.OwnerNames, t.OwnerNames) && slices.Equal(s.SecondNames, t.SecondNames)
}

func (o Origin) equal(p Origin) bool {
	return o.Engine == p.Engine && o.Container == p.Container && o.Image == p.Image &&
		o.State == p.State && o.Since.Equal(p.Since) && o.Task.equal(p.Task) && o.Notes.equal(p.Notes)
}

// Paths returns each name at or above one of names, but not above top. Its value
// is true for the names themselves.
func Paths(names []dnsname.Name, top func(dnsname.Name) dnsname.Name) map[dnsname.Name]bool {
	all := make(map[dnsname.Name]bool)
	for _, name := range names {
		end := top(name)
		for n := name; n != end && n != dnsname.Root; n = n.Parent() {
			all[n] = all[n] || n == name
		}
	}
	return all
}

// Dedup returns list without the values that were in it before. It may
// overwrite list.
func Dedup[T comparable](list []T) []T {
	if len(list) < 2 {
		return list
	}
	seen := make(map[T]bool, len(list))
	return slices.DeleteFunc(list, func(v T) bool {
		had := seen[v]
		seen[v] = true
		return had
	})
}

// TrueFirst is for comparing: true sorts before false.
func TrueFirst(b bool) int {
	if b {
		return 0
	}
	return 1
}

// IsHex reports whether s is at least n lower-case hexadecimal digits and nothing else.
func IsHex(s string, n int) bool {
	if len(s) < n {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// SortedKeys returns the keys of m in order, so that nothing that users see
// depends on the order of a map.
func SortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// FirstFew returns as much of list as fits into a line of the log.
func FirstFew[T any](list []T) []T { return list[:min(len(list), 20)] }
