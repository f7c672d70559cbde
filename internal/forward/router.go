package forward

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/host"
	"github.com/rayje/dnsdock/internal/limit"
)

const (
	followPeriod  = 2 * time.Second // in which a resolv.conf is looked at
	maxResolvConf = 1 << 20         // bytes
	maxOfFile     = 8               // nameservers that are taken from a resolv.conf: each has a share of the time

	maxWaiting       = 1000 // queries that wait for the upstreams of one domain
	maxClientWaiting = 250  // of these of one client; containers behind a proxy are one
	// the same while all these upstreams are away: few queries are enough to find out when one is back
	maxFailing       = 100
	maxClientFailing = 25
)

// A group is the upstreams of one domain, and the queries that wait for them. Each has bounds of its own, so that a
// dead nameserver of one domain does not use up what clients may ask of the others.
type group struct {
	domain    dnsname.Name
	upstreams []*Upstream
	waiting   *limit.PerClient
	failing   *limit.PerClient // counts those that came while all upstreams were away
}

func newGroup(domain dnsname.Name) *group {
	return &group{
		domain:  domain,
		waiting: limit.New(maxClientWaiting, maxWaiting),
		failing: limit.New(maxClientFailing, maxFailing),
	}
}

// isAway reports whether all upstreams of g are away.
func (g *group) isAway() bool {
	return !slices.ContainsFunc(g.upstreams, func(u *Upstream) bool { return !u.health.isAway() })
}

// A place is a query that counts among those that wait for a group.
type place struct {
	group   *group
	client  netip.Addr
	failing bool // it counts in group.failing too
}

// enter counts a query of a client that is going to wait. It reports false if too many wait already. Else the
// caller must call leave.
func (g *group) enter(client netip.Addr) (p place, ok bool) {
	p = place{group: g, client: client, failing: g.isAway()}
	if p.failing && g.failing.Take(client) != nil {
		return p, false
	}
	if g.waiting.Take(client) != nil {
		if p.failing {
			g.failing.Release(client)
		}
		return p, false
	}
	return p, true
}

func (p place) leave() {
	p.group.waiting.Release(p.client)
	if p.failing {
		p.group.failing.Release(p.client)
	}
}

// A router knows which upstreams are for which names, as flags and resolv.confs say.
type router struct {
	configured Routes
	hasAny     bool // there is an upstream, or a file that may name one
	log        *slog.Logger
	roots      *x509.CertPool                 // that sign upstreams' certificates; nil: those of the system
	IsSelf     func(addr netip.AddrPort) bool // reports whether an address is one of dnsdock's own; must not be nil
	FreshPorts int                            // maxFresh, unless a test has fewer; must be set before Load
	onChange   func()                         // called when other upstreams are asked than before

	groups atomic.Pointer[map[dnsname.Name]*group] // by domain; replaced as a whole

	loading sync.Mutex          // held by Load; guards what follows
	loaded  bool                // Load was called
	files   map[string][]Server // what resolv.confs said last
}

func newRouter(configured Routes, log *slog.Logger, onChange func()) *router {
	r := &router{configured: configured, log: log, FreshPorts: maxFresh, onChange: onChange,
		files: make(map[string][]Server)}
	for _, list := range configured {
		r.hasAny = r.hasAny || len(list) > 0
	}
	r.IsSelf = func(netip.AddrPort) bool { return false }
	r.groups.Store(new(map[dnsname.Name]*group))
	return r
}

// groupFor returns the upstreams for n: those of the longest domain that n is in. It is nil if there are none, not
// even for the root.
func (r *router) groupFor(n dnsname.Name) *group {
	groups := *r.groups.Load()
	for ; n != dnsname.Root; n = n.Parent() {
		if g := groups[n]; g != nil {
			return g
		}
	}
	return groups[dnsname.Root]
}

// HasRoute reports whether there are upstreams for n, and whether they, or that there are none, were configured for
// a domain that n is in.
func (r *router) HasRoute(n dnsname.Name) (has, specific bool) {
	g := r.groupFor(n)
	return g != nil && len(g.upstreams) > 0, g != nil && g.domain != dnsname.Root
}

