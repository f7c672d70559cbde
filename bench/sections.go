//go:build linux

package main

import (
	"context"
	"fmt"
)

const server0, client1 = "0", "1" // processors

func title(format string, args ...any) { fmt.Printf("\n### "+format+"\n\n", args...) }

// main compares all servers.
func (b *bench) main(ctx context.Context) error {
	const count = 10_000
	all := kinds("echo", "dnsdock", "nsd", "knot", "dnsmasq", "unbound")
	return b.with(ctx, all, count, server0, func(servers []*server) error {
		hits := queries(count, hit)
		f, err := rows(ctx, servers, b.dnsperf(hits, "-q", "100", "-c", "10"), b.batched(hits, 64))
		if err != nil {
			return err
		}
		title("UDP, one processor, %d names", count)
		fmt.Println("| server | queries/s (dnsperf) | to NSD | CPU µs/query | to NSD " +
			"| queries/s (64 in flight, batched) | to NSD | CPU µs/query | to NSD | resident MB |")
		fmt.Println("|---|---|---|---|---|---|---|---|---|---|")
		perf, batched := columns(servers, f, 0), columns(servers, f, 1)
		for i, s := range servers {
			fmt.Printf("| %s | %s | %s | %.1f |\n", s.name, perf(i), batched(i), s.rss())
		}
		return nil
	})
}

// sizes compares by the number of names.
func (b *bench) sizes(ctx context.Context) error {
	title("UDP, one processor, by names (64 in flight, batched)")
	fmt.Println("| names | server | queries/s | to NSD | CPU µs/query | to NSD | resident MB |")
	fmt.Println("|---|---|---|---|---|---|---|")
	for _, count := range []int{10, 1000, 10_000, 100_000} {
		err := b.with(ctx, kinds("echo", "dnsdock", "nsd"), count, server0, func(servers []*server) error {
			f, err := rows(ctx, servers, b.batched(queries(count, hit), 64))
			if err != nil {
				return err
			}
			row := columns(servers, f, 0)
			for i, s := range servers {
				fmt.Printf("| %d | %s | %s | %.1f |\n", count, s.name, row(i), s.rss())
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// mix compares by the kind of answer.
func (b *bench) mix(ctx context.Context) error {
	const count = 10_000
	return b.with(ctx, kinds("dnsdock", "nsd"), count, server0, func(servers []*server) error {
		loads := []struct {
			name string
			kind func(name string, i int) (string, uint16)
		}{{"hits", hit}, {"NXDOMAIN", missing}, {"NODATA", noData}, {"a third each", mixed}}
		var all []load
		for _, l := range loads {
			all = append(all, b.batched(queries(count, l.kind), 64))
		}
		f, err := rows(ctx, servers, all...)
		if err != nil {
			return err
		}
		title("UDP, one processor, %d names, by kind (64 in flight, batched)", count)
		fmt.Println("| kind | server | queries/s | to NSD | CPU µs/query | to NSD |")
		fmt.Println("|---|---|---|---|---|---|")
		for j, l := range loads {
			row := columns(servers, f, j)
			for i, s := range servers {
				fmt.Printf("| %s | %s | %s |\n", l.name, s.name, row(i))
			}
		}
		return nil
	})
}

// cores compares servers that have all processors, together with the load.
func (b *bench) cores(ctx context.Context) error {
	title("UDP, all processors, shared with what asks (dnsperf)")
	fmt.Println("| names | server | queries/s | to NSD | CPU µs/query | to NSD |")
	fmt.Println("|---|---|---|---|---|---|")
	for _, count := range []int{1000, 10_000, 100_000} {
		err := b.with(ctx, kinds("dnsdock", "nsd"), count, "0,1", func(servers []*server) error {
			f, err := rows(ctx, servers, b.dnsperfOn("0,1", queries(count, hit), "-q", "200", "-c", "20", "-T", "2"))
			if err != nil {
				return err
			}
			row := columns(servers, f, 0)
			for i, s := range servers {
				fmt.Printf("| %d | %s | %s |\n", count, s.name, row(i))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// idle compares servers that have little to do.
func (b *bench) idle(ctx context.Context) error {
	const count = 1000
	return b.with(ctx, kinds("dnsdock", "nsd", "dnsmasq"), count, server0, func(servers []*server) error {
		f, err := rows(ctx, servers, b.dnsperf(queries(count, hit), "-q", "10", "-Q", "1000"))
		if err != nil {
			return err
		}
		title("UDP, one processor, 1,000 queries/s")
		fmt.Println("| server | CPU µs/query | to dnsmasq | latency ms |")
		fmt.Println("|---|---|---|---|")
		cpu := ratio(servers, f, "dnsmasq", func(f []figure) float64 { return f[0].cpu })
		for i, s := range servers {
			fmt.Printf("| %s | %.1f | %s | %.3f |\n", s.name, f[i][0].cpu, cpu(i), f[i][0].extra)
		}
		return nil
	})
}

// tcp compares over TCP.
func (b *bench) tcp(ctx context.Context) error {
	const count = 1000
	return b.with(ctx, kinds("dnsdock", "nsd", "bind"), count, server0, func(servers []*server) error {
		hits := queries(count, hit)
		f, err := rows(ctx, servers, b.dnsperf(hits, "-m", "tcp", "-q", "200", "-c", "10"), tcpEach(hits))
		if err != nil {
			return err
		}
		title("TCP, one processor")
		fmt.Println("| server | pipelined queries/s | to BIND | CPU µs/query " +
			"| connection for each: queries/s | CPU µs/query | to NSD |")
		fmt.Println("|---|---|---|---|---|---|---|")
		rate := ratio(servers, f, "bind", func(f []figure) float64 { return f[0].rate })
		cpu := ratio(servers, f, "nsd", func(f []figure) float64 { return f[1].cpu })
		for i, s := range servers {
			perf, each := f[i][0], f[i][1]
			fmt.Printf("| %s | %.0f | %s | %.2f | %.0f | %.1f | %s |\n",
				s.name, perf.rate, rate(i), perf.cpu, each.rate, each.cpu, cpu(i))
		}
		return nil
	})
}

// latency compares the slowest answers under half the load.
func (b *bench) latency(ctx context.Context) error {
	const count = 10_000
	return b.with(ctx, kinds("echo", "dnsdock", "nsd"), count, server0, func(servers []*server) error {
		f, err := rows(ctx, servers, b.paced(queries(count, hit), 75_000, 999))
		if err != nil {
			return err
		}
		title("UDP, one processor, half load: 75,000 queries/s")
		fmt.Println("| server | p99.9 µs | to the echo |")
		fmt.Println("|---|---|---|")
		p := ratio(servers, f, "echo", func(f []figure) float64 { return f[0].extra })
		for i, s := range servers {
			fmt.Printf("| %s | %.0f | %s |\n", s.name, f[i][0].extra, p(i))
		}
		return nil
	})
}
