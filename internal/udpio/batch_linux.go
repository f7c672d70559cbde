//go:build amd64 || arm64 || 386 || arm || riscv64 || loong64

// Package udpio reads and writes UDP packets in batches, from and to the addresses
// that they were sent to. All that is unsafe or of one system only is here. It
// knows nothing of DNS.
package udpio

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"github.com/rayje/dnsdock/internal/dnswire"
)

// A FarEnd is where a client's reply goes, in the words of the system.
type FarEnd struct {
	Name    syscall.RawSockaddrInet6
	size    uint32
	Control []byte
}

// SendOn queues a message, which begins where space is, to be sent on a
// socket; to is nil if that is connected.
func (b *Batch) SendOn(conn syscall.RawConn, message []byte, to *FarEnd) {
	if b.Conn != conn && b.queued > 0 {
		last := bytes.Clone(message) // its place is taken anew
		b.Flush()
		message = append(b.Space(), last...)
	}
	b.Conn = conn
	b.outVecs[b.queued].Base = &message[0]
	b.outVecs[b.queued].SetLen(len(message))
	out := &b.out[b.queued]
	out.Name, out.Namelen, out.Control = nil, 0, nil
	out.SetControllen(0)
	if to != nil {
		out.Name, out.Namelen = (*byte)(unsafe.Pointer(&to.Name)), to.size
		if len(to.Control) > 0 {
			out.Control = &to.Control[0]
			out.SetControllen(len(to.Control))
		}
	}
	if b.queued++; b.queued == BatchSize {
		b.Flush()
	}
}

// FarEnd returns where the reply to a packet goes.
func (b *Batch) FarEnd(i int) FarEnd {
	b.clearInterface(i)
	return FarEnd{b.froms[i], b.in[i].Namelen, bytes.Clone(b.control(i))}
}

const (
	BatchSize = 32  // packets by one system call: more gain nothing
	oobSpace  = 128 // octets for control messages; 40 are needed
)

// SpreadsClients: the system spreads clients over the sockets of one port.
const SpreadsClients = true

// ReusePort lets several sockets have one port, socket(7).
func ReusePort(_, _ string, raw syscall.RawConn) (err error) {
	const soReusePort = 15 // which package syscall has not for all processors
	if e := raw.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, soReusePort, 1) }); e != nil {
		return e
	}
	return err
}

// A Batch reads and sends UDP packets, up to batchSize by one system call, of
// the memory that it has from the start: recvmmsg(2) and sendmmsg(2).
//
// x/net has the same as ReadBatch and WriteBatch. This one allocates nothing
// for a packet, and calls the system by RawSyscall6, which does not tell the
// scheduler: the socket is non-blocking, so a call takes microseconds, and a
// scheduler that is told hands the processor on and has to get it back.
//
// All that is unsafe is here: the kernel is given addresses of what is inside
// of the batch, which is on the heap, where nothing moves, for as long as a
// call takes.
type Batch struct {
	Conn     syscall.RawConn
	in, out  [BatchSize]message
	inVecs   [BatchSize]syscall.Iovec
	outVecs  [BatchSize]syscall.Iovec
	froms    [BatchSize]syscall.RawSockaddrInet6 // or a RawSockaddrInet4, as its family says
	packets  [BatchSize][dnswire.MaxQuery]byte
	replies  [BatchSize][dnswire.MaxUDPSize]byte
	oobs     [BatchSize][oobSpace]byte
	oobSize  int
	Got      int           // packets of the last read
	queued   int           // replies
	sent     int           // of which are sent
	Errno    syscall.Errno // of the last system call
	Recvmmsg func(fd uintptr) (done bool)
	sendmmsg func(fd uintptr) (done bool)
}

// A message is struct mmsghdr.
type message struct {
	syscall.Msghdr
	size uint32 // octets that were received
}

// NewBatch returns a batch for conn that reads control messages of oobSize octets.
func NewBatch(conn *net.UDPConn, oobSize int) *Batch {
	raw, _ := conn.SyscallConn() // fails only for a conn that is nil
	b := &Batch{Conn: raw, oobSize: oobSize, Got: BatchSize}
	for i := range BatchSize {
		b.inVecs[i].Base = &b.packets[i][0]
		b.inVecs[i].SetLen(dnswire.MaxQuery)
		in, out := &b.in[i], &b.out[i]
		in.Iov, in.Iovlen, in.Name = &b.inVecs[i], 1, (*byte)(unsafe.Pointer(&b.froms[i]))
		out.Iov, out.Iovlen = &b.outVecs[i], 1
		if oobSize > 0 {
			in.Control = &b.oobs[i][0]
		}
	}
	b.Recvmmsg = func(fd uintptr) bool {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&b.in[0])), BatchSize, syscall.MSG_DONTWAIT, 0, 0)
		b.Got, b.Errno = int(n), errno
		return errno != syscall.EAGAIN
	}
	b.sendmmsg = func(fd uintptr) bool {
		n, _, errno := syscall.RawSyscall6(sysSendmmsg(), fd, uintptr(unsafe.Pointer(&b.out[b.sent])), uintptr(b.queued-b.sent), syscall.MSG_DONTWAIT, 0, 0)
		if b.Errno = errno; errno == 0 {
			b.sent += int(n)
		}
		return errno != syscall.EAGAIN
	}
	return b
}

