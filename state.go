package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/servicejson"
)

// A stateFile keeps what the API did over a restart: services made by hand,
// changes of containers' services, and the default TTL.
type stateFile struct {
	path string
	reg  *registry

	mu   sync.Mutex // guards what follows, and is held while the file is written
	kept uint64     // the registry's version that is in the file
}

// A stateJSON is what is in the file. Properties are as those of a PATCH.
type stateJSON struct {
	TTL      *uint32                    `json:"ttl,omitempty"`
	Services map[string]json.RawMessage `json:"services,omitempty"` // made by hand, by id
	Changes  map[string]json.RawMessage `json:"changes,omitempty"`  // of containers' services, by id
	Removed  []string                   `json:"removed,omitempty"`  // ids of containers
}

// restore gives reg what the file holds, and has it kept there from now on. A
// file that can't be used is set aside, and what of it can be is taken.
func restore(reg *registry, path string, log *slog.Logger) {
	f := &stateFile{path: path, reg: reg}
	reg.save = f.save
	data, err := readRegular(path)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if errors.Is(err, errNoFile) { // a directory or a device is nobody's to move
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
	log.Error("state can't be read: the file is set aside, and what can be read of it goes on", "file", path, "aside", aside, "err", err)
	if err := f.save(); err != nil {
		log.Error("state can't be kept", "file", path, "err", err)
	}
}

var errNoFile = errors.New("it is there and no regular file: write the path of a file for -state, as in /var/lib/dnsdock/state.json")

// readRegular reads a file, and nothing that may wait for a writer.
func readRegular(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = errNoFile
	}
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

// load has the registry take data. Its error says what can't be used of it; the
// rest is taken.
func (f *stateFile) load(data []byte) error {
	var s stateJSON
	if err := decode(data, &s); err != nil {
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
			_, _, err = f.reg.set(id, p)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("service %q: %w", id, err))
		}
	}
	overlays := make(map[string]overlay)
	for _, id := range publish.SortedKeys(s.Changes) {
		p, err := servicejson.ReadPatch(s.Changes[id])
		if err != nil {
			errs = append(errs, fmt.Errorf("change of %q: %w", id, err))
			continue
		}
		overlays[id] = overlay{Patch: p}
	}
	for _, id := range s.Removed {
		overlays[id] = overlay{removed: true}
	}
	f.reg.overlay(overlays)
	return errors.Join(errs...)
}

// decode reads one JSON value that is all of data.
func decode(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("more than one value")
	}
	return nil
}

// save returns when the file holds all that the API did before, or with an
// error. Those who wait for their turn meanwhile are written together.
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

// writeDurably puts data in the place of a file: it holds what it did before
// or all of data, whenever the machine fails.
func writeDurably(path string, data []byte) (err error) {
	aside, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(aside.Name()) // the error says more
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
	if err != nil || runtime.GOOS == "windows" { // whose directories can't be synced
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

func encode(p servicejson.Properties) json.RawMessage {
	data, err := json.Marshal(p)
	if err != nil {
		panic(err) // strings and numbers have none
	}
	return data
}

// state returns all that the API did, and the version of that.
func (r *registry) state() (s stateJSON, version uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s = stateJSON{Services: make(map[string]json.RawMessage), Changes: make(map[string]json.RawMessage)}
	if ttl := r.TTL.Load(); r.ttlSet {
		s.TTL = &ttl
	}
	for id, m := range r.made {
		s.Services[id] = encode(servicejson.Of(m).Properties)
	}
	for _, id := range publish.SortedKeys(r.overlays) {
		if o := r.overlays[id]; o.removed {
			s.Removed = append(s.Removed, id)
		} else {
			s.Changes[id] = encode(servicejson.OfPatch(o.Patch))
		}
	}
	return s, r.version
}
