package publish

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/rayje/dnsdock/internal/dnsname"
)

// A Container is what the mapping to a service needs to know of one.
type Container struct {
	ID       string
	Name     string            // without the slash that the API puts in front
	Image    string            // the reference given to docker run
	ImageID  string            // "sha256:" and hex digits
	State    string            // "running", "paused", "exited", ...
	Sick     bool              // its health check fails
	Since    time.Time         // when it started; zero where the engine does not tell
	Env      map[string]string // variables
	Labels   map[string]string
	Networks []Endpoint // by name
	Exposed  []Port     // without names
	Shares   string     // the container whose network it has, by id or name; empty: its own

	Others map[string][]Endpoint // what the containers are answered with that its addresses are to be, by what reaches says; none of those that do not run
}

// A Problem is a value of a container that can't be used.
type Problem struct {
	Source string // the variable or label, or "name" or "image" of the container itself
	Value  string
	Err    error
}

// Value finds a setting: "$NAME" is a variable, anything else a label.
func (c *Container) value(source string) (string, bool) {
	if v, ok := strings.CutPrefix(source, "$"); ok {
		s, ok := c.Env[v]
		return strings.TrimSpace(s), ok
	}
	s, ok := c.Labels[source]
	return strings.TrimSpace(s), ok
}

// setting finds the first of the sources that is set.
func (c *Container) setting(sources ...string) (v string, ok bool) {
	for _, source := range sources {
		if v, ok = c.value(source); ok {
			break
		}
	}
	return v, ok
}

// A labelReader collects the problems of one container while its parts are found.
type labelReader struct {
	*Container
	problems []Problem
}

const (
	MaxProblems = 10  // of one container that are told: it may have as many as its labels are long
	maxShown    = 100 // octets of a value that are shown

	// maxItems bounds what one service costs: 5,000 addresses, of which a TCP
	// reply holds 4,095, at costOfAddr, or aliases of 20,000 labels.
	MaxItems   = 20000
	costOfAddr = 4
)

func AddrCost(netip.Addr) int { return costOfAddr }

// Problem notes that the value of a source can't be used.
func (m *labelReader) problem(source, value string, err error) {
	if len(m.problems) < MaxProblems {
		if len(value) > maxShown {
			value = value[:maxShown] + "..."
		}
		m.problems = append(m.problems, Problem{strings.TrimPrefix(source, "$"), value, err})
	}
}