// SameRoute reports whether the same upstreams are asked about two names.
func (r *router) SameRoute(a, b dnsname.Name) bool { return r.groupFor(a) == r.groupFor(b) }

// HasRouteBelow reports whether upstreams were configured for a domain below n.
func (r *router) HasRouteBelow(n dnsname.Name) bool {
	for domain := range *r.groups.Load() {
		if domain != dnsname.Root && domain.Under(n) {
			return true
		}
	}
	return false
}

// Route returns the addresses of the upstreams for n in the order in which they are asked, and the domain that they
// were configured for.
func (r *router) Route(n dnsname.Name) (domain dnsname.Name, addrs []string) {
	g := r.groupFor(n)
	if g == nil {
		return dnsname.Root, nil
	}
	for _, u := range g.upstreams {
		addrs = append(addrs, u.String())
	}
	return g.domain, addrs
}

// Load reads the resolv.confs. It makes the routes again if there are none yet, or if the files name other servers
// than before. An error says that a file can't be read or names no server: then what the file said last goes on.
func (r *router) Load() error {
	news, err := r.load()
	for file, named := range news {
		r.log.Info("nameservers read", "file", file, "upstreams", named)
	}
	return err
}

// load is Load without the log: news is what those files say that changed.
func (r *router) load() (news map[string][]Server, err error) {
	news = make(map[string][]Server)
	r.loading.Lock()
	defer r.loading.Unlock()
	changed := !r.loaded
	r.loaded = true
	for _, list := range r.configured {
		for _, s := range list {
			if s.File == "" {
				continue
			}
			named, e := r.readFile(s.File)
			if e != nil {
				err = e
			} else if !slices.Equal(named, r.files[s.File]) {
				r.files[s.File], news[s.File], changed = named, named, true
			}
		}
	}
	if changed {
		r.makeGroups()
	}
	return news, err
}

// readFile returns the servers that a resolv.conf names, dnsdock itself left out, and only the first ones of many.
func (r *router) readFile(path string) ([]Server, error) {
	b, err := host.ReadFile(path, maxResolvConf)
	if err != nil {
		return nil, err
	}
	list := slices.DeleteFunc(parseResolvConf(b), func(s Server) bool { return r.IsSelf(s.Addr) })
	if len(list) == 0 {
		return nil, fmt.Errorf("%s names no nameserver but dnsdock itself: write a line such as: nameserver 192.0.2.53",
			path)
	}
	return list[:min(len(list), maxOfFile)], nil
}

// makeGroups makes the groups again. What is known of an upstream, and the queries that wait for a domain, stay.
func (r *router) makeGroups() {
	known := make(map[Server]*Upstream)
	before := *r.groups.Load()
	for _, g := range before {
		for _, u := range g.upstreams {
			known[u.Server] = u
		}
	}
	next := make(map[dnsname.Name]*group)
	for domain, list := range r.configured {
		g := newGroup(domain)
		if old := before[domain]; old != nil {
			g.waiting, g.failing = old.waiting, old.failing
		}
		for _, s := range list {
			servers := []Server{s}
			if s.File != "" {
				servers = r.files[s.File]
			}
			for _, s := range servers {
				if known[s] == nil {
					known[s] = newUpstream(s, r.roots, r.FreshPorts)
				}
				g.upstreams = append(g.upstreams, known[s])
			}
		}
		next[domain] = g
	}
	r.groups.Store(&next)
	r.onChange()
}

// follow reads the resolv.confs again from time to time until ctx is done.
func (r *router) follow(ctx context.Context) {
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(followPeriod):
		}
		err := r.Load()
		if err != nil && !failing {
			r.warnUnreadable(err)
		}
		failing = err != nil
	}
}

// Reload reads the resolv.confs at once.
func (r *router) Reload() {
	if err := r.Load(); err != nil {
		r.warnUnreadable(err)
	}
}

func (r *router) warnUnreadable(err error) {
	r.log.Warn("nameservers can't be read: what was read before goes on", "err", err)
}

// all returns each group, in the order of their domains.
func (r *router) all() (list []*group) {
	groups := *r.groups.Load()
	for _, domain := range slices.Sorted(maps.Keys(groups)) {
		list = append(list, groups[domain])
	}
	return list
}
