//go:build !windows

package hostsfile

import (
	"io/fs"
	"os"
	"syscall"
)

// chown gives f the owner and the group of the file that info is of.
func chown(f *os.File, info fs.FileInfo) error {
	s := info.Sys().(*syscall.Stat_t)
	return f.Chown(int(s.Uid), int(s.Gid))
}
