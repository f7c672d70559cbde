package dnswire

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// wire returns a message of a header and what follows it.
func wire(id, bits uint16, counts [4]uint16, rest string) []byte {
	b := binary.BigEndian.AppendUint16(nil, id)
	b = binary.BigEndian.AppendUint16(b, bits)
	for _, c := range counts {
		b = binary.BigEndian.AppendUint16(b, c)
	}
	return append(b, rest...)
}

// What SanitizeQuery leaves of a good query, and what it replies to a bad one.
func TestSanitizeQuery(t *testing.T) {
	const (
		question = "\x03Web\x06docker\x00\x00\x01\x00\x01"
		bare     = "\x00\x00\x29\x10\x00\x00\x00\x80\x00\x00\x00" // 4,096 bytes, version 0, DO
		ourOPT   = "\x00\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x00" // 1,232
		cookie   = "\x00\x0a\x00\x08abcdefgh"                     // an option
		// Well-formed as an option, nonsense within.
		badECS = "\x00\x08\x00\x03xyz"
		record = "\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04\x0a\x00\x00\x01" // with a compressed owner
	)
	withOptions := func(options string) string {
		return bare[:9] + string(binary.BigEndian.AppendUint16(nil, uint16(len(options)))) + options
	}
	one, oneOPT := [4]uint16{1}, [4]uint16{1, 0, 0, 1}
	const id, rd, z, qr = 0xbeef, 1 << 8, 1 << 6, 1 << 15
	const formerr, notimp = dns.RcodeFormatError, dns.RcodeNotImplemented
	for _, tt := range []struct {
		what         string
		packet       []byte
		query, reply []byte
	}{
		{"plain", wire(id, 0, one, question), wire(id, 0, one, question), nil},
		{"flags", wire(id, 0x7fff&^0x7800, one, question), wire(id, 1<<8|1<<5|1<<4, one, question), nil},
		{"OPT", wire(id, rd, oneOPT, question+bare), wire(id, rd, oneOPT, question+bare), nil},
		{"options", wire(id, rd, oneOPT, question+withOptions(cookie+badECS+"\xff\xff\x00\x00")), wire(id, rd, oneOPT, question+bare), nil},
		{"OPT before a record", wire(id, rd, [4]uint16{1, 0, 0, 2}, question+withOptions(cookie)+record), wire(id, rd, oneOPT, question+bare), nil},
		{"records", wire(id, 0, [4]uint16{1, 1, 1, 1}, question+record+record+record), wire(id, 0, one, question), nil},
		{"version 9, whatever is in it", wire(id, 0, oneOPT, question+"\x00\x00\x29\x10\x00\x00\x09\x00\x00\x00\x01\xff"), wire(id, 0, oneOPT, question+"\x00\x00\x29\x10\x00\x00\x09\x00\x00\x00\x00"), nil},
		{"an option too long", wire(id, rd, oneOPT, question+withOptions("\x00\x0a\x00\x09abcdefgh")), nil, wire(id, qr|rd|formerr, oneOPT, question+ourOPT)},
		{"half an option", wire(id, rd, oneOPT, question+withOptions("\x00\x0a\x00")), nil, wire(id, qr|rd|formerr, oneOPT, question+ourOPT)},
		{"two OPT", wire(id, 0, [4]uint16{1, 0, 0, 2}, question+bare+bare), nil, wire(id, qr|formerr, oneOPT, question+ourOPT)},
		{"OPT in the answer section", wire(id, 0, [4]uint16{1, 1, 0, 0}, question+bare), nil, wire(id, qr|formerr, one, question)},
		{"OPT with an owner", wire(id, 0, oneOPT, question+"\x01a"+bare), nil, wire(id, qr|formerr, one, question)},
		{"trailing bytes", wire(id, rd|z, one, question+"x"), nil, wire(id, qr|rd|formerr, one, question)},
		{"trailing bytes after OPT", wire(id, 0, oneOPT, question+bare+"x"), nil, wire(id, qr|formerr, oneOPT, question+ourOPT)},
		{"a record that is not there", wire(id, 0, oneOPT, question), nil, wire(id, qr|formerr, one, question)},
		{"a record's compression loop, which is not followed", wire(id, 0, oneOPT, question+"\xc0\x1c"+record[2:]), wire(id, 0, one, question), nil},
		{"half a pointer", wire(id, 0, oneOPT, question+"\xc0"), nil, wire(id, qr|formerr, one, question)},
		{"a label of 64 bytes", wire(id, 0, oneOPT, question+"\x40"+strings.Repeat("a", 80)), nil, wire(id, qr|formerr, one, question)},
		{"a name of 256 bytes", wire(id, 0, oneOPT, question+strings.Repeat("\x01a", 127)+"\x01a\x00"+record[2:]), nil, wire(id, qr|formerr, one, question)},
		{"a question's compression", wire(id, 0, one, "\x03web\xc0\x0c\x00\x01\x00\x01"), nil, wire(id, qr|formerr, [4]uint16{}, "")},
		{"no question", wire(id, rd, [4]uint16{0, 0, 0, 1}, bare), nil, wire(id, qr|rd|formerr, [4]uint16{0, 0, 0, 1}, ourOPT)},
		{"two questions", wire(id, 0, [4]uint16{2}, question+question), nil, wire(id, qr|formerr, [4]uint16{}, "")},
		{"opcode", wire(id, 9<<11, oneOPT, question+bare), nil, wire(id, qr|9<<11|notimp, [4]uint16{0, 0, 0, 1}, ourOPT)},
		{"opcode with what nobody knows", wire(id, 9<<11, oneOPT, "\xff\xff"), nil, wire(id, qr|9<<11|notimp, [4]uint16{}, "")},
		{"a reply", wire(id, qr, one, question), nil, nil},
		{"a reply of another opcode", wire(id, qr|9<<11, one, question), nil, nil},
		{"11 bytes", wire(id, 0, one, "")[:11], nil, nil},
		{"nothing", nil, nil, nil},
	} {
		t.Run(tt.what, func(t *testing.T) {
			query, reply := SanitizeQuery(bytes.Clone(tt.packet))
			if !bytes.Equal(query, tt.query) || !bytes.Equal(reply, tt.reply) {
				t.Errorf("got query\n%sand reply\n%swant query\n%sand reply\n%s",
					hex.Dump(query), hex.Dump(reply), hex.Dump(tt.query), hex.Dump(tt.reply))
			}
		})
	}
}

