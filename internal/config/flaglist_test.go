package config

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the list of flags into the manual")

// manualFile is the page that lists the flags.
const manualFile = "../../docs/flags.md"

// Between these lines of the manual stands what flagList returns.
const (
	listStart = "<!-- Written by: go test ./internal/config -run TestFlagList -update -->\n"
	listEnd   = "<!-- End of the flags. -->\n"
)

// flagList returns the flags as Markdown, of at most 120 columns.
func flagList() string {
	var b strings.Builder
	for _, s := range new(draft).sections() {
		b.WriteString("\n## " + s.title + "\n\n")
		writeFlags(&b, s.options)
	}
	return b.String() + "\n"
}

func writeFlags(b *strings.Builder, options []option) {
	for _, o := range options {
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
