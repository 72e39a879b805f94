package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestRulesExportAndCheck(t *testing.T) {
	run := func(c *cobra.Command, args ...string) (string, error) {
		var out bytes.Buffer
		c.SilenceUsage = true
		c.SetOut(&out)
		c.SetErr(&out)
		c.SetArgs(args)
		err := c.ExecuteContext(t.Context())
		return out.String(), err
	}
	dir := filepath.Join(t.TempDir(), "rules")
	if out, err := run(rulesCommand(), "export", dir); err != nil || !strings.Contains(out, "6 rule files") {
		t.Fatal(out, err)
	}
	if raw, err := os.ReadFile(filepath.Join(dir, "README.md")); err != nil || !strings.Contains(string(raw), "without an Alertmanager") {
		t.Error(err)
	}
	if out, err := run(checkCommand(), "rules", dir); err != nil || !strings.Contains(out, "good: 6 rule files, 6 of them in the place of built-in ones") {
		t.Error(out, err)
	}

	settings := filepath.Join(t.TempDir(), "pantau.yaml")
	if err := os.WriteFile(settings, []byte("inventory: ../../configs/klaten\nrules:\n  dir: "+dir+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := run(checkCommand(), "--config", settings); err != nil || !strings.Contains(out, "villages") || !strings.Contains(out, "6 rule files") {
		t.Error(out, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "mine.yml"), []byte("groups:\n  - name: a\n    rules:\n      - record: a:b:c\n        expr: pantau_village_stat\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"rules", dir}, {"--config", settings}} {
		out, err := run(checkCommand(), args...)
		if err == nil || !strings.Contains(out, "mine.yml:5: a:b:c: there is no series pantau_village_stat; did you mean pantau_village_state?") || !strings.Contains(out, "1 problems") {
			t.Errorf("%q: %v: %s", args, err, out)
		}
	}
	if out, err := run(checkCommand(), "rules", filepath.Join(dir, "none")); err == nil || !strings.Contains(out, "none") {
		t.Error(out, err)
	}
	for _, args := range [][]string{{}, {"export"}, {"export", dir, dir}} {
		if out, err := run(rulesCommand(), args...); err == nil {
			t.Errorf("%q: %s", args, out)
		}
	}
}
