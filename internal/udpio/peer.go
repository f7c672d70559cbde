package udpio

import (
	"net"
	"net/netip"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// Sizes of the packets of a Batch.
const (
	MaxIn  = 4096 // bytes of a packet that are read; the rest is cut off
	MaxOut = 1232 // bytes of a packet that is sent
)

// A Peer is the net.Addr of a packet: the far end, and the address of ours that
// it was sent to.
type Peer struct {
	netip.AddrPort
	Local netip.Addr // not valid if the socket has one address only, or the system does not say
	index int        // of the interface of Local if that is link-local; otherwise 0
}

// Network implements net.Addr.
func (Peer) Network() string { return "udp" }

// WantDestinations has the system say to which of our addresses packets are
// sent, if there may be several. It returns how many bytes of control messages
// that takes.
func WantDestinations(conn *net.UDPConn) (controlSize int) {
	if a := conn.LocalAddr().(*net.UDPAddr); !a.IP.IsUnspecified() {
		return 0
	}
	err6 := ipv6.NewPacketConn(conn).SetControlMessage(ipv6.FlagDst|ipv6.FlagInterface, true)
	err4 := ipv4.NewPacketConn(conn).SetControlMessage(ipv4.FlagDst|ipv4.FlagInterface, true)
	if err6 != nil && err4 != nil { // either fails on a socket of the other family
		return 0
	}
	size6 := len(ipv6.NewControlMessage(ipv6.FlagDst | ipv6.FlagInterface))
	return max(size6, len(ipv4.NewControlMessage(ipv4.FlagDst|ipv4.FlagInterface)))
}

// newPeer returns the ends of a packet that came with a control message.
func newPeer(from netip.AddrPort, control []byte) Peer {
	p := Peer{AddrPort: from}
	var dst net.IP
	var cm6 ipv6.ControlMessage
	var cm4 ipv4.ControlMessage
	if cm6.Parse(control) == nil && cm6.Dst != nil {
		dst, p.index = cm6.Dst, cm6.IfIndex
	} else if cm4.Parse(control) == nil {
		dst = cm4.Dst
	}
	a, _ := netip.AddrFromSlice(dst)
	p.Local = a.Unmap()
	if !isLinkLocal6(p.Local) {
		p.index = 0 // the system chooses the way back
	}
	return p
}

func isLinkLocal6(a netip.Addr) bool { return a.Is6() && a.IsLinkLocalUnicast() }

// WriteTo sends b to the far end, from the address that its packet came to.
func WriteTo(conn *net.UDPConn, b []byte, to Peer) (int, error) {
	var control []byte
	switch {
	case !to.Local.IsValid():
	case to.Local.Is4():
		control = (&ipv4.ControlMessage{Src: to.Local.AsSlice()}).Marshal()
	default:
		control = (&ipv6.ControlMessage{Src: to.Local.AsSlice(), IfIndex: to.index}).Marshal()
	}
	n, _, err := conn.WriteMsgUDPAddrPort(b, control, to.AddrPort)
	return n, err
}

// AddrOf returns the address of a socket's end, without port and zone. It is not
// valid if the end has none.
func AddrOf(a net.Addr) netip.Addr {
	var p netip.AddrPort
	switch a := a.(type) {
	case Peer:
		p = a.AddrPort
	case interface{ AddrPort() netip.AddrPort }: // of package net
		p = a.AddrPort()
	}
	if p.Addr().IsUnspecified() {
		return netip.Addr{}
	}
	return p.Addr().Unmap().WithZone("")
}
