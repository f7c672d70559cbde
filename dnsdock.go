// Dnsdock is a DNS server that discovers Docker containers by itself.
//
// One line of data: the watcher (dockerapi.go) follows an engine's events
// and inspects containers; naming (service.go) maps a container to a service,
// which is addresses under names; the registry (registry.go) holds services
// by name, in sets (set.go); the servers (server.go, and fastpath.go for UDP)
// read queries; the fast path answers those that need no thought, and the zone
// (dns.go) all others, from the registry, and has the forwarder (forward.go)
// ask upstreams for what is not ours. The HTTP API (api.go) reads and changes
// the registry; beside it are what guards it and explains answers (web.go),
// the overview page (page.go), what listeners are told (events.go), and what is
// counted (metrics.go).
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnsserver"
	"github.com/rayje/dnsdock/internal/engine"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/host"
	"github.com/rayje/dnsdock/internal/listener"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/zone"
)

const usage = `Usage: dnsdock [flags]

A DNS server that discovers Docker containers by itself. It answers

    <anything>.<container-name>.<image-name>.<environment>.<domain>

with their addresses, and forwards what is not its own to a nameserver.

DNS
  -dns ADDR,...         listen for DNS, UDP and TCP, on these addresses (default :53)
  -domain NAME          domain that is appended to all names (default docker)
  -environment NAME     context before the domain: dev makes redis.dev.docker
  -ttl SECONDS          TTL of answers from containers (default 0)
  -alias                each container is also <container-name>.<domain>
  -all                  publish containers that exist but do not run too
  -match RULE           all: a name is answered by all names that it fits, below and above it;
                        closest: by the closest only (default all)
  -nameserver ADDR,...  upstreams for other names, in order; empty: none (default 8.8.8.8:53).
                        tls://IP:PORT#NAME is one by DNS over TLS; a path, as /etc/resolv.conf,
                        is a file that names some, and is followed when it changes
  -nameserver DOMAIN=ADDR,...
                        upstreams for a domain and all below it; empty: none
  -allow CIDR,...       forward for these clients too; without it for local ones only
  -cache SIZE           keep what upstreams answer, in no more memory than this; 0: not at all
                        (default 16MB)
  -forcettl             forwarded answers get -ttl as their TTL

Docker
  -docker URL,...       the engines: unix://PATH or tcp://HOST:PORT; URL=DOMAIN gives one a domain
                        of its own (default $DOCKER_HOST, else unix:///var/run/docker.sock)
  -network NAME,...     answer the addresses on these networks only, in this order (default: all,
                        the one of the default gateway first)
  -host-address ADDR,...
                        the host's addresses, of containers that have its network
                        (default: the one that the client asked)
  -compose=false        no names of compose, <number>.<service>.<project>.<domain> (default true)
  -health=false         answer with unhealthy containers as with others (default true)
  -tlsverify            mutual TLS to the engine (default: $DOCKER_TLS_VERIFY is not empty)
  -tlscacert FILE       CA certificate; it and the next two are by default in
                        $DOCKER_CERTS, else $DOCKER_CERT_PATH, else $HOME/.docker (ca.pem)
  -tlscert FILE         client certificate (cert.pem)
  -tlskey FILE          client key (key.pem)

The rest
  -http ADDR            listen for HTTP, the page and the API, on this address or unix://PATH;
                        empty: no HTTP (default :80)
  -http-token-file FILE changes by HTTP need the token that is in this file
  -http-readonly        nothing can be changed by HTTP
  -log FORMAT           text or json (default text)
  -state FILE           keep what is changed by HTTP in this file (default: until the end)
  -verbose=false        log warnings and errors only (default true: services that come and go too)
  -debug                log each query too
  -healthcheck          ask the dnsdock that runs with the same flags, and exit with 0 or 1
  -version              print the version
  -help                 print this

-dns, -nameserver, -allow, -docker, -network and -host-address may be given more than once.

Examples
  dnsdock -dns=172.17.0.1:53 -http=172.17.0.1:80
  dnsdock -dns=127.0.0.1:5300 -http=127.0.0.1:8053 -nameserver=9.9.9.9,[2620:fe::fe]:53
  dnsdock -docker=tcp://10.0.0.5:2376 -tlsverify -domain=docker.example.com -environment=dev
`

