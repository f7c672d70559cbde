package house

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

const (
	root   = "../.." // of the module, seen from this package
	module = "github.com/rayje/dnsdock"
)

// A listed package is what go list says of one.
type listed struct {
	Dir          string
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
	GoFiles      []string
	Export       string // file of export data
	Standard     bool
	Module       *struct{ Main bool }
}

// short is the package's path below the module: "internal/zone", or "." for
// package main on top.
func short(path string) string {
	if path == module {
		return "."
	}
	return strings.TrimPrefix(path, module+"/")
}

// packages returns all packages that those of this module need, by path.
var packages = sync.OnceValues(func() (map[string]*listed, error) {
	cmd := exec.Command("go", "list", "-e", "-export", "-deps", "-json", "./...")
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w: %s", err, &stderr)
	}
	all := make(map[string]*listed)
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		p := new(listed)
		if err := d.Decode(p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		all[p.ImportPath] = p
	}
})

// ours returns the packages of this module, by short path.
func ours(t *testing.T) map[string]*listed {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("program go is not installed")
	}
	all, err := packages()
	if err != nil {
		t.Fatal(err)
	}
	own := make(map[string]*listed)
	for path, p := range all {
		if p.Module != nil && p.Module.Main {
			own[short(path)] = p
		}
	}
	return own
}

// A sourceFile is a parsed Go file of this module.
type sourceFile struct {
	path string // below the root
	text []byte
	ast  *ast.File
	fset *token.FileSet
}

func (f *sourceFile) isTest() bool { return strings.HasSuffix(f.path, "_test.go") }

func (f *sourceFile) dir() string { return filepath.ToSlash(filepath.Dir(f.path)) }

func (f *sourceFile) line(p token.Pos) int { return f.fset.Position(p).Line }

// sourceFiles parses all Go files of this module, for any platform.
func sourceFiles(t *testing.T) (files []*sourceFile) {
	t.Helper()
	fset := token.NewFileSet()
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		hidden := strings.HasPrefix(d.Name(), ".") && path != root
		if d.IsDir() && (hidden || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if hidden || filepath.Ext(path) != ".go" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		tree, err := parser.ParseFile(fset, path, text, parser.ParseComments)
		if err != nil {
			return err
		}
		below, err := filepath.Rel(root, path)
		files = append(files, &sourceFile{filepath.ToSlash(below), text, tree, fset})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// check type-checks the files of a package without its tests, as they are
// built on this platform.
func check(t *testing.T, p *listed) (*types.Info, *token.FileSet, *types.Package) {
	t.Helper()
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range p.GoFiles {
		f, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	all, err := packages()
	if err != nil {
		t.Fatal(err)
	}
	info := &types.Info{Defs: make(map[*ast.Ident]types.Object), Uses: make(map[*ast.Ident]types.Object)}
	lookup := func(path string) (io.ReadCloser, error) {
		if q := all[path]; q != nil && q.Export != "" {
			return os.Open(q.Export)
		}
		return nil, fmt.Errorf("no export data of %s", path)
	}
	sizes := types.SizesFor("gc", runtime.GOARCH)
	cfg := &types.Config{Importer: importer.ForCompiler(fset, "gc", lookup), Sizes: sizes}
	pkg, err := cfg.Check(p.ImportPath, fset, files, info)
	if err != nil {
		t.Fatal(err)
	}
	return info, fset, pkg
}
