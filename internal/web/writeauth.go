package web

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"

	"github.com/rayje/dnsdock/internal/host"
)

// A WriteAuth decides who may change something. One of its first three fields may be set. If none
// is, changes must come from this machine or through a unix socket.
type WriteAuth struct {
	ReadOnly  bool   // no change is allowed
	TokenFile string // holds the token that every change needs
	Open      bool   // every client may change something

	IsHost func(netip.Addr) bool // reports whether a client is this machine; nil: never
	Log    *slog.Logger

	mu     sync.Mutex // guards broken
	broken bool       // we logged that the file can't be used
}

// Mode says in a word who may change something: "host" (this machine), "token", "open" or "none".
func (a *WriteAuth) Mode() string {
	switch {
	case a.ReadOnly:
		return "none"
	case a.TokenFile != "":
		return "token"
	case a.Open:
		return "open"
	}
	return "host"
}

// check returns nil if r may change something, else the status and the error of the reply.
func (a *WriteAuth) check(r *http.Request) (status int, err error) {
	switch {
	case a.ReadOnly:
		return http.StatusForbidden, errors.New("nothing can be changed here: dnsdock was started with -http-readonly")
	case a.TokenFile != "":
		return a.checkToken(r.Header.Get("Authorization"))
	case a.Open, cameByUnixSocket(r), a.IsHost != nil && a.IsHost(ClientAddr(r)):
		return 0, nil
	}
	return http.StatusForbidden, errors.New("changes must come from this machine: " +
		"to allow others, start dnsdock with -http=unix://PATH, -http-token-file=FILE or -http-open")
}

// checkToken returns nil if an Authorization header holds the token.
func (a *WriteAuth) checkToken(header string) (status int, err error) {
	token, err := a.token()
	if err != nil {
		return http.StatusForbidden, errors.New("nothing can be changed now: " +
			"the file of -http-token-file can't be used, see the log")
	}
	scheme, given, _ := strings.Cut(header, " ")
	// Sums are of one length, so that the time of the comparison says nothing about the token's.
	got := sha256.Sum256([]byte(strings.TrimSpace(given)))
	want := sha256.Sum256([]byte(token))
	if subtle.ConstantTimeCompare(got[:], want[:]) != 1 || !strings.EqualFold(scheme, "Bearer") {
		return http.StatusUnauthorized, errors.New(`wrong token or none: send the header ` +
			`"Authorization: Bearer TOKEN" with what is in the file of -http-token-file`)
	}
	return 0, nil
}

// token reads the file again, so that a new token counts at once. It logs when the file can't be
// used, and when it can be used again.
func (a *WriteAuth) token() (string, error) {
	token, err := host.ReadToken(a.TokenFile)
	a.mu.Lock()
	wasBroken := a.broken
	a.broken = err != nil
	a.mu.Unlock()
	switch {
	case err != nil && !wasBroken:
		a.Log.Warn("token can't be read: changes by HTTP are refused", "err", err)
	case err == nil && wasBroken:
		a.Log.Info("token can be read again")
	}
	return token, err
}

// Reload reads the token, if there is one, so that the log says whether it can be used.
func (a *WriteAuth) Reload() {
	if a.TokenFile != "" {
		_, _ = a.token() // it logs its error
	}
}
