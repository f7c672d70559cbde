package config

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestManual holds README.md against the code: each flag, path, metric,
// label and variable is in both.
func TestManual(t *testing.T) {
	b, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	manual := string(b)
	code := ""
	files, _ := filepath.Glob("../../*.go") // no error: the pattern is one
	more, _ := filepath.Glob("../../internal/*/*.go")
	files = append(files, more...)
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && !strings.HasSuffix(f, "_test.go") {
			code += string(b)
		}
	}
	find := func(text, pattern string) (all []string) {
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
			all = append(all, m[1])
		}
		slices.Sort(all)
		return slices.Compact(all)
	}
	var flags []string
	for _, o := range options {
		flags = append(flags, o.name)
	}
	paths := find(code, `"(/[a-z/{}$]*)": +\{"[A-Z]`)
	metrics := find(code, `"((?:dnsdock|go|process)_[a-z_]+)", "(?:counter|gauge|histogram)"`)
	labels := find(code, `"(com\.dnsdock\.[a-z_]+)"`)
	variables := find(code, `(?:getenv\(|[{ (]"\$)"?((?:DNSDOCK|SERVICE|DOCKER|NOTIFY)_[A-Z_]+)"`)
	for _, o := range options {
		if o.env != "" {
			variables = append(variables, o.env)
		}
	}
	for what, list := range map[string]struct {
		code   []string
		manual []string
		least  int
	}{
		"flags":     {flags, find(manual, `(?m)^\| `+"`"+`-([a-z-]+)[`+"`"+`=]`), 20},
		"paths":     {paths, find(manual, `(?m)^\| `+"`"+`(?:GET|PUT|PATCH|DELETE) (/[a-z/{}$]*)`), 10},
		"metrics":   {metrics, find(manual, `(?m)^\| `+"`"+`((?:dnsdock|go|process)_[a-z_]+)`), 15},
		"labels":    {labels, find(manual, "`(com\\.dnsdock\\.[a-z_]+)`"), 10},
		"variables": {variables, find(manual, "[`$]((?:DNSDOCK|SERVICE|DOCKER|NOTIFY)_[A-Z_]+)`"), 15},
	} {
		for i, p := range list.code {
			list.code[i] = strings.ReplaceAll(p, "{$}", "")
		}
		if len(list.code) < list.least {
			t.Errorf("%s: %d in the code, %q; want more", what, len(list.code), list.code)
		}
		for _, s := range list.code {
			if !slices.Contains(list.manual, s) {
				t.Errorf("%s: %s is in the code and not in README.md", what, s)
			}
			if what == "flags" && !strings.Contains(Usage(), "  -"+s) {
				t.Errorf("%s: -%s is not in the usage", what, s)
			}
		}
		for _, s := range list.manual {
			if !slices.Contains(list.code, s) {
				t.Errorf("%s: %s is in README.md and not in the code", what, s)
			}
		}
	}
	for _, s := range find(manual, "`-([a-z][a-z-]{2,})[`=]") {
		if !slices.Contains(flags, s) {
			t.Errorf("README.md speaks of -%s, which is no flag", s)
		}
	}
}
