package publish

import (
	"slices"
	"strings"
	"time"

	"github.com/rayje/dnsdock/internal/dnsname"
)

// A Container is what is known of one container, in the words of the Docker API.
type Container struct {
	ID       string
	Name     string            // without the slash that the API puts in front
	Image    string            // the reference given to docker run
	ImageID  string            // "sha256:" and hexadecimal digits
	State    string            // "running", "paused", "exited", ...
	Sick     bool              // its health check fails
	Since    time.Time         // when it started; zero if the engine does not say
	Env      map[string]string // variables
	Labels   map[string]string
	Networks []Endpoint
	Exposed  []Port // without names
	Host     HostName
	Baked    Baked
	Placed
	Borrowed
}

// Placed says where a container runs.
type Placed struct {
	Task    *Task    // nil: the container is not of a swarm, or its names are not wanted
	Outside *Outside // for clients on none of its networks; nil: its addresses on them
}

// Borrowed says whose addresses a container has in place of its own.
type Borrowed struct {
	Shares string // ID or name of the container whose network it uses; empty if it has its own

	// Others holds the endpoints of the running containers whose addresses this
	// one borrows, keyed by the reference in its label (see Reaches).
	Others map[string][]Endpoint
}

// A HostName is what the container calls itself, by docker run --hostname and
// --domainname.
type HostName struct{ Name, Domain string }

// Baked is what the image of a container sets, whoever starts it.
type Baked struct {
	Env, Labels map[string]string
	Unknown     bool // the engine refused to say
}

// A Problem is a value of a container that can't be used.
type Problem struct {
	Source string // the variable or label, or "name" or "image" of the container itself
	Value  string
	Err    error
}

// Sources of settings: "$NAME" is a variable, anything else a label. The first one
// that is set wins.
var (
	ignoreSources  = []string{"$DNSDOCK_IGNORE", "$SERVICE_IGNORE", "com.dnsdock.ignore", "SERVICE_IGNORE"}
	nameSources    = []string{"$DNSDOCK_NAME", "com.dnsdock.name", "$SERVICE_TAGS", "com.dnsdock.tags", "SERVICE_TAGS"}
	imageSources   = []string{"$DNSDOCK_IMAGE", "com.dnsdock.image", "$SERVICE_NAME", "SERVICE_NAME"}
	regionSources  = []string{"$SERVICE_REGION", "com.dnsdock.region", "SERVICE_REGION"}
	aliasSources   = []string{"$DNSDOCK_ALIAS", "com.dnsdock.alias"}
	addrSources    = []string{"$DNSDOCK_IPADDRESS", "com.dnsdock.ip_addr"}
	prefixSources  = []string{"$DNSDOCK_PREFIX", "com.dnsdock.prefix"}
	networkSources = []string{"$DNSDOCK_NETWORK", "com.dnsdock.network"}
	cnameSources   = []string{"$DNSDOCK_CNAME", "com.dnsdock.cname"}
	txtSources     = []string{"$DNSDOCK_TXT", "com.dnsdock.txt"}
	ttlSources     = []string{"$DNSDOCK_TTL", "com.dnsdock.ttl"}
	healthSources  = []string{"$DNSDOCK_HEALTH", "com.dnsdock.health"}
)

// oneOffLabel makes a container of docker-compose run one of its service.
const oneOffLabel = "com.dnsdock.oneoff"

// Labels that Compose sets:
// https://github.com/docker/compose/blob/main/pkg/api/labels.go
const (
	composeProject = "com.docker.compose.project"
	composeService = "com.docker.compose.service"
	composeNumber  = "com.docker.compose.container-number"
	composeOneOff  = "com.docker.compose.oneoff"
)

// Variables returns the variables of a list of NAME=VALUE, by name.
func Variables(list []string) map[string]string {
	env := make(map[string]string, len(list))
	for _, kv := range list {
		k, v, _ := strings.Cut(kv, "=")
		env[k] = v
	}
	return env
}

// valueIn finds the value of a source among variables and labels.
func valueIn(source string, env, labels map[string]string) (string, bool) {
	from := labels
	if name, ok := strings.CutPrefix(source, "$"); ok {
		source, from = name, env
	}
	s, ok := from[source]
	return strings.TrimSpace(s), ok
}

func (c *Container) value(source string) (string, bool) { return valueIn(source, c.Env, c.Labels) }

// isIgnored reports whether the container asks not to be published.
func (c *Container) isIgnored() bool {
	return slices.ContainsFunc(ignoreSources, func(source string) bool {
		_, ok := c.value(source)
		return ok
	})
}

// isOneOff reports whether c is a job that docker-compose run started. It has the
// labels of its service, but takes no traffic for it, unless that was asked for:
// by --use-aliases, which gives it the service's name in the network, or by a label.
func (c *Container) isOneOff() bool {
	service := c.Labels[composeService]
	usesAliases := func(e Endpoint) bool { return slices.Contains(e.Aliases, service) }
	return strings.EqualFold(c.Labels[composeOneOff], "true") &&
		!strings.EqualFold(strings.TrimSpace(c.Labels[oneOffLabel]), "true") &&
		!slices.ContainsFunc(c.Networks, usesAliases)
}

// NeedsImage reports whether c claims what only its creator may claim: aliases
// outside of the apex, other addresses, or a CNAME. Then Baked must be set before
// ServiceOf, to tell the creator's claims from those of the image's author.
func (n NameRules) NeedsImage(c *Container) bool {
	isSet := func(source string) bool { v, _ := c.value(source); return v != "" }
	reaches := func(source string) bool {
		v, _ := c.value(source)
		return slices.ContainsFunc(dnsname.SplitList(v), func(text string) bool {
			a, err := dnsname.ParseAlias(text)
			return err == nil && n.reachesBeyond(a)
		})
	}
	return slices.ContainsFunc(slices.Concat(addrSources, prefixSources, cnameSources), isSet) ||
		slices.ContainsFunc(aliasSources, reaches)
}

// isBaked reports whether the value of a source comes from the image, as far as
// that is known.
func (c *Container) isBaked(source string) bool {
	own, _ := c.value(source)
	v, ok := valueIn(source, c.Baked.Env, c.Baked.Labels)
	return c.Baked.Unknown || ok && v == own
}
