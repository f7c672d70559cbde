package listener

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/rayje/dnsdock/internal/stats"
	"github.com/rayje/dnsdock/internal/udpio"
)

// unixScheme precedes the path of a socket in the file system.
const unixScheme = "unix://"

// readBuffer is how many bytes of queries wait in a socket for DNS while the program
// is restarted. The system allows less, on Linux twice what it is by itself.
const readBuffer = 1 << 20

// A Set holds all sockets that the program listens on. Each server closes its own.
type Set struct {
	UDP  []*net.UDPConn
	TCP  []net.Listener
	HTTP net.Listener // nil: no HTTP

	// ByName holds all of them, but for a socket in the file system, by a name that stands
	// for their address: what Open takes.
	ByName map[string][]syscall.Conn
}

// Open opens the sockets for DNS on each address of dns, and the one for HTTP
// unless http is empty. If one of them can't be opened, it closes the others.
// Its errors name the flag and say what to write instead. Of kept, which are open
// already, by name as in Set.ByName, it uses those that fit, and removes them.
func Open(kept map[string][]*os.File, dns []string, http string) (s Set, err error) {
	s.ByName = make(map[string][]syscall.Conn)
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	for _, addr := range dns {
		udp, tcp := keptDNS(kept, addr)
		if tcp == nil {
			udp, tcp, err = openDNS(addr)
		}
		if err != nil {
			return s, explain("dns", addr, err)
		}
		s.UDP, s.TCP = append(s.UDP, udp...), append(s.TCP, tcp)
		for _, c := range udp {
			s.ByName["udp "+addr] = append(s.ByName["udp "+addr], c)
		}
		s.ByName["tcp "+addr] = []syscall.Conn{tcp.(*net.TCPListener)}
	}
	if http == "" {
		return s, nil
	}
	s.HTTP = keptTCP(kept, "http "+http)
	if s.HTTP == nil {
		s.HTTP, err = openHTTP(http)
	}
	if err != nil {
		return s, explain("http", http, err)
	}
	if ln, ok := s.HTTP.(*net.TCPListener); ok {
		s.ByName["http "+http] = []syscall.Conn{ln}
	}
	return s, nil
}

// keptDNS returns the sockets for DNS on addr that are in kept, and removes
// them from it. Without those for both TCP and UDP it returns none.
func keptDNS(kept map[string][]*os.File, addr string) (udp []*net.UDPConn, tcp net.Listener) {
	if len(kept["udp "+addr]) == 0 || len(kept["tcp "+addr]) == 0 {
		return nil, nil
	}
	tcp = keptTCP(kept, "tcp "+addr)
	files := kept["udp "+addr]
	delete(kept, "udp "+addr)
	for _, f := range files {
		pc, err := net.FilePacketConn(f) // a copy
		_ = f.Close()
		if c, ok := pc.(*net.UDPConn); ok && err == nil {
			udp = append(udp, c)
		}
	}
	if tcp != nil && len(udp) == len(files) {
		return udp, tcp
	}
	s := Set{UDP: udp, HTTP: tcp} // they are no such sockets
	s.Close()
	return nil, nil
}

// keptTCP returns the listener in kept by its name, nil if there is none, and removes it from kept.
func keptTCP(kept map[string][]*os.File, name string) (ln net.Listener) {
	files := kept[name]
	delete(kept, name)
	for _, f := range files {
		if l, err := net.FileListener(f); err == nil && ln == nil { // a copy
			ln = l
		}
		_ = f.Close()
	}
	return ln
}

// Close closes the sockets. Nothing may have been read from them, or queries are lost.
func (s *Set) Close() {
	for _, c := range s.UDP {
		_ = c.Close()
	}
	for _, l := range s.TCP {
		_ = l.Close()
	}
	if s.HTTP != nil {
		_ = s.HTTP.Close()
	}
}

// openDNS opens TCP and UDP on the same port of addr. If addr has port 0, it may
// have to try several: a port that is free for TCP may be taken for UDP.
func openDNS(addr string) (udp []*net.UDPConn, tcp net.Listener, err error) {
	const tries = 10
	for range tries {
		udp, tcp, err = tryDNS(addr)
		if err == nil || !strings.HasSuffix(addr, ":0") {
			break
		}
	}
	return udp, tcp, err
}

