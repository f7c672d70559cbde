//go:build !linux || !(amd64 || arm64 || 386 || arm || riscv64 || loong64)

package udpio

import (
	"net"
	"net/netip"
	"syscall"
)

// SpreadsClients says that of several sockets at one port one gets all packets.
const SpreadsClients = false

// ReusePort does nothing.
func ReusePort(_, _ string, _ syscall.RawConn) error { return nil }

const BatchSize = 1 // packet by one system call

// A Batch reads and sends UDP packets one at a time, as x/net's ReadBatch does
// too outside of Linux.
type Batch struct {
	conn        *net.UDPConn
	in          [MaxIn]byte
	out         [MaxOut]byte
	control     []byte
	size        int // bytes of the packet in in
	controlSize int // bytes of its control message
	from        netip.AddrPort
}

// NewBatch returns a batch for conn that reads control messages of controlSize
// bytes.
func NewBatch(conn *net.UDPConn, controlSize int) *Batch {
	return &Batch{conn: conn, control: make([]byte, controlSize)}
}

// Read waits for packets and returns how many there are. They stay until the
// next read.
func (b *Batch) Read() (n int, err error) {
	b.size, b.controlSize, _, b.from, err = b.conn.ReadMsgUDPAddrPort(b.in[:], b.control)
	return 1, err
}

// Packet returns the packet of the last read.
func (b *Batch) Packet(int) []byte { return b.in[:b.size] }

// From returns where the packet is from.
func (b *Batch) From(int) netip.AddrPort {
	return netip.AddrPortFrom(b.from.Addr().Unmap().WithZone(""), b.from.Port())
}

// Peer returns the two ends of the packet.
func (b *Batch) Peer(int) Peer { return newPeer(b.from, b.control[:b.controlSize]) }

// Space returns the memory for the next packet, with no byte in it.
func (b *Batch) Space() []byte { return b.out[:0] }

// Send sends a reply to the packet. If it can't be sent it is lost, as any packet
// may be.
func (b *Batch) Send(_ int, reply []byte) {
	_, _ = WriteTo(b.conn, reply, b.Peer(0))
}

// Flush does nothing, because Send has sent everything.
func (b *Batch) Flush() {}
