package watch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/engine"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/swarm"
)

// A fakeSwarm is what a fakeEngine says of its swarm.
type fakeSwarm struct {
	swarm    swarmState
	overlays []string // IDs of the swarm's networks
}

type swarmState struct {
	info    swarm.Info
	lists   map[SwarmList][]string // as JSON; nil: 500, as without a leader
	refused []string               // paths of calls that are refused
	gossip  map[string][]swarm.Heard
	hang    bool // lists hang, as in an election
}

func (s *swarmState) refuse(call string) error {
	for _, r := range s.refused {
		if r == call {
			return fmt.Errorf("%s: %w", call, ErrRefused)
		}
	}
	return nil
}

func (e *fakeEngine) SwarmInfo(ctx context.Context) (info swarm.Info, err error) {
	if err := e.enter(ctx, "SwarmInfo"); err != nil {
		return info, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.swarm.info, e.swarm.refuse("/info")
}

func (e *fakeEngine) SwarmList(
	ctx context.Context, list SwarmList, begun func(), each func(raw []byte) error,
) error {
	if err := e.enter(ctx, "SwarmList "+string(list)); err != nil {
		return err
	}
	e.mu.Lock()
	elements, isHanging, err := e.swarm.lists[list], e.swarm.hang, e.swarm.refuse("/"+string(list))
	has := e.swarm.lists != nil
	e.mu.Unlock()
	switch {
	case err != nil:
		return err
	case isHanging:
		<-ctx.Done()
		return ctx.Err()
	case !has:
		return errors.New("500 The swarm does not have a leader")
	}
	begun()
	for _, text := range elements {
		if err := each([]byte(text)); err != nil {
			return err
		}
	}
	return nil
}

func (e *fakeEngine) Gossip(ctx context.Context, network string) ([]swarm.Heard, error) {
	if err := e.enter(ctx, "Gossip"); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	list, ok := e.swarm.gossip[network]
	if !ok {
		return nil, ErrGone
	}
	return list, e.swarm.refuse("/networks/{id}")
}

func (k *fakeSink) setSwarm(s engine.Status) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.news = append(k.news, map[bool]string{true: "swarm found", false: "swarm lost"}[s.Swarm.Up])
}

// seen returns what the sink was told.
func (k *fakeSink) seen() (services map[string]*publish.Service, news string, puts int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Clone(k.services), strings.Join(k.news, ", "), k.puts
}

func (k *fakeSink) service(prefix string) *publish.Service {
	services, _, _ := k.seen()
	return services[fakeID(prefix)]
}

func matches(qname string, owner dnsname.Name) bool {
	q, o := "."+qname, "."+dnsname.Text(owner)
	return strings.HasSuffix(o, q) || strings.HasSuffix(q, o)
}

func (w *watched) logged(text string) int { return strings.Count(w.log.String(), text) }
