//go:build amd64 || arm64 || 386 || arm || riscv64 || loong64

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
)

const (
	BatchSize    = 32  // packets by one system call: more of them gain nothing
	controlSpace = 128 // bytes for control messages; 40 are needed
)

// SpreadsClients says that the system spreads clients over the sockets of one
// port.
const SpreadsClients = true

// ReusePort lets several sockets have one port, see socket(7).
func ReusePort(_, _ string, raw syscall.RawConn) (err error) {
	const soReusePort = 15 // package syscall does not have it for all processors
	e := raw.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, soReusePort, 1)
	})
	if e != nil {
		return e
	}
	return err
}

// A Batch reads and sends up to BatchSize UDP packets by one system call, with
// memory that it has from the start: recvmmsg(2) and sendmmsg(2).
//
// ReadBatch and WriteBatch of x/net do the same. A Batch allocates nothing for a
// packet, and makes system calls by RawSyscall6, which does not tell the
// scheduler: the socket does not block, so a call takes microseconds. A scheduler
// that is told gives the processor to another thread and has to get it back.
//
// All unsafe code is here. The kernel gets addresses of parts of the Batch, which
// is on the heap, where nothing moves during a call.
type Batch struct {
	conn     syscall.RawConn
	in       incoming
	out      outgoing
	errno    syscall.Errno                // of the last system call
	tryRead  func(fd uintptr) (done bool) // TryRead; a method value would be allocated for each call
	sendmmsg func(fd uintptr) (done bool)
}

// incoming are the packets of the last read.
type incoming struct {
	messages    [BatchSize]message
	vectors     [BatchSize]syscall.Iovec
	froms       [BatchSize]syscall.RawSockaddrInet6 // or RawSockaddrInet4, as the family says
	packets     [BatchSize][MaxIn]byte
	controls    [BatchSize][controlSpace]byte
	controlSize int // bytes of a control message that are read
	count       int // packets of the last read
}

// outgoing are the packets that are queued.
type outgoing struct {
	messages [BatchSize]message
	vectors  [BatchSize]syscall.Iovec
	packets  [BatchSize][MaxOut]byte
	queued   int
	sent     int // the first packets of those queued
}

// A message is struct mmsghdr.
type message struct {
	syscall.Msghdr
	size uint32 // bytes that were received
}

// NewBatch returns a batch for conn that reads control messages of controlSize
// bytes.
func NewBatch(conn *net.UDPConn, controlSize int) *Batch {
	raw, _ := conn.SyscallConn() // fails only for a conn that is nil
	b := &Batch{conn: raw}
	b.tryRead = b.TryRead
	in, out := &b.in, &b.out
	in.controlSize, in.count = controlSize, BatchSize
	for i := range BatchSize {
		in.vectors[i].Base = &in.packets[i][0]
		in.vectors[i].SetLen(MaxIn)
		m := &in.messages[i]
		m.Iov, m.Iovlen, m.Name = &in.vectors[i], 1, (*byte)(unsafe.Pointer(&in.froms[i]))
		if controlSize > 0 {
			m.Control = &in.controls[i][0]
		}
		out.messages[i].Iov, out.messages[i].Iovlen = &out.vectors[i], 1
	}
	b.sendmmsg = func(fd uintptr) bool {
		first, count := unsafe.Pointer(&out.messages[out.sent]), uintptr(out.queued-out.sent)
		n, _, errno := syscall.RawSyscall6(sysSendmmsg(), fd, uintptr(first), count, syscall.MSG_DONTWAIT, 0, 0)
		if b.errno = errno; errno == 0 {
			out.sent += int(n)
		}
		return errno != syscall.EAGAIN
	}
	return b
}

// sysSendmmsg returns the number of a system call that package syscall does not
// have for all processors.
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

// Conn returns the socket of the batch.
func (b *Batch) Conn() syscall.RawConn { return b.conn }

// Read waits for packets and returns how many there are. They stay until the
// next read.
func (b *Batch) Read() (int, error) {
	for {
		if err := b.conn.Read(b.tryRead); err != nil {
			return 0, err
		}
		if b.errno != syscall.EINTR {
			return b.Received()
		}
	}
}

// TryRead reads packets of a socket without waiting, and reports whether there
// were any, or an error. It is for RawConn.Read.
func (b *Batch) TryRead(fd uintptr) bool {
	in := &b.in
	for i := range max(in.count, 1) { // the kernel has changed them
		in.messages[i].Namelen = syscall.SizeofSockaddrInet6
		in.messages[i].SetControllen(in.controlSize)
	}
	first := unsafe.Pointer(&in.messages[0])
	n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVMMSG, fd, uintptr(first), BatchSize, syscall.MSG_DONTWAIT, 0, 0)
	if b.errno = errno; errno == 0 {
		in.count = int(n)
	} else {
		in.count = 0
	}
	return errno != syscall.EAGAIN
}

// Received returns how many packets TryRead read, or its error.
func (b *Batch) Received() (int, error) {
	if b.errno != 0 {
		return 0, os.NewSyscallError("recvmmsg", b.errno)
	}
	return b.in.count, nil
}

