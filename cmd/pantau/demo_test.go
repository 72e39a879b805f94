package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// shaped skips where the system permits no namespaces, but never in CI.
func shaped(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("the demo's lines need root, and CI must prove them")
	}
	t.Skip("network namespaces need root: run as root for the demo's real lines")
}

// demoRun is a running `pantau demo`.
type demoRun struct {
	cmd *exec.Cmd
	out string
	dir string
}

func startDemo(t *testing.T, dir string, args ...string) *demoRun {
	t.Helper()
	bin, err := built()
	if err != nil {
		t.Fatal(err)
	}
	d := &demoRun{dir: dir, out: filepath.Join(t.TempDir(), "out")}
	d.cmd = spawn(t, d.out, filepath.Join(bin, "pantau"), append([]string{"demo", "--dir", dir, "--listen", free(t)}, args...)...)
	return d
}

func (d *demoRun) said() string {
	raw, _ := os.ReadFile(d.out)
	return string(raw)
}

// line is what the demo printed behind a word, such as "halaman: ".
func (d *demoRun) line(t *testing.T, word string) string {
	t.Helper()
	for deadline := time.Now().Add(90 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		for l := range strings.Lines(d.said()) {
			if v, ok := strings.CutPrefix(l, word); ok {
				return strings.TrimSpace(v)
			}
		}
	}
	t.Fatalf("the demo never said %q: %s", word, d.said())
	return ""
}

// probes are the processes that a demo in this folder runs.
func (d *demoRun) probes(t *testing.T) (pids []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err == nil && bytes.Contains(raw, []byte(d.dir)) && bytes.Contains(raw, []byte("pantau-probe")) {
			pids = append(pids, filepath.Base(filepath.Dir(f)))
		}
	}
	return pids
}

func (d *demoRun) namespaces(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob(fmt.Sprintf("/run/netns/pantau-%d*", d.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// gone waits until neither processes nor namespaces of the demo are left.
func (d *demoRun) gone(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		p, n := d.probes(t), d.namespaces(t)
		if len(p)+len(n) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("left behind: processes %v, namespaces %v", p, n)
		}
	}
}

func TestDemoMeasuresWhatItsLinesCarry(t *testing.T) {
	shaped(t)
	if testing.Short() {
		t.Skip("takes a minute and a half")
	}
	report := filepath.Join(t.TempDir(), "demo.json")
	d := startDemo(t, filepath.Join(t.TempDir(), "demo"), "--villages", "3", "--for", "100s", "--json", report)
	page := d.line(t, "halaman: ")
	resp, err := http.Get(page)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(resp.Body); err != nil || !strings.Contains(body.String(), "SIMULASI") {
		t.Errorf("the page does not say that it is a simulation: %v", err)
	}
	if resp, err := http.Get(d.line(t, "target: ") + "/latency.txt"); err != nil || resp.StatusCode != 200 {
		t.Errorf("the measurement server does not answer: %v", err)
	} else {
		resp.Body.Close()
	}
	err = d.cmd.Wait()
	raw, readErr := os.ReadFile(report)
	if readErr != nil {
		t.Fatalf("%v, %v: %s", readErr, err, d.said())
	}
	var r struct {
		OK, Netns bool
		First     float64 `json:"first_result_seconds"`
		Villages  []struct {
			Name       string
			State      string
			Tests      int
			Within     bool    `json:"within_tolerance"`
			Latency    float64 `json:"latency_seconds_median"`
			Reach      int     `json:"reach_results"`
			Usage      float64 `json:"usage_bytes_received"`
			Shaped     float64 `json:"shaped_download_bps"`
			MedianDown float64 `json:"median_download_bps"`
			MedianUp   float64 `json:"median_upload_bps"`
			ShapedUp   float64 `json:"shaped_upload_bps"`
		}
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Fatal(err)
	}
	if err != nil || !r.OK || !r.Netns || len(r.Villages) != 3 {
		t.Errorf("%v: %s\n%s", err, raw, d.said())
	}
	if r.First <= 0 || r.First > 60 {
		t.Errorf("first figures after %v s", r.First)
	}
	for _, v := range r.Villages {
		if v.State != "up" || v.Tests < 1 || !v.Within || v.Latency <= 0 || v.Reach < 4 || v.Usage <= 0 {
			t.Errorf("%+v", v)
		}
	}
	d.gone(t)
}

func TestDemoLeavesNothingBehind(t *testing.T) {
	shaped(t)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		d := startDemo(t, filepath.Join(t.TempDir(), "demo"), "--villages", "2")
		d.line(t, "halaman: ")
		d.cmd.Process.Signal(sig)
		if err := d.cmd.Wait(); err != nil {
			t.Errorf("%v: %v: %s", sig, err, d.said())
		}
		d.gone(t)
	}
}

func TestTheNextDemoClearsWhatAKillLeft(t *testing.T) {
	shaped(t)
	dir := filepath.Join(t.TempDir(), "demo")
	d := startDemo(t, dir, "--villages", "2")
	d.line(t, "halaman: ")
	for deadline := time.Now().Add(20 * time.Second); len(d.probes(t)) < 2 && time.Now().Before(deadline); {
		time.Sleep(50 * time.Millisecond)
	}
	d.cmd.Process.Kill()
	d.cmd.Wait()
	if len(d.namespaces(t)) == 0 {
		t.Fatal("the kill left no namespace: nothing is proved")
	}
	next := startDemo(t, dir, "--villages", "1")
	next.line(t, "halaman: ")
	if left := d.namespaces(t); len(left) > 0 {
		t.Errorf("the next demo left %v", left)
	}
	next.cmd.Process.Signal(syscall.SIGTERM)
	if err := next.cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, next.said())
	}
	next.gone(t)
	d.gone(t)
}

func TestDemoOnLoopbackSaysWhatIsLost(t *testing.T) {
	d := startDemo(t, filepath.Join(t.TempDir(), "demo"), "--villages", "1", "--no-netns")
	d.line(t, "halaman: ")
	d.line(t, "every village has its first figures")
	d.cmd.Process.Signal(syscall.SIGINT)
	if err := d.cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, d.said())
	}
	if !strings.Contains(d.said(), "Lost by that") {
		t.Errorf("it does not say what is lost: %s", d.said())
	}
	d.gone(t)
}

func TestDemoRefusesAFolderThatIsNotItsOwn(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "letters.txt"), []byte("dear"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := startDemo(t, dir, "--no-netns")
	if err := d.cmd.Wait(); err == nil || !strings.Contains(d.said(), "--dir") {
		t.Errorf("%v: %s", err, d.said())
	}
	if _, err := os.Stat(filepath.Join(dir, "letters.txt")); err != nil {
		t.Error(err)
	}
}
