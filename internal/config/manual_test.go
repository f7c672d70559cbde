package config

import (
	"cmp"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

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

// pages returns README.md and the pages of the manual, by path from the top.
func pages(t *testing.T) map[string]string {
	t.Helper()
	docs, _ := filepath.Glob("../../docs/*.md") // no error: the pattern is valid
	text := make(map[string]string)
	for _, f := range append(docs, "../../README.md") {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		text[strings.TrimPrefix(f, "../../")] = string(b)
	}
	return text
}

// TestManual holds the manual against the code: each flag, path, metric,
// label and variable is in both.
func TestManual(t *testing.T) {
	code, manual := sources(t), ""
	for _, page := range pages(t) {
		manual += page
	}
	var flags, variables []string
	for _, o := range new(draft).options() {
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

// A page answers one question and can be read in a terminal.
func TestPages(t *testing.T) {
	const maxColumns = 120
	for name, page := range pages(t) {
		maxLines := 200
		if name == "README.md" {
			maxLines = 120
		}
		if n := strings.Count(page, "\n"); n > maxLines {
			t.Errorf("%s: %d lines; want at most %d", name, n, maxLines)
		}
		first, _, _ := strings.Cut(page, "\n")
		if name != "README.md" && !(strings.HasPrefix(first, "# ") && strings.HasSuffix(first, "?")) {
			t.Errorf("%s: the title is %q; want a question", name, first)
		}
		for line := range strings.Lines(page) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > maxColumns {
				t.Errorf("%s: %d columns; want at most %d: %s", name, n, maxColumns, line)
			}
		}
	}
}

// README.md links to each page, so that a reader finds what he looks for with one click.
func TestPagesAreLinked(t *testing.T) {
	all := pages(t)
	linked := find(all["README.md"], `\]\(([^):#]+)`)
	for name := range all {
		if name != "README.md" && !slices.Contains(linked, name) {
			t.Errorf("README.md does not link to %s", name)
		}
	}
}

// Links between pages lead to a file, and to a heading in it.
func TestLinks(t *testing.T) {
	all := pages(t)
	anchors := func(page string) (list []string) {
		for _, title := range find(page, `(?m)^#+ (.*)$`) {
			title = regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(title), "")
			list = append(list, strings.ReplaceAll(title, " ", "-"))
		}
		return list
	}
	for name, page := range all {
		for _, link := range find(page, `\]\(([^):]+)\)`) {
			file, anchor, _ := strings.Cut(link, "#")
			target := path.Join(path.Dir(name), file)
			if file == "" {
				target = name
			}
			if _, err := os.Stat("../../" + target); err != nil {
				t.Errorf("%s: link %s: %v", name, link, err)
			}
			if anchor != "" && !slices.Contains(anchors(all[target]), anchor) {
				t.Errorf("%s: link %s: no such heading; there are %q", name, link, anchors(all[target]))
			}
		}
	}
}

// The commands in the manual that run dnsdock have flags that it takes.
func TestManualCommands(t *testing.T) {
	count := 0
	for name, page := range pages(t) {
		page = strings.ReplaceAll(page, "\\\n", " ")
		for _, command := range find(page, `(?m)^    (?:\$ )?((?:[A-Z_]+=\S+ )*`+
			`(?:dnsdock|go run \.|docker run .* dnsdock(?:-tls)?)(?: .*)?)$`) {
			command, _, _ = strings.Cut(command, " #")
			_, flags, _ := strings.Cut(command+" ", "dnsdock ")
			if _, after, ok := strings.Cut(command, "go run . "); ok {
				flags = after
			}
			if i := strings.LastIndex(flags, " dnsdock "); i >= 0 { // docker run --name dnsdock ... dnsdock -ttl=5
				flags = flags[i+len(" dnsdock "):]
			} else if strings.HasPrefix(command, "docker run") {
				flags = ""
			}
			d := &draft{given: make(map[string]bool)}
			err := newFlagSet(d).Parse(strings.Fields(flags))
			if err == nil && !strings.Contains(flags, "-help") {
				err = cmp.Or(d.setDefaults(environ(nil)), d.finish())
			}
			if count++; err != nil && !strings.Contains(flags, "-ttl=soon") && !strings.Contains(flags, "-help") {
				t.Errorf("%s: %s: %v", name, command, err)
			}
		}
	}
	if count < 20 {
		t.Errorf("found %d commands; want at least 20", count)
	}
}
