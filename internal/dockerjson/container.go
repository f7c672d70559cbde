package dockerjson

import (
	"net/netip"
	"strings"
	"time"

	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/watch"
)

// Summary is an element of GET /containers/json, Docker API 1.24 to
// 1.51.
type Summary struct {
	ID     string `json:"Id"`
	Names  []string
	State  string
	Status string // "Up 2 hours (unhealthy)"; podman's has no health
	Ports  []struct {
		PrivatePort, PublicPort uint16 // PublicPort is 0 if the port is not published
		Type                    string
	}
	Labels          map[string]string
	NetworkSettings struct{ Networks map[string]Endpoint }
}

// Fingerprint returns the fingerprint of the container.
func (s *Summary) Fingerprint() watch.Fingerprint {
	sick := strings.HasSuffix(s.Status, "(unhealthy)")
	var ports []publish.PublishedPort
	for _, p := range s.Ports {
		if p.PublicPort != 0 {
			ports = append(ports, publish.PublishedPort{Number: p.PrivatePort, Proto: p.Type, Published: p.PublicPort})
		}
	}
	state := stateOf(s.State, s.Labels, strings.HasSuffix(s.Status, "(health: starting)"))
	return watch.NewFingerprint(s.name(), state, sick, endpoints(s.NetworkSettings.Networks), ports)
}

// stateOf returns the state of a container: of a task whose health check has not
// succeeded yet, watch.Starting.
func stateOf(state string, labels map[string]string, starting bool) string {
	if state == "running" && starting && publish.IsTask(labels) {
		return watch.Starting
	}
	return state
}

// name returns the container's own name. Names of links have a second slash.
// Classic Swarm (docker/swarm) writes /NODE/NAME only.
func (s *Summary) name() (name string) {
	for _, n := range s.Names {
		n = strings.TrimPrefix(n, "/")
		if !strings.Contains(n, "/") {
			return n
		}
		if _, last, _ := strings.Cut(n, "/"); name == "" && !strings.Contains(last, "/") {
			name = last
		}
	}
	return name
}

// Container is the reply of GET /containers/{id}/json, Docker API 1.24 to
// 1.51. NetworkSettings.IPAddress is gone in 1.52, and says less.
type Container struct {
	ID      string `json:"Id"`
	Name    string
	Image   string // "sha256:..."
	Created string // RFC 3339, like StartedAt
	State   struct {
		Status, StartedAt string
		Health            *struct{ Status string }
	}
	HostConfig struct {
		NetworkMode   string                // "host", "container:<id>", or the name of a network
		RestartPolicy struct{ Name string } // "no", "always", "unless-stopped" or "on-failure"; podman's may be empty
	}

	Config struct {
		Image        string // the reference given to docker run
		Hostname     string // docker run --hostname, else the short ID
		Domainname   string
		Env          []string
		Labels       map[string]string
		ExposedPorts map[string]struct{} // "80/tcp"; those of docker run -p too
	}
	Node            *struct{ IP string } // of classic Swarm: the machine that the container is on
	NetworkSettings struct {
		Networks map[string]Endpoint
		Ports    map[string][]struct{ HostIp, HostPort string } // by "80/tcp"; null if the port is not published
	}
}

