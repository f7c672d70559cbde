package zone

import (
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/index"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/stats"
)

// maxSources is how many services an explanation names for one name: enough
// to look through.
const maxSources = 100

// ErrBusy says that too many expensive questions wait.
var ErrBusy = errors.New("too many questions wait for their turn: ask again")

// A Resolution is what a client is answered, and why.
type Resolution struct {
	Name    string     `json:"name"`
	Unicode string     `json:"unicode,omitempty"` // the name's spelling with U-labels, if it has A-labels
	Type    string     `json:"type"`
	Client  netip.Addr `json:"client"`
	Kind    string     `json:"kind"`            // own, forwarded, cached or refused
	Rcode   string     `json:"rcode,omitempty"` // empty if an upstream decides it
	Answers []Record   `json:"answers"`
	Why     []Reason   `json:"why"`
	Forward []string   `json:"forward,omitempty"` // the upstreams that are asked, in this order
}

// A Record is one of an answer.
type Record struct {
	Name string `json:"name"`
	Type string `json:"type"`
	TTL  uint32 `json:"ttl"`
	Data string `json:"data"`
}

// A Reason is the rule that a name is answered by. There are several reasons
// if names are CNAMEs.
type Reason struct {
	Name     string   `json:"name"`
	Rule     string   `json:"rule"`
	Services []Source `json:"services,omitempty"`
	More     bool     `json:"more,omitempty"` // there are more services
}

// A Source is a service that an answer is made from.
type Source struct {
	ID          string   `json:"id"`
	Container   string   `json:"container,omitempty"`
	Service     string   `json:"service,omitempty"` // of a swarm, like what follows
	Task        string   `json:"task,omitempty"`
	Node        string   `json:"node,omitempty"`         // on which the task runs, or that the source is
	Names       []string `json:"names"`                  // those of its names that fit
	SecondNames []string `json:"second_names,omitempty"` // the same, of its second names
}

// Explain answers as DNS does, but asks no upstream, and says why.
func (z *Resolver) Explain(n dnsname.Name, qtype uint16, c Client) (*Resolution, error) {
	t := new(trace)
	a := z.decide(Query{Name: n, Type: qtype, Class: dns.ClassINET, Flags: dnscache.RD}, c, t)
	if a.busy {
		return nil, ErrBusy
	}
	for a.open != nil && a.known() {
		a.Kind = stats.Cached
	}
	m, err := a.message()
	if err != nil {
		return nil, err
	}
	res := &Resolution{
		Name: dnsname.Text(n), Type: dns.Type(qtype).String(), Client: c.Addr, Kind: a.Kind.String(),
		Answers: []Record{}, Why: t.why, Forward: t.upstreams,
	}
	if u := dnsname.Unicode(n); u != res.Name {
		res.Unicode = u
	}
	for _, rr := range m.Answer {
		h := rr.Header()
		res.Answers = append(res.Answers, Record{
			strings.TrimSuffix(h.Name, "."), dns.Type(h.Rrtype).String(), h.Ttl,
			strings.TrimPrefix(rr.String(), h.String()),
		})
	}
	if a.Kind != stats.Forwarded {
		res.Rcode = dns.RcodeToString[a.Rcode]
	}
	return res, nil
}

// A trace collects why an answer is as it is. The nil trace, which queries
// have, collects nothing.
type trace struct {
	why       []Reason
	upstreams []string
}

// note adds the rule that n is answered by.
func (t *trace) note(n dnsname.Name, rule string) {
	if t != nil {
		t.why = append(t.why, Reason{Name: dnsname.Text(n), Rule: rule})
	}
}

// notef is note with a rule that is made as fmt.Sprintf does.
func (t *trace) notef(n dnsname.Name, rule string, args ...any) {
	if t != nil {
		t.note(n, fmt.Sprintf(rule, args...))
	}
}

// forward adds which upstreams are asked for n.
func (t *trace) forward(n dnsname.Name, fwd *forward.Forwarder) {
	if t == nil {
		return
	}
	option, domain := "-nameserver", dnsname.Root
	if domain, t.upstreams = fwd.Route(n); domain != dnsname.Root {
		option = fmt.Sprintf("-nameserver=%s=", dnsname.Text(domain))
	}
	t.notef(n, "it is not ours, so the nameservers of %s are asked", option)
}

// repeat adds the reason of n again, at which a loop of CNAMEs ends.
func (t *trace) repeat(n dnsname.Name) {
	if t == nil {
		return
	}
	if i := slices.IndexFunc(t.why, func(r Reason) bool { return r.Name == dnsname.Text(n) }); i >= 0 {
		t.why = append(t.why, t.why[i])
	}
}

