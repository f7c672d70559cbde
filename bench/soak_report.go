//go:build linux

package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A sample is what dnsdock uses at a time.
type sample struct {
	at          time.Time
	rss         float64 // MB
	heap        float64 // MB
	goroutines  int
	descriptors int
	threads     int
	cpu         float64 // seconds since the start
	asked       int     // questions so far
	failures    int     // so far
}

// sample measures dnsdock by /proc and by its metrics.
func (s *soak) sample() (now sample, err error) {
	proc := filepath.Join("/proc", strconv.Itoa(s.cmd.Process.Pid))
	now.at, now.failures, now.asked = time.Now(), s.tally.failures(), s.tally.questions()
	list, err := os.ReadDir(filepath.Join(proc, "fd"))
	if err != nil {
		return now, fmt.Errorf("dnsdock has ended: %w", err)
	}
	now.descriptors = len(list)
	status, err := os.ReadFile(filepath.Join(proc, "status"))
	if err != nil {
		return now, err
	}
	now.rss = number(status, `VmRSS:\s+(\d+)`) / 1024
	now.threads = int(number(status, `Threads:\s+(\d+)`))
	stat, err := os.ReadFile(filepath.Join(proc, "stat"))
	if err != nil {
		return now, err
	}
	if f := strings.Fields(string(stat)); len(f) > 14 { // user and system time, in hundredths of a second
		user, _ := strconv.Atoi(f[13])
		system, _ := strconv.Atoi(f[14])
		now.cpu = float64(user+system) / 100
	}
	resp, err := client.Get("http://" + s.http + "/metrics")
	if err != nil {
		return now, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return now, err
	}
	now.goroutines = int(number(text, `(?m)^go_goroutines (\d+)`))
	now.heap = number(text, `(?m)^go_memstats_heap_alloc_bytes ([\d.e+]+)`) / 1e6
	return now, nil
}

func (sample) header() string {
	return "| time | state | resident MB | heap MB | goroutines | descriptors " +
		"| threads | CPU s | questions | failures |\n" +
		"|---|---|---|---|---|---|---|---|---|---|"
}

func (x sample) row(state string) string {
	return fmt.Sprintf("| %s | %s | %.1f | %.1f | %d | %d | %d | %.1f | %d | %d |", x.at.Format("15:04:05"), state,
		x.rss, x.heap, x.goroutines, x.descriptors, x.threads, x.cpu, x.asked, x.failures)
}

// questions returns how many answers were checked.
func (t *tally) questions() (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, kind := range questionKinds {
		if c := t.counts[kind]; c != nil {
			n += int(c.Load())
		}
	}
	return n
}

var questionKinds = []string{
	"containers that stay", "containers that change", "all of an image", "names that are not there",
	"services of the API", "forwarded", "a real engine",
}

// Bounds on what may be left at the end. Go keeps some memory and threads.
const (
	moreGoroutines  = 5
	moreDescriptors = 5
	moreMemory      = 8 // MB, for kept answers and what Go has not given back
)

// report prints what was done, and compares the rest at the end with that at
// the start.
func (s *soak) report(samples []sample) {
	first, last := samples[0], samples[len(samples)-1]
	fmt.Println(last.row("at rest"))
	if last.goroutines > first.goroutines+moreGoroutines {
		s.tally.fail("the end", "%d goroutines; %d at the start", last.goroutines, first.goroutines)
	}
	if last.descriptors > first.descriptors+moreDescriptors {
		s.tally.fail("the end", "%d descriptors; %d at the start", last.descriptors, first.descriptors)
	}
	if last.rss > first.rss+moreMemory {
		s.tally.fail("the end", "%.1f MB; %.1f MB at the start", last.rss, first.rss)
	}
	text, err := os.ReadFile(s.log.Name())
	if err != nil {
		s.tally.fail("the end", "%v", err)
	}
	for _, line := range regexp.MustCompile(`(?m)^.*(panic:|fatal error|DATA RACE|level=ERROR).*$`).FindAll(text, 10) {
		s.tally.fail("the log", "%s", line)
	}
	fmt.Println("\n| what | times |\n|---|---|")
	for _, kind := range s.tally.order {
		fmt.Printf("| %s | %d |\n", kind, s.tally.counts[kind].Load())
	}
	fmt.Printf("| failures | %d |\n", s.tally.failures())
}
