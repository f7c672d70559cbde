//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A question is a name and a type.
type question struct {
	name  string
	qtype uint16
}

const typeA, typeAAAA = 1, 28

// Kinds of questions about the names.
func hit(name string, _ int) (string, uint16)     { return name, typeA }
func missing(name string, _ int) (string, uint16) { return "x" + name, typeA } // of the same length, but for one
func noData(name string, _ int) (string, uint16)  { return name, typeAAAA }

func mixed(name string, i int) (string, uint16) {
	return [...]func(string, int) (string, uint16){hit, missing, noData}[i%3](name, i)
}

// queries returns a question of a kind about each name, in a fixed disorder.
func queries(count int, kind func(string, int) (string, uint16)) (list []question) {
	const step = 7919 // a prime, so that each comes once
	all := names(count)
	for i := range all {
		n, t := kind(all[i*step%count], i)
		list = append(list, question{n, t})
	}
	return list
}

// dnsperf is the load of the program dnsperf with some of its flags.
func (b *bench) dnsperf(list []question, args ...string) load {
	return b.dnsperfOn(client1, list, args...)
}

func (b *bench) dnsperfOn(cpus string, list []question, args ...string) load {
	return func(ctx context.Context, s *server) (figure, error) {
		return measured(ctx, s, func(ctx context.Context, s *server) (count, rate, latency float64, err error) {
			var text strings.Builder
			for _, q := range list {
				fmt.Fprintln(&text, q.name, map[uint16]string{typeA: "A", typeAAAA: "AAAA"}[q.qtype])
			}
			file := filepath.Join(b.dir, "queries.txt")
			if err := os.WriteFile(file, []byte(text.String()), 0o644); err != nil {
				return 0, 0, 0, err
			}
			perf := []string{
				"-c", cpus, "dnsperf", "-s", "127.0.0.1", "-p", fmt.Sprint(s.addr.Port()), "-d", file,
				"-l", fmt.Sprint(*seconds),
			}
			out, err := exec.CommandContext(ctx, "taskset", append(perf, args...)...).CombinedOutput()
			if err != nil {
				return 0, 0, 0, fmt.Errorf("dnsperf: %w: %s", err, out)
			}
			if n := number(out, `Queries lost: +(\d+)`); n > number(out, `Queries sent: +(\d+)`)/100 {
				return 0, 0, 0, fmt.Errorf("dnsperf lost %.0f queries: %s", n, out)
			}
			count, rate = number(out, `Queries completed: +(\d+)`), number(out, `Queries per second: +([\d.]+)`)
			return count, rate, 1000 * number(out, `Average Latency \(s\): +([\d.]+)`), nil
		})
	}
}

func number(out []byte, pattern string) float64 {
	m := regexp.MustCompile(pattern).FindSubmatch(out)
	if m == nil {
		return 0
	}
	f, _ := strconv.ParseFloat(string(m[1]), 64)
	return f
}

// batched keeps that many queries in flight, with as few system calls as possible.
func (b *bench) batched(list []question, inFlight int) load { return b.loadC(list, inFlight, 0, 0) }

// paced asks at that rate. Its extra figure is the latency in microseconds that
// permille of a thousand queries do not exceed.
func (b *bench) paced(list []question, rate, permille int) load {
	return b.loadC(list, 1, rate, permille)
}

// loadC runs load.c.
func (b *bench) loadC(list []question, inFlight, rate, permille int) load {
	return func(ctx context.Context, s *server) (figure, error) {
		return measured(ctx, s, func(ctx context.Context, s *server) (count, perSecond, extra float64, err error) {
			var wire []byte
			for i, q := range list {
				m := query(uint16(i), q.name, q.qtype)
				wire = append(append(wire, byte(len(m)>>8), byte(len(m))), m...)
			}
			file := filepath.Join(b.dir, "queries.bin")
			if err := os.WriteFile(file, wire, 0o644); err != nil {
				return 0, 0, 0, err
			}
			out, err := exec.CommandContext(ctx, "nice", "-n", "-15", "taskset", "-c", client1,
				filepath.Join(b.dir, "load"), fmt.Sprint(s.addr.Port()), file, fmt.Sprint(*seconds),
				fmt.Sprint(inFlight), fmt.Sprint(rate), fmt.Sprint(permille)).CombinedOutput()
			if err != nil {
				return 0, 0, 0, fmt.Errorf("load: %w: %s", err, out)
			}
			_, err = fmt.Sscan(string(out), &count, &perSecond, &extra)
			return count, perSecond, extra, err
		})
	}
}

// maxConnections bounds the connections of one load, because the system's
// connection tracking keeps each for two minutes, and its table must not fill.
const maxConnections = 10_000

// tcpEach makes a connection for each query, ten at a time.
func tcpEach(list []question) load {
	return func(ctx context.Context, s *server) (figure, error) {
		return measured(ctx, s, func(ctx context.Context, s *server) (count, rate, _ float64, err error) {
			begun := time.Now()
			end := begun.Add(time.Duration(*seconds) * time.Second)
			var next atomic.Int64
			var failed atomic.Value
			var wg sync.WaitGroup
			for range 10 {
				wg.Go(func() {
					for time.Now().Before(end) && failed.Load() == nil && ctx.Err() == nil {
						i := int(next.Add(1))
						if i > maxConnections {
							next.Add(-1)
							return
						}
						if err := askTCP(s.addr.String(), i, list[i%len(list)]); err != nil {
							failed.Store(err)
						}
					}
				})
			}
			wg.Wait()
			if err, ok := failed.Load().(error); ok {
				return 0, 0, 0, err
			}
			n := float64(next.Load())
			return n, n / time.Since(begun).Seconds(), 0, nil
		})
	}
}

// askTCP asks once, from one of many addresses of this host, because one
// address has too few ports.
func askTCP(addr string, i int, q question) error {
	from := &net.TCPAddr{IP: net.IPv4(127, 0, byte(1+i>>8&7), byte(1+i&0x7f))}
	d := net.Dialer{LocalAddr: from, Timeout: 5 * time.Second}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	m := query(uint16(i), q.name, q.qtype)
	if _, err := c.Write(append([]byte{byte(len(m) >> 8), byte(len(m))}, m...)); err != nil {
		return err
	}
	buf := make([]byte, 512)
	if n, err := c.Read(buf); err != nil || n < 14 || buf[2] != m[0] || buf[3] != m[1] {
		return fmt.Errorf("%d bytes over TCP: %w", n, err)
	}
	return nil
}
