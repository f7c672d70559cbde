package dnstest

import (
	"encoding/binary"
	"os/exec"
	"path/filepath"
	"testing"
)

// Corpus returns packets as they were seen on the wire and made by hand:
// queries, replies and what is neither. Without them the test is skipped.
func Corpus(t testing.TB) [][]byte {
	t.Helper()
	packets := SomeCorpus(t)
	if packets == nil {
		t.Skip("no corpus of packets beside the checkout")
	}
	return packets
}

// SomeCorpus returns the packets of Corpus, none if they are not here.
func SomeCorpus(t testing.TB) (packets [][]byte) {
	t.Helper()
	const name = "shared/corpus/packets.bin.xz" // beside the checkout: of the top level and of a package in internal
	files, _ := filepath.Glob("../" + name)     // no error: the pattern is good
	below, _ := filepath.Glob("../../../" + name)
	if files = append(files, below...); len(files) == 0 {
		return nil
	}
	Needs(t, "xz")
	b, err := exec.CommandContext(t.Context(), "xz", "-dc", files[0]).Output()
	if err != nil {
		t.Fatal(err)
	}
	for len(b) > 0 { // each is its length, 2 bytes, and itself
		n := 2 + int(binary.BigEndian.Uint16(b))
		packets, b = append(packets, b[2:n:n]), b[n:]
	}
	return packets
}
