package publish

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/rayje/dnsdock/internal/dnsname"
)

const (
	MaxTXT     = 8192      // bytes of a service's TXT records in all, with one for each: a reply holds 64 KiB
	MaxPorts   = 1000      // ports of a service: an image may expose all 65,536
	MaxTTL     = 1<<31 - 1 // seconds, RFC 2181 section 8
	DefaultTTL = -1        // in Service.TTL: the service has no TTL of its own
)

// ErrPorts says that a service has too many ports.
var ErrPorts = fmt.Errorf("too many: at most %d ports", MaxPorts)

// A Port is one that a service listens on.
type Port struct {
	Number uint16
	Proto  string // "tcp", "udp" or "sctp"
	Name   string // a label of letters, digits, '-' and '_', in lower case; may be empty
}

// Compare orders ports by number.
func (p Port) Compare(q Port) int {
	return cmp.Or(cmp.Compare(p.Number, q.Number), strings.Compare(p.Proto, q.Proto), strings.Compare(p.Name, q.Name))
}

// String returns p as ParsePort reads it.
func (p Port) String() string {
	s := fmt.Sprintf("%d/%s", p.Number, p.Proto)
	if p.Name != "" {
		s += "=" + p.Name
	}
	return s
}

// IsAt reports whether p is the port of the label _number or _name, or '*'.
func (p Port) IsAt(label string) bool {
	text, ok := strings.CutPrefix(label, "_")
	return label == "*" || ok && (text == strconv.Itoa(int(p.Number)) || text == p.Name && text != "")
}

// ParsePort reads PORT[/PROTOCOL][=NAME].
func ParsePort(s string) (p Port, err error) {
	s, label, named := strings.Cut(strings.TrimSpace(s), "=")
	if named {
		if p.Name, err = parsePortName(label); err != nil {
			return p, err
		}
	}
	number, proto, ok := strings.Cut(strings.ToLower(s), "/")
	p.Proto = proto
	if !ok {
		p.Proto = "tcp"
	}
	p.Number, err = parsePortNumber(number)
	if err != nil || !IsProto(p.Proto) {
		return p, errors.New("write PORT/PROTOCOL or PORT/PROTOCOL=NAME, as in 80/tcp, 53/udp or 8080/tcp=http")
	}
	return p, nil
}

// IsProto reports whether s is a protocol that has ports.
func IsProto(s string) bool { return s == "tcp" || s == "udp" || s == "sctp" }

// parsePortNumber reads a port in its only spelling, without leading zeros.
func parsePortNumber(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || strconv.FormatUint(n, 10) != s {
		return 0, errors.New("write a port from 0 to 65535")
	}
	return uint16(n), nil
}

// parsePortName reads the name of a port, which is a label with '_' in front.
func parsePortName(s string) (string, error) {
	s = strings.ToLower(strings.TrimSpace(s))
	if s == "" || len(s) >= dnsname.MaxLabelLen || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
		return "", errors.New("write the port's name in letters, digits, '-' and '_', as in http")
	}
	return s, nil
}

// ParseTTL reads seconds in decimal, from 0 to MaxTTL.
func ParseTTL(s string) (uint32, error) {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 31)
	if err != nil {
		return 0, fmt.Errorf("write seconds from 0 to %d", MaxTTL)
	}
	return uint32(n), nil
}

// ParseTXT returns the lines that are not empty, each once.
func ParseTXT(lines []string) (list []string, err error) {
	left := MaxTXT
	for _, l := range lines {
		if l = strings.TrimSpace(l); l == "" {
			continue
		}
		if left -= 1 + len(l); left < 0 {
			return nil, fmt.Errorf("too long: at most %d bytes in all", MaxTXT)
		}
		list = append(list, l)
	}
	return Dedup(list), nil
}

// ports finds the SRV records: the ports that the image or docker run
// exposes, and those of Registrator's SERVICE_<port>_NAME, which also names them.
// SERVICE_<port>_IGNORE leaves a port out.
func (m *labelReader) ports() (list []Port) {
	exposed := make(map[uint16]bool)
	for _, p := range m.Exposed {
		exposed[p.Number] = true
	}
	list = slices.Clone(m.Exposed)
	for _, n := range m.namedPorts() {
		if !exposed[n] {
			list = append(list, Port{Number: n, Proto: "tcp"})
		}
	}
	list = slices.DeleteFunc(list, func(p Port) bool {
		source := fmt.Sprintf("SERVICE_%d_IGNORE", p.Number)
		_, inEnv := m.value("$" + source)
		_, inLabels := m.value(source)
		return inEnv || inLabels
	})
	slices.SortStableFunc(list, Port.Compare)
	if len(list) > MaxPorts {
		m.problem("ports", fmt.Sprint(len(list)), ErrPorts)
		list = list[:MaxPorts]
	}
	for i := range list {
		source := fmt.Sprintf("SERVICE_%d_NAME", list[i].Number)
		m.first(func(_, v string) (err error) {
			list[i].Name, err = parsePortName(v)
			return err
		}, m.claims([]string{"$" + source, source}))
	}
	return list
}

// namedPorts returns the ports that have a SERVICE_<port>_NAME, each once.
func (m *labelReader) namedPorts() (list []uint16) {
	if m.oneOff {
		return nil
	}
	for _, settings := range []map[string]string{m.Env, m.Labels} {
		for k := range settings {
			text, ok := strings.CutPrefix(k, "SERVICE_")
			text, isName := strings.CutSuffix(text, "_NAME")
			if !ok || !isName {
				continue
			}
			if n, err := parsePortNumber(text); err == nil {
				list = append(list, n)
			}
		}
	}
	return Dedup(list)
}
