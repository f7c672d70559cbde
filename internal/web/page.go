package web

import (
	"cmp"
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"html"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/engine"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/transfer"
	"github.com/rayje/dnsdock/internal/zone"
)

// pageHTML is the overview page. Parts stand in it as {{name}}.
//
//go:embed page.html
var pageHTML string

const (
	maxRows     = 200  // services on the page at once; its script asks for the next ones as the user scrolls
	maxChoices  = 1000 // values that a filter offers
	maxSearches = 32   // requests that search or wait for that; with 100,000 services each takes 0.1 seconds
)

// A Page serves the overview page. The query parameter q selects the services that contain a text, the parameters of
// filters those that have a value, and from says how many of them to skip; name, type and client ask for an answer, as
// for /resolve. No field may be nil.
type Page struct {
	Status   func() Status
	Services iter.Seq[*publish.Service]                    // all that are published; lets others run during long walks
	Resolve  func(*http.Request) (*zone.Resolution, error) // answers what the request asks for
	Lines    func(*publish.Service) []Line                 // of the log

	searches  atomic.Int32 // requests in search
	searching sync.Mutex   // held by the one request that walks Services
}

var _ http.Handler = (*Page)(nil)

// A Status says how the program is.
type Status struct {
	Version  string            `json:"version"`
	Started  time.Time         `json:"started"`
	Ready    bool              `json:"ready"` // the containers are known
	Domain   string            `json:"domain"`
	TTL      uint32            `json:"ttl"`    // the default in seconds
	Writes   string            `json:"writes"` // see WriteAuth.Mode
	Services int               `json:"services"`
	Queries  map[string]uint64 `json:"queries"` // that were answered, by kind
	Engines  []engine.Status   `json:"engines"`

	Secondaries []transfer.Secondary `json:"secondaries,omitempty"`

	Hour map[string][]uint64 `json:"hour"` // queries in each minute of the last hour, by kind; the newest is last

	forward.Status
}

// hasSwarm reports whether an engine is in a swarm.
func (s *Status) hasSwarm() bool {
	return slices.ContainsFunc(s.Engines, func(e engine.Status) bool { return e.Swarm != nil })
}

// ServeHTTP implements http.Handler.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q, s, nonce := r.URL.Query(), p.Status(), rand.Text() // neither script nor style works without the nonce
	found, err := p.search(r.Context(), q)
	if err != nil {
		w.Header().Set("Retry-After", "1")
		WriteError(w, http.StatusServiceUnavailable, err)
		return
	}
	parts := map[string]func(*markup){
		"nonce":       func(m *markup) { m.put("%s", nonce) },
		"domain":      func(m *markup) { m.put("%s", s.Domain) },
		"name":        func(m *markup) { m.put("%s", q.Get("name")) },
		"type":        func(m *markup) { m.put("%s", cmp.Or(q.Get("type"), "A")) },
		"client":      func(m *markup) { m.put("%s", q.Get("client")) },
		"search":      func(m *markup) { m.put("%s", q.Get("q")) },
		"facts":       func(m *markup) { m.putFacts(s) },
		"plots":       func(m *markup) { m.putPlots(s) },
		"engines":     func(m *markup) { m.putEngines(s.Engines) },
		"upstreams":   func(m *markup) { m.putUpstreams(s.Upstreams) },
		"secondaries": func(m *markup) { m.putSecondaries(s.Secondaries) },
		"filters":     func(m *markup) { m.putFilters(found) },
		"services":    func(m *markup) { m.putServices(found, s, p.Lines) },
		"count":       func(m *markup) { m.putCount(found) },
		"answer": func(m *markup) {
			if q.Get("name") != "" {
				m.putAnswer(p.Resolve(r))
			}
		},
	}
	var oldNew []string // for the replacer: each part's place, and the part
	for name, put := range parts {
		var m markup
		put(&m)
		oldNew = append(oldNew, "{{"+name+"}}", m.String())
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", fmt.Sprintf("default-src 'none'; script-src 'nonce-%[1]s'; "+
		"style-src 'nonce-%[1]s'; img-src data:; connect-src 'self'; form-action 'self'; base-uri 'none'; "+
		"frame-ancestors 'none'", nonce))
	// The replacer does not look at the parts again. An error says that the client went away.
	_, _ = strings.NewReplacer(oldNew...).WriteString(w, pageHTML)
}

// filters are the parameters that select services by one value. Each function returns the values of a service.
var filters = []struct {
	name   string
	values func(*publish.Service) []string
}{
	{"engine", func(s *publish.Service) []string { return []string{s.Origin.Engine} }},
	{"network", func(s *publish.Service) (names []string) {
		for _, e := range s.Endpoints() {
			names = append(names, e.Name)
		}
		return names
	}},
	{"project", func(s *publish.Service) []string { return []string{s.Origin.Project()} }},
	{"image", func(s *publish.Service) []string { return []string{s.Origin.Image} }},
}

