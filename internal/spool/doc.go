// Package spool writes the log in the background, so that no one who logs waits for whoever reads it.
package spool
