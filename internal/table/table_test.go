package table

import (
	"maps"
	"testing"
)

func TestTable(t *testing.T) {
	var table Table[string, int]
	want := func(want map[string]int) {
		t.Helper()
		if got := maps.Collect(table.All()); !maps.Equal(got, want) {
			t.Errorf("got %v; want %v", got, want)
		}
		for _, k := range []string{"a", "b", "c"} {
			v, ok := table.Load(k)
			if w, is := want[k]; v != w || ok != is {
				t.Errorf("Load(%s) = %d, %t; want %d, %t", k, v, ok, w, is)
			}
		}
	}
	want(nil)
	table.Store("a", 1)
	table.Store("b", 2)
	table.Store("b", 3)
	want(map[string]int{"a": 1, "b": 3})
	table.Delete("a")
	table.Delete("c")
	want(map[string]int{"b": 3})
	for range table.All() {
		break // which ends the iteration
	}
	table.Clear()
	want(nil)
}
