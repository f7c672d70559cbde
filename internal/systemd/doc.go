// Package systemd tells the service manager how the program does, and has it
// keep the program's sockets over a restart.
package systemd
