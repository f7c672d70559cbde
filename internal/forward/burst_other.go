//go:build !linux || !(amd64 || arm64 || 386 || arm || riscv64 || loong64)

package forward

import (
	"context"
	"net/netip"

	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/udpio"
)

// A Client is who asked a question in a burst. There are no bursts here: each query has a goroutine.
type Client interface {
	Addr() netip.Addr
	Reply(*dnscache.Response, *udpio.Batch)
}

// A Burst takes no question.
type Burst struct{}

// NewBurst returns a burst.
func (*Forwarder) NewBurst(context.Context) *Burst { return nil }

// Ask reports false: the caller must call Forwarder.Answer.
func (*Burst) Ask(dnscache.Question, func() Client) bool { return false }

// Flush does nothing.
func (*Burst) Flush() {}

// A burst is what a pending never has here.
type burst struct{ upstream *Upstream }

func (*burst) tell(*dnscache.Response, *udpio.Batch) {}
func (*pending) complete([]byte, *udpio.Batch)       {}
func (*pending) fail()                               {}
func (s *socket) readBursts()                        { s.read() }
