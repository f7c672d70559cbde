//go:build !linux || !(amd64 || arm64 || 386 || arm || riscv64 || loong64)

package main

import (
	"github.com/rayje/dnsdock/internal/dnscache"
	"github.com/rayje/dnsdock/internal/dnswire"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// spreadsClients: of several sockets at one port one would get all packets.
const spreadsClients = false

// reusePort does nothing.
func reusePort(_, _ string, _ syscall.RawConn) error { return nil }

const batchSize = 1

// A batch reads and sends UDP packets: one at a time, as x/net's ReadBatch
// does too outside of Linux.
type batch struct {
	conn   *net.UDPConn
	buf    [dnswire.MaxQuery]byte
	out    [dnswire.MaxUDPSize]byte
	oob    []byte
	size   int // octets of the packet in buf
	oobLen int // and of its control message
	addr   netip.AddrPort
}

// newBatch returns a batch for conn that reads control messages of oobSize octets.
func newBatch(conn *net.UDPConn, oobSize int) *batch {
	return &batch{conn: conn, oob: make([]byte, oobSize)}
}

// read waits for packets and returns how many there are. They stay until the
// next read.
func (b *batch) read() (n int, err error) {
	b.size, b.oobLen, _, b.addr, err = b.conn.ReadMsgUDPAddrPort(b.buf[:], b.oob)
	return 1, err
}

// packet returns the packet of that number.
func (b *batch) packet(int) []byte { return b.buf[:b.size] }

// from returns where a packet is from.
func (b *batch) from(int) netip.AddrPort {
	return netip.AddrPortFrom(b.addr.Addr().Unmap().WithZone(""), b.addr.Port())
}

// peer returns the two ends of a packet.
func (b *batch) peer(int) peer { return newPeer(b.addr, b.oob[:b.oobLen]) }

// space returns where the next reply may be written, with no octet in it.
func (b *batch) space() []byte { return b.out[:0] }

// send sends a reply to a packet. What can't be sent is lost, as any packet may be.
func (b *batch) send(_ int, reply []byte) {
	_, _ = (&packetConn{UDPConn: b.conn}).WriteTo(reply, b.peer(0))
}

// There are no bursts here: the zone has upstreams asked.
type (
	burst struct {
		upstream *upstream
		client   *waitingClient
		begun    time.Time
	}
	waitingClient struct{ addr netip.Addr }
	asked         struct{}
)

func (*packetConn) ask(int) bool                       { return false }
func (p *packetConn) flush()                           { p.batch.flush() }
func (*waitingClient) tell(*dnscache.Response, *batch) {}
func (*flight) land([]byte, *batch)                    {}
func (*flight) fall(error)                             {}
func (s *socket) readBursts()                          { s.read() }

// flush sends what is queued: nothing is.
func (b *batch) flush() {}
