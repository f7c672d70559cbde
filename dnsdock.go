// Dnsdock is a DNS server that discovers Docker containers by itself.
//
// Two lines of data run through it, each one way:
//
//	an event:  Docker -> dockerapi.go -> watch -> publish (container -> service) -> registry.go -> index
//	a query:   packet -> dnsserver -> zone -> index, or forward -> dnscache -> an upstream
//
// The HTTP API (api.go) reads and changes the registry. This file reads the
// configuration, connects the parts, and ends them in order: HTTP first, and
// DNS answers until then.
package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/config"
	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/dnsserver"
	"github.com/rayje/dnsdock/internal/engine"
	"github.com/rayje/dnsdock/internal/forward"
	"github.com/rayje/dnsdock/internal/heap"
	"github.com/rayje/dnsdock/internal/host"
	"github.com/rayje/dnsdock/internal/hostsfile"
	"github.com/rayje/dnsdock/internal/listener"
	"github.com/rayje/dnsdock/internal/spool"
	"github.com/rayje/dnsdock/internal/stats"
	"github.com/rayje/dnsdock/internal/systemd"
	"github.com/rayje/dnsdock/internal/transfer"
	"github.com/rayje/dnsdock/internal/watch"
	"github.com/rayje/dnsdock/internal/web"
	"github.com/rayje/dnsdock/internal/zone"
)

const (
	shutdownTimeout = 5 * time.Second // for clients to read their last replies; docker stop sends SIGKILL after 10
	httpDrain       = time.Second     // for HTTP clients to read their last replies, which take milliseconds
	firstList       = time.Second     // for the engines to list their containers; resolvers wait as long
	checkTimeout    = 4 * time.Second // of -healthcheck; HEALTHCHECK in Dockerfile.scratch allows 5
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal kills
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	if upgrade, ok := errors.AsType[*systemd.Upgrade](err); ok {
		err = upgrade.Exec()
	}
	if err == nil {
		return
	}
	last := spool.New(os.Stderr, func(int) []byte { return nil })
	fmt.Fprintln(last, "dnsdock:", err)
	_ = last.Close() // nobody reads it
	if _, ok := errors.AsType[usageError](err); ok {
		os.Exit(2)
	}
	os.Exit(1)
}

// A usageError is a command line or an environment that can't be used.
type usageError struct{ error }

// run is the program. It returns nil when ctx is done, and an error when a
// server fails. Help and the version go to stdout, the log to stderr.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP) // before anything else: a SIGHUP must never end the program
	defer signal.Stop(hangups)
	upgrades, end := systemd.Upgrades()
	defer end()
	if len(args) == 1 && strings.TrimLeft(args[0], "-") == "healthcheck" {
		args = append(args, flagsOfContainer()...)
	}
	cfg, err := config.Parse(args, getenv)
	switch {
	case errors.Is(err, flag.ErrHelp):
		_, err := io.WriteString(stdout, config.Usage())
		return err
	case err != nil:
		return usageError{err}
	case cfg.ShowVersion:
		_, err := fmt.Fprintln(stdout, "dnsdock", buildVersion(), runtime.Version(), runtime.GOOS+"/"+runtime.GOARCH)
		return err
	case cfg.CheckHealth:
		return checkHealth(ctx, cfg)
	}
	brokenPipes := make(chan os.Signal, 1)
	signal.Notify(brokenPipes, syscall.SIGPIPE) // else it ends the program when the log's reader has ended
	defer signal.Stop(brokenPipes)
	log, endLog := startLog(cfg.Log, stderr)
	defer endLog()
	socks, err := openSockets(cfg, getenv, log)
	if err != nil {
		return err
	}
	p := newProgram(ctx, cfg, log)
	for _, w := range p.watchers {
		p.start("watcher", func() error { return w.Run(p.ctx) })
	}
	p.awaitList(getenv)
	p.serveDNS(socks)
	p.serveHTTP(socks.HTTP)
	p.start("answers", func() error { return p.dns.Run(p.ctx) })
	p.start("forwarder", func() error { return p.fwd.Run(p.ctx) })
	if p.state != nil {
		p.start("state", func() error { return p.state.run(p.ctx) })
	}
	if cfg.HostsFile != "" {
		p.start("hosts file", func() error { return p.keepHosts(cfg.HostsFile) })
	}
	p.start("transfers", func() error { return p.transfer.Run(p.ctx) })
	p.start("history", func() error { return p.traffic.Run(p.ctx) })
	p.start("trimmer", func() error { return heap.Trim(p.ctx) })
	p.start("reloader", func() error { return p.reloadOn(hangups) })
	p.start("upgrade", func() error { return systemd.AwaitUpgrade(p.ctx, upgrades, socks.ByName) })
	notify(getenv, "READY=1", log)
	<-p.ctx.Done()
	notify(getenv, systemd.Ending(p.ctx), log)
	err = p.wait()
	p.silence()
	log.Info("dnsdock ends")
	return err
}

