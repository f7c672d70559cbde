package main

import (
	"cmp"
	"errors"
	"fmt"
	"github.com/rayje/dnsdock/internal/dnsname"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	intern "unique"
)

// A service is what one container, or one call of the HTTP API, publishes:
// records under owner names. It is never written again once the registry
// holds it; a change is a new service.
type service struct {
	id      string         // the container's id, or what the API call chose
	name    string         // container part of the full name; may be empty
	image   string         // image part of the full name, with its region; may be empty
	addrs   []netip.Addr   // at least one unless there is a cname; those of internal networks last; not valid: the host's
	ends    []end          // whose networks addrs are on, in that order; nil: nobody's, set by hand
	cname   dnsname.Name   // the name that all of its own stand for, with no other records; empty: none
	txt     []string       // one TXT record each, in its octets
	ports   []port         // one SRV record each, by number, in a fixed order
	ttl     int            // seconds; defaultTTL: whatever the registry's default is
	aliases []dnsname.Name // further absolute names
	compose dnsname.Name   // <number>.<service>.<project>.<apex>; empty: compose did not make it
	sick    bool           // its health check fails
	origin  origin
	state   string    // of the container: "running", "exited", ...; empty for one made by hand
	since   time.Time // when it started, or was made; zero where nobody tells

	// owners are the names that it is found at: the full name, then the
	// aliases, without duplicates. naming.own derives them from the fields above.
	owners []dnsname.Name
}

// origin says where a service comes from. It is empty for one made by hand.
type origin struct {
	engine    string // URL of the engine, as configured
	container string // the container's name
	image     string // the image reference given to docker run
}

const (
	defaultTTL = -1        // in service.ttl: no TTL of its own
	maxTTL     = 1<<31 - 1 // seconds, RFC 2181 section 8
)

// An end says that the next addresses of a service are on a network.
type end struct {
	net   intern.Handle[network]
	count int
}

// addrsFor returns the addresses of s that a client is to get, the best first: those
// of the network that it is on, and it is near then; else those of all
// networks that can be reached from elsewhere.
func (s *service) addrsFor(client netip.Addr) (addrs []netip.Addr, near bool) {
	if s.ends == nil {
		return s.addrs, false
	}
	at, open := 0, 0
	for _, e := range s.ends {
		n := e.net.Value()
		if n.has(client) {
			return s.addrs[at : at+e.count], true
		}
		at += e.count
		if !n.internal {
			open = at // internal ones are the last
		}
	}
	return s.addrs[:open], false
}

// names are all that s has, the full one first.
func (s *service) names() []dnsname.Name {
	if s.compose == "" {
		return s.owners
	}
	return append(slices.Clip(s.owners), s.compose)
}

// network is the first that s is on.
func (s *service) network() (n intern.Handle[network]) {
	if len(s.ends) > 0 {
		n = s.ends[0].net
	}
	return n
}

// endpoints returns what setEnds took.
func (s *service) endpoints() (list []endpoint) {
	if s.ends == nil {
		return []endpoint{{addrs: s.addrs}}
	}
	at := 0
	for _, e := range s.ends {
		list = append(list, endpoint{network: e.net.Value(), addrs: s.addrs[at : at+e.count]})
		at += e.count
	}
	return list
}

// equal reports whether s and t publish the same; both may be nil.
func (s *service) equal(t *service) bool {
	if s == nil || t == nil {
		return s == t
	}
	return s.id == t.id && s.name == t.name && s.image == t.image && s.ttl == t.ttl && s.origin == t.origin && s.cname == t.cname && s.compose == t.compose && s.sick == t.sick && s.state == t.state && s.since.Equal(t.since) && slices.Equal(s.ends, t.ends) &&
		slices.Equal(s.txt, t.txt) && slices.Equal(s.ports, t.ports) && slices.Equal(s.addrs, t.addrs) && slices.Equal(s.aliases, t.aliases) && slices.Equal(s.owners, t.owners)
}

// naming makes services and their owner names. It is read-only after start.
type naming struct {
	apex    dnsname.Name // [environment.]domain: the name that all full names end in
	alias   bool         // each container is <container-name>.<apex> too
	all     bool         // containers that do not run are published too
	closest bool         // a query is answered from the closest owner name only

	compose  bool         // containers of compose are found by its names too
	health   bool         // health checks count
	networks []string     // whose addresses are answered, the best first; nil: all
	host     []netip.Addr // the host's addresses; nil: the one that a client asked
}

