//go:build linux

package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
)

// A figure is what a load measured.
type figure struct {
	rate  float64 // queries/s
	cpu   float64 // microseconds of the server per query
	extra float64 // another figure of the load
}

// A load asks a server for some seconds.
type load func(context.Context, *server) (figure, error)

// An asker is a load that returns how many queries were answered, how many per
// second, and something else.
type asker func(context.Context, *server) (count, rate, extra float64, err error)

// measured runs a load and adds the CPU time that the server used.
func measured(ctx context.Context, s *server, ask asker) (figure, error) {
	before := s.cpu()
	count, rate, extra, err := ask(ctx, s)
	if err != nil {
		return figure{}, fmt.Errorf("%s: %w\n%s", s.name, err, &s.log)
	}
	return figure{rate, float64((s.cpu() - before).Microseconds()) / max(count, 1), extra}, nil
}

// rows measures each server with each load in each round, and returns the
// medians.
func rows(ctx context.Context, servers []*server, loads ...load) ([][]figure, error) {
	all := make([][][]figure, len(servers)) // by server, load, round
	for i := range all {
		all[i] = make([][]figure, len(loads))
	}
	for range *rounds {
		for j, l := range loads {
			for i, s := range servers {
				f, err := l(ctx, s)
				if err != nil {
					return nil, err
				}
				all[i][j] = append(all[i][j], f)
			}
		}
	}
	medians := make([][]figure, len(servers))
	for i := range all {
		for _, f := range all[i] {
			medians[i] = append(medians[i], figure{
				median(f, func(f figure) float64 { return f.rate }),
				median(f, func(f figure) float64 { return f.cpu }),
				median(f, func(f figure) float64 { return f.extra }),
			})
		}
	}
	return medians, nil
}

func median(list []figure, of func(figure) float64) float64 {
	var all []float64
	for _, f := range list {
		all = append(all, of(f))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// kinds returns those of the list that -servers chose.
func kinds(list ...string) (chosen []string) {
	for _, k := range list {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), k) {
			continue
		}
		chosen = append(chosen, k)
		if k == "dnsdock" && *before != "" {
			chosen = append(chosen, "before")
		}
	}
	return chosen
}

// ratio returns a function for the ratio of a server's figure to that of the
// server called to.
func ratio(servers []*server, figures [][]figure, to string, of func([]figure) float64) func(i int) string {
	base := math.NaN()
	for i, s := range servers {
		if s.name == to {
			base = of(figures[i])
		}
	}
	return func(i int) string { return fmt.Sprintf("%.2f", of(figures[i])/base) }
}

// columns returns a function for four columns of a table: queries/s, CPU time
// per query, and behind each its ratio to NSD's. They are of load j.
func columns(servers []*server, f [][]figure, j int) func(i int) string {
	rate := ratio(servers, f, "nsd", func(f []figure) float64 { return f[j].rate })
	cpu := ratio(servers, f, "nsd", func(f []figure) float64 { return f[j].cpu })
	return func(i int) string {
		return fmt.Sprintf("%.0f | %s | %.2f | %s", f[i][j].rate, rate(i), f[i][j].cpu, cpu(i))
	}
}
