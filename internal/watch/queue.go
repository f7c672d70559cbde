package watch

import (
	"sync"
)

// A queue holds the IDs of the containers that are to be reconciled, and
// remembers how each container was when it was reconciled last.
type queue struct {
	ready chan struct{} // of capacity 1: there may be something to take

	mu      sync.Mutex                // guards what follows
	known   map[string]knownContainer // by ID
	lists   uint32                    // lists that were begun
	dirty   map[string]bool           // IDs to be reconciled
	busy    map[string]bool           // IDs that are being reconciled
	stuck   map[string]bool           // IDs whose inspect failed since the last list
	waiting map[string]bool           // IDs of the first list that are still to be reconciled; nil before it
	awaits  bool                      // what is said of its swarm is still to come
	listed  bool                      // the first list was reconciled, and nothing else awaited
}

// A knownContainer is a container that was inspected.
type knownContainer struct {
	Fingerprint        // as it was reconciled last; zero if the last inspect failed
	list        uint32 // the last list that had it
}

func newQueue() *queue {
	return &queue{
		ready: make(chan struct{}, 1),
		known: make(map[string]knownContainer),
		dirty: make(map[string]bool),
		busy:  make(map[string]bool),
		stuck: make(map[string]bool),
	}
}

// wakeUp leaves a token in c, a channel of capacity 1, unless one is there.
func wakeUp(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// add makes containers dirty.
func (q *queue) add(ids ...string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, id := range ids {
		q.dirty[id] = true
	}
	wakeUp(q.ready)
}

// beginList starts to compare a list with the containers as they were reconciled.
func (q *queue) beginList() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lists++
}

// isSame notes that the list has a container, and reports whether the container
// is as it was when it was reconciled last.
func (q *queue) isSame(id string, now Fingerprint) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	k, ok := q.known[id]
	if ok {
		q.known[id] = knownContainer{k.Fingerprint, q.lists}
	}
	return ok && k.Fingerprint == now
}

// endList makes those containers dirty that the list shows to have changed since
// they were reconciled, and those that are missing in it. It reports whether
// the first list has been reconciled with that.
func (q *queue) endList(changed []string) (listed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, id := range changed {
		q.dirty[id] = true
	}
	for id, k := range q.known {
		if k.list != q.lists {
			q.dirty[id] = true
		}
	}
	if q.waiting == nil {
		q.waiting = make(map[string]bool, len(q.dirty))
		for id := range q.dirty {
			q.waiting[id] = true
		}
	}
	for id := range q.stuck { // the engine can't tell more of these: the others must not wait for them
		delete(q.waiting, id)
	}
	q.stuck = make(map[string]bool)
	wakeUp(q.ready)
	return q.isListedLocked()
}

// isListedLocked reports whether the first list has been reconciled; it does so
// once.
func (q *queue) isListedLocked() bool {
	if q.listed || q.awaits || q.waiting == nil || len(q.waiting) > 0 {
		return false
	}
	q.listed = true
	q.waiting = make(map[string]bool) // a map keeps the memory of what it held
	return true
}

// begin starts a new connection: which inspects failed before does not matter,
// and the next list is the first.
func (q *queue) begin() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stuck = make(map[string]bool)
	q.listed, q.awaits, q.waiting = false, false, nil
}

// await makes the first list count only once what is said of the swarm has come too.
func (q *queue) await() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.awaits = true
}

// arrive ends that. It reports whether the first list has been reconciled with that.
func (q *queue) arrive() (listed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.awaits = false
	return q.isListedLocked()
}

// take moves an ID from dirty to busy, unless all that are dirty are busy too.
func (q *queue) take() (id string, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for id := range q.dirty {
		if !q.busy[id] {
			delete(q.dirty, id)
			q.busy[id] = true
			return id, true
		}
	}
	return "", false
}

// finish ends what take began. It reports whether the first list has been
// reconciled with that.
func (q *queue) finish(id string) (listed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.releaseLocked(id)
	delete(q.waiting, id)
	return q.isListedLocked()
}

// interrupt ends what take began and makes the container dirty again.
func (q *queue) interrupt(id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.dirty[id] = true
	q.releaseLocked(id)
}

// fail ends what take began: the next list makes the container dirty again. It
// reports whether this is the first failure since the container was reconciled.
func (q *queue) fail(id string) (first bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stuck[id] = true
	k, ok := q.known[id]
	q.known[id] = knownContainer{list: k.list}
	q.releaseLocked(id)
	return !ok || k.Fingerprint != Fingerprint{}
}

func (q *queue) releaseLocked(id string) {
	delete(q.busy, id)
	if len(q.busy) == 0 && len(q.dirty) == 0 {
		q.dirty = make(map[string]bool) // a map keeps the memory of what it held
	}
	if q.dirty[id] || len(q.busy) == 0 {
		wakeUp(q.ready)
	}
}

// remember notes how a container was reconciled. It reports whether the inspect
// before this one had failed.
func (q *queue) remember(id string, now Fingerprint) (failedBefore bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	k, ok := q.known[id]
	q.known[id] = knownContainer{now, k.list}
	return ok && k.Fingerprint == Fingerprint{}
}

// forget removes a container that does not exist any more.
func (q *queue) forget(id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.known, id)
}

// isKnown reports whether a container exists, as far as the engine said.
func (q *queue) isKnown(id string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	_, ok := q.known[id]
	return ok
}

func (q *queue) knownCount() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.known)
}
