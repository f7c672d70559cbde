package table

import "sync"

// A Table is a typed sync.Map. The zero Table is empty and ready to use.
type Table[K comparable, V any] struct{ m sync.Map }

// Load returns the value of a key, and whether there is one.
func (t *Table[K, V]) Load(k K) (v V, ok bool) {
	if x, ok := t.m.Load(k); ok {
		return x.(V), true
	}
	return v, false
}

// Store sets the value of a key.
func (t *Table[K, V]) Store(k K, v V) { t.m.Store(k, v) }

// Delete removes a key.
func (t *Table[K, V]) Delete(k K) { t.m.Delete(k) }

// Clear removes all keys.
func (t *Table[K, V]) Clear() { t.m.Clear() }

// All iterates as sync.Map.Range does: not a snapshot, but no key twice.
func (t *Table[K, V]) All() func(yield func(K, V) bool) {
	return func(yield func(K, V) bool) {
		t.m.Range(func(k, v any) bool { return yield(k.(K), v.(V)) })
	}
}