// own sets the owner names of s, which must not be published yet. The error
// says which part can't be used.
func (n naming) own(s *service) error {
	full, err := n.join(s.name, s.image)
	if err != nil {
		return err
	}
	owners := append([]dnsname.Name{full}, s.aliases...)
	if n.alias && s.name != "" && s.origin != (origin{}) {
		bare, err := n.join(s.name)
		if err != nil {
			return err
		}
		owners = append(owners, bare)
	}
	s.owners = unique(owners)
	return nil
}

// unique returns list without the values that were in it before. It may
// overwrite list.
func unique[T comparable](list []T) []T {
	seen := make(map[T]bool, len(list))
	return slices.DeleteFunc(list, func(v T) bool {
		had := seen[v]
		seen[v] = true
		return had
	})
}

// join makes the name of parts under the apex; an empty part is left out.
func (n naming) join(parts ...string) (dnsname.Name, error) {
	var labels string
	for _, p := range parts {
		l, err := dnsname.ParseLabels(p)
		if err != nil {
			return "", err
		}
		labels += l
	}
	if len(labels)+len(n.apex) > dnsname.MaxLen {
		return "", fmt.Errorf("%q with %v has over %d octets: write a shorter one", strings.Join(parts, "."), n.apex, dnsname.MaxLen)
	}
	return dnsname.Name(labels) + n.apex, nil
}

// A container is what the mapping to a service needs to know of one.
type container struct {
	id       string
	name     string            // without the slash that the API puts in front
	image    string            // the reference given to docker run
	imageID  string            // "sha256:" and hex digits
	state    string            // "running", "paused", "exited", ...
	sick     bool              // its health check fails
	since    time.Time         // when it started; zero where the engine does not tell
	env      map[string]string // variables
	labels   map[string]string
	networks []endpoint // by name
	exposed  []port     // without names
	shares   string     // the container whose network it has, by id or name; empty: its own

	others map[string][]endpoint // what the containers are answered with that its addresses are to be, by what reaches says; none of those that do not run
}

// A network is what is known of one by a container that is on it.
type network struct {
	name     string
	v4, v6   ipNet
	internal bool // reached from inside only
}

// An ipNet is a network in one family; not valid where it has none.
type ipNet struct {
	netip.Prefix
	gateway netip.Addr // the host, or a proxy of its that hides who asks; may be not valid
}

// has reports whether a client is on the network.
func (n network) has(client netip.Addr) bool { return n.v4.has(client) || n.v6.has(client) }

func (n network) hasGateway() bool { return n.v4.gateway.IsValid() || n.v6.gateway.IsValid() }

func (s ipNet) has(client netip.Addr) bool { return s.Contains(client) && client != s.gateway }

// An endpoint is a container's end of a network. Addresses without a network
// are set by hand.
type endpoint struct {
	network
	addrs    []netip.Addr
	priority int // of its gateway
}

// hostNetwork returns the end of a container that has the host's network.
func hostNetwork() endpoint {
	return endpoint{network: network{name: "host"}, addrs: []netip.Addr{{}}}
}

// A problem is a value of a container that can't be used.
type problem struct {
	source string // the variable or label, or "name" or "image" of the container itself
	value  string
	err    error
}

// serviceOf maps a container to the service it publishes: nil where it is
// ignored, or has neither an address nor a CNAME. Values that can't be used are left out and
// returned as problems. Whether the container's state lets it be published
// is the caller's to ask.
func (n naming) serviceOf(c *container, engine string) (*service, []problem) {
	if _, ok := c.setting("$DNSDOCK_IGNORE", "$SERVICE_IGNORE", "com.dnsdock.ignore", "SERVICE_IGNORE"); ok {
		return nil, nil
	}
	m := &mapping{container: c}
	s := &service{
		id:      c.id,
		cname:   m.cname(),
		txt:     m.txt(),
		ports:   m.ports(),
		ttl:     m.ttl(),
		aliases: m.aliases(),
		origin:  origin{engine: engine, container: c.name, image: c.image},
		state:   c.state,
		since:   c.since,
	}
	if s.cname == "" {
		s.setEnds(m.endpoints(n.networks))
	}
	s.sick = n.health && c.sick && !m.ignoresHealth()
	if n.compose {
		s.compose = m.compose(n)
	}
	names, images, regions := m.names(), m.images(), m.regions()
	for {
		s.name, s.image = names.text(), images.text()
		if region := regions.text(); region != "" {
			s.image = strings.TrimPrefix(strings.TrimSuffix(s.image, ".")+"."+region, ".")
		}
		err := n.own(s)
		if err == nil {
			break
		}
		m.tooLong(err, &names, &images, &regions)
	}
	if len(s.addrs) == 0 && s.cname == "" {
		return nil, m.problems
	}
	return s, m.problems
}

