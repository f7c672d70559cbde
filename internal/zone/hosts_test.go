package zone

import (
	"fmt"
	"slices"
	"testing"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/zonetest"
)

// A hosts file gets what this machine is answered: full names first, the names
// between them and the apex last, and nothing that needs an upstream.
func TestHosts(t *testing.T) {
	reg := zonetest.New(t, "docker", 0,
		pub("web1", "nginx", 0, "10.0.0.2 fd00::1", "shop.example.com"), pub("web2", "nginx", 0, "10.0.0.1", "*"))
	reg.PutContainers(t,
		publish.Container{Name: "host", Image: "agent", Networks: []publish.Endpoint{publish.HostNetwork()}},
		publish.Container{Name: "www", Image: "site", Labels: map[string]string{"com.dnsdock.cname": "web1.nginx.docker"}},
		publish.Container{Name: "out", Image: "site", Labels: map[string]string{"com.dnsdock.cname": "www.example.org"}})
	for i := range maxShared + 1 {
		reg.PutContainers(t, publish.Container{Name: fmt.Sprint("c", i), Image: "many",
			Networks: []publish.Endpoint{zonetest.Endpoint("a", fmt.Sprintf("10.1.0.%d/16", i+1))}})
	}
	z := newResolver(t, reg)
	got, count := make(map[string]string), 0
	var list []*publish.Service
	for s := range reg.Published().All(publish.AnyKind) {
		list = append(list, s)
	}
	for n, addrs := range z.Hosts(slices.Values(list)) {
		got[dnsname.Text(n)] = fmt.Sprint(addrs)
		count++
	}
	for name, want := range map[string]string{
		"web1.nginx.docker": "[10.0.0.2 fd00::1]", "shop.example.com": "[10.0.0.2 fd00::1]", "nginx.docker": "[10.0.0.1 10.0.0.2 fd00::1]",
		"host.agent.docker": "[127.0.0.1 ::1]", "www.site.docker": "[10.0.0.2 fd00::1]", "c7.many.docker": "[10.1.0.8]",
		"out.site.docker": "", "many.docker": "", "docker": "", "example.com": "", "*": "",
	} {
		if got[name] != want {
			t.Errorf("%s: got %s; want %s", name, got[name], want)
		}
	}
	if count != len(got) {
		t.Errorf("%d names came twice", count-len(got))
	}
	for range z.Hosts(slices.Values(list)) {
		break // the iteration can end early
	}
}
