//go:build !windows

package listener

import "syscall"

// setMode sets the mode of an open socket where the system allows it.
func setMode(fd uintptr, mode uint32) { _ = syscall.Fchmod(int(fd), mode) }
