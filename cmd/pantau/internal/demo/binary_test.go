package demo

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// install writes a pantau-probe that says this version into dir.
func install(t *testing.T, dir, version string) string {
	t.Helper()
	bin := filepath.Join(dir, "pantau-probe")
	write(t, bin, "#!/bin/sh\necho pantau-probe version "+version+"\n")
	return bin
}

// A probe of another version is never used in silence, nor where there is one of
// the same.
func TestFindInstalled(t *testing.T) {
	for _, c := range []struct {
		name         string
		beside, path string // versions; empty: there is none
		want         string
		says         string
	}{
		{"beside", "1.2.0", "", "beside", ""},
		{"in the path", "", "1.2.0", "path", ""},
		{"beside goes first", "1.2.0", "1.2.0", "beside", ""},
		{"the same version goes first", "1.1.0", "1.2.0", "path", "is version 1.1.0, this is version 1.2.0"},
		{"another is said", "1.1.0", "1.0.0", "beside", "what it measures may differ"},
		{"none", "", "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			top := t.TempDir()
			for where, version := range map[string]string{"beside": c.beside, "path": c.path} {
				if version != "" {
					install(t, filepath.Join(top, where), version)
				}
			}
			t.Setenv("PATH", filepath.Join(top, "path")) // no go: no sources
			var said strings.Builder
			f := probeFinder{own: "1.2.0", say: func(format string, args ...any) { fmt.Fprintf(&said, format+"\n", args...) },
				executable: func() (string, error) { return filepath.Join(top, "beside", "pantau"), nil }}
			got, err := f.find(t.Context(), t.TempDir())
			if c.want == "" {
				if err == nil || !strings.Contains(err.Error(), "install it beside pantau") {
					t.Fatalf("%s, %v", got, err)
				}
				return
			}
			if want := filepath.Join(top, c.want, "pantau-probe"); err != nil || got != want {
				t.Errorf("%s, %v; want %s", got, err, want)
			}
			if !strings.Contains(said.String(), c.says) || c.says == "" && said.Len() > 0 {
				t.Errorf("said %q", said.String())
			}
		})
	}
}

// Run from its sources the demo uses what they make, whatever lies beside.
func TestFindBuildsFromSources(t *testing.T) {
	beside := t.TempDir()
	stale := install(t, beside, "dev")
	for _, c := range []struct{ own, beside string }{{"dev", "dev"}, {"v9.9.9", "v9.9.8"}} {
		install(t, beside, c.beside)
		f := probeFinder{own: c.own, executable: func() (string, error) { return filepath.Join(beside, "pantau"), nil }, say: t.Logf}
		dir := t.TempDir()
		got, err := f.find(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		if got == stale || filepath.Dir(got) != dir {
			t.Errorf("it is %s", got)
		}
		if version, err := versionOf(t.Context(), got); version != unversioned || err != nil {
			t.Errorf("version %q, %v", version, err)
		}
	}
}

// A module that requires this one is not its sources.
func TestSourcesAreThisModuleAlone(t *testing.T) {
	f := probeFinder{}
	if !f.inSources(t.Context()) {
		t.Fatal("the sources are not seen from their own folder")
	}
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		t.Fatal(err)
	}
	top := filepath.Dir(strings.TrimSpace(string(out)))
	other := t.TempDir()
	for name, edit := range map[string]func(string) string{
		"go.sum": func(s string) string { return s },
		"go.mod": func(s string) string {
			s = regexp.MustCompile(`(?m)^module .*$`).ReplaceAllString(s, "module example.org/other")
			return s + fmt.Sprintf("\nrequire %s v0.0.0\nreplace %s => %s\n", module, module, top)
		},
	} {
		raw, err := os.ReadFile(filepath.Join(top, name))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(other, name), edit(string(raw)))
	}
	t.Chdir(other)
	if out, err := exec.Command("go", "list", probeSource).CombinedOutput(); err != nil {
		t.Fatalf("the other module does not even see the package: %v: %s", err, out)
	}
	if f.inSources(t.Context()) {
		t.Error("a module that requires this one passes for its sources")
	}
}
