package dnswire

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnsname"
)

var (
	errNoReply  = errors.New("no reply of one question")
	errNoRecord = errors.New("a record is malformed")
)

// UnpackReply unpacks a reply to one question with the records of its answer and authority sections, and of the
// additional section the OPT record only. A well-formed record that the library can't read, or would write as another
// one, becomes a dns.RFC3597, which is written as it came (RFC 3597 section 3). The error says that the message or a
// record of a well-known type is malformed, or that an OPT or TSIG record is where it is not allowed (RFC 6891 section
// 6.1.1).
func UnpackReply(b []byte) (*dns.Msg, error) {
	if len(b) < HeaderLen || !isResponse(b) || binary.BigEndian.Uint16(b[4:]) != 1 {
		return nil, errNoReply
	}
	off, ok := skipQuestion(b, HeaderLen)
	if !ok {
		return nil, errNoReply
	}
	m := new(dns.Msg)
	head := slices.Concat(b[:6], make([]byte, 6), b[HeaderLen:off])
	if err := m.Unpack(head); err != nil {
		return nil, err
	}
	for i, section := range []*[]dns.RR{&m.Answer, &m.Ns, &m.Extra} {
		for range int(binary.BigEndian.Uint16(b[6+2*i:])) {
			r, ok := ReadRecord(b, off)
			switch {
			case !ok && (m.Truncated || off == len(b)): // the header may count what was cut off
				return m, nil
			case !ok:
				return nil, errNoRecord
			}
			off = r.End
			isMeta := r.Type == dns.TypeOPT || r.Type == dns.TypeTSIG
			switch {
			case section == &m.Extra && r.Type != dns.TypeOPT:
				continue
			case section != &m.Extra && isMeta:
				return nil, errNoRecord
			}
			rr, err := unpackRecord(b, r)
			if err != nil {
				return nil, err
			}
			*section = append(*section, rr)
		}
	}
	if opt := m.IsEdns0(); opt != nil {
		m.Rcode |= opt.ExtendedRcode()
	}
	return m, nil
}

// strictTypes are the types of which a malformed record makes the whole reply malformed: those that all the world
// reads, and those in whose data names may be compressed (RFC 3597 section 4), so that it can't be passed on as it
// came.
var strictTypes = []uint16{
	dns.TypeA, dns.TypeNS, dns.TypeMD, dns.TypeMF, dns.TypeCNAME, dns.TypeSOA, dns.TypeMB, dns.TypeMG, dns.TypeMR,
	dns.TypePTR, dns.TypeMINFO, dns.TypeMX, dns.TypeRP, dns.TypeAFSDB, dns.TypeRT, dns.TypeSIG, dns.TypePX,
	dns.TypeAAAA,
	dns.TypeSRV, dns.TypeNAPTR, dns.TypeKX, dns.TypeDNAME, dns.TypeOPT,
}

// unpackRecord unpacks the record r of b.
func unpackRecord(b []byte, r Record) (dns.RR, error) {
	rr, _, err := dns.UnpackRR(b[:r.End], r.Owner)
	switch {
	case err == nil && isWhole(rr, r.End-r.Data):
		return rr, nil
	case slices.Contains(strictTypes, r.Type):
		return nil, errNoRecord
	}
	owner, _, err := dns.UnpackDomainName(b, r.Owner)
	if err != nil {
		return nil, errNoRecord
	}
	data := b[r.Data:r.End]
	if r.Type == dns.TypeNXT { // obsolete: the library expects the bitmap of an NSEC
		if data, err = expandName(b[:r.End], r.Data); err != nil {
			return nil, errNoRecord
		}
	}
	h := dns.RR_Header{Name: owner, Rrtype: r.Type, Class: r.Class, Ttl: r.TTL, Rdlength: uint16(len(data))}
	return &dns.RFC3597{Hdr: h, Rdata: hex.EncodeToString(data)}, nil
}

// isWhole reports whether rr, which was read from data of that many bytes, can be written and read again. The library
// reads records that end early, and writes them as what no client can read.
func isWhole(rr dns.RR, size int) bool {
	switch rr.(type) {
	case *dns.A:
		return size == 4
	case *dns.AAAA:
		return size == 16
	}
	const head, names = dnsname.MaxLen + 10, 2 * dnsname.MaxLen // no type has more than two compressed names
	buf := make([]byte, head+names+size)
	n, err := dns.PackRR(rr, buf, 0, nil, false)
	if err != nil {
		return false
	}
	_, _, err = dns.UnpackRR(buf[:n], 0)
	return err == nil
}

// expandName returns data that begins with a name, at off in b and up to its end, with that name not compressed.
func expandName(b []byte, off int) ([]byte, error) {
	name, end, err := dns.UnpackDomainName(b, off)
	if err != nil {
		return nil, err
	}
	var buf [dnsname.MaxLen + 1]byte
	n, err := dns.PackDomainName(name, buf[:], 0, nil, false)
	return slices.Concat(buf[:n], b[end:]), err
}