// Packet returns packet i of the last read.
func (b *Batch) Packet(i int) []byte { return b.in.packets[i][:b.in.messages[i].size] }

// From returns where packet i is from.
func (b *Batch) From(i int) netip.AddrPort { return addrPort(&b.in.froms[i]) }

func addrPort(sa *syscall.RawSockaddrInet6) netip.AddrPort {
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

// Peer returns the two ends of packet i.
func (b *Batch) Peer(i int) Peer {
	from := b.From(i)
	if scope := b.in.froms[i].Scope_id; scope != 0 && from.Addr().Is6() {
		from = netip.AddrPortFrom(from.Addr().WithZone(strconv.Itoa(int(scope))), from.Port())
	}
	return newPeer(from, b.control(i))
}

// control returns the control message of packet i.
func (b *Batch) control(i int) []byte {
	return b.in.controls[i][:min(uint64(b.in.messages[i].Controllen), controlSpace)]
}

// Space returns the memory for the next packet, with no byte in it.
func (b *Batch) Space() []byte { return b.out.packets[b.out.queued][:0] }

// Send queues a reply to packet i. It must begin where Space does. It leaves by
// the control message that the packet came with.
func (b *Batch) Send(i int, reply []byte) {
	in, out := &b.in.messages[i], b.queue(reply)
	out.Name, out.Namelen = in.Name, in.Namelen
	if b.in.controlSize > 0 {
		b.clearInterface(i)
		out.Control, out.Controllen = in.Control, in.Controllen
	}
	b.out.queued++
}

// queue returns the next message to send, which has b as its packet.
func (b *Batch) queue(packet []byte) *message {
	v := &b.out.vectors[b.out.queued]
	v.Base = &packet[0]
	v.SetLen(len(packet))
	return &b.out.messages[b.out.queued]
}

// A FarEnd is where the reply to a packet goes, in the words of the system.
type FarEnd struct {
	name    syscall.RawSockaddrInet6
	size    uint32 // bytes of name
	control []byte // message that the packet came with
}

// FarEnd returns where the reply to packet i goes.
func (b *Batch) FarEnd(i int) FarEnd {
	b.clearInterface(i)
	return FarEnd{b.in.froms[i], b.in.messages[i].Namelen, bytes.Clone(b.control(i))}
}

// Peer returns the two ends of the packet.
func (f *FarEnd) Peer() Peer { return newPeer(addrPort(&f.name), f.control) }

// SendOn queues a packet, which must begin where Space does, to be sent on a
// socket. If to is nil the socket is connected.
func (b *Batch) SendOn(conn syscall.RawConn, packet []byte, to *FarEnd) {
	if b.conn != conn && b.out.queued > 0 {
		last := bytes.Clone(packet) // Flush frees its memory
		b.Flush()
		packet = append(b.Space(), last...)
	}
	b.conn = conn
	out := b.queue(packet)
	out.Name, out.Namelen, out.Control = nil, 0, nil
	out.SetControllen(0)
	if to != nil {
		out.Name, out.Namelen = (*byte)(unsafe.Pointer(&to.name)), to.size
		if len(to.control) > 0 {
			out.Control = &to.control[0]
			out.SetControllen(len(to.control))
		}
	}
	if b.out.queued++; b.out.queued == BatchSize {
		b.Flush()
	}
}

// clearInterface sets the interface in the control message of packet i to 0, so
// that the system chooses the way of the reply: in_pktinfo and in6_pktinfo, see
// ip(7) and ipv6(7). A link-local address needs the interface.
func (b *Batch) clearInterface(i int) {
	control := b.control(i)
	for len(control) >= syscall.SizeofCmsghdr {
		h := (*syscall.Cmsghdr)(unsafe.Pointer(&control[0]))
		size := int(h.Len)
		if size < syscall.SizeofCmsghdr || size > len(control) {
			return
		}
		data := control[syscall.SizeofCmsghdr:size]
		is4 := h.Level == syscall.IPPROTO_IP && h.Type == syscall.IP_PKTINFO
		is6 := h.Level == syscall.IPPROTO_IPV6 && h.Type == syscall.IPV6_PKTINFO
		switch {
		case is4 && len(data) >= syscall.SizeofInet4Pktinfo:
			clear(data[:4])
		case is6 && len(data) >= syscall.SizeofInet6Pktinfo && !isLinkLocal6(netip.AddrFrom16([16]byte(data))):
			clear(data[16:20])
		}
		control = control[min(len(control), syscall.CmsgSpace(len(data))):]
	}
}

// Flush sends what is queued. A packet that can't be sent is lost, as any packet
// may be.
func (b *Batch) Flush() {
	for b.out.sent < b.out.queued {
		if err := b.conn.Write(b.sendmmsg); err != nil {
			break // the socket is closed
		}
		if b.errno != 0 && b.errno != syscall.EINTR {
			b.out.sent++ // the packet that failed
		}
	}
	b.out.sent, b.out.queued = 0, 0
}
