//go:build !windows

package systemd

import (
	"os"
	"syscall"
)

var upgradeSignals = []os.Signal{syscall.SIGUSR2}

// dup copies a descriptor for a program that is started by syscall.Exec.
func dup(fd uintptr) (int, error) { return syscall.Dup(int(fd)) }
