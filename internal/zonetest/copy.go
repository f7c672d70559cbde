package zonetest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnsname"
)

// A Copy is the records of a zone as a nameserver has them that transferred it, by owner name.
type Copy map[dnsname.Name][]dns.RR

// Exists reports whether a name has records, or is above one that has.
func (c Copy) Exists(n dnsname.Name) bool {
	for o := range c {
		if o.Under(n) {
			return true
		}
	}
	return false
}

// Answer looks up a name as RFC 1034 section 4.3.2 and RFC 4592 say it, without following CNAMEs. It returns the rcode,
// and the TTLs and data in their order.
func (c Copy) Answer(q dnsname.Name, qtype uint16) string {
	n := q
	for !c.Exists(n) {
		if parent := n.Parent(); c.Exists(parent) {
			if n = "\x01*" + parent; !c.Exists(n) {
				return "NXDOMAIN"
			}
			break
		}
		n = n.Parent()
	}
	var list []dns.RR
	for _, rr := range c[n] {
		if t := rr.Header().Rrtype; t == qtype || t == dns.TypeCNAME {
			list = append(list, rr)
		}
	}
	return Show(dns.RcodeSuccess, list)
}

// Show writes an answer as Copy.Answer does.
func Show(rcode int, list []dns.RR) string {
	var data []string
	for _, rr := range list {
		h := rr.Header()
		data = append(data, fmt.Sprint(h.Ttl, strings.TrimPrefix(rr.String(), h.String())))
	}
	slices.Sort(data)
	return strings.Join(append([]string{dns.RcodeToString[rcode]}, data...), " ")
}
