package house

import (
	"bytes"
	"cmp"
	"fmt"
	"go/ast"
	"go/token"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Limits on what one reader has to take in at once.
const (
	maxFile     = 500 // lines
	maxFunction = 60  // lines
	maxColumns  = 120 // of a line
	tabWidth    = 4   // columns of a tab, as most editors show it
	maxMethods  = 25  // of a type
	maxFields   = 15  // of a struct
)

// exceptions are allowed to be over a limit, with the reason why.
var exceptions = map[string]string{
	"dnsdock_test.go": "package main has one test file",
}

// A finding is something over a limit.
type finding struct {
	where string // file, or package and name
	what  string
}

func TestLimits(t *testing.T) {
	var all []finding
	parsed := sourceFiles(t)
	for _, f := range parsed {
		all = append(all, f.lengths()...)
		all = append(all, f.functions()...)
	}
	all = append(all, typeSizes(parsed)...)
	seen := make(map[string]bool)
	for _, f := range all {
		seen[f.where] = true
		if reason, ok := exceptions[f.where]; ok {
			t.Logf("%s: %s, but %s", f.where, f.what, reason)
			continue
		}
		t.Errorf("%s: %s", f.where, f.what)
	}
	for where := range exceptions {
		if !seen[where] {
			t.Errorf("%s is within the limits again: take it out of exceptions", where)
		}
	}
}

// lengths finds a file that is too long, and lines that are too wide.
func (f *sourceFile) lengths() (found []finding) {
	over := func(where string, n int, limit int, unit string) {
		if n > limit {
			found = append(found, finding{where, fmt.Sprintf("%d %s; at most %d", n, unit, limit)})
		}
	}
	lines := bytes.Split(bytes.TrimSuffix(f.text, []byte("\n")), []byte("\n"))
	over(f.path, len(lines), maxFile, "lines")
	tables := f.tables()
	for i, line := range lines {
		if !tables[i+1] {
			over(fmt.Sprintf("%s:%d", f.path, i+1), columns(line), maxColumns, "columns")
		}
	}
	return found
}

func columns(line []byte) (n int) {
	for _, r := range string(line) {
		if r == '\t' {
			n += tabWidth
		} else {
			n++
		}
	}
	return n
}

// tables returns the lines of a test file that are within a list of cases.
func (f *sourceFile) tables() map[int]bool {
	lines := make(map[int]bool)
	if !f.isTest() {
		return lines
	}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		lit, ok := n.(*ast.CompositeLit)
		if !ok {
			return true
		}
		switch lit.Type.(type) {
		case *ast.ArrayType, *ast.MapType:
			for i := f.line(lit.Lbrace); i <= f.line(lit.Rbrace); i++ {
				lines[i] = true
			}
		}
		return true
	})
	return lines
}

// functions finds those that are too long. Those of tests are counted without
// their tables of cases.
func (f *sourceFile) functions() (found []finding) {
	tables := f.tables()
	for _, d := range f.ast.Decls {
		decl, ok := d.(*ast.FuncDecl)
		if !ok || decl.Body == nil {
			continue
		}
		n := 0
		for i := f.line(decl.Pos()); i <= f.line(decl.End()); i++ {
			if !tables[i] {
				n++
			}
		}
		if n > maxFunction {
			where := f.dir() + " " + functionName(decl)
			found = append(found, finding{where, fmt.Sprintf("%d lines; at most %d", n, maxFunction)})
		}
	}
	return found
}

func functionName(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return d.Name.Name
	}
	return receiver(d) + "." + d.Name.Name
}

// receiver is the name of a method's type.
func receiver(d *ast.FuncDecl) string {
	x := d.Recv.List[0].Type
	for {
		switch y := x.(type) {
		case *ast.StarExpr:
			x = y.X
		case *ast.IndexExpr:
			x = y.X
		case *ast.IndexListExpr:
			x = y.X
		case *ast.Ident:
			return y.Name
		default:
			return "?"
		}
	}
}