// value finds a setting: "$NAME" is a variable, anything else a label.
func (c *container) value(source string) (string, bool) {
	if v, ok := strings.CutPrefix(source, "$"); ok {
		s, ok := c.env[v]
		return strings.TrimSpace(s), ok
	}
	s, ok := c.labels[source]
	return strings.TrimSpace(s), ok
}

// setting finds the first of the sources that is set.
func (c *container) setting(sources ...string) (v string, ok bool) {
	for _, source := range sources {
		if v, ok = c.value(source); ok {
			break
		}
	}
	return v, ok
}

// A mapping collects the problems of one container while its parts are found.
type mapping struct {
	*container
	problems []problem
}

const (
	maxProblems = 10  // of one container that are told: it may have as many as its labels are long
	maxShown    = 100 // octets of a value that are shown

	// maxItems bounds what one service costs: 5,000 addresses, of which a TCP
	// reply holds 4,095, at costOfAddr, or aliases of 20,000 labels.
	maxItems   = 20000
	costOfAddr = 4
)

func addrCost(netip.Addr) int { return costOfAddr }

// order is for comparing: what is true comes first.
func order(first bool) int {
	if first {
		return 0
	}
	return 1
}

// problem notes that the value of a source can't be used.
func (m *mapping) problem(source, value string, err error) {
	if len(m.problems) < maxProblems {
		if len(value) > maxShown {
			value = value[:maxShown] + "..."
		}
		m.problems = append(m.problems, problem{strings.TrimPrefix(source, "$"), value, err})
	}
}

// first gives use each of the sources that is set, in order, until it takes
// one; what it refuses is a problem, and the next one is tried. An empty
// value sets nothing.
func (m *mapping) first(use func(source, value string) error, sources ...string) {
	for _, source := range sources {
		v, ok := m.value(source)
		if !ok || v == "" {
			continue
		}
		err := use(source, v)
		if err == nil {
			return
		}
		m.problem(source, v, err)
	}
}

// choices are the values that a part of the name may have, the best first.
type choices []choice

// A choice is a value that can be used by itself.
type choice struct{ source, value string }

// text is the value of the best choice, empty if there is none.
func (c choices) text() string {
	if len(c) == 0 {
		return ""
	}
	return c[0].value
}

// tooLong takes the longest of the best choices away, because together they
// make too long a name.
func (m *mapping) tooLong(err error, parts ...*choices) {
	var longest *choices
	for _, p := range parts {
		if len(*p) > 0 && (longest == nil || len(p.text()) > len(longest.text())) {
			longest = p
		}
	}
	m.problem((*longest)[0].source, longest.text(), err)
	*longest = (*longest)[1:]
}

// choose returns what of the sources can be used, and the container's own
// value after them.
func (m *mapping) choose(ownSource, own string, sources ...string) (list choices) {
	for _, source := range append(sources, ownSource) {
		c := choice{source, own}
		if source != ownSource {
			var ok bool
			if c.value, ok = m.value(source); !ok || c.value == "" && !isTags(source) {
				continue
			}
		}
		if isTags(source) {
			c.value, _, _ = strings.Cut(c.value, ",")
			c.value = strings.TrimSpace(c.value)
		}
		_, err := dnsname.ParseLabels(c.value)
		switch {
		case err == nil:
			list = append(list, c)
		case len(list) == 0: // else nobody misses it
			m.problem(source, c.value, err)
		}
	}
	return list
}

// isTags tells the sources of which the first tag counts, and of which an
// empty value means: no container part.
func isTags(source string) bool { return strings.HasSuffix(strings.ToLower(source), "tags") }

// names finds the container part: an override, else the container's name.
func (m *mapping) names() choices {
	return m.choose("name", m.name, "$DNSDOCK_NAME", "com.dnsdock.name", "$SERVICE_TAGS", "com.dnsdock.tags", "SERVICE_TAGS")
}

