// Package host answers questions about the machine: which addresses it has,
// and what the small files that a user named hold.
package host