const (
	shutdownTimeout = 5 * time.Second // for clients to take what they were promised; docker stop kills after 10
	httpDrain       = time.Second     // for HTTP clients; replies take milliseconds
	checkTimeout    = 4 * time.Second // of -healthcheck; HEALTHCHECK in Dockerfile.scratch gives it 5
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal kills
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "dnsdock:", err)
	if _, ok := errors.AsType[usageError](err); ok {
		os.Exit(2)
	}
	os.Exit(1)
}

// A usageError is a command line or an environment that can't be used.
type usageError struct{ error }

// run is the program: it ends when ctx is done, with nil, or when a server
// fails. Help and the version go to stdout, the log to stderr.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP) // first of all: it shall never end the program
	defer signal.Stop(hangups)
	if len(args) == 1 && strings.TrimLeft(args[0], "-") == "healthcheck" {
		args = append(args, flagsOfContainer()...)
	}
	cfg, err := parseConfig(args, getenv)
	switch {
	case errors.Is(err, flag.ErrHelp):
		_, err := io.WriteString(stdout, usage)
		return err
	case err != nil:
		return usageError{err}
	case cfg.version:
		_, err := fmt.Fprintln(stdout, "dnsdock", buildVersion(), runtime.Version(), runtime.GOOS+"/"+runtime.GOARCH)
		return err
	case cfg.check:
		return healthcheck(ctx, cfg)
	}
	log := newLogger(cfg, stderr)
	socks, err := listener.Open(cfg.dns, cfg.http)
	if err != nil {
		return err
	}
	g := newGroup(ctx)
	closed := make(chan struct{}) // for servers that can be shut down at any time
	close(closed)
	answering, silence := context.WithCancel(context.Background()) // longer than g.ctx: DNS answers while HTTP drains
	defer silence()
	reg := newRegistry(cfg.naming, cfg.ttl, log, cfg.zones()...)
	if cfg.state != "" {
		restore(reg, cfg.state, log)
	}
	fwd := forward.New(cfg.upstreams, cfg.allow, cfg.cache, log)
	fwd.ForceTTL, fwd.IsSelf = cfg.forceTTL, func(a netip.AddrPort) bool { return cfg.ownAddr(a) != "" }
	if err := fwd.Load(); err != nil {
		log.Warn("nameservers can't be read", "err", err)
	}
	zone := zone.New(answering, reg.Index, fwd, log)
	var watchers []*watcher
	reloads := []func(){fwd.Reload}
	for _, e := range cfg.engines {
		n := cfg.naming
		n.Apex = cmp.Or(e.domain, n.Apex)
		w := newWatcher(newDockerClient(e.URL, cfg.tls), n, reg, log)
		watchers, reloads = append(watchers, w), append(reloads, w.reload)
	}
	lock := &lock{readOnly: cfg.readOnly, file: cfg.tokenFile, log: log}
	log.Info("dnsdock starts", "version", buildVersion(), "domain", cfg.naming.Apex, "engines", cfg.engines)
	drained, drain := context.WithCancel(context.Background()) // done when HTTP has ended
	last := func(stop func(context.Context) error) func(context.Context) error {
		return func(ctx context.Context) error {
			<-drained.Done()
			defer time.AfterFunc(forward.UpstreamTimeout, silence).Stop() // an upstream that answers has answered
			return stop(ctx)
		}
	}
	for _, conn := range socks.UDP {
		srv, started := dnsserver.NewUDPServer(zone, conn)
		g.serve("dns udp", srv.ActivateAndServe, started, last(srv.ShutdownContext))
	}
	for _, ln := range socks.TCP {
		srv := dnsserver.NewTCPServer(zone, ln)
		g.serve("dns tcp", srv.Serve, closed, last(srv.Shutdown))
		log.Info("listening", "for", "dns", "addr", ln.Addr())
	}
	if socks.HTTP == nil {
		drain()
	} else {
		srv := newHTTPServer(g.ctx, newAPI(zone, reg, lock, watchers...), log)
		serve := func() error {
			err := srv.Serve(socks.HTTP)
			if !errors.Is(err, http.ErrServerClosed) { // there is nothing to wait for
				drain()
			}
			return err
		}
		g.serve("http", serve, closed, func(ctx context.Context) error {
			defer drain()
			ctx, cancel := context.WithTimeout(ctx, httpDrain)
			defer cancel()
			_ = srv.Shutdown(ctx) // it waits for connections that never sent anything too
			return srv.Close()
		})
		log.Info("listening", "for", "http", "addr", socks.HTTP.Addr())
	}
	g.start("forwarder", func() error { return fwd.Run(g.ctx) })
	for _, w := range watchers {
		g.start("watcher", func() error { return w.run(g.ctx) })
	}
	g.start("reloader", func() error { return reloadOn(g.ctx, hangups, log, append(reloads, lock.reload)...) })
	notify(getenv, "READY=1", log)
	<-g.ctx.Done()
	notify(getenv, "STOPPING=1", log)
	err = g.wait()
	log.Info("dnsdock ends")
	return err
}

