package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The programs as they are shipped, as processes on loopback.

// bin is where the programs are, once [built].
var bin string

var built = sync.OnceValue(func() error {
	out, err := exec.Command("go", "build", "-o", bin, "../pantau", ".").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
})

func TestMain(m *testing.M) {
	var err error
	if bin, err = os.MkdirTemp("", "pantau-services-bin-"); err == nil {
		err = os.Chmod(bin, 0o755) // another account runs them too
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(bin)
	os.Exit(code)
}

// world is a collector and a measurement server with one village.
type world struct {
	t       *testing.T
	dir     string
	ingest  string // host:port
	target  string // host:port
	config  string // of the collector
	serving *process
}

func newWorld(t *testing.T) *world {
	t.Helper()
	if testing.Short() {
		t.Skip("builds and runs the programs")
	}
	if err := built(); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "pantau-services-world-") // not t.TempDir: another account must get through
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: dir, ingest: free(t), target: free(t), config: filepath.Join(dir, "pantau.yaml")}
	for name, text := range map[string]string{
		"pantau.yaml": fmt.Sprintf("data_dir: %s/data\ninventory: %s/inventory\ningest: {listen: %q}\noffice: {listen: %q}\nprobes: {heartbeat: 5s}\n",
			dir, dir, w.ingest, free(t)),
		"pantau-target.yaml":    fmt.Sprintf("listen: %q\n", w.target),
		"inventory/regions.csv": "code;name;valid_from\n33;Jawa Tengah;2025-01-01\n33.10;Klaten;2025-01-01\n33.10.15;Wonosari;2025-01-01\n33.10.15.2002;Bener;2025-01-01\n",
		"inventory/isps.csv":    "isp;name;valid_from\na;A;2025-01-01\n",
		"inventory/nodes.csv":   "node;type;parent;name;valid_from\nODP-1;odp;;ODP;2025-01-01\n",
		"inventory/targets.csv": "target;method;address;url;latency;valid_from\nself;icmp;127.0.0.1;;yes;2025-01-01\nukur-1;speed;;http://" + w.target + "/speedtest;;2025-01-01\n",
		"inventory/sites.csv":   "site;village;name;isp;access;odp;valid_from\ns1;33.10.15.2002;Kantor;a;fiber;ODP-1;2025-01-01\n",
		"inventory/plans.csv":   "site;download_mbps;upload_mbps;source_document;valid_from\n",
		"inventory/probes.csv":  "probe;site;valid_from\nbox;s1;2025-01-01\n",
	} {
		w.write(name, text)
	}
	return w
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) write(name, text string) string {
	w.t.Helper()
	if err := os.MkdirAll(filepath.Dir(w.path(name)), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(w.path(name), []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
	return w.path(name)
}

// free is a port that nobody has, for TCP and UDP.
func free(t *testing.T) string {
	t.Helper()
	for range 50 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		p, err := net.ListenPacket("udp", l.Addr().String())
		l.Close()
		if err == nil {
			p.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no free port")
	return ""
}

// manager is a service manager: it hears what a program says of itself.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
	name string
}

// newManager listens at an abstract address, which any account may write to.
func newManager(t *testing.T) *manager {
	t.Helper()
	m := &manager{t: t, name: "@pantau-services-" + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatInt(time.Now().UnixNano(), 36)}
	var err error
	if m.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: m.name}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.conn.Close() })
	return m
}

// hear waits for a message that begins with prefix, and returns it.
func (m *manager) hear(prefix string, from *process) string {
	m.t.Helper()
	if err := m.conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		m.t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for {
		n, err := m.conn.Read(buf)
		if err != nil {
			m.t.Fatalf("%s does not say %s: %v\n%s", from.name, prefix, err, from.said())
		}
		if s := string(buf[:n]); strings.HasPrefix(s, prefix) {
			return s
		}
	}
}

// process is a running program.
type process struct {
	t    *testing.T
	name string
	cmd  *exec.Cmd
	out  string // file of what it says
	done chan error
}

// nobody is an account that is not root.
var nobody = &syscall.Credential{Uid: 65534, Gid: 65534, NoSetGroups: true}

