package publish

import (
	"fmt"
	"maps"
	"strings"
	"testing"
)

// What a container has beside addresses.
func TestServiceOfRecords(t *testing.T) {
	exposed := func(texts ...string) (list []Port) {
		for _, text := range texts {
			p, err := ParsePort(text)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, p)
		}
		return list
	}
	var many []Port
	for i := range 65536 {
		many = append(many, Port{Number: uint16(65535 - i), Proto: "tcp"})
	}
	for _, c := range []struct {
		what        string
		env, labels map[string]string
		exposed     []Port
		want        string // "cname", ports, TXT
		problems    string
	}{
		{what: "nothing", want: ` [] []`},
		{what: "exposed", exposed: exposed("8080/tcp", "53/udp", "53/tcp"), want: ` [53/tcp 53/udp 8080/tcp] []`},
		{what: "named", exposed: exposed("53/udp", "53/tcp", "80/tcp"), env: map[string]string{"SERVICE_53_NAME": "Domain", "SERVICE_80_NAME": "http"}, want: ` [53/tcp=domain 53/udp=domain 80/tcp=http] []`},
		{what: "named by label", exposed: exposed("80/tcp"), labels: map[string]string{"SERVICE_80_NAME": "http"}, want: ` [80/tcp=http] []`},
		{what: "named and not exposed", env: map[string]string{"SERVICE_80_NAME": "http"}, labels: map[string]string{"SERVICE_80_NAME": "www"}, want: ` [80/tcp=http] []`},
		{what: "ignored", exposed: exposed("80/tcp", "81/tcp", "82/tcp"), env: map[string]string{"SERVICE_80_IGNORE": ""}, labels: map[string]string{"SERVICE_82_IGNORE": "1"}, want: ` [81/tcp] []`},
		{what: "no port", env: map[string]string{"SERVICE_080_NAME": "a", "SERVICE_65536_NAME": "b", "SERVICE_NAME": "c", "SERVICE__NAME": "d", "SERVICE_X_NAME": "e"}, want: ` [] []`},
		{what: "bad port name", exposed: exposed("80/tcp"), env: map[string]string{"SERVICE_80_NAME": "a.b"}, labels: map[string]string{"SERVICE_80_NAME": "www"}, want: ` [80/tcp=www] []`, problems: "SERVICE_80_NAME"},
		{what: "port name too long", env: map[string]string{"SERVICE_80_NAME": strings.Repeat("x", 63)}, want: ` [80/tcp] []`, problems: "SERVICE_80_NAME"},
		{what: "all ports", exposed: many, want: fmt.Sprintf(` %d []`, MaxPorts), problems: "ports"},
		{what: "TXT", env: map[string]string{"DNSDOCK_TXT": "v=1, a\r\n\n b \nv=1, a"}, labels: map[string]string{"com.dnsdock.txt": "x"}, want: ` [] ["v=1, a" "b"]`},
		{what: "TXT by label", labels: map[string]string{"com.dnsdock.txt": "x"}, want: ` [] ["x"]`},
		{what: "TXT too long", env: map[string]string{"DNSDOCK_TXT": strings.Repeat("x", MaxTXT)}, labels: map[string]string{"com.dnsdock.txt": "x"}, want: ` [] ["x"]`, problems: "DNSDOCK_TXT"},
		{what: "CNAME", env: map[string]string{"DNSDOCK_CNAME": "WWW.example.com"}, labels: map[string]string{"com.dnsdock.cname": "x"}, want: `www.example.com. [] []`},
		{what: "CNAME by label", labels: map[string]string{"com.dnsdock.cname": "lb.docker."}, want: `lb.docker. [] []`},
		{what: "CNAME to the root", env: map[string]string{"DNSDOCK_CNAME": "."}, want: ` [] []`, problems: "DNSDOCK_CNAME"},
		{what: "CNAME to a star", env: map[string]string{"DNSDOCK_CNAME": "*.docker"}, want: ` [] []`, problems: "DNSDOCK_CNAME"},
		{what: "CNAME that is no name", env: map[string]string{"DNSDOCK_CNAME": "a..b"}, want: ` [] []`, problems: "DNSDOCK_CNAME"},
	} {
		t.Run(c.what, func(t *testing.T) {
			s, problems := NameRules{Apex: mustName(t, "docker")}.ServiceOf(testContainer(func(k *Container) {
				maps.Copy(k.Env, c.env)
				maps.Copy(k.Labels, c.labels)
				k.Exposed = c.exposed
			}), "e")
			var sources []string
			for _, p := range problems {
				sources = append(sources, p.Source)
			}
			if got := strings.Join(sources, " "); got != c.problems {
				t.Errorf("got problems %q; want %q", got, c.problems)
			}
			cname, ports := "", fmt.Sprint(s.Ports)
			if s.CNAME != "" {
				cname = s.CNAME.String()
			}
			if len(s.Ports) > 100 {
				ports = fmt.Sprint(len(s.Ports))
			}
			if got := fmt.Sprintf("%s %s %q", cname, ports, s.TXT); got != c.want {
				t.Errorf("got %s; want %s", got, c.want)
			}
			if (len(s.Addrs) == 0) != (cname != "") {
				t.Errorf("got addresses %v beside the CNAME %q; want either", s.Addrs, cname)
			}
		})
	}
	// A CNAME makes a service of a container without an address.
	s, _ := NameRules{Apex: mustName(t, "docker")}.ServiceOf(testContainer(func(k *Container) {
		k.Networks, k.Labels["com.dnsdock.cname"] = nil, "host.example.com"
	}), "e")
	if s == nil || s.CNAME != mustName(t, "host.example.com") {
		t.Errorf("got %v; want a service with a CNAME", s)
	}
}

func TestParsePort(t *testing.T) {
	for text, want := range map[string]string{
		"80": "80/tcp", "80/TCP": "80/tcp", " 53/udp ": "53/udp", "0/sctp": "0/sctp", "65535/tcp=A-b_1": "65535/tcp=a-b_1",
		"": "", "/tcp": "", "80/": "", "80/icmp": "", "080/tcp": "", "65536/tcp": "", "-1/tcp": "", "80/tcp=": "", "80/tcp=a.b": "", "80/tcp=*": "", "http": "",
	} {
		p, err := ParsePort(text)
		switch {
		case want == "":
			if err == nil {
				t.Errorf("ParsePort(%q) = %v; want an error", text, p)
			}
		case err != nil || p.String() != want:
			t.Errorf("ParsePort(%q) = %v, %v; want %s", text, p, err, want)
		}
	}
}
