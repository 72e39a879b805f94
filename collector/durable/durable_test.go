package durable

import (
	"os"
	"path/filepath"
	"testing"
)

func TestReplace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "kept")
	if err := os.WriteFile(path+".tmp", []byte("what a crash left, longer than what follows"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"first", "2"} {
		if err := Replace(path, []byte(want)); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		info, statErr := os.Stat(path)
		if err != nil || statErr != nil || string(got) != want || info.Mode().Perm() != 0o600 {
			t.Errorf("%q of mode %v, want %q (%v, %v)", got, info.Mode(), want, err, statErr)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("%d files are left", len(left))
	}
	// What cannot be replaced stays as it is.
	if err := os.Mkdir(path+".tmp", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(path+".tmp", "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Replace(path, []byte("3")); err == nil {
		t.Error("no error")
	}
	if got, _ := os.ReadFile(path); string(got) != "2" {
		t.Errorf("%q is left", got)
	}
}

func TestSyncDirOfNothing(t *testing.T) {
	if err := SyncDir(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("no error")
	}
}
