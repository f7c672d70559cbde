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
	refused bool                     // the engine refused to tell, which was logged
}

// markBaked sets what the image of c sets, if c claims what only its creator may
// claim. If the engine refuses to tell, that is unknown.
func (w *Watcher) markBaked(ctx context.Context, c *publish.Container) error {
	if !w.Naming.NeedsImage(c) {
		return nil
	}
	w.images.mu.Lock()
	baked, ok := w.images.known[c.ImageID]
	w.images.mu.Unlock()
	if !ok {
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