// A program is the parts that live until the end, connected.
type program struct {
	*group
	log      *slog.Logger
	lines    *web.Lines // of log
	reg      *registry
	state    *stateFile // nil: there is none
	fwd      *forward.Forwarder
	zone     *zone.Resolver
	dns      *dnsserver.Server
	traffic  *stats.Traffic
	transfer *transfer.Server
	watchers []*watch.Watcher
	auth     *web.WriteAuth
	reloads  []func() // called on SIGHUP

	httpEnded chan struct{}      // closed by serveHTTP's server
	silence   context.CancelFunc // ends queries that wait for an upstream
}

// newProgram makes the parts. It starts nothing.
func newProgram(ctx context.Context, cfg *config.Config, log *slog.Logger) *program {
	lines := new(web.Lines)
	log = slog.New(lines.Keep(log.Handler()))
	p := &program{group: newGroup(ctx), log: log, lines: lines, httpEnded: make(chan struct{})}
	p.reg = newRegistry(cfg.Names, cfg.TTL, log, cfg.EngineDomains()...)
	if cfg.StateFile != "" {
		p.state = newStateFile(p.reg, cfg.StateFile, log)
		p.state.restore()
	}
	p.fwd = newForwarder(cfg, log)
	var answering context.Context // lives longer than p.ctx: DNS answers until HTTP has ended
	answering, p.silence = context.WithCancel(context.Background())
	p.zone = zone.New(answering, p.reg.index, p.fwd, log)
	p.traffic = new(stats.Traffic)
	p.dns = dnsserver.New(answering, p.zone, p.reg.index, p.fwd, p.traffic, log)
	p.serveZones(cfg)
	p.auth = &web.WriteAuth{
		ReadOnly:  cfg.HTTP.ReadOnly,
		TokenFile: cfg.HTTP.TokenFile,
		Open:      cfg.HTTP.Open,
		IsHost: func(a netip.Addr) bool {
			return host.HasAddr(a) || slices.Contains(cfg.Names.Host, a) || p.reg.isGateway(a)
		},
		Log: log,
	}
	p.reloads = []func(){p.fwd.Reload, p.auth.Reload, p.transfer.Reload}
	swarms := watch.NewSwarms(p.reg, func(s engine.Status) {
		p.reg.feed.PublishState("swarm", s.Swarm != nil && s.Swarm.Up, s)
	})
	for _, e := range cfg.Docker.Engines {
		p.follow(cfg, e, swarms)
	}
	log.Info("dnsdock starts", "version", buildVersion(), "domain", cfg.Names.Apex, "engines", cfg.Docker.Engines)
	return p
}

// serveZones makes what gives whole zones to other nameservers.
func (p *program) serveZones(cfg *config.Config) {
	p.transfer = transfer.New(p.zone, transfer.Config{
		Allow: cfg.Transfer.Allow, Notify: cfg.Transfer.Notify, KeyFile: cfg.Transfer.KeyFile, Local: cfg.FirstDNS(),
	}, p.log)
	p.zone.Secondaries = cfg.Transfer.NS
	if p.transfer.IsOn() {
		p.reg.index.Paced, p.dns.Transfers = true, p.transfer
	}
}

// follow makes the watcher of an engine.
func (p *program) follow(cfg *config.Config, e config.Engine, swarms *watch.Swarms) {
	wc := watch.Config{URL: e.Text, Naming: cfg.Names, Labels: cfg.Docker.Labels, Self: host.ContainerID()}
	wc.Published = cfg.Docker.Published
	if cfg.Docker.Swarm {
		wc.Swarms = swarms
	}
	wc.SetGuests = p.reg.index.SetGuests
	wc.Naming.Apex = cmp.Or(e.Domain, wc.Naming.Apex)
	if len(p.watchers) > 0 {
		wc.Suffix = "@" + e.Text
	}
	p.reg.addEngine(wc.URL, wc.Naming.Apex)
	client := newDockerClient(e.URL, cfg.Docker.TLS, p.log)
	client.labels = cfg.Docker.Labels
	w := watch.New(client, wc, p.reg, p.log)
	p.watchers = append(p.watchers, w)
	p.reloads = append(p.reloads, client.reload, w.Resync)
}

