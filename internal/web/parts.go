package web

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rayje/dnsdock/internal/engine"
	"github.com/rayje/dnsdock/internal/forward"
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
		m.putSwarm(e.Swarm)
		m.putState(e.Up, "found", "away")
		if !e.Since.IsZero() {
			m.put(` <span class="dim">for %s</span>`, age(e.Since))
		}
		m.put(`<td>%s<td>%s</tr>`, fmt.Sprint(e.Events), fmt.Sprint(e.Resyncs))
	}
}

// putSwarm puts what an engine is in its swarm, nil if it is in none.
func (m *markup) putSwarm(s *engine.Swarm) {
	if s == nil {
		return
	}
	m.put(`<br>%s of a swarm, on the node %s <span class="dim">%s tasks`, s.Role, s.Node, strconv.Itoa(s.Tasks))
	if s.Services > 0 {
		m.put(` of %s services on %s nodes`, strconv.Itoa(s.Services), strconv.Itoa(s.Nodes))
	}
	m.put(`</span>`)
	if !s.Up {
		m.put(` <span class="bad">not told now</span>`)
	}
	if s.Error != "" {
		m.put(`<br><span class="bad">%s</span>`, s.Error)
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
			if s.Service != "" {
				m.put(` <span class="dim">of the service %s`, s.Service)
				if s.Node != "" {
					m.put(` on the node %s`, s.Node)
				}
				m.put(`</span>`)
			}
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
