package swarm

import (
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
)

// A list is what managers list, by ID.
type list[T any] struct {
	items map[string]item[T]
	ids   map[uint64]string // by the sum of an item's text
}

// An item is an element of a list, with the hash of its text.
type item[T any] struct {
	sum   uint64
	value *T // nil: it is left out. It is never written again
}

func (l *list[T]) get(id string) *T { return l.items[id].value }

// A Reading is a list that is being read. It counts once it was read to its
// end: until then all stays as it was.
type Reading struct {
	// Add adds an element, as JSON. It does not keep it.
	Add func(raw []byte) error
	// End ends the list, and returns the keys of what may be answered otherwise now,
	// and how many elements were left out since there are too many.
	End func() (changed []string, dropped int)
}

// begin returns a reading of l, of which at most limit elements are kept, and whose
// end passes the elements that are new, other or gone to changed.
func begin[T any](l *list[T], seed maphash.Seed, limit int, read func([]byte) (string, *T, error),
	changed func(ids []string) []string,
) *Reading {
	next := list[T]{make(map[string]item[T], len(l.items)), make(map[uint64]string, len(l.items))}
	var r Reading
	r.Add = func(raw []byte) error {
		sum := maphash.Bytes(seed, raw)
		if id, ok := l.ids[sum]; ok { // most are as they were: they need not be read
			next.items[id], next.ids[sum] = l.items[id], id
			return nil
		}
		id, value, err := read(raw)
		if err != nil {
			return fmt.Errorf("reply is not the expected JSON: %w", err)
		}
		if id != "" {
			next.items[id], next.ids[sum] = item[T]{sum, value}, id
		}
		return nil
	}
	r.End = func() ([]string, int) {
		dropped := next.limit(limit)
		var ids []string
		for id, i := range next.items {
			if l.items[id] != i {
				ids = append(ids, id)
			}
		}
		for id := range l.items {
			if _, ok := next.items[id]; !ok {
				ids = append(ids, id)
			}
		}
		old := *l
		*l = next
		if len(ids) == 0 {
			*l = old
			return nil, dropped
		}
		return changed(ids), dropped
	}
	return &r
}

// limit leaves out all but the first n elements by ID, and returns how many those are.
func (l *list[T]) limit(n int) (dropped int) {
	if len(l.items) <= n {
		return 0
	}
	for _, id := range slices.Sorted(maps.Keys(l.items))[n:] {
		delete(l.ids, l.items[id].sum)
		delete(l.items, id)
		dropped++
	}
	return dropped
}
