package transfer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/tsig"
)

const (
	notifyWait    = time.Second // for the reply to the first NOTIFY of a version; then twice that, and so on
	maxNotifyWait = time.Minute
	notifyTries   = 15 // ten minutes: BIND looks by itself after five
	quietFailures = 2  // that are not worth a line of the log: a packet may be lost
)

// A target is one who is told of changes.
type target struct {
	addr netip.AddrPort
	wake chan struct{} // of capacity 1: there is a version that it was not told of
}

// tell lets the target be told of the newest version.
func (t *target) tell() {
	select {
	case t.wake <- struct{}{}:
	default: // it is about to be told
	}
}

// pause waits until it is time for the next try. It returns false if there is a newer version, or ctx is done.
func (t *target) pause(ctx context.Context, again <-chan time.Time) bool {
	select {
	case <-ctx.Done():
	case <-t.wake:
		t.tell()
	case <-again:
		return true
	}
	return false
}

// notifyAll tells a target of each version, RFC 1996, until ctx is done.
func (s *Server) notifyAll(ctx context.Context, t *target) {
	failures := 0 // since it took one
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.wake:
		}
		wait := s.notifyWait
		for range notifyTries {
			again := time.After(wait) // an address where nobody listens refuses at once
			err := s.notifyOnce(ctx, t.addr, wait)
			if ctx.Err() != nil {
				return
			}
			if failures++; err == nil {
				failures = 0
			}
			if err == nil || failures > quietFailures {
				s.noteNotified(t.addr, err)
			}
			if err == nil || !t.pause(ctx, again) {
				break
			}
			wait = min(2*wait, maxNotifyWait)
		}
	}
}

// noteNotified notes how a NOTIFY went, and logs where that differs from the one before.
func (s *Server) noteNotified(to netip.AddrPort, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	s.mu.Lock()
	o := s.second[to.Addr()]
	began, ended := o.NotifyError == "" && err != nil, o.NotifyError != "" && err == nil
	if o.NotifyError = text; err == nil {
		o.Notified = time.Now()
	}
	s.mu.Unlock()
	switch {
	case began:
		s.log.Warn("secondary takes no NOTIFY: it will see changes only at its next refresh", "addr", to, "err", err)
	case ended:
		s.log.Info("secondary takes NOTIFY again", "addr", to)
	}
}

// notifyOnce tells of all zones that can be transferred, and waits for each reply.
func (s *Server) notifyOnce(ctx context.Context, to netip.AddrPort, wait time.Duration) error {
	var dialer net.Dialer
	if s.cfg.Local.IsValid() && s.cfg.Local.Is4() == to.Addr().Is4() { // where it knows us
		dialer.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(s.cfg.Local, 0))
	}
	c, err := dialer.DialContext(ctx, "udp", to.String())
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() }) // it may be closed already
	defer stop()
	s.mu.Lock()
	zones, keys := s.zones, s.keys
	s.mu.Unlock()
	for _, z := range zones {
		if z.current == nil {
			continue
		}
		m := new(dns.Msg).SetNotify(z.name.String())
		b, err := m.Pack()
		if err != nil {
			return err
		}
		var session *tsig.Session
		if len(keys) > 0 {
			session = &tsig.Session{Key: keys[0]}
			b = session.Sign(b, time.Now())
		}
		if err := c.SetDeadline(time.Now().Add(wait)); err != nil {
			return err
		}
		if _, err := c.Write(b); err != nil {
			return err
		}
		if err := awaitReply(c, m, session); err != nil {
			return err
		}
	}
	return nil
}

// awaitReply reads messages until one is the reply to m.
func awaitReply(c net.Conn, m *dns.Msg, session *tsig.Session) error {
	b := make([]byte, 4096) // a reply repeats the query
	for {
		n, err := c.Read(b)
		if err != nil {
			return err
		}
		r := new(dns.Msg)
		if r.Unpack(b[:n]) != nil || r.Id != m.Id || !r.Response || r.Opcode != dns.OpcodeNotify {
			continue
		}
		switch {
		case r.Rcode != dns.RcodeSuccess:
			return fmt.Errorf("it replies %s to NOTIFY: is the zone configured there, with this address as its master?",
				dns.RcodeToString[r.Rcode])
		case session != nil && r.IsTsig() == nil:
			return errors.New("its reply to a signed NOTIFY is not signed")
		case session != nil:
			return session.Check(b[:n], time.Now())
		}
		return nil
	}
}
