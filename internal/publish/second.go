package publish

import (
	"errors"
	"strings"

	"github.com/rayje/dnsdock/internal/dnsname"
)

// SecondNames chooses which names that a container has anyway are answered
// too, where no name by the rule matches.
type SecondNames struct {
	Compose  bool // <number>.<service>.<project>.<apex>
	Hostname bool // docker run --hostname, and --domainname
	Alias    bool // network aliases
	ID       bool // the first 12 digits of the ID
	Hyphen   bool // names with '-' where Compose's or the container's have '_'
	Host     bool // host.<apex>, the host
}

// ShortIDLen is the number of digits of an ID that docker ps shows, and that
// are the host name of a container without --hostname.
const ShortIDLen = 12

// secondNames finds the names that the container has anyway, but for its short
// ID, which needs no name to be found.
func (m *labelReader) secondNames(n NameRules) []dnsname.Name {
	var list []dnsname.Name
	left := MaxItems // as for aliases
	add := func(source, value string, parts ...string) {
		name, err := n.join(parts...)
		if err == nil {
			if left -= name.Labels(); left < 0 {
				err = ErrTooMany
			}
		}
		switch {
		case err != nil:
			m.problem(source, value, err)
		case name == n.Apex, source == swarmTaskName && name == n.ownName():
		default:
			list = append(list, name)
		}
	}
	if number, service, project := m.composeParts(); n.Second.Compose && service != "" {
		add(composeService, number+"."+service+"."+project, number, service, project)
	}
	if n.Second.Compose {
		m.swarmNames(add)
	}
	if host, _ := m.splitHost(); n.Second.Hostname && host != "" {
		add("hostname", m.Host.Name, host)
	}
	for _, e := range m.Networks {
		for _, alias := range e.Aliases {
			if n.Second.Alias && alias != "" && !m.isShortID(alias) {
				add("network alias", alias, alias)
				add("network alias", alias, alias, e.Name)
			}
		}
	}
	list = Dedup(list)
	if n.Second.Hyphen {
		list = Dedup(append(list, n.hyphenated(list)...))
	}
	return list
}

// composeParts returns the number of the container, its service and project.
// They are empty for a container that is not one of a service: Compose's jobs,
// and those that docker run started from an image that Compose labelled, which
// have no number. Jobs that count as one of the service may have no number either.
func (m *labelReader) composeParts() (number, service, project string) {
	number, service, project = m.Labels[composeNumber], m.Labels[composeService], m.Labels[composeProject]
	isJob := strings.EqualFold(m.Labels[composeOneOff], "true")
	switch {
	case m.oneOff, number == "" && !isJob, service == "", project == "":
		return "", "", ""
	case strings.Contains(project, "."):
		m.problem(composeProject, project,
			errors.New("write a project's name without a dot: with one, it has no names of Compose"))
		return "", "", ""
	}
	return number, service, project
}

// hostName returns the full name that the container calls itself, which it
// may have as it may have an alias. It is empty if there is none.
func (m *labelReader) hostName(n NameRules) dnsname.Name {
	host, domain := m.splitHost()
	if !n.Second.Hostname || host == "" || domain == "" {
		return ""
	}
	name, err := dnsname.ParseAlias(host + "." + domain)
	if err == nil {
		err = n.checkAlias(name)
	}
	if err != nil {
		m.problem("hostname", host+"."+domain, err)
		return ""
	}
	return name
}

// splitHost returns what the container calls itself: its host name, and the
// domain, which may also be part of the name. They are empty if nobody chose
// a name for it: the engine takes its short ID, or the name of the host or
// container whose network it uses. A job of Compose has its service's.
func (m *labelReader) splitHost() (host, domain string) {
	usesHost := len(m.Networks) == 1 && m.Networks[0].Name == HostNetwork().Name
	if m.oneOff || m.Shares != "" || usesHost || m.isShortID(m.Host.Name) {
		return "", ""
	}
	host, domain = m.Host.Name, m.Host.Domain
	if domain == "" {
		host, domain, _ = strings.Cut(host, ".")
	}
	return host, strings.Trim(domain, ".")
}

func (c *Container) isShortID(s string) bool {
	return len(s) == ShortIDLen && strings.HasPrefix(c.ID, s)
}

// hyphenated returns those of names under the apex that hold '_' with '-'
// in its place.
func (n NameRules) hyphenated(names []dnsname.Name) (list []dnsname.Name) {
	for _, name := range names {
		labels, ok := strings.CutSuffix(string(name), string(n.Apex))
		if ok && strings.Contains(labels, "_") {
			list = append(list, dnsname.Name(strings.ReplaceAll(labels, "_", "-"))+n.Apex)
		}
	}
	return list
}
