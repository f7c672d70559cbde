package engine

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

const (
	// MaxAPI is the newest version of the Docker Remote API that dnsdock was
	// tested with, and minAPI the oldest one that it is written for.
	MaxAPI = "1.51"
	minAPI = "1.24"
)

// Negotiate returns the version to use with an engine whose newest one is
// given, and whether that one is newer than MaxAPI. The version is empty, which
// means the engine's default, if newest is empty or of an unknown kind.
func Negotiate(newest string) (version string, isNewer bool, err error) {
	minor, ok := strings.CutPrefix(newest, "1.")
	n, err := strconv.Atoi(minor)
	if !ok || err != nil {
		return "", false, nil
	}
	oldest, _ := strconv.Atoi(minAPI[2:])
	limit, _ := strconv.Atoi(MaxAPI[2:])
	if n < oldest {
		return "", false, fmt.Errorf("the engine speaks API %s; dnsdock needs %s (Docker 1.12) or newer",
			newest, minAPI)
	}
	return fmt.Sprintf("1.%d", min(n, limit)), n > limit, nil
}

// IsTooOld reports whether err refuses the version of a call, as engines do that
// have dropped it, and returns the oldest version that they name; it is empty
// if they name none.
func IsTooOld(err error) (oldest string, ok bool) {
	e, ok := errors.AsType[*StatusError](err)
	if !ok || e.Code != http.StatusBadRequest {
		return "", false
	}
	_, text, _ := strings.Cut(e.Text, "Minimum supported API version is ")
	oldest, _, _ = strings.Cut(text, ",")
	if minor, ok := strings.CutPrefix(oldest, "1."); !ok || strings.Trim(minor, "0123456789") != "" {
		oldest = ""
	}
	return oldest, true
}
