package hostsfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rayje/dnsdock/internal/host"
)

const (
	maxFile  = 16 << 20 // bytes of a file that is read: a larger one is no hosts file
	maxBlock = 1 << 20  // bytes of the lines: some 25,000 names, and each look-up reads them all
	tries    = 5        // if other programs write the file at the same time

	// gather is how long changes are collected before a write. If making the
	// lines takes long, 10 times that long, so that it takes a tenth of a processor.
	gather = 200 * time.Millisecond
	// recheck is how often the file is read, in case another program has taken the block out.
	recheck = 10 * time.Second
)

// A Host is a name with its addresses. Its file gets a line for each address.
type Host struct {
	Name  string // in lower case, without the last dot
	Addrs []netip.Addr
}

// A File is a hosts file in which one block of lines belongs to Owner. Symbolic
// links are followed. The rest of the file stays as it is, byte for byte.
type File struct {
	Path  string
	Owner string // a name by which the block is found again
	Log   *slog.Logger

	failing bool // the last write failed, and that was logged
	full    bool // names were left out, and that was logged
}

// Check reports whether path can be a hosts file: a regular file that exists.
func Check(path string) error {
	_, err := host.ReadFile(path, maxFile)
	return err
}

// Run keeps the block equal to what hosts returns, until ctx is done: then it
// removes the block and returns nil. It calls hosts after each value from changes, and
// now and then. If hosts reports false, nothing is known yet, and the block stays as it is.
// What can't be written is logged when that begins and when it ends.
func Run[T any](ctx context.Context, f *File, changes <-chan T, hosts func() (list []Host, ok bool)) error {
	for {
		began, wait := time.Now(), recheck
		list, ok := hosts()
		if ok {
			f.note(f.Set(list))
		} else {
			wait = gather
		}
		pause := max(gather, 10*time.Since(began))
		timer := time.NewTimer(max(wait, pause))
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-changes:
			timer.Reset(pause)
			select {
			case <-ctx.Done():
			case <-timer.C:
			}
		}
		timer.Stop()
		if ctx.Err() != nil {
			f.note(f.Set(nil))
			return nil
		}
		for len(changes) > 0 {
			<-changes
		}
	}
}

func (f *File) note(err error) {
	switch {
	case err != nil && !f.failing:
		f.Log.Error("hosts file can't be kept", "file", f.Path, "err", err)
	case err == nil && f.failing:
		f.Log.Info("hosts file is kept again", "file", f.Path)
	}
	f.failing = err != nil
}

// errChanged says that another program has written the file meanwhile.
var errChanged = errors.New("another program writes the file at the same time")

// Set writes the block of these hosts, or removes it if there are none. Names that the
// rest of the file has, and those that are no host names, are left out. It
// writes nothing if the block is there already.
func (f *File) Set(hosts []Host) (err error) {
	for range tries {
		if err = f.try(hosts); !errors.Is(err, errChanged) {
			return err
		}
	}
	return err
}

func (f *File) try(hosts []Host) error {
	path, err := filepath.EvalSymlinks(f.Path)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	old, err := host.ReadFile(path, maxFile)
	if err != nil {
		return err
	}
	p, err := split(old, f.Owner)
	if err != nil {
		return err
	}
	data := p.with(f.Owner, f.lines(hosts, namesIn(p.without())))
	if bytes.Equal(data, old) {
		return nil
	}
	err = replace(path, info, data)
	if err == nil || errors.Is(err, errChanged) {
		return err
	}
	// A mount can't be replaced, nor a file in a directory that can't be written.
	if e := rewrite(path, info, old, data); e != nil {
		return fmt.Errorf("%w; and in place: %w", err, e)
	}
	return nil
}

// lines returns the lines of hosts, without the names that are taken.
func (f *File) lines(hosts []Host, taken map[string]bool) string {
	var b strings.Builder
	for i, h := range hosts {
		if !isHostName(h.Name) || taken[h.Name] {
			continue
		}
		taken[h.Name] = true
		before := b.String()
		for _, a := range h.Addrs {
			fmt.Fprintf(&b, "%s\t%s\n", a, h.Name)
		}
		if b.Len() > maxBlock {
			if !f.full {
				f.Log.Warn("hosts file can't hold all names", "file", f.Path, "left_out", len(hosts)-i)
			}
			f.full = true
			return before
		}
	}
	f.full = false
	return b.String()
}

// isHostName reports whether s is made of letters, digits, hyphens, underscores and dots only.
// Anything else could end a name, or the line.
func isHostName(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == ""
}

// replace puts a new file with the owner and mode of the old one in its place, at once.
func replace(path string, info fs.FileInfo, data []byte) (err error) {
	aside := path + ".dnsdock-new"
	_ = os.Remove(aside) // left by a program that was killed; if this fails, the next line says why
	f, err := os.OpenFile(aside, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(aside) // err says more
		}
	}()
	if err = chown(f, info); err == nil {
		err = f.Chmod(info.Mode().Perm())
	}
	if err == nil {
		_, err = f.Write(data)
	}
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = unchanged(path, info)
	}
	if err == nil {
		err = os.Rename(aside, path)
	}
	return err
}

// rewrite writes into the file as it is. If that fails, it tries to put back what was there.
func rewrite(path string, info fs.FileInfo, old, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unchanged(path, info); err != nil {
		return err
	}
	put := func(b []byte) error {
		if _, err := f.WriteAt(b, 0); err != nil {
			return err
		}
		return f.Truncate(int64(len(b)))
	}
	if err := put(data); err != nil {
		_ = put(old) // err says more
		return err
	}
	return f.Sync()
}

// unchanged returns errChanged if path is no longer the file that info is of.
func unchanged(path string, info fs.FileInfo) error {
	now, err := os.Stat(path)
	if err == nil && (!os.SameFile(now, info) || now.Size() != info.Size() || !now.ModTime().Equal(info.ModTime())) {
		err = errChanged
	}
	return err
}
