package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/config"
	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/engine"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/stats"
	"github.com/rayje/dnsdock/internal/udpio"
	"github.com/rayje/dnsdock/internal/zone"
)

const maxHTTPConns = 256 // a few clients and what watches them; an idle one takes 20 KB

// newHTTPServer returns a server of h that no slow client can hold, and
// neither can many. Its requests end with ctx.
func newHTTPServer(ctx context.Context, h http.Handler, log *slog.Logger) *http.Server {
	conns := &httpConns{all: make(map[net.Conn]*httpConn)}
	return &http.Server{
		Handler:           conns.working(h),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnState:         conns.track,
		ConnContext:       conns.context,
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      sendTimeout,
		IdleTimeout:       sendTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug), // clients' faults
	}
}

// httpConns bounds the connections of a server: where there are too many, the
// one that is open for longest without a request that is whole makes room.
// The listener stays as it is: around it, a connection could not be closed by
// halves, and who is refused would read a reset and no reply.
type httpConns struct {
	mu  sync.Mutex // guards all, and what is in it
	all map[net.Conn]*httpConn
}

type httpConn struct {
	since   time.Time // of its being accepted or idle
	working bool      // a handler works for it
}

// A connKey is the key of a request's *httpConn in its context.
type connKey struct{}

func (h *httpConns) track(c net.Conn, state http.ConnState) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch state {
	case http.StateNew:
		if len(h.all) >= maxHTTPConns {
			h.dropLocked()
		}
		h.all[c] = &httpConn{since: time.Now()}
	case http.StateIdle:
		if known := h.all[c]; known != nil {
			known.since = time.Now()
		}
	case http.StateClosed, http.StateHijacked:
		delete(h.all, c)
	}
}

// dropLocked closes the connection that is open or idle for longest; one that a
// handler works for only where all are such.
func (h *httpConns) dropLocked() {
	var oldest net.Conn
	for c, known := range h.all {
		switch first := h.all[oldest]; {
		case first == nil, first.working && !known.working, first.working == known.working && known.since.Before(first.since):
			oldest = c
		}
	}
	delete(h.all, oldest)
	_ = oldest.Close() // the client sees the end
}

func (h *httpConns) context(ctx context.Context, c net.Conn) context.Context {
	h.mu.Lock()
	defer h.mu.Unlock()
	return context.WithValue(ctx, connKey{}, h.all[c])
}

// working notes for which connections next is at work.
func (h *httpConns) working(next http.Handler) http.Handler {
	set := func(c *httpConn, working bool) {
		h.mu.Lock()
		defer h.mu.Unlock()
		c.working = working
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, _ := r.Context().Value(connKey{}).(*httpConn); c != nil {
			set(c, true)
			defer set(c, false)
		}
		next.ServeHTTP(w, r)
	})
}

