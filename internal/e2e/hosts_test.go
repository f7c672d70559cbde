package e2e

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rayje/dnsdock/internal/dnstest"
)

// -hosts follows containers, and leaves the file as it was at the end.
func TestHostsFile(t *testing.T) {
	t.Parallel()
	const rest = "127.0.0.1\tlocalhost\n"
	file := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(file, []byte(rest), 0o644); err != nil {
		t.Fatal(err)
	}
	soon := func(parts ...string) {
		t.Helper()
		for deadline := time.Now().Add(dnstest.Patience); ; time.Sleep(10 * time.Millisecond) {
			b, err := os.ReadFile(file)
			if err == nil && dnstest.ContainsAll(string(b), append(parts, rest)) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("the file is %q, %v; want %q in it", b, err, parts)
			}
		}
	}
	e := dnstest.NewEngine()
	e.Start("aa", "web", "10.0.0.1")
	in := startDnsdock(t, "-docker="+e.ServeTCP(t, nil), "-hosts="+file)
	soon("10.0.0.1\tweb.")
	e.Start("bb", "db", "10.0.0.2")
	soon("10.0.0.1\tweb.", "10.0.0.2\tdb.")
	if err := in.stop(); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != rest {
		t.Errorf("after the end the file is %q, %v; want %q", b, err, rest)
	}
}
