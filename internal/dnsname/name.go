// Package dnsname has domain names in wire format, in lower case: a name is a
// string, so it compares, hashes and is its own map key, and its parent is a
// slice of it. It knows nothing of messages, services or Docker.
package dnsname

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// Text returns a name as people write it, without the last dot. It stays
// behind a space, which readStrings would trim.
func Text(n Name) string {
	s := n.String()
	if strings.HasSuffix(s, " .") {
		return s
	}
	return strings.TrimSuffix(s, ".")
}

func Texts(names []Name) []string {
	list := make([]string, 0, len(names))
	for _, n := range names {
		list = append(list, Text(n))
	}
	return list
}

// IsSingle reports whether n has one label.
func IsSingle(n Name) bool { return n != Root && n.Parent() == Root }

// A Name is an absolute domain name in lower case, in the wire format of RFC
// 1035 section 3.1: a label is its length and its octets, and the root ends
// it. So no escape has two spellings, and the parent is a slice of it. All
// names come from parseName, or from others by join and parent.
type Name string

const Root Name = "\x00"

const (
	MaxLen      = 255 // octets, RFC 1035 section 2.3.4
	MaxLabelLen = 63  // octets
)

// Parse reads the presentation format of RFC 1035 section 5.1 (which
// is also how miekg/dns gives the names it unpacks); with or without
// the last dot, the name is absolute.
func Parse(s string) (Name, error) {
	if s == "" {
		return "", errors.New("empty name: write one, as in db.docker")
	}
	var wire [MaxLen]byte
	end, err := dns.PackDomainName(dns.Fqdn(s), wire[:], 0, nil, false)
	if err != nil {
		return "", fmt.Errorf("%.300q is no domain name: write labels of 1 to 63 octets with dots between them, %d octets in all", s, MaxLen)
	}
	for i, c := range wire[:end] { // a length is below 64, so never a letter
		if 'A' <= c && c <= 'Z' {
			wire[i] = c + 'a' - 'A'
		}
	}
	return Name(wire[:end]), nil
}

// ParseLabels reads a part of a name, of any number of labels, and returns
// the octets that join puts before the apex. An empty part is no label.
func ParseLabels(part string) (string, error) {
	if part == "" {
		return "", nil
	}
	n, err := Parse(part)
	if err != nil {
		return "", err
	}
	if n == Root || n.HasWildcard() {
		return "", fmt.Errorf("%q can't be part of a name: write letters, digits, '-' and '_'", part)
	}
	return string(n[:len(n)-1]), nil
}

// String gives the presentation format, with the last dot.
func (n Name) String() string {
	s, _, err := dns.UnpackDomainName([]byte(n), 0)
	if err != nil {
		return fmt.Sprintf("%q", string(n)) // not a value of parseName
	}
	return s
}

// Parent is n without its first label. The root is its own parent.
func (n Name) Parent() Name {
	if n == Root {
		return Root
	}
	return n[1+n[0]:]
}

// MarshalText implements encoding.TextMarshaler, for a log in JSON.
func (n Name) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// Labels counts the labels; the root has none.
func (n Name) Labels() (count int) {
	for ; n != Root; n = n.Parent() {
		count++
	}
	return count
}

// Under reports whether n is zone or below it.
func (n Name) Under(zone Name) bool {
	for len(n) > len(zone) {
		n = n.Parent()
	}
	return n == zone
}

// Label is the first label; empty for the root.
func (n Name) Label() string { return string(n[1:max(1, 1+n[0])]) }

// HasWildcard reports whether one of the labels is '*'.
func (n Name) HasWildcard() bool {
	for ; n != Root; n = n.Parent() {
		if n[:2] == "\x01*" {
			return true
		}
	}
	return false
}

// Matches is the names rule: label by label from the right, the shorter one
// decides, and '*' in the query matches any label of owner. The query is
// given by its labels, the leftmost first. More tells how many labels owner
// has more than the query.
func Matches(query []string, owner Name) (ok bool, more int) {
	var starts [MaxLen / 2]byte // of each label of owner
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

// Split returns the labels, the leftmost first.
func (n Name) Split() (labels []string) {
	for ; n != Root; n = n.Parent() {
		labels = append(labels, string(n[1:1+n[0]]))
	}
	return labels
}

// IsReverse reports whether n is in one of the zones of address names.
func (n Name) IsReverse() bool { return n.Under(InAddrArpa) || n.Under(IP6Arpa) }

// Prefix returns the addresses that a reverse name is of: decimal labels
// under in-addr.arpa (RFC 1035 section 3.5) or hex digits under ip6.arpa (RFC
// 3596 section 2.5), down to a single one.
func (n Name) Prefix() (p netip.Prefix, ok bool) {
	var octets [16]byte
	count := n.Labels() - 2
	switch {
	case n.Under(InAddrArpa) && count <= 4:
		for i := count - 1; i >= 0; i, n = i-1, n.Parent() {
			if octets[i], ok = decimal(n.Label()); !ok {
				return p, false
			}
		}
		return netip.PrefixFrom(netip.AddrFrom4([4]byte(octets[:4])), 8*count), true
	case n.Under(IP6Arpa) && count <= 32:
		for i := count - 1; i >= 0; i, n = i-1, n.Parent() {
			digit := strings.IndexByte("0123456789abcdef", n[1])
			if n[0] != 1 || digit < 0 {
				return p, false
			}
			octets[i/2] |= byte(digit) << (4 * (1 - i%2)) // the high half first
		}
		a := netip.AddrFrom16(octets)
		return netip.PrefixFrom(a, 4*count), !a.Is4In6()
	}
	return p, false
}
