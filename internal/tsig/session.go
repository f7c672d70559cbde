package tsig

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash"
	"slices"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnswire"
)

const fudge = 300 // seconds that two clocks may differ, RFC 8945 section 10

// A Session is an exchange of messages that are signed with one key: each signature covers the one before it.
type Session struct {
	Key    Key
	mac    []byte // of the last message
	isNext bool   // a message of this side was signed: further ones cover less, RFC 8945 section 5.3.1
	err    uint16 // an extended rcode that the first reply has
}

// IsSigned reports whether the last record of a message is a TSIG.
func IsSigned(b []byte) bool {
	_, ok := find(b)
	return ok
}

// find returns the TSIG record that is the last of a message.
func find(b []byte) (r dnswire.Record, ok bool) {
	if len(b) < dnswire.HeaderLen || binary.BigEndian.Uint16(b[10:]) == 0 {
		return r, false
	}
	at, ok := dnswire.SkipQuestions(b)
	for range dnswire.Count(b) {
		if !ok {
			return r, false
		}
		r, ok = dnswire.ReadRecord(b, at)
		at = r.End
	}
	return r, ok && r.Type == dns.TypeTSIG && r.End == len(b)
}

// Verify returns the session that a signed query begins, and the query without its signature. Where the signature is
// not good, err says why, and the session signs the reply that tells it, whose rcode is NOTAUTH. A nil session comes
// with a message that is not well-formed.
func Verify(b []byte, keys []Key, now time.Time) (s *Session, query []byte, err error) {
	r, ok := find(b)
	if !ok {
		return nil, nil, errors.New("no well-formed TSIG")
	}
	rr, _, err := dns.UnpackRR(b, r.Owner)
	if err != nil {
		return nil, nil, err
	}
	t := rr.(*dns.TSIG)
	query = slices.Clone(b[:r.Owner])
	binary.BigEndian.PutUint16(query[10:], binary.BigEndian.Uint16(b[10:])-1)
	name, algorithm := dns.CanonicalName(t.Hdr.Name), dns.CanonicalName(t.Algorithm)
	at := slices.IndexFunc(keys, func(k Key) bool { return k.Name == name && k.Algorithm == algorithm })
	if at < 0 {
		return &Session{Key: Key{Name: name, Algorithm: algorithm}, err: dns.RcodeBadKey}, query, dns.ErrSecret
	}
	s = &Session{Key: keys[at]}
	if len(t.MAC)/2 != s.Key.hash().Size() { // no shortened ones
		s.err = dns.RcodeBadSig
		return s, query, dns.ErrSig
	}
	err = s.Check(b, now)
	switch {
	case errors.Is(err, dns.ErrTime):
		s.err = dns.RcodeBadTime
	case err != nil:
		s.err = dns.RcodeBadSig
	}
	return s, query, err
}

// Check verifies a message that follows in the session: the first query, or the reply to a query that Sign signed.
func (s *Session) Check(b []byte, now time.Time) error {
	r, ok := find(b)
	if !ok {
		return dns.ErrNoSig
	}
	rr, _, err := dns.UnpackRR(b, r.Owner)
	if err != nil {
		return err
	}
	t := rr.(*dns.TSIG)
	if dns.CanonicalName(t.Hdr.Name) != s.Key.Name || dns.CanonicalName(t.Algorithm) != s.Key.Algorithm {
		return dns.ErrKey
	}
	message := slices.Clone(b[:r.Owner])
	binary.BigEndian.PutUint16(message[10:], binary.BigEndian.Uint16(b[10:])-1)
	binary.BigEndian.PutUint16(message, t.OrigId)
	other, _ := hex.DecodeString(t.OtherData) // no error: it was encoded here
	want := s.sum(message, variables(s.Key, t.TimeSigned, t.Fudge, t.Error, other))
	got, _ := hex.DecodeString(t.MAC)
	if !hmac.Equal(got, want) {
		return dns.ErrSig
	}
	s.mac = got
	if at := uint64(now.Unix()); at > t.TimeSigned+uint64(t.Fudge) || t.TimeSigned > at+uint64(t.Fudge) {
		return dns.ErrTime
	}
	return nil
}

// Sign appends the TSIG record to a message.
func (s *Session) Sign(b []byte, now time.Time) []byte {
	var other, mac []byte
	if s.err == dns.RcodeBadTime { // RFC 8945 section 5.2.3
		other = binary.BigEndian.AppendUint64(nil, uint64(now.Unix()))[2:]
	}
	signed := variables(s.Key, uint64(now.Unix()), fudge, s.err, other)
	if s.isNext {
		signed = timers(uint64(now.Unix()), fudge)
	}
	if s.err != dns.RcodeBadKey && s.err != dns.RcodeBadSig {
		mac = s.sum(b, signed)
	}
	id := binary.BigEndian.Uint16(b)
	binary.BigEndian.PutUint16(b[10:], binary.BigEndian.Uint16(b[10:])+1)
	b = append(b, wire(s.Key.Name)...)
	b = append(b, 0, byte(dns.TypeTSIG), 0, dns.ClassANY, 0, 0, 0, 0, 0, 0)
	data := len(b)
	b = append(b, wire(s.Key.Algorithm)...)
	b = append(b, timers(uint64(now.Unix()), fudge)...)
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(mac))), mac...)
	b = binary.BigEndian.AppendUint16(b, id)
	b = binary.BigEndian.AppendUint16(b, s.err)
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(other))), other...)
	binary.BigEndian.PutUint16(b[data-2:], uint16(len(b)-data))
	s.mac, s.isNext, s.err = mac, true, 0
	return b
}

// sum returns the signature of a message that follows the last one.
func (s *Session) sum(message, variables []byte) []byte {
	h := s.Key.hash()
	if s.mac != nil {
		_, _ = h.Write(binary.BigEndian.AppendUint16(nil, uint16(len(s.mac)))) // a hash takes all
		_, _ = h.Write(s.mac)
	}
	_, _ = h.Write(message)
	_, _ = h.Write(variables)
	return h.Sum(nil)
}

// hash returns what signs with the key.
func (k Key) hash() hash.Hash {
	secret, _ := base64.StdEncoding.DecodeString(k.Secret) // no error: it was parsed
	switch k.Algorithm {
	case dns.HmacSHA384:
		return hmac.New(sha512.New384, secret)
	case dns.HmacSHA512:
		return hmac.New(sha512.New, secret)
	}
	return hmac.New(sha256.New, secret)
}

// variables returns what a signature covers behind the message, RFC 8945 section 4.3.3.
func variables(k Key, signed uint64, fudge, err uint16, other []byte) []byte {
	b := append(wire(k.Name), 0, dns.ClassANY, 0, 0, 0, 0)
	b = append(append(b, wire(k.Algorithm)...), timers(signed, fudge)...)
	b = binary.BigEndian.AppendUint16(b, err)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(other))), other...)
}

// timers returns the time and the fudge of a signature.
func timers(signed uint64, fudge uint16) []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint64(nil, signed)[2:], fudge)
}

// wire returns a name as it is in a message.
func wire(name string) []byte {
	b := make([]byte, 255)
	end, _ := dns.PackDomainName(name, b, 0, nil, false) // no error: it was a name of a message, or parse read it
	return b[:end]
}
