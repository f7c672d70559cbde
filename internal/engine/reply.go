package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
)

// MaxErrorReply is the number of bytes of an error reply that are read.
const MaxErrorReply = 4 << 10

// A StatusError is a reply of an engine other than 200.
type StatusError struct {
	Code int
	Text string
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%d %s: %.300s", e.Code, http.StatusText(e.Code), e.Text)
}

// ReplyError makes a *StatusError of the message that engines send with a
// status, {"message": "..."}.
func ReplyError(resp *http.Response) error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, MaxErrorReply)) // what came is better than nothing
	var reply struct{ Message string }
	if json.Unmarshal(body, &reply) != nil || reply.Message == "" {
		reply.Message = strings.TrimSpace(string(body))
	}
	if strings.Contains(reply.Message, "HTTP request to an HTTPS server") { // of net/http, which is Docker's server
		reply.Message = "it speaks TLS on this port: use -tlsverify"
	}
	return &StatusError{resp.StatusCode, reply.Message}
}

// IsGone reports whether err says that a container does not exist. Podman says
// so with 500 while it removes one.
func IsGone(err error) bool {
	e, ok := errors.AsType[*StatusError](err)
	return ok && (e.Code == http.StatusNotFound ||
		e.Code == http.StatusInternalServerError && strings.HasSuffix(e.Text, "no such container"))
}

// Filters returns the query for those of filters that have values.
func Filters(filters map[string][]string) url.Values {
	maps.DeleteFunc(filters, func(_ string, values []string) bool { return len(values) == 0 })
	if len(filters) == 0 {
		return url.Values{}
	}
	text, _ := json.Marshal(filters) // strings are always JSON
	return url.Values{"filters": {string(text)}}
}