// images finds the image part: an override, else the image's name.
func (m *mapping) images() choices {
	return m.choose("image", imageName(m.image, m.imageID), "$DNSDOCK_IMAGE", "com.dnsdock.image", "$SERVICE_NAME", "SERVICE_NAME")
}

// regions finds what is appended to the image part.
func (m *mapping) regions() choices {
	list := m.choose("", "", "$SERVICE_REGION", "com.dnsdock.region", "SERVICE_REGION")
	return list[:len(list)-1] // there is no region of the container's own
}

// imageName is the last path element of an image reference, without tag and
// digest; empty where the reference is an image ID.
func imageName(ref, id string) string {
	ref, _, _ = strings.Cut(ref, "@")
	if strings.HasPrefix(ref, "sha256:") {
		return ""
	}
	if isHex(ref, 4) && strings.HasPrefix(strings.TrimPrefix(id, "sha256:"), ref) {
		return ""
	}
	ref = ref[strings.LastIndexByte(ref, '/')+1:]
	ref, _, _ = strings.Cut(ref, ":")
	return ref
}

// isHex reports whether s is at least n lower-case hex digits and nothing else.
func isHex(s string, n int) bool {
	return len(s) >= n && strings.Trim(s, "0123456789abcdef") == ""
}

// endpoints finds what to answer: an override, else the ends of the networks
// that are wanted and that the prefix lets through.
func (m *mapping) endpoints(networks []string) (list []endpoint) {
	if places := m.places(); len(places) > 0 {
		for _, p := range places {
			if p.container != "" {
				list = append(list, m.others[p.container]...)
			} else {
				list = append(list, endpoint{addrs: []netip.Addr{p.addr}})
			}
		}
		return list
	}
	if own := items(m, parseNetwork, func(string) int { return 1 }, "$DNSDOCK_NETWORK", "com.dnsdock.network"); len(own) > 0 {
		networks = own
	}
	within := m.prefix()
	for _, e := range m.networks {
		isOut := func(a netip.Addr) bool { return a.IsValid() && !within(a) }
		e.addrs = slices.DeleteFunc(slices.Clone(e.addrs), isOut)
		if networks == nil || slices.Contains(networks, e.name) {
			list = append(list, e)
		}
	}
	if networks == nil {
		return gatewayFirst(list)
	}
	slices.SortStableFunc(list, func(a, b endpoint) int {
		return cmp.Compare(slices.Index(networks, a.name), slices.Index(networks, b.name))
	})
	return list
}

// gatewayFirst puts the network that has the default gateway before the
// others, which are by name: it is the one of the highest priority, then
// the first by name, of those that are not internal and have a gateway.
func gatewayFirst(list []endpoint) []endpoint {
	if len(list) < 2 {
		return list
	}
	first := slices.MinFunc(list, func(a, b endpoint) int {
		return cmp.Or(cmp.Compare(order(!a.internal), order(!b.internal)), cmp.Compare(order(a.hasGateway()), order(b.hasGateway())),
			cmp.Compare(b.priority, a.priority), strings.Compare(a.name, b.name))
	}).name
	slices.SortStableFunc(list, func(a, b endpoint) int {
		return cmp.Or(cmp.Compare(order(a.name == first), order(b.name == first)), strings.Compare(a.name, b.name))
	})
	return list
}

// setEnds sets the addresses of s to those of list, each once, in that order but
// those of one network together, those of internal networks last, and no more than are allowed.
func (s *service) setEnds(list []endpoint) {
	first := make(map[network]int) // of list, for each network
	for i, e := range slices.Backward(list) {
		first[e.network] = i
	}
	slices.SortStableFunc(list, func(a, b endpoint) int {
		return cmp.Or(cmp.Compare(order(!a.internal), order(!b.internal)), cmp.Compare(first[a.network], first[b.network]))
	})
	seen := make(map[netip.Addr]bool)
	placed := false
	for _, e := range list {
		count := 0
		for _, a := range e.addrs {
			if seen[a] || len(seen) == maxItems/costOfAddr {
				continue
			}
			seen[a] = true
			s.addrs = append(s.addrs, a)
			count++
		}
		net := intern.Make(e.network)
		switch last := len(s.ends) - 1; {
		case count == 0:
		case last >= 0 && s.ends[last].net == net:
			s.ends[last].count += count
		default:
			s.ends = append(s.ends, end{net, count})
		}
		placed = placed || count > 0 && e.network != network{}
	}
	if !placed {
		s.ends = nil
	}
}

