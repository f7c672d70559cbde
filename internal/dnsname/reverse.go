package dnsname

import (
	"net/netip"
	"strings"
)

// The zones of address names: RFC 1035 section 3.5 and RFC 3596 section 2.5.
const (
	InAddrArpa Name = "\x07in-addr\x04arpa\x00"
	ip6Arpa    Name = "\x03ip6\x04arpa\x00"
)

// IsReverse reports whether n is in one of the zones of address names.
func (n Name) IsReverse() bool { return n.Under(InAddrArpa) || n.Under(ip6Arpa) }

// Prefix returns the addresses that a reverse name stands for: a single
// address, or all that begin as the labels of a shorter name say. Its labels are
// decimal bytes under in-addr.arpa, or hexadecimal digits under ip6.arpa.
func (n Name) Prefix() (p netip.Prefix, ok bool) {
	var addr [16]byte
	count := n.Labels() - 2
	switch {
	case n.Under(InAddrArpa) && count <= 4:
		for i := count - 1; i >= 0; i, n = i-1, n.Parent() {
			if addr[i], ok = decimalByte(n.Label()); !ok {
				return p, false
			}
		}
		return netip.PrefixFrom(netip.AddrFrom4([4]byte(addr[:4])), 8*count), true
	case n.Under(ip6Arpa) && count <= 32:
		for i := count - 1; i >= 0; i, n = i-1, n.Parent() {
			digit := strings.IndexByte("0123456789abcdef", n[1])
			if n[0] != 1 || digit < 0 {
				return p, false
			}
			addr[i/2] |= byte(digit) << (4 * (1 - i%2)) // the first digit of a byte is its upper half
		}
		a := netip.AddrFrom16(addr)
		return netip.PrefixFrom(a, 4*count), !a.Is4In6()
	}
	return p, false
}

// decimalByte reads a number from 0 to 255 without leading zeros.
func decimalByte(s string) (b byte, ok bool) {
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
