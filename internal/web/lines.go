package web

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rayje/dnsdock/internal/publish"
)

const (
	maxLines   = 500 // lines that Lines keeps: 300 KB at most
	linesShown = 20  // of them, about one service
	maxLine    = 500 // bytes of a line's text
)

// Lines keeps the newest lines of the log that are about a container or a service. The zero value is empty.
type Lines struct {
	mu   sync.Mutex // guards ring and next
	ring [maxLines]Line
	next int // index in ring of the next line
}

// A Line is a line of the log.
type Line struct {
	Time  time.Time  `json:"time"`
	Level slog.Level `json:"level"`
	Text  string     `json:"text"` // the message, and what it is about as key=value

	id, container, engine string // of the attributes; empty: not there
}

// Keep returns a handler that writes to next and keeps lines at Info and above, also those that next does not write.
func (l *Lines) Keep(next slog.Handler) slog.Handler { return &keeper{Handler: next, lines: l} }

// About returns the newest lines about a service, the oldest first.
func (l *Lines) About(s *publish.Service) (list []Line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := 0; i < maxLines && len(list) < linesShown; i++ {
		if line := &l.ring[(l.next-1-i+2*maxLines)%maxLines]; line.isAbout(s) {
			list = append(list, *line)
		}
	}
	slices.Reverse(list)
	return list
}

func (l *Line) isAbout(s *publish.Service) bool {
	if l.id != "" {
		return l.id == s.ID
	}
	return l.container != "" && l.container == s.Origin.Container && (l.engine == "" || l.engine == s.Origin.Engine)
}

// A keeper is the handler that Lines.Keep returns.
type keeper struct {
	slog.Handler
	lines *Lines
	attrs []slog.Attr // of the logger
}

var _ slog.Handler = (*keeper)(nil)

// Enabled implements slog.Handler.
func (k *keeper) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo || k.Handler.Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (k *keeper) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelInfo {
		k.keep(r)
	}
	if !k.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return k.Handler.Handle(ctx, r)
}

func (k *keeper) keep(r slog.Record) {
	line, text := Line{Time: r.Time.UTC(), Level: r.Level}, strings.Builder{}
	text.WriteString(r.Message)
	read := func(a slog.Attr) bool {
		value := a.Value.Resolve().String()
		switch a.Key {
		case "id":
			line.id = value
		case "container":
			line.container = value
		case "engine":
			line.engine = value
		default:
			if text.Len() < maxLine {
				text.WriteString(" " + a.Key + "=" + value)
			}
		}
		return true
	}
	for _, a := range k.attrs {
		read(a)
	}
	r.Attrs(read)
	if line.id == "" && line.container == "" {
		return
	}
	line.Text = strings.Clone(text.String()[:min(text.Len(), maxLine)])
	k.lines.mu.Lock()
	defer k.lines.mu.Unlock()
	k.lines.ring[k.lines.next] = line
	k.lines.next = (k.lines.next + 1) % maxLines
}

// WithAttrs implements slog.Handler.
func (k *keeper) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &keeper{k.Handler.WithAttrs(attrs), k.lines, append(k.attrs[:len(k.attrs):len(k.attrs)], attrs...)}
}

// WithGroup implements slog.Handler.
func (k *keeper) WithGroup(name string) slog.Handler {
	return &keeper{k.Handler.WithGroup(name), k.lines, k.attrs}
}