// newForwarder returns the forwarder that cfg asks for.
func newForwarder(cfg *config.Config, log *slog.Logger) *forward.Forwarder {
	fwd := forward.New(cfg.Forward.Nameservers, cfg.Forward.Allow, cfg.Forward.CacheSize, log)
	fwd.ForceTTL = cfg.Forward.ForceTTL
	fwd.IsSelf = func(a netip.AddrPort) bool { return cfg.OwnAddr(a) != "" }
	if err := fwd.Load(); err != nil {
		log.Warn("nameservers can't be read", "err", err)
	}
	return fwd
}

// serveDNS starts a server for each socket. They stop after HTTP.
func (p *program) serveDNS(socks listener.Set) {
	last := func(stop func(context.Context) error) func(context.Context) error {
		return func(ctx context.Context) error {
			<-p.httpEnded
			// Each upstream that answers at all has answered after this time.
			defer time.AfterFunc(forward.UpstreamTimeout, p.silence).Stop()
			return stop(ctx)
		}
	}
	for _, conn := range socks.UDP {
		srv := p.dns.UDP(conn)
		p.serve("dns udp", srv.Serve, nil, last(srv.Shutdown))
	}
	for _, ln := range socks.TCP {
		srv := p.dns.TCP(ln)
		p.serve("dns tcp", srv.Serve, nil, last(srv.Shutdown))
		p.log.Info("listening", "for", "dns", "addr", ln.Addr())
	}
}

// serveHTTP starts the server for HTTP. Without a listener there is none.
func (p *program) serveHTTP(ln net.Listener) {
	end := sync.OnceFunc(func() { close(p.httpEnded) })
	if ln == nil {
		end()
		return
	}
	var engines []func() engine.Status
	for _, w := range p.watchers {
		engines = append(engines, w.Status)
	}
	handler := newAPI(&api{
		zone: p.zone, traffic: p.traffic, zones: p.transfer, reg: p.reg, auth: p.auth, lines: p.lines, engines: engines,
	})
	srv := web.NewServer(p.ctx, handler, p.log)
	serve := func() error {
		err := srv.Serve(listener.Persistent(ln, "http", p.log))
		if !errors.Is(err, http.ErrServerClosed) {
			end() // the server failed, so DNS need not wait for its clients
		}
		return err
	}
	p.serve("http", serve, nil, func(ctx context.Context) error {
		defer end()
		ctx, cancel := context.WithTimeout(ctx, httpDrain)
		defer cancel()
		_ = srv.Shutdown(ctx) // waits for connections that never sent anything too, so it may time out
		return srv.Close()
	})
	p.log.Info("listening", "for", "http", "addr", ln.Addr())
}

// awaitList returns when all containers are known, after firstList, or at the end. Until then queries wait in
// sockets that systemd has kept, and whoever waits for the start of the service waits. Without systemd it does nothing.
func (p *program) awaitList(getenv func(string) string) {
	if getenv("NOTIFY_SOCKET") == "" {
		return
	}
	late := time.After(firstList)
	tick := time.NewTicker(firstList / 200)
	defer tick.Stop()
	for !p.reg.index.IsKnown() {
		select {
		case <-p.ctx.Done():
			return
		case <-late:
			return
		case <-tick.C:
		}
	}
}

// keepHosts keeps all names in a hosts file until the end.
func (p *program) keepHosts(file string) error {
	changes, _, err := p.reg.feed.Listen(netip.Addr{})
	if err != nil {
		return err
	}
	defer p.reg.feed.Leave(changes)
	f := &hostsfile.File{Path: file, Owner: "dnsdock " + dnsname.Text(p.reg.names.Apex), Log: p.log}
	return hostsfile.Run(p.ctx, f, changes.Changes, func() (list []hostsfile.Host, ok bool) {
		if !p.reg.index.IsKnown() {
			return nil, false
		}
		p.reg.feed.CatchUp(changes) // all that it missed is in the list
		for n, addrs := range p.zone.Hosts(p.reg.all()) {
			list = append(list, hostsfile.Host{Name: dnsname.Text(n), Addrs: addrs})
		}
		return list, true
	})
}

