package config

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the list of flags into the manual")

// manualFile is where the list of flags is.
const manualFile = "../../README.md"

// Between these lines of the manual stands what flagList returns.
const (
	listStart = "<!-- Written by: go test ./internal/config -run TestFlagList -update -->\n"
	listEnd   = "<!-- End of the flags. -->\n"
)

// flagList returns the flags as Markdown, of at most 120 columns.
func flagList() string {
	var b strings.Builder
	for _, o := range options {
		if o.section != "" {
			b.WriteString("\n### " + o.section + "\n\n")
		}
		text := "- **`-" + o.name
		if !o.isBool() {
			text += "=" + o.argument
		}
		text += "`**"
		if o.many {
			text += " +"
		}
		text += " " + o.help + "."
		if d := o.defaultText(); d != "" {
			text += " Default: " + d + "."
		}
		b.WriteString(wrap(text, "  ", 118))
	}
	return b.String() + "\n"
}

// wrap breaks text into lines of at most width columns. All but the first begin with indent.
func wrap(text, indent string, width int) string {
	var b strings.Builder
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case len(line)+1+len(word) > width:
			b.WriteString(line + "\n")
			line = indent + word
		default:
			line += " " + word
		}
	}
	return b.String() + line + "\n"
}

// The manual lists the flags as the program has them.
func TestFlagList(t *testing.T) {
	b, err := os.ReadFile(manualFile)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(b), listStart)
	got, after, ok2 := strings.Cut(rest, listEnd)
	if !ok || !ok2 {
		t.Fatalf("%s lacks %q or %q", manualFile, listStart, listEnd)
	}
	if got == flagList() {
		return
	}
	if !*update {
		t.Fatalf("the flags in %s are not those of the program: run this test with -update", manualFile)
	}
	if err := os.WriteFile(manualFile, []byte(before+listStart+flagList()+listEnd+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// find returns what the first group of pattern matches in text, sorted, each once.
func find(text, pattern string) (all []string) {
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		all = append(all, m[1])
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// sources returns the program's code without its tests.
func sources(t *testing.T) string {
	t.Helper()
	top, _ := filepath.Glob("../../*.go") // no error: the pattern is valid
	below, _ := filepath.Glob("../../internal/*/*.go")
	code := ""
	for _, f := range append(top, below...) {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		code += string(b)
	}
	return code
}

// TestManual holds the manual against the code: each flag, path, metric,
// label and variable is in both.
func TestManual(t *testing.T) {
	b, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	manual, code := string(b), sources(t)
	var flags, variables []string
	for _, o := range options {
		flags = append(flags, o.name)
		if o.env != "" {
			variables = append(variables, o.env)
		}
		if !strings.Contains(Usage(), "  -"+o.name) {
			t.Errorf("-%s is not in the usage", o.name)
		}
	}
	variables = append(variables, find(code, `(?:getenv\(|[{ (]"\$)"?((?:DNSDOCK|SERVICE|DOCKER|NOTIFY)_[A-Z_]+)"`)...)
	check := func(what string, least int, code, manual []string) {
		t.Helper()
		if len(code) < least {
			t.Errorf("%s: %d in the code, %q; want at least %d", what, len(code), code, least)
		}
		for _, s := range code {
			if !slices.Contains(manual, s) {
				t.Errorf("%s: %s is in the code and not in the manual", what, s)
			}
		}
		for _, s := range manual {
			if !slices.Contains(code, s) {
				t.Errorf("%s: %s is in the manual and not in the code", what, s)
			}
		}
	}
	paths := find(strings.ReplaceAll(code, "{$}", ""), `"(?:GET|PUT|PATCH|DELETE) (/[a-z/{}]*)"`)
	check("flags", 20, flags, find(manual, "(?m)^- \\*\\*`-([a-z-]+)[`=]"))
	check("paths", 10, paths, find(manual, "(?m)^\\| `(?:GET|PUT|PATCH|DELETE) (/[a-z/{}]*)"))
	check("metrics", 15, find(code, `"((?:dnsdock|go|process)_[a-z_]+)", "(?:counter|gauge|histogram)"`),
		find(manual, "(?m)^\\| `((?:dnsdock|go|process)_[a-z_]+)"))
	check("labels", 10, find(code, `"(com\.dnsdock\.[a-z_]+)"`), find(manual, "`(com\\.dnsdock\\.[a-z_]+)`"))
	check("variables", 15, variables, find(manual, "[`$]((?:DNSDOCK|SERVICE|DOCKER|NOTIFY)_[A-Z_]+)`"))
	for _, s := range find(manual, "`-([a-z][a-z-]{2,})[`=]") {
		if !slices.Contains(flags, s) {
			t.Errorf("the manual mentions -%s, which is no flag", s)
		}
	}
}
