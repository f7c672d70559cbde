package index

import (
	"sync/atomic"
	"time"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/publish"
	"github.com/rayje/dnsdock/internal/table"
)

const (
	removedFor = time.Hour // how long an alias stays ours after its container ended
	maxRemoved = 10_000    // aliases that are remembered; further ones are not
)

// removedAliases are aliases outside of all zones whose container ended, and
// when. The world's answer to such a name would be another host's address.
type removedAliases struct {
	ended table.Table[dnsname.Name, time.Time]
	count atomic.Int32 // of ended, for readers
}

// RecentlyRemoved returns the alias that n is at or below, if it is of no
// container any more, and its last one ended not long ago. While an engine is away,
// that time does not end.
func (x *Index) RecentlyRemoved(n dnsname.Name) (alias dnsname.Name, ok bool) {
	if x.removed.count.Load() == 0 {
		return "", false
	}
	for a := n; a != dnsname.Root && (a == n || x.answersFor(a, n)); a = a.Parent() {
		if ended, ok := x.removed.ended.Load(a); ok && (time.Since(ended) < removedFor || x.Away.Load() > 0) {
			return a, true
		}
	}
	return "", false
}

// noteRemoved remembers the aliases that went with a container, and forgets
// those that s has again.
func (x *Index) noteRemoved(old, s *publish.Service, died bool) {
	if s != nil {
		for _, o := range s.OwnerNames {
			x.removed.ended.Remove(o)
		}
	}
	if old != nil && died {
		for _, o := range old.OwnerNames {
			n, _ := x.owned.Load(o)
			if _, inZone := x.ZoneOf(o); inZone || n.exact != nil {
				continue
			}
			if x.removed.ended.Len() >= maxRemoved {
				x.dropRemoved()
			}
			if x.removed.ended.Len() < maxRemoved {
				x.removed.ended.Store(o, time.Now())
			}
		}
	}
	x.removed.count.Store(int32(x.removed.ended.Len()))
}

// dropRemoved forgets the aliases that went long ago.
func (x *Index) dropRemoved() {
	for a, ended := range x.removed.ended.All() {
		if time.Since(ended) >= removedFor && x.Away.Load() == 0 {
			x.removed.ended.Remove(a)
		}
	}
}
