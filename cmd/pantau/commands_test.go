package main

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What a person types, and what the programs answer.

func TestMessagesSayWhatIsWrongAndWhatToDo(t *testing.T) {
	o := newOffice(t)
	typo := filepath.Join(o.dir, "typo.yaml")
	o.write(typo, "data_dir: /tmp/x\ningest:\n  lisen: ':1'\n")
	broken := filepath.Join(o.dir, "broken")
	if err := os.CopyFS(broken, os.DirFS(filepath.Join(o.dir, "inventory"))); err != nil {
		t.Fatal(err)
	}
	o.write(filepath.Join(broken, "probes.csv"), "probe,site,valid_from\nbox,s9,2025-01-01\n")
	serveBroken := filepath.Join(o.dir, "serve-broken.yaml")
	o.write(serveBroken, "data_dir: "+filepath.Join(o.dir, "other")+"\ninventory: "+broken+"\ningest:\n  listen: 127.0.0.1:0\noffice:\n  listen: 127.0.0.1:0\n")
	state := t.TempDir()
	for _, c := range []struct {
		program string
		args    []string
		code    int
		says    []string
	}{
		{"pantau", []string{"check", "--config", typo}, 2, []string{"typo.yaml:3", "ingest.lisen", "ingest.listen"}},
		{"pantau", []string{"check", "--config", o.config}, 0, []string{"pantau.yaml: good", "1 districts, 1 villages"}},
		{"pantau", []string{"check", "inventory", broken}, 1, []string{"probes.csv:2", "s9"}},
		{"pantau", []string{"check"}, 2, []string{"--config FILE"}},
		{"pantau", []string{"serve", "--config", serveBroken}, 2, []string{"probes.csv:2", "pantau check inventory"}},
		{"pantau", []string{"serve"}, 2, []string{"config"}},
		{"pantau", []string{"serv"}, 2, []string{"serv"}},
		{"pantau", []string{"probe", "add", "--config", o.config, "--site", "s7"}, 1, []string{`no site "s7"`, "sites.csv"}},
		{"pantau", []string{"probe", "list", "--dir", state}, 1, []string{"no collector answers", "pantau serve"}},
		{"pantau", []string{"probe", "revoke", "nobody", "--config", o.config}, 1, []string{"no probe nobody", "pantau probe list"}},
		{"pantau-probe", []string{"run", "--config", filepath.Join(o.dir, "none.yaml")}, 2, []string{"none.yaml"}},
		{"pantau-probe", []string{"enroll", "--state-dir", state, "--collector", "https://" + o.ingest, "--code", "ABCD"}, 2, []string{"claim code", "44 letters"}},
		{"pantau-probe", []string{"measure", "sped"}, 2, []string{"not a kind", "speed"}},
		{"pantau-probe", []string{"measure", "speed", "--target", "http://127.0.0.1:1", "--json", "-"}, 1, []string{`"outcome": "failed"`, `"reason": "refused"`, `"values": {}`}},
	} {
		out, code := o.run(c.program, c.args...)
		if code != c.code {
			t.Errorf("%s %v: exit %d, want %d: %s", c.program, c.args, code, c.code, out)
		}
		for _, s := range c.says {
			if !strings.Contains(out, s) {
				t.Errorf("%s %v: does not say %q: %s", c.program, c.args, s, out)
			}
		}
	}
	unenrolled := filepath.Join(o.dir, "unenrolled.yaml")
	o.write(unenrolled, "state_dir: "+state+"\nmetrics:\n  listen: ''\n")
	if out, code := o.run("pantau-probe", "run", "--config", unenrolled); code != 1 || !strings.Contains(out, "pantau-probe enroll") {
		t.Errorf("unenrolled: exit %d: %s", code, out)
	}
	if out, code := o.run("pantau", "serve", "--config", o.config); code != 1 || !strings.Contains(out, "in use") {
		t.Errorf("a second collector: exit %d: %s", code, out)
	}
}