// reloadOn calls all reload functions on each SIGHUP, until ctx is done.
func reloadOn(ctx context.Context, hangups <-chan os.Signal, log *slog.Logger, reloads ...func()) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hangups:
			log.Info("SIGHUP: files are read again, and all containers are listed")
			for _, reload := range reloads {
				reload()
			}
		}
	}
}

// notify tells systemd what becomes of the service, sd_notify(3). Others do not ask.
func notify(getenv func(string) string, state string, log *slog.Logger) {
	socket := getenv("NOTIFY_SOCKET")
	if socket == "" {
		return
	}
	c, err := net.Dial("unixgram", socket) // '@' begins one that is in no file system, for package net too
	if err == nil {
		defer c.Close()
		_, err = io.WriteString(c, state)
	}
	if err != nil {
		log.Warn("systemd can't be told", "state", state, "err", err)
	}
}

// healthcheck asks the program that runs with the same configuration whether it serves.
func healthcheck(ctx context.Context, cfg *config) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	if cfg.http == "" {
		m := new(dns.Msg).SetQuestion("dnsdock."+cfg.naming.Apex.String(), dns.TypeSOA)
		_, addr := listener.Reachable(cfg.dns[0])
		r, _, err := new(dns.Client).ExchangeContext(ctx, m, addr)
		if err == nil && r.Rcode != dns.RcodeSuccess {
			err = fmt.Errorf("%s: %s", m.Question[0].Name, dns.RcodeToString[r.Rcode])
		}
		return err
	}
	network, addr := listener.Reachable(cfg.http)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/healthz", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers /healthz with %s", cfg.http, resp.Status)
	}
	return nil
}

// flagsOfContainer returns the flags that the first process of a container was
// started with, where that is dnsdock: a HEALTHCHECK in its image can't know
// them. Behind docker run --init, that process has the command line behind its own.
func flagsOfContainer() []string {
	line, _ := os.ReadFile("/proc/1/cmdline") // Linux only, proc(5)
	words := strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
	i := slices.Index(words, os.Args[0])
	if i < 0 {
		return nil
	}
	return words[i+1:]
}

func newLogger(cfg *config, stderr io.Writer) *slog.Logger {
	level := slog.LevelInfo
	switch {
	case cfg.debug:
		level = slog.LevelDebug
	case !cfg.verbose:
		level = slog.LevelWarn
	}
	if cfg.json {
		return slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: level, ReplaceAttr: asText}))
	}
	return slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
}

// asText gives what is written for people, such as addresses and types, as the
// same text in JSON.
func asText(_ []string, a slog.Attr) slog.Attr {
	if s, ok := a.Value.Any().(fmt.Stringer); ok && (a.Value.Kind() == slog.KindAny || a.Value.Kind() == slog.KindDuration) {
		a.Value = slog.StringValue(s.String())
	}
	return a
}

