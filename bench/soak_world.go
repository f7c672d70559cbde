//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/rayje/dnsdock/internal/dnstest"
)

// A world is a fake engine with containers, and what is known of them.
type world struct {
	engine *dnstest.Engine
	socket string
	server *http.Server // nil while the engine is down

	stable []steady
	slots  []*slot
	away   *truth[bool] // whether dnsdock may take the engine for away

	// Held for reading while a container changes, and for writing while the
	// engine is broken, since changes then wait for its end.
	broken sync.RWMutex
}

// A steady is a container that never changes.
type steady struct{ name, addr string }

// A slot is the place of one container that comes, changes and goes.
type slot struct {
	id     string // the prefix of its ID
	image  string
	names  []string // one of which it has at a time
	number int
	truth  *truth[life]
}

// A life is a container as it is at a time.
type life struct {
	name  string // empty: it does not run
	addrs []string
}

// answer is what a query for name must get.
func (l life) answer(name string) string {
	if l.name != name {
		return "NXDOMAIN"
	}
	addrs := slices.Sorted(slices.Values(l.addrs))
	return "NOERROR " + join(addrs)
}

func join(list []string) (text string) {
	for i, s := range list {
		if i > 0 {
			text += " "
		}
		text += s
	}
	return text
}

const (
	steadies  = 300
	slotCount = 120
	images    = 12
)

// newWorld serves an engine at a socket in dir.
func newWorld(dir string) (*world, error) {
	w := &world{engine: dnstest.NewEngine(), socket: filepath.Join(dir, "docker.sock"), away: newTruth(false)}
	for i := range steadies {
		c := steady{fmt.Sprintf("s%d", i), fmt.Sprintf("10.1.%d.%d", i/250, 1+i%250)}
		w.stable = append(w.stable, c)
		w.engine.Set(fmt.Sprintf("aa%04x", i), &dnstest.Container{
			Name: c.name, Image: "steady:1", State: "running", Addr: c.addr,
			Labels: map[string]string{"com.dnsdock.txt": "of " + c.name},
		})
	}
	for i := range slotCount {
		w.slots = append(w.slots, &slot{
			id: fmt.Sprintf("bb%04x", i), image: fmt.Sprintf("image%d", i%images), number: i,
			names: []string{fmt.Sprintf("c%d", i), fmt.Sprintf("d%d", i)}, truth: newTruth(life{}),
		})
	}
	return w, w.listen()
}

func (w *world) url() string { return "unix://" + w.socket }

// listen brings the engine up.
func (w *world) listen() error {
	_ = os.Remove(w.socket) // of the run before, if any
	ln, err := net.Listen("unix", w.socket)
	if err != nil {
		return err
	}
	w.server = &http.Server{Handler: w.engine}
	go func() { _ = w.server.Serve(ln) }()
	return nil
}

func (w *world) close() {
	if w.server != nil {
		_ = w.server.Close()
		w.server = nil
	}
}

// become changes the container of a slot, with or without its events. The
// caller waits until it is answered, and settles it.
func (w *world) become(slot *slot, next life, events bool) {
	before := slot.truth.now()
	slot.truth.change(next)
	id := dnstest.ID(slot.id)
	c := &dnstest.Container{Name: before.name, Image: slot.image + ":1", State: "exited"}
	if next.name != "" {
		c.Name, c.State, c.Addr = next.name, "running", next.addrs[0]
		c.Networks = make(map[string]dnstest.Endpoint)
		for i, a := range next.addrs[1:] {
			c.Networks[fmt.Sprintf("net%d", i)] = dnstest.Endpoint{IPAddress: a}
		}
	}
	if c.Name == "" {
		c.Name = slot.names[0]
	}
	w.engine.Set(slot.id, c)
	if !events {
		return
	}
	switch {
	case next.name == "":
		w.engine.Event("die", id)
	case before.name == "":
		w.engine.Event("start", id)
	case before.name != next.name:
		w.engine.Event("rename", id)
	default:
		line, _ := json.Marshal(map[string]any{ // can't fail
			"Type": "network", "Action": "connect",
			"Actor": map[string]any{"ID": "net0", "Attributes": map[string]string{"container": id}},
		})
		w.engine.Send(string(line))
	}
}

