package udpio

import (
	"net"
	"net/netip"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// A Peer is the net.Addr of a packetConn's packets: the far end, and the
// address of ours that they talk to.
type Peer struct {
	netip.AddrPort
	Local netip.Addr // not valid where the socket has but one, or the system does not tell
	index int        // of the interface, if local is link-local: it says nothing without
}

// Network implements net.Addr.
func (Peer) Network() string { return "udp" }

// WantDestinations has the system tell to which of our addresses packets are
// sent, where there may be several, and returns how many octets that takes.
func WantDestinations(conn *net.UDPConn) (oobSize int) {
	if a := conn.LocalAddr().(*net.UDPAddr); !a.IP.IsUnspecified() {
		return 0
	}
	err6 := ipv6.NewPacketConn(conn).SetControlMessage(ipv6.FlagDst|ipv6.FlagInterface, true)
	err4 := ipv4.NewPacketConn(conn).SetControlMessage(ipv4.FlagDst|ipv4.FlagInterface, true)
	if err6 != nil && err4 != nil { // either fails on a socket of the other family
		return 0
	}
	return max(len(ipv6.NewControlMessage(ipv6.FlagDst|ipv6.FlagInterface)), len(ipv4.NewControlMessage(ipv4.FlagDst|ipv4.FlagInterface)))
}

// NewPeer reads a control message.
func NewPeer(from netip.AddrPort, oob []byte) Peer {
	p := Peer{AddrPort: from}
	var dst net.IP
	var cm6 ipv6.ControlMessage
	var cm4 ipv4.ControlMessage
	if cm6.Parse(oob) == nil && cm6.Dst != nil {
		dst, p.index = cm6.Dst, cm6.IfIndex
	} else if cm4.Parse(oob) == nil {
		dst = cm4.Dst
	}
	a, _ := netip.AddrFromSlice(dst)
	p.Local = a.Unmap()
	if !isLinkLocal6(p.Local) {
		p.index = 0 // the way back is the system's to choose
	}
	return p
}

func isLinkLocal6(a netip.Addr) bool { return a.Is6() && a.IsLinkLocalUnicast() }

// WriteTo sends b to the far end, from the address that it talks to.
func WriteTo(conn *net.UDPConn, b []byte, to Peer) (int, error) {
	var oob []byte
	switch {
	case !to.Local.IsValid():
	case to.Local.Is4():
		oob = (&ipv4.ControlMessage{Src: to.Local.AsSlice()}).Marshal()
	default:
		oob = (&ipv6.ControlMessage{Src: to.Local.AsSlice(), IfIndex: to.index}).Marshal()
	}
	n, _, err := conn.WriteMsgUDPAddrPort(b, oob, to.AddrPort)
	return n, err
}

// AddrOf is the address of a socket's end, without port and zone; not valid
// where it has none.
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
