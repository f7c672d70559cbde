package dnsname

import (
	"errors"
	"strings"
)

const (
	Localhost Name = "\x09localhost\x00"
	invalid   Name = "\x07invalid\x00"
	onion     Name = "\x05onion\x00"
)

// ParseAlias reads an absolute name that a container may claim. Whoever may
// start a container may claim one, so what would take all names, or the
// names of addresses, is refused.
func ParseAlias(s string) (Name, error) {
	n, err := Parse(strings.TrimSpace(s))
	switch {
	case err != nil:
		return "", err
	case n == Root:
		return "", errors.New("an alias can't be the root: write a name, as in db.docker")
	case n.HasWildcard():
		return "", errors.New("an alias can't hold '*': write the name without it, all names below it are answered too")
	case n.IsReverse():
		return "", errors.New("an alias can't be in a reverse zone: PTR follows from the addresses")
	case n.Under(Localhost), n.Under(invalid), n.Under(onion):
		return "", errors.New("an alias can't be under localhost, invalid or onion, which are nobody's: write another name, as in db.docker")
	}
	return n, nil
}

// ParseTarget reads the absolute name that a CNAME points to.
func ParseTarget(s string) (Name, error) {
	n, err := Parse(strings.TrimSpace(s))
	if err == nil && (n == Root || n.HasWildcard()) {
		return "", errors.New("a CNAME can't point to the root or to '*': write a name, as in www.example.com")
	}
	return n, err
}