// typeSizes finds types of too many methods or fields.
func typeSizes(parsed []*sourceFile) (found []finding) {
	methods := make(map[string]map[string]bool) // by type; one that each platform has counts once
	for _, f := range parsed {
		for _, d := range f.ast.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil {
					continue
				}
				key := f.dir() + " " + receiver(d)
				if methods[key] == nil {
					methods[key] = make(map[string]bool)
				}
				methods[key][d.Name.Name] = true
			case *ast.GenDecl:
				found = append(found, f.fields(d)...)
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(methods)) {
		if n := len(methods[key]); n > maxMethods {
			found = append(found, finding{key, fmt.Sprintf("%d methods; at most %d", n, maxMethods)})
		}
	}
	return found
}

// fields finds structs of too many fields, and interfaces of too many methods.
func (f *sourceFile) fields(d *ast.GenDecl) (found []finding) {
	if d.Tok != token.TYPE {
		return nil
	}
	for _, s := range d.Specs {
		spec := s.(*ast.TypeSpec)
		list, limit, what := (*ast.FieldList)(nil), maxFields, "fields"
		switch x := spec.Type.(type) {
		case *ast.StructType:
			list = x.Fields
		case *ast.InterfaceType:
			list, limit, what = x.Methods, maxMethods, "methods"
		default:
			continue
		}
		n := 0
		for _, field := range list.List {
			n += max(1, len(field.Names))
		}
		if n > limit {
			where := f.dir() + " " + spec.Name.Name
			found = append(found, finding{where, fmt.Sprintf("%d %s; at most %d", n, what, limit)})
		}
	}
	return found
}

var sentence = regexp.MustCompile(`^Package [a-z0-9]+ [^.]*(?:\.[^ .][^.]*)*\.\n?$`)

// Each package of internal/ is told in one sentence, in its doc.go.
func TestDoc(t *testing.T) {
	docs := make(map[string][]string) // files with a package comment, by directory
	own := ours(t)
	for _, f := range sourceFiles(t) {
		if f.ast.Doc == nil || !strings.HasPrefix(f.dir(), "internal/") {
			continue
		}
		docs[f.dir()] = append(docs[f.dir()], f.path)
		if text := strings.ReplaceAll(f.ast.Doc.Text(), "\n", " "); !sentence.MatchString(strings.TrimSpace(text)) {
			t.Errorf("%s: want one sentence: %q", f.path, text)
		}
	}
	for path := range own {
		if !strings.HasPrefix(path, "internal/") {
			continue
		}
		if got := docs[path]; len(got) != 1 || got[0] != path+"/doc.go" {
			t.Errorf("%s: package comments in %q; want one, in doc.go", path, got)
		}
	}
}

// TestLines shows how large the packages are.
func TestLines(t *testing.T) {
	type size struct{ program, tests int }
	sizes := make(map[string]*size)
	total := size{}
	for _, f := range sourceFiles(t) {
		if sizes[f.dir()] == nil {
			sizes[f.dir()] = new(size)
		}
		n := bytes.Count(f.text, []byte("\n"))
		switch aside := slices.Contains([]string{"bench", "internal/e2e", "internal/house", "internal/dnstest", "internal/zonetest"}, f.dir()); {
		case f.isTest() || aside:
			sizes[f.dir()].tests += n
			total.tests += n
		default:
			sizes[f.dir()].program += n
			total.program += n
		}
	}
	t.Logf("%-20s %7s %7s", "package", "program", "tests")
	for _, dir := range slices.SortedFunc(maps.Keys(sizes), func(a, b string) int {
		return cmp.Or(-cmp.Compare(sizes[a].program, sizes[b].program), cmp.Compare(a, b))
	}) {
		t.Logf("%-20s %7d %7d", dir, sizes[dir].program, sizes[dir].tests)
	}
	t.Logf("%-20s %7d %7d", "all", total.program, total.tests)
}
