// Package tsig signs and verifies messages with secret keys, RFC 8945.
package tsig
