package config

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rayje/dnsdock/internal/dnstest"
)

// packaging is the directory of what packages install beside the program.
const packaging = "../../packaging"

// generated are the files there that are made from the table of flags.
var generated = map[string]func() string{
	"dnsdock.1":    manPage,
	"dnsdock.bash": bashCompletion,
	"_dnsdock":     zshCompletion,
	"dnsdock.fish": fishCompletion,
}

// The man page and what shells complete have the flags that the program has.
func TestFlagListInPackages(t *testing.T) {
	for name, text := range generated {
		file := filepath.Join(packaging, name)
		b, err := os.ReadFile(file)
		switch {
		case string(b) == text():
		case !*update:
			t.Errorf("%s is not made of the program's flags, %v: run this test with -update", file, err)
		default:
			if err := os.WriteFile(file, []byte(text()), 0o644); err != nil {
				t.Error(err)
			}
		}
	}
}

// Bash completes flags, files, and the words of flags that take one of a few.
func TestBashCompletion(t *testing.T) {
	dnstest.Needs(t, "bash")
	functions, err := filepath.Abs(filepath.Join(packaging, "dnsdock.bash"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "hosts"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for typed, want := range map[string]string{ // words as bash splits them, at '=' too
		"-tt": "-ttl=", "--tlsc": "--tlscacert=,--tlscert=", "-http-o": "-http-open ", "-nosuch": "",
		"-log =": "text ,json ", "-log = j": "json ", "--match = c": "closest ", "-names = com": "compose ",
		"-hosts = ho": "hosts", "-ttl =": "", "-ttl = 5": "",
	} {
		const script = `source "$0"; COMP_WORDS=(dnsdock "$@"); COMP_CWORD=$#; _dnsdock; IFS=,; echo "${COMPREPLY[*]}"`
		cmd := exec.Command("bash", append([]string{"-c", script, functions}, strings.Fields(typed)...)...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if got := strings.TrimSuffix(string(out), "\n"); err != nil || got != want {
			t.Errorf("%s: got %q, %v; want %q", typed, got, err, want)
		}
	}
}

// written returns the flags that a user can write, each once.
func written() (list []option) {
	for _, o := range new(draft).options() {
		if o.set != nil || o.name == "help" {
			list = append(list, o)
		}
	}
	return list
}

// choicesOf returns the words that a flag takes; none if it takes others too.
func (o option) choicesOf() []string {
	switch {
	case o.argument == "KIND,...":
		return strings.Split(o.preset, ",")
	case o.name == "match":
		return []string{"all", "closest"}
	case o.name == "log":
		return []string{"text", "json"}
	}
	return nil
}

const generatedBy = "# Written by: go test ./internal/config -run TestFlagList -update\n"

func bashCompletion() string {
	var flags, files, cases string
	for _, o := range written() {
		flags += " -" + o.name
		if !o.isBool() {
			flags += "="
		}
		if o.argument == "FILE" {
			files += " | -" + o.name
		}
		if words := o.choicesOf(); words != nil {
			cases += fmt.Sprintf("    -%s) words='%s' ;;\n", o.name, strings.Join(words, " "))
		}
	}
	return generatedBy + `_dnsdock() {
  local cur=${COMP_WORDS[COMP_CWORD]} flag= words= word IFS=$' \n'
  COMPREPLY=()
  if [[ $cur == = ]]; then
    flag=${COMP_WORDS[COMP_CWORD - 1]} cur=
  elif [[ ${COMP_WORDS[COMP_CWORD - 1]} == = ]]; then
    flag=${COMP_WORDS[COMP_CWORD - 2]}
  fi
  case ${flag/#--/-} in
    '') words='` + flags + `' ;;
` + cases + "    " + strings.TrimPrefix(files, " | ") + `)
      compopt -o filenames 2>/dev/null
      IFS=$'\n'
      COMPREPLY=($(compgen -f -- "$cur"))
      ;;
  esac
  [[ $cur != --* ]] || words=${words// -/ --}
  for word in $words; do
    [[ $word == *= ]] || word+=' '
    [[ $word != "$cur"* ]] || COMPREPLY+=("$word")
  done
}
complete -o nospace -F _dnsdock dnsdock
`
}

// zshCompletion returns what zsh reads for dnsdock from a directory of its fpath.
func zshCompletion() string {
	var b strings.Builder
	b.WriteString("#compdef dnsdock\n" + generatedBy + "_arguments \\\n")
	for _, o := range written() {
		spec, action := "-"+o.name, " "
		if !o.isBool() {
			spec += "=-"
		}
		if o.many {
			spec = "*" + spec
		}
		escape := strings.NewReplacer("`", "", "[", `\[`, "]", `\]`, ":", `\:`, "'", `'\''`).Replace
		spec += "[" + escape(o.help) + "]"
		switch {
		case o.argument == "FILE":
			action = "_files"
		case o.choicesOf() != nil:
			action = "(" + strings.Join(o.choicesOf(), " ") + ")"
		}
		if !o.isBool() {
			spec += ":" + escape(o.argument) + ":" + action
		}
		b.WriteString("  '" + spec + "' \\\n")
	}
	return strings.TrimSuffix(b.String(), " \\\n") + "\n"
}

// fishCompletion returns what fish reads for dnsdock.
func fishCompletion() string {
	var b strings.Builder
	b.WriteString(generatedBy + "complete -c dnsdock -f\n")
	for _, o := range written() {
		line := "complete -c dnsdock -o " + o.name + " -l " + o.name
		switch {
		case o.argument == "FILE":
			line += " -r -F"
		case o.choicesOf() != nil:
			line += " -x -a '" + strings.Join(o.choicesOf(), " ") + "'"
		case !o.isBool():
			line += " -x"
		}
		help := strings.NewReplacer("`", "", `\`, `\\`, "'", `\'`).Replace(o.help)
		b.WriteString(line + " -d '" + help + "'\n")
	}
	return b.String()
}

const manHead = `.\" Written by: go test ./internal/config -run TestFlagList -update
.TH DNSDOCK 1
.SH NAME
dnsdock \- DNS server that discovers Docker containers
.SH SYNOPSIS
.B dnsdock
.RI [ flags ]
.SH DESCRIPTION
.B dnsdock
follows Docker Engines and answers DNS queries for
.PP
.RS
.I <anything>.<container-name>.<image-name>.<environment>.<domain>
.RE
.PP
with the addresses of their containers.
It forwards what is not its own to a nameserver.
.SH OPTIONS
Write flags with one dash or two.
Flags marked + take several values, with commas between them or by giving the flag again.
`

const manEnd = `.SH EXIT STATUS
0 after SIGINT or SIGTERM; 1 if an address can't be listened on, or a server failed; 2 for a wrong command line or
environment.
.SH SIGNALS
SIGINT and SIGTERM end it.
SIGHUP makes it list all containers and read its files again.
SIGUSR2 starts its binary again in the same process, with the sockets open, for an upgrade.
.SH FILES
.I /etc/default/dnsdock
.RS
variables of the service of systemd, FLAGS among them
.RE
.SH EXAMPLES
.nf
dnsdock \-dns=172.17.0.1:53 \-http=172.17.0.1:80
dnsdock \-dns=127.0.0.1:5300 \-http=127.0.0.1:8053 \-nameserver=9.9.9.9
.fi
.SH SEE ALSO
.BR resolvectl (1),
.BR docker (1)
.PP
The manual is at https://github.com/rayje/dnsdock.
`

// manPage returns the page for man(1).
func manPage() string {
	var b strings.Builder
	b.WriteString(manHead)
	for _, s := range new(draft).sections() {
		b.WriteString(".SS " + s.title + "\n")
		for _, o := range s.options {
			tag := `\fB` + roff("-"+o.name) + `\fR`
			if !o.isBool() {
				tag += `=\fI` + roff(o.argument) + `\fR`
			}
			if o.many {
				tag += " +"
			}
			text := o.help + "."
			if d := o.defaultText(); d != "" {
				text += " Default: " + d + "."
			}
			b.WriteString(".TP\n" + tag + "\n" + wrap(roffCode(text), "", 118))
		}
	}
	b.WriteString(manEnd)
	return b.String()
}

// roff escapes text for a man page. A line never begins with it where a dot or a quote would be a request.
func roff(text string) string {
	return strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`).Replace(text)
}

// roffCode escapes text and makes bold what is between backquotes.
func roffCode(text string) string {
	var b strings.Builder
	for i, part := range strings.Split(text, "`") {
		if i%2 == 1 {
			part = `\fB` + strings.ReplaceAll(roff(part), " ", `\ `) + `\fR`
		} else {
			part = strings.ReplaceAll(part, "'", `\(aq`)
		}
		b.WriteString(part)
	}
	return b.String()
}
