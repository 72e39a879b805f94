package demo

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

func exists(file string) bool {
	_, err := os.Lstat(file)
	return err == nil
}

func TestClaimMakesAStaleFolderAnew(t *testing.T) {
	top := t.TempDir()
	dir, outside := filepath.Join(top, "demo"), filepath.Join(top, "letters")
	write(t, filepath.Join(outside, "dear.txt"), "dear")
	f, err := claim(dir)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "collector", "journal", "0"), "old")
	write(t, filepath.Join(dir, "pantau-probe"), "of another version")
	if err := os.Symlink(outside, filepath.Join(dir, "desa")); err != nil {
		t.Fatal(err)
	}
	if _, err := claim(dir); err == nil || !strings.Contains(err.Error(), "another demo runs") {
		t.Errorf("a second claim: %v", err)
	}
	if !exists(filepath.Join(dir, "collector", "journal", "0")) {
		t.Error("the second claim emptied the first one's folder")
	}
	f.release() // as a kill does
	if f, err = claim(dir); err != nil {
		t.Fatal(err)
	}
	defer f.release()
	for _, name := range []string{"collector", "pantau-probe", "desa"} {
		if exists(filepath.Join(dir, name)) {
			t.Errorf("%s is left of the last demo", name)
		}
	}
	if !exists(filepath.Join(outside, "dear.txt")) {
		t.Error("what a link led to was removed")
	}
}

func TestClaimRefuses(t *testing.T) {
	full := filepath.Join(t.TempDir(), "full")
	write(t, filepath.Join(full, "dear.txt"), "dear")
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "")
	long := filepath.Join(t.TempDir(), strings.Repeat("x", 100))
	for dir, says := range map[string]string{full: "not of a demo", file: "--dir", filepath.Join(file, "below"): "--dir", long: "too long"} {
		f, err := claim(dir)
		if err == nil {
			f.release()
		}
		if err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "--dir") {
			t.Errorf("%.60s: %v, want %q", dir, err, says)
		}
	}
	if !exists(filepath.Join(full, "dear.txt")) || exists(filepath.Join(full, marker)) || exists(long) {
		t.Error("a refused folder was touched")
	}
}
