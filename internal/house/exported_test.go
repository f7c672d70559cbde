package house

import (
	"bytes"
	"go/types"
	"maps"
	"slices"
	"strings"
	"testing"
)

// What a package exports, another one uses, if only as the type of a result,
// or by an interface of its own.
func TestExported(t *testing.T) {
	exported := make(map[string]types.Object) // by key
	used := make(map[string]bool)
	for path, p := range ours(t) {
		forTests := path == "internal/dnstest" || path == "internal/zonetest"
		info, _, pkg := check(t, p)
		for _, obj := range info.Defs {
			if obj != nil && obj.Exported() && strings.HasPrefix(path, "internal/") && !forTests && isVisible(obj) {
				exported[objectKey(obj)] = obj
			}
		}
		for _, obj := range info.Uses {
			if obj.Pkg() != nil && obj.Pkg() != pkg {
				used[objectKey(obj)] = true
			}
		}
		noteInterfaces(info, used)
	}
	for _, obj := range exported {
		for _, name := range typesOf(obj) {
			used[name] = true
		}
	}
	tests := sourceFiles(t)
	for _, key := range slices.Sorted(maps.Keys(exported)) {
		_, method, _ := strings.Cut(key[strings.LastIndex(key, "/")+1:], ".")
		_, method, _ = strings.Cut(method, ".")
		if !used[key] && !used["method "+method] && !usedByTests(tests, exported[key]) {
			t.Errorf("%s is exported, but no other package uses it", short(key))
		}
	}
}

// usedByTests reports whether a test of another package names obj, or obj is a
// constant of a type that has a name, like those beside it.
func usedByTests(files []*sourceFile, obj types.Object) bool {
	if c, ok := obj.(*types.Const); ok && typeName(c.Type()) != "" {
		return true
	}
	name := obj.Pkg().Name() + "." + obj.Name()
	return slices.ContainsFunc(files, func(f *sourceFile) bool {
		return f.isTest() && f.dir() != short(obj.Pkg().Path()) && bytes.Contains(f.text, []byte(name))
	})
}

// isVisible reports whether other packages can use obj by its name. It leaves
// out fields, as encoding/json and literals use them too, and methods that the
// standard library or miekg/dns calls.
func isVisible(obj types.Object) bool {
	if f, ok := obj.(*types.Func); ok && f.Signature().Recv() != nil {
		recv := typeName(f.Signature().Recv().Type())
		return recv != "" && obj.Pkg().Scope().Lookup(recv).Exported() && !slices.Contains(wellKnown, obj.Name())
	}
	return obj.Parent() == obj.Pkg().Scope()
}

// noteInterfaces marks the methods of a package's interfaces as used.
func noteInterfaces(info *types.Info, used map[string]bool) {
	for _, obj := range info.Defs {
		f, ok := obj.(*types.Func)
		if ok && f.Signature().Recv() != nil && types.IsInterface(f.Signature().Recv().Type()) {
			used["method "+f.Name()] = true
		}
	}
}

// typesOf returns the keys of those types of its own package that obj makes
// known: parameters, results, fields and elements.
func typesOf(obj types.Object) (keys []string) {
	seen := make(map[types.Type]bool)
	var visit func(t types.Type)
	visit = func(t types.Type) {
		if seen[t] {
			return
		}
		seen[t] = true
		switch t := t.(type) {
		case *types.Named:
			if t.Obj().Pkg() == obj.Pkg() && t.Obj() != obj {
				keys = append(keys, objectKey(t.Obj()))
				return
			}
			if t.Obj() == obj {
				visit(t.Underlying())
			}
		case interface{ Elem() types.Type }: // pointers, slices, arrays, maps, channels
			visit(t.Elem())
		case *types.Signature:
			for v := range t.Params().Variables() {
				visit(v.Type())
			}
			for v := range t.Results().Variables() {
				visit(v.Type())
			}
		case *types.Struct:
			for f := range t.Fields() {
				if f.Exported() {
					visit(f.Type())
				}
			}
		}
	}
	visit(obj.Type())
	return keys
}

// objectKey names an object alike in its package and in those that import it.
func objectKey(obj types.Object) string {
	if f, ok := obj.(*types.Func); ok && f.Signature().Recv() != nil {
		return obj.Pkg().Path() + "." + typeName(f.Signature().Recv().Type()) + "." + obj.Name()
	}
	return obj.Pkg().Path() + "." + obj.Name()
}

// typeName returns the name of a method's type, or "" for one without a name.
func typeName(t types.Type) string {
	if p, ok := t.(*types.Pointer); ok {
		t = p.Elem()
	}
	if n, ok := t.(*types.Named); ok {
		return n.Obj().Name()
	}
	return ""
}

// wellKnown are methods that the standard library and miekg/dns call.
var wellKnown = strings.Fields("Accept Addr Close Error Enabled Handle LocalAddr MarshalJSON MarshalText Network " +
	"Read ReadFrom ServeDNS ServeHTTP Set SetDeadline SetReadDeadline SetWriteDeadline String Unwrap " +
	"UnmarshalJSON UnmarshalText WithAttrs WithGroup Write WriteTo")
