package engine

import (
	"fmt"
	"strconv"
	"strings"
)

const (
	maxAPI = "1.51" // the newest version of the Docker Remote API that dnsdock was tested with
	minAPI = "1.24" // the oldest one that it is written for
)

// Prefix returns the path prefix for an engine of the given API version: the
// smaller one of that and maxAPI. It is empty if the version is not known.
func Prefix(version string) (prefix string, err error) {
	if version == "" {
		return "", nil
	}
	minor, ok := strings.CutPrefix(version, "1.")
	n, err := strconv.Atoi(minor)
	if !ok || err != nil {
		return "", nil // an unknown kind of version: take the engine's default
	}
	oldest, _ := strconv.Atoi(minAPI[2:])
	newest, _ := strconv.Atoi(maxAPI[2:])
	if n < oldest {
		return "", fmt.Errorf("the engine speaks API %s; dnsdock needs %s (Docker 1.12) or newer", version, minAPI)
	}
	return fmt.Sprintf("/v1.%d", min(n, newest)), nil
}
