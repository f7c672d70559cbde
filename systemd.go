package main

import (
	"cmp"
	"log/slog"

	"github.com/rayje/dnsdock/internal/config"
	"github.com/rayje/dnsdock/internal/listener"
	"github.com/rayje/dnsdock/internal/systemd"
)

// openSockets opens all sockets, or takes those that systemd has kept over a
// restart, and has it keep them over the next one.
func openSockets(cfg *config.Config, getenv func(string) string, log *slog.Logger) (listener.Set, error) {
	kept := systemd.Sockets(getenv)
	socks, err := listener.Reopen(kept, cfg.DNS, cfg.HTTP.Addr)
	if err != nil {
		return socks, err
	}
	for name, list := range socks.ByName {
		err = cmp.Or(err, systemd.Keep(getenv, name, list))
	}
	for name, files := range kept { // of flags that have changed
		for _, f := range files {
			_ = f.Close()
		}
		err = cmp.Or(err, systemd.Drop(getenv, name))
	}
	if err != nil {
		log.Warn("systemd can't be told", "state", "FDSTORE", "err", err)
	}
	return socks, nil
}

// notify tells systemd the state of the service.
func notify(getenv func(string) string, state string, log *slog.Logger) {
	if err := systemd.Notify(getenv, state); err != nil {
		log.Warn("systemd can't be told", "state", state, "err", err)
	}
}
