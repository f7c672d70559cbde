//go:build !linux || !(amd64 || arm64 || 386 || arm || riscv64 || loong64)

package forward

import (
	"net/netip"
	"time"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/udpio"
)

// There are no bursts here: each query has a goroutine.
type burst struct {
	upstream *Upstream
	client   Client
	begun    time.Time
}

// A Client is one whose query is out in a burst.
type Client interface {
	Address() netip.Addr
	Tell(*dnscache.Response, *udpio.Batch)
}

func (*Flight) land([]byte, *udpio.Batch) {}
func (*Flight) fall(error)                {}
func (s *Socket) readBursts()             { s.read() }
