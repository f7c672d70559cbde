package dnsname

const (
	InAddrArpa Name = "\x07in-addr\x04arpa\x00"
	IP6Arpa    Name = "\x03ip6\x04arpa\x00"
)

// decimal reads an octet in its one spelling.
func decimal(s string) (octet byte, ok bool) {
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' || n == 0 && i > 0 {
			return 0, false
		}
		if n = 10*n + int(s[i]-'0'); n > 255 {
			return 0, false
		}
	}
	return byte(n), s != ""
}