// sources adds services to the last reason, each with those of its names that fit: of its second
// names only if these are what the services were found by, for the name second.
func (t *trace) sources(services iter.Seq[*publish.Service], second dnsname.Name, fits func(dnsname.Name) bool) {
	r := &t.why[len(t.why)-1]
	for s := range services {
		if slices.ContainsFunc(r.Services, func(known Source) bool { return known.ID == s.ID }) {
			continue
		}
		if r.More = len(r.Services) == maxSources; r.More {
			break
		}
		fitting := func(names []dnsname.Name) []string {
			names = slices.DeleteFunc(slices.Clone(names), func(n dnsname.Name) bool { return !fits(n) })
			return dnsname.Texts(publish.FirstFew(names))
		}
		source := Source{ID: s.ID, Container: s.Origin.Container, Names: []string{}}
		if t := s.Origin.Task; t != nil {
			source.Service, source.Task, source.Node = t.Service, t.ID, t.Node
		}
		if second != "" || len(s.OwnerNames) == 0 {
			closed := s.ClosedNames()
			isOut := func(n dnsname.Name) bool { return closed[n] && n.Labels() < second.Labels() }
			source.SecondNames = fitting(slices.DeleteFunc(slices.Clone(s.SecondNames), isOut))
		} else {
			source.Names = fitting(s.OwnerNames)
		}
		r.Services = append(r.Services, source)
	}
	slices.SortStableFunc(r.Services, func(a, b Source) int { return strings.Compare(a.ID, b.ID) })
}

// explain adds to the trace why q, whose name's highest name of ours is top, is answered from f.
func (d *decision) explain(q Query, top dnsname.Name, f found) {
	n := q.Name
	if d.trace == nil {
		return
	}
	rule := f.rule
	switch {
	case rule != "":
	case !d.Reg.IsReady(n):
		rule = "nobody knows yet: an engine of this domain is away, or its list is not done"
	case n == d.apex:
		rule = "it is the domain, and nothing is published"
	default:
		rule = fmt.Sprintf("it is under %s, and no service has a name that fits", dnsname.Text(top))
	}
	if f.second && len(f.ports) == 0 && d.isOfSwarm(f, n) {
		rule = "names of the swarm, asked for where nothing else matches"
	}
	if d.isOutside(f) {
		rule += "; this client is on none of their networks, so it gets the machine that publishes their ports"
	}
	if places := d.places(); len(places) > 1 {
		rule += fmt.Sprintf("; this client is a container, and known by %v too", places[1:])
	}
	if networks := d.networksOf(f); len(networks) > 0 {
		rule += "; this client is on the network " + strings.Join(networks, ", ")
	}
	d.trace.note(n, rule)
	var second dnsname.Name
	if f.second {
		second = n
	}
	switch {
	case f.owners != nil:
		d.trace.sources(f.owners.All(publish.AnyKind), "", func(dnsname.Name) bool { return true })
	case len(f.ports) > 0:
		for _, p := range f.ports {
			isFull := func(o dnsname.Name) bool { return o == p.FullName() }
			d.trace.sources(index.Singleton(p.Service).All(publish.HasPorts), "", isFull)
		}
	case f.cname != nil:
		d.trace.sources(index.Singleton(f.cname).All(publish.HasCNAME), second, d.Reg.Answers(n))
	case q.Type == dns.TypeA, q.Type == dns.TypeAAAA:
		d.trace.sources(d.Reg.Giving(f.views, q.Type == dns.TypeA, d.viewer()), second, d.Reg.Answers(n))
	case q.Type == dns.TypeTXT:
		d.trace.sources(index.Shuffled(f.views, publish.HasTXT), second, d.Reg.Answers(n))
	default:
		d.trace.sources(index.Shuffled(f.views, publish.HasData), second, d.Reg.Answers(n))
	}
}

// isOutside reports whether a service of f is answered by the machine that publishes its ports.
func (d *decision) isOutside(f found) bool {
	for s := range index.Shuffled(f.views, publish.Varies) {
		if s.IsOutside(d.places()...) {
			return true
		}
	}
	return slices.ContainsFunc(f.ports, func(p servicePort) bool { return p.IsOutside(d.places()...) })
}

// isOfSwarm reports whether the services of f have names that a swarm gives, at which n was found.
func (d *decision) isOfSwarm(f found, n dnsname.Name) bool {
	fits, isOf := d.Reg.Answers(n), false
	for s := range index.Shuffled(f.views, publish.AnyKind) {
		isOf = slices.ContainsFunc(s.SecondNames, func(n dnsname.Name) bool {
			zone, _ := d.Reg.ZoneOf(n)
			return fits(n) && s.HasOfSwarm(n, zone)
		})
		if !isOf {
			break
		}
	}
	return isOf
}

// networksOf returns the networks of tasks of f that the client is on.
func (d *decision) networksOf(f found) (names []string) {
	services := slices.Collect(index.Shuffled(f.views, publish.AnyKind))
	for _, p := range f.ports {
		services = append(services, p.Service)
	}
	for _, s := range services {
		for _, e := range s.Endpoints() {
			if s.Origin.Task != nil && e.Has(d.places()...) {
				names = append(names, e.Name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
