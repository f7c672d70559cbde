package dnstest

import (
	"net"
	"net/netip"
	"sync"
)

// A PipeListener is a net.Listener whose connections are pipes, so that synctest can simulate their time.
type PipeListener struct {
	conns chan net.Conn
	done  chan struct{} // closed by Close
	once  sync.Once
}

// NewPipeListener returns a listener that looks like one for TCP.
func NewPipeListener() *PipeListener {
	return &PipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

// Accept implements net.Listener.
func (l *PipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *PipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr implements net.Listener.
func (l *PipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// Dial connects from loopback. It returns once the connection is accepted.
func (l *PipeListener) Dial() net.Conn { return l.DialFrom(netip.MustParseAddr("127.0.0.1")) }

// DialFrom connects from a client with the given address.
func (l *PipeListener) DialFrom(client netip.Addr) net.Conn {
	server, far := net.Pipe()
	l.conns <- tcpPipe{server, client}
	return far
}

// A tcpPipe is a pipe with the addresses of a TCP connection.
type tcpPipe struct {
	net.Conn
	client netip.Addr
}

// RemoteAddr implements net.Conn.
func (p tcpPipe) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(p.client, 9))
}

// LocalAddr implements net.Conn.
func (tcpPipe) LocalAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 53} }
