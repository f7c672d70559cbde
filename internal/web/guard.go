package web

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"

	"github.com/rayje/dnsdock/internal/dnsname"
)

// A Guard keeps web pages of other origins out, and clients that may not change anything from changing it.
//
// A page reaches us by a request across origins, or by a name of its own that points to our address (DNS rebinding).
// Nothing of what we send may be used by other pages, or run in them.
type Guard struct {
	Apexes []dnsname.Name // domains that dnsdock answers for
	Auth   *WriteAuth
}

var errForeign = errors.New("a web page of another origin must not read or write here")

// Wrap returns next behind the guard.
func (g *Guard) Wrap(next http.Handler) http.Handler {
	crossOrigin := http.NewCrossOriginProtection()
	crossOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		WriteError(w, http.StatusForbidden, errForeign)
	}))
	next = crossOrigin.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		setHeaders(w.Header())
		if status, err := g.check(r); err != nil {
			if status == http.StatusUnauthorized {
				w.Header().Set("WWW-Authenticate", `Bearer realm="dnsdock"`)
			}
			WriteError(w, status, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// check returns nil if r may pass, else the status and the error of the reply.
func (g *Guard) check(r *http.Request) (status int, err error) {
	isRead := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case !g.isOwnHost(r):
		return http.StatusForbidden, fmt.Errorf("host %.100q is not ours: use an address, localhost, dnsdock or %s%s",
			r.Host, ownLabel, dnsname.Text(g.Apexes[0]))
	case isRead && isForeign(r):
		return http.StatusForbidden, errForeign
	case isRead:
		return 0, nil
	}
	return g.Auth.check(r)
}

// setHeaders keeps what we send out of caches and of other pages.
func setHeaders(h http.Header) {
	for k, v := range map[string]string{
		"Cache-Control":                "no-store",
		"Content-Security-Policy":      "default-src 'none'; frame-ancestors 'none'",
		"Cross-Origin-Resource-Policy": "same-origin",
		"Referrer-Policy":              "no-referrer",
		"X-Content-Type-Options":       "nosniff",
		"X-Frame-Options":              "DENY",
	} {
		h.Set(k, v)
	}
}

// isOwnHost reports whether the request's host is an address, localhost, the name of this machine, dnsdock, an apex of
// ours, or dnsdock below one. Names of containers do not count: whoever may start a container may choose them. Browsers
// always send a host.
func (g *Guard) isOwnHost(r *http.Request) bool {
	host := r.Host
	if host == "" || cameByUnixSocket(r) {
		return true
	}
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return true
	}
	n, err := dnsname.Parse(host)
	if err != nil {
		return false
	}
	for _, apex := range g.Apexes {
		if n == apex || dnsname.Text(n) == ownLabel+dnsname.Text(apex) {
			return true
		}
	}
	machine, _ := os.Hostname() // empty if the system does not say
	return n == dnsname.Localhost || dnsname.Text(n) == "dnsdock" || strings.EqualFold(dnsname.Text(n), machine)
}

// ownLabel is before an apex in the name of dnsdock itself, which the zone answers.
const ownLabel = "dnsdock."

// isForeign reports whether a page of another origin sent a request that reads. A link in such a page may be followed.
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
