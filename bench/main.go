//go:build linux

// Bench holds dnsdock against other DNS servers, side by side on this machine:
//
//	go run ./bench
//
// It starts dnsdock, NSD, Knot DNS, dnsmasq and unbound of Debian's packages,
// and an echo of UDP packets in C, which is the limit of the socket path, each
// with the same names. In each round each of them gets each load in turn. What
// is printed are the medians of the rounds, and ratios to NSD's.
//
// The servers run on one processor, and what asks them on another one. All of
// it stays on 127.0.0.1, and ends by itself.
package main

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"log"
	"math"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

//go:embed c/echo.c
var echoC []byte

//go:embed c/load.c
var loadC []byte

var (
	rounds   = flag.Int("rounds", 3, "rounds, of which the medians are shown")
	seconds  = flag.Int("seconds", 3, "how long each load lasts")
	only     = flag.String("servers", "", "servers by commas; empty: all")
	sections = flag.String("sections", "main,sizes,mix,cores,idle,tcp,latency,forward,start,storm", "what to measure")
)

func main() {
	log.SetFlags(0)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		log.Fatal("bench: ", err)
	}
}

func run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "dnsdock-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{dir: dir, ttl: 60}
	if err := b.build(ctx); err != nil {
		return err
	}
	fmt.Println(machine())
	for _, s := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"main", b.main}, {"sizes", b.sizes}, {"mix", b.mix}, {"cores", b.cores},
		{"idle", b.idle}, {"tcp", b.tcp}, {"latency", b.latency}, {"forward", b.forward}, {"start", b.start}, {"storm", b.storm},
	} {
		if !slices.Contains(strings.Split(*sections, ","), s.name) {
			continue
		}
		if err := s.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// machine says on what the figures were taken.
func machine() string {
	cpu, _ := os.ReadFile("/proc/cpuinfo")
	model := regexp.MustCompile(`model name\s*: (.*)`).FindSubmatch(cpu)
	var kernel syscall.Utsname
	_ = syscall.Uname(&kernel)
	release := ""
	for _, c := range kernel.Release {
		if c == 0 {
			break
		}
		release += string(rune(c))
	}
	name := "processor"
	if model != nil {
		name = string(model[1])
	}
	return fmt.Sprintf("%s, %d processors, Linux %s; %d rounds of %d s", name, bytes.Count(cpu, []byte("processor\t")), release, *rounds, *seconds)
}

// A bench has the programs and the names.
type bench struct {
	dir string
	ttl int // seconds, of the records of zone files
}

// build compiles dnsdock and the echo.
func (b *bench) build(ctx context.Context) error {
	for name, text := range map[string][]byte{"echo.c": echoC, "load.c": loadC} {
		if err := os.WriteFile(filepath.Join(b.dir, name), text, 0o644); err != nil {
			return err
		}
	}
	for _, args := range [][]string{
		{"go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(b.dir, "dnsdock"), "github.com/rayje/dnsdock"},
		{"cc", "-O2", "-o", filepath.Join(b.dir, "echo"), filepath.Join(b.dir, "echo.c")},
		{"cc", "-O2", "-o", filepath.Join(b.dir, "load"), filepath.Join(b.dir, "load.c")},
	} {
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

// A server is a program that answers for the names of a zone.
type server struct {
	name string
	cmd  *exec.Cmd
	addr netip.AddrPort
	log  bytes.Buffer
	done chan struct{}
}

// names are what is asked for: hosts of images, in the domain docker.
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
func (b *bench) launch(ctx context.Context, kind string, addr netip.AddrPort, count int, cpus string, args []string) (*server, error) {
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

// freePort returns an address that nobody listens at.
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

// pids are the processes of the server.
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

// cpu is the user and system time that the server has used, in
// nanoseconds, as the scheduler counts it.
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

// rss is the resident memory of the server, in MB.
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

// A figure is what a load measured.
type figure struct {
	rate  float64 // queries/s
	cpu   float64 // microseconds of the server's for each
	extra float64 // what the load says beside
}

// A load asks a server for some seconds.
type load func(context.Context, *server) (figure, error)

// measured runs a load and adds the CPU time that the server used.
func measured(ctx context.Context, s *server, ask func(context.Context, *server) (count, rate, extra float64, err error)) (figure, error) {
	before := s.cpu()
	count, rate, extra, err := ask(ctx, s)
	if err != nil {
		return figure{}, fmt.Errorf("%s: %w\n%s", s.name, err, &s.log)
	}
	return figure{rate, float64((s.cpu() - before).Microseconds()) / max(count, 1), extra}, nil
}

// rows gives each server each load, in each round, and returns the medians.
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

// kinds are those of -servers that are among the given ones.
func kinds(list ...string) (chosen []string) {
	for _, k := range list {
		if *only == "" || slices.Contains(strings.Split(*only, ","), k) {
			chosen = append(chosen, k)
		}
	}
	return chosen
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

// ratio is to the server of that name.
func ratio(servers []*server, figures [][]figure, to string, of func([]figure) float64) func(i int) string {
	base := math.NaN()
	for i, s := range servers {
		if s.name == to {
			base = of(figures[i])
		}
	}
	return func(i int) string { return fmt.Sprintf("%.2f", of(figures[i])/base) }
}

const server0, client1 = "0", "1" // processors

func title(format string, args ...any) { fmt.Printf("\n### "+format+"\n\n", args...) }

func (b *bench) main(ctx context.Context) error {
	const count = 10_000
	return b.with(ctx, kinds("echo", "dnsdock", "nsd", "knot", "dnsmasq", "unbound"), count, server0, func(servers []*server) error {
		hits := queries(count, hit)
		f, err := rows(ctx, servers, b.dnsperf(hits, "-q", "100", "-c", "10"), b.batched(hits, 64))
		if err != nil {
			return err
		}
		title("UDP, one processor, %d names", count)
		fmt.Println("| server | queries/s (dnsperf) | to NSD | CPU µs/query | to NSD | queries/s (64 in flight, batched) | to NSD | CPU µs/query | to NSD | resident MB |")
		fmt.Println("|---|---|---|---|---|---|---|---|---|---|")
		r := func(of func([]figure) float64) func(int) string { return ratio(servers, f, "nsd", of) }
		rate0, cpu0 := r(func(f []figure) float64 { return f[0].rate }), r(func(f []figure) float64 { return f[0].cpu })
		rate1, cpu1 := r(func(f []figure) float64 { return f[1].rate }), r(func(f []figure) float64 { return f[1].cpu })
		for i, s := range servers {
			fmt.Printf("| %s | %.0f | %s | %.2f | %s | %.0f | %s | %.2f | %s | %.1f |\n", s.name,
				f[i][0].rate, rate0(i), f[i][0].cpu, cpu0(i), f[i][1].rate, rate1(i), f[i][1].cpu, cpu1(i), s.rss())
		}
		return nil
	})
}

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
			rate := ratio(servers, f, "nsd", func(f []figure) float64 { return f[0].rate })
			cpu := ratio(servers, f, "nsd", func(f []figure) float64 { return f[0].cpu })
			for i, s := range servers {
				fmt.Printf("| %d | %s | %.0f | %s | %.2f | %s | %.1f |\n", count, s.name, f[i][0].rate, rate(i), f[i][0].cpu, cpu(i), s.rss())
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

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
			rate := ratio(servers, f, "nsd", func(f []figure) float64 { return f[j].rate })
			cpu := ratio(servers, f, "nsd", func(f []figure) float64 { return f[j].cpu })
			for i, s := range servers {
				fmt.Printf("| %s | %s | %.0f | %s | %.2f | %s |\n", l.name, s.name, f[i][j].rate, rate(i), f[i][j].cpu, cpu(i))
			}
		}
		return nil
	})
}

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
			rate := ratio(servers, f, "nsd", func(f []figure) float64 { return f[0].rate })
			cpu := ratio(servers, f, "nsd", func(f []figure) float64 { return f[0].cpu })
			for i, s := range servers {
				fmt.Printf("| %d | %s | %.0f | %s | %.2f | %s |\n", count, s.name, f[i][0].rate, rate(i), f[i][0].cpu, cpu(i))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

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

func (b *bench) tcp(ctx context.Context) error {
	const count = 1000
	return b.with(ctx, kinds("dnsdock", "nsd", "bind"), count, server0, func(servers []*server) error {
		hits := queries(count, hit)
		f, err := rows(ctx, servers, b.dnsperf(hits, "-m", "tcp", "-q", "200", "-c", "10"), b.tcpEach(hits))
		if err != nil {
			return err
		}
		title("TCP, one processor")
		fmt.Println("| server | pipelined queries/s | to BIND | CPU µs/query | connection for each: queries/s | CPU µs/query | to NSD |")
		fmt.Println("|---|---|---|---|---|---|---|")
		rate := ratio(servers, f, "bind", func(f []figure) float64 { return f[0].rate })
		cpu := ratio(servers, f, "nsd", func(f []figure) float64 { return f[1].cpu })
		for i, s := range servers {
			fmt.Printf("| %s | %.0f | %s | %.2f | %.0f | %.1f | %s |\n", s.name, f[i][0].rate, rate(i), f[i][0].cpu, f[i][1].rate, f[i][1].cpu, cpu(i))
		}
		return nil
	})
}

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

// forward has forwarders in front of an NSD, whose records they may keep or
// may not. It runs where the load does.
func (b *bench) forward(ctx context.Context) error {
	const count = 10_000
	title("Forwarding to NSD, UDP, one processor, %d names (64 in flight, batched)", count)
	fmt.Println("| answers | server | queries/s | to dnsmasq | to unbound | CPU µs/query | to dnsmasq | to unbound | resident MB |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|")
	defer func() { b.ttl = 60 }()
	for _, kept := range []struct {
		what string
		ttl  int
	}{{"not kept", 0}, {"kept", 3600}} {
		b.ttl = kept.ttl
		nsd, err := b.serve(ctx, "nsd", count, client1)
		if err != nil {
			return err
		}
		err = func() error {
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
				fmt.Printf("| %s | %s | %.0f | %s | %s | %.2f | %s | %s | %.1f |\n", kept.what, s.name,
					f[i][0].rate, r("dnsmasq", rate)(i), r("unbound", rate)(i), f[i][0].cpu, r("dnsmasq", cpu)(i), r("unbound", cpu)(i), s.rss())
			}
			return nil
		}()
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) start(ctx context.Context) error {
	title("Start of dnsdock, a fake engine, two processors")
	fmt.Println("| containers | first answer of its own name ms | all containers answered s | resident MB then | and 5 s later |")
	fmt.Println("|---|---|---|---|---|")
	for _, count := range []int{1, 1000, 10_000} {
		e, err := startEngine(b.dir, count)
		if err != nil {
			return err
		}
		var first, ready, rss, later []figure
		for range *rounds {
			f, err := b.startOnce(ctx, e, count)
			if err != nil {
				return errors.Join(err, e.close())
			}
			first, ready = append(first, figure{rate: f[0]}), append(ready, figure{rate: f[1]})
			rss, later = append(rss, figure{rate: f[2]}), append(later, figure{rate: f[3]})
		}
		of := func(f figure) float64 { return f.rate }
		fmt.Printf("| %d | %.0f | %.2f | %.1f | %.1f |\n", count, median(first, of), median(ready, of), median(rss, of), median(later, of))
		if err := e.close(); err != nil {
			return err
		}
	}
	return nil
}

// storm asks while 10,000 containers are restarted.
func (b *bench) storm(ctx context.Context) error {
	const count = 10_000
	e, err := startEngine(b.dir, count)
	if err != nil {
		return err
	}
	defer e.close()
	s := &server{name: "dnsdock", addr: freePort(), done: make(chan struct{})}
	// The engine is this process: beside what asks, which goes first.
	if out, err := exec.CommandContext(ctx, "taskset", "-acp", client1, fmt.Sprint(os.Getpid())).CombinedOutput(); err != nil {
		return fmt.Errorf("taskset: %w: %s", err, out)
	}
	if err := s.start(ctx, server0, append([]string{filepath.Join(b.dir, "dnsdock")}, dnsdockArgs(e, s.addr.Port())...)); err != nil {
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
	title("20,000 queries/s over UDP while all of %d containers are restarted, one processor", count)
	fmt.Println("| | p99 µs | inspected in the time |")
	fmt.Println("|---|---|---|")
	fmt.Printf("| quiet | %.0f | |\n", median(quiet, p99))
	fmt.Printf("| 20,000 events, as fast as they are taken | %.0f | %.0f |\n", median(storm, p99), median(storm, func(f figure) float64 { return f.rate }))
	return nil
}

// startOnce returns the milliseconds from exec to the first answer, the
// seconds until the last container's, and the memory then and later.
func (b *bench) startOnce(ctx context.Context, e *engine, count int) (f [4]float64, err error) {
	s := &server{name: "dnsdock", addr: freePort(), done: make(chan struct{})}
	begun := time.Now()
	if err := s.start(ctx, "0,1", append([]string{filepath.Join(b.dir, "dnsdock")}, dnsdockArgs(e, s.addr.Port())...)); err != nil {
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