// first gives use each of the sources that is set, in order, until it takes
// one; what it refuses is a problem, and the next one is tried. An empty
// value sets nothing.
func (m *labelReader) first(use func(source, value string) error, sources ...string) {
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
func (m *labelReader) tooLong(err error, parts ...*choices) {
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
func (m *labelReader) choose(ownSource, own string, sources ...string) (list choices) {
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
		_, err := dnsname.LabelsFromText(c.value)
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

// Names finds the container part: an override, else the container's name.
func (m *labelReader) names() choices {
	return m.choose("name", m.Name, "$DNSDOCK_NAME", "com.dnsdock.name", "$SERVICE_TAGS", "com.dnsdock.tags", "SERVICE_TAGS")
}

// images finds the image part: an override, else the image's name.
func (m *labelReader) images() choices {
	return m.choose("image", ImageName(m.Image, m.ImageID), "$DNSDOCK_IMAGE", "com.dnsdock.image", "$SERVICE_NAME", "SERVICE_NAME")
}

// regions finds what is appended to the image part.
func (m *labelReader) regions() choices {
	list := m.choose("", "", "$SERVICE_REGION", "com.dnsdock.region", "SERVICE_REGION")
	return list[:len(list)-1] // there is no region of the container's own
}

// ImageName is the last path element of an image reference, without tag and
// digest; empty where the reference is an image ID.
func ImageName(ref, id string) string {
	ref, _, _ = strings.Cut(ref, "@")
	if strings.HasPrefix(ref, "sha256:") {
		return ""
	}
	if IsHex(ref, 4) && strings.HasPrefix(strings.TrimPrefix(id, "sha256:"), ref) {
		return ""
	}
	ref = ref[strings.LastIndexByte(ref, '/')+1:]
	ref, _, _ = strings.Cut(ref, ":")
	return ref
}

// Endpoints finds what to answer: an override, else the ends of the networks
// that are wanted and that the prefix lets through.
func (m *labelReader) endpoints(networks []string) (list []Endpoint) {
	if places := m.places(); len(places) > 0 {
		for _, p := range places {
			if p.Container != "" {
				list = append(list, m.Others[p.Container]...)
			} else {
				list = append(list, Endpoint{Addrs: []netip.Addr{p.Addr}})
			}
		}
		return list
	}
	if own := items(m, ParseNetwork, func(string) int { return 1 }, "$DNSDOCK_NETWORK", "com.dnsdock.network"); len(own) > 0 {
		networks = own
	}
	within := m.prefix()
	for _, e := range m.Networks {
		isOut := func(a netip.Addr) bool { return a.IsValid() && !within(a) }
		e.Addrs = slices.DeleteFunc(slices.Clone(e.Addrs), isOut)
		if networks == nil || slices.Contains(networks, e.Name) {
			list = append(list, e)
		}
	}
	if networks == nil {
		return gatewayFirst(list)
	}
	slices.SortStableFunc(list, func(a, b Endpoint) int {
		return cmp.Compare(slices.Index(networks, a.Name), slices.Index(networks, b.Name))
	})
	return list
}

// A Place is one of the addresses that a container is answered with instead of
// its own.
type Place struct {
	Addr      netip.Addr // not valid: the host's
	Container string     // whose they are; empty: addr
}

// ParsePlace reads an address, "host" or "container:NAME".
func ParsePlace(s string) (p Place, err error) {
	if s == "host" {
		return p, nil
	}
	if name, ok := strings.CutPrefix(s, "container:"); ok {
		// It becomes part of a path: "." and ".." are no names.
		p.Container = strings.TrimPrefix(name, "/")
		if strings.Trim(p.Container, nameChars) != "" || strings.TrimLeft(p.Container, "_.-") != p.Container || p.Container == "" {
			return p, errors.New("write a container's name, as in container:proxy")
		}
		return p, nil
	}
	if p.Addr, err = ParseAddr(s); err != nil {
		err = errors.New("write an IPv4 or IPv6 address, host or container:NAME, as in 192.168.0.3, fd00::3 or container:proxy")
	}
	return p, err
}

// nameChars are those that names of containers and networks are made of.
const nameChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"

// ParseNetwork reads the name of a network.
func ParseNetwork(s string) (string, error) {
	if strings.ContainsAny(s, " \t=") {
		return "", errors.New("write names of networks with commas between, as in backend,bridge")
	}
	return s, nil
}

func (m *labelReader) places() []Place {
	return items(m, ParsePlace, func(Place) int { return costOfAddr }, "$DNSDOCK_IPADDRESS", "com.dnsdock.ip_addr")
}

// Reaches returns the names of the containers whose addresses c is to be answered with.
func (c *Container) Reaches() (names []string) {
	m := &labelReader{Container: c}
	for _, p := range m.places() {
		if p.Container != "" {
			names = append(names, p.Container)
		}
	}
	return names
}

// Compose finds the name that compose's labels give: the number of the
// container, the service and the project. It is empty without them, and for
// what docker-compose run started.
//
// https://github.com/docker/compose/blob/main/pkg/api/labels.go
func (m *labelReader) compose(n NameRules) dnsname.Name {
	const prefix = "com.docker.compose."
	project, service := m.Labels[prefix+"project"], m.Labels[prefix+"service"]
	if oneoff := m.Labels[prefix+"oneoff"]; project == "" || service == "" || strings.EqualFold(oneoff, "true") {
		return ""
	}
	number := m.Labels[prefix+"container-number"]
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
func items[T comparable](m *labelReader, parse func(string) (T, error), cost func(T) int, sources ...string) (list []T) {
	m.first(func(source, v string) error {
		left := MaxItems
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
				m.problem(source, text, ErrTooMany)
				break
			}
			list = append(list, item)
		}
		list = Dedup(list)
		return nil
	}, sources...)
	return list
}

var ErrTooMany = errors.New("too many: at most 5,000 addresses, or aliases of 20,000 labels")

// prefix returns the filter that a prefix override asks for.
func (m *labelReader) prefix() (within func(netip.Addr) bool) {
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

func (m *labelReader) ttl() (ttl int) {
	ttl = DefaultTTL
	m.first(func(_, v string) (err error) {
		n, err := ParseTTL(v)
		if err == nil {
			ttl = int(n)
		}
		return err
	}, "$DNSDOCK_TTL", "com.dnsdock.ttl")
	return ttl
}

func (m *labelReader) ignoresHealth() (ignores bool) {
	m.first(func(_, v string) error {
		if ignores = v == "ignore"; !ignores {
			return errors.New("write ignore, or leave it out")
		}
		return nil
	}, "$DNSDOCK_HEALTH", "com.dnsdock.health")
	return ignores
}

func (m *labelReader) aliases() []dnsname.Name {
	return items(m, dnsname.ParseAlias, dnsname.Name.Labels, "$DNSDOCK_ALIAS", "com.dnsdock.alias")
}

func (m *labelReader) cname() (target dnsname.Name) {
	m.first(func(_, v string) (err error) {
		target, err = dnsname.ParseTarget(v)
		return err
	}, "$DNSDOCK_CNAME", "com.dnsdock.cname")
	return target
}

// TXT finds the TXT records: one for each line, as they hold commas.
func (m *labelReader) txt() (list []string) {
	m.first(func(_, v string) (err error) {
		list, err = ParseTXT(strings.Split(v, "\n"))
		return err
	}, "$DNSDOCK_TXT", "com.dnsdock.txt")
	return list
}

const (
	MaxTXT   = 8192 // octets of a service's TXT records in all, with one for each: a reply holds 64 KiB
	MaxPorts = 1000 // of a service: an image may expose all 65,536
)

// ParseTXT leaves out what is empty.
func ParseTXT(lines []string) (list []string, err error) {
	left := MaxTXT
	for _, l := range lines {
		if l = strings.TrimSpace(l); l == "" {
			continue
		}
		if left -= 1 + len(l); left < 0 {
			return nil, fmt.Errorf("too long: at most %d octets in all", MaxTXT)
		}
		list = append(list, l)
	}
	return Dedup(list), nil
}

// Ports finds the SRV records: the ports that the image or docker run
// exposes, and those of Registrator's SERVICE_<port>_NAME, which names them
// too; SERVICE_<port>_IGNORE leaves one out.
func (m *labelReader) ports() (list []Port) {
	exposed := make(map[uint16]bool)
	for _, p := range m.Exposed {
		exposed[p.Number] = true
	}
	list = slices.Clone(m.Exposed)
	for _, n := range m.namedPorts() {
		if !exposed[n] {
			list = append(list, Port{Number: n, Proto: "tcp"})
		}
	}
	list = slices.DeleteFunc(list, func(p Port) bool {
		source := fmt.Sprintf("SERVICE_%d_IGNORE", p.Number)
		_, inEnv := m.value("$" + source)
		_, inLabels := m.value(source)
		return inEnv || inLabels
	})
	slices.SortFunc(list, Port.Compare)
	if len(list) > MaxPorts {
		m.problem("ports", fmt.Sprint(len(list)), ErrPorts)
		list = list[:MaxPorts]
	}
	for i := range list {
		source := fmt.Sprintf("SERVICE_%d_NAME", list[i].Number)
		m.first(func(_, v string) (err error) {
			list[i].Name, err = parsePortName(v)
			return err
		}, "$"+source, source)
	}
	return list
}

var ErrPorts = fmt.Errorf("too many: at most %d ports", MaxPorts)

// namedPorts returns the ports that a SERVICE_<port>_NAME speaks of, each once.
func (m *labelReader) namedPorts() (list []uint16) {
	for _, settings := range []map[string]string{m.Env, m.Labels} {
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
	return Dedup(list)
}

// Endpoints returns the addresses that c is answered with, by the network they
// are on, where networks limits them as the flag -network does.
func (c *Container) Endpoints(networks []string) []Endpoint {
	return (&labelReader{Container: c}).endpoints(networks)
}