// another returns a different life for a slot: it starts, dies, gets another
// name, or joins another network.
func (slot *slot) another() life {
	now := slot.truth.now()
	addr := func(third int) string { return fmt.Sprintf("10.%d.%d.%d", 2+third, slot.number, 1+rand.N(250)) }
	switch next := (life{slot.names[rand.N(2)], []string{addr(0)}}); {
	case now.name == "":
		return next
	case rand.N(3) == 0:
		return life{}
	case rand.N(2) == 0:
		next.addrs = now.addrs
		next.name = slot.names[0]
		if now.name == next.name {
			next.name = slot.names[1]
		}
		return next
	default:
		return life{now.name, []string{now.addrs[0], addr(1)}}
	}
}

// churn changes containers of its share of the slots, one after the other.
func (s *soak) churn(ctx context.Context, i int) {
	s.repeat(ctx, 500*time.Millisecond, func() error {
		s.world.broken.RLock()
		defer s.world.broken.RUnlock()
		slot := s.world.slots[rand.N(slotCount/churners)*churners+i]
		s.world.become(slot, slot.another(), true)
		s.tally.add("changes of containers")
		return s.settle(ctx, slot)
	})
}

// settle waits until a slot is answered as it is now.
func (s *soak) settle(ctx context.Context, slot *slot) error {
	now := slot.truth.now()
	for _, name := range slot.names {
		full := name + "." + slot.image + ".docker."
		err := s.await(ctx, full, func(got string) bool { return got == now.answer(name) })
		if ctx.Err() != nil {
			return errEnd
		}
		if err != nil {
			s.tally.fail("changes of containers", "%v", err)
		}
	}
	slot.truth.settle()
	return nil
}

// breakEngine has the engine fail in several ways, and change meanwhile.
func (s *soak) breakEngine(ctx context.Context) {
	w := s.world
	ways := map[string]func() (repair func()){
		"engine restarts": func() func() {
			w.close()
			return func() {
				if err := w.listen(); err != nil {
					s.tally.fail("engine restarts", "%v", err)
				}
			}
		},
		"event streams cut": func() func() { w.engine.EndStreams(); return func() {} },
		"engine hangs": func() func() {
			hang := make(chan struct{})
			w.engine.Update(func() { w.engine.Hang = hang })
			w.engine.EndStreams()
			return func() {
				w.engine.Update(func() { w.engine.Hang = nil })
				close(hang)
			}
		},
		"engine sends garbage": func() func() {
			w.engine.Send("{\"Type\":\"container\",\"Action\":\"start\",\"Actor\":{\"ID\":\"../../x\"}}\n\x00\xff{{{")
			return func() {}
		},
		"engine refuses lists": func() func() {
			w.engine.Update(func() { w.engine.List = func() string { return `{"message": "internal error"` } })
			w.engine.EndStreams()
			return func() { w.engine.Update(func() { w.engine.List = nil }) }
		},
		"engine drops events": func() func() {
			w.engine.Update(func() { w.engine.Quiet = true })
			return func() { w.engine.Update(func() { w.engine.Quiet = false }) }
		},
	}
	names := slices.Sorted(maps.Keys(ways))
	s.repeat(ctx, 20*time.Second, func() error {
		w.broken.Lock()
		defer w.broken.Unlock()
		name := names[rand.N(len(names))]
		s.tally.add(name)
		w.away.change(true)
		repair := ways[name]()
		var changed []*slot
		for range 5 { // unseen
			slot := w.slots[rand.N(slotCount)]
			w.become(slot, slot.another(), false)
			changed = append(changed, slot)
		}
		_ = pause(ctx, time.Second+rand.N(5*time.Second)) // what was broken is repaired in any case
		repair()
		for _, slot := range changed {
			if err := s.settle(ctx, slot); err != nil {
				return err
			}
		}
		return s.listed(ctx)
	})
}

// listed waits until dnsdock knows that it knows all containers.
func (s *soak) listed(ctx context.Context) error {
	err := s.await(ctx, "nosuch.docker.", func(got string) bool { return got == "NXDOMAIN" })
	if ctx.Err() != nil {
		return errEnd
	}
	if err != nil {
		s.tally.fail("engine", "%v", err)
	}
	s.world.away.change(false)
	s.world.away.settle()
	return nil
}

// repair brings the world back to its first state.
func (w *world) repair(ctx context.Context, s *soak) error {
	if w.server == nil {
		if err := w.listen(); err != nil {
			return err
		}
	}
	w.engine.Update(func() { w.engine.Hang, w.engine.List, w.engine.Quiet = nil, nil, false })
	for _, slot := range w.slots {
		w.become(slot, life{}, true)
	}
	for _, slot := range w.slots {
		if err := s.settle(ctx, slot); err != nil {
			return err
		}
	}
	return s.listed(ctx)
}
