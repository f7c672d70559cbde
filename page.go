package main

import (
	"cmp"
	"crypto/rand"
	_ "embed"
	"fmt"
	"html"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/engine"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/index"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/stats"
	"github.com/rayje/dnsdock/internal/zone"
)

// pageHTML is the overview page, but for the parts that are between {{ and }}.
//
//go:embed page.html
var pageHTML string

const maxRows = 1000 // services on the page; it finds the others

// A markup is HTML. All that is put into it is text, whoever it is from; only
// formats are HTML, and they are constants of this file.
//
// Package html/template would see to more contexts than the two that there are
// here. But a program that holds it keeps each exported method of each type,
// as templates may call them by name: 2.3 MB more.
type markup struct{ strings.Builder }

// put appends a format, in which %s stands for a text: between tags, or as an
// attribute in double quotes.
func (m *markup) put(format string, texts ...string) {
	escaped := make([]any, len(texts))
	for i, s := range texts {
		escaped[i] = html.EscapeString(strings.ToValidUTF8(s, "\uFFFD"))
	}
	fmt.Fprintf(m, format, escaped...)
}

// page: GET /, with ?q= those services only that hold a text, and with ?name=,
// type and client as for /resolve the answer.
func (a *api) page(w http.ResponseWriter, r *http.Request) {
	q, s, nonce := r.URL.Query(), a.current(), rand.Text() // without the nonce neither script nor style works
	parts := map[string]func(*markup){
		"nonce":     func(m *markup) { m.put("%s", nonce) },
		"domain":    func(m *markup) { m.put("%s", s.Domain) },
		"name":      func(m *markup) { m.put("%s", q.Get("name")) },
		"type":      func(m *markup) { m.put("%s", cmp.Or(q.Get("type"), "A")) },
		"client":    func(m *markup) { m.put("%s", q.Get("client")) },
		"search":    func(m *markup) { m.put("%s", q.Get("q")) },
		"facts":     func(m *markup) { m.putFacts(s) },
		"plots":     func(m *markup) { m.putPlots(s.Queries) },
		"engines":   func(m *markup) { m.putEngines(s.Engines) },
		"upstreams": func(m *markup) { m.putUpstreams(s.Upstreams) },
		"services":  func(m *markup) { m.putServices(a, q.Get("q"), s) },
		"answer": func(m *markup) {
			if q.Get("name") != "" {
				m.putAnswer(a.explain(r, q.Get("name"), q.Get("type"), q.Get("client")))
			}
		},
	}
	var list []string // what stands for a part, and the part
	for name, put := range parts {
		var m markup
		put(&m)
		list = append(list, "{{"+name+"}}", m.String())
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", fmt.Sprintf("default-src 'none'; script-src 'nonce-%[1]s'; style-src 'nonce-%[1]s'; img-src data:; connect-src 'self'; "+
		"form-action 'self'; base-uri 'none'; frame-ancestors 'none'", nonce))
	_, _ = strings.NewReplacer(list...).WriteString(w, pageHTML) // the client went away; parts are not looked at again
}

func (m *markup) putFacts(s statusJSON) {
	m.put("%s services under <code>%s</code>, default TTL %s s, version %s, up for %s", strconv.Itoa(s.Services), s.Domain, fmt.Sprint(s.TTL), s.Version, age(s.Started))
	if !s.Ready {
		m.put(`; <span class="bad">the containers are not known yet</span>`)
	}
}

func (m *markup) putPlots(queries map[string]uint64) {
	for _, kind := range stats.KindNames {
		m.put(`<div class="%s" data-kind="%s"><span class="dim">%s</span> <strong class="rate"></strong>
      <svg viewBox="0 0 60 30" preserveAspectRatio="none" role="img" aria-label="%s queries a second, of the last two minutes"><polyline points=""></polyline></svg>
      <span class="dim total">%s</span></div>
    `, kind, kind, kind, kind, fmt.Sprint(queries[kind]))
	}
}

func (m *markup) putEngines(engines []engine.Status) {
	for _, e := range engines {
		m.put(`<tr><td><code>%s</code>`, e.URL)
		if e.Error != "" {
			m.put(`<br><span class="bad">%s</span>`, e.Error)
		}
		m.putState(e.Up, "found", "away")
		if !e.Since.IsZero() {
			m.put(` <span class="dim">for %s</span>`, age(e.Since))
		}
		m.put(`<td>%s<td>%s</tr>`, fmt.Sprint(e.Events), fmt.Sprint(e.Resyncs))
	}
}

func (m *markup) putState(isGood bool, good, bad string) {
	if isGood {
		m.put(`<td class="short"><span class="good">%s</span>`, good)
	} else {
		m.put(`<td class="short"><span class="bad">%s</span>`, bad)
	}
}

func (m *markup) putUpstreams(upstreams []forward.UpstreamStatus) {
	if len(upstreams) == 0 {
		m.put(`<p class="dim">None: other names are refused.</p>`)
		return
	}
	m.put(`<table><thead><tr><th>nameserver<th>state<th>asked<th>failed</tr></thead><tbody>`)
	for _, u := range upstreams {
		m.put(`<tr><td><code>%s</code> <span class="dim">%s</span>`, u.Addr, strings.Join(u.Domains, " "))
		m.putState(u.Up, "answers", "silent")
		m.put(`<td>%s<td>%s</tr>`, fmt.Sprint(u.Queries), fmt.Sprint(u.Failures))
	}
	m.put(`</tbody></table>`)
}

