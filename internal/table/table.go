// Package table has a typed sync.Map.
package table

import (
	"sync"
)

// A Table is a typed sync.Map.
type Table[K comparable, V any] struct{ Map sync.Map }

func (t *Table[K, V]) Load(k K) (v V, ok bool) {
	if x, ok := t.Map.Load(k); ok {
		return x.(V), true
	}
	return v, false
}

func (t *Table[K, V]) Store(k K, v V) { t.Map.Store(k, v) }

func (t *Table[K, V]) Delete(k K) { t.Map.Delete(k) }

// All iterates as sync.Map.Range does: not a snapshot, but no key twice.
func (t *Table[K, V]) All() func(yield func(K, V) bool) {
	return func(yield func(K, V) bool) {
		t.Map.Range(func(k, v any) bool { return yield(k.(K), v.(V)) })
	}
}
