package publish

import (
	"fmt"
	"slices"
)

// Notes are what people want to know of a container beside its records. They are never written again.
type Notes struct {
	Project  string    // of Compose; empty: none
	Settings []Setting // variables and labels that dnsdock read
	Problems []string  // values that can't be used, and what to write instead
}

// A Setting is a variable or label of a container, whose value is cut to 100 bytes.
type Setting struct{ Source, Value string }

func (n *Notes) equal(o *Notes) bool {
	if n == nil || o == nil {
		return n == o
	}
	return n.Project == o.Project && slices.Equal(n.Settings, o.Settings) && slices.Equal(n.Problems, o.Problems)
}

// Project returns the Compose project or the Swarm stack that the container is of, and "" if it is of none.
func (o Origin) Project() string {
	switch {
	case o.Notes != nil && o.Notes.Project != "":
		return o.Notes.Project
	case o.Task != nil:
		return o.Task.Stack
	}
	return ""
}

// notesOf returns what m read, and nil if that is nothing.
func notesOf(m *labelReader, ports []Port) *Notes {
	n := &Notes{Project: shared(m.Labels[composeProject])}
	sources := slices.Concat(nameSources, imageSources, regionSources, aliasSources, addrSources, prefixSources,
		networkSources, cnameSources, txtSources, ttlSources, healthSources, []string{oneOffLabel})
	for _, p := range ports {
		source := fmt.Sprintf("SERVICE_%d_NAME", p.Number)
		sources = append(sources, "$"+source, source)
	}
	for _, source := range sources {
		if v, ok := m.value(source); ok {
			n.Settings = append(n.Settings, Setting{source, shortened(v)})
		}
	}
	for _, p := range m.problems {
		n.Problems = append(n.Problems, fmt.Sprintf("%s=%q: %v", p.Source, p.Value, p.Err))
	}
	if n.Project == "" && len(n.Settings)+len(n.Problems) == 0 {
		return nil
	}
	return n
}

// shortened returns a value as it is shown.
func shortened(value string) string {
	if len(value) > maxShown {
		value = value[:maxShown] + "..."
	}
	return value
}
