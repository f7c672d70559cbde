package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/rayje/dnsdock/internal/dnstest"
)

// TestStateFileFails has each system call fail that writes the state file. The
// file holds what it held or what was changed, and never less. What was changed
// meanwhile is answered, and is in the file after the next change.
func TestStateFileFails(t *testing.T) {
	t.Parallel()
	engine := "-docker=" + dnstest.NewEngine().ServeUnix(t)
	for _, f := range []struct {
		fault
		file func(state string) string // the file whose calls fail
	}{
		{fault{call: "openat", errno: "ENOSPC"}, aside},
		{fault{call: "openat", errno: "EMFILE"}, aside},
		{fault{call: "write", errno: "ENOSPC"}, aside},
		{fault{call: "write", errno: "EIO"}, aside},
		{fault{call: "fsync", errno: "EIO"}, aside},
		{fault{call: "close", errno: "EIO"}, aside},
		{fault{call: "renameat,renameat2,rename", errno: "EACCES"}, aside},
		{fault{call: "renameat,renameat2,rename", errno: "ENOSPC"}, aside},
		{fault{call: "fsync", errno: "EIO"}, filepath.Dir},
		{fault{call: "openat", errno: "ENFILE"}, filepath.Dir},
	} {
		state := filepath.Join(t.TempDir(), "state.json")
		f.path = f.file(state)
		t.Run(fmt.Sprint(f.fault, " ", filepath.Base(f.path)), func(t *testing.T) {
			t.Parallel()
			testStateFault(t, f.fault, state, engine)
		})
	}
}

// aside is the name of the file that replaces the state file.
func aside(state string) string { return state + ".new" }

func testStateFault(t *testing.T, f fault, state, engine string) {
	flags := []string{"-dns=127.0.0.1:0", "-http=127.0.0.1:0", "-nameserver=", "-state=" + state, engine}
	p := startProcess(t, flags...)
	in := newInstance(t, p)
	in.log.Wait(t, "engine found")
	put := func(name string, want ...int) {
		t.Helper()
		body := fmt.Sprintf(`{"name":%q,"image":"made","ip":"192.0.2.1"}`, name)
		got, reply := in.call(t, "PUT", "/services/"+name, body)
		for _, w := range want {
			if got == w {
				return
			}
		}
		t.Errorf("PUT %s: got %d %s; want one of %d", name, got, reply, want)
	}
	put("before", 201)
	i := p.inject(t, f, false)
	for _, name := range []string{"during1", "during2", "during3"} {
		put(name, 201, 500)
		stateHolds(t, state, "before")
		in.want(t, name+".made.docker A", "NOERROR", "192.0.2.1")
	}
	if i.count() == 0 {
		t.Errorf("no call of %s failed", f.call)
	}
	i.end(t)
	put("after", 201)
	all := []string{"before", "during1", "during2", "during3", "after"}
	stateHolds(t, state, all...)
	if left, err := filepath.Glob(state + "*"); err != nil || len(left) != 1 {
		t.Errorf("files of the state: got %q, %v; want one", left, err)
	}
	if err := in.stop(); err != nil {
		t.Errorf("dnsdock: %v", err)
	}
	again := startDnsdock(t, "-state="+state, engine)
	again.log.Wait(t, "engine found")
	for _, name := range all {
		again.want(t, name+".made.docker A", "NOERROR", "192.0.2.1")
	}
}

// stateHolds fails the test unless the state file is whole and has services.
func stateHolds(t *testing.T, state string, names ...string) {
	t.Helper()
	data, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(data) {
		t.Fatalf("the state file is damaged: %s", data)
	}
	for _, name := range names {
		if !bytes.Contains(data, fmt.Appendf(nil, "%q: {", name)) {
			t.Errorf("the state file does not hold %s: %s", name, data)
		}
	}
}
