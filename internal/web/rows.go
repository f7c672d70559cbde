package web

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/publish"
)

// putFilters puts a field for each filter between whose values there is a choice.
func (m *markup) putFilters(f *finding) {
	for _, filter := range filters {
		chosen, choices := f.query.Get(filter.name), f.choices[filter.name]
		if len(choices) < 2 && chosen == "" {
			continue
		}
		m.put(`<label>%s <select name="%s"><option value="">all</option>`, filter.name, filter.name)
		for _, v := range choices {
			selected := ""
			if v == chosen {
				selected = "selected"
			}
			m.put(`<option value="%s" `+selected+`>%s</option>`, v, v)
		}
		m.put(`</select></label>`)
	}
}

// putServices puts the table of those services that were found and are in the window. The gaps before and after it
// stand for the others; the page's script gives them their height.
func (m *markup) putServices(f *finding, status Status, lines func(*publish.Service) []Line) {
	if f.count == 0 {
		isFiltered := f.query.Get("q") != ""
		for _, filter := range filters {
			isFiltered = isFiltered || f.query.Get(filter.name) != ""
		}
		if isFiltered {
			m.put(`<p class="dim">No service fits the search and the filters.</p>`)
		} else {
			m.put(`<p class="dim">No service is published.</p>`)
		}
		return
	}
	m.put(`<div class="gap" data-rows="%s"></div>`, strconv.Itoa(f.from))
	m.put(`<table aria-rowcount="%s">`, strconv.Itoa(f.count+1))
	m.put(`<thead><tr aria-rowindex="1"><th>names<th>addresses<th>TTL<th>origin`)
	if status.hasSwarm() {
		m.put(`<th>node`)
	}
	m.put(`<th>state<th>age</tr></thead><tbody>`)
	for i, s := range f.window {
		m.putService(s, f.from+i+1, status, lines(s))
	}
	m.put(`</tbody></table><div class="gap" data-rows="%s"></div>`, strconv.Itoa(f.count-f.from-len(f.window)))
}

// putCount says how many services were found. For browsers without script it links to those outside of the window.
func (m *markup) putCount(f *finding) {
	m.put(`%s found`, strconv.Itoa(f.count))
	link := func(from int, text string) {
		q := url.Values{"from": {strconv.Itoa(from)}}
		for name, values := range f.query {
			if name != "from" {
				q[name] = values
			}
		}
		m.put(` <a class="turn" href="/?%s">%s</a>`, q.Encode(), text)
	}
	if f.from > 0 {
		link(max(0, f.from-maxRows), "those before")
	}
	if end := f.from + len(f.window); end < f.count {
		link(end, "those after")
	}
	m.put(`; <a href="/services">all as JSON</a>`)
}

// putService puts a service as a row of the table.
func (m *markup) putService(s *publish.Service, number int, status Status, lines []Line) {
	m.put(`<tr data-id="%s" aria-rowindex="%s"><td data-label="names"><div>`, s.ID, strconv.Itoa(number+1))
	m.putNames(s.OwnerNames)
	if len(s.SecondNames) > 0 {
		m.put(`<div class="second"><span class="dim">where no other name fits:</span>`)
		m.putNames(s.SecondNames)
		m.put(`</div>`)
	}
	m.put(`</div><td data-label="addresses"><div>`)
	if s.CNAME != "" {
		m.put(`CNAME <code>%s</code>`, dnsname.Text(s.CNAME))
		m.putUnicode(s.CNAME)
	}
	m.putCodes(publish.AddrTexts(publish.FirstFew(s.Addrs)))
	m.putMore(len(s.Addrs) - len(publish.FirstFew(s.Addrs)))
	ttl := int(status.TTL)
	if s.TTL != publish.DefaultTTL {
		ttl = s.TTL
	}
	m.put(`</div><td data-label="TTL" class="short">%s s<td data-label="origin"><div>`, strconv.Itoa(ttl))
	if s.IsByHand() {
		m.put(`by hand <span class="dim">%s</span>`, s.ID)
	} else {
		m.put(`%s <span class="dim">`, s.Origin.Container)
		switch {
		case s.VIP != "":
			m.put(`virtual address of a service`)
		case s.IsNode:
			m.put(`node`)
		default:
			m.put(`of %s`, s.Origin.Image)
		}
		if len(status.Engines) > 1 {
			m.put(` at %s`, s.Origin.Engine)
		}
		m.put(`</span>`)
	}
	m.putDetails(s, lines)
	m.put(`</div>`)
	if status.hasSwarm() {
		m.put(`<td data-label="node">`)
		if t := s.Origin.Task; t != nil {
			m.put("%s", t.Node)
		}
	}
	m.put(`<td data-label="state">%s`, s.Origin.State)
	if s.Sick {
		m.put(` <span class="bad">unhealthy</span>`)
	}
	if n := s.Origin.Notes; n != nil && len(n.Problems) > 0 {
		m.put(` <span class="bad">problems: %s</span>`, strconv.Itoa(len(n.Problems)))
	}
	m.put(`<td data-label="age" class="short">%s</tr>`, age(s.Origin.Since))
}

