// Package publish maps a container to what it publishes: addresses and other
// records under owner names. All of it is pure: no locks, no I/O, no Docker JSON.
package publish

// A Kind is what a service has, as bits.
type Kind uint16

const (
	HasA       Kind = 1 << iota // IPv4 addresses
	HasAAAA                     // IPv6 addresses
	HasTXT                      // TXT records
	HasPorts                    // SRV records
	HasDefault                  // the default TTL
	HasData                     // no CNAME
	HasCNAME                    // and none of the above
	IsWell                      // data, and its health check does not fail
	IsSick                      // data, and its health check fails
	Varies                      // addresses that depend on the network of the client
	HasHost                     // the host's address, which depends on the address that the client asked
)
