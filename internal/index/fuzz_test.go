package index

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/publish"
)

// split returns the labels of a name in lower case, the rightmost first.
func split(s string) []string {
	labels := strings.Split(strings.ToLower(strings.TrimSuffix(s, ".")), ".")
	slices.Reverse(labels)
	return labels
}

// linear is the name rule as the manual says it, on text: compare label by label from
// the right, the shorter name decides, '*' in the query matches anything. Names of
// one label, and those at or above the apex, answer nothing below them.
func linear(q, owner, apex string) bool {
	a, b, top := split(q), split(owner), split(apex)
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] && a[i] != "*" {
			return false
		}
	}
	if len(b) >= len(a) {
		return true
	}
	underApex := len(a) >= len(top) && slices.Equal(a[:len(top)], top)
	aboveApex := len(b) <= len(top) && slices.Equal(b, top[:len(b)])
	return len(b) > 1 && !(underApex && aboveApex)
}

// A world is a rig with what the rule needs as text.
type world struct {
	*rig
	apex string // without the last dot
}

// isOurs reports whether q is at or below the apex, or at or below an owner name.
func (w *world) isOurs(q string) bool {
	if strings.HasSuffix("."+q, "."+w.apex) {
		return true
	}
	for _, s := range w.services {
		for _, o := range s.OwnerNames {
			if q+"." == o.String() || o.Labels() > 1 && strings.HasSuffix(q+".", "."+o.String()) {
				return true
			}
		}
	}
	return false
}

// answer returns the IDs of the services that answer for q, by a look at all of them.
func (w *world) answer(q string, onlyClosest bool) (ids []string) {
	all, closest := w.byOwnerName(q)
	switch below := len(split(q)) - len(split(w.apex)); {
	case len(all) > 0 && onlyClosest:
		return closest
	case len(all) > 0:
		return all
	case below <= 0 || !strings.HasSuffix("."+q, "."+w.apex):
		return nil
	}
	if ids := w.bySecondName(q); len(ids) > 0 {
		return ids
	}
	for id, s := range w.services {
		if s.CatchesAll() {
			ids = append(ids, id)
		}
	}
	return ids
}

// byOwnerName returns the IDs of the services of which an owner name matches q,
// and those with the closest names: q itself, else those below, else the longest.
func (w *world) byOwnerName(q string) (ids, closest []string) {
	longer := -100 // by how many labels the names in closest are longer than q; 1 for any
	for id, s := range w.services {
		for _, o := range s.OwnerNames {
			if !linear(q, o.String(), w.apex) {
				continue
			}
			ids = append(ids, id)
			by := min(o.Labels()-len(split(q)), 1)
			if strings.Contains(q, "*") {
				by = min(by, 0)
			}
			if longer != 0 && (by == 0 || by > longer) {
				longer, closest = by, nil
			}
			if by == longer {
				closest = append(closest, id)
			}
		}
	}
	return ids, closest
}

