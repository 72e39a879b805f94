package demo

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The demo as people start it: the two programs side by side.

// programs builds both into a folder of this test.
func programs(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	c := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-ldflags", "-X "+module+"/probe.buildVersion=v0-test",
		"-o", dir, module+"/cmd/pantau", probeSource)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return dir
}

// process is a running `pantau demo`.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	dir    string   // of the demo
	others []string // folders where nothing may appear
	stdout *os.File // the end to read
	lines  *bufio.Reader

	mu   sync.Mutex
	errs bytes.Buffer
	said strings.Builder
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.errs.Write(b)
}

func (p *process) stderr() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.errs.String()
}

// start runs `pantau demo` in a process group of its own, as a shell does.
func start(t *testing.T, bin string, args ...string) *process {
	t.Helper()
	return startCommand(t, filepath.Join(bin, "pantau"), func(dir string) (all, env []string) {
		return append([]string{"demo", "--dir", dir, "--listen", "127.0.0.1:0"}, args...), nil
	})
}

// startCommand starts a program that plays the demo in the folder that its
// arguments or its environment name.
func startCommand(t *testing.T, program string, with func(dir string) (args, env []string)) *process {
	t.Helper()
	top := t.TempDir()
	p := &process{t: t, dir: filepath.Join(top, "demo")}
	for _, name := range []string{"cwd", "tmp", "home"} {
		d := filepath.Join(top, name)
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
		p.others = append(p.others, d)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdout, p.lines = read, bufio.NewReader(read)
	args, env := with(p.dir)
	p.cmd = exec.Command(program, args...)
	p.cmd.Stdout, p.cmd.Stderr = write, p
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if len(env) == 0 { // else it builds, for which it needs the sources and the caches
		p.cmd.Dir, p.cmd.Env = p.others[0], append(p.cmd.Env, "TMPDIR="+p.others[1], "HOME="+p.others[2])
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		p.cmd.Wait()
		read.Close()
	})
	return p
}

// await reads on until a line holds what is wanted, and answers that line.
func (p *process) await(want string) string {
	p.t.Helper()
	p.stdout.SetReadDeadline(time.Now().Add(90 * time.Second))
	for {
		line, err := p.lines.ReadString('\n')
		p.said.WriteString(line)
		if strings.Contains(line, want) {
			return line
		}
		if err != nil {
			p.t.Fatalf("it never said %q (%v): %s%s", want, err, p.said.String(), p.stderr())
		}
	}
}

// wait is the exit code, once the process has ended and all it said is read.
func (p *process) wait() int {
	p.t.Helper()
	timer := time.AfterFunc(90*time.Second, func() { p.cmd.Process.Kill() })
	defer timer.Stop()
	p.stdout.SetReadDeadline(time.Time{})
	rest, _ := io.ReadAll(p.lines)
	p.said.Write(rest)
	p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode()
}

// clean checks that nothing of the demo is left but its folder.
func (p *process) clean() {
	p.t.Helper()
	if left := processesIn(p.t, p.dir); len(left) > 0 {
		p.t.Errorf("left running: %v", left)
	}
	if left := namespacesOf(p.t, p.cmd.Process.Pid); len(left) > 0 {
		p.t.Errorf("left standing: %v", left)
	}
	for _, d := range p.others {
		entries, err := os.ReadDir(d)
		if err != nil {
			p.t.Error(err)
		}
		for _, e := range entries {
			p.t.Errorf("left behind: %s", filepath.Join(d, e.Name()))
		}
	}
	if !exists(filepath.Join(p.dir, "collector", "journal")) {
		p.t.Error("the demo's folder has no journal: nothing was proved")
	}
}

func TestDemoAsAProcess(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs the programs for a minute")
	}
	t.Parallel()
	bin := programs(t)
	t.Run("ends in order", func(t *testing.T) { endsInOrder(t, bin) })
	t.Run("fails without figures", func(t *testing.T) { failsWithoutFigures(t, bin) })
	t.Run("refuses wrong usage", func(t *testing.T) { refusesWrongUsage(t, bin) })
	t.Run("an ended story does not hold", func(t *testing.T) { endedStoryDoesNotHold(t, bin) })
	t.Run("killed, it is cleared by the next", func(t *testing.T) { killedIsCleared(t, bin) })
}