// start runs a program under a manager until the test ends.
func (w *world) start(m *manager, as *syscall.Credential, name string, args ...string) *process {
	w.t.Helper()
	f, err := os.CreateTemp(w.dir, name+"-*.log")
	if err != nil {
		w.t.Fatal(err)
	}
	p := &process{t: w.t, name: name, cmd: exec.Command(filepath.Join(bin, name), args...), out: f.Name(), done: make(chan error, 1)}
	p.cmd.Stdout, p.cmd.Stderr = f, f
	p.cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+m.name, "WATCHDOG_USEC=900000", "WATCHDOG_PID=")
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: as}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the kernel's signal comes when this thread ends
		defer runtime.UnlockOSThread()
		defer f.Close()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.done <- p.cmd.Wait()
		}
		close(p.done)
	}()
	if err := <-started; err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = p.cmd.Process.Kill(); <-p.done })
	return p
}

func (p *process) said() string {
	raw, err := os.ReadFile(p.out)
	if err != nil {
		return err.Error()
	}
	return string(raw)
}

// end tells it to end, as a service manager does.
func (p *process) end() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatalf("%s: %v\n%s", p.name, err, p.said())
	}
	select {
	case err := <-p.done:
		if err != nil {
			p.t.Errorf("%s: %v\n%s", p.name, err, p.said())
		}
	case <-time.After(20 * time.Second):
		p.t.Fatalf("%s does not end\n%s", p.name, p.said())
	}
}

// serve starts the collector and waits until it says that it serves.
func (w *world) serve() {
	w.t.Helper()
	m := newManager(w.t)
	w.serving = w.start(m, nil, "pantau", "serve", "--config", w.config)
	m.hear("READY=1", w.serving)
}

func (w *world) measurementServer() {
	w.t.Helper()
	m := newManager(w.t)
	p := w.start(m, nil, "pantau", "target", "--config", w.path("pantau-target.yaml"))
	m.hear("READY=1", p)
}

// call runs a program to its end.
func (w *world) call(prepare func(*exec.Cmd), name string, args ...string) (stdout string, code int) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	var out, errs bytes.Buffer
	c := exec.CommandContext(ctx, filepath.Join(bin, name), args...)
	c.Stdout, c.Stderr = &out, &errs
	if prepare != nil {
		prepare(c)
	}
	if err := c.Run(); c.ProcessState == nil || ctx.Err() != nil {
		w.t.Fatalf("%s %v: %v, %v\n%s", name, args, err, ctx.Err(), errs.String())
	}
	if errs.Len() > 0 {
		w.t.Logf("%s %v: %s", name, args, errs.String())
	}
	return out.String(), c.ProcessState.ExitCode()
}

// enroll makes the state directory a probe's, and writes its settings.
func (w *world) enroll(state string) (config string) {
	w.t.Helper()
	out, code := w.call(nil, "pantau", "probe", "add", "--config", w.config, "--site", "s1", "--json", "-")
	var c struct{ Code string }
	if err := json.Unmarshal([]byte(out), &c); code != 0 || err != nil {
		w.t.Fatalf("exit %d, %v: %s", code, err, out)
	}
	if out, code = w.call(nil, "pantau-probe", "enroll", "--state-dir", state, "--collector", "https://"+w.ingest, "--code", c.Code); code != 0 {
		w.t.Fatalf("exit %d: %s", code, out)
	}
	return w.write("pantau-probe.yaml", fmt.Sprintf("state_dir: %s\nmetrics: {listen: %q}\n", state, free(w.t)))
}

// verdicts runs `check --json -` and returns what it found by check.
func (w *world) verdicts(prepare func(*exec.Cmd), args ...string) (found map[string]finding, code int) {
	w.t.Helper()
	out, code := w.call(prepare, "pantau-probe", append([]string{"check", "--json", "-"}, args...)...)
	var report struct {
		OK     bool
		Checks []finding
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		w.t.Fatalf("exit %d, %v: %s", code, err, out)
	}
	found = map[string]finding{}
	for _, f := range report.Checks {
		if f.Seen == "" || (f.Verdict == "problem") != (f.Do != "") {
			w.t.Errorf("a finding without words: %+v", f)
		}
		found[string(f.Check)] = f
	}
	if report.OK != (code == 0) {
		w.t.Errorf("ok %v and exit %d", report.OK, code)
	}
	return found, code
}

// expect holds findings to a verdict and to words, "verdict words".
func expect(t *testing.T, found map[string]finding, want map[string]string) {
	t.Helper()
	for check, w := range want {
		verdict, words, _ := strings.Cut(w, " ")
		f := found[check]
		if string(f.Verdict) != verdict || !strings.Contains(f.Seen+" | "+f.Do, words) {
			t.Errorf("%s: %s %q, to do %q; want %s %q", check, f.Verdict, f.Seen, f.Do, verdict, words)
		}
	}
}

func asRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("needs root: accounts and network namespaces")
	}
	t.Skip("needs root: accounts and network namespaces")
}
