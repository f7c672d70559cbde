package hostsfile

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rayje/dnsdock/internal/dnstest"
)

const owner = "dnsdock docker"

// write makes a hosts file for a test.
func write(t *testing.T, text string) *File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	return &File{Path: path, Owner: owner, Log: slog.New(slog.DiscardHandler)}
}

func (f *File) want(t *testing.T, want string) {
	t.Helper()
	if got, err := os.ReadFile(f.Path); err != nil || string(got) != want {
		t.Errorf("the file is %q, %v; want %q", got, err, want)
	}
}

func (f *File) set(t *testing.T, hosts ...Host) {
	t.Helper()
	if err := f.Set(hosts); err != nil {
		t.Fatal(err)
	}
}

func hostAt(name string, addrs ...string) (h Host) {
	h.Name = name
	for _, a := range addrs {
		h.Addrs = append(h.Addrs, netip.MustParseAddr(a))
	}
	return h
}

// blockOf returns a block with these lines.
func blockOf(note, lines string) string {
	return fmt.Sprintf(beginFormat, owner) + note + "\n" + lines + fmt.Sprintf(endFormat, owner) + "\n"
}

func TestSet(t *testing.T) {
	const rest = "127.0.0.1 localhost\n# ünïcode \t\r\n10.9.9.9 Taken.Docker. x # y.docker\n"
	f := write(t, rest)
	web := hostAt("web.docker", "10.0.0.1", "fd00::1")
	f.set(t, web, hostAt("db.docker", "10.0.0.2"))
	f.want(t, rest+blockOf("", "10.0.0.1\tweb.docker\nfd00::1\tweb.docker\n10.0.0.2\tdb.docker\n"))
	f.set(t, hostAt("taken.docker", "10.0.0.1"), hostAt("localhost", "10.0.0.1"), hostAt("y.docker", "10.0.0.1"),
		hostAt("a b", "10.0.0.1"), hostAt("a\nb", "10.0.0.1"), hostAt("a#b", "10.0.0.1"),
		hostAt(`a\032b`, "10.0.0.1"), hostAt("none.docker"))
	f.want(t, rest+blockOf("", "10.0.0.1\ty.docker\n"))

	// Others write before and after the block.
	b, _ := os.ReadFile(f.Path)
	if err := os.WriteFile(f.Path, []byte("# first\n"+string(b)+"# last"), 0o640); err != nil {
		t.Fatal(err)
	}
	f.set(t, web)
	f.want(t, "# first\n"+rest+blockOf("", "10.0.0.1\tweb.docker\nfd00::1\tweb.docker\n")+"# last")
	other := &File{Path: f.Path, Owner: "dnsdock test", Log: f.Log}
	other.set(t, web, hostAt("web.test", "10.0.0.3"))
	f.set(t)
	other.set(t)
	f.want(t, "# first\n"+rest+"# last")
}

// A last line without an end has none again when the block is gone.
func TestSetWithoutLastEnd(t *testing.T) {
	for _, rest := range []string{"", "\n", "127.0.0.1 localhost", "127.0.0.1 localhost\r"} {
		f := write(t, rest)
		note := addedLF
		end := "\n"
		if rest == "" || rest == "\n" {
			note, end = "", ""
		}
		for range 2 {
			f.set(t, hostAt("a.docker", "10.0.0.1"))
			f.want(t, rest+end+blockOf(note, "10.0.0.1\ta.docker\n"))
		}
		f.set(t)
		f.want(t, rest)
	}
}

