package e2e

import (
	"cmp"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rayje/dnsdock/internal/dnstest"
)

// sendSignal sends a signal by the kill command.
func sendSignal(t *testing.T, sig, pid string) {
	t.Helper()
	if out, err := exec.Command("kill", "-"+sig, pid).CombinedOutput(); err != nil {
		t.Fatalf("kill -%s %s: %v: %s", sig, pid, err, out)
	}
}

// An ownEngine is an engine that the test starts, in a network namespace of its
// own.
type ownEngine struct {
	liveEngine
	dir     string
	netns   string
	wrapper []string // the command that starts the engine, if it is not started as it is
	cmd     *exec.Cmd
	ended   chan struct{} // closed when cmd has ended
	log     *dnstest.Log
}

// newOwnEngine prepares an engine and does not start it. It skips the test if
// that is not possible.
func newOwnEngine(t *testing.T) *ownEngine {
	t.Helper()
	dnstest.Needs(t, "dockerd", "docker", "dig", "go", "ip", "nsenter", "kill", "umount")
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		t.Skip("only root can start an engine")
	}
	dir := t.TempDir()
	e := &ownEngine{dir: dir, netns: "dnsdock-" + random()}
	e.socket = filepath.Join(dir, "docker.sock")
	config := filepath.Join(dir, "daemon.json") // instead of the machine's
	if err := os.WriteFile(config, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("ip", "netns", "add", e.netns).CombinedOutput(); err != nil {
		t.Skipf("no network namespace: %v: %s", err, out)
	}
	t.Cleanup(func() { e.clear(t) })
	return e
}

// start starts the engine and waits until it serves. It tries twice, since the
// first start after a crash may fail.
func (e *ownEngine) start(t *testing.T, args ...string) {
	t.Helper()
	isFirst := e.cmd == nil
	for range 2 {
		if e.launch(t, args...) {
			return
		}
	}
	if isFirst {
		t.Skipf("the engine does not start:\n%s", e.log)
	}
	t.Fatalf("the engine does not start again:\n%s", e.log)
}

func (e *ownEngine) launch(t *testing.T, args ...string) (ok bool) {
	t.Helper()
	e.log, e.ended = dnstest.NewLog(), make(chan struct{})
	at := func(name string) string { return filepath.Join(e.dir, name) }
	dockerd := strings.Fields(cmp.Or(os.Getenv("DNSDOCK_DOCKERD"), "dockerd")) // set by scripts/engines.sh
	e.cmd = exec.Command("nsenter", slices.Concat([]string{"--net=/run/netns/" + e.netns}, e.wrapper, dockerd, []string{
		"--config-file=" + at("daemon.json"), "--data-root=" + at("data"),
		"--exec-root=" + at("exec"), "--host=unix://" + e.socket, "--pidfile=" + at("pid"),
		"--cgroup-parent=/" + e.netns,
	}, args)...)
	e.cmd.Stdout, e.cmd.Stderr = e.log, e.log
	e.cmd.WaitDelay = time.Second // containerd has the pipe too, and may run on
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = e.cmd.Wait() // how it ended is in its log
		close(e.ended)
	}()
	for end := time.Now().Add(dnstest.Patience); time.Now().Before(end); {
		select {
		case <-e.ended:
			return false
		default:
		}
		if e.greet() == nil {
			return true
		}
	}
	e.stop(t, "KILL")
	return false
}

func (e *ownEngine) signal(t *testing.T, sig string) {
	t.Helper()
	sendSignal(t, sig, strconv.Itoa(e.cmd.Process.Pid))
}

// stop sends a signal that ends the engine, and waits until it has ended.
func (e *ownEngine) stop(t *testing.T, sig string) {
	t.Helper()
	e.signal(t, sig)
	select {
	case <-e.ended:
	case <-time.After(dnstest.Patience):
		t.Fatalf("the engine does not end:\n%s", e.log)
	}
}

// clear ends all processes of the engine, and removes its mounts and namespace.
func (e *ownEngine) clear(t *testing.T) {
	if t.Failed() && e.log != nil {
		t.Logf("log of the engine:\n%s", e.log)
	}
	if e.cmd != nil {
		select {
		case <-e.ended:
		default:
			_ = exec.Command("kill", "-TERM", strconv.Itoa(e.cmd.Process.Pid)).Run() // which ends its containers too
			select {
			case <-e.ended:
			case <-time.After(dnstest.Patience / 4):
			}
		}
	}
	// After SIGKILL of an engine, containerd and its shims still run.
	pids, _ := exec.Command("ip", "netns", "pids", e.netns).Output()
	for _, pid := range strings.Fields(string(pids)) {
		_ = exec.Command("kill", "-KILL", pid).Run() // it may be gone
	}
	e.clearCgroups()
	mounts, _ := os.ReadFile("/proc/self/mounts")
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], e.dir+"/") {
			_ = exec.Command("umount", "--lazy", f[1]).Run() // it may have gone with another mount
		}
	}
	if out, err := exec.Command("ip", "netns", "del", e.netns).CombinedOutput(); err != nil {
		t.Errorf("ip netns del: %v: %s", err, out)
	}
}

// clearCgroups ends the containers that run on after their engine was killed,
// and removes the engine's cgroups: of version 1 one for each controller.
func (e *ownEngine) clearCgroups() {
	tops, _ := filepath.Glob("/sys/fs/cgroup/*/" + e.netns) // the pattern is right
	for _, top := range append(tops, "/sys/fs/cgroup/"+e.netns) {
		var dirs []string
		_ = filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil // what can't be read is gone
		})
		for _, dir := range slices.Backward(dirs) {
			for end := time.Now().Add(dnstest.Patience / 4); os.Remove(dir) != nil && time.Now().Before(end); {
				pids, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
				if err != nil {
					break
				}
				for _, pid := range strings.Fields(string(pids)) {
					_ = exec.Command("kill", "-KILL", pid).Run() // it may be gone
				}
			}
		}
	}
}
