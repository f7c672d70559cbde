package house

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A room says what a package may know.
type room struct {
	uses   string // packages of internal/ that it may import
	denied string // packages outside of this module that it must not import, with all that is below them
}

// Packages that several rooms must not know.
const (
	messages = "github.com/miekg/dns golang.org/x/net/dns "
	http     = "net/http "
	sockets  = "net golang.org/x/net/ipv4 golang.org/x/net/ipv6 " // net itself; net/netip is a value
	files    = "os io/fs "
)

// rooms is the map of docs/internals.md, floor by floor from the ground up. A package
// that is not here fails the test.
var rooms = map[string]room{
	"internal/dnsname": {"", http + sockets + files},
	"internal/dnswire": {"dnsname", http + sockets + files},
	"internal/stats":   {"", http + sockets + files},
	"internal/heap":    {"", messages + http + sockets + files},
	"internal/spool":   {"", messages + http + sockets + files},
	"internal/table":   {"", messages + http + sockets + files},

	"internal/limit":     {"", messages + http + sockets + files},
	"internal/host":      {"", messages + http},
	"internal/systemd":   {"", messages + http},
	"internal/hostsfile": {"host", messages + http + sockets},
	"internal/feed":      {"limit", messages + http + sockets + files},
	"internal/engine":    {"", messages},
	"internal/publish":   {"dnsname", messages + http + sockets + files + "sync log/slog"},
	"internal/swarm":     {"publish", messages + http + sockets + files + "sync log/slog"},
	"internal/udpio":     {"", messages + http},
	"internal/listener":  {"stats udpio", messages + http},
	"internal/dnscache":  {"dnsname dnswire table", http + sockets + files},
	"internal/tsig":      {"dnswire host", http + sockets + files},
	"internal/config":    {"dnsname engine host hostsfile publish tsig", messages + http},

	"internal/index":   {"dnsname dnswire publish table", http + sockets + files},
	"internal/forward": {"config dnscache dnsname dnswire host limit stats udpio", http},

	"internal/zone": {"dnscache dnsname dnswire forward index publish stats", http + sockets + files},

	"internal/transfer":    {"dnsname dnswire tsig zone", http},
	"internal/dnsserver":   {"dnscache dnsname dnswire forward limit stats udpio zone", http},
	"internal/web":         {"dnsname engine feed forward host limit publish stats transfer zone", messages},
	"internal/servicejson": {"dnsname publish", messages + http + sockets + files + "sync log/slog"},
	"internal/watch":       {"dnsname engine publish swarm", messages + http + sockets},
	"internal/dockerjson":  {"publish watch", messages + http + sockets + files},

	".": {"config dnscache dnsname dnsserver dnswire dockerjson engine feed forward heap host hostsfile index limit listener " +
		"publish servicejson spool stats swarm systemd transfer udpio watch web zone", ""},

	// No part of the program.
	"internal/dnstest":  {"dnsname dnswire listener stats", ""},
	"internal/zonetest": {"dnsname index publish servicejson", ""},
	"internal/house":    {"", ""},
	"internal/e2e":      {"", ""},
	"bench":             {"dnstest", ""},
}

// testsUse are packages that only the tests of a package import.
var testsUse = map[string]string{
	"internal/zone":      "zonetest",
	"internal/transfer":  "dnsname forward index zonetest",
	"internal/dnsserver": "listener publish zonetest",
}

func TestImports(t *testing.T) {
	for path, p := range ours(t) {
		r, ok := rooms[path]
		if !ok {
			t.Errorf("package %s is not in the map: add it to rooms, and to docs/internals.md", path)
			continue
		}
		allowed := strings.Fields(r.uses)
		for _, i := range p.Imports {
			name, inside := strings.CutPrefix(short(i), "internal/")
			if inside && !slices.Contains(allowed, name) {
				t.Errorf("%s imports %s, which it must not know", path, i)
			}
			if deniedBy(r.denied, i) {
				t.Errorf("%s imports %s, which it must not know", path, i)
			}
		}
		for _, i := range slices.Concat(p.TestImports, p.XTestImports) {
			name, inside := strings.CutPrefix(short(i), "internal/")
			if inside && !mayTest(path, name, slices.Concat(allowed, strings.Fields(testsUse[path]))) {
				t.Errorf("tests of %s import %s, which it must not know", path, i)
			}
		}
	}
}

