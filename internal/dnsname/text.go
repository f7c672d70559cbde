package dnsname

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"
)

// lookup turns U-labels into A-labels as browsers do (RFC 5891 section 5,
// UTS #46). Its rules for ASCII are left to fromText, which also takes '_'.
var lookup = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.CheckJoiners(true),
	idna.Transitional(false), idna.StrictDomainName(false), idna.CheckHyphens(false))

// hostChars are the bytes of a host name, and '_', which names of containers
// and of services (RFC 2782) hold.
const hostChars = "abcdefghijklmnopqrstuvwxyz0123456789-_"

const (
	inContext = "\u200c\u200d\u00b7\u0375\u05f3\u05f4\u30fb" // RFC 5892 appendix A
	dots      = ".\u3002\uff0e\uff61"                        // those that UTS #46 takes for a dot
)

// fromText reads a name as people write it: in labels, variables, flags and the
// HTTP API. U-labels become A-labels and letters become lower-case. A label that
// is only '*' is taken, and the caller decides whether it may stand there.
// Everything else than letters, digits, '-' and '_' is refused by an error that
// says what to write instead.
func fromText(s string) (Name, error) {
	text := strings.TrimSpace(s)
	if text == "" {
		return "", errors.New("empty name: write one, as in db.docker")
	}
	if text == "." {
		return Root, nil
	}
	n, ok := fromHost(text)
	if ok && len(n) <= MaxLen {
		return n, nil
	}
	host := hostIn(text)
	if host == "" {
		return "", fmt.Errorf("%.300q is no domain name: write %s, as in db.docker", s, whatIsHost)
	}
	return "", fmt.Errorf("%.300q is no domain name: write %s (%s)", s, host, whatIsHost)
}

const whatIsHost = "labels of 1 to 63 bytes, of letters, digits, '-' and '_', 255 bytes in all"

// fromHost returns the name that text spells. It is not ok if text is no host
// name. The name may be too long.
func fromHost(text string) (n Name, ok bool) {
	ascii, ok := toASCII(text)
	if !ok {
		return "", false
	}
	var wire strings.Builder
	for label := range strings.SplitSeq(strings.TrimSuffix(ascii, "."), ".") {
		if label == "" || len(label) > MaxLabelLen || label != "*" && strings.Trim(label, hostChars) != "" {
			return "", false
		}
		wire.WriteByte(byte(len(label)))
		wire.WriteString(label)
	}
	return Name(wire.String()) + Root, true
}

// toASCII returns text in lower case, with A-labels in place of U-labels. Beside
// letters, marks and digits a U-label holds only the characters of inContext: no
// quotes, dashes or emoji. It is not ok if text has others.
func toASCII(text string) (ascii string, ok bool) {
	isOther := func(r rune) bool { return r > unicode.MaxASCII }
	if strings.IndexFunc(text, isOther) < 0 {
		return strings.ToLower(text), true
	}
	ascii, err := lookup.ToASCII(text)
	if err != nil {
		return "", false
	}
	isSign := func(r rune) bool {
		return isOther(r) && !unicode.In(r, unicode.L, unicode.M, unicode.N) && !strings.ContainsRune(inContext, r)
	}
	mapped, err := lookup.ToUnicode(ascii)
	return ascii, err == nil && strings.IndexFunc(mapped, isSign) < 0
}

