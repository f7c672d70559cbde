package engine

import (
	"errors"
	"fmt"
)

// ErrSocketDeleted says that a connection failed because the socket's path leads to a
// deleted file, and always will: a container that mounts the socket as a file
// has the deleted one after the engine made another at its restart.
var ErrSocketDeleted = errors.New("the socket was deleted, and its mount can't show a new one: " +
	"restart dnsdock; mount the directory of the socket, not the socket, to be spared that")

// explainDial adds ErrSocketDeleted to an error of a connection to u, if that is so.
func (u URL) explainDial(err error) error {
	if err != nil && u.Network == "unix" && isDeleted(u.Addr) {
		return fmt.Errorf("%w: %w", ErrSocketDeleted, err)
	}
	return err
}