// Watched returns what the watcher needs of j.
func (j *Container) Watched() *watch.Container {
	name := strings.TrimPrefix(j.Name, "/")
	sick := j.State.Health != nil && j.State.Health.Status == "unhealthy"
	state := stateOf(j.State.Status, j.Config.Labels, j.State.Health != nil && j.State.Health.Status == "starting")
	networks := endpoints(j.NetworkSettings.Networks)
	c := &publish.Container{
		ID:       j.ID,
		Name:     name,
		Image:    j.Config.Image,
		ImageID:  j.Image,
		State:    state,
		Sick:     sick,
		Since:    j.since(),
		Env:      publish.Variables(j.Config.Env),
		Labels:   j.Config.Labels,
		Networks: networks,
		Host:     publish.HostName{Name: j.Config.Hostname, Domain: j.Config.Domainname},
	}
	if id, ok := strings.CutPrefix(j.HostConfig.NetworkMode, "container:"); ok {
		c.Shares, c.Networks = id, nil
	} else if j.HostConfig.NetworkMode == "host" {
		c.Networks = []publish.Endpoint{publish.HostNetwork()}
		if j.Node != nil {
			c.Networks[0].Addrs[0], _ = publish.ParseAddr(j.Node.IP) // not valid if it is none: the host's
		}
	}
	for text := range j.Config.ExposedPorts {
		if p, err := publish.ParsePort(text); err == nil {
			c.Exposed = append(c.Exposed, p)
		}
	}
	bindings := j.bindings()
	ports := make([]publish.PublishedPort, len(bindings))
	for i, b := range bindings {
		ports[i] = b.PublishedPort
	}
	ids := make(map[string]string, len(j.NetworkSettings.Networks))
	for n, e := range j.NetworkSettings.Networks {
		ids[n] = e.NetworkID
	}
	return &watch.Container{
		Container:   c,
		NetworkIDs:  ids,
		Bindings:    bindings,
		Restarts:    j.HostConfig.RestartPolicy.Name != "" && j.HostConfig.RestartPolicy.Name != "no",
		Fingerprint: watch.NewFingerprint(name, state, sick, networks, ports),
	}
}

// bindings returns the ports that the engine publishes. A range of ports that
// is not bound yet is left out.
func (j *Container) bindings() (list []publish.Binding) {
	for text, bound := range j.NetworkSettings.Ports {
		p, err := publish.ParsePort(text)
		for _, b := range bound {
			addr, _ := publish.ParseAddr(b.HostIp) // not valid, which means all, if it is empty
			if n, errBound := publish.ParsePort(b.HostPort); err == nil && errBound == nil {
				list = append(list, publish.Binding{Addr: addr, PublishedPort: publish.PublishedPort{
					Number: p.Number, Proto: p.Proto, Published: n.Number,
				}})
			}
		}
	}
	return list
}

// since returns when the container started, or when it was created if it never
// started; zero if the engine says neither.
func (j *Container) since() time.Time {
	for _, text := range []string{j.State.StartedAt, j.Created} {
		if t, err := time.Parse(time.RFC3339, text); err == nil && t.Year() > 1 {
			return t.UTC().Truncate(time.Second)
		}
	}
	return time.Time{}
}

// Endpoint is a container's end of a network. Docker 20.10 gives internal
// networks a gateway too, though no container uses it.
type Endpoint struct {
	NetworkID           string // podman's is the name
	IPAddress           string
	IPPrefixLen         int
	Gateway             string
	GlobalIPv6Address   string
	GlobalIPv6PrefixLen int
	IPv6Gateway         string
	GwPriority          int // since API 1.48
	Aliases             []string
	IPAMConfig          *struct{ IPv4Address, IPv6Address string } // what --ip and --ip6 asked for
}

// endpoints returns the networks of a container, sorted by name.
func endpoints(networks map[string]Endpoint) []publish.Endpoint {
	list := make([]publish.Endpoint, 0, len(networks))
	for _, name := range publish.SortedKeys(networks) {
		e := networks[name]
		list = append(list, publish.Endpoint{
			Network: publish.Network{
				Name: name,
				V4:   publish.NewIPNet(e.IPAddress, e.IPPrefixLen, e.Gateway),
				V6:   publish.NewIPNet(e.GlobalIPv6Address, e.GlobalIPv6PrefixLen, e.IPv6Gateway),
			},
			Addrs:    e.addrs(),
			Aliases:  e.Aliases,
			Priority: e.GwPriority,
		})
	}
	return list
}

// addrs returns the addresses of the endpoint, IPv4 first. While the container
// does not run, only the addresses that its user asked for are known.
func (e Endpoint) addrs() (addrs []netip.Addr) {
	texts := []string{e.IPAddress, e.GlobalIPv6Address}
	if c := e.IPAMConfig; c != nil && e.IPAddress == "" && e.GlobalIPv6Address == "" {
		texts = []string{c.IPv4Address, c.IPv6Address}
	}
	for _, s := range texts {
		if a, err := publish.ParseAddr(s); err == nil { // empty where there is none; podman says "<nil>" too
			addrs = append(addrs, a)
		}
	}
	return addrs
}
