package engine

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
)

// A path that leads to a deleted socket is told from one where no engine listens.
func TestDeletedSocket(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "docker.sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	dial := func(path string) error {
		c, err := URL{Network: "unix", Addr: path}.Dial(t.Context(), nil)
		if err == nil {
			_ = c.Close() // nothing was sent
		}
		return err
	}
	if err := dial(path); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, 0x200000, 0) // O_PATH holds the file as a mount does
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	held := fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if err := dial(held); err == nil || errors.Is(err, ErrSocketDeleted) {
		t.Errorf("while the socket is there, and nobody listens: got %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := dial(held); !errors.Is(err, ErrSocketDeleted) {
		t.Errorf("a deleted socket: got %v; want %v", err, ErrSocketDeleted)
	}
	if err := dial(path); err == nil || errors.Is(err, ErrSocketDeleted) {
		t.Errorf("no socket: got %v", err)
	}
}
