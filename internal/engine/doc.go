// Package engine says where a Docker Engine listens and how TLS to it is set up.
package engine
