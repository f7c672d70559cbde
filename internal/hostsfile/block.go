package hostsfile

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// Around the lines of a block stand these two lines, with the owner of the block between
// its quotes: several programs may keep a block each in one file.
const (
	beginFormat = "# Begin of the block of %q, which is written by it and removed when it ends."
	endFormat   = "# End of the block of %q."
	// addedLF is at the end of the first line if the line before the block lacked its end.
	addedLF = " The line before it had no end."
)

// parts are what a hosts file consists of.
type parts struct {
	before, block, after []byte // block is empty if there is none
}

// split finds the block of owner in a hosts file. Its error says that the marks
// do not fit together.
func split(data []byte, owner string) (p parts, err error) {
	begin, end := fmt.Sprintf(beginFormat, owner), fmt.Sprintf(endFormat, owner)
	p.before = data
	from, at := -1, 0
	for line := range bytes.Lines(data) {
		text := strings.TrimRight(string(line), "\r\n")
		isBegin := strings.TrimSuffix(text, addedLF) == begin
		switch {
		case isBegin && (from >= 0 || p.block != nil), text == end && from < 0:
			return p, fmt.Errorf("line %q is there without the other one: remove the block by hand", text)
		case isBegin:
			from = at
		case text == end:
			p.before, p.block, p.after = data[:from], data[from:at+len(line)], data[at+len(line):]
			from = -1
		}
		at += len(line)
	}
	if from >= 0 {
		return p, fmt.Errorf("line %q is there without the other one: remove the block by hand", begin)
	}
	return p, nil
}

// addedEnd reports whether the line before the block got its end only with the block.
func (p parts) addedEnd() bool {
	first, _, _ := bytes.Cut(p.block, []byte("\n"))
	return bytes.HasSuffix(bytes.TrimRight(first, "\r"), []byte(addedLF))
}

// without returns the file as it is without the block.
func (p parts) without() []byte {
	before := p.before
	if p.addedEnd() && len(p.after) == 0 {
		before = bytes.TrimSuffix(before, []byte("\n"))
	}
	return slices.Concat(before, p.after)
}

// with returns the file with lines in the block, in the place of the old one
// or at the end. Lines must be whole; without any there is no block.
func (p parts) with(owner, lines string) []byte {
	if lines == "" {
		return p.without()
	}
	begin := fmt.Sprintf(beginFormat, owner)
	lacksEnd := p.block == nil && len(p.before) > 0 && p.before[len(p.before)-1] != '\n'
	if lacksEnd || p.addedEnd() {
		begin += addedLF
	}
	if lacksEnd {
		begin = "\n" + begin
	}
	block := begin + "\n" + lines + fmt.Sprintf(endFormat, owner) + "\n"
	return slices.Concat(p.before, []byte(block), p.after)
}

// namesIn returns the names that lines of a hosts file give an address, in lower case.
func namesIn(data []byte) map[string]bool {
	names := make(map[string]bool)
	for line := range bytes.Lines(data) {
		line, _, _ = bytes.Cut(line, []byte("#"))
		fields := strings.Fields(strings.ToLower(string(line)))
		for _, name := range fields[min(1, len(fields)):] {
			names[strings.TrimSuffix(name, ".")] = true
		}
	}
	return names
}
