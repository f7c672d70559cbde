//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// command writes the files of a server in dir, and returns its command line.
func (b *bench) command(kind, dir string, port uint16, count, cpus int) ([]string, error) {
	write := func(name, format string, args ...any) (string, error) {
		path := filepath.Join(dir, name)
		return path, os.WriteFile(path, []byte(fmt.Sprintf(format, args...)), 0o644)
	}
	var zone strings.Builder
	fmt.Fprintf(&zone, "$TTL %d\n", b.ttl)
	zone.WriteString("@ SOA ns.docker. hostmaster.docker. 1 3600 600 86400 5\n@ NS ns\nns A 127.0.0.1\n")
	for i, n := range names(count) {
		fmt.Fprintf(&zone, "%s. A %s\n", n, address(i))
	}
	zoneFile, err := write("zone", "%s", &zone)
	if err != nil {
		return nil, err
	}
	var conf string
	switch kind {
	case "echo":
		return []string{filepath.Join(b.dir, "echo"), fmt.Sprint(port)}, nil
	case "dnsdock":
		e, err := startEngine(dir, count) // for as long as the bench runs
		if err != nil {
			return nil, err
		}
		return append([]string{filepath.Join(b.dir, "dnsdock")}, dnsdockArgs(e, port)...), nil
	case "nsd":
		conf, err = write("nsd.conf", `server:
  ip-address: 127.0.0.1
  port: %d
  server-count: %d
  reuseport: yes
  username: ""
  pidfile: "%s/pid"
  database: ""
  xfrdfile: "%s/xfrd"
  xfrdir: "%s"
  zonelistfile: "%s/list"
  rrl-ratelimit: 0
  tcp-count: 1000
  tcp-query-count: 0
  verbosity: 0
remote-control:
  control-enable: no
zone:
  name: docker
  zonefile: "%s"
`, port, cpus, dir, dir, dir, dir, zoneFile)
		return []string{"nsd", "-d", "-c", conf}, err
	case "knot":
		conf, err = write("knot.conf", `server:
  rundir: "%s"
  listen: 127.0.0.1@%d
  udp-workers: %d
  tcp-workers: %d
  background-workers: 1
  tcp-reuseport: on
database:
  storage: "%s"
log:
  - target: stderr
    any: error
zone:
  - domain: docker
    file: "%s"
    zonefile-load: whole
    journal-content: none
`, dir, port, cpus, cpus, dir, zoneFile)
		return []string{"knotd", "-c", conf}, err
	case "dnsmasq":
		var hosts strings.Builder
		for i, n := range names(count) {
			fmt.Fprintf(&hosts, "%s %s\n", address(i), n)
		}
		hostsFile, err := write("hosts", "%s", &hosts)
		return []string{"dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--pid-file=", "--no-resolv", "--no-hosts",
			"--bind-interfaces", "--listen-address=127.0.0.1", fmt.Sprintf("--port=%d", port), "--local=/docker/", "--addn-hosts=" + hostsFile, "--local-ttl=60"}, err
	case "unbound":
		var data strings.Builder
		for i, n := range names(count) {
			fmt.Fprintf(&data, "  local-data: \"%s. 60 A %s\"\n", n, address(i))
		}
		conf, err = write("unbound.conf", `server:
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
`, port, cpus, dir, &data)
		return []string{"unbound", "-d", "-c", conf}, err
	case "bind":
		conf, err = write("named.conf", `options {
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
`, dir, port, zoneFile)
		return []string{"named", "-f", "-c", conf, "-n", fmt.Sprint(cpus)}, err
	}
	return nil, fmt.Errorf("there is no server %q", kind)
}

// forwarder writes the files of a forwarder to a port of loopback, that keeps
// size answers, and returns its command line.
func (b *bench) forwarder(kind string, port, upstream uint16, size int) ([]string, error) {
	switch kind {
	case "dnsdock":
		e, err := startEngine(b.dir, 0)
		if err != nil {
			return nil, err
		}
		return []string{filepath.Join(b.dir, "dnsdock"), fmt.Sprintf("-dns=127.0.0.1:%d", port), "-http=", "-domain=here", "-verbose=false",
			fmt.Sprintf("-nameserver=127.0.0.1:%d", upstream), "-docker=unix://" + e.socket}, nil
	case "dnsmasq":
		return []string{"dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--pid-file=", "--no-resolv", "--no-hosts",
			"--bind-interfaces", "--listen-address=127.0.0.1", fmt.Sprintf("--port=%d", port), fmt.Sprintf("--server=127.0.0.1#%d", upstream),
			fmt.Sprintf("--cache-size=%d", size), "--dns-forward-max=1000"}, nil
	case "unbound":
		path := filepath.Join(b.dir, "forward.conf")
		return []string{"unbound", "-d", "-c", path}, os.WriteFile(path, fmt.Appendf(nil, `server:
  interface: 127.0.0.1@%d
  num-threads: 1
  chroot: ""
  username: ""
  pidfile: ""
  directory: "%s"
  use-syslog: no
  verbosity: 0
  do-not-query-localhost: no
  module-config: "iterator"
  num-queries-per-thread: 1000
  outgoing-range: 2000
forward-zone:
  name: "."
  forward-addr: 127.0.0.1@%d
remote-control:
  control-enable: no
`, port, b.dir, upstream), 0o644)
	}
	return nil, fmt.Errorf("there is no forwarder %q", kind)
}

