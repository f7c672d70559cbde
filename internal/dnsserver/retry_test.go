package dnsserver

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/zonetest"
)

// failures are errors of system calls that go by, as for want of memory.
func failures() []error {
	var list []error
	for _, errno := range []syscall.Errno{
		syscall.ENOMEM, syscall.ENOBUFS, syscall.EMFILE, syscall.ENFILE, syscall.EINTR, syscall.EAGAIN,
		syscall.ECONNABORTED, syscall.ECONNREFUSED, syscall.ENETDOWN, syscall.EIO, syscall.EPERM,
	} {
		list = append(list, os.NewSyscallError("recvmmsg", errno))
	}
	return append(list, os.ErrDeadlineExceeded)
}

// No error of its socket ends a UDP server, but that it was closed. The log
// says when they begin, and when they end.
func TestUDPReadFails(t *testing.T) {
	for _, failure := range failures() {
		t.Run(fmt.Sprint(failure), func(t *testing.T) {
			log := dnstest.NewLog()
			r := newRig(t, zonetest.New(t, "docker", 0, pub("web", "nginx", 0, "10.0.0.1", "")))
			r.log = slog.New(slog.NewTextHandler(log, nil))
			conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				t.Fatal(err)
			}
			u := r.UDP(conn)
			left := 3
			u.read = func() (int, error) {
				if left--; left >= 0 {
					return 0, failure
				}
				return u.batch.Read()
			}
			served := make(chan error, 1)
			go func() { served <- u.Serve() }()
			req := new(dns.Msg).SetQuestion("web.nginx.docker.", dns.TypeA)
			if m := dnstest.Exchange(t, "udp", conn.LocalAddr().String(), req); len(m.Answer) != 1 {
				t.Errorf("got %s; want the address", dnstest.Show(m))
			}
			log.Wait(t, "level=WARN", "reading queries over UDP fails", failure.Error())
			log.Wait(t, "level=INFO", "the socket works again")
			if n := strings.Count(log.String(), "\n"); n != 2 {
				t.Errorf("%d lines for 3 errors; want 2:\n%s", n, log)
			}
			if err := u.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			if err := <-served; err != nil {
				t.Error(err)
			}
		})
	}
}

// A UDP server that is failing ends when it is to.
func TestUDPEndsWhileItFails(t *testing.T) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, zonetest.New(t, "docker", 0))
	r.log = slog.New(slog.DiscardHandler)
	u := r.UDP(conn)
	failed := make(chan bool, 100)
	u.read = func() (int, error) {
		failed <- true
		return 0, syscall.ENOMEM
	}
	served := make(chan error, 1)
	go func() { served <- u.Serve() }()
	<-failed
	if err := u.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// A failingListener fails some times.
type failingListener struct {
	net.Listener
	failures int
	err      error
}

func (l *failingListener) Accept() (net.Conn, error) {
	if l.failures--; l.failures >= 0 {
		return nil, l.err
	}
	return l.Listener.Accept()
}

// Nor does an error of accept end a TCP server.
func TestTCPAcceptFails(t *testing.T) {
	for _, failure := range failures() {
		log := dnstest.NewLog()
		r := newRig(t, zonetest.New(t, "docker", 0, pub("web", "nginx", 0, "10.0.0.1", "")))
		r.log = slog.New(slog.NewTextHandler(log, nil))
		synctest.Test(t, func(t *testing.T) {
			ln := dnstest.NewPipeListener()
			srv := r.TCP(&failingListener{ln, 100, failure})
			served := make(chan error, 1)
			go func() { served <- srv.Serve() }()
			begun := time.Now()
			c := ln.Dial()
			if took := time.Since(begun); took != 100*retryPause {
				t.Errorf("accepted after %v; want %v", took, 100*retryPause)
			}
			synctest.Wait() // for the log
			_ = c.Close()
			if err := srv.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			if err := <-served; err != nil {
				t.Error(err)
			}
		})
		for _, want := range []string{"accepting DNS connections fails", "the socket works again"} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("%v: got log %s; want %q", failure, log, want)
			}
		}
		if n := strings.Count(log.String(), "\n"); n != 2 {
			t.Errorf("%v: %d lines for 100 errors; want 2:\n%s", failure, n, log)
		}
	}
}
