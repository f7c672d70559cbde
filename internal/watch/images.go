package watch

import (
	"context"
	"errors"
	"sync"

	"github.com/rayje/dnsdock/internal/publish"
)

// maxImages bounds what is kept of images: their labels may be long.
const maxImages = 1000

// images knows what images set, whoever starts a container of them. An image
// never changes: a change has another ID.
type images struct {
	mu      sync.Mutex               // guards what follows
	known   map[string]publish.Baked // by ID of the image
	asking  map[string]chan struct{} // by ID of an image that the engine is asked for; closed after that
	refused bool                     // the engine refused to tell, which was logged
}

// markBaked sets what the image of c sets, if c claims what only its creator may
// claim. If the engine refuses to tell, that is unknown.
func (w *Watcher) markBaked(ctx context.Context, c *publish.Container) error {
	if !w.Naming.NeedsImage(c) {
		return nil
	}
	baked, ok, answered := w.images.begin(ctx, c.ImageID)
	if !ok {
		defer answered()
		var err error
		baked, err = w.engine.Image(ctx, c.ImageID)
		switch {
		case errors.Is(err, ErrRefused):
			w.images.refuse(w, err)
			baked = publish.Baked{Unknown: true}
		case err != nil:
			return err
		default:
			w.images.keep(c.ImageID, baked)
		}
	}
	c.Baked = baked
	return nil
}

// begin returns what an image sets, if that is known, else a function that the caller must
// call after it asked the engine. It waits for others that ask for the same image.
func (i *images) begin(ctx context.Context, id string) (b publish.Baked, ok bool, answered func()) {
	for {
		b, ok, other := i.look(id)
		if ok || other == nil {
			return b, ok, func() { i.end(id) }
		}
		select {
		case <-other:
		case <-ctx.Done():
			return b, false, func() {} // the call will fail
		}
	}
}

// look returns what an image sets, if that is known, else what is closed once another has asked for it. If
// that is nil the caller is to ask, and then to call end.
func (i *images) look(id string) (b publish.Baked, ok bool, other chan struct{}) {
	i.mu.Lock()
	defer i.mu.Unlock()
	b, ok = i.known[id]
	if other = i.asking[id]; ok || other != nil {
		return b, ok, other
	}
	if i.asking == nil {
		i.asking = make(map[string]chan struct{})
	}
	i.asking[id] = make(chan struct{})
	return b, false, nil
}

func (i *images) end(id string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	close(i.asking[id])
	delete(i.asking, id)
}

// keep keeps what an image sets.
func (i *images) keep(id string, b publish.Baked) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.known == nil || len(i.known) >= maxImages {
		i.known = make(map[string]publish.Baked)
	}
	i.known[id] = b
}

// refuse logs once that the engine refuses to tell what images set.
func (i *images) refuse(w *Watcher, err error) {
	i.mu.Lock()
	isFirst := !i.refused
	i.refused = true
	i.mu.Unlock()
	if isFirst {
		w.log.Warn("images can't be read, and containers get no aliases outside of the domain, "+
			"other addresses or CNAMEs: allow GET /images/{id}/json", "err", err)
	}
}
