package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// folder is the demo's own: whatever it writes is below it.
type folder struct {
	path string
	lock *os.File
}

// marker tells a demo's folder from one that must not be emptied.
const marker = "this-is-a-pantau-demo"

// claim makes the folder anew. It refuses one that holds anything else, or that a
// running demo holds.
func claim(dir string) (*folder, error) {
	path, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	_, err = os.Stat(filepath.Join(path, marker))
	if len(entries) > 0 && err != nil {
		return nil, fmt.Errorf("%s is not empty and not of a demo: name another folder with --dir", path)
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(path, marker), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("another demo runs in %s: end it, or name another folder with --dir", path)
	}
	for _, e := range entries {
		if e.Name() == marker {
			continue
		}
		if err := os.RemoveAll(filepath.Join(path, e.Name())); err != nil {
			lock.Close()
			return nil, err
		}
	}
	return &folder{path: path, lock: lock}, nil
}

func (f *folder) release() { f.lock.Close() }

// probeBinary finds pantau-probe: beside this program, in the path, or, where this
// program was itself run from its sources, built from them.
func probeBinary(ctx context.Context, dir string, out io.Writer) (string, error) {
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), "pantau-probe")
		if info, err := os.Stat(beside); err == nil && info.Mode()&0o111 != 0 {
			return beside, nil
		}
	}
	const source = "github.com/pantau-desa/pantau/cmd/pantau-probe"
	if exec.CommandContext(ctx, "go", "list", source).Run() == nil {
		bin := filepath.Join(dir, "pantau-probe")
		fmt.Fprintln(out, "Building pantau-probe ...")
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", bin, source)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := build.CombinedOutput(); err != nil {
			return "", fmt.Errorf("building pantau-probe: %w\n%s", err, text)
		}
		return bin, nil
	}
	if bin, err := exec.LookPath("pantau-probe"); err == nil {
		return bin, nil
	}
	return "", errors.New("pantau-probe is neither beside this program nor in the path, and its sources are not here: install it beside pantau")
}
