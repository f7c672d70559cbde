package host

import (
	"fmt"
	"strings"
)

const (
	minToken     = 16   // characters: a shorter token can be guessed
	maxTokenFile = 4096 // bytes: a longer file holds something else
)

// ReadToken reads a file that holds a token, and nothing else but white space around it.
func ReadToken(file string) (string, error) {
	b, err := ReadFile(file, maxTokenFile)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(b))
	if len(token) < minToken || strings.ContainsFunc(token, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return "", fmt.Errorf("%s holds no token: write one of %d characters or more, without spaces, into it, "+
			"as openssl rand -hex 32 prints", file, minToken)
	}
	return token, nil
}