// A config is what the command line and the environment say. It is
// read-only after start.
type config struct {
	dns       []string // host:port; the host may be empty, else it is an address
	http      string   // the same, or unix://PATH; empty: no HTTP
	tokenFile string   // empty: no token
	readOnly  bool     // no writes by HTTP
	engines   []watched
	tls       *engine.TLSFiles // of those on TCP; nil: no TLS
	state     string           // file; empty: none
	naming    publish.Naming
	ttl       uint32
	upstreams forward.Routes[forward.Server]
	cache     int64 // octets
	allow     []netip.Prefix
	forceTTL  bool
	verbose   bool
	debug     bool
	json      bool // the log is JSON
	version   bool
	check     bool // -healthcheck
}

// A watched engine, and the domain of its containers.
type watched struct {
	engine.URL
	domain dnsname.Name // of its own; empty: the apex
}

// String is for the log.
func (e watched) String() string {
	if e.domain == "" {
		return e.Text
	}
	return e.Text + "=" + dnsname.Text(e.domain)
}

// parseEngine reads URL or URL=DOMAIN. A path may hold '=' too.
func parseEngine(s string) (e watched, err error) {
	if at := strings.LastIndexByte(s, '='); at >= 0 && !strings.Contains(s[at:], "/") {
		if e.domain, err = parseZone(s[at+1:]); err != nil {
			return e, err
		}
		s = s[:at]
	}
	e.URL, err = engine.ParseURL(s)
	return e, err
}

// An engineFlag is the flag -docker: URLs with commas between, which may be given
// again.
type engineFlag struct {
	items []watched
	isSet bool
}

func (f *engineFlag) set(s string) error {
	f.isSet = true
	var urls []string
	for text := range strings.SplitSeq(s, ",") {
		if last := len(urls) - 1; last >= 0 && text != "" && !strings.Contains(text, "://") {
			urls[last] += "," + text // of a path
		} else {
			urls = append(urls, text)
		}
	}
	for _, text := range urls {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		e, err := parseEngine(text)
		if err != nil {
			return err
		}
		f.items = append(f.items, e)
	}
	return nil
}

// zones are the domains that engines have of their own.
func (cfg *config) zones() (zones []dnsname.Name) {
	for _, e := range cfg.engines {
		if e.domain != "" {
			zones = append(zones, e.domain)
		}
	}
	return zones
}