// However people leave, the demo ends in order.
func endsInOrder(t *testing.T, bin string) {
	// Where the tests themselves are run by nohup, the demo would rightly stay when
	// the terminal is closed: a signal that is caught here is not ignored in a child.
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	t.Cleanup(func() { signal.Stop(hangup) })
	group := func(sig syscall.Signal) func(*process) {
		return func(p *process) { syscall.Kill(-p.cmd.Process.Pid, sig) }
	}
	for name, leave := range map[string]func(*process){
		"Ctrl-C":                 group(syscall.SIGINT),
		"the terminal is closed": group(syscall.SIGHUP),
		"SIGTERM to it alone":    func(p *process) { p.cmd.Process.Signal(syscall.SIGTERM) },
		"the reader leaves":      nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, bin, "--villages", "2")
			p.await("every village has its first figures")
			if n := len(processesIn(t, p.dir)); n != 2 {
				t.Errorf("%d probes run, want 2: nothing is proved", n)
			}
			if leave == nil {
				p.stdout.Close()
				// It is noticed with the next line, such as that of a probe that was killed.
				for _, pid := range processesIn(t, p.dir) {
					if out, err := exec.Command("kill", pid).CombinedOutput(); err != nil {
						t.Fatalf("%v: %s", err, out)
					}
				}
			} else {
				leave(p)
			}
			code := p.wait()
			if code != 0 {
				t.Errorf("exit %d: %s", code, p.stderr())
			}
			if leave != nil {
				for _, last := range []string{"slots of reach are missing.", "Nothing is left but " + p.dir} {
					if !strings.Contains(p.said.String(), last) {
						t.Errorf("it does not say %q: %s", last, p.said.String())
					}
				}
			}
			if strings.Contains(p.said.String(), "its probe ended") {
				t.Errorf("a probe ended before it was told to: %s", p.said.String())
			}
			p.clean()
		})
	}
}

// With --for there is a verdict: three seconds are too short for a good one.
func failsWithoutFigures(t *testing.T, bin string) {
	p := start(t, bin, "--villages", "1", "--no-netns", "--for", "3s", "--json", "-")
	if code := p.wait(); code != 1 {
		t.Errorf("exit %d, want 1: %s", code, p.stderr())
	}
	var r Report
	if err := json.Unmarshal([]byte(p.said.String()), &r); err != nil {
		t.Fatalf("standard output is not one JSON object: %v: %s", err, p.said.String())
	}
	if r.OK || r.Netns || len(r.Villages) != 1 || len(r.Villages[0].Problems) == 0 || r.Seconds < 3 {
		t.Errorf("%+v", r)
	}
	for _, said := range []string{"halaman: http://", "The figures do not hold for 1 of 1 villages", "no speed test"} {
		if !strings.Contains(p.stderr(), said) {
			t.Errorf("it does not say %q: %s", said, p.stderr())
		}
	}
	p.clean()
}

func refusesWrongUsage(t *testing.T, bin string) {
	for _, args := range [][]string{{"--villages", "0"}, {"--villages", "41"}, {"--for", "-1s"}, {"--json", "/nowhere/demo.json"}, {"now"},
		{"--story", "--for", "1m"}, {"--story", "--no-netns"}, {"--story", "--villages", "3"}} {
		p := start(t, bin, args...)
		if code := p.wait(); code != 2 || exists(p.dir) {
			t.Errorf("%v: exit %d, want 2: %s", args, code, p.stderr())
		}
	}
}

// A story that was ended is not one that holds.
func endedStoryDoesNotHold(t *testing.T, bin string) {
	needsNamespaces(t)
	file := filepath.Join(t.TempDir(), "story.json")
	p := start(t, bin, "--story", "--villages", "4", "--json", file)
	p.await("every village has its first figures")
	p.cmd.Process.Signal(syscall.SIGINT)
	if code := p.wait(); code != 1 || !strings.Contains(p.said.String(), "The story does not hold. story 1/7: ") {
		t.Errorf("exit %d, want 1: %s%s", code, p.said.String(), p.stderr())
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r Report
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Fatal(err)
	}
	if r.OK || r.StoryReport == nil || len(r.Steps) != 1 || r.Steps[0].OK || r.CutToMail != nil || r.MissingMinutes != nil || len(r.CutVillages) == 0 {
		t.Errorf("%s", raw)
	}
	p.clean()
}

// A kill leaves namespaces, but no process; the next start clears them.
func killedIsCleared(t *testing.T, bin string) {
	needsNamespaces(t)
	killed := start(t, bin, "--villages", "2")
	killed.await("every village has its first figures")
	killed.cmd.Process.Kill()
	killed.wait()
	for deadline := time.Now().Add(5 * time.Second); len(processesIn(t, killed.dir)) > 0 && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
	}
	if left := processesIn(t, killed.dir); len(left) > 0 {
		t.Errorf("probes outlive the demo: %v", left)
	}
	next := start(t, bin, "--villages", "1", "--dir", killed.dir)
	next.await("halaman: ")
	next.cmd.Process.Signal(syscall.SIGTERM)
	if code := next.wait(); code != 0 {
		t.Errorf("exit %d: %s", code, next.stderr())
	}
	next.dir = killed.dir
	next.clean()
	killed.clean()
}
