package table

import (
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
)

// A table is held against a map.
func TestTable(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var table Table[int, int]
	want := make(map[int]int)
	for range 20_000 {
		k, v := rnd.IntN(2000), rnd.Int()
		if rnd.IntN(3) == 0 {
			table.Remove(k)
			delete(want, k)
		} else {
			table.Store(k, v)
			want[k] = v
		}
		if got, ok := table.Load(k); got != want[k] || ok != (want[k] != 0) || table.Len() != len(want) {
			t.Fatalf("%d: got %d, %t, count %d; want %d, count %d", k, got, ok, table.Len(), want[k], len(want))
		}
	}
	if got := maps.Collect(table.All()); !maps.Equal(got, want) {
		t.Errorf("got %v; want %v", got, want)
	}
}

// Readers of a table see each key that is there all the time.
func TestTableBesideChanges(t *testing.T) {
	var table Table[int, int]
	table.Store(-1, 7)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if v, ok := table.Load(-1); !ok || v != 7 {
					t.Error("a key is not found")
					return
				}
			}
		})
	}
	for i := range 20_000 {
		table.Store(i, i)
		if i%3 == 0 {
			table.Remove(i / 2)
		}
	}
	close(done)
	wg.Wait()
}
