//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// A site is what a server is configured for: its directory, port, number of
// names and processors.
type site struct {
	*bench
	dir   string
	port  uint16
	count int
	cpus  int
}

// command writes the files of a server in dir, and returns its command line.
func (b *bench) command(kind, dir string, port uint16, count, cpus int) ([]string, error) {
	s := &site{b, dir, port, count, cpus}
	switch kind {
	case "echo":
		return []string{filepath.Join(b.dir, "echo"), fmt.Sprint(port)}, nil
	case "dnsdock", "before":
		e, err := startEngine(dir, count) // for as long as the bench runs
		if err != nil {
			return nil, err
		}
		return b.dnsdock(kind, e, port), nil
	case "nsd":
		return s.nsd()
	case "knot":
		return s.knot()
	case "dnsmasq":
		return s.dnsmasq()
	case "unbound":
		return s.unbound()
	case "bind":
		return s.bind()
	}
	return nil, fmt.Errorf("there is no server %q", kind)
}

// write writes a file of the server, and returns its path.
func (s *site) write(name, format string, args ...any) (string, error) {
	path := filepath.Join(s.dir, name)
	return path, os.WriteFile(path, fmt.Appendf(nil, format, args...), 0o644)
}

// zone writes the names as a zone file.
func (s *site) zone() (path string, err error) {
	var text strings.Builder
	fmt.Fprintf(&text, "$TTL %d\n", s.ttl)
	text.WriteString("@ SOA ns.docker. hostmaster.docker. 1 3600 600 86400 5\n@ NS ns\nns A 127.0.0.1\n")
	for i, n := range names(s.count) {
		fmt.Fprintf(&text, "%s. A %s\n", n, address(i))
	}
	return s.write("zone", "%s", &text)
}

func (s *site) nsd() ([]string, error) {
	zone, err := s.zone()
	if err != nil {
		return nil, err
	}
	conf, err := s.write("nsd.conf", `server:
  ip-address: 127.0.0.1
  port: %d
  server-count: %d
  reuseport: yes
  username: ""
  pidfile: "%[3]s/pid"
  database: ""
  xfrdfile: "%[3]s/xfrd"
  xfrdir: "%[3]s"
  zonelistfile: "%[3]s/list"
  rrl-ratelimit: 0
  tcp-count: 1000
  tcp-query-count: 0
  verbosity: 0
remote-control:
  control-enable: no
zone:
  name: docker
  zonefile: "%[4]s"
`, s.port, s.cpus, s.dir, zone)
	return []string{"nsd", "-d", "-c", conf}, err
}

func (s *site) knot() ([]string, error) {
	zone, err := s.zone()
	if err != nil {
		return nil, err
	}
	conf, err := s.write("knot.conf", `server:
  rundir: "%[1]s"
  listen: 127.0.0.1@%[2]d
  udp-workers: %[3]d
  tcp-workers: %[3]d
  background-workers: 1
  tcp-reuseport: on
database:
  storage: "%[1]s"
log:
  - target: stderr
    any: error
zone:
  - domain: docker
    file: "%[4]s"
    zonefile-load: whole
    journal-content: none
`, s.dir, s.port, s.cpus, zone)
	return []string{"knotd", "-c", conf}, err
}

func (s *site) dnsmasq() ([]string, error) {
	var text strings.Builder
	for i, n := range names(s.count) {
		fmt.Fprintf(&text, "%s %s\n", address(i), n)
	}
	hosts, err := s.write("hosts", "%s", &text)
	return append(dnsmasqArgs(s.port), "--local=/docker/", "--addn-hosts="+hosts, "--local-ttl=60"), err
}

// dnsmasqArgs returns a command line for a dnsmasq that knows no names.
func dnsmasqArgs(port uint16) []string {
	return []string{
		"dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--pid-file=",
		"--no-resolv", "--no-hosts", "--bind-interfaces", "--listen-address=127.0.0.1", fmt.Sprintf("--port=%d", port),
	}
}

func (s *site) unbound() ([]string, error) {
	var data strings.Builder
	for i, n := range names(s.count) {
		fmt.Fprintf(&data, "  local-data: \"%s. 60 A %s\"\n", n, address(i))
	}
	conf, err := s.write("unbound.conf", `server:
  interface: 127.0.0.1@%d
  num-threads: %d
  so-reuseport: yes
  chroot: ""
  username: ""
  pidfile: ""
  directory: "%s"
  use-syslog: no
  verbosity: 0
  local-zone: "docker." static
%sremote-control:
  control-enable: no
`, s.port, s.cpus, s.dir, &data)
	return []string{"unbound", "-d", "-c", conf}, err
}

func (s *site) bind() ([]string, error) {
	zone, err := s.zone()
	if err != nil {
		return nil, err
	}
	conf, err := s.write("named.conf", `options {
  directory "%s";
  pid-file none;
  listen-on port %d { 127.0.0.1; };
  listen-on-v6 { none; };
  recursion no;
  tcp-clients 1000;
  tcp-listen-queue 128;
};
controls { };
zone "docker" { type primary; file "%s"; };
`, s.dir, s.port, zone)
	return []string{"named", "-f", "-c", conf, "-n", fmt.Sprint(s.cpus)}, err
}

// dnsdock returns the command line of a dnsdock for that engine.
func (b *bench) dnsdock(kind string, e *engine, port uint16) []string {
	return []string{
		b.program(kind), fmt.Sprintf("-dns=127.0.0.1:%d", port), "-http=", "-nameserver=",
		"-ttl=60", "-verbose=false", "-docker=unix://" + e.socket,
	}
}

// program returns the path of the binary that a kind of dnsdock is.
func (b *bench) program(kind string) string {
	if kind == "before" {
		return *before
	}
	return filepath.Join(b.dir, "dnsdock")
}
