package transfer

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/tsig"
	"github.com/rayje/dnsdock/internal/zone"
)

const (
	gather = 200 * time.Millisecond // for which changes are gathered to one version
	pause  = time.Second            // between two versions at most, if the clock is set back: serials are Unix times
)

// A Config says who may transfer the zones.
type Config struct {
	Allow   []netip.Prefix   // the clients that may
	Notify  []netip.AddrPort // those who are told of changes
	KeyFile string           // the keys with which transfers are signed; empty: they are not
	Local   netip.Addr       // of ours, that secondaries ask; not valid: the one that reaches the first of Notify
}

// A Server gives zones to secondaries. It keeps a copy of each zone: versions, by which transfers go on while
// containers come and go.
type Server struct {
	zone *zone.Resolver
	cfg  Config
	log  *slog.Logger

	notifyWait time.Duration // the constant, but in tests

	building sync.Mutex // held while nodes are read, which takes a second with 100,000 containers

	mu      sync.Mutex // guards what follows; what is pointed to is never written again
	keys    []tsig.Key
	zones   []*zoneCopy
	running map[netip.Addr]int        // transfers at this time
	second  map[netip.Addr]*Secondary // as many as maxSecondaries and targets
	targets []*target
}

// New returns a server for the zones of z. With a cfg that allows nobody only Text is of use.
func New(z *zone.Resolver, cfg Config, log *slog.Logger) *Server {
	s := &Server{
		zone: z, cfg: cfg, log: log, notifyWait: notifyWait,
		running: make(map[netip.Addr]int), second: make(map[netip.Addr]*Secondary),
	}
	if len(cfg.Notify) > 0 && !cfg.Local.IsValid() {
		s.cfg.Local = localFor(cfg.Notify[0])
	}
	for _, name := range z.Reg.Zones {
		s.zones = append(s.zones, &zoneCopy{name: name})
	}
	for _, addr := range cfg.Notify {
		s.targets = append(s.targets, &target{addr: addr, wake: make(chan struct{}, 1)})
		s.second[addr.Addr()] = &Secondary{Addr: addr.Addr()}
	}
	s.Reload()
	return s
}

// localFor returns the address from which this machine reaches another one. It is not valid if there is none.
func localFor(to netip.AddrPort) netip.Addr {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to)) // sends nothing
	if err != nil {
		return netip.Addr{}
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
}

// IsOn reports whether anybody may transfer the zones.
func (s *Server) IsOn() bool { return len(s.cfg.Allow) > 0 }

// Reload reads the keys again. With a file that can't be used, those before it stay.
func (s *Server) Reload() {
	if s.cfg.KeyFile == "" {
		return
	}
	keys, err := tsig.ReadFile(s.cfg.KeyFile)
	if err != nil {
		s.log.Error("keys can't be read: those from before stay", "file", s.cfg.KeyFile, "err", err)
		return
	}
	s.mu.Lock()
	s.keys = keys
	s.mu.Unlock()
	s.log.Info("keys are read", "file", s.cfg.KeyFile, "keys", len(keys))
}

// Run makes versions of the zones and tells secondaries of them, until ctx is done.
func (s *Server) Run(ctx context.Context) error {
	if !s.IsOn() {
		return nil
	}
	var notifiers sync.WaitGroup
	defer notifiers.Wait()
	for _, t := range s.targets {
		notifiers.Go(func() { s.notifyAll(ctx, t) })
	}
	wake := s.zone.Reg.Touched.Watch()
	serial := s.zone.Reg.Serial.Load() // the second of the start
	for sleep(ctx, untilNext(serial)) {
		next := max(serial+1, uint32(time.Now().Unix()))
		if s.step(next) {
			serial = next
			for _, t := range s.targets {
				t.tell()
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
		}
	}
	return nil
}

// untilNext returns how long to wait before the version that follows a serial. The Unix time must be larger than it, so
// that the serial never runs ahead of the clock: after a restart at once it would not grow.
func untilNext(serial uint32) time.Duration {
	return max(gather, min(pause, time.Until(time.Unix(int64(serial)+1, 0))))
}

// sleep waits, and returns false if ctx is done before that.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// step makes the next version of all zones, and reports whether one has changed.
func (s *Server) step(serial uint32) (changed bool) {
	s.building.Lock()
	defer s.building.Unlock()
	reg := s.zone.Reg
	touched := reg.Touched.Take()
	next := slices.Clone(s.zones)
	var made []*version
	for i, c := range s.zones {
		if !reg.IsListed(c.name) {
			continue
		}
		nodes, before := c.read(s.zone, touched, s.cfg.Local)
		v := &version{serial: serial, nodes: nodes}
		next[i], made = c.next(v, before), append(made, v)
		changed = changed || c.current == nil || len(before) > 0 || touched == nil
	}
	if !changed {
		return false
	}
	reg.Serial.Store(serial)
	for _, c := range next {
		if slices.Contains(made, c.current) {
			c.current.soa = s.zone.SOA(c.name) // with the new serial
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.zones = next
	return true
}

// copyOf returns the zone of that name; nil: there is none.
func (s *Server) copyOf(name dnsname.Name) *zoneCopy {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := slices.IndexFunc(s.zones, func(c *zoneCopy) bool { return c.name == name }); at >= 0 {
		return s.zones[at]
	}
	return nil
}
