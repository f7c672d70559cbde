// Package engine says where a Docker Engine listens, how TLS to it is set up, and how it is.
package engine
