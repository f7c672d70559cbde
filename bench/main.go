//go:build linux

// Bench compares dnsdock with other DNS servers, side by side on this machine:
//
//	go run ./bench
//
// It starts dnsdock, the NSD, Knot DNS, dnsmasq and unbound of this system, and
// an echo of UDP packets in C, which is the limit of what a server can do. All
// have the same names. In each round each server gets each load in turn. Bench
// prints the medians of the rounds, and their ratios to those of NSD.
//
// The servers run on one processor, and the loads on another one. All packets
// stay on 127.0.0.1.
//
//	go run ./bench soak -duration 1h
//
// runs dnsdock alone for a long time, with containers that come and go, engines
// and upstreams that fail, hostile packets and abuse of HTTP, all at once. It
// checks every answer, and that at the end memory, goroutines and descriptors
// are as at the start.
package main

import (
	"bytes"
	"context"
	_ "embed"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

//go:embed c/echo.c
var echoC []byte

//go:embed c/load.c
var loadC []byte

var (
	rounds   = flag.Int("rounds", 3, "rounds, of which the medians are shown")
	seconds  = flag.Int("seconds", 3, "how long each load lasts")
	only     = flag.String("servers", "", "servers by commas; empty: all")
	before   = flag.String("before", "", "another dnsdock binary to measure beside this one, under the name before")
	sections = flag.String("sections", "main,sizes,mix,cores,idle,tcp,latency,forward,start,storm,transfer",
		"what to measure")
)

func main() {
	log.SetFlags(0)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	do := run
	if len(os.Args) > 1 && os.Args[1] == "soak" {
		do = func(ctx context.Context) error { return runSoak(ctx, os.Args[2:]) }
	} else {
		flag.Parse()
	}
	if err := do(ctx); err != nil {
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
		{"idle", b.idle}, {"tcp", b.tcp}, {"latency", b.latency}, {"forward", b.forward},
		{"start", b.start}, {"storm", b.storm},
		{"transfer", func(ctx context.Context) error { return transfers(ctx, b) }},
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

// machine describes the machine that the figures are of.
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
	return fmt.Sprintf("%s, %d processors, Linux %s; %d rounds of %d s",
		name, bytes.Count(cpu, []byte("processor\t")), release, *rounds, *seconds)
}

// A bench has the programs and the names.
type bench struct {
	dir string
	ttl int // seconds, of the records of zone files
}

// build compiles dnsdock and the echo.
func (b *bench) build(ctx context.Context) error {
	at := func(name string) string { return filepath.Join(b.dir, name) }
	for name, text := range map[string][]byte{"echo.c": echoC, "load.c": loadC} {
		if err := os.WriteFile(at(name), text, 0o644); err != nil {
			return err
		}
	}
	for _, args := range [][]string{
		{"go", "build", "-trimpath", "-ldflags=-s -w", "-o", at("dnsdock"), "github.com/rayje/dnsdock"},
		{"cc", "-O2", "-o", at("echo"), at("echo.c")},
		{"cc", "-O2", "-o", at("load"), at("load.c")},
	} {
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}
