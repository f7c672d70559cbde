//go:build !linux || !(amd64 || arm64 || 386 || arm || riscv64 || loong64)

package udpio

import (
	"net"
	"net/netip"
	"syscall"

	"github.com/rayje/dnsdock/internal/dnswire"
)

// SpreadsClients: of several sockets at one port one would get all packets.
const SpreadsClients = false

// ReusePort does nothing.
func ReusePort(_, _ string, _ syscall.RawConn) error { return nil }

const BatchSize = 1

// A Batch reads and sends UDP packets: one at a time, as x/net's ReadBatch
// does too outside of Linux.
type Batch struct {
	conn   *net.UDPConn
	buf    [dnswire.MaxQuery]byte
	out    [dnswire.MaxUDPSize]byte
	oob    []byte
	size   int // octets of the packet in buf
	oobLen int // and of its control message
	addr   netip.AddrPort
}

// NewBatch returns a batch for conn that reads control messages of oobSize octets.
func NewBatch(conn *net.UDPConn, oobSize int) *Batch {
	return &Batch{conn: conn, oob: make([]byte, oobSize)}
}

// Read waits for packets and returns how many there are. They stay until the
// next read.
func (b *Batch) Read() (n int, err error) {
	b.size, b.oobLen, _, b.addr, err = b.conn.ReadMsgUDPAddrPort(b.buf[:], b.oob)
	return 1, err
}

// Packet returns the packet of that number.
func (b *Batch) Packet(int) []byte { return b.buf[:b.size] }

// From returns where a packet is from.
func (b *Batch) From(int) netip.AddrPort {
	return netip.AddrPortFrom(b.addr.Addr().Unmap().WithZone(""), b.addr.Port())
}

// Peer returns the two ends of a packet.
func (b *Batch) Peer(int) Peer { return NewPeer(b.addr, b.oob[:b.oobLen]) }

// Space returns where the next reply may be written, with no octet in it.
func (b *Batch) Space() []byte { return b.out[:0] }

// Send sends a reply to a packet. What can't be sent is lost, as any packet may be.
func (b *Batch) Send(_ int, reply []byte) {
	_, _ = WriteTo(b.conn, reply, b.Peer(0))
}

// Flush sends what is queued: nothing is.
func (b *Batch) Flush() {}
