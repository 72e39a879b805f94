package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestCheckInWords(t *testing.T) {
	w := newWorld(t)
	w.serve()
	w.measurementServer()
	config := w.enroll(w.path("state"))
	for lang, says := range map[string][]string{
		"id": {"\nok        kolektor ", "\nok        denyut ", "\ndilewati  pemakaian ", "Semua baik"},
		"en": {"\nok        collector ", "\nok        heartbeat ", "\nskipped   usage ", "All good"},
	} {
		out, code := w.call(nil, "pantau-probe", "check", "--config", config, "--lang", lang)
		if code != 0 {
			t.Errorf("%s: exit %d", lang, code)
		}
		for _, s := range says {
			if !strings.Contains("\n"+out, s) {
				t.Errorf("%s: does not say %q:\n%s", lang, s, out)
			}
		}
		if n := strings.Count(out, "\n"); n != 10 { // nine checks and the verdict
			t.Errorf("%s: %d lines:\n%s", lang, n, out)
		}
	}
	for _, args := range [][]string{{"--lang", "jw"}, {"--timeout", "0s"}, {"extra"}, {"--config", w.path("none.yaml")}} {
		if _, code := w.call(nil, "pantau-probe", append([]string{"check"}, args...)...); code != 2 {
			t.Errorf("%v: exit %d, want 2", args, code)
		}
	}
}

func TestCheckNamesWhatIsMissing(t *testing.T) {
	w := newWorld(t)
	found, code := w.verdicts(nil, "--config", w.write("fresh.yaml", "state_dir: "+w.path("nowhere")+"\n"), "--lang", "en")
	if code != 1 {
		t.Errorf("exit %d", code)
	}
	expect(t, found, map[string]string{"identity": "problem pantau-probe enroll --collector", "collector": "skipped", "heartbeat": "skipped", "target": "skipped"})

	w.serve()
	state := w.path("state")
	config := w.enroll(state)
	check := func(want map[string]string, args ...string) {
		t.Helper()
		found, code := w.verdicts(nil, append([]string{"--config", config, "--lang", "en", "--timeout", "2s"}, args...)...)
		if code != 1 {
			t.Errorf("exit %d", code)
		}
		expect(t, found, want)
	}
	check(map[string]string{"target": "problem refused", "collector": "ok", "usage": "skipped"})

	w.measurementServer()
	nowhere := w.write("usage.yaml", "state_dir: "+state+"\nusage_interface: wan7\n")
	check(map[string]string{"usage": "problem wan7", "target": "ok", "collector": "ok"}, "--config", nowhere)

	if os.Geteuid() == 0 {
		if err := os.Chown(filepath.Join(state, "key"), 65534, 65534); err != nil {
			t.Fatal(err)
		}
		check(map[string]string{"identity": "problem chown -R --reference", "collector": "ok"})
		if err := os.Chown(filepath.Join(state, "key"), 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(state, "identity.json"), 0o644); err != nil {
		t.Fatal(err)
	}
	check(map[string]string{"identity": "problem chmod 600"})
	if err := os.Chmod(filepath.Join(state, "identity.json"), 0o600); err != nil {
		t.Fatal(err)
	}

	if out, code := w.call(nil, "pantau", "probe", "revoke", "box", "--config", w.config); code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	check(map[string]string{"collector": "problem revoked", "heartbeat": "skipped refuses", "target": "ok"})

	w.serving.end()
	check(map[string]string{"collector": "problem refuses the TCP", "heartbeat": "problem must let UDP", "target": "ok"})
}

// In a network of its own, without any capability, nothing is permitted.
func TestCheckSeesThatPingIsNotPermitted(t *testing.T) {
	asRoot(t)
	w := newWorld(t)
	w.serve()
	state := w.path("state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(state, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	config := w.enroll(state)
	found, code := w.verdicts(func(c *exec.Cmd) {
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Credential: nobody}
	}, "--config", config, "--timeout", "1s")
	if code != 1 {
		t.Errorf("exit %d", code)
	}
	expect(t, found, map[string]string{"identity": "ok", "icmp": "problem AmbientCapabilities=CAP_NET_RAW", "collector": "problem",
		"heartbeat": "problem", "target": "problem"})
}