// bySecondName returns the IDs of the services of which a second name matches
// q: those that are not shorter than q, else the longest, but for those with names of the same service directly
// below. '*' in front is nothing. A q directly under the apex is answered from what has that very name.
func (w *world) bySecondName(q string) (ids []string) {
	longest := -100
	isDirect := len(split(q)) == len(split(w.apex))+1
	for strings.HasPrefix(q, "*.") && len(split(q)) > len(split(w.apex))+1 {
		q = q[2:]
	}
	for id, s := range w.services {
		for _, o := range s.SecondNames {
			by := o.Labels() - len(split(q))
			isSlot := func(n dnsname.Name) bool { return n.Parent() == o }
			isClosed := by < 0 && slices.ContainsFunc(s.SecondNames, isSlot)
			if !linear(q, o.String(), w.apex) || isDirect && by > 0 || isClosed {
				continue
			}
			if by = min(by, 0); by > longest {
				longest, ids = by, nil
			}
			if by == longest {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// change publishes, changes or removes a random service.
func (w *world) change(t *testing.T, rnd *rand.Rand, random func(most int, more ...string) string) {
	id := fmt.Sprint(rnd.IntN(8))
	if rnd.IntN(3) == 0 {
		w.forget(id)
		return
	}
	var aliases []string
	for range rnd.IntN(3) {
		aliases = append(aliases, random(4))
	}
	if rnd.IntN(10) == 0 {
		aliases = append(aliases, "*")
	}
	part, image := random(2), random(2)
	if rnd.IntN(5) == 0 {
		part, image = "", ""
	}
	addr := fmt.Sprintf("10.0.0.%d 10.0.1.%d", rnd.IntN(5), rnd.IntN(5))
	s := testService(t, w.rig, id, part, image, addr, aliases...)
	for range rnd.IntN(3) {
		s.SecondNames = append(s.SecondNames, mustName(t, random(4)+"."+w.apex))
	}
	if rnd.IntN(8) == 0 { // as the machines of a swarm
		s.OwnerNames, s.Aliases = nil, nil
	}
	w.put(id, s)
}

// FuzzNamesRule makes random services and changes of them, and holds the
// index against the rule.
func FuzzNamesRule(f *testing.F) {
	for seed := range uint64(50) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		w := &world{apex: []string{"docker", "d.e"}[rnd.IntN(2)]}
		w.rig = newRig(t, w.apex)
		labels := []string{"a", "b", "c", "docker", "d", "e"}
		random := func(most int, more ...string) string {
			var parts []string
			for range 1 + rnd.IntN(most) {
				parts = append(parts, append(labels, more...)[rnd.IntN(len(labels)+len(more))])
			}
			return strings.Join(parts, ".")
		}
		for range 40 {
			w.change(t, rnd, random)
		}
		w.check(t)
		for range 60 {
			q := random(5, "*")
			if rnd.IntN(2) == 0 {
				q += "." + w.apex
			}
			for _, w.Rules.Closest = range []bool{false, true} {
				ids := w.answer(q, w.Rules.Closest)
				slices.Sort(ids)
				want := strings.Join(slices.Compact(ids), " ")
				if !w.isOurs(q) {
					want = "foreign"
				}
				if got := matched(t, w.rig, q); got != want {
					t.Fatalf("seed %d: %s, closest %t: %q; want %q", seed, q, w.Rules.Closest, got, want)
				}
			}
		}
	})
}

// A change is seen in the stamp of each name whose answer it changes.
func FuzzStamp(f *testing.F) {
	for seed := range uint64(50) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		w := &world{apex: "docker"}
		w.rig = newRig(t, w.apex)
		labels := []string{"a", "b", "c", "docker"}
		random := func(most int, more ...string) string {
			var parts []string
			for range 1 + rnd.IntN(most) {
				parts = append(parts, append(labels, more...)[rnd.IntN(len(labels)+len(more))])
			}
			return strings.Join(parts, ".")
		}
		type answer struct {
			stamp uint32
			sets  string
		}
		look := func(n dnsname.Name) answer {
			var ids []string
			for _, set := range w.Match(n).Sets {
				for s := range set.All(publish.AnyKind) {
					ids = append(ids, fmt.Sprintf("%s %p", s.ID, s))
				}
			}
			slices.Sort(ids)
			return answer{w.Stamp(n), strings.Join(slices.Compact(ids), ",")}
		}
		known := make(map[dnsname.Name]answer)
		for range 60 {
			known[mustName(t, random(4)+"."+w.apex)] = answer{}
		}
		for range 40 {
			w.change(t, rnd, random)
			for n, was := range known {
				now := look(n)
				if now.sets != was.sets && now.stamp == was.stamp && was != (answer{}) {
					t.Fatalf("seed %d: %v changed from %q to %q, and its stamp did not", seed, n, was.sets, now.sets)
				}
				known[n] = now
			}
		}
	})
}
