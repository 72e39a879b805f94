package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDashboardsExport(t *testing.T) {
	dir := t.TempDir()
	run := func(args ...string) (string, error) {
		c := dashboardsCommand()
		var out bytes.Buffer
		c.SetOut(&out)
		c.SetErr(&out)
		c.SetArgs(args)
		return out.String(), c.ExecuteContext(t.Context())
	}
	if _, err := run("export", filepath.Join(dir, "out"), "--pages", "https://pantau.example.id"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"json/desa.json": "https://pantau.example.id", "provisioning/datasources/pantau-desa.yaml": "127.0.0.1:7480",
		"README.md": "Docker", "compose.yaml": "grafana"} {
		if raw, err := os.ReadFile(filepath.Join(dir, "out", name)); err != nil || !strings.Contains(string(raw), want) {
			t.Errorf("%s: without %q: %v", name, want, err)
		}
	}
	for _, args := range [][]string{{"export"}, {"export", dir, "more"}, {"export", filepath.Join(dir, "no"), "--data-source", "nowhere"}} {
		if out, err := run(args...); err == nil {
			t.Errorf("%q: %s", args, out)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
}
