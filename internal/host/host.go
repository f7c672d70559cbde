package host

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
)

// HasAddr reports whether a is an address of this machine.
func HasAddr(a netip.Addr) bool {
	return a.IsLoopback() || slices.ContainsFunc(Addrs(a.Zone()), func(p netip.Prefix) bool {
		return p.Addr() == a.WithZone("")
	})
}

// Addrs returns the addresses of this machine with their subnets. With a zone
// (the name or the number of an interface) it returns those of that interface.
// It returns none where the system refuses to list them.
func Addrs(zone string) (addrs []netip.Prefix) {
	var list []net.Addr
	if zone == "" {
		list, _ = net.InterfaceAddrs()
	} else if ifi, err := byZone(zone); err == nil {
		list, _ = ifi.Addrs()
	}
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			addrs = append(addrs, p)
		}
	}
	return addrs
}

func byZone(zone string) (*net.Interface, error) {
	if index, err := strconv.Atoi(zone); err == nil {
		return net.InterfaceByIndex(index)
	}
	return net.InterfaceByName(zone)
}

// ErrNotRegular is the error of ReadFile for a directory, a FIFO or a device.
var ErrNotRegular = errors.New("not a regular file")

// ReadFile reads path if it is a regular file of at most limit bytes: a FIFO
// or a device could block for ever or fill the memory.
func ReadFile(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s: %w", path, ErrNotRegular)
	case info.Size() > limit:
		return nil, fmt.Errorf("%s has over %d bytes", path, limit)
	}
	return os.ReadFile(path)
}
