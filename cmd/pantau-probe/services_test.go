package main

import (
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestEachProgramTellsTheServiceManager(t *testing.T) {
	w := newWorld(t)
	w.serve()
	config := w.enroll(w.path("state"))
	for _, c := range []struct {
		name   string
		args   []string
		status string
	}{
		{"pantau", []string{"target", "--config", w.path("pantau-target.yaml")}, "answering on " + w.target},
		{"pantau-probe", []string{"run", "--config", config}, "probe box at s1: "},
	} {
		m := newManager(t)
		p := w.start(m, nil, c.name, c.args...)
		if got := m.hear("READY=1", p); !strings.Contains(got, "\nSTATUS="+c.status) {
			t.Errorf("%s says %q, not %q", c.name, got, c.status)
		}
		m.hear("WATCHDOG=1", p)
		m.hear("WATCHDOG=1", p)
		p.end()
		m.hear("STOPPING=1", p)
	}

	w.serving.end()
	m := newManager(t)
	again := w.start(m, nil, "pantau", "serve", "--config", w.config)
	if got := m.hear("READY=1", again); !strings.Contains(got, "STATUS=1 ") {
		t.Errorf("the collector says %q", got)
	}
	m.hear("WATCHDOG=1", again)
	again.end()
	m.hear("STOPPING=1", again)
}

// A service has an account of its own; a person enrols with sudo.
func TestRootEnrolsForTheServicesAccount(t *testing.T) {
	asRoot(t)
	w := newWorld(t)
	w.serve()
	w.measurementServer()
	state := w.path("state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(state, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	config := w.enroll(state)
	entries, err := os.ReadDir(state)
	if err != nil || len(entries) < 4 { // key, identity, configuration, last seen
		t.Fatalf("%v: %v", entries, err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if st := info.Sys().(*syscall.Stat_t); st.Uid != 65534 || st.Gid != 65534 || info.Mode() != 0o600 {
			t.Errorf("%s: owner %d:%d, mode %v; want 65534:65534 and its alone", e.Name(), st.Uid, st.Gid, info.Mode())
		}
	}

	as := func(uid uint32) func(*exec.Cmd) {
		return func(c *exec.Cmd) {
			c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid, NoSetGroups: true}}
		}
	}
	found, _ := w.verdicts(as(65534), "--config", config, "--timeout", "5s")
	expect(t, found, map[string]string{"identity": "ok box", "collector": "ok", "heartbeat": "ok"})
	found, code := w.verdicts(as(65533), "--config", config, "--timeout", "5s")
	expect(t, found, map[string]string{"identity": "problem sudo", "collector": "skipped"})
	if code != 1 {
		t.Errorf("exit %d", code)
	}

	// It runs as that account, and a check by root beside it leaves it alone.
	m := newManager(t)
	box := w.start(m, nobody, "pantau-probe", "run", "--config", config)
	m.hear("READY=1", box)
	await(t, "the collector answers the running probe", func() bool { return heartbeats(t, config, "true") > 0 })
	found, code = w.verdicts(nil, "--config", config)
	if code != 0 {
		t.Errorf("exit %d", code)
	}
	expect(t, found, map[string]string{"identity": "ok box", "disk": "ok hari", "icmp": "ok root", "usage": "skipped", "dns": "skipped 127.0.0.1",
		"collector": "ok TLS 1.3", "heartbeat": "ok UDP", "clock": "ok kolektor", "target": "ok ukur-1"})
	beats := heartbeats(t, config, "true")
	await(t, "the running probe's heartbeats go on", func() bool { return heartbeats(t, config, "true") > beats })
	if n := heartbeats(t, config, "false"); n != 0 {
		t.Errorf("%d heartbeats of the running probe were not answered", n)
	}
	box.end()
	err = filepath.WalkDir(state, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Sys().(*syscall.Stat_t).Uid != 65534 {
			t.Errorf("%s belongs to another account", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

var listen = regexp.MustCompile(`listen: "(.*)"`)

// heartbeats is the running probe's own count.
func heartbeats(t *testing.T, config, answered string) int {
	t.Helper()
	raw, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get("http://" + listen.FindStringSubmatch(string(raw))[1] + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`pantau_probe_heartbeats_total\{answered="` + answered + `"\} (\d+)`).FindSubmatch(body)
	if m == nil {
		t.Fatalf("no count of heartbeats:\n%s", body)
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !so(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not so: " + what)
		}
	}
}
