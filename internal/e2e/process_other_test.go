//go:build !linux

package e2e

import "syscall"

// endsWithTests has no way to have a process killed when the tests are.
func endsWithTests() *syscall.SysProcAttr { return nil }