// parseConfig reads the flags, and from the environment the defaults of those
// about the engine. Its errors name the flag and the value, and say
// what to write instead; flag.ErrHelp is returned as it is.
func parseConfig(args []string, getenv func(string) string) (*config, error) {
	cfg := &config{verbose: true, cache: 16 << 20, naming: publish.Naming{Compose: true, Health: true}}
	dnsAddrs := list[string]{items: []string{":53"}, parse: parseListen}
	upstreams := routeFlag{routes: forward.Routes[forward.Server]{dnsname.Root: {{Addr: netip.MustParseAddrPort("8.8.8.8:53")}}}, isSet: make(map[dnsname.Name]bool)}
	allow := list[netip.Prefix]{parse: parseCIDR}
	engines := engineFlag{}
	networks := list[string]{parse: publish.ParseNetwork}
	hostAddrs := list[netip.Addr]{parse: publish.ParseAddr}
	httpAddr, domain, environment := ":80", "docker", ""
	certs := cmp.Or(getenv("DOCKER_CERTS"), getenv("DOCKER_CERT_PATH"), filepath.Join(getenv("HOME"), ".docker"))
	tlsVerify := getenv("DOCKER_TLS_VERIFY") != ""
	files := engine.TLSFiles{CA: filepath.Join(certs, "ca.pem"), Cert: filepath.Join(certs, "cert.pem"), Key: filepath.Join(certs, "key.pem")}

	fs := flag.NewFlagSet("dnsdock", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	boolean := func(dst *bool) func(string) error {
		return func(s string) (err error) {
			if *dst, err = strconv.ParseBool(s); err != nil {
				return errors.New("write true or false")
			}
			return nil
		}
	}
	fs.Var(&dnsAddrs, "dns", "")
	fs.Func("http", "", func(s string) (err error) {
		if httpAddr = s; strings.HasPrefix(s, "unix:") {
			httpAddr, err = parseSocket(s)
		} else if s != "" {
			httpAddr, err = parseListen(s)
		}
		return err
	})
	fs.Func("docker", "", engines.set)
	fs.Var(&networks, "network", "")
	fs.Var(&hostAddrs, "host-address", "")
	fs.BoolFunc("compose", "", boolean(&cfg.naming.Compose))
	fs.BoolFunc("health", "", boolean(&cfg.naming.Health))
	fs.StringVar(&cfg.state, "state", "", "")
	fs.StringVar(&cfg.tokenFile, "http-token-file", "", "")
	fs.BoolFunc("http-readonly", "", boolean(&cfg.readOnly))
	fs.Func("log", "", func(s string) error {
		if cfg.json = s == "json"; s != "json" && s != "text" {
			return errors.New("write text or json")
		}
		return nil
	})
	fs.BoolFunc("healthcheck", "", boolean(&cfg.check))
	fs.StringVar(&domain, "domain", domain, "")
	fs.StringVar(&environment, "environment", environment, "")
	fs.Func("match", "", func(s string) error {
		if cfg.naming.Closest = s == "closest"; s != "closest" && s != "all" {
			return errors.New("write all or closest")
		}
		return nil
	})
	fs.Func("nameserver", "", upstreams.set)
	fs.Var(&allow, "allow", "")
	fs.Func("cache", "", func(s string) (err error) {
		cfg.cache, err = parseSize(s)
		return err
	})
	fs.Func("ttl", "", func(s string) (err error) {
		cfg.ttl, err = publish.ParseTTL(s)
		return err
	})
	fs.BoolFunc("alias", "", boolean(&cfg.naming.Alias))
	fs.BoolFunc("all", "", boolean(&cfg.naming.All))
	fs.BoolFunc("forcettl", "", boolean(&cfg.forceTTL))
	fs.BoolFunc("tlsverify", "", boolean(&tlsVerify))
	fs.StringVar(&files.CA, "tlscacert", files.CA, "")
	fs.StringVar(&files.Cert, "tlscert", files.Cert, "")
	fs.StringVar(&files.Key, "tlskey", files.Key, "")
	fs.BoolFunc("verbose", "", boolean(&cfg.verbose))
	fs.BoolFunc("debug", "", boolean(&cfg.debug))
	fs.BoolFunc("version", "", boolean(&cfg.version))

	err := fs.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w (dnsdock -help lists the flags)", err)
	case fs.NArg() > 0:
		return nil, fmt.Errorf("%q is no flag: write -flag=value, as in -ttl=30 or -verbose=false", fs.Arg(0))
	case cfg.version:
		return cfg, nil
	case len(dnsAddrs.items) == 0:
		return nil, errors.New(`invalid value "" for flag -dns: write an address, as in :53 or 172.17.0.1:53`)
	}
	cfg.dns, cfg.http, cfg.upstreams, cfg.allow = dnsAddrs.items, httpAddr, upstreams.routes, allow.items
	host := cmp.Or(getenv("DOCKER_HOST"), "unix:///var/run/docker.sock")
	if !engines.isSet {
		err = engines.set(host)
	}
	if err == nil && len(engines.items) == 0 {
		host = ""
		_, err = parseEngine(host)
	}
	if err != nil {
		return nil, fmt.Errorf("invalid value %q for flag -docker or variable DOCKER_HOST: %w", host, err)
	}
	cfg.engines, cfg.naming.Networks, cfg.naming.Host = engines.items, publish.Unique(networks.items), publish.Unique(hostAddrs.items)
	if err := refuseTwice(cfg.engines); err != nil {
		return nil, err
	}
	if cfg.naming.Apex, err = parseApex(environment, domain); err != nil {
		return nil, err
	}
	if cfg.check { // it needs no file: one that is bad now is not the end of what runs
		return cfg, nil
	}
	if err := upstreams.readFiles(); err != nil {
		return nil, err
	}
	if cfg.tokenFile != "" {
		if _, err := readToken(cfg.tokenFile); err != nil {
			return nil, fmt.Errorf("invalid value %q for flag -http-token-file: %w", cfg.tokenFile, err)
		}
	}
	for domain := range cfg.upstreams {
		for _, zone := range append(cfg.zones(), cfg.naming.Apex) {
			if domain != dnsname.Root && domain.Under(zone) {
				return nil, fmt.Errorf("invalid value %q for flag -nameserver: dnsdock answers names under %s itself: write another domain", dnsname.Text(domain)+"=", zone)
			}
		}
	}
	if tlsVerify && slices.ContainsFunc(cfg.engines, func(e watched) bool { return e.Network == "tcp" }) {
		if _, err := files.Config(""); err != nil {
			return nil, fmt.Errorf("%w: write the path of a PEM file, or leave out -tlsverify and DOCKER_TLS_VERIFY", err)
		}
		cfg.tls = &files
	}
	return cfg, refuseSelf(cfg)
}

