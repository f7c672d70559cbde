//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A server is a program that answers for the names of a zone.
type server struct {
	name string
	cmd  *exec.Cmd
	addr netip.AddrPort
	log  bytes.Buffer
	done chan struct{}
}

// names returns the names that are asked for: containers of images, in the
// domain docker.
func names(count int) (list []string) {
	for i := range count {
		list = append(list, fmt.Sprintf("c%d.image%d.docker", i, i%100))
	}
	return list
}

func address(i int) string { return fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255) }

// serve starts a server with that many names on some processors, and waits
// until it answers.
func (b *bench) serve(ctx context.Context, kind string, count int, cpus string) (*server, error) {
	dir, err := os.MkdirTemp(b.dir, kind+"-")
	if err != nil {
		return nil, err
	}
	port := freePort()
	args, err := b.command(kind, dir, port.Port(), count, len(strings.Split(cpus, ",")))
	if err != nil {
		return nil, err
	}
	return b.launch(ctx, kind, port, count, cpus, args)
}

// launch starts a server at addr by its command line.
func (b *bench) launch(
	ctx context.Context, kind string, addr netip.AddrPort, count int, cpus string, args []string,
) (*server, error) {
	s := &server{name: kind, addr: addr, done: make(chan struct{})}
	if err := s.start(ctx, cpus, args); err != nil {
		return nil, err
	}
	err := s.await(names(count)[count-1], noError)
	if err == nil {
		err = s.await("nosuch.docker", nxDomain) // dnsdock says so once it knows all
	}
	if err != nil {
		s.stop()
		return nil, fmt.Errorf("%s does not answer: %w\n%s", kind, err, &s.log)
	}
	return s, nil
}

// start runs the server's command line on some processors.
func (s *server) start(ctx context.Context, cpus string, args []string) error {
	s.cmd = exec.CommandContext(ctx, "taskset", append([]string{"-c", cpus}, args...)...)
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	go func() {
		_ = s.cmd.Wait() // how it ended is in its log
		close(s.done)
	}()
	return nil
}

// freePort returns a free port of loopback.
func freePort() netip.AddrPort {
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

const noError, nxDomain = 0, 3 // rcodes

// await asks for a name until there is an answer with that rcode.
func (s *server) await(name string, rcode byte) (err error) {
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); {
		select {
		case <-s.done:
			return errors.New("it has ended")
		default:
		}
		if err = s.ask(name, rcode); err == nil {
			return nil
		}
	}
	return err
}

func (s *server) ask(name string, rcode byte) error {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(s.addr))
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		return err
	}
	if _, err := c.Write(query(7, name, 1)); err != nil {
		return err
	}
	buf := make([]byte, 4096)
	n, err := c.Read(buf)
	switch {
	case err != nil:
		time.Sleep(time.Millisecond) // refused at once: nobody listens yet
		return err
	case n < 12 || s.name != "echo" && buf[3]&0xf != rcode:
		return errors.New("no answer")
	}
	return nil
}

// stop ends the server and all of its processes.
func (s *server) stop() {
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(5 * time.Second):
	}
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) // NSD's children, if they are still there
	<-s.done
}

// pids returns the processes of the server.
func (s *server) pids() (list []int) {
	group := s.cmd.Process.Pid
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(d))
		if pgid, err := syscall.Getpgid(pid); err == nil && pgid == group {
			list = append(list, pid)
		}
	}
	return list
}

// cpu returns the user and system time that the server has used, as the
// scheduler counts it.
func (s *server) cpu() (total time.Duration) {
	for _, pid := range s.pids() {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		for _, t := range tasks {
			b, _ := os.ReadFile(t)
			ns, _, _ := strings.Cut(string(b), " ")
			n, _ := strconv.ParseInt(ns, 10, 64)
			total += time.Duration(n)
		}
	}
	return total
}

// rss returns the resident memory of the server in MB.
func (s *server) rss() (mb float64) {
	for _, pid := range s.pids() {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if m := regexp.MustCompile(`VmRSS:\s+(\d+)`).FindSubmatch(b); m != nil {
			kb, _ := strconv.ParseFloat(string(m[1]), 64)
			mb += kb / 1024
		}
	}
	return mb
}

// query makes a query in wire format.
func query(id uint16, name string, qtype uint16) []byte {
	b := []byte{byte(id >> 8), byte(id), 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	for label := range strings.SplitSeq(name, ".") {
		b = append(append(b, byte(len(label))), label...)
	}
	return append(b, 0, byte(qtype>>8), byte(qtype), 0, 1)
}

// with starts servers, has f use them, and stops them.
func (b *bench) with(ctx context.Context, kinds []string, count int, cpus string, f func([]*server) error) error {
	var servers []*server
	defer func() {
		for _, s := range servers {
			s.stop()
		}
	}()
	for _, k := range kinds {
		s, err := b.serve(ctx, k, count, cpus)
		if err != nil {
			return err
		}
		servers = append(servers, s)
	}
	return f(servers)
}