// A place is one of the addresses that a container is answered with instead of
// its own.
type place struct {
	addr      netip.Addr // not valid: the host's
	container string     // whose they are; empty: addr
}

// parsePlace reads an address, "host" or "container:NAME".
func parsePlace(s string) (p place, err error) {
	if s == "host" {
		return p, nil
	}
	if name, ok := strings.CutPrefix(s, "container:"); ok {
		// It becomes part of a path: "." and ".." are no names.
		p.container = strings.TrimPrefix(name, "/")
		if strings.Trim(p.container, nameChars) != "" || strings.TrimLeft(p.container, "_.-") != p.container || p.container == "" {
			return p, errors.New("write a container's name, as in container:proxy")
		}
		return p, nil
	}
	if p.addr, err = parseAddr(s); err != nil {
		err = errors.New("write an IPv4 or IPv6 address, host or container:NAME, as in 192.168.0.3, fd00::3 or container:proxy")
	}
	return p, err
}

// nameChars are those that names of containers and networks are made of.
const nameChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"

// parseNetwork reads the name of a network.
func parseNetwork(s string) (string, error) {
	if strings.ContainsAny(s, " \t=") {
		return "", errors.New("write names of networks with commas between, as in backend,bridge")
	}
	return s, nil
}

func (m *mapping) places() []place {
	return items(m, parsePlace, func(place) int { return costOfAddr }, "$DNSDOCK_IPADDRESS", "com.dnsdock.ip_addr")
}

// reaches returns the names of the containers whose addresses c is to be answered with.
func (c *container) reaches() (names []string) {
	m := &mapping{container: c}
	for _, p := range m.places() {
		if p.container != "" {
			names = append(names, p.container)
		}
	}
	return names
}

// compose finds the name that compose's labels give: the number of the
// container, the service and the project. It is empty without them, and for
// what docker-compose run started.
//
// https://github.com/docker/compose/blob/main/pkg/api/labels.go
func (m *mapping) compose(n naming) dnsname.Name {
	const prefix = "com.docker.compose."
	project, service := m.labels[prefix+"project"], m.labels[prefix+"service"]
	if oneoff := m.labels[prefix+"oneoff"]; project == "" || service == "" || strings.EqualFold(oneoff, "true") {
		return ""
	}
	number := m.labels[prefix+"container-number"]
	full, err := n.join(number, service, project)
	if err == nil && strings.Contains(project, ".") {
		err = errors.New("a project with a dot in its name has no names of compose")
	}
	if err != nil {
		m.problem(prefix+"service", number+"."+service+"."+project, err)
		return ""
	}
	return full
}

// items reads the first of the sources that is set, values with commas
// between, at a cost of maxItems in all. Each value that can't be used is a
// problem.
func items[T comparable](m *mapping, parse func(string) (T, error), cost func(T) int, sources ...string) (list []T) {
	m.first(func(source, v string) error {
		left := maxItems
		for text := range strings.SplitSeq(v, ",") {
			if text = strings.TrimSpace(text); text == "" {
				continue
			}
			item, err := parse(text)
			if err != nil {
				m.problem(source, text, err)
				continue
			}
			if left -= cost(item); left < 0 {
				m.problem(source, text, errTooMany)
				break
			}
			list = append(list, item)
		}
		list = unique(list)
		return nil
	}, sources...)
	return list
}

var errTooMany = errors.New("too many: at most 5,000 addresses, or aliases of 20,000 labels")

// prefix returns the filter that a prefix override asks for.
func (m *mapping) prefix() (within func(netip.Addr) bool) {
	within = func(netip.Addr) bool { return true }
	m.first(func(_, v string) error {
		if p, err := netip.ParsePrefix(v); err == nil {
			within = p.Contains
			return nil
		}
		if strings.Trim(strings.ToLower(v), "0123456789abcdef.:") != "" {
			return errors.New("write the beginning of an address or a CIDR, as in 172.17. or 172.17.0.0/16")
		}
		within = func(a netip.Addr) bool { return strings.HasPrefix(a.String(), strings.ToLower(v)) }
		return nil
	}, "$DNSDOCK_PREFIX", "com.dnsdock.prefix")
	return within
}

func (m *mapping) ttl() (ttl int) {
	ttl = defaultTTL
	m.first(func(_, v string) (err error) {
		n, err := parseTTL(v)
		if err == nil {
			ttl = int(n)
		}
		return err
	}, "$DNSDOCK_TTL", "com.dnsdock.ttl")
	return ttl
}

