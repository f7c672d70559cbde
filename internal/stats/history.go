package stats

import (
	"context"
	"sync"
	"time"
)

const (
	period  = time.Minute
	periods = 60 // an hour: enough to see when something began
)

// A history remembers how many queries had been answered at the end of each of the last periods.
type history struct {
	mu   sync.Mutex
	ends [][Kinds]uint64 // the newest last; one more than periods at most
}

// Run keeps the history until ctx is done. Then it returns nil.
func (t *Traffic) Run(ctx context.Context) error {
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for {
		t.history.add(t.byKind())
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (h *history) add(end [Kinds]uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ends = append(h.ends, end)
	h.ends = h.ends[max(0, len(h.ends)-periods-1):]
}

// LastHour returns how many queries were answered in each minute of the last hour, by the name of
// their kind. The newest minute comes last, and it is not over.
func (t *Traffic) LastHour() map[string][]uint64 {
	now := t.byKind()
	h := &t.history
	h.mu.Lock()
	defer h.mu.Unlock()
	minutes := make(map[string][]uint64)
	for k := range Kinds {
		list := []uint64{}
		for i := range h.ends {
			end := now
			if i+1 < len(h.ends) {
				end = h.ends[i+1]
			}
			list = append(list, end[k]-h.ends[i][k])
		}
		minutes[k.String()] = list[max(0, len(list)-periods):]
	}
	return minutes
}