// deniedBy reports whether path is one of the denied packages or below one.
// Below net lie packages of values and protocols, which are named one by one.
func deniedBy(denied, path string) bool {
	return slices.ContainsFunc(strings.Fields(denied), func(d string) bool {
		return path == d || d != "net" && strings.HasPrefix(path, d+"/")
	})
}

// mayTest reports whether tests of the package at path may import a package
// of internal/: itself, what the package may use, and the tests' helpers.
func mayTest(path, name string, allowed []string) bool {
	return name == "dnstest" || path == "internal/"+name || slices.Contains(allowed, name)
}

// The table has no package that is gone, and its arrows run downwards only.
func TestRooms(t *testing.T) {
	own := ours(t)
	for path, r := range rooms {
		if _, ok := own[path]; !ok {
			t.Errorf("the map has %s, but there is no such package", path)
		}
		for name := range strings.FieldsSeq(r.uses) {
			if _, ok := rooms["internal/"+name]; !ok {
				t.Errorf("the map lets %s use %s, which is not in it", path, name)
			}
		}
	}
	var up func(path string, above []string)
	up = func(path string, above []string) {
		if slices.Contains(above, path) {
			t.Fatalf("the map has a circle: %v", append(above, path))
		}
		for name := range strings.FieldsSeq(rooms[path].uses) {
			up("internal/"+name, append(above, path))
		}
	}
	for path := range rooms {
		up(path, nil)
	}
}

// top are the Go files that may lie on the top level.
var top = []string{"api.go", "dnsdock.go", "dnsdock_test.go", "dockerapi.go", "registry.go", "state.go"}

func TestTopLevel(t *testing.T) {
	var got []string
	for _, f := range sourceFiles(t) {
		if f.dir() == "." {
			got = append(got, f.path)
		}
	}
	slices.Sort(got)
	if extra := without(got, top); len(extra) > 0 {
		t.Errorf("the top level has %v", extra)
	}
	if missing := without(top, got); len(missing) > 0 {
		t.Errorf("missing on the top level: %v", missing)
	}
}

// without returns what of list is not in others.
func without(list, others []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(others, s) })
}

// No two files of package main use each other, directly or through others.
// All may be wired together in dnsdock.go, and so none may use that one.
func TestTopFiles(t *testing.T) {
	info, fset, pkg := check(t, ours(t)["."])
	uses := make(map[string]map[string]string) // file, file that it uses, name used
	for id, obj := range info.Uses {
		if obj.Pkg() != pkg {
			continue
		}
		from := filepath.Base(fset.Position(id.Pos()).Filename)
		to := filepath.Base(fset.Position(obj.Pos()).Filename)
		if from == to || from == "dnsdock.go" {
			continue
		}
		if uses[from] == nil {
			uses[from] = make(map[string]string)
		}
		uses[from][to] = obj.Name()
	}
	for _, from := range slices.Sorted(maps.Keys(uses)) {
		for _, to := range slices.Sorted(maps.Keys(uses[from])) {
			t.Logf("%s uses %s (%s)", from, to, uses[from][to])
		}
	}
	for _, from := range slices.Sorted(maps.Keys(uses)) {
		if path := circle(uses, []string{from}); path != nil {
			t.Errorf("a circle of files: %s", strings.Join(path, " -> "))
		}
		if name, ok := uses[from]["dnsdock.go"]; ok {
			t.Errorf("%s uses %s of dnsdock.go, which is for wiring", from, name)
		}
	}
	for to, name := range uses["dockerapi.go"] {
		t.Errorf("dockerapi.go uses %s of %s", name, to)
	}
}

// circle returns a way from the first file of path back to it, or nil.
func circle(uses map[string]map[string]string, path []string) []string {
	last := path[len(path)-1]
	for _, next := range slices.Sorted(maps.Keys(uses[last])) {
		if next == path[0] {
			return append(path, next)
		}
		if !slices.Contains(path, next) {
			if found := circle(uses, append(slices.Clone(path), next)); found != nil {
				return found
			}
		}
	}
	return nil
}