// A finding is what a search found.
type finding struct {
	query   url.Values
	window  []*publish.Service  // sorted by name, maxRows at most
	from    int                 // services before the window
	count   int                 // services in all
	choices map[string][]string // by filter, the values of all services, sorted
}

// search returns the services that a request asks for. One request searches at a time: with 100,000 services a search
// takes as long as many queries.
func (p *Page) search(ctx context.Context, query url.Values) (*finding, error) {
	defer p.searches.Add(-1)
	if p.searches.Add(1) > maxSearches {
		return nil, errors.New("too many searches wait for their turn: try again")
	}
	p.searching.Lock()
	defer p.searching.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err // the client went away meanwhile
	}
	type hit struct {
		name string
		*publish.Service
	}
	var hits []hit
	text := strings.ToLower(strings.TrimSpace(query.Get("q")))
	choices := make(map[string]map[string]bool, len(filters))
	for _, f := range filters {
		choices[f.name] = make(map[string]bool)
		if v := query.Get(f.name); v != "" {
			choices[f.name][v] = true // also if no service has it any more
		}
	}
	for s := range p.Services {
		if passes(s, query, choices) && contains(s, text) {
			var name string
			if names := s.MainNames(); len(names) > 0 {
				name = dnsname.Text(names[0])
			}
			hits = append(hits, hit{name, s})
		}
	}
	slices.SortFunc(hits, func(a, b hit) int {
		return cmp.Or(strings.Compare(a.name, b.name), strings.Compare(a.ID, b.ID))
	})
	from, _ := strconv.Atoi(query.Get("from")) // 0 if it is no number
	f := &finding{query: query, count: len(hits), choices: make(map[string][]string)}
	f.from = max(0, min(from, len(hits)-1))
	for _, h := range hits[f.from:min(len(hits), f.from+maxRows)] {
		f.window = append(f.window, h.Service)
	}
	for name, values := range choices {
		f.choices[name] = slices.Sorted(maps.Keys(values))
	}
	return f, nil
}

// passes reports whether s has all the values that a query asks for, and adds its own values to choices.
func passes(s *publish.Service, query url.Values, choices map[string]map[string]bool) bool {
	ok := true
	for _, f := range filters {
		values := f.values(s)
		for _, v := range values {
			if v != "" && len(choices[f.name]) < maxChoices {
				choices[f.name][v] = true
			}
		}
		if wanted := query.Get(f.name); wanted != "" && !slices.Contains(values, wanted) {
			ok = false
		}
	}
	return ok
}

// contains reports whether a lower-case text is in what the page shows of s. Names contain it in
// either spelling, with A-labels or with U-labels.
func contains(s *publish.Service, text string) bool {
	has := func(shown string) bool { return strings.Contains(strings.ToLower(shown), text) }
	hasName := func(n dnsname.Name) bool { return has(dnsname.Text(n)) || has(dnsname.Unicode(n)) }
	return text == "" || has(s.ID) || has(s.Origin.State) ||
		has(s.Origin.Container) || has(s.Origin.Image) || has(s.Origin.Engine) || has(s.Origin.Project()) ||
		s.Origin.Task != nil && (has(s.Origin.Task.Service) || has(s.Origin.Task.Node)) ||
		slices.ContainsFunc(s.Endpoints(), func(e publish.Endpoint) bool { return has(e.Name) }) ||
		s.CNAME != "" && hasName(s.CNAME) || slices.ContainsFunc(s.AllNames(), hasName) ||
		slices.ContainsFunc(publish.AddrTexts(s.Addrs), has)
}

// A markup is HTML. Whatever is put into it as text stays text; only formats are HTML, and they are constants of this
// package.
//
// Package html/template would know more contexts than the two that occur here. But the linker keeps
// each exported method of each type in a program that uses it, because templates may call them by
// name: 2.3 MB more.
type markup struct{ strings.Builder }

// put appends a format. Each %s in it stands for a text: between tags, or in an attribute in double quotes.
func (m *markup) put(format string, texts ...string) {
	escaped := make([]any, len(texts))
	for i, s := range texts {
		escaped[i] = html.EscapeString(strings.ToValidUTF8(s, "\uFFFD"))
	}
	fmt.Fprintf(m, format, escaped...)
}

// putCodes puts texts in a row.
func (m *markup) putCodes(texts []string) {
	for _, s := range texts {
		m.put(` <code>%s</code>`, s)
	}
}

// age returns how long ago t was, in one unit.
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
