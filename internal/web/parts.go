package web

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/engine"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/stats"
	"github.com/rayje/dnsdock/internal/transfer"
	"github.com/rayje/dnsdock/internal/zone"
)

func (m *markup) putFacts(s Status) {
	m.put(`%s services under <code>%s</code>, default TTL %s s, version %s, up for %s`,
		strconv.Itoa(s.Services), s.Domain, fmt.Sprint(s.TTL), s.Version, age(s.Started))
	if !s.Ready {
		m.put(`; <span class="bad">the containers are not known yet</span>`)
	}
}

// putPlots puts a graph for each kind of answer. The page's script adds the rates of now.
func (m *markup) putPlots(s Status) {
	for _, kind := range stats.KindNames {
		m.put(`<div class="%s" data-kind="%s"><span class="dim">%s</span> <strong class="rate"></strong>`,
			kind, kind, kind)
		m.put(`<svg viewBox="0 0 60 30" preserveAspectRatio="none" role="img" `+
			`aria-label="%s queries a minute, of the last hour"><polyline points="%s"></polyline></svg>`,
			kind, polyline(s.Hour[kind]))
		m.put(`<span class="dim total">%s</span></div>`, fmt.Sprint(s.Queries[kind])+" in all")
	}
}

// polyline returns the points of a graph of 60 by 30 with a step for each of values. The last one is
// at the right end.
func polyline(values []uint64) string {
	top := float64(max(1, slices.Max(append(values, 0))))
	var points strings.Builder
	for i, v := range values {
		x, y := 60-len(values)+i, 29-28*float64(v)/top
		fmt.Fprintf(&points, "%d,%.1f %d,%.1f ", x, y, x+1, y)
	}
	return strings.TrimSpace(points.String())
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
		if u.Queries == 0 {
			m.put(`<td class="short"><span class="dim">not asked yet</span>`)
		} else {
			m.putState(u.Up, "answers", "silent")
		}
		m.put(`<td>%s<td>%s</tr>`, fmt.Sprint(u.Queries), fmt.Sprint(u.Failures))
	}
	m.put(`</tbody></table>`)
}

// putSecondaries puts the nameservers that transfer zones, if there are any.
func (m *markup) putSecondaries(list []transfer.Secondary) {
	if len(list) == 0 {
		return
	}
	m.put(`<h2>Secondaries</h2><table><thead>`)
	m.put(`<tr><th>address<th>last NOTIFY<th>last transfer<th>serial</tr></thead><tbody>`)
	ago := func(t time.Time) string {
		if t.IsZero() {
			return "none"
		}
		return age(t) + " ago"
	}
	for _, s := range list {
		m.put(`<tr><td><code>%s</code>`, s.Addr.String())
		if why := cmp.Or(s.Refused, s.NotifyError); why != "" {
			m.put(`<br><span class="bad">%s</span>`, why)
		}
		m.put(`<td>%s<td>%s %s<td>%s</tr>`, ago(s.Notified), ago(s.Transferred), s.Kind, fmt.Sprint(s.Serial))
	}
	m.put(`</tbody></table>`)
}

// putAnswer puts what a client is answered, and why.
func (m *markup) putAnswer(res *zone.Resolution, err error) {
	if err != nil {
		m.put(`<p class="bad">%s</p>`, err.Error())
		return
	}
	m.put(`<p><strong>%s</strong> <span class="dim">%s; for the client %s</span></p>`,
		cmp.Or(res.Rcode, res.Kind), res.Kind, res.Client.String())
	if res.Unicode != "" {
		m.put(`<p><code>%s</code> <span class="dim">%s</span></p>`, res.Name, res.Unicode)
	}
	m.put(`<table><tbody>`)
	for _, a := range res.Answers {
		m.put(`<tr><td><code>%s</code><td class="short">%s s<td class="short">%s<td><code>%s</code></tr>`,
			a.Name, fmt.Sprint(a.TTL), a.Type, a.Data)
	}
	m.put(`</tbody></table>`)
	for _, why := range res.Why {
		m.put(`<p><code>%s</code>: %s</p><ul>`, why.Name, why.Rule)
		for _, s := range why.Services {
			m.put(`<li>%s`, cmp.Or(s.Container, s.ID))
			m.putCodes(s.Names)
			if len(s.SecondNames) > 0 {
				m.put(` <span class="dim">by second names</span>`)
				m.putCodes(s.SecondNames)
			}
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

// putService puts a service as a row of the table.
func (m *markup) putService(s *publish.Service, status Status) {
	m.put(`<tr data-id="%s"><td data-label="names"><div>`, s.ID)
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
		m.put(`%s <span class="dim">of %s`, s.Origin.Container, s.Origin.Image)
		if len(status.Engines) > 1 {
			m.put(` at %s`, s.Origin.Engine)
		}
		m.put(`</span>`)
	}
	m.putDetails(s)
	m.put(`</div><td data-label="state">%s`, s.Origin.State)
	if s.Sick {
		m.put(` <span class="bad">unhealthy</span>`)
	}
	m.put(`<td data-label="age" class="short">%s</tr>`, age(s.Origin.Since))
}

// putDetails puts what has no place in the row, behind a click.
func (m *markup) putDetails(s *publish.Service) {
	var networks, ports []string
	for _, e := range s.Endpoints() {
		if e.Name != "" {
			networks = append(networks, e.Name+" "+strings.Join(publish.AddrTexts(publish.FirstFew(e.Addrs)), " "))
		}
	}
	for _, p := range publish.FirstFew(s.Ports) {
		ports = append(ports, p.String())
	}
	m.put(`<details><summary>more</summary><dl>`)
	m.putDetail("ID", []string{s.ID})
	m.putDetail("networks", networks)
	m.putDetail("ports", ports)
	m.putMore(len(s.Ports) - len(ports))
	m.putDetail("TXT", publish.FirstFew(s.TXT))
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
