package tsig

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/host"
)

// A Key is a secret that two servers share.
type Key struct {
	Name      string // absolute, in lower case
	Algorithm string // one of algorithms, absolute
	Secret    string // in base64
}

// algorithms are those that are neither broken nor unusual.
var algorithms = []string{dns.HmacSHA256, dns.HmacSHA384, dns.HmacSHA512}

const syntax = `write keys as tsig-keygen prints them: key "name" { algorithm hmac-sha256; secret "base64"; };`

// maxFile is the size in bytes of the largest file that is read: some thousand keys.
const maxFile = 1 << 20

// ReadFile reads a file of keys, of which there must be one at least.
func ReadFile(path string) ([]Key, error) {
	data, err := host.ReadFile(path, maxFile)
	if err != nil {
		return nil, err
	}
	return parse(string(data))
}

// parse reads the key statements of BIND's configuration.
func parse(text string) (keys []Key, err error) {
	words := split(text)
	for len(words) > 0 {
		end := slices.Index(words, "}")
		if words[0] != "key" || end < 3 || words[2] != "{" || end+1 >= len(words) || words[end+1] != ";" {
			return nil, fmt.Errorf("%.40q is no key: %s", strings.Join(words[:min(len(words), 4)], " "), syntax)
		}
		k, err := parseKey(words[1], words[3:end])
		if err != nil {
			return nil, fmt.Errorf("key %.100q: %w", words[1], err)
		}
		if slices.ContainsFunc(keys, func(o Key) bool { return o.Name == k.Name }) {
			return nil, fmt.Errorf("key %.100q: it is there twice: remove one", words[1])
		}
		keys, words = append(keys, k), words[end+2:]
	}
	if len(keys) == 0 {
		return nil, errors.New("there is no key: " + syntax)
	}
	return keys, nil
}

// parseKey reads what is between the braces.
func parseKey(name string, words []string) (k Key, err error) {
	if _, ok := dns.IsDomainName(name); !ok {
		return k, errors.New("its name is no domain name: " + syntax)
	}
	k.Name = dns.CanonicalName(name)
	for ; len(words) >= 3 && words[2] == ";"; words = words[3:] {
		switch words[0] {
		case "algorithm":
			k.Algorithm = dns.CanonicalName(words[1])
		case "secret":
			k.Secret = words[1]
		default:
			return k, fmt.Errorf("%.40q is not known: %s", words[0], syntax)
		}
	}
	secret, err := base64.StdEncoding.DecodeString(k.Secret)
	switch {
	case len(words) > 0:
		return k, fmt.Errorf("%.40q is not known: %s", words[0], syntax)
	case !slices.Contains(algorithms, k.Algorithm):
		return k, fmt.Errorf("algorithm %.40q: use hmac-sha256, hmac-sha384 or hmac-sha512",
			strings.Trim(k.Algorithm, "."))
	case err != nil || len(secret) < 16: // RFC 8945 section 8 wants as many as the algorithm has, and takes half of it
		return k, errors.New("its secret must be base64 of 16 bytes or more: tsig-keygen makes one")
	}
	return k, nil
}

// split returns the words of a configuration; braces and semicolons are words. Comments are left out.
func split(text string) (words []string) {
	for {
		text = strings.TrimLeft(text, " \t\r\n")
		end := 1
		switch {
		case text == "":
			return words
		case text[0] == '#', strings.HasPrefix(text, "//"):
			_, text, _ = strings.Cut(text, "\n")
			continue
		case strings.HasPrefix(text, "/*"):
			_, text, _ = strings.Cut(text[2:], "*/")
			continue
		case text[0] == '"':
			word, rest, _ := strings.Cut(text[1:], `"`)
			words, text = append(words, word), rest
			continue
		case !strings.ContainsRune("{};", rune(text[0])):
			if end = strings.IndexAny(text, " \t\r\n{};\""); end < 0 {
				end = len(text)
			}
		}
		words, text = append(words, text[:end]), text[end:]
	}
}