func dnsdockArgs(e *engine, port uint16) []string {
	return []string{fmt.Sprintf("-dns=127.0.0.1:%d", port), "-http=", "-nameserver=", "-ttl=60", "-verbose=false", "-docker=unix://" + e.socket}
}

// An engine has containers, a Docker Engine to dnsdock.
type engine struct {
	socket    string
	server    *http.Server
	ids       []string
	events    chan string // to the one stream
	stopped   sync.Map    // ids of those that do not run
	inspected atomic.Int64
}

// startEngine serves count containers at a socket in dir.
func startEngine(dir string, count int) (*engine, error) {
	dir, err := os.MkdirTemp(dir, "engine-")
	if err != nil {
		return nil, err
	}
	e := &engine{socket: filepath.Join(dir, "docker.sock"), events: make(chan string)}
	ln, err := net.Listen("unix", e.socket)
	if err != nil {
		return nil, err
	}
	containers := make(map[string][]byte)
	var list []json.RawMessage
	for i, n := range names(count) {
		id := fmt.Sprintf("%064x", 0xabcdef*(i+1))
		e.ids = append(e.ids, id)
		name, image, _ := strings.Cut(strings.TrimSuffix(n, ".docker"), ".")
		networks := fmt.Sprintf(`"NetworkSettings":{"Networks":{"bridge":{"IPAddress":%q}}}`, address(i))
		list = append(list, json.RawMessage(fmt.Sprintf(`{"Id":%q,"Names":["/%s"],"State":"running",%s}`, id, name, networks)))
		containers[id] = fmt.Appendf(nil, `{"Id":%q,"Name":"/%s","Image":"sha256:00","State":{"Status":"running"},"Config":{"Image":"%s:1","Env":["PATH=/bin"],"Labels":{}},%s}`, id, name, image, networks)
	}
	all, err := json.Marshal(list)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	reply := func(w http.ResponseWriter, b []byte) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(b) // dnsdock ended
	}
	mux.HandleFunc("/_ping", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Api-Version", "1.41") })
	mux.HandleFunc("/v1.41/containers/json", func(w http.ResponseWriter, _ *http.Request) { reply(w, all) })
	mux.HandleFunc("/v1.41/containers/{id}/json", func(w http.ResponseWriter, r *http.Request) {
		id := r.PathValue("id")
		e.inspected.Add(1)
		b := containers[id]
		if _, ok := e.stopped.Load(id); ok {
			b = bytes.Replace(b, []byte("running"), []byte("exited"), 1)
		}
		reply(w, b)
	})
	mux.HandleFunc("/v1.41/events", func(w http.ResponseWriter, r *http.Request) {
		for {
			_ = http.NewResponseController(w).Flush() // dnsdock ended
			select {
			case line := <-e.events:
				_, _ = io.WriteString(w, line)
			case <-r.Context().Done():
				return
			}
		}
	})
	e.server = &http.Server{Handler: mux}
	go func() { _ = e.server.Serve(ln) }()
	return e, nil
}

// restartAll stops and starts all containers, as fast as their events are
// read, within the time. It returns a function that waits for the end and
// says how many inspects there were.
func (e *engine) restartAll(most time.Duration) (wait func() int64) {
	before := e.inspected.Load()
	end := time.After(most)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, action := range []string{"die", "start"} {
			for _, id := range e.ids {
				if action == "die" {
					e.stopped.Store(id, true)
				} else {
					e.stopped.Delete(id)
				}
				select {
				case e.events <- fmt.Sprintf("{\"Type\":\"container\",\"Action\":%q,\"Actor\":{\"ID\":%q}}\n", action, id):
				case <-end:
					return
				}
			}
		}
	}()
	return func() int64 {
		<-done
		return e.inspected.Load() - before
	}
}

func (e *engine) close() error { return e.server.Close() }
