//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// An engine is a fake Docker Engine with containers.
type engine struct {
	socket    string
	server    *http.Server
	ids       []string
	events    chan string // lines for the only event stream
	stopped   sync.Map    // IDs of stopped containers
	inspected atomic.Int64
}

// startEngine serves count containers at a socket in dir.
func startEngine(dir string, count int) (*engine, error) {
	dir, err := os.MkdirTemp(dir, "engine-")
	if err != nil {
		return nil, err
	}
	e := &engine{socket: filepath.Join(dir, "docker.sock"), events: make(chan string)}
	ln, err := net.Listen("unix", e.socket)
	if err != nil {
		return nil, err
	}
	containers := make(map[string][]byte)
	var list []json.RawMessage
	for i, n := range names(count) {
		id := fmt.Sprintf("%064x", 0xabcdef*(i+1))
		e.ids = append(e.ids, id)
		name, image, _ := strings.Cut(strings.TrimSuffix(n, ".docker"), ".")
		networks := fmt.Sprintf(`"NetworkSettings":{"Networks":{"bridge":{"IPAddress":%q}}}`, address(i))
		list = append(list, fmt.Appendf(nil, `{"Id":%q,"Names":["/%s"],"State":"running",%s}`, id, name, networks))
		containers[id] = fmt.Appendf(nil, `{"Id":%q,"Name":"/%s","Image":"sha256:00","State":{"Status":"running"},`+
			`"Config":{"Image":"%s:1","Env":["PATH=/bin"],"Labels":{}},%s}`, id, name, image, networks)
	}
	all, err := json.Marshal(list)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	reply := func(w http.ResponseWriter, b []byte) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(b) // dnsdock ended
	}
	mux.HandleFunc("/_ping", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Api-Version", "1.41") })
	mux.HandleFunc("/v1.41/containers/json", func(w http.ResponseWriter, _ *http.Request) { reply(w, all) })
	mux.HandleFunc("/v1.41/containers/{id}/json", func(w http.ResponseWriter, r *http.Request) {
		id := r.PathValue("id")
		e.inspected.Add(1)
		b := containers[id]
		if _, ok := e.stopped.Load(id); ok {
			b = bytes.Replace(b, []byte("running"), []byte("exited"), 1)
		}
		reply(w, b)
	})
	mux.HandleFunc("/v1.41/events", func(w http.ResponseWriter, r *http.Request) {
		for {
			_ = http.NewResponseController(w).Flush() // dnsdock ended
			select {
			case line := <-e.events:
				_, _ = io.WriteString(w, line)
			case <-r.Context().Done():
				return
			}
		}
	})
	e.server = &http.Server{Handler: mux}
	go func() { _ = e.server.Serve(ln) }()
	return e, nil
}

// restartAll stops and starts all containers, as fast as dnsdock reads their
// events, for at most the given time. It returns a function that waits for the
// end and returns the number of inspects.
func (e *engine) restartAll(most time.Duration) (wait func() int64) {
	before := e.inspected.Load()
	end := time.After(most)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, action := range []string{"die", "start"} {
			for _, id := range e.ids {
				if action == "die" {
					e.stopped.Store(id, true)
				} else {
					e.stopped.Delete(id)
				}
				select {
				case e.events <- fmt.Sprintf(`{"Type":"container","Action":%q,"Actor":{"ID":%q}}`+"\n", action, id):
				case <-end:
					return
				}
			}
		}
	}()
	return func() int64 {
		<-done
		return e.inspected.Load() - before
	}
}

func (e *engine) close() error { return e.server.Close() }