// tryDNS opens TCP first, because only one program can have a TCP port: so a
// second dnsdock fails before its UDP sockets take queries from the first. For
// UDP it opens a socket for each processor where the system spreads clients
// over them (SO_REUSEPORT), so that their readers share nothing.
func tryDNS(addr string) (udp []*net.UDPConn, tcp net.Listener, err error) {
	lc := net.ListenConfig{KeepAlive: -1} // the server closes idle connections before a probe would be sent
	tcp, err = lc.Listen(context.Background(), family("tcp", addr), addr)
	if err != nil {
		return nil, nil, err
	}
	host, _, _ := net.SplitHostPort(addr)
	addr = net.JoinHostPort(host, strconv.Itoa(tcp.Addr().(*net.TCPAddr).Port)) // the system chose one for port 0
	readers := 1
	if udpio.SpreadsClients {
		readers = min(runtime.GOMAXPROCS(0), stats.MaxReaders)
	}
	lc.Control = udpio.ReusePort
	for range readers {
		pc, err := lc.ListenPacket(context.Background(), family("udp", addr), addr)
		if err != nil {
			(&Set{UDP: udp, TCP: []net.Listener{tcp}}).Close()
			return nil, nil, err
		}
		c := pc.(*net.UDPConn)
		_ = c.SetReadBuffer(readBuffer) // a smaller one is no error
		udp = append(udp, c)
	}
	return udp, tcp, nil
}

// family narrows a network to the family of the IP address in addr, if it has
// one, so that 0.0.0.0:53 and [::]:53 can both be listened on.
func family(network, addr string) string {
	host, _, _ := net.SplitHostPort(addr)
	switch ip, err := netip.ParseAddr(host); {
	case err != nil:
		return network
	case ip.Is4():
		return network + "4"
	default:
		return network + "6"
	}
}

// openHTTP listens on an address, or on a socket in the file system if addr is
// unix://PATH. It replaces a socket that a program left behind when it died.
func openHTTP(addr string) (net.Listener, error) {
	file, ok := strings.CutPrefix(addr, unixScheme)
	if !ok {
		return net.Listen(family("tcp", addr), addr)
	}
	if info, err := os.Lstat(file); err == nil && info.Mode().Type() == os.ModeSocket {
		c, err := net.Dial("unix", file)
		if err == nil {
			_ = c.Close() // a program answers there, so listening fails below
		} else if errors.Is(err, syscall.ECONNREFUSED) {
			_ = os.Remove(file) // if this fails, listening says why
		}
	}
	ln, err := bindFile(file)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(file, socketMode); err != nil { // adds what the umask took away
		_ = ln.Close()
		return nil, err
	}
	return ln, nil
}

// socketMode lets the owner and the group connect.
const socketMode = 0o660

// bindFile makes the socket file, which is removed when the listener is
// closed. Setting the mode before bind(2) gives the file that mode from the
// start on Linux, whatever the umask; elsewhere the system refuses it.
func bindFile(file string) (net.Listener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { setMode(fd, socketMode) })
	}}
	return lc.Listen(context.Background(), "unix", file)
}

// Reachable returns the network and the address at which this machine reaches
// a server that listens on addr.
func Reachable(addr string) (network, address string) {
	if file, ok := strings.CutPrefix(addr, unixScheme); ok {
		return "unix", file
	}
	host, port, _ := net.SplitHostPort(addr)
	switch ip, err := netip.ParseAddr(host); {
	case err == nil && !ip.IsUnspecified():
		return "tcp", addr
	case err == nil && ip.Is6():
		return "tcp", net.JoinHostPort("::1", port)
	default:
		return "tcp", net.JoinHostPort("127.0.0.1", port)
	}
}

// explain adds the flag to err, and what to do about it.
func explain(flag, addr string, err error) error {
	hint := ""
	isFile := strings.HasPrefix(addr, unixScheme)
	switch {
	case errors.Is(err, syscall.EADDRINUSE) && strings.HasSuffix(addr, ":53"):
		hint = ": another DNS server has it, most likely systemd-resolved (127.0.0.53:53) or dnsmasq:" +
			" listen on an address of its own, as in -dns=172.17.0.1:53"
	case errors.Is(err, syscall.EADDRINUSE) && isFile:
		hint = ": another program listens there, or it is no socket: choose another path"
	case errors.Is(err, os.ErrNotExist):
		hint = ": make the directory first"
	case errors.Is(err, os.ErrPermission) && isFile:
		hint = ": the directory must be writable for this user"
	case errors.Is(err, syscall.EADDRINUSE) && flag == "http":
		hint = ": another program has it: choose another, as in -http=127.0.0.1:8053, or none with -http="
	case errors.Is(err, syscall.EADDRINUSE):
		hint = ": another program has it: choose another, as in -dns=127.0.0.1:5300"
	case errors.Is(err, os.ErrPermission):
		hint = ": ports below 1024 need root or the capability CAP_NET_BIND_SERVICE"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		hint = ": this host has no such address"
	}
	return fmt.Errorf("can't listen on -%s=%s: %w%s", flag, addr, err, hint)
}
