//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// start measures the start of dnsdock.
func (b *bench) start(ctx context.Context) error {
	title("Start of dnsdock, a fake engine, two processors")
	fmt.Println("| containers | server | first answer of its own name ms | all containers answered s " +
		"| resident MB then | and 5 s later |")
	fmt.Println("|---|---|---|---|---|---|")
	for _, count := range []int{1, 1000, 10_000} {
		e, err := startEngine(b.dir, count)
		if err != nil {
			return err
		}
		for _, kind := range kinds("dnsdock") {
			err = errors.Join(err, b.startRow(ctx, kind, e, count))
		}
		if err := errors.Join(err, e.close()); err != nil {
			return err
		}
	}
	return nil
}

// startRow prints the row of one kind of dnsdock.
func (b *bench) startRow(ctx context.Context, kind string, e *engine, count int) error {
	var first, ready, rss, later []figure
	for range *rounds {
		f, err := startOnce(ctx, b, kind, e)
		if err != nil {
			return err
		}
		first, ready = append(first, figure{rate: f[0]}), append(ready, figure{rate: f[1]})
		rss, later = append(rss, figure{rate: f[2]}), append(later, figure{rate: f[3]})
	}
	of := func(f figure) float64 { return f.rate }
	fmt.Printf("| %d | %s | %.0f | %.2f | %.1f | %.1f |\n",
		count, kind, median(first, of), median(ready, of), median(rss, of), median(later, of))
	return nil
}

// startOnce returns the milliseconds from exec to the first answer, the seconds
// until all containers are answered, the memory then, and 5 s later.
func startOnce(ctx context.Context, b *bench, kind string, e *engine) (f [4]float64, err error) {
	s := &server{name: kind, addr: freePort(), done: make(chan struct{})}
	begun := time.Now()
	if err := s.start(ctx, "0,1", b.dnsdock(kind, e, s.addr.Port())); err != nil {
		return f, err
	}
	defer s.stop()
	if err := s.await("dnsdock.docker", noError); err != nil {
		return f, fmt.Errorf("%w\n%s", err, &s.log)
	}
	f[0] = float64(time.Since(begun).Microseconds()) / 1000
	if err := s.await("nosuch.docker", nxDomain); err != nil { // SERVFAIL until it knows all
		return f, fmt.Errorf("%w\n%s", err, &s.log)
	}
	f[1], f[2] = time.Since(begun).Seconds(), s.rss()
	select {
	case <-time.After(5 * time.Second):
	case <-ctx.Done():
	}
	f[3] = s.rss()
	return f, cmp.Or(ctx.Err(), nil)
}

// storm asks while 10,000 containers are restarted.
func (b *bench) storm(ctx context.Context) error {
	const count = 10_000
	// The engine is this process: beside what asks, which goes first.
	out, err := exec.CommandContext(ctx, "taskset", "-acp", client1, fmt.Sprint(os.Getpid())).CombinedOutput()
	if err != nil {
		return fmt.Errorf("taskset: %w: %s", err, out)
	}
	title("20,000 queries/s over UDP while all of %d containers are restarted, one processor", count)
	fmt.Println("| server | quiet: p99 µs | 20,000 events, as fast as they are taken: p99 µs " +
		"| inspected in the time |")
	fmt.Println("|---|---|---|---|")
	for _, kind := range kinds("dnsdock") {
		if err := b.stormRow(ctx, kind, count); err != nil {
			return err
		}
	}
	return nil
}

// stormRow prints the row of one kind of dnsdock.
func (b *bench) stormRow(ctx context.Context, kind string, count int) error {
	e, err := startEngine(b.dir, count)
	if err != nil {
		return err
	}
	defer e.close()
	s := &server{name: kind, addr: freePort(), done: make(chan struct{})}
	if err := s.start(ctx, server0, b.dnsdock(kind, e, s.addr.Port())); err != nil {
		return err
	}
	defer s.stop()
	if err := s.await("nosuch.docker", nxDomain); err != nil {
		return err
	}
	ask := b.paced(queries(count, hit), 20_000, 990)
	var quiet, storm []figure
	for range *rounds {
		f, err := ask(ctx, s)
		if err != nil {
			return err
		}
		quiet = append(quiet, f)
		stop := e.restartAll(time.Duration(*seconds) * time.Second)
		if f, err = ask(ctx, s); err != nil {
			return err
		}
		f.rate = float64(stop())
		storm = append(storm, f)
	}
	p99 := func(f figure) float64 { return f.extra }
	fmt.Printf("| %s | %.0f | %.0f | %.0f |\n",
		kind, median(quiet, p99), median(storm, p99), median(storm, func(f figure) float64 { return f.rate }))
	return nil
}
