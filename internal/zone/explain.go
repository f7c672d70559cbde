// Package zone decides what a query is answered: from the index what is ours, by
// the forwarder what is not; and explains why. It knows neither sockets nor HTTP.
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
	"github.com/rayje/dnsdock/internal/index"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/stats"
)

const (
	MaxSources = 100 // services that an explanation names
)

var ErrBusy = errors.New("too many questions wait for their turn: ask again")

// A Resolution is what a client is answered, and why.
type Resolution struct {
	Name    string       `json:"name"`
	Type    string       `json:"type"`
	Client  netip.Addr   `json:"client"`
	Kind    string       `json:"kind"`            // own, forwarded, cached or refused
	Rcode   string       `json:"rcode,omitempty"` // none where an upstream is to say it
	Answers []recordJSON `json:"answers"`
	Why     []reason     `json:"why"`
	Forward []string     `json:"forward,omitempty"` // the upstreams that are asked, in this order
}

type recordJSON struct {
	Name string `json:"name"`
	Type string `json:"type"`
	TTL  uint32 `json:"ttl"`
	Data string `json:"data"`
}

// A reason is the rule that a name is answered by. There are several of them
// where names are CNAMEs.
type reason struct {
	Name     string   `json:"name"`
	Rule     string   `json:"rule"`
	Services []source `json:"services,omitempty"`
	More     bool     `json:"more,omitempty"` // there are more services
}

// A source is a service that an answer is made from.
type source struct {
	ID        string   `json:"id"`
	Container string   `json:"container,omitempty"`
	Names     []string `json:"names"` // of its names those that fit
}

// Explain answers as DNS does, but asks no upstream, and says why.
func (z *Zone) Explain(n dnsname.Name, qname string, qtype uint16, c Client) (*Resolution, error) {
	req := new(dns.Msg).SetQuestion(qname, qtype)
	m, left := z.Reply(req, c)
	k := kindOf(m, left)
	if left != nil && z.known(m, req, *left) {
		k = stats.Cached
	}
	b, err := Pack(m, c.Size)
	if err == nil {
		err = m.Unpack(b)
	}
	if err != nil {
		return nil, err
	}
	res := &Resolution{Name: dnsname.Text(n), Type: dns.Type(qtype).String(), Client: c.Addr, Kind: k.String(), Answers: []recordJSON{}}
	chain := []dnsname.Name{n}
	for _, rr := range m.Answer {
		h := rr.Header()
		res.Answers = append(res.Answers, recordJSON{strings.TrimSuffix(h.Name, "."), dns.Type(h.Rrtype).String(), h.Ttl, strings.TrimPrefix(rr.String(), h.String())})
		if cname, ok := rr.(*dns.CNAME); ok && qtype != dns.TypeCNAME && qtype != dns.TypeANY {
			if next, err := dnsname.Parse(cname.Target); err == nil {
				chain = append(chain, next)
			}
		}
	}
	if k != stats.Forwarded {
		res.Rcode = dns.RcodeToString[m.Rcode]
	}
	if k == stats.Cached { // the upstream's own CNAMEs have no rule here
		if last := slices.IndexFunc(chain, func(n dnsname.Name) bool { _, ours := z.Authority(n); return !ours }); last >= 0 { // else it became ours meanwhile
			chain = chain[:last+1]
		}
	}
	if k == stats.Refused && IsMeta(qtype) && qtype != dns.TypeANY {
		res.Why = []reason{{Name: dnsname.Text(n), Rule: "questions of this type are not answered, whatever the name"}}
		return res, nil
	}
	for _, at := range chain {
		why, err := z.reason(at, qtype, c, left != nil)
		if err != nil {
			return nil, err
		}
		res.Why = append(res.Why, why)
	}
	if last := chain[len(chain)-1]; left != nil {
		_, res.Forward = z.Fwd.Route(last)
	}
	return res, nil
}

// known completes m, as forward does, by what upstreams have answered before to q.
func (z *Zone) known(m, req *dns.Msg, q dns.Question) bool {
	n, _ := dnsname.Parse(q.Name) // no error: it was one before
	r := z.Fwd.Cache.Get(dnscache.NewQuestion(n, q.Qtype, QuestionFlags(req)))
	if r == nil || r.At(r.Age()) < dnscache.Tired || r.Rcode() == dns.RcodeServerFailure {
		return false
	}
	said, err := r.Message(r.Age())
	if err == nil {
		z.Relay(m, req, said, q)
	}
	return err == nil
}

// reason says why n, one of a chain of CNAMEs, is answered as it is.
func (z *Zone) reason(n dnsname.Name, qtype uint16, c Client, forwarded bool) (why reason, err error) {
	why.Name = dnsname.Text(n)
	top, ok := z.Authority(n)
	if !ok {
		why.Rule = z.foreignRule(n, c, forwarded)
		return why, nil
	}
	done, ok := z.inTurn(n, top, c)
	if !ok {
		return why, ErrBusy
	}
	defer done()
	f := z.find(n, top)
	why.Rule = z.rule(n, top, f)
	switch {
	case f.owners != nil:
		why.add(f.owners.All(publish.HasData), func(dnsname.Name) bool { return true })
	case len(f.ports) > 0:
		for _, p := range f.ports {
			why.add(index.Singleton(p.Service).All(publish.HasPorts), func(o dnsname.Name) bool { return o == p.OwnerNames[0] })
		}
	case f.cname != nil:
		why.add(index.Singleton(f.cname).All(publish.HasCNAME), z.fits(n))
	default:
		well := z.Reg.AnyWell(f.views, c.Viewer())
		for _, v := range f.views {
			why.add(z.giving(v, qtype, c, well), z.fits(n))
		}
	}
	slices.SortFunc(why.Services, func(a, b source) int { return strings.Compare(a.ID, b.ID) })
	return why, nil
}

