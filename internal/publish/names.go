package publish

import (
	"strings"

	"github.com/rayje/dnsdock/internal/dnsname"
)

// choices are the values that a part of the name may have, the best first.
type choices []choice

// A choice is a value that can be used by itself.
type choice struct{ source, value string }

// text returns the value of the best choice. It is empty if there is none.
func (c choices) text() string {
	if len(c) == 0 {
		return ""
	}
	return c[0].value
}

// tooLong removes the longest of the best choices, because together they make
// too long a name.
func (m *labelReader) tooLong(err error, parts ...*choices) {
	var longest *choices
	for _, p := range parts {
		if len(*p) > 0 && (longest == nil || len(p.text()) > len(longest.text())) {
			longest = p
		}
	}
	m.problem((*longest)[0].source, longest.text(), err)
	*longest = (*longest)[1:]
}

// choose returns the values of sources that can be used, and the container's
// own value after them.
func (m *labelReader) choose(ownSource, own string, sources []string) (list choices) {
	add := func(source, value string) {
		_, err := dnsname.LabelsFromText(value)
		switch {
		case err == nil:
			list = append(list, choice{source, value})
		case len(list) == 0: // else a better one is used
			m.problem(source, value, err)
		}
	}
	for _, source := range m.claims(sources) {
		v, ok := m.value(source)
		if !ok || v == "" && !isTags(source) {
			continue
		}
		if isTags(source) {
			v = firstTag(v)
		}
		add(source, v)
	}
	add(ownSource, own)
	return list
}

// isTags reports whether a source holds tags: the first one counts, and an
// empty one means that there is no container part.
func isTags(source string) bool { return strings.HasSuffix(strings.ToLower(source), "tags") }

func firstTag(tags string) string {
	if end := strings.IndexAny(tags, ", \t\r\n"); end >= 0 {
		return tags[:end]
	}
	return tags
}

// names finds the container part: an override, else the container's name.
func (m *labelReader) names() choices { return m.choose("name", m.Name, nameSources) }

// images finds the image part: an override, else the image's name.
func (m *labelReader) images() choices {
	return m.choose("image", imageName(m.Image, m.ImageID), imageSources)
}

// regions finds what is appended to the image part.
func (m *labelReader) regions() choices {
	list := m.choose("", "", regionSources)
	return list[:len(list)-1] // a container has no region of its own
}

// imageName returns the last path element of an image reference, without tag
// and digest. It is empty if the reference is an image ID.
func imageName(ref, id string) string {
	ref, _, _ = strings.Cut(ref, "@")
	if strings.HasPrefix(ref, "sha256:") {
		return ""
	}
	if IsHex(ref, 4) && strings.HasPrefix(strings.TrimPrefix(id, "sha256:"), ref) {
		return ""
	}
	ref = ref[strings.LastIndexByte(ref, '/')+1:]
	ref, _, _ = strings.Cut(ref, ":")
	return ref
}