func TestSetKeepsOwnerAndMode(t *testing.T) {
	f := write(t, "127.0.0.1 localhost\n")
	if runtime.GOOS != "windows" && os.Geteuid() == 0 {
		if err := os.Chown(f.Path, 1234, 5678); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(f.Path, link); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(f.Path)
	if err != nil {
		t.Fatal(err)
	}
	target := f.Path
	f.Path = link
	f.set(t, hostAt("a.docker", "10.0.0.1"))
	f.want(t, "127.0.0.1 localhost\n"+blockOf("", "10.0.0.1\ta.docker\n"))
	now, err := os.Stat(target)
	if err != nil {
		t.Fatal(err)
	}
	a, b := before.Sys().(*syscall.Stat_t), now.Sys().(*syscall.Stat_t)
	if now.Mode() != before.Mode() || a.Uid != b.Uid || a.Gid != b.Gid {
		t.Errorf("got %v %d:%d; want %v %d:%d", now.Mode(), b.Uid, b.Gid, before.Mode(), a.Uid, a.Gid)
	}
	if os.SameFile(before, now) {
		t.Error("it was written in place; want a new file, so that readers see one or the other")
	}
	if info, err := os.Lstat(link); err != nil || info.Mode().Type() != os.ModeSymlink {
		t.Errorf("the link is %v, %v", info, err)
	}
	if list, _ := filepath.Glob(filepath.Dir(target) + "/*"); len(list) != 1 {
		t.Errorf("left behind: %v", list)
	}
}

// Where the file can't be replaced, it is written in place. A directory in the
// place of the new file stands for a mount or a read-only directory, which need root.
func TestSetInPlace(t *testing.T) {
	f := write(t, "127.0.0.1 localhost\n")
	if err := os.MkdirAll(f.Path+".dnsdock-new/x", 0o700); err != nil {
		t.Fatal(err)
	}
	before, _ := os.Stat(f.Path)
	f.set(t, hostAt("a.docker", "10.0.0.1"), hostAt("b.docker", "10.0.0.1"))
	f.want(t, "127.0.0.1 localhost\n"+blockOf("", "10.0.0.1\ta.docker\n10.0.0.1\tb.docker\n"))
	f.set(t)
	f.want(t, "127.0.0.1 localhost\n")
	if now, _ := os.Stat(f.Path); !os.SameFile(before, now) {
		t.Error("it is another file")
	}
}

// A file that another program has written since it was read is not overwritten.
func TestChangedMeanwhile(t *testing.T) {
	f := write(t, "old\n")
	info, err := os.Stat(f.Path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.Path, []byte("by another\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := replace(f.Path, info, []byte("ours")); err != errChanged {
		t.Errorf("replace: got %v; want %v", err, errChanged)
	}
	if err := rewrite(f.Path, info, nil, []byte("ours")); err != errChanged {
		t.Errorf("rewrite: got %v; want %v", err, errChanged)
	}
	f.want(t, "by another\n")
}

// What can't be a hosts file, or holds half a block, is left alone with an error that says why.
func TestSetErrors(t *testing.T) {
	begin := fmt.Sprintf(beginFormat, owner) + "\n"
	end := fmt.Sprintf(endFormat, owner) + "\n"
	for _, text := range []string{begin, end, begin + begin + end, begin + end + end, begin + end + begin + end, end + begin} {
		f := write(t, text)
		if err := f.Set([]Host{hostAt("a.docker", "10.0.0.1")}); err == nil || !strings.Contains(err.Error(), "by hand") {
			t.Errorf("%q: got error %v; want one that says what to do", text, err)
		}
		f.want(t, text)
	}
	for _, path := range []string{t.TempDir(), "/nonexistent/hosts"} {
		if err := (&File{Path: path, Owner: owner}).Set(nil); err == nil {
			t.Errorf("%s: got no error", path)
		}
		if Check(path) == nil {
			t.Errorf("Check(%s): got no error", path)
		}
	}
}

// So many names that they do not fit are left out from the end, with one warning.
func TestSetIsBounded(t *testing.T) {
	f, log := write(t, "rest\n"), dnstest.NewLog()
	f.Log = slog.New(slog.NewTextHandler(log, nil))
	var hosts []Host
	for i := range maxBlock / 20 {
		hosts = append(hosts, hostAt(fmt.Sprintf("name-%08d.docker", i), "10.0.0.1"))
	}
	f.set(t, hosts...)
	f.set(t, hosts[1:]...)
	if info, err := os.Stat(f.Path); err != nil || info.Size() > maxBlock+1000 || info.Size() < maxBlock-1000 {
		t.Errorf("the file has %d bytes, %v; want about %d", info.Size(), err, maxBlock)
	}
	if n := strings.Count(log.String(), "can't hold all names"); n != 1 {
		t.Errorf("%d warnings; want one:\n%s", n, log)
	}
	f.set(t)
	f.want(t, "rest\n")
}

// Changes are gathered, what others took out is put back, and nothing is
// written before all is known. At the end the block is removed.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, log := write(t, "rest\n"), dnstest.NewLog()
		f.Log = slog.New(slog.NewTextHandler(log, nil))
		ctx, cancel := context.WithCancel(t.Context())
		changes, ended := make(chan int, 10), make(chan error, 1)
		var known atomic.Bool
		calls := 0
		go func() {
			ended <- Run(ctx, f, changes, func() ([]Host, bool) {
				calls++
				return []Host{hostAt(fmt.Sprintf("a%d.docker", calls), "10.0.0.1")}, known.Load()
			})
		}()
		synctest.Wait()
		f.want(t, "rest\n")
		known.Store(true)
		time.Sleep(gather + 1)
		synctest.Wait()
		f.want(t, "rest\n"+blockOf("", "10.0.0.1\ta2.docker\n"))
		for range 10 {
			changes <- 1
		}
		time.Sleep(gather + 1)
		synctest.Wait()
		f.want(t, "rest\n"+blockOf("", "10.0.0.1\ta3.docker\n"))

		if err := os.WriteFile(f.Path, []byte("rest of another\n"), 0o640); err != nil {
			t.Fatal(err)
		}
		time.Sleep(recheck)
		synctest.Wait()
		f.want(t, "rest of another\n"+blockOf("", "10.0.0.1\ta4.docker\n"))

		if err := os.Rename(f.Path, f.Path+".away"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * recheck)
		if err := os.Rename(f.Path+".away", f.Path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(recheck)
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run returned %v", err)
		}
		f.want(t, "rest of another\n")
		if text := log.String(); strings.Count(text, "\n") != 2 ||
			!strings.Contains(text, "can't be kept") || !strings.Contains(text, "kept again") {
			t.Errorf("the log is\n%s; want a line at the begin and one at the end", text)
		}
	})
}

