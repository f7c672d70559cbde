package dnsname

import (
	"errors"
	"fmt"
	"strings"

	"github.com/miekg/dns"
)

// A Name is an absolute domain name in lower case, in the wire format of RFC
// 1035 section 3.1: each label is its length and its bytes, and the root ends
// the name. So a name has one spelling, is its own map key, and its parent is
// a slice of it. Every Name comes from a function of this package, or is made
// of the labels of others.
type Name string

const (
	Root      Name = "\x00"
	Star      Name = "\x01*\x00" // as an alias: all names of the domain that are unknown otherwise
	Localhost Name = "\x09localhost\x00"
	invalid   Name = "\x07invalid\x00"
	onion     Name = "\x05onion\x00"
)

const (
	MaxLen      = 255 // bytes of a name, RFC 1035 section 2.3.4
	MaxLabelLen = 63  // bytes of a label, RFC 1035 section 2.3.4
)

// Parse reads the presentation format of RFC 1035 section 5.1, in which
// miekg/dns gives the names that it unpacks. Any byte may stand in a label,
// as on the wire. The name is absolute, with the last dot or without it.
// Names that people write are read by fromText.
func Parse(s string) (Name, error) {
	if s == "" {
		return "", errors.New("empty name: write one, as in db.docker")
	}
	var wire [MaxLen]byte
	end, err := dns.PackDomainName(dns.Fqdn(s), wire[:], 0, nil, false)
	if err != nil {
		return "", fmt.Errorf(
			"%.300q is no domain name: write labels of 1 to 63 bytes with dots between them, %d bytes in all",
			s, MaxLen)
	}
	for i, c := range wire[:end] { // a length is at most 63 and so never a letter
		if 'A' <= c && c <= 'Z' {
			wire[i] = c + 'a' - 'A'
		}
	}
	return Name(wire[:end]), nil
}

// String returns the presentation format, with the last dot.
func (n Name) String() string {
	s, _, err := dns.UnpackDomainName([]byte(n), 0)
	if err != nil {
		return fmt.Sprintf("%q", string(n)) // n did not come from this package
	}
	return s
}

// Text returns n as people write it, without the last dot. A dot after an
// escaped space stays, because a reader that trims spaces would break the escape.
func Text(n Name) string {
	s := n.String()
	if strings.HasSuffix(s, " .") {
		return s
	}
	return strings.TrimSuffix(s, ".")
}

// Texts returns the Text of each name.
func Texts(names []Name) []string {
	list := make([]string, 0, len(names))
	for _, n := range names {
		list = append(list, Text(n))
	}
	return list
}

// MarshalText implements encoding.TextMarshaler, for a log in JSON.
func (n Name) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// Parent returns n without its first label. The root is its own parent.
func (n Name) Parent() Name {
	if n == Root {
		return Root
	}
	return n[1+n[0]:]
}

// Label returns the first label. It is empty for the root.
func (n Name) Label() string { return string(n[1:max(1, 1+n[0])]) }

// Labels counts the labels. The root has none.
func (n Name) Labels() (count int) {
	for ; n != Root; n = n.Parent() {
		count++
	}
	return count
}

// Split returns the labels, the leftmost first.
func (n Name) Split() (labels []string) {
	for ; n != Root; n = n.Parent() {
		labels = append(labels, n.Label())
	}
	return labels
}

// Under reports whether n is zone or below it.
func (n Name) Under(zone Name) bool {
	for len(n) > len(zone) {
		n = n.Parent()
	}
	return n == zone
}

// IsSingle reports whether n has exactly one label.
func (n Name) IsSingle() bool { return n != Root && n.Parent() == Root }

// HasWildcard reports whether one of the labels is '*'.
func (n Name) HasWildcard() bool {
	for ; n != Root; n = n.Parent() {
		if n[:2] == "\x01*" {
			return true
		}
	}
	return false
}

// Matches applies the name rule to one owner name: the labels are compared
// from the right, as many as the shorter name has, and '*' in the query
// matches any label. query holds the labels of the queried name, the leftmost
// first. more is the number of labels that owner has more than the query.
func Matches(query []string, owner Name) (ok bool, more int) {
	var starts [MaxLen / 2]byte // where each label of owner begins
	count := 0
	for i := 0; owner[i] != 0; i += 1 + int(owner[i]) {
		starts[count] = byte(i)
		count++
	}
	more = count - len(query)
	for i := range min(count, len(query)) {
		start := int(starts[count-1-i])
		label := owner[start+1 : start+1+int(owner[start])]
		if q := query[len(query)-1-i]; q != "*" && q != string(label) {
			return false, more
		}
	}
	return true, more
}