func (m *markup) putAnswer(res *zone.Resolution, err error) {
	if err != nil {
		m.put(`<p class="bad">%s</p>`, err.Error())
		return
	}
	m.put(`<p><strong>%s</strong> <span class="dim">%s; for the client %s</span></p><table><tbody>`, cmp.Or(res.Rcode, res.Kind), res.Kind, res.Client.String())
	for _, a := range res.Answers {
		m.put(`<tr><td><code>%s</code><td class="short">%s s<td class="short">%s<td><code>%s</code></tr>`, a.Name, fmt.Sprint(a.TTL), a.Type, a.Data)
	}
	m.put(`</tbody></table>`)
	for _, why := range res.Why {
		m.put(`<p><code>%s</code>: %s</p><ul>`, why.Name, why.Rule)
		for _, s := range why.Services {
			m.put(`<li>%s`, cmp.Or(s.Container, s.ID))
			m.putCodes(s.Names)
			m.put(`</li>`)
		}
		if why.More {
			m.put(`<li>and more</li>`)
		}
		m.put(`</ul>`)
	}
	if len(res.Forward) > 0 {
		m.put(`<p>Asked in this order:`)
		m.putCodes(res.Forward)
		m.put(`</p>`)
	}
}

func (m *markup) putCodes(texts []string) {
	for _, s := range texts {
		m.put(` <code>%s</code>`, s)
	}
}

func (m *markup) putServices(a *api, search string, status statusJSON) {
	first, found := a.rows(strings.ToLower(strings.TrimSpace(search)))
	switch {
	case found == 0 && search != "":
		m.put(`<p class="dim">No service holds this text.</p>`)
	case found == 0:
		m.put(`<p class="dim">No service is published.</p>`)
	default:
		m.put(`<table><thead><tr><th>names<th>addresses<th>TTL<th>origin<th>state<th>age</tr></thead><tbody>`)
		for _, s := range first {
			m.putService(s, status)
		}
		m.put(`</tbody></table>`)
	}
	m.put(`<p id="count" class="dim">%s of %s shown`, strconv.Itoa(len(first)), strconv.Itoa(found))
	if found > len(first) {
		m.put(`; search for the others, or read <a href="/services">all as JSON</a>`)
	}
	m.put(`</p>`)
}

func (m *markup) putMore(count int) {
	if count > 0 {
		m.put(`<span class="dim">and %s more</span>`, strconv.Itoa(count))
	}
}

func (m *markup) putService(s *publish.Service, status statusJSON) {
	m.put(`<tr data-id="%s"><td data-label="names"><div>`, s.ID)
	for _, n := range dnsname.Texts(publish.FirstFew(s.AllNames())) {
		m.put(`<button class="copy" type="button" title="copy">%s</button>`, n)
	}
	m.putMore(len(s.AllNames()) - len(publish.FirstFew(s.AllNames())))
	m.put(`</div><td data-label="addresses"><div>`)
	if s.CNAME != "" {
		m.put(`CNAME <code>%s</code>`, dnsname.Text(s.CNAME))
	}
	for _, addr := range publish.AddrTexts(publish.FirstFew(s.Addrs)) {
		m.put(`<code>%s</code> `, addr)
	}
	m.putMore(len(s.Addrs) - len(publish.FirstFew(s.Addrs)))
	ttl := int(status.TTL)
	if s.TTL != publish.DefaultTTL {
		ttl = s.TTL
	}
	m.put(`</div><td data-label="TTL" class="short">%s s<td data-label="origin"><div>`, strconv.Itoa(ttl))
	if s.Origin == (publish.Origin{}) {
		m.put(`by hand <span class="dim">%s</span>`, s.ID)
	} else {
		m.put(`%s <span class="dim">of %s`, s.Origin.Container, s.Origin.Image)
		if len(status.Engines) > 1 {
			m.put(` at %s`, s.Origin.Engine)
		}
		m.put(`</span>`)
	}
	m.put(`</div><td data-label="state">%s`, s.State)
	if s.Sick {
		m.put(` <span class="bad">unhealthy</span>`)
	}
	m.put(`<td data-label="age" class="short">%s</tr>`, age(s.Since))
}

// rows returns the services that hold a text, in lower case, by their names,
// maxRows of them at most, and how many there are. They are looked for by one
// at a time: with 100,000 of them it takes as much as many queries.
func (a *api) rows(search string) (first []*publish.Service, count int) {
	a.looking.Lock()
	defer a.looking.Unlock()
	type hit struct {
		name string
		*publish.Service
	}
	var hits []hit
	all := a.reg.Published()
	all.Walk(^publish.Kind(0), 0, all.Len(), index.Pausing(func(s *publish.Service) bool {
		if holds(s, search) {
			hits = append(hits, hit{dnsname.Text(s.OwnerNames[0]), s})
		}
		return true
	}))
	slices.SortFunc(hits, func(a, b hit) int { return cmp.Or(strings.Compare(a.name, b.name), strings.Compare(a.ID, b.ID)) })
	for _, h := range hits[:min(len(hits), maxRows)] {
		first = append(first, h.Service)
	}
	return first, len(hits)
}

// holds reports whether a text, in lower case, is in what the page shows of s.
func holds(s *publish.Service, search string) bool {
	has := func(text string) bool { return strings.Contains(strings.ToLower(text), search) }
	return search == "" || has(s.ID) || has(s.Origin.Container) || has(s.Origin.Image) || has(s.Origin.Engine) || has(s.State) ||
		s.CNAME != "" && has(dnsname.Text(s.CNAME)) ||
		slices.ContainsFunc(s.AllNames(), func(o dnsname.Name) bool { return has(dnsname.Text(o)) }) ||
		slices.ContainsFunc(publish.AddrTexts(s.Addrs), has)
}

// age is how long ago t was, in one unit.
func age(t time.Time) string {
	switch d := time.Since(t); {
	case t.IsZero():
		return ""
	case d < time.Minute:
		return fmt.Sprintf("%d s", max(0, int(d.Seconds())))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	default:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	}
}