// putDetails puts what has no place in the row, behind a click.
func (m *markup) putDetails(s *publish.Service, lines []Line) {
	var networks, ports, settings, problems, log []string
	for _, e := range s.Endpoints() {
		if e.Name != "" {
			networks = append(networks, e.Name+" "+strings.Join(publish.AddrTexts(publish.FirstFew(e.Addrs)), " "))
		}
	}
	for _, p := range publish.FirstFew(s.Ports) {
		ports = append(ports, p.String())
	}
	if n := s.Origin.Notes; n != nil {
		problems = n.Problems
		for _, set := range n.Settings {
			settings = append(settings, set.Source+"="+set.Value)
		}
	}
	for _, l := range lines {
		log = append(log, l.Time.Format(time.RFC3339)+" "+l.Level.String()+" "+l.Text)
	}
	m.put(`<details><summary>more</summary><dl>`)
	m.putDetail("problems", problems)
	m.putDetail("ID", []string{s.ID})
	if s.Origin.Project() != "" {
		m.putDetail("project", []string{s.Origin.Project()})
	}
	if t := s.Origin.Task; t != nil && t.ID != "" {
		m.putDetail("service", []string{t.Service})
		m.putDetail("task", []string{t.ID})
	}
	m.putDetail("networks", networks)
	m.putDetail("ports", ports)
	m.putMore(len(s.Ports) - len(ports))
	if s.Outside != nil {
		m.putDetail("from elsewhere", publish.AddrTexts(publish.FirstFew(s.Outside.Addrs)))
	}
	m.putDetail("TXT", publish.FirstFew(s.TXT))
	m.putDetail("set by", settings)
	m.putDetail("log", log)
	m.put(`</dl></details>`)
}

func (m *markup) putDetail(what string, values []string) {
	if len(values) > 0 {
		m.put(`<dt>%s<dd>`, what)
		m.putCodes(values)
	}
}

// putNames puts names that can be copied.
func (m *markup) putNames(names []dnsname.Name) {
	for _, n := range publish.FirstFew(names) {
		m.put(`<button class="copy" type="button" title="copy">%s</button>`, dnsname.Text(n))
		m.putUnicode(n)
	}
	m.putMore(len(names) - len(publish.FirstFew(names)))
}

// putUnicode puts a name as people read it, if its labels are A-labels.
func (m *markup) putUnicode(n dnsname.Name) {
	if u := dnsname.Unicode(n); u != dnsname.Text(n) {
		m.put(` <span class="dim">%s</span>`, u)
	}
}

// putMore says that a list is longer than what is shown of it.
func (m *markup) putMore(count int) {
	if count > 0 {
		m.put(`<span class="dim">and %s more</span>`, strconv.Itoa(count))
	}
}
