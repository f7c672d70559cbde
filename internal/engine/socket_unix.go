//go:build unix

package engine

import (
	"os"
	"syscall"
)

// isDeleted reports whether a path leads to a file that has no name any more, as
// the target of a bind mount may.
func isDeleted(path string) bool {
	info, err := os.Stat(path)
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Nlink == 0
}
