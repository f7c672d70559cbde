package publish

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/rayje/dnsdock/internal/dnsname"
)

// FuzzContainer feeds the mapping what an engine may send: whatever it is,
// the service can be published, and packs.
func FuzzContainer(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		var j inspectJSON
		if json.Unmarshal(data, &j) != nil {
			return
		}
		n := NameRules{Apex: mustName(t, "docker"), Alias: true, Health: true,
			Second: SecondNames{Compose: true, Hostname: true, Alias: true, Hyphen: true}}
		s, _ := n.ServiceOf(j.container(), "e")
		if s == nil {
			return
		}
		count := 0
		for _, e := range s.NetRuns {
			count += int(e.Count)
			for _, prefix := range []netip.Prefix{e.Net.Value().V4.Prefix, e.Net.Value().V6.Prefix} {
				if prefix.IsValid() && prefix.Bits() == 0 {
					t.Fatalf("a network of all addresses: %+v", e.Net.Value())
				}
			}
		}
		if s.NetRuns != nil && count != len(s.Addrs) {
			t.Fatalf("networks of %d addresses; want %d", count, len(s.Addrs))
		}
		for _, client := range []string{"192.0.2.1", "10.0.0.1", "fd00::1"} {
			if list, near := s.AddrsFor(netip.MustParseAddr(client)); near && len(list) == 0 {
				t.Fatalf("%s is on a network of %+v, and gets no address", client, s)
			}
		}
		for _, second := range s.SecondNames {
			if second.HasWildcard() || !second.Under(n.Apex) || second == n.Apex {
				t.Fatalf("second name %v", second)
			}
		}
		if (len(s.Addrs) == 0) != (s.CNAME != "") || len(s.OwnerNames) == 0 || len(s.Ports) > MaxPorts {
			t.Fatalf("without names, with both or neither of addresses and a CNAME, or with too many ports: %+v", s)
		}
		for _, o := range s.OwnerNames {
			if again, err := dnsname.Parse(o.String()); err != nil || again != o || o.HasWildcard() || o.IsReverse() {
				t.Fatalf("owner %v: %v", o, err)
			}
		}
		if again, err := n.Patched(s, Patch{}); err != nil || !reflect.DeepEqual(again, s) {
			t.Fatalf("patched by nothing: %+v, %v; want %+v", again, err, s)
		}
	})
}

// inspectJSON is what the seeds hold of GET /containers/{id}/json.
type inspectJSON struct {
	ID     string `json:"Id"`
	Name   string
	Image  string
	State  struct{ Status string }
	Config struct {
		Image, Hostname, Domainname string
		Env                         []string
		Labels                      map[string]string
		ExposedPorts                map[string]struct{}
	}
	NetworkSettings struct {
		Networks map[string]struct {
			IPAddress, GlobalIPv6Address, Gateway, NetworkID string
			IPPrefixLen, GlobalIPv6PrefixLen                 int
			Aliases                                          []string
		}
	}
}

// container returns j as the mapping takes it. A network with the ID "in" is
// internal.
func (j *inspectJSON) container() *Container {
	c := &Container{
		ID: j.ID, Name: strings.TrimPrefix(j.Name, "/"), Image: j.Config.Image, ImageID: j.Image, State: j.State.Status,
		Env: make(map[string]string), Labels: j.Config.Labels, Host: HostName{j.Config.Hostname, j.Config.Domainname},
	}
	for _, kv := range j.Config.Env {
		k, v, _ := strings.Cut(kv, "=")
		c.Env[k] = v
	}
	for text := range j.Config.ExposedPorts {
		if p, err := ParsePort(text); err == nil {
			c.Exposed = append(c.Exposed, p)
		}
	}
	for name, n := range j.NetworkSettings.Networks {
		e := Endpoint{Network: Network{Name: name, Internal: n.NetworkID == "in"}, Aliases: n.Aliases}
		if a, err := netip.ParseAddr(n.IPAddress); err == nil && a.Is4() {
			e.Addrs, e.V4.Prefix = append(e.Addrs, a), netip.PrefixFrom(a, max(n.IPPrefixLen, 1)).Masked()
		}
		if a, err := netip.ParseAddr(n.GlobalIPv6Address); err == nil && a.Is6() && a.Zone() == "" {
			e.Addrs = append(e.Addrs, a.Unmap())
			e.V6.Prefix = netip.PrefixFrom(a, max(n.GlobalIPv6PrefixLen, 1)).Masked()
		}
		c.Networks = append(c.Networks, e)
	}
	return c
}
