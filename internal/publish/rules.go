package publish

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/rayje/dnsdock/internal/dnsname"
)

// NameRules say which names a service has. They are read-only after start.
type NameRules struct {
	Apex         dnsname.Name // [environment.]domain: the name that all full names end in
	Alias        bool         // each container is <container-name>.<apex> too
	All          bool         // containers that do not run are published too
	Closest      bool         // a query is answered from the closest owner name only
	Second       SecondNames
	AliasDomains []dnsname.Name // aliases outside of the apex must be below one of these; nil: they may be anything
	Health       bool           // health checks count
	Networks     []string       // networks whose addresses are answered, the best first; nil: all
	Host         []netip.Addr   // the host's addresses; nil: the address that a client asked
}

// ServiceOf returns the service that a container publishes: nil if it is
// ignored, or has neither an address nor a CNAME. Values that can't be used are left
// out and returned as problems. The caller decides whether a container in that
// state is published.
func (n NameRules) ServiceOf(c *Container, engine string) (*Service, []Problem) {
	if c.isIgnored() {
		return nil, nil
	}
	m := newLabelReader(c)
	s := &Service{
		ID:    c.ID,
		Ports: m.ports(),
		TTL:   m.ttl(),
		Origin: Origin{
			Engine: engine, Container: c.Name, Image: shared(c.Image), State: shared(c.State), Since: c.Since,
			Task: c.Task,
		},
		Extras: &Extras{CNAME: m.cname(), TXT: m.txt(), Aliases: m.aliases(n)},
	}
	if s.CNAME == "" {
		s.setAddrs(m.endpoints(n.Networks))
		if !m.isElsewhere { // what a label sets is for all clients
			s.Outside = c.Outside
		}
	}
	s.Sick = n.Health && c.Sick && !m.ignoresHealth()
	s.HostName = m.hostName(n)
	s.SecondNames = m.secondNames(n)
	m.setFullName(n, s)
	s.Origin.Notes = notesOf(m, s.Ports)
	s.shareExtras()
	if len(s.Addrs) == 0 && s.CNAME == "" && s.Outside == nil {
		return nil, m.problems
	}
	return s, m.problems
}

// setFullName sets the parts of the full name of s, and its owner names. Parts
// that make too long a name are replaced by the next best ones.
func (m *labelReader) setFullName(n NameRules, s *Service) {
	names, images, regions := m.names(), m.images(), m.regions()
	for {
		s.ContainerLabel, s.ImageLabel = names.text(), images.text()
		if region := regions.text(); region != "" {
			s.ImageLabel = strings.TrimPrefix(strings.TrimSuffix(s.ImageLabel, ".")+"."+region, ".")
		}
		s.ImageLabel = shared(s.ImageLabel)
		err := n.SetOwnerNames(s)
		if err == nil {
			return
		}
		m.tooLong(err, &names, &images, &regions)
	}
}

// SetOwnerNames sets the owner names of s, and its second names that follow
// from them. s must not be published yet. The error says which part can't be used.
func (n NameRules) SetOwnerNames(s *Service) error {
	parts := [][]string{{s.ContainerLabel, s.ImageLabel}}
	if n.Alias && s.ContainerLabel != "" && !s.IsByHand() {
		parts = append(parts, []string{s.ContainerLabel})
	}
	var full []dnsname.Name
	for _, p := range parts {
		name, err := n.join(p...)
		if err != nil {
			return err
		}
		full = append(full, name)
	}
	owners := append(make([]dnsname.Name, 0, 1+len(s.Aliases)), full[0])
	if s.HostName != "" {
		owners = append(owners, s.HostName)
	}
	for _, a := range s.Aliases {
		if a != dnsname.Star {
			owners = append(owners, a)
		}
	}
	s.OwnerNames = Dedup(append(owners, full[1:]...))
	if n.Second.Hyphen {
		s.SecondNames = Dedup(append(slices.Clip(s.SecondNames), n.hyphenated(full)...))
	}
	return nil
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
		return "", fmt.Errorf("%q with %v has over %d bytes: write a shorter one",
			strings.Join(parts, "."), n.Apex, dnsname.MaxLen)
	}
	return dnsname.Name(labels) + n.Apex, nil
}

// reachesBeyond reports whether an alias reaches beyond a container's place in
// the domain: outside of it, or to all names in it that are unknown otherwise.
func (n NameRules) reachesBeyond(alias dnsname.Name) bool {
	return alias == dnsname.Star || !alias.Under(n.Apex)
}

// checkAlias returns an error if an alias is outside of the domain, and of those that
// -alias-domain allows.
func (n NameRules) checkAlias(alias dnsname.Name) error {
	isAbove := func(domain dnsname.Name) bool { return alias.Under(domain) }
	switch {
	case n.AliasDomains == nil, alias == dnsname.Star, alias.Under(n.Apex):
		return nil
	case slices.ContainsFunc(n.AliasDomains, isAbove):
		return nil
	case len(n.AliasDomains) == 0:
		return fmt.Errorf("%s is outside of the domain: write a name below %s, or allow others by -alias-domain",
			dnsname.Text(alias), dnsname.Text(n.Apex))
	}
	return fmt.Errorf("%s is outside of the domain: write a name below %s, or below one of -alias-domain: %s",
		dnsname.Text(alias), dnsname.Text(n.Apex), strings.Join(dnsname.Texts(n.AliasDomains), ", "))
}

// Patched returns a copy of s with p applied, and its owner names. Errors:
// ErrNoAddress, or which part can't be used.
func (n NameRules) Patched(s *Service, p Patch) (*Service, error) {
	if p.Aliases != nil {
		for _, a := range *p.Aliases {
			if err := n.checkAlias(a); err != nil {
				return nil, err
			}
		}
	}
	if s.isVirtual() {
		return nil, ErrNotOurs
	}
	t, extras := *s, *s.Extras
	t.Extras = &extras
	if len(p.Addrs) > 0 || p.CNAME != nil && *p.CNAME != "" {
		t.NetRuns, t.Outside = nil, nil
	}
	p = Patch{&s.ContainerLabel, &s.ImageLabel, s.Addrs, &s.CNAME, &s.TXT, &s.Ports, &s.TTL, &s.Aliases}.Over(p)
	t.ContainerLabel, t.ImageLabel, t.Addrs, t.CNAME = *p.Name, *p.Image, p.Addrs, *p.CNAME
	t.TXT, t.Ports, t.TTL, t.Aliases = *p.TXT, *p.Ports, *p.TTL, *p.Aliases
	if len(t.Addrs) == 0 && t.CNAME == "" && t.Outside == nil {
		return nil, ErrNoAddress
	}
	old := n.hyphenated(s.OwnerNames)
	isOld := func(name dnsname.Name) bool { return slices.Contains(old, name) }
	t.SecondNames = slices.DeleteFunc(slices.Clone(s.SecondNames), isOld)
	t.shareExtras()
	return &t, n.SetOwnerNames(&t)
}