// giving returns those services of v that have something of a type for the
// client; not those whose health check fails where others are well.
func (z *Zone) giving(v *index.View, qtype uint16, c Client, well bool) iter.Seq[*publish.Service] {
	return func(yield func(*publish.Service) bool) {
		for s := range v.All(kindsOf(qtype)) {
			addrs, _ := z.Reg.AddrsFor(s, c.Viewer())
			isAddr := qtype == dns.TypeA || qtype == dns.TypeAAAA
			has := slices.ContainsFunc(addrs, func(a netip.Addr) bool { return a.IsValid() && a.Is4() == (qtype == dns.TypeA) })
			if isAddr && (!has || s.Sick && well) {
				continue
			}
			if !yield(s) {
				return
			}
		}
	}
}

// add adds services, each with those of its names that fit.
func (r *reason) add(services iter.Seq[*publish.Service], fits func(dnsname.Name) bool) {
	for s := range services {
		if slices.ContainsFunc(r.Services, func(known source) bool { return known.ID == s.ID }) {
			continue
		}
		if r.More = len(r.Services) == MaxSources; r.More {
			return
		}
		names := slices.DeleteFunc(slices.Clone(s.AllNames()), func(o dnsname.Name) bool { return !fits(o) })
		r.Services = append(r.Services, source{s.ID, s.Origin.Container, dnsname.Texts(publish.FirstFew(names))})
	}
}

// foreignRule says what becomes of n, which is not ours.
func (z *Zone) foreignRule(n dnsname.Name, c Client, forwarded bool) string {
	domain, upstreams := z.Fwd.Route(n)
	alias, died := z.Reg.RecentlyRemoved(n)
	switch {
	case died:
		return fmt.Sprintf("a container that died not long ago had the alias %s: another host's address would be wrong", dnsname.Text(alias))
	case forwarded && domain == dnsname.Root:
		return "it is not ours, so the nameservers of -nameserver are asked"
	case forwarded:
		return fmt.Sprintf("it is not ours, so the nameservers of -nameserver=%s= are asked", dnsname.Text(domain))
	case len(upstreams) == 0:
		return "it is not ours, and there is no -nameserver for it"
	case !z.Fwd.Serves(c.Addr):
		return "it is not ours, and nothing is forwarded for this client, which is not a local one: see -allow"
	}
	return "it is a name of one label, which only hosts of this site have"
}

// rule says by which rule n, whose highest name of ours is top, has what is found.
func (z *Zone) rule(n, top dnsname.Name, f found) string {
	switch {
	case f.isHost:
		return "it is the name of dnsdock itself: the address that was asked"
	case f.loopback:
		return "localhost is the machine itself (RFC 6761)"
	case n.IsReverse() && f.owners != nil:
		return "it is the name of an address that these services have"
	case n.IsReverse() && z.Reg.IsReady(n):
		return "it is the name of private addresses, which nobody else knows (RFC 6303), and no service has"
	case f.isStatic:
		return "it is nobody's outside of this site (RFC 6761, RFC 7686)"
	case len(f.ports) > 0:
		return "these services have such a port at the name behind it"
	case f.cname != nil:
		return "the closest service with a name that fits is a CNAME"
	case len(f.views) > 0 && z.Reg.Rules.Closest:
		return "the closest names that fit it (-match=closest)"
	case len(f.views) > 0 && z.isOfCompose(n, f.views[0]):
		return "a name of compose, as no other fits"
	case len(f.views) > 0:
		return "all names that are at it, below it or above it"
	case !z.Reg.IsReady(n):
		return "nobody knows yet: the engine's first list is not done"
	case n == z.Apex:
		return "it is the domain, and nothing is published"
	}
	return fmt.Sprintf("it is under %s, and no service has a name that fits", dnsname.Text(top))
}

// isOfCompose reports whether n finds v by the services' names of compose.
func (z *Zone) isOfCompose(n dnsname.Name, v *index.View) bool {
	for s := range v.All(^publish.Kind(0)) {
		return !slices.ContainsFunc(s.OwnerNames, z.fits(n)) // it is the same for all
	}
	return false
}

// fits tells of an owner name whether it answers for n.
func (z *Zone) fits(n dnsname.Name) func(dnsname.Name) bool {
	labels := n.Split()
	return func(o dnsname.Name) bool {
		ok, more := dnsname.Matches(labels, o)
		return ok && (more >= 0 || z.Reg.AnswersFor(o, n))
	}
}

// kindsOf returns what a service must have for an answer of that type.
func kindsOf(qtype uint16) publish.Kind {
	switch qtype {
	case dns.TypeA:
		return publish.HasA
	case dns.TypeAAAA:
		return publish.HasAAAA
	case dns.TypeTXT:
		return publish.HasTXT
	}
	return publish.HasData
}