// sysSendmmsg is the number of a system call that package syscall has not for
// all processors.
func sysSendmmsg() uintptr {
	switch runtime.GOARCH {
	case "amd64":
		return 307
	case "386":
		return 345
	case "arm":
		return 374
	}
	return 269 // arm64, riscv64, loong64
}

// Read waits for packets and returns how many there are. They stay until the
// next read.
func (b *Batch) Read() (int, error) {
	for {
		b.Reset()
		if err := b.Conn.Read(b.Recvmmsg); err != nil {
			return 0, err
		}
		switch b.Errno {
		case 0:
			return b.Got, nil
		case syscall.EINTR:
			b.Got = 0
		default:
			b.Got = BatchSize
			return 0, os.NewSyscallError("recvmmsg", b.Errno)
		}
	}
}

// Reset sets again what the kernel has written.
func (b *Batch) Reset() {
	for i := range max(b.Got, 1) {
		in := &b.in[i]
		in.Namelen = syscall.SizeofSockaddrInet6
		in.SetControllen(b.oobSize)
	}
	b.Got = BatchSize
}

// Packet returns the packet of that number.
func (b *Batch) Packet(i int) []byte { return b.packets[i][:b.in[i].size] }

// From returns where a packet is from.
func (b *Batch) From(i int) netip.AddrPort { return AddrPort(&b.froms[i]) }

func AddrPort(sa *syscall.RawSockaddrInet6) netip.AddrPort {
	if sa.Family == syscall.AF_INET {
		sa := (*syscall.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), bigEndian(sa.Port))
	}
	return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), bigEndian(sa.Port))
}

// bigEndian reads a port, which is in network byte order.
func bigEndian(port uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], port)
	return binary.BigEndian.Uint16(b[:])
}

// Peer returns the two ends of a packet.
func (b *Batch) Peer(i int) Peer {
	from := b.From(i)
	if scope := b.froms[i].Scope_id; scope != 0 && from.Addr().Is6() {
		from = netip.AddrPortFrom(from.Addr().WithZone(strconv.Itoa(int(scope))), from.Port())
	}
	return NewPeer(from, b.control(i))
}

// Control returns the control message of a packet.
func (b *Batch) control(i int) []byte { return b.oobs[i][:min(uint64(b.in[i].Controllen), oobSpace)] }

// Space returns where the next reply may be written, with no octet in it.
func (b *Batch) Space() []byte { return b.replies[b.queued][:0] }

// Send queues a reply, which begins where space is, to a packet. It goes back
// by the control message that the packet came with.
func (b *Batch) Send(i int, reply []byte) {
	in, out := &b.in[i], &b.out[b.queued]
	b.outVecs[b.queued].Base = &reply[0]
	b.outVecs[b.queued].SetLen(len(reply))
	out.Name, out.Namelen = in.Name, in.Namelen
	if b.oobSize > 0 {
		b.clearInterface(i)
		out.Control, out.Controllen = in.Control, in.Controllen
	}
	b.queued++
}

// clearInterface lets the system choose the way of what is sent by the control
// message of a packet: the index of the interface in in_pktinfo and
// in6_pktinfo, ip(7) and ipv6(7), is 0 but for link-local addresses.
func (b *Batch) clearInterface(i int) {
	control := b.control(i)
	for len(control) >= syscall.SizeofCmsghdr {
		h := (*syscall.Cmsghdr)(unsafe.Pointer(&control[0]))
		size := int(h.Len)
		if size < syscall.SizeofCmsghdr || size > len(control) {
			return
		}
		data := control[syscall.SizeofCmsghdr:size]
		switch {
		case h.Level == syscall.IPPROTO_IP && h.Type == syscall.IP_PKTINFO && len(data) >= syscall.SizeofInet4Pktinfo:
			clear(data[:4])
		case h.Level == syscall.IPPROTO_IPV6 && h.Type == syscall.IPV6_PKTINFO && len(data) >= syscall.SizeofInet6Pktinfo && !isLinkLocal6(netip.AddrFrom16([16]byte(data))):
			clear(data[16:20])
		}
		control = control[min(len(control), syscall.CmsgSpace(len(data))):]
	}
}

// Flush sends what is queued. What can't be sent is lost, as any packet may be.
func (b *Batch) Flush() {
	for b.sent < b.queued {
		if err := b.Conn.Write(b.sendmmsg); err != nil {
			break // the socket is closed
		}
		if b.Errno != 0 && b.Errno != syscall.EINTR {
			b.sent++ // the first that was left
		}
	}
	b.sent, b.queued = 0, 0
}
