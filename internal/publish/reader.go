package publish

import (
	"errors"
	"strings"

	"github.com/rayje/dnsdock/internal/dnsname"
)

const (
	maxProblems = 10  // problems of one container that are reported: its labels may have any length
	maxShown    = 100 // bytes of a value that are shown

	// MaxItems bounds what a list of one service may cost: 5,000 addresses, of
	// which a reply over TCP holds 4,095, or aliases of 20,000 labels.
	MaxItems = 20000
	// AddrCost is what an address costs.
	AddrCost = 4
)

var (
	ErrTooMany = errors.New("too many: at most 5,000 addresses, or aliases of 20,000 labels")
	errBaked   = errors.New("the image may not claim it: set it where the container is created, " +
		"with docker run or in the compose file")
	errBakedUnknown = errors.New("it is not known whether the image claims it, which it may not: " +
		"let dnsdock read GET /images/{id}/json")
)

// A labelReader reads the variables and labels of one container, and collects
// the problems with their values.
type labelReader struct {
	*Container
	oneOff      bool // the container does not count as one of its Compose service
	isElsewhere bool // a label sets the addresses; set by endpoints
	problems    []Problem
}

func newLabelReader(c *Container) *labelReader {
	m := &labelReader{Container: c, oneOff: c.isOneOff()}
	if v, ok := c.value(oneOffLabel); ok && !strings.EqualFold(v, "true") && !strings.EqualFold(v, "false") {
		m.problem(oneOffLabel, v, errors.New("write true, or leave it out"))
	}
	return m
}

// problem notes that the value of a source can't be used.
func (m *labelReader) problem(source, value string, err error) {
	if len(m.problems) < maxProblems {
		m.problems = append(m.problems, Problem{strings.TrimPrefix(source, "$"), shortened(value), err})
	}
}

// claims returns the sources of what a service claims: none if the container
// does not count as one of its service.
func (m *labelReader) claims(sources []string) []string {
	if m.oneOff {
		return nil
	}
	return sources
}

// first passes the value of each source that is set to use, in order, until
// use takes one. What use refuses is a problem. An empty value sets nothing.
func (m *labelReader) first(use func(source, value string) error, sources []string) {
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

// byCreator returns an error if the value of a source may come from the image,
// for what only the creator of a container may claim.
func (m *labelReader) byCreator(source string) error {
	switch {
	case !m.isBaked(source):
		return nil
	case m.Baked.Unknown:
		return errBakedUnknown
	}
	return errBaked
}

// items reads the first of the sources that is set, a list, whose items may
// cost MaxItems in all. Each item that can't be used is a problem.
func items[T comparable](m *labelReader, parse func(string) (T, error), cost func(T) int, sources []string) (list []T) {
	m.first(func(source, v string) error {
		list = nil
		left := MaxItems
		for _, text := range dnsname.SplitList(v) {
			item, err := parse(text)
			if err == nil {
				left -= cost(item)
			} else {
				left--
			}
			switch {
			case left < 0:
				m.problem(source, text, ErrTooMany)
				list = Dedup(list)
				return nil
			case err != nil:
				m.problem(source, text, err)
			default:
				list = append(list, item)
			}
		}
		list = Dedup(list)
		return nil
	}, sources)
	return list
}

// ttl finds the TTL in seconds.
func (m *labelReader) ttl() (ttl int) {
	ttl = DefaultTTL
	m.first(func(_, v string) error {
		n, err := ParseTTL(v)
		if err == nil {
			ttl = int(n)
		}
		return err
	}, ttlSources)
	return ttl
}

func (m *labelReader) ignoresHealth() (ignores bool) {
	m.first(func(_, v string) error {
		if ignores = v == "ignore"; !ignores {
			return errors.New("write ignore, or leave it out")
		}
		return nil
	}, healthSources)
	return ignores
}

// txt finds the TXT records: one for each line, as they may hold commas.
func (m *labelReader) txt() (list []string) {
	m.first(func(_, v string) (err error) {
		list, err = ParseTXT(strings.Split(v, "\n"))
		return err
	}, m.claims(txtSources))
	return list
}

// cname finds the name that all names of the container stand for.
func (m *labelReader) cname() (target dnsname.Name) {
	m.first(func(source, v string) (err error) {
		if err := m.byCreator(source); err != nil {
			return err
		}
		target, err = dnsname.ParseTarget(v)
		return err
	}, m.claims(cnameSources))
	return target
}

// aliases finds the further absolute names. Those that reach beyond the
// container's place in the domain must come from its creator.
func (m *labelReader) aliases(n NameRules) []dnsname.Name {
	sources := m.claims(aliasSources)
	if len(sources) == 0 {
		return nil
	}
	var source string
	for _, source = range sources {
		if v, _ := m.value(source); v != "" {
			break
		}
	}
	parse := func(text string) (dnsname.Name, error) {
		a, err := dnsname.ParseAlias(text)
		if err == nil {
			err = n.checkAlias(a)
		}
		if err == nil && n.reachesBeyond(a) {
			err = m.byCreator(source)
		}
		return a, err
	}
	return items(m, parse, dnsname.Name.Labels, []string{source})
}