// guard lets only those in who may be: no page of another origin, neither by
// a request across origins nor by its own name pointed at our address (DNS
// rebinding), and no writer past the lock. Nothing of what is sent may be
// used by other pages, or run there.
func (a *api) guard(next http.Handler) http.Handler {
	forbid := func(w http.ResponseWriter, _ *http.Request) {
		writeError(w, http.StatusForbidden, errors.New("a web page of another origin must not read or write here"))
	}
	writes := http.NewCrossOriginProtection()
	writes.SetDenyHandler(http.HandlerFunc(forbid))
	next = writes.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for k, v := range map[string]string{
			"Cache-Control":                "no-store",
			"Content-Security-Policy":      "default-src 'none'; frame-ancestors 'none'",
			"Cross-Origin-Resource-Policy": "same-origin",
			"Referrer-Policy":              "no-referrer",
			"X-Content-Type-Options":       "nosniff",
			"X-Frame-Options":              "DENY",
		} {
			w.Header().Set(k, v)
		}
		isRead := r.Method == http.MethodGet || r.Method == http.MethodHead
		switch {
		case !a.ownHost(r):
			writeError(w, http.StatusForbidden, fmt.Errorf("host %.100q is not ours: use an address, localhost, dnsdock or a name under %s", r.Host, dnsname.Text(a.reg.Rules.Apex)))
			return
		case isRead && isForeign(r):
			forbid(w, r)
			return
		case !isRead:
			if status, err := a.lock.check(r.Header.Get("Authorization")); err != nil {
				if status == http.StatusUnauthorized {
					w.Header().Set("WWW-Authenticate", `Bearer realm="dnsdock"`)
				}
				writeError(w, status, err)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// ownHost reports whether the host of a request is an address, localhost, the
// name of this machine or container, or a name of ours. Browsers always
// send one, and none comes by a socket in the file system.
func (a *api) ownHost(r *http.Request) bool {
	host := r.Host
	if at, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); host == "" || ok && at.Network() == "unix" {
		return true
	}
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return true
	}
	machine, _ := os.Hostname() // or it is not told
	n, err := dnsname.Parse(host)
	if err != nil {
		return false
	}
	if _, ok := a.reg.AliasFor(n); ok || strings.EqualFold(dnsname.Text(n), machine) {
		return true
	}
	_, ours := a.reg.ZoneOf(n)
	return ours || n == dnsname.Localhost || n == "\x07dnsdock\x00"
}

// isForeign reports whether a page of another origin reads. A link there may
// be followed here.
func isForeign(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "same-origin", "none":
		return false
	case "": // an old browser, or none at all
		origin := r.Header.Get("Origin")
		u, err := url.Parse(origin)
		return origin != "" && (err != nil || u.Host != r.Host)
	}
	return r.Header.Get("Sec-Fetch-Mode") != "navigate"
}

// A lock says who may write.
type lock struct {
	readOnly bool
	file     string // that holds the token; empty: everyone may write
	log      *slog.Logger

	mu     sync.Mutex // guards broken
	broken bool       // the log said that the file can't be used
}

// String says it in a word.
func (l *lock) String() string {
	switch {
	case l.readOnly:
		return "none"
	case l.file != "":
		return "token"
	}
	return "open"
}

// check returns the status and the error for a write with such a header
// Authorization, nil where it may be.
func (l *lock) check(header string) (status int, err error) {
	switch {
	case l.readOnly:
		return http.StatusForbidden, errors.New("nothing can be changed here: dnsdock was started with -http-readonly")
	case l.file == "":
		return 0, nil
	}
	token, err := l.token()
	if err != nil {
		return http.StatusForbidden, errors.New("nothing can be changed now: the file of -http-token-file can't be used, see the log")
	}
	scheme, given, _ := strings.Cut(header, " ")
	a, b := sha256.Sum256([]byte(strings.TrimSpace(given))), sha256.Sum256([]byte(token)) // of one length, so that the time says nothing of it
	if subtle.ConstantTimeCompare(a[:], b[:]) != 1 || !strings.EqualFold(scheme, "Bearer") {
		return http.StatusUnauthorized, errors.New(`wrong token or none: send the header "Authorization: Bearer TOKEN" with what is in the file of -http-token-file`)
	}
	return 0, nil
}

// token reads the file anew, so that it is what the file says now. It logs
// when it can't be used, and when it can be again.
func (l *lock) token() (string, error) {
	token, err := config.ReadToken(l.file)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch wasBroken := l.broken; {
	case err != nil && !wasBroken:
		l.log.Warn("token can't be read: writes by HTTP are refused", "err", err)
	case err == nil && wasBroken:
		l.log.Info("token can be read again")
	}
	l.broken = err != nil
	return token, err
}

// reload reads the token if there is one, for what the log says of it.
func (l *lock) reload() {
	if l.file != "" {
		_, _ = l.token() // logged there
	}
}

