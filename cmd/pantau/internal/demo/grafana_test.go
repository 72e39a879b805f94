package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// standIn makes this test binary a Grafana as far as the demo uses one.
const standIn = "PANTAU_TEST_GRAFANA"

// beGrafana answers with what it was started with, or ends at once.
func beGrafana() {
	if os.Getenv(standIn) == "ends" {
		fmt.Println("a migration failed")
		os.Exit(1)
	}
	http.HandleFunc("/api/health", func(w http.ResponseWriter, r *http.Request) {
		json.NewEncoder(w).Encode(map[string]any{"args": os.Args[1:], "env": os.Environ()})
	})
	err := http.ListenAndServe(net.JoinHostPort(os.Getenv("GF_SERVER_HTTP_ADDR"), os.Getenv("GF_SERVER_HTTP_PORT")), nil)
	fmt.Println(err)
	os.Exit(1)
}

// installGrafana puts one alone into the path, as the archive has it.
func installGrafana(t *testing.T, how string) (home string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	home = filepath.Join(t.TempDir(), "grafana-v11")
	write(t, filepath.Join(home, "conf", "defaults.ini"), "")
	write(t, filepath.Join(home, "bin", "grafana"), fmt.Sprintf("#!/bin/sh\n%s=%s exec %q \"$@\"\n", standIn, how, self))
	t.Setenv("PATH", filepath.Join(home, "bin"))
	return home
}

func TestGrafanaIsStartedWithOurDashboards(t *testing.T) {
	home := installGrafana(t, "serves")
	said := &words{}
	r := newRun(t, Options{})
	r.screen.out = said
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.grafana(ctx, dir, "http://127.0.0.1:7499")
	}()
	defer func() { cancel(); <-ended }()
	for deadline := time.Now().Add(30 * time.Second); !strings.Contains(said.String(), "\n"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it never said an address")
		}
	}
	page, ok := strings.CutPrefix(strings.TrimSpace(said.String()), "grafana: ")
	if !ok {
		t.Fatal(said.String())
	}
	var started struct{ Args, Env []string }
	if err := json.Unmarshal([]byte(get(t, page+"api/health")), &started); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(started.Args, " "); got != "server --homepath "+home {
		t.Errorf("started with %s", got)
	}
	env := map[string]string{}
	for _, e := range started.Env {
		k, v, _ := strings.Cut(e, "=")
		env[k] = v
	}
	for _, k := range []string{"GF_PATHS_DATA", "GF_PATHS_LOGS", "GF_PATHS_PLUGINS", "GF_PATHS_PROVISIONING", "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"} {
		if !strings.HasPrefix(env[k], dir+string(filepath.Separator)) {
			t.Errorf("%s is %q: not in the demo's folder", k, env[k])
		}
	}
	if !exists(env["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]) {
		t.Error("the first dashboard is not there")
	}
	source, err := os.ReadFile(filepath.Join(env["GF_PATHS_PROVISIONING"], "datasources", "pantau-desa.yaml"))
	if err != nil || !strings.Contains(string(source), "http://127.0.0.1:7499") {
		t.Errorf("the data source is not this collector: %v: %s", err, source)
	}
	cancel()
	<-ended
	if l, err := net.Listen("tcp", strings.TrimSuffix(strings.TrimPrefix(page, "http://"), "/")); err != nil {
		t.Errorf("it outlives the demo: %v", err)
	} else {
		l.Close()
	}
	if n := strings.Count(said.String(), "\n"); n != 1 {
		t.Errorf("it said %q", said)
	}
}

func TestGrafanaThatDoesNotDoEndsNothing(t *testing.T) {
	installGrafana(t, "ends")
	said := &words{}
	r := newRun(t, Options{})
	r.screen.out = said
	dir := t.TempDir()
	r.grafana(t.Context(), dir, "http://127.0.0.1:7499")
	if !strings.Contains(said.String(), "ended (exit status 1); see "+filepath.Join(dir, "grafana", "log")) {
		t.Errorf("it said %q", said)
	}
	if log, err := os.ReadFile(filepath.Join(dir, "grafana", "log")); err != nil || !strings.Contains(string(log), "a migration failed") {
		t.Errorf("%v: %s", err, log)
	}
}

func TestWithoutGrafana(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	said := &words{}
	r := newRun(t, Options{})
	r.screen.out = said
	r.grafana(t.Context(), t.TempDir(), "http://127.0.0.1:7499")
	if !strings.Contains(said.String(), "none in the path") || strings.Count(said.String(), "\n") != 1 {
		t.Errorf("it said %q", said)
	}
}
