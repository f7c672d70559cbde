package dockerjson

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"

	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/watch"
)

func TestAddrsOfEndpoint(t *testing.T) {
	static := &struct{ IPv4Address, IPv6Address string }{"10.0.0.9", "fd00::9"}
	for _, c := range []struct {
		in   Endpoint
		want string
	}{
		{Endpoint{}, "[]"},
		{Endpoint{IPAddress: "10.0.0.1"}, "[10.0.0.1]"},
		{Endpoint{IPAddress: "10.0.0.1", GlobalIPv6Address: "fd00::1"}, "[10.0.0.1 fd00::1]"},
		{Endpoint{GlobalIPv6Address: "fd00::1", IPAMConfig: static}, "[fd00::1]"},
		{Endpoint{IPAMConfig: static}, "[10.0.0.9 fd00::9]"},
		{Endpoint{IPAddress: "<nil>"}, "[]"},
	} {
		if got := fmt.Sprint(append([]netip.Addr{}, c.in.addrs()...)); got != c.want {
			t.Errorf("%+v: %s; want %s", c.in, got, c.want)
		}
	}
}

// The list and the inspect of a container that publishes ports have one
// fingerprint, as Docker 20.10 writes them.
func TestPublishedPorts(t *testing.T) {
	var s Summary
	var c Container
	for text, v := range map[string]any{
		`{"Names":["/web"],"State":"running","Ports":[
			{"PrivatePort":9000,"Type":"tcp"},
			{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},
			{"IP":"::","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},
			{"IP":"127.0.0.1","PrivatePort":53,"PublicPort":5353,"Type":"udp"}]}`: &s,
		`{"Name":"/web","State":{"Status":"running"},"NetworkSettings":{"Ports":{
			"53/udp":[{"HostIp":"127.0.0.1","HostPort":"5353"}],
			"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"},{"HostIp":"::","HostPort":"8080"}],
			"9000/tcp":null, "7/tcp":[{"HostIp":"","HostPort":""}], "x":[{"HostIp":"","HostPort":"1"}]}}}`: &c,
	} {
		if err := json.Unmarshal([]byte(text), v); err != nil {
			t.Fatal(err)
		}
	}
	w := c.Watched()
	if len(w.Bindings) != 3 {
		t.Errorf("got bindings %+v; want 3", w.Bindings)
	}
	if s.Fingerprint() != w.Fingerprint {
		t.Error("the list says something else than the inspect")
	}
	c.NetworkSettings.Ports["80/tcp"][0].HostPort = "8081"
	if s.Fingerprint() == c.Watched().Fingerprint {
		t.Error("another published port leaves the fingerprint as it was")
	}
}

// Classic Swarm puts the node in front of a container's name in lists, and not
// in what it says of one container.
func TestClassicSwarm(t *testing.T) {
	for text, want := range map[string]string{
		`["/web"]`:                        "web",
		`["/front/db","/db"]`:             "db", // a link of the container front
		`["/node1/web"]`:                  "web",
		`["/node1/front/db","/node1/db"]`: "db",
		`[]`:                              "",
	} {
		var s Summary
		if err := json.Unmarshal([]byte(`{"Names":`+text+`}`), &s); err != nil {
			t.Fatal(err)
		}
		if got := s.name(); got != want {
			t.Errorf("%s: got %q; want %q", text, got, want)
		}
	}
	for node, want := range map[string]string{`{"IP":"192.168.1.7"}`: "192.168.1.7", `{"IP":""}`: "host", `null`: "host"} {
		var c Container
		if err := json.Unmarshal([]byte(`{"HostConfig":{"NetworkMode":"host"},"Node":`+node+`}`), &c); err != nil {
			t.Fatal(err)
		}
		if got := publish.AddrTexts(c.Watched().Networks[0].Addrs); len(got) != 1 || got[0] != want {
			t.Errorf("node %s: got %q; want %q", node, got, want)
		}
	}
}

// A task waits for its health check, in the list as where it is inspected; other
// containers don't.
func TestStarting(t *testing.T) {
	task := map[string]string{"com.docker.swarm.task.id": "x7kq"}
	for _, c := range []struct {
		state    string
		labels   map[string]string
		starting bool
		want     string
	}{
		{"running", task, true, watch.Starting},
		{"running", task, false, "running"},
		{"running", nil, true, "running"},
		{"exited", task, true, "exited"},
	} {
		if got := stateOf(c.state, c.labels, c.starting); got != c.want {
			t.Errorf("%v: got %q; want %q", c, got, c.want)
		}
	}
}