// A list is a flag of values with commas between, that may be given again.
// The first time replaces the default.
type list[T any] struct {
	items []T
	parse func(string) (T, error)
	isSet bool
}

func (l *list[T]) String() string { return "" } // usage says the default

// Set implements flag.Value.
func (l *list[T]) Set(s string) error {
	if !l.isSet {
		l.items, l.isSet = nil, true
	}
	for text := range strings.SplitSeq(s, ",") {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		item, err := l.parse(text)
		if err != nil {
			return err
		}
		l.items = append(l.items, item)
	}
	return nil
}

// parseListen reads an address to listen on, and writes it in its one form.
func parseListen(s string) (string, error) {
	host, port, err := net.SplitHostPort(s)
	if host == "localhost" {
		host = "127.0.0.1"
	}
	if err == nil && host != "" {
		var ip netip.Addr
		ip, err = netip.ParseAddr(host)
		host = ip.Unmap().String()
	}
	n, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil {
		return "", errors.New("write ADDRESS:PORT or :PORT, as in 172.17.0.1:53, [::1]:53 or :53")
	}
	return net.JoinHostPort(host, strconv.FormatUint(n, 10)), nil
}

// unixScheme is before the path of a socket in -http.
const unixScheme = "unix://"

// maxSocketPath is what all systems have room for, unix(7); macOS has least.
const maxSocketPath = 103

// parseSocket reads unix://PATH, where the path is absolute.
func parseSocket(s string) (string, error) {
	file, ok := strings.CutPrefix(s, unixScheme)
	if !ok || !filepath.IsAbs(file) || len(file) > maxSocketPath || strings.HasSuffix(file, "/") {
		return "", fmt.Errorf("write unix:// and an absolute path of at most %d octets, as in unix:///run/dnsdock/api.sock", maxSocketPath)
	}
	return s, nil
}

