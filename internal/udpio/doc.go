// Package udpio reads and sends UDP packets in batches, each from the address that it was sent to, with all code that
// is unsafe or for one system only.
package udpio
