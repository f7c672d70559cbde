// Package dnscache has questions to upstreams, their responses in wire format, and
// a bounded cache of these. It asks nobody, and knows neither clients nor upstreams.
package dnscache

import (
	fifo "container/list"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rayje/dnsdock/internal/table"
)

// A Cache holds responses, in no more than that many octets. The one that came
// first goes first, unless it was used meanwhile: then it gets a second chance,
// so that a flood of names that nobody asks for twice drives out few others.
type Cache struct {
	most      int64
	Responses table.Table[Question, *Response]
	Clears    atomic.Uint32 // how often clear was called

	mu    sync.Mutex // guards what follows, and every store to responses
	Size  int64
	Queue *fifo.List // of *response; the first to go is the last
}

func New(most int64) *Cache { return &Cache{most: most, Queue: fifo.New()} }

// Get returns the response to q, whatever its age; nil if there is none.
func (c *Cache) Get(q Question) *Response {
	r, ok := c.Responses.Load(q)
	if ok && !r.used.Load() {
		r.used.Store(true)
	}
	return r
}

// Put keeps r, unless it is so large that little else could be kept.
func (c *Cache) Put(r *Response) {
	if r.Space() > c.most/8 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if old, ok := c.Responses.Load(r.Question); ok {
		r.used.Store(old.used.Load())
		c.Queue.Remove(old.place)
		c.Size -= old.Space()
	}
	r.place = c.Queue.PushFront(r)
	c.Responses.Store(r.Question, r)
	c.Size += r.Space()
	for c.Size > c.most {
		place := c.Queue.Back()
		last := place.Value.(*Response)
		if last.used.Swap(false) {
			c.Queue.MoveToFront(place)
			continue
		}
		c.dropLocked(last)
	}
}

// DropDead drops what may not be given any more.
func (c *Cache) DropDead() {
	c.mu.Lock()
	defer c.mu.Unlock()
	var next *fifo.Element
	for place := c.Queue.Front(); place != nil; place = next {
		next = place.Next()
		if r := place.Value.(*Response); r.At(time.Since(r.Born)) == Dead {
			c.dropLocked(r)
		}
	}
}

// dropLocked drops r, which is kept.
func (c *Cache) dropLocked(r *Response) {
	c.Queue.Remove(r.place)
	c.Responses.Delete(r.Question)
	c.Size -= r.Space()
}

// Clear drops all responses.
func (c *Cache) Clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Clears.Add(1)
	c.Responses.Map.Clear()
	c.Queue.Init()
	c.Size = 0
}

// A Status is what users see of a cache.
type Status struct {
	Answers int   `json:"answers"`
	Size    int64 `json:"size"` // octets
}

func (c *Cache) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Status{c.Queue.Len(), c.Size}
}
