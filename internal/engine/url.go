package engine

import (
	"errors"
	"net"
	"path"
	"strconv"
	"strings"
)

// A URL says where an engine listens.
type URL struct {
	Text    string // as configured; shown in the log and by the HTTP API
	Network string // "unix" or "tcp"
	Addr    string // a path, or host:port
}

// ParseURL reads unix://PATH or tcp://HOST:PORT. The path is absolute with or
// without its first slash: the manual of 2015 said unix://var/run/docker.sock.
func ParseURL(s string) (URL, error) {
	scheme, rest, _ := strings.Cut(s, "://")
	switch scheme {
	case "unix":
		if strings.Trim(rest, "/") != "" {
			return URL{s, "unix", path.Clean("/" + rest)}, nil
		}
	case "tcp":
		rest = strings.TrimSuffix(rest, "/")
		host, port, err := net.SplitHostPort(rest)
		if n, perr := strconv.ParseUint(port, 10, 16); err == nil && perr == nil && n > 0 && host != "" {
			return URL{s, "tcp", rest}, nil
		}
	}
	return URL{}, errors.New("write unix:///PATH or tcp://HOST:PORT, " +
		"as in unix:///var/run/docker.sock or tcp://127.0.0.1:2376")
}
