//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// forward measures forwarders in front of an NSD, first with answers that they
// must not keep, and then with answers that they keep. NSD runs on the
// processor of the load.
func (b *bench) forward(ctx context.Context) error {
	const count = 10_000
	title("Forwarding to NSD, UDP, one processor, %d names (64 in flight, batched)", count)
	fmt.Println("| answers | server | queries/s | to dnsmasq | to unbound " +
		"| CPU µs/query | to dnsmasq | to unbound | resident MB |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|")
	defer func() { b.ttl = 60 }()
	for _, answers := range []struct {
		what string
		ttl  int
	}{{"not kept", 0}, {"kept", 3600}} {
		b.ttl = answers.ttl
		if err := forwardOnce(ctx, b, count, answers.what); err != nil {
			return err
		}
	}
	return nil
}

// forwardOnce prints a row for each forwarder, with answers of TTL b.ttl.
func forwardOnce(ctx context.Context, b *bench, count int, what string) error {
	nsd, err := b.serve(ctx, "nsd", count, client1)
	if err != nil {
		return err
	}
	defer nsd.stop()
	var servers []*server
	defer func() {
		for _, s := range servers {
			s.stop()
		}
	}()
	for _, k := range kinds("dnsdock", "dnsmasq", "unbound") {
		port := freePort()
		args, err := b.forwarder(k, port.Port(), nsd.addr.Port(), 2*count)
		if err != nil {
			return err
		}
		s, err := b.launch(ctx, k, port, count, server0, args)
		if err != nil {
			return err
		}
		servers = append(servers, s)
	}
	hits := b.batched(queries(count, hit), 64)
	for _, s := range servers { // each name once, so that it is kept
		if _, err := hits(ctx, s); err != nil {
			return err
		}
	}
	f, err := rows(ctx, servers, hits)
	if err != nil {
		return err
	}
	r := func(to string, of func([]figure) float64) func(int) string { return ratio(servers, f, to, of) }
	rate, cpu := func(f []figure) float64 { return f[0].rate }, func(f []figure) float64 { return f[0].cpu }
	for i, s := range servers {
		fmt.Printf("| %s | %s | %.0f | %s | %s | %.2f | %s | %s | %.1f |\n", what, s.name,
			f[i][0].rate, r("dnsmasq", rate)(i), r("unbound", rate)(i),
			f[i][0].cpu, r("dnsmasq", cpu)(i), r("unbound", cpu)(i), s.rss())
	}
	return nil
}

// forwarder writes the files of a forwarder to a port of loopback, which keeps
// size answers, and returns its command line.
func (b *bench) forwarder(kind string, port, upstream uint16, size int) ([]string, error) {
	switch kind {
	case "dnsdock", "before":
		e, err := startEngine(b.dir, 0)
		if err != nil {
			return nil, err
		}
		return []string{
			b.program(kind), fmt.Sprintf("-dns=127.0.0.1:%d", port), "-http=", "-domain=here",
			"-verbose=false", fmt.Sprintf("-nameserver=127.0.0.1:%d", upstream), "-docker=unix://" + e.socket,
		}, nil
	case "dnsmasq":
		return append(dnsmasqArgs(port), fmt.Sprintf("--server=127.0.0.1#%d", upstream),
			fmt.Sprintf("--cache-size=%d", size), "--dns-forward-max=1000"), nil
	case "unbound":
		path := filepath.Join(b.dir, "forward.conf")
		return []string{"unbound", "-d", "-c", path}, os.WriteFile(path, fmt.Appendf(nil, `server:
  interface: 127.0.0.1@%d
  num-threads: 1
  chroot: ""
  username: ""
  pidfile: ""
  directory: "%s"
  use-syslog: no
  verbosity: 0
  do-not-query-localhost: no
  module-config: "iterator"
  num-queries-per-thread: 1000
  outgoing-range: 2000
forward-zone:
  name: "."
  forward-addr: 127.0.0.1@%d
remote-control:
  control-enable: no
`, port, b.dir, upstream), 0o644)
	}
	return nil, fmt.Errorf("there is no forwarder %q", kind)
}
