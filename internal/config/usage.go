package config

import "strings"

const usageHead = `Usage: dnsdock [flags]

A DNS server that discovers Docker containers by itself. It answers

    <anything>.<container-name>.<image-name>.<environment>.<domain>

with their addresses, and forwards what is not its own to a nameserver.
`

const usageEnd = `
Flags marked + may be given more than once.

Examples
  dnsdock -dns=172.17.0.1:53 -http=172.17.0.1:80
  dnsdock -dns=127.0.0.1:5300 -http=127.0.0.1:8053 -nameserver=9.9.9.9,[2620:fe::fe]:53
  dnsdock -docker=tcp://10.0.0.5:2376 -tlsverify -domain=docker.example.com -environment=dev
`

const (
	helpColumn = 24  // where the help begins in the usage
	usageWidth = 100 // columns; a terminal of 80 wraps few lines
)

// Usage returns the text of -help.
func Usage() string {
	var b strings.Builder
	b.WriteString(usageHead)
	for _, s := range new(draft).sections() {
		b.WriteString("\n" + s.title + "\n")
		for _, o := range s.options {
			left, help := strings.TrimRight("  -"+o.name+" "+o.argument, " "), o.help
			if o.many {
				left += " +"
			}
			if text := o.defaultText(); text != "" {
				help += " (default " + text + ")"
			}
			writeColumns(&b, left, strings.ReplaceAll(help, "`", ""))
		}
	}
	b.WriteString(usageEnd)
	return b.String()
}

// defaultText says what holds where the flag is not given; empty if that is nothing.
func (o option) defaultText() string {
	text := o.preset
	if text != "" {
		text = "`" + text + "`"
	}
	switch {
	case o.env == "":
		return text
	case o.isBool():
		return "`$" + o.env + "` is not empty"
	}
	return "`$" + o.env + "`, else " + text
}

// writeColumns writes left, and beside it the words of right, wrapped.
func writeColumns(b *strings.Builder, left, right string) {
	line := left
	if len(left) >= helpColumn {
		b.WriteString(left + "\n")
		line = ""
	}
	line += strings.Repeat(" ", helpColumn-1-len(line))
	for _, word := range strings.Fields(right) {
		if len(line)+1+len(word) > usageWidth {
			b.WriteString(line + "\n")
			line = strings.Repeat(" ", helpColumn-1)
		}
		line += " " + word
	}
	b.WriteString(line + "\n")
}
