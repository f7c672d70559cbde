// Package listener opens the sockets of all servers, and says what to do where
// one can't be opened.
package listener