func TestARevokedProbeKeepsItsResults(t *testing.T) {
	o := newOffice(t)
	h := newHand(t, o, o.ingest)
	defer h.stop()
	want := h.measure(3)
	h.check(o, want)
	if out, code := o.run("pantau", "probe", "revoke", "hand", "--config", o.config); code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	if out, _ := o.run("pantau", "probe", "list", "--config", o.config); !strings.Contains(out, "hand") {
		t.Errorf("not listed: %s", out)
	}
	h.measure(3)
	o.await("a push to be refused", func() bool {
		return strings.Contains(o.page("/metrics"), `pantau_ingest_refused_total{reason="revoked"}`) && !strings.Contains(o.page("/metrics"), `pantau_ingest_refused_total{reason="revoked"} 0`)
	})
	if n := len(h.spool.Waiting()); n != 1 {
		t.Errorf("%d batches wait, want 1", n)
	}
}

func (o *office) page(path string) string {
	resp, err := http.Get("http://" + o.pages + path)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	var b strings.Builder
	if err := resp.Write(&b); err != nil {
		return ""
	}
	return b.String()
}

func TestOfficeShowsWhatItShouldAndNothingElse(t *testing.T) {
	o := newOffice(t)
	h := newHand(t, o, o.ingest)
	defer h.stop()
	h.check(o, h.measure(2))
	for path, want := range map[string]int{
		"/": 200, "/desa/33.10.15.2002": 200, "/desa/99.99.99.9999": 404, "/healthz": 200, "/readyz": 200, "/metrics": 200,
		"/api/v1/query?query=1%2B1&time=4": 200, "/api/v1/status/buildinfo": 200, "/api/v1/metadata": 200, "/api/v1/labels": 200,
		"/api/v1/status/config": 404, "/api/v1/targets": 404, "/debug/pprof/": 404, "/federate": 404, "/v1/batches": 404, "/nothing": 404,
	} {
		resp, err := http.Get("http://" + o.pages + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("GET %s: %d, want %d", path, resp.StatusCode, want)
		}
	}
	for _, path := range []string{"/api/v1/write", "/api/v1/read", "/api/v1/otlp/v1/metrics", "/api/v1/admin/tsdb/snapshot", "/v1/enroll"} {
		resp, err := http.Post("http://"+o.pages+path, "application/x-protobuf", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound {
			t.Errorf("POST %s: %d, want 404", path, resp.StatusCode)
		}
	}
	if !strings.Contains(o.page("/desa/33.10.15.2002"), "Bener") {
		t.Error("the village's page does not name it")
	}
}

// promtool is installed by `make test`.
func TestPromtoolQueries(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("promtool is not in the path: run by make test")
		}
		t.Skip("promtool is not in the path: run by make test")
	}
	o := newOffice(t)
	h := newHand(t, o, o.ingest)
	defer h.stop()
	h.check(o, h.measure(2))
	server := "http://" + o.pages
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"query", "instant", server, "pantau_odp_reachable"}, `probe="hand"`},
		{[]string{"query", "range", server, "pantau_odp_reachable"}, `village="33.10.15.2002"`},
		{[]string{"query", "series", "--match", "pantau_odp_reachable", server}, `pantau_odp_reachable`},
		{[]string{"query", "labels", server, "village"}, "33.10.15.2002"},
	} {
		out, err := exec.Command(promtool, c.args...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), c.says) {
			t.Errorf("promtool %v: %v: %s", c.args, err, out)
		}
	}
}

func TestBothProgramsEndCleanlyWhenTold(t *testing.T) {
	o := newOffice(t)
	state := filepath.Join(t.TempDir(), "state")
	if out, code := o.run("pantau-probe", "enroll", "--state-dir", state, "--collector", "https://"+o.ingest, "--code", o.claim("s2")); code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	config := filepath.Join(o.dir, "probe.yaml")
	o.write(config, "state_dir: "+state+"\nmetrics:\n  listen: ''\n")
	box := spawn(t, filepath.Join(o.dir, "probe.log"), filepath.Join(o.bin, "pantau-probe"), "run", "--config", config)
	o.await("a first result", func() bool { return len(o.samples("pantau_odp_reachable")["box"]) > 0 })
	for name, cmd := range map[string]*exec.Cmd{"pantau-probe": box, "pantau": o.cmd} {
		began := time.Now()
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if d := time.Since(began); d > 10*time.Second {
			t.Errorf("%s took %v to end", name, d)
		}
	}
}