func (m *mapping) ignoresHealth() (ignores bool) {
	m.first(func(_, v string) error {
		if ignores = v == "ignore"; !ignores {
			return errors.New("write ignore, or leave it out")
		}
		return nil
	}, "$DNSDOCK_HEALTH", "com.dnsdock.health")
	return ignores
}

func (m *mapping) aliases() []dnsname.Name {
	return items(m, dnsname.ParseAlias, dnsname.Name.Labels, "$DNSDOCK_ALIAS", "com.dnsdock.alias")
}

func (m *mapping) cname() (target dnsname.Name) {
	m.first(func(_, v string) (err error) {
		target, err = dnsname.ParseTarget(v)
		return err
	}, "$DNSDOCK_CNAME", "com.dnsdock.cname")
	return target
}

// txt finds the TXT records: one for each line, as they hold commas.
func (m *mapping) txt() (list []string) {
	m.first(func(_, v string) (err error) {
		list, err = parseTXT(strings.Split(v, "\n"))
		return err
	}, "$DNSDOCK_TXT", "com.dnsdock.txt")
	return list
}

const (
	maxTXT   = 8192 // octets of a service's TXT records in all, with one for each: a reply holds 64 KiB
	maxPorts = 1000 // of a service: an image may expose all 65,536
)

// parseTXT leaves out what is empty.
func parseTXT(lines []string) (list []string, err error) {
	left := maxTXT
	for _, l := range lines {
		if l = strings.TrimSpace(l); l == "" {
			continue
		}
		if left -= 1 + len(l); left < 0 {
			return nil, fmt.Errorf("too long: at most %d octets in all", maxTXT)
		}
		list = append(list, l)
	}
	return unique(list), nil
}

// ports finds the SRV records: the ports that the image or docker run
// exposes, and those of Registrator's SERVICE_<port>_NAME, which names them
// too; SERVICE_<port>_IGNORE leaves one out.
func (m *mapping) ports() (list []port) {
	exposed := make(map[uint16]bool)
	for _, p := range m.exposed {
		exposed[p.number] = true
	}
	list = slices.Clone(m.exposed)
	for _, n := range m.namedPorts() {
		if !exposed[n] {
			list = append(list, port{number: n, proto: "tcp"})
		}
	}
	list = slices.DeleteFunc(list, func(p port) bool {
		source := fmt.Sprintf("SERVICE_%d_IGNORE", p.number)
		_, inEnv := m.value("$" + source)
		_, inLabels := m.value(source)
		return inEnv || inLabels
	})
	slices.SortFunc(list, port.compare)
	if len(list) > maxPorts {
		m.problem("ports", fmt.Sprint(len(list)), errPorts)
		list = list[:maxPorts]
	}
	for i := range list {
		source := fmt.Sprintf("SERVICE_%d_NAME", list[i].number)
		m.first(func(_, v string) (err error) {
			list[i].name, err = parsePortName(v)
			return err
		}, "$"+source, source)
	}
	return list
}

var errPorts = fmt.Errorf("too many: at most %d ports", maxPorts)

// namedPorts returns the ports that a SERVICE_<port>_NAME speaks of, each once.
func (m *mapping) namedPorts() (list []uint16) {
	for _, settings := range []map[string]string{m.env, m.labels} {
		for k := range settings {
			text, ok := strings.CutPrefix(k, "SERVICE_")
			text, isName := strings.CutSuffix(text, "_NAME")
			if !ok || !isName {
				continue
			}
			if n, err := parsePortNumber(text); err == nil {
				list = append(list, n)
			}
		}
	}
	return unique(list)
}

// A port is one that a service listens on.
type port struct {
	number uint16
	proto  string // "tcp", "udp" or "sctp"
	name   string // a label of letters, digits, '-' and '_', in lower case; may be empty
}

// compare orders ports by number.
func (p port) compare(q port) int {
	return cmp.Or(cmp.Compare(p.number, q.number), strings.Compare(p.proto, q.proto), strings.Compare(p.name, q.name))
}

// String gives what parsePort reads.
func (p port) String() string {
	s := fmt.Sprintf("%d/%s", p.number, p.proto)
	if p.name != "" {
		s += "=" + p.name
	}
	return s
}

