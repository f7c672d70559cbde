//go:build !linux || !(amd64 || arm64 || 386 || arm || riscv64 || loong64)

package main

import (
	"net/netip"
	"time"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/udpio"
)

// There are no bursts here: the zone has upstreams asked.
type (
	burst struct {
		upstream *upstream
		client   *waitingClient
		begun    time.Time
	}
	waitingClient struct{ addr netip.Addr }
	asked         struct{}
)

func (*packetConn) ask(int) bool                             { return false }
func (p *packetConn) flush()                                 { p.batch.Flush() }
func (*waitingClient) tell(*dnscache.Response, *udpio.Batch) {}
func (*flight) land([]byte, *udpio.Batch)                    {}
func (*flight) fall(error)                                   {}
func (s *socket) readBursts()                                { s.read() }
