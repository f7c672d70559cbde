package servicejson

import (
	"time"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/publish"
)

// Properties are what a client may set of a service. A nil property is not set.
type Properties struct {
	Name    *string   `json:"name,omitempty"`  // container part of the name
	Image   *string   `json:"image,omitempty"` // image part of the name
	IP      *string   `json:"ip,omitempty"`    // the first of IPs
	IPs     *[]string `json:"ips,omitempty"`   // empty if there is a CNAME; "host" stands for the host's address
	CNAME   *string   `json:"cname,omitempty"`
	TXT     *[]string `json:"txt,omitempty"`
	Ports   *[]string `json:"ports,omitempty"` // as publish.ParsePort reads them
	TTL     *int      `json:"ttl,omitempty"`   // seconds; -1: the default
	Aliases *[]string `json:"aliases,omitempty"`
}

// A Service is a service as clients see it. What it has beside Properties is read-only: ReadPatch
// accepts and ignores it, so that clients can send what they got.
type Service struct {
	Properties
	Names       []string          `json:"names"`                  // the full name and the aliases
	SecondNames []string          `json:"second_names,omitempty"` // answered only if no other name matches
	Unicode     map[string]string `json:"unicode,omitempty"`      // spelling with U-labels, by the one with A-labels
	Origin      Origin            `json:"origin"`
	State       string            `json:"state,omitempty"`    // the container's state
	Settings    map[string]string `json:"settings,omitempty"` // labels and, with $ in front, variables that were read
	Problems    []string          `json:"problems,omitempty"` // values that can't be used
	Since       time.Time         `json:"since,omitzero"`     // when the container started, or the service was made
}

// An Origin says where a service comes from. It is empty if the service was made through the API.
type Origin struct {
	Engine    string `json:"engine,omitempty"`
	Container string `json:"container,omitempty"`
	Image     string `json:"image,omitempty"`
	Service   string `json:"service,omitempty"` // of Swarm, like what follows
	Task      string `json:"task,omitempty"`    // ID
	Slot      int    `json:"slot,omitempty"`    // none: the service is global
	Node      string `json:"node,omitempty"`    // host name
	Stack     string `json:"stack,omitempty"`
	Project   string `json:"project,omitempty"` // of Compose
}

// Of returns s as clients see it.
func Of(s *publish.Service) Service {
	p := publish.Patch{Name: &s.ContainerLabel, Image: &s.ImageLabel, Addrs: s.Addrs, TTL: &s.TTL, Aliases: &s.Aliases}
	if s.CNAME != "" {
		p.CNAME = &s.CNAME
	}
	if len(s.TXT) > 0 {
		p.TXT = &s.TXT
	}
	if len(s.Ports) > 0 {
		p.Ports = &s.Ports
	}
	j := Service{
		Properties:  OfPatch(p),
		Names:       dnsname.Texts(s.OwnerNames),
		SecondNames: dnsname.Texts(s.SecondNames),
		Unicode:     spellings(append(s.AllNames(), s.CNAME)),
		Origin:      originOf(s.Origin),
		State:       s.Origin.State,
		Since:       s.Origin.Since,
	}
	if n := s.Origin.Notes; n != nil {
		j.Origin.Project, j.Problems, j.Settings = n.Project, n.Problems, make(map[string]string, len(n.Settings))
		for _, set := range n.Settings {
			j.Settings[set.Source] = set.Value
		}
	}
	if j.IPs == nil {
		j.IP, j.IPs = new(string), &[]string{}
	}
	return j
}

func originOf(o publish.Origin) Origin {
	j := Origin{Engine: o.Engine, Container: o.Container, Image: o.Image}
	if t := o.Task; t != nil {
		j.Service, j.Task, j.Slot, j.Node, j.Stack = t.Service, t.ID, t.Slot, t.Node, t.Stack
	}
	return j
}

// spellings returns the spelling with U-labels of those names that have A-labels.
func spellings(names []dnsname.Name) map[string]string {
	var unicode map[string]string
	for _, n := range names {
		if n == "" {
			continue
		}
		if text := dnsname.Unicode(n); text != dnsname.Text(n) {
			if unicode == nil {
				unicode = make(map[string]string)
			}
			unicode[dnsname.Text(n)] = text
		}
	}
	return unicode
}

// OfPatch returns the properties that p sets.
func OfPatch(p publish.Patch) Properties {
	j := Properties{Name: p.Name, Image: p.Image, TTL: p.TTL}
	if len(p.Addrs) > 0 {
		ips := publish.AddrTexts(p.Addrs)
		j.IP, j.IPs = &ips[0], &ips
	}
	if p.CNAME != nil {
		target := ""
		if *p.CNAME != "" {
			target = dnsname.Text(*p.CNAME)
		}
		j.CNAME = &target
	}
	if p.TXT != nil {
		txt := append([]string{}, *p.TXT...) // [], not null, if there is none
		j.TXT = &txt
	}
	if p.Ports != nil {
		ports := make([]string, 0, len(*p.Ports))
		for _, port := range *p.Ports {
			ports = append(ports, port.String())
		}
		j.Ports = &ports
	}
	if p.Aliases != nil {
		aliases := dnsname.Texts(*p.Aliases)
		j.Aliases = &aliases
	}
	return j
}
