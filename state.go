package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/rayje/dnsdock/internal/config"
	"github.com/rayje/dnsdock/internal/host"
	"github.com/rayje/dnsdock/internal/listener"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/servicejson"
	"github.com/rayje/dnsdock/internal/systemd"
)

// maxState is the size in bytes of the largest state file that is read: 10,000
// services with long lists are less.
const maxState = 1 << 30

// A stateFile keeps what the API changed over a restart: services made by hand,
// changes of containers' services, and the default TTL.
type stateFile struct {
	path string
	reg  *registry

	log  *slog.Logger
	wake chan struct{} // of capacity 1: the file holds something that the registry dropped

	mu   sync.Mutex // guards kept, and is held while the file is written
	kept uint64     // the version of the registry that the file holds
}

// A stateJSON is the content of the file. Properties are those of a PATCH.
type stateJSON[P any] struct {
	TTL      *uint32      `json:"ttl,omitempty"`
	Services map[string]P `json:"services,omitempty"` // made by hand, by ID
	Changes  map[string]P `json:"changes,omitempty"`  // of containers' services, by ID
	Removed  []string     `json:"removed,omitempty"`  // IDs of containers

	Since map[string]time.Time `json:"since,omitempty"` // when each of Services was made
}

// newStateFile returns a file in which reg is kept from now on.
func newStateFile(reg *registry, path string, log *slog.Logger) *stateFile {
	f := &stateFile{path: path, reg: reg, log: log, wake: make(chan struct{}, 1)}
	reg.save = f.save
	reg.dropped = func() {
		select {
		case f.wake <- struct{}{}:
		default: // the file is about to be written
		}
	}
	return f
}

// run writes the file when the registry dropped something that the file holds, until ctx is done.
// Then it returns nil. After an error the next change tries again.
func (f *stateFile) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.wake:
			if err := f.reg.save(); err != nil {
				f.log.Error("state can't be kept", "file", f.path, "err", err)
			}
		}
	}
}

// restore gives the registry what the file holds. It sets a file aside that
// can't be used, and takes those parts that can be.
func (f *stateFile) restore() {
	reg, path, log := f.reg, f.path, f.log
	data, err := host.ReadFile(path, maxState)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if errors.Is(err, host.ErrNotRegular) { // a directory or a device must stay where it is
		err = fmt.Errorf("%w: write the path of a file for -state, as in /var/lib/dnsdock/state.json", err)
		reg.save = func() error { return err }
		log.Error("state can't be kept", "file", path, "err", err)
		return
	}
	if err == nil {
		err = f.load(data)
	}
	if err == nil {
		log.Info("state restored", "file", path)
		return
	}
	aside := path + ".damaged-" + time.Now().UTC().Format("20060102T150405.000")
	if e := os.Rename(path, aside); e != nil {
		err = fmt.Errorf("%w; it can't be set aside: %w", err, e)
	}
	log.Error("state can't be read: the file is set aside, and what can be read of it goes on",
		"file", path, "aside", aside, "err", err)
	if err := f.save(); err != nil {
		log.Error("state can't be kept", "file", path, "err", err)
	}
}

// load gives the registry what data holds. Its error names the parts that can't
// be used; the registry has the rest.
func (f *stateFile) load(data []byte) error {
	var s stateJSON[json.RawMessage]
	if err := decodeOne(data, &s); err != nil {
		return err
	}
	var errs []error
	if s.TTL != nil && *s.TTL <= publish.MaxTTL {
		f.reg.setTTL(*s.TTL)
	} else if s.TTL != nil {
		errs = append(errs, fmt.Errorf("ttl %d: over %d", *s.TTL, publish.MaxTTL))
	}
	for _, id := range publish.SortedKeys(s.Services) {
		p, err := servicejson.ReadService(s.Services[id], true)
		if err == nil {
			_, _, err = f.reg.set(id, p, cmp.Or(s.Since[id], time.Now()))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("service %q: %w", id, err))
		}
	}
	changes := make(map[string]*change)
	for _, id := range publish.SortedKeys(s.Changes) {
		p, err := servicejson.ReadPatch(s.Changes[id])
		if err != nil {
			errs = append(errs, fmt.Errorf("change of %q: %w", id, err))
			continue
		}
		changes[id] = &change{Patch: p}
	}
	for _, id := range s.Removed {
		changes[id] = &change{removed: true}
	}
	f.reg.mu.Lock()
	defer f.reg.unlock()
	for id, c := range changes {
		h := f.reg.held(id)
		h.change = c
		f.reg.applyLocked(id, h, false)
	}
	f.reg.kept = len(s.Services) > 0
	f.reg.version++
	return errors.Join(errs...)
}

// decodeOne reads one JSON value, which must be all of data.
func decodeOne(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("more than one value")
	}
	return nil
}

// save returns when the file holds everything that the API changed before, or
// with an error. Callers that wait for their turn are served by one write.
func (f *stateFile) save() error {
	want := f.reg.apiVersion()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.kept >= want {
		return nil
	}
	s, version := f.reg.state()
	data, err := json.MarshalIndent(s, "", "  ")
	if err == nil {
		err = writeDurably(f.path, append(data, '\n'))
	}
	if err == nil {
		f.kept = version
	}
	return err
}

// state returns everything that the API changed, and the version of that.
func (r *registry) state() (s stateJSON[servicejson.Properties], version uint64) {
	r.mu.Lock()
	defer r.unlock()
	s.Services = make(map[string]servicejson.Properties)
	s.Changes = make(map[string]servicejson.Properties)
	s.Since = make(map[string]time.Time)
	if ttl := r.index.TTL.Load(); r.ttlSet {
		s.TTL = &ttl
	}
	for id, h := range r.everything {
		if h.fromAPI != nil {
			s.Services[id], s.Since[id] = servicejson.Of(h.fromAPI).Properties, h.fromAPI.Origin.Since
		}
		switch c := h.change; {
		case c == nil:
		case c.removed:
			s.Removed = append(s.Removed, id)
		default:
			s.Changes[id] = servicejson.OfPatch(c.Patch)
		}
	}
	slices.Sort(s.Removed)
	return s, r.version
}

// writeDurably replaces a file: whenever the machine fails, the file holds what
// it did before, or all of data.
func writeDurably(path string, data []byte) (err error) {
	aside, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(aside.Name()) // err says more
		}
	}()
	_, err = aside.Write(data)
	if err == nil {
		err = aside.Sync()
	}
	if e := aside.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(aside.Name(), path)
	}
	if err != nil || runtime.GOOS == "windows" { // where directories can't be synced
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// openSockets opens all sockets, or takes those that systemd has kept over a
// restart, and has it keep them over the next one.
func openSockets(cfg *config.Config, getenv func(string) string, log *slog.Logger) (listener.Set, error) {
	kept := systemd.Sockets(getenv)
	socks, err := listener.Open(kept, cfg.DNS, cfg.HTTP.Addr)
	if err != nil {
		return socks, err
	}
	for name, list := range socks.ByName {
		err = cmp.Or(err, systemd.Keep(getenv, name, list))
	}
	for name, files := range kept { // of flags that have changed
		for _, f := range files {
			_ = f.Close()
		}
		err = cmp.Or(err, systemd.Drop(getenv, name))
	}
	if err != nil {
		log.Warn("systemd can't be told", "state", "FDSTORE", "err", err)
	}
	return socks, nil
}

// notify tells systemd the state of the service.
func notify(getenv func(string) string, state string, log *slog.Logger) {
	if err := systemd.Notify(getenv, state); err != nil {
		log.Warn("systemd can't be told", "state", state, "err", err)
	}
}