// A statusJSON is how the program is.
type statusJSON struct {
	Version  string            `json:"version"`
	Started  time.Time         `json:"started"`
	Ready    bool              `json:"ready"` // the containers are known
	Domain   string            `json:"domain"`
	TTL      uint32            `json:"ttl"`    // the default, in seconds
	Writes   string            `json:"writes"` // "open", "token" or "none"
	Services int               `json:"services"`
	Queries  map[string]uint64 `json:"queries"` // that were answered, by kind
	Engines  []engine.Status   `json:"engines"`
	forward.Status
}

func (a *api) current() statusJSON {
	return statusJSON{
		Version: buildVersion(), Started: a.started.UTC(), Ready: a.reg.IsKnown(), Domain: dnsname.Text(a.reg.Rules.Apex), TTL: a.reg.TTL.Load(),
		Writes: a.lock.String(), Services: a.reg.Published().Len(), Queries: a.zone.Traffic.ByKind(), Engines: a.engineStates(), Status: a.zone.Fwd.Status(),
	}
}

func (a *api) engineStates() []engine.Status {
	list := []engine.Status{}
	for _, status := range a.engines {
		list = append(list, status())
	}
	return list
}

// status: GET /status.
func (a *api) status(*http.Request) (int, any, error) { return http.StatusOK, a.current(), nil }

// healthz: GET /healthz. That it answers says all.
func (a *api) healthz(*http.Request) (int, any, error) {
	return http.StatusOK, map[string]bool{"ok": true}, nil
}

// readyz: GET /readyz. An engine that went away changes nothing in what is
// answered, so it is said and no more.
func (a *api) readyz(*http.Request) (int, any, error) {
	s, status := a.current(), http.StatusOK
	if !s.Ready {
		status = http.StatusServiceUnavailable
	}
	return status, map[string]any{"ready": s.Ready, "engines": s.Engines}, nil
}

// resolve: GET /resolve?name=NAME&type=A&client=ADDRESS. The type is A and
// the client the one that asks unless they are given.
func (a *api) resolve(r *http.Request) (int, any, error) {
	q := r.URL.Query()
	res, err := a.explain(r, q.Get("name"), q.Get("type"), q.Get("client"))
	return http.StatusOK, res, err
}

func (a *api) explain(r *http.Request, qname, qtype, from string) (res *zone.Resolution, err error) {
	n, err := dnsname.Parse(strings.TrimSpace(qname))
	if err != nil {
		return nil, fmt.Errorf("parameter name: %w", err)
	}
	t, err := parseType(cmp.Or(strings.TrimSpace(qtype), "A"))
	if err != nil {
		return nil, fmt.Errorf("parameter type: %w", err)
	}
	at, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	c := zone.Client{Addr: remoteAddr(r), Local: udpio.AddrOf(at), Size: dns.MaxMsgSize, Over: stats.TCP}
	if from = strings.TrimSpace(from); from != "" {
		if c.Addr, err = publish.ParseAddr(from); err != nil {
			return nil, fmt.Errorf("parameter client: %w", err)
		}
	}
	return a.zone.Explain(n, dns.Fqdn(strings.TrimSpace(qname)), t, c)
}

// remoteAddr returns the client's address; that of this host where it came by
// a socket in the file system.
func remoteAddr(r *http.Request) netip.Addr {
	if a, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		return a.Addr().Unmap().WithZone("")
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}

// parseType reads a type by its name, or as TYPE and a number (RFC 3597
// section 5).
func parseType(s string) (uint16, error) {
	s = strings.ToUpper(s)
	if t, ok := dns.StringToType[s]; ok {
		return t, nil
	}
	if digits, ok := strings.CutPrefix(s, "TYPE"); ok {
		if n, err := strconv.ParseUint(digits, 10, 16); err == nil {
			return uint16(n), nil
		}
	}
	return 0, errors.New("write a type of records, as in A, AAAA, SRV or TYPE65")
}