// reloadOn reads files again and lists containers on each SIGHUP, until the end.
func (p *program) reloadOn(hangups <-chan os.Signal) error {
	for {
		select {
		case <-p.ctx.Done():
			return nil
		case <-hangups:
			p.log.Info("SIGHUP: files are read again, and all containers are listed")
			for _, reload := range p.reloads {
				reload()
			}
		}
	}
}

// checkHealth asks the program that runs with the same configuration whether
// it serves: over HTTP, or over DNS where it has no HTTP.
func checkHealth(ctx context.Context, cfg *config.Config) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	if cfg.HTTP.Addr == "" {
		return checkDNS(ctx, cfg)
	}
	network, addr := listener.Reachable(cfg.HTTP.Addr)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: dial}}
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
		return fmt.Errorf("%s answers /healthz with %s", cfg.HTTP.Addr, resp.Status)
	}
	return nil
}

// checkDNS asks for dnsdock's own name.
func checkDNS(ctx context.Context, cfg *config.Config) error {
	m := new(dns.Msg).SetQuestion("dnsdock."+cfg.Names.Apex.String(), dns.TypeSOA)
	_, addr := listener.Reachable(cfg.DNS[0])
	r, _, err := new(dns.Client).ExchangeContext(ctx, m, addr)
	if err == nil && r.Rcode != dns.RcodeSuccess {
		err = fmt.Errorf("%s: %s", m.Question[0].Name, dns.RcodeToString[r.Rcode])
	}
	return err
}

// flagsOfContainer returns the flags of process 1 if that is dnsdock: a
// HEALTHCHECK in an image can't know them. With docker run --init, process 1
// has dnsdock's command line behind its own.
func flagsOfContainer() []string {
	line, _ := os.ReadFile("/proc/1/cmdline") // only Linux has it, proc(5)
	words := strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
	i := slices.Index(words, os.Args[0])
	if i < 0 {
		return nil
	}
	return words[i+1:]
}

// startLog returns a logger that never waits for who reads stderr. The function end writes the last lines.
func startLog(cfg config.Log, stderr io.Writer) (log *slog.Logger, end func()) {
	lines := spool.New(stderr, func(lost int) []byte {
		var b bytes.Buffer
		newLogger(cfg, &b).Warn("the log could not be written: lines are missing here", "lines", lost)
		return b.Bytes()
	})
	return newLogger(cfg, lines), func() { _ = lines.Close() } // there is no place for its error
}

// newLogger returns a logger that writes to stderr as the flags say.
func newLogger(cfg config.Log, stderr io.Writer) *slog.Logger {
	level := slog.LevelInfo
	switch {
	case cfg.Debug:
		level = slog.LevelDebug
	case !cfg.Verbose:
		level = slog.LevelWarn
	}
	if cfg.JSON {
		return slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: level, ReplaceAttr: asText}))
	}
	return slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
}

// asText writes addresses, record types and durations in JSON as in the log
// in text.
func asText(_ []string, a slog.Attr) slog.Attr {
	kind := a.Value.Kind()
	if s, ok := a.Value.Any().(fmt.Stringer); ok && (kind == slog.KindAny || kind == slog.KindDuration) {
		a.Value = slog.StringValue(s.String())
	}
	return a
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

// start runs f in a goroutine. An error of f ends the group.
func (g *group) start(name string, f func() error) {
	g.wg.Go(func() {
		if err := f(); err != nil {
			g.cancel(fmt.Errorf("%s: %w", name, err))
		}
	})
}

// wait returns when all goroutines have returned: nil if the parent ended them.
func (g *group) wait() error {
	g.wg.Wait()
	if g.parent.Err() != nil {
		return nil
	}
	return context.Cause(g.ctx)
}

// serve runs a server until it fails or the group ends. Then it calls stop,
// which has shutdownTimeout to return. A server that can't be stopped before
// it has started closes started then; for all others it is nil.
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
		if started != nil {
			select {
			case <-started:
			case <-returned:
				return nil
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
		defer cancel()
		_ = stop(ctx) // an error means that clients did not read their replies in time; the program ends all the same
		return nil
	})
}