// hostIn returns the host name in text that has more around it: a URL, a port,
// quotes, spaces, too many dots. It is empty if there is none.
func hostIn(text string) string {
	isAround := func(r rune) bool {
		return unicode.IsSpace(r) || strings.ContainsRune("\"'`<>()[]{},;:/=", r) ||
			unicode.In(r, unicode.Pi, unicode.Pf, unicode.Ps)
	}
	if strings.Contains(text, "::") { // an IPv6 address
		return ""
	}
	isDot := func(r rune) bool { return strings.ContainsRune(dots, r) }
	if _, rest, ok := strings.Cut(text, "://"); ok {
		text = rest
	}
	text = strings.TrimFunc(text, isAround)
	if end := strings.IndexAny(text, `/?#\`); end >= 0 {
		text = text[:end]
	}
	text = strings.TrimFunc(text[strings.LastIndexByte(text, '@')+1:], isAround)
	if host, port, ok := strings.Cut(text, ":"); ok && strings.Trim(port, "0123456789") == "" {
		text = strings.TrimFunc(host, isAround)
	}
	text = strings.Join(strings.FieldsFunc(text, isDot), ".")
	text = strings.ToLower(strings.Join(strings.Fields(text), "-"))
	if n, ok := fromHost(text); !ok || n.HasWildcard() || len(n) > MaxLen {
		return ""
	}
	return text
}

// LabelsFromText reads a part of a name, which may have several labels, and
// returns their wire format, to be put in front of a Name. An empty part has no
// label.
func LabelsFromText(part string) (string, error) {
	if part == "" {
		return "", nil
	}
	n, err := fromText(part)
	if err != nil {
		return "", err
	}
	if n == Root || n.HasWildcard() {
		return "", fmt.Errorf("%q can't be part of a name: write letters, digits, '-' and '_'", part)
	}
	return string(n[:len(n)-1]), nil
}

// ParseAlias reads an absolute name that a container may claim. Whoever may
// start a container may claim one, so ParseAlias refuses what would take all
// names, or the names of addresses. It may be Star.
func ParseAlias(s string) (Name, error) {
	n, err := fromText(s)
	switch {
	case err != nil:
		return "", err
	case n == Root:
		return "", errors.New("an alias can't be the root: write a name, as in db.docker")
	case n != Star && n.HasWildcard():
		return "", errors.New("an alias can't hold '*': write the name without it, " +
			"all names below it are answered too; or only '*', for the names of the domain that are unknown otherwise")
	case n.IsReverse():
		return "", errors.New("an alias can't be in a reverse zone: PTR follows from the addresses")
	case n.Under(Localhost), n.Under(invalid), n.Under(onion):
		return "", errors.New("an alias can't be under localhost, invalid or onion, which are reserved: " +
			"write another name, as in db.docker")
	case isAddr(n):
		return "", errors.New("an alias can't be an address: write a name, as in db.docker; " +
			"com.dnsdock.ip_addr sets addresses")
	case isPublicSuffix(n):
		return "", fmt.Errorf("an alias can't be %s, below which are the names of others: "+
			"write a name below it, as in www.example.%[1]s", Text(n))
	}
	return n, nil
}

func isAddr(n Name) bool {
	_, err := netip.ParseAddr(Text(n))
	return err == nil
}

// isPublicSuffix reports whether ICANN's registries sell names directly below
// n, as they do below com and co.uk: https://publicsuffix.org/list/.
func isPublicSuffix(n Name) bool {
	suffix, icann := publicsuffix.PublicSuffix(Text(n))
	return icann && suffix == Text(n)
}

// ParseTarget reads the absolute name that a CNAME points to.
func ParseTarget(s string) (Name, error) {
	n, err := fromText(s)
	if err == nil && (n == Root || n.HasWildcard()) {
		return "", errors.New("a CNAME can't point to the root or to '*': write a name, as in www.example.com")
	}
	return n, err
}

// ParseQuestion reads the name of a question that somebody typed. Text that is
// no host name stays as it is, because any byte is legal in a question.
func ParseQuestion(s string) (Name, error) {
	s = strings.TrimSpace(s)
	if n, err := fromText(s); err == nil {
		return n, nil
	}
	return Parse(s)
}

// SplitList splits a list at commas, spaces and newlines alike. Empty items are
// left out.
func SplitList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
}

// Unicode returns n as people read it: as Text does, but with U-labels in place
// of A-labels. What it returns spells the same name, so a name whose A-labels
// are invalid stays as it is.
func Unicode(n Name) string {
	text := Text(n)
	if !strings.Contains(text, "xn--") {
		return text
	}
	u, err := lookup.ToUnicode(text)
	if again, ok := fromHost(u); err != nil || !ok || again != n {
		return text
	}
	return u
}
