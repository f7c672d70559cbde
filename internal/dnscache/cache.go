package dnscache

import (
	"container/list"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rayje/dnsdock/internal/table"
)

// A Cache holds responses in a bounded number of bytes. The response that came first is dropped first, unless it was
// used meanwhile: then it gets a second chance, so that a flood of names that are asked for once drops few others.
type Cache struct {
	limit      int64 // bytes
	responses  table.Table[Question, *Response]
	generation atomic.Uint32 // how often Clear was called

	mu    sync.Mutex // guards what follows, and every change of responses
	size  int64      // bytes of all responses, at most limit
	queue *list.List // of *Response; the last one is dropped first
}

// New returns an empty cache of at most limit bytes.
func New(limit int64) *Cache { return &Cache{limit: limit, queue: list.New()} }

// Get returns the response to q, whatever its age; nil if there is none.
func (c *Cache) Get(q Question) *Response {
	r, ok := c.responses.Load(q)
	if ok && !r.used.Load() {
		r.used.Store(true)
	}
	return r
}

// Put keeps r, unless it is so large that little else could be kept.
func (c *Cache) Put(r *Response) {
	if r.space() > c.limit/8 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if old, ok := c.responses.Load(r.Question); ok {
		r.used.Store(old.used.Load())
		c.queue.Remove(old.place)
		c.size -= old.space()
	}
	r.place = c.queue.PushFront(r)
	c.responses.Store(r.Question, r)
	c.size += r.space()
	for c.size > c.limit {
		place := c.queue.Back()
		last := place.Value.(*Response)
		if last.used.Swap(false) {
			c.queue.MoveToFront(place)
			continue
		}
		c.dropLocked(last)
	}
}

// DropDead drops the responses that must not be given any more.
func (c *Cache) DropDead() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	var next *list.Element
	for place := c.queue.Front(); place != nil; place = next {
		next = place.Next()
		if r := place.Value.(*Response); r.At(r.Age(now)) == Dead {
			c.dropLocked(r)
		}
	}
}

// dropLocked drops r, which must be in the cache.
func (c *Cache) dropLocked(r *Response) {
	c.queue.Remove(r.place)
	c.responses.Remove(r.Question)
	c.size -= r.space()
}

// Clear drops all responses.
func (c *Cache) Clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation.Add(1)
	c.responses.Clear()
	c.queue.Init()
	c.size = 0
}

// Generation returns a number that Clear changes. What was asked for in an earlier generation must not be kept.
func (c *Cache) Generation() uint32 { return c.generation.Load() }

// A Status is what users see of a cache.
type Status struct {
	Answers int   `json:"answers"`
	Size    int64 `json:"size"` // bytes
}

// Status returns how full the cache is.
func (c *Cache) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Status{c.queue.Len(), c.size}
}
