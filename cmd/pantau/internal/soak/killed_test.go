package soak

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A soak that is killed itself leaves nothing: no process, no namespace, no file.
func TestKilledItLeavesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a world")
	}
	c := exec.Command(os.Args[0], "-test.run", "^TestDay$", "-test.v")
	tmp := t.TempDir()
	c.Env = append(os.Environ(), lengthVariable+"=1m", "TMPDIR="+tmp)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	var said strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		fmt.Fprintln(&said, lines.Text())
		if strings.Contains(lines.Text(), "SKIP") {
			t.Skip(said.String())
		}
		if strings.Contains(lines.Text(), "kills of seed") { // everything runs, or is about to
			break
		}
	}
	label := fmt.Sprintf("%s-%d", lab, c.Process.Pid)
	left := func() (files, spaces, running []string) {
		entries, err := os.ReadDir(tmp)
		check(t, err)
		for _, e := range entries {
			files = append(files, e.Name())
		}
		spaces, err = namespaces(label)
		check(t, err)
		return files, spaces, processes(t, tmp)
	}
	if files, spaces, running := left(); len(files) == 0 || len(spaces) == 0 || len(running) == 0 {
		t.Errorf("it has made %v, %v, %v: nothing is proved\n%s", files, spaces, running, said.String())
	}
	check(t, c.Process.Kill())
	_ = c.Wait()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		files, spaces, running := left()
		if len(files)+len(spaces)+len(running) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("left behind: %v, %v, %v", files, spaces, running)
		}
	}
}

// processes are those that have a folder in their command line.
func processes(t *testing.T, folder string) (all []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	check(t, err)
	for _, f := range files {
		if raw, err := os.ReadFile(f); err == nil && strings.Contains(string(raw), folder) {
			all = append(all, strings.ReplaceAll(string(raw), "\x00", " "))
		}
	}
	return all
}
