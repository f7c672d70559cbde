package watch

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/rayje/dnsdock/internal/publish"
)

// maxFollowed is the number of containers that are inspected for one that
// borrows their addresses; these may borrow in turn.
const maxFollowed = 16

// A followed container lends its addresses to another one, its follower.
type followed struct {
	ref  string      // ID or name
	seen Fingerprint // as the follower saw it; zero before that, and if it did not exist
}

// followers knows which containers borrow addresses, and from which ones.
type followers struct {
	mu   sync.Mutex            // guards what follows
	list map[string][]followed // by ID of the follower; a list is never written again
}

// set notes what a follower follows; an empty list removes it.
func (f *followers) set(follower string, list []followed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case len(list) == 0:
		delete(f.list, follower)
	case f.list == nil:
		f.list = map[string][]followed{follower: list}
	default:
		f.list[follower] = list
	}
}

func (f *followers) forget(follower string) { f.set(follower, nil) }

// of returns the followers of the container with that ID or name that saw it
// otherwise than it is now.
func (f *followers) of(id, name string, now Fingerprint) (ids []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	isNews := func(o followed) bool { return (o.ref == id || o.ref == name) && o.seen != now }
	for follower, list := range f.list {
		if follower != id && slices.ContainsFunc(list, isNews) {
			ids = append(ids, follower)
		}
	}
	return ids
}

// complete adds to c what only other calls tell: which of its networks are
// internal, what its image sets, and the addresses that it borrows. It notes whom c follows before
// it inspects them, so that no change of these is missed.
func (w *Watcher) complete(ctx context.Context, c *Container) error {
	if err := w.markNetworks(ctx, c); err != nil {
		return err
	}
	if err := w.markBaked(ctx, c.Container); err != nil {
		return err
	}
	walk := &walk{Watcher: w, follower: c.ID}
	err := walk.borrow(ctx, c.Container, []string{c.ID})
	if len(walk.all) == 0 {
		w.followers.forget(c.ID)
	}
	return err
}

// A walk collects what one follower follows.
type walk struct {
	*Watcher
	follower string // ID
	all      []followed
}

// note adds to what the follower follows. It copies the list, which others read.
func (k *walk) note(more ...followed) {
	k.all = append(slices.Clone(k.all), more...)
	k.followers.set(k.follower, k.all)
}

// borrow gives c the addresses of others: the networks of the container whose
// network it shares, and the addresses of those that it is reached by. Path
// leads to c, with c; a container on it is not followed again.
func (k *walk) borrow(ctx context.Context, c *publish.Container, path []string) error {
	if c.Shares != "" {
		other, err := k.find(ctx, c.Shares, path)
		if err != nil {
			return err
		}
		if other != nil {
			c.Networks, c.Outside = other.Networks, other.Outside
		}
	}
	c.Others = make(map[string][]publish.Endpoint)
	for _, ref := range c.Reaches() {
		other, err := k.find(ctx, ref, path)
		if err != nil {
			return err
		}
		if other != nil {
			c.Others[ref] = other.Endpoints(k.Naming.Networks)
		}
	}
	return nil
}

// find returns the container with that ID or name, with the addresses that it
// borrows itself. It returns nil if the container does not run or leads back.
func (k *walk) find(ctx context.Context, ref string, path []string) (*publish.Container, error) {
	if len(k.all) >= 2*maxFollowed || slices.Contains(path, ref) {
		return nil, nil
	}
	k.note(followed{ref: ref})
	c, err := k.engine.Inspect(ctx, ref)
	if errors.Is(err, ErrGone) || err == nil && slices.Contains(path, c.ID) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	k.all = k.all[:len(k.all)-1]
	k.note(followed{ref, c.Fingerprint}, followed{c.ID, c.Fingerprint}) // by both, since it may be renamed
	if err := k.markNetworks(ctx, c); err != nil || c.State != "running" {
		return nil, err
	}
	if err := k.markBaked(ctx, c.Container); err != nil {
		return nil, err
	}
	return c.Container, k.borrow(ctx, c.Container, append(slices.Clone(path), c.ID))
}
