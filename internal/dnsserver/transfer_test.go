package dnsserver

import (
	"io"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rayje/dnsdock/internal/dnstest"
	"github.com/rayje/dnsdock/internal/dnswire"
	"github.com/rayje/dnsdock/internal/zonetest"
)

// endless is a zone without an end.
type endless struct {
	messages int           // that were written
	cut      time.Duration // how long the last one was waited for
}

var _ Transfers = (*endless)(nil)

// Takes implements Transfers.
func (*endless) Takes([]byte, bool) bool { return true }

// Serve implements Transfers.
func (e *endless) Serve(_ []byte, _ netip.Addr, _ bool, _ func([]byte) []byte, write func([]byte) error) error {
	for {
		begun := time.Now()
		if err := write(make([]byte, 15<<10)); err != nil {
			e.cut = time.Since(begun)
			return err
		}
		e.messages++
	}
}

// A client that reads a zone slowly is served as long as it reads, and cut after 30 seconds in which it does not.
func TestSlowTransfer(t *testing.T) {
	rig := newRig(t, zonetest.New(t, "docker", 0))
	zone := new(endless)
	rig.Transfers = zone
	synctest.Test(t, func(t *testing.T) {
		ln := dnstest.NewPipeListener()
		srv := rig.TCP(ln)
		served := make(chan error, 1)
		go func() { served <- srv.Serve() }()
		c := ln.Dial()
		if _, err := c.Write(frame(make([]byte, dnswire.HeaderLen))); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			time.Sleep(20 * time.Second) // simulated
			if _, err := io.CopyN(io.Discard, c, 15<<10+2); err != nil {
				t.Fatalf("it is cut after 20 s: %v", err)
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n, err := io.Copy(io.Discard, c); n > 0 || zone.cut != 30*time.Second || zone.messages != 10 {
			t.Errorf("cut after %v and %d messages, %d bytes follow, %v; want 30 s and 10",
				zone.cut, zone.messages, n, err)
		}
		if err := srv.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}