// parseSize reads a number of octets.
func parseSize(s string) (int64, error) {
	number, shift := strings.ToUpper(s), 0
	for i, unit := range []string{"K", "M", "G"} {
		for _, end := range []string{"", "B", "IB"} {
			if bare, ok := strings.CutSuffix(number, unit+end); ok {
				number, shift = bare, 10*(i+1)
			}
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > maxCache>>shift {
		return 0, errors.New("write a size, as in 16MB, 512KB or 0, of 16GB at most")
	}
	return n << shift, nil
}

const maxCache = 16 << 30 // octets

// parseUpstream reads where a nameserver is: its address, tls:// before and
// the name in its certificate behind, or the path of a resolv.conf.
func parseUpstream(s string) (u forward.Server, err error) {
	if strings.HasPrefix(s, "/") {
		return forward.Server{File: s}, nil
	}
	text, port := s, uint16(53)
	if text, u.Tls = strings.CutPrefix(s, "tls://"); u.Tls {
		text, u.Name, _ = strings.Cut(text, "#")
		port = 853
	}
	if u.Addr, err = parseUpstreamAddr(text, port); err == nil && strings.Contains(s, "#") {
		if _, e := parseSuffix(u.Name); e != nil || u.Name == "" {
			err = errors.New("write the name in the nameserver's certificate behind '#', as in tls://1.1.1.1:853#cloudflare-dns.com")
		}
	}
	return u, err
}

func parseUpstreamAddr(s string, port uint16) (netip.AddrPort, error) {
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		if bare, ok := strings.CutPrefix(s, "["); ok && strings.HasSuffix(bare, "]") {
			s = strings.TrimSuffix(bare, "]")
		}
		var ip netip.Addr
		ip, err = netip.ParseAddr(s)
		a = netip.AddrPortFrom(ip, port)
	}
	if err != nil || a.Port() == 0 || a.Addr().IsUnspecified() {
		return a, errors.New("write the nameserver's IP or IP:PORT, as in 8.8.8.8, 8.8.8.8:53, [2001:4860:4860::8888]:53 or tls://1.1.1.1#cloudflare-dns.com, or a path, as /etc/resolv.conf")
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), nil
}

// A routeFlag is the flag -nameserver: addresses with commas between, behind
// DOMAIN= those for a domain. The first time replaces the default.
type routeFlag struct {
	routes forward.Routes[forward.Server]
	isSet  map[dnsname.Name]bool
}

func (f *routeFlag) set(s string) (err error) {
	domain := dnsname.Root
	for text := range strings.SplitSeq(s, ",") {
		if before, addr, ok := strings.Cut(text, "="); ok {
			if domain, err = parseDomain(before); err != nil {
				return err
			}
			text = addr
		}
		if !f.isSet[domain] {
			f.routes[domain], f.isSet[domain] = nil, true
		}
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		addr, err := parseUpstream(text)
		if err != nil {
			return err
		}
		f.routes[domain] = append(f.routes[domain], addr)
	}
	return nil
}

// readFiles returns an error if a resolv.conf can't be read.
func (f *routeFlag) readFiles() error {
	for _, s := range slices.Concat(slices.Collect(maps.Values(f.routes))...) {
		if s.File == "" {
			continue
		}
		if _, err := host.ReadFile(s.File, forward.MaxResolvConf); err != nil {
			return fmt.Errorf("invalid value %q for flag -nameserver: %w: write the path of a file as resolv.conf(5)", s.File, err)
		}
	}
	return nil
}

// parseDomain reads the domain before the addresses of its nameservers.
func parseDomain(s string) (dnsname.Name, error) {
	labels, err := parseSuffix(strings.TrimSpace(s))
	if err == nil && labels == "" {
		err = errors.New("write a domain before '=', as in corp.example=10.0.0.53")
	}
	return dnsname.Name(labels) + dnsname.Root, err
}

// parseCIDR reads a range of addresses, or a single one.
func parseCIDR(s string) (netip.Prefix, error) {
	if a, err := publish.ParseAddr(s); err == nil {
		return a.Prefix(a.BitLen())
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		return p, errors.New("write a CIDR or an address, as in 203.0.113.0/24 or 2001:db8::7")
	}
	return p.Masked(), nil
}

// maxApex leaves room for names below the apex, those of the server among them.
const maxApex = 200 // octets

// parseApex makes the apex of the values of -environment and -domain.
func parseApex(environment, domain string) (apex dnsname.Name, err error) {
	labels, err := parseSuffix(environment)
	if err != nil {
		return "", fmt.Errorf("invalid value %q for flag -environment: %w", environment, err)
	}
	zone, err := parseZone(domain)
	switch {
	case err != nil:
		return "", fmt.Errorf("invalid value %q for flag -domain: %w", domain, err)
	case len(labels)+len(zone) > maxApex:
		return "", fmt.Errorf("invalid value %q for flag -environment: %w", environment, errLongApex)
	}
	return dnsname.Name(labels) + zone, nil
}

var errLongApex = fmt.Errorf("the names' common end has over %d octets: write a shorter one", maxApex)

// parseZone reads a domain that names end in.
func parseZone(s string) (zone dnsname.Name, err error) {
	labels, err := parseSuffix(s)
	zone = dnsname.Name(labels) + dnsname.Root
	switch {
	case err != nil:
		return "", err
	case labels == "":
		return "", errors.New("write a domain, as in docker or docker.example.com")
	case len(zone) > maxApex:
		return "", errLongApex
	case zone.IsReverse(), dnsname.InAddrArpa.Under(zone):
		return "", errors.New("it is for addresses: write another, as in docker")
	}
	return zone, nil
}

// refuseTwice returns an error if an engine is there twice.
func refuseTwice(engines []watched) error {
	seen := make(map[string]bool)
	for _, e := range engines {
		if at := e.Network + " " + e.Addr; seen[at] {
			return fmt.Errorf("invalid value %q for flag -docker: this engine is there twice: write it once", e.Text)
		} else {
			seen[at] = true
		}
	}
	return nil
}

// parseSuffix is parseLabels for what a user types: the characters of other
// things, as of a URL or a list, are refused.
func parseSuffix(part string) (labels string, err error) {
	part = strings.Trim(part, ".")
	if strings.Trim(part, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != "" {
		return "", errors.New("write letters, digits, '-' and '_', with dots between labels")
	}
	return dnsname.ParseLabels(part)
}

// refuseSelf returns an error if an upstream is dnsdock itself, which would
// ask itself for ever.
func refuseSelf(cfg *config) error {
	for _, u := range slices.Concat(slices.Collect(maps.Values(cfg.upstreams))...) {
		if addr := cfg.ownAddr(u.Addr); addr != "" {
			return fmt.Errorf("invalid value %q for flag -nameserver: this is dnsdock itself, at -dns=%s: write another nameserver", u, addr)
		}
	}
	return nil
}

// ownAddr returns the value of -dns by which a is answered by dnsdock itself,
// empty if there is none.
func (cfg *config) ownAddr(a netip.AddrPort) string {
	for _, addr := range cfg.dns {
		text, port, _ := net.SplitHostPort(addr) // parseListen made it
		if port != strconv.Itoa(int(a.Port())) {
			continue
		}
		ip, err := netip.ParseAddr(text)
		anywhere := err != nil || ip.IsUnspecified() && ip.Is4() == a.Addr().Is4()
		if anywhere && host.HasAddr(a.Addr()) || ip == a.Addr() {
			return addr
		}
	}
	return ""
}

// A group runs the goroutines that live as long as the program. The first
// error, or the end of the parent context, ends all.
type group struct {
	parent context.Context
	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
}

func newGroup(parent context.Context) *group {
	g := &group{parent: parent}
	g.ctx, g.cancel = context.WithCancelCause(parent)
	return g
}

// start runs f, whose error ends the group.
func (g *group) start(name string, f func() error) {
	g.wg.Go(func() {
		if err := f(); err != nil {
			g.cancel(fmt.Errorf("%s: %w", name, err))
		}
	})
}

// wait returns when all have returned: nil if the parent ended them.
func (g *group) wait() error {
	g.wg.Wait()
	if g.parent.Err() != nil {
		return nil
	}
	return context.Cause(g.ctx)
}

// serve runs a server until it fails, or until the group ends: then stop
// is called, once started is closed, and has shutdownTimeout to return.
func (g *group) serve(name string, serve func() error, started <-chan struct{}, stop func(context.Context) error) {
	returned := make(chan struct{})
	g.start(name, func() error {
		defer close(returned)
		err := serve()
		if g.ctx.Err() != nil {
			return nil
		}
		return cmp.Or(err, errors.New("server ended"))
	})
	g.start(name+" stopper", func() error {
		<-g.ctx.Done()
		select {
		case <-started:
		case <-returned:
			return nil
		}
		ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
		defer cancel()
		_ = stop(ctx) // clients that did not take their answers in time; the program ends all the same
		return nil
	})
}