// Whatever a file holds, a block is found again as it was written, and the
// rest is as it was when it is gone.
func FuzzSplit(f *testing.F) {
	block := blockOf("", "10.0.0.1\ta.docker\n")
	for _, s := range []string{
		"", "a", "a\n", block, "a\n" + block + "b", "a\n" + blockOf(addedLF, "x\n"), block + block, block[9:], "\r\n" + block,
	} {
		f.Add([]byte(s), "10.0.0.2\tb.docker\n")
	}
	f.Fuzz(func(t *testing.T, data []byte, lines string) {
		if lines != "" && !strings.HasSuffix(lines, "\n") || strings.Contains(lines, "#") {
			return
		}
		p, err := split(data, owner)
		if err != nil {
			return
		}
		if got := bytes.Join([][]byte{p.before, p.block, p.after}, nil); !bytes.Equal(got, data) {
			t.Fatalf("%q is split into parts of %q", data, got)
		}
		namesIn(data)
		rest, whole := p.without(), p.with(owner, lines)
		q, err := split(whole, owner)
		if err != nil || (len(q.block) > 0) != (lines != "") || !bytes.Contains(q.block, []byte(lines)) {
			t.Fatalf("%q with %q is %q, which is split into %q, %v", data, lines, whole, q.block, err)
		}
		if got := q.without(); !bytes.Equal(got, rest) {
			t.Fatalf("%q without the block is %q; want %q", whole, got, rest)
		}
		if again := q.with(owner, lines); !bytes.Equal(again, whole) {
			t.Fatalf("%q, written again, is %q", whole, again)
		}
	})
}
