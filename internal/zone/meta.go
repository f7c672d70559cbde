package zone

import (
	"github.com/miekg/dns"
)

// IsMeta reports whether a type is no data: such are answered by rules of
// their own. RFC 6895 section 3.1.
func IsMeta(qtype uint16) bool { return qtype == dns.TypeOPT || 128 <= qtype && qtype <= 255 }
