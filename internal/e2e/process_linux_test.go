package e2e

import "syscall"

// endsWithTests has a process killed when the tests end, however they do.
func endsWithTests() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