// parsePort reads PORT[/PROTOCOL][=NAME].
func parsePort(s string) (p port, err error) {
	s, label, named := strings.Cut(strings.TrimSpace(s), "=")
	if named {
		if p.name, err = parsePortName(label); err != nil {
			return p, err
		}
	}
	number, proto, ok := strings.Cut(strings.ToLower(s), "/")
	p.proto = proto
	if !ok {
		p.proto = "tcp"
	}
	p.number, err = parsePortNumber(number)
	if err != nil || !isProto(p.proto) {
		return p, errors.New("write PORT/PROTOCOL or PORT/PROTOCOL=NAME, as in 80/tcp, 53/udp or 8080/tcp=http")
	}
	return p, nil
}

func isProto(s string) bool { return s == "tcp" || s == "udp" || s == "sctp" }

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

// parseTTL reads seconds in decimal, from 0 to 2^31-1 (RFC 2181 section 8).
func parseTTL(s string) (uint32, error) {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 31)
	if err != nil {
		return 0, fmt.Errorf("write seconds from 0 to %d", maxTTL)
	}
	return uint32(n), nil
}

// parseAddr reads an IPv4 or IPv6 address without a zone.
func parseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(strings.TrimSpace(s))
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, errors.New("write an IPv4 or IPv6 address, as in 192.168.0.3 or fd00::3")
	}
	return a.Unmap(), nil
}

// paths returns each name at or above one of the owner names of s, the root
// left out; true for the owner names themselves.
func (s *service) paths() map[dnsname.Name]bool {
	all := make(map[dnsname.Name]bool)
	if s == nil {
		return all
	}
	for _, o := range s.owners {
		for n := o; n != dnsname.Root; n = n.Parent() {
			if _, ok := all[n]; !ok {
				all[n] = false
			}
		}
		all[o] = true
	}
	return all
}

// composePaths returns each name from the one of compose up to below the apex.
func (s *service) composePaths(apex func(dnsname.Name) dnsname.Name) map[dnsname.Name]bool {
	all := make(map[dnsname.Name]bool)
	if s == nil || s.compose == "" {
		return all
	}
	for n, top := s.compose, apex(s.compose); n != top && n != dnsname.Root; n = n.Parent() {
		all[n] = n == s.compose
	}
	return all
}

// A patch is what the HTTP API changes of a service; nil leaves a property
// as it is.
type patch struct {
	name    *string
	image   *string
	addrs   []netip.Addr
	cname   *dnsname.Name // not empty: in place of all addresses, and the other way round
	txt     *[]string
	ports   *[]port
	ttl     *int
	aliases *[]dnsname.Name
}

// over returns p with what q sets in place of its own.
func (p patch) over(q patch) patch {
	p.name, p.image = cmp.Or(q.name, p.name), cmp.Or(q.image, p.image)
	p.txt, p.ports = cmp.Or(q.txt, p.txt), cmp.Or(q.ports, p.ports)
	p.ttl, p.aliases = cmp.Or(q.ttl, p.ttl), cmp.Or(q.aliases, p.aliases)
	switch {
	case q.cname != nil && *q.cname != "":
		p.cname, p.addrs = q.cname, nil
	case len(q.addrs) > 0:
		p.cname, p.addrs = new(dnsname.Name), q.addrs
	case q.cname != nil:
		p.cname = q.cname
	}
	return p
}

var errNoAddress = errors.New(`there would be no address: write one, as in "ip": "192.168.0.3", or a "cname"`)

// patched returns a copy of s with p applied, and its owner names. Errors:
// errNoAddress, or which part can't be used.
func (n naming) patched(s *service, p patch) (*service, error) {
	ends := s.ends
	if len(p.addrs) > 0 || p.cname != nil && *p.cname != "" {
		ends = nil
	}
	p = patch{&s.name, &s.image, s.addrs, &s.cname, &s.txt, &s.ports, &s.ttl, &s.aliases}.over(p)
	t := &service{
		id: s.id, name: *p.name, image: *p.image, addrs: p.addrs, ends: ends, cname: *p.cname, txt: *p.txt, ports: *p.ports,
		ttl: *p.ttl, aliases: *p.aliases, compose: s.compose, sick: s.sick, origin: s.origin, state: s.state, since: s.since,
	}
	if len(t.addrs) == 0 && t.cname == "" {
		return nil, errNoAddress
	}
	return t, n.own(t)
}

// sortedKeys returns the keys of m in order, so that nothing that users see
// depends on a map's.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
