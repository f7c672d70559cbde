package dnsserver

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxAnswers  = 1 << 17     // kept answers: at least one for each of 100,000 names
	fewAnswers  = 1 << 10     // kept answers for which a table may have room for all, however their hashes are
	maxKept     = 16 << 20    // bytes that they take
	minBuckets  = 1 << 5      // of a table: 2 KiB
	maxBuckets  = 1 << 16     // of a table: 4 MiB
	tidyPeriod  = time.Minute // after which an answer that was not asked for again is dropped
	bucketWidth = 5           // entries of a bucket, which is a line of the processor's cache
)

// An answerCache keeps packed answers behind the questions that they answer.
// Readers never lock. It is bounded in answers and in bytes; of those in the
// way, one that was not asked for since the last tidy makes room.
type answerCache struct {
	seed  maphash.Seed
	table atomic.Pointer[[]bucket] // a power of 2 in number

	mu    sync.Mutex // guards what follows, and every change of the table
	count int
	bytes int
	hand  int // the bucket that makes room next
}

// A bucket holds the answers whose questions have the hash of its place.
type bucket struct {
	tags    [bucketWidth]atomic.Uint32 // of the entries: what else of the hash must match
	entries [bucketWidth]atomic.Pointer[entry]
}

func newAnswerCache() *answerCache {
	c := &answerCache{seed: maphash.MakeSeed()}
	table := make([]bucket, minBuckets)
	c.table.Store(&table)
	return c
}

func (c *answerCache) hash(name []byte, qtype uint16, view uint64) uint64 {
	return (maphash.Bytes(c.seed, name) ^ view) + uint64(qtype)*0x9e3779b97f4a7c15 // the golden ratio spreads types
}

func (c *answerCache) hashOf(a netip.Addr) uint64 { return maphash.Comparable(c.seed, a) }

func bucketOf(table []bucket, hash uint64) *bucket { return &table[hash>>32&uint64(len(table)-1)] }

// find returns the answer to a question, nil if none is kept.
func (c *answerCache) find(name []byte, qtype uint16, view uint64) *entry {
	hash := c.hash(name, qtype, view)
	b := bucketOf(*c.table.Load(), hash)
	for i := range b.tags {
		if b.tags[i].Load() == uint32(hash) {
			if e := b.entries[i].Load(); e != nil && e.answers(name, qtype, view) {
				return e
			}
		}
	}
	return nil
}

// put keeps e in the place of the answer to the same question, if there is one.
func (c *answerCache) put(e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.placeLocked(*c.table.Load(), e, false) {
		size, enough := len(*c.table.Load()), 2*c.count
		if c.count < fewAnswers {
			enough = 8 * c.count
		}
		if size >= min(enough, maxBuckets) {
			c.placeLocked(*c.table.Load(), e, true)
			break
		}
		c.resizeLocked(2 * size)
	}
	for c.bytes > maxKept || c.count > maxAnswers {
		c.makeRoomLocked()
	}
}

// placeLocked puts e into its bucket of a table. If that is full, e takes the
// place of another with force, and without it placeLocked returns false.
func (c *answerCache) placeLocked(table []bucket, e *entry, force bool) bool {
	hash := c.hash(e.name(), e.qtype, e.view())
	b := bucketOf(table, hash)
	at, free := int(hash>>16)%bucketWidth, false
	for i := range b.entries {
		switch old := b.entries[i].Load(); {
		case old == nil:
			at, free = i, true
		case old.answers(e.name(), e.qtype, e.view()):
			c.setLocked(b, i, e, hash)
			return true
		case !free && !old.wasUsed():
			at = i
		}
	}
	if free || force {
		c.setLocked(b, at, e, hash)
	}
	return free || force
}

// setLocked puts e into a place of a bucket.
func (c *answerCache) setLocked(b *bucket, i int, e *entry, hash uint64) {
	c.dropLocked(b, i)
	b.entries[i].Store(e)
	b.tags[i].Store(uint32(hash))
	c.count++
	c.bytes += e.space()
}

// dropLocked empties a place of a bucket.
func (c *answerCache) dropLocked(b *bucket, i int) {
	if e := b.entries[i].Load(); e != nil {
		b.entries[i].Store(nil)
		c.count--
		c.bytes -= e.space()
	}
}

// makeRoomLocked drops what was not asked for lately of the next bucket.
func (c *answerCache) makeRoomLocked() {
	table := *c.table.Load()
	c.hand = (c.hand + 1) & (len(table) - 1)
	b := &table[c.hand]
	for i := range b.entries {
		if e := b.entries[i].Load(); e != nil && !e.forgetUse() {
			c.dropLocked(b, i)
		}
	}
}

// tidy drops what was not asked for since the last tidy, and the memory of a
// table that is mostly empty.
func (c *answerCache) tidy() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for range *c.table.Load() {
		c.makeRoomLocked()
	}
	size := minBuckets
	for size < c.count {
		size *= 2
	}
	if size < len(*c.table.Load()) {
		c.resizeLocked(size)
	}
}

// resizeLocked moves all answers to a table of so many buckets.
func (c *answerCache) resizeLocked(size int) {
	old, next := *c.table.Load(), make([]bucket, size)
	c.count, c.bytes, c.hand = 0, 0, 0
	for i := range old {
		for j := range old[i].entries {
			if e := old[i].entries[j].Load(); e != nil {
				c.placeLocked(next, e, true)
			}
		}
	}
	c.table.Store(&next)
}
