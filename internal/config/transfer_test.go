package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTransferFlags(t *testing.T) {
	sha1 := filepath.Join(t.TempDir(), "keys")
	text := `key "k" { algorithm hmac-sha1; secret "c2VjcmV0IG9mIDE2IGJ5dGVzIG9yIG1vcmU="; };`
	if err := os.WriteFile(sha1, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	const (
		address = "write an IP, IP:PORT or a CIDR, as in 192.0.2.53"
		name    = "write the name of a nameserver, as in ns1.example.com"
	)
	for args, want := range map[string]string{
		"-transfer=192.0.2.53":                              "[192.0.2.53/32] [192.0.2.53:53] []",
		"-transfer=192.0.2.53:5353,2001:db8::53":            "[192.0.2.53/32 2001:db8::53/128] [192.0.2.53:5353 [2001:db8::53]:53] []",
		"-transfer=[2001:db8::53]:5353 -transfer=::1":       "[2001:db8::53/128 ::1/128] [[2001:db8::53]:5353 [::1]:53] []",
		"-transfer=::ffff:192.0.2.53":                       "[192.0.2.53/32] [192.0.2.53:53] []",
		"-transfer=192.0.2.0/24 -transfer-ns=NS1.example,b": "[192.0.2.0/24] [] [ns1.example. b.]",

		"-transfer=ns1.example.com":                            address,
		"-transfer=192.0.2.53:":                                address,
		"-transfer=192.0.2.53:dns":                             address,
		"-transfer=192.0.2.0/33":                               address,
		"-transfer=192.0.2.53,x":                               address,
		"-transfer=":                                           "[] [] []",
		"-transfer=192.0.2.53:0":                               "write the address of a nameserver, as in 192.0.2.53",
		"-transfer=0.0.0.0":                                    "write the address of a nameserver",
		"-transfer=fe80::1%eth0":                               address,
		"-transfer=192.0.2.53 -transfer-ns=192.0.2.54":         name,
		"-transfer=192.0.2.53 -transfer-ns=.":                  name,
		"-transfer=192.0.2.53 -transfer-ns=a..b":               name,
		"-transfer-ns=ns1.example.com":                         "as in -transfer=192.0.2.53",
		"-transfer-key-file=" + sha1:                           "as in -transfer=192.0.2.53",
		"-transfer=192.0.2.53 -transfer-key-file=/nonexistent": "no such file",
		"-transfer=192.0.2.53 -transfer-key-file=" + sha1:      `algorithm "hmac-sha1": use hmac-sha256, hmac-sha384 or hmac-sha512`,
	} {
		cfg, err := Parse(strings.Fields(args), environ(nil))
		got := ""
		if err == nil {
			got = fmt.Sprint(cfg.Transfer.Allow, cfg.Transfer.Notify, cfg.Transfer.NS)
		} else if got = err.Error(); !strings.Contains(got, "-transfer") || strings.Contains(got, "\n") {
			t.Errorf("%s: got %q; want one line that names the flag", args, got)
		}
		if !strings.Contains(got, want) {
			t.Errorf("%s: got %q; want %q", args, got, want)
		}
	}
}
