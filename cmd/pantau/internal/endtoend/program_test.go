package endtoend

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

const module = "github.com/pantau-desa/pantau/"

// TestMain builds the programs once and puts them first in the path. Started with
// a sender's state directory it is that sender instead: see TestKilled.
func TestMain(m *testing.M) {
	if dir := os.Getenv(senderDir); dir != "" {
		os.Exit(send(dir))
	}
	bin, err := build()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// These tests wait more than they compute: together, unless the command line
	// says otherwise.
	err = flag.Set("test.parallel", "8")
	code := 1
	if err == nil {
		code = m.Run()
	}
	if err := errors.Join(err, os.RemoveAll(bin)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func build() (bin string, err error) {
	if bin, err = os.MkdirTemp("", "pantau-endtoend-"); err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-o", bin, module+"cmd/pantau", module+"cmd/pantau-probe").CombinedOutput()
	if err != nil {
		return "", errors.Join(fmt.Errorf("go build: %w: %s", err, out), os.RemoveAll(bin))
	}
	// The go command remembers a good run for as long as what the test opened stays
	// the same: let it know that this test is of all sources.
	err = filepath.WalkDir("../../../..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasPrefix(d.Name(), ".") && strings.Trim(d.Name(), ".") != "" {
			return fs.SkipDir
		}
		return err
	})
	return bin, errors.Join(err, os.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH")))
}

// program is one running process. It dies with the test, however that dies.
type program struct {
	t     *testing.T
	name  string
	cmd   *exec.Cmd
	log   string // file of what it says
	ended chan struct{}
}

// start runs a program until the test ends. What it says goes to the end of a log
// file; prepare may change that, or be nil.
func start(t *testing.T, log string, prepare func(*exec.Cmd), name string, args ...string) *program {
	t.Helper()
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	p := &program{t: t, name: name, cmd: exec.Command(name, args...), log: log, ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = f, f
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if prepare != nil {
		prepare(p.cmd)
	}
	started := make(chan error)
	go func() {
		// The kernel kills the child when the thread that started it ends: this one
		// lives as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.ended)
		defer f.Close()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // told by ProcessState
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	return p
}

// kill ends it without warning: kill -9.
func (p *program) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
}

// end tells it to end, as a service manager does, and holds it to a clean end
// within ten seconds.
func (p *program) end() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatalf("%s has ended before it was told to: %v\n%s", p.name, err, p.said())
	}
	select {
	case <-p.ended:
		if code := p.cmd.ProcessState.ExitCode(); code != 0 {
			p.t.Errorf("%s ends with %v\n%s", p.name, p.cmd.ProcessState, p.said())
		}
	case <-time.After(10 * time.Second):
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // it tells where it stands
		<-p.ended
		p.t.Fatalf("%s does not end\n%s", p.name, p.said())
	}
}

// said is the end of what it said.
func (p *program) said() string { return tail(p.log) }

func tail(log string) string {
	raw, err := os.ReadFile(log)
	if err != nil {
		return err.Error()
	}
	return string(raw[max(0, len(raw)-8000):])
}

// call runs a program to its end.
func call(t *testing.T, name string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var out, errs bytes.Buffer
	c := exec.CommandContext(ctx, name, args...)
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); c.ProcessState == nil || ctx.Err() != nil {
		t.Fatalf("%s %s: %v, %v\n%s", name, strings.Join(args, " "), err, ctx.Err(), errs.String())
	}
	return out.String(), errs.String(), c.ProcessState.ExitCode()
}

// must is call for what has to work.
func must(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, errs, code := call(t, name, args...)
	if code != 0 {
		t.Fatalf("%s %s: exit %d\n%s%s", name, strings.Join(args, " "), code, out, errs)
	}
	return out
}

// await looks until it is so.
func await(t *testing.T, patience time.Duration, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !so(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}
