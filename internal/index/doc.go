// Package index finds services by name and by address, and chooses the addresses that a client gets.
package index