// FuzzSanitizeQuery checks that the result is no longer than the packet, and either a query that the library reads and
// that SanitizeQuery leaves as it is, or a reply.
func FuzzSanitizeQuery(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		query, reply := SanitizeQuery(bytes.Clone(b))
		if len(query) > len(b) || len(reply) > len(b) || query != nil && reply != nil {
			t.Fatalf("got query %x and reply %x", query, reply)
		}
		m := new(dns.Msg)
		switch {
		case query != nil:
			if err := m.Unpack(query); err != nil || len(m.Question) != 1 || m.Response || len(m.Answer)+len(m.Ns) > 0 {
				t.Fatalf("got query %x: %v, %v", query, m, err)
			}
			if again, _ := SanitizeQuery(bytes.Clone(query)); !bytes.Equal(again, query) {
				t.Fatalf("got %x, and of that %x", query, again)
			}
		case reply != nil:
			err := m.Unpack(reply)
			if err != nil || !m.Response || m.Id != binary.BigEndian.Uint16(b) || m.Rcode == dns.RcodeSuccess {
				t.Fatalf("got reply %x: %v, %v", reply, m, err)
			}
		case len(b) >= HeaderLen && b[2]&0x80 == 0:
			t.Fatalf("got no answer to %x", b)
		}
	})
}
