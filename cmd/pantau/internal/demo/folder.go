package demo

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/pantau-desa/pantau/collector/admin"
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
		return nil, fmt.Errorf("--dir: %w", err)
	}
	mark := filepath.Join(path, marker)
	if _, err := os.Lstat(mark); len(entries) > 0 && err != nil {
		return nil, fmt.Errorf("%s is not empty and not of a demo: name another folder with --dir", path)
	}
	if socket := admin.Socket(filepath.Join(path, "collector")); len(socket) > longestSocket {
		return nil, fmt.Errorf("%s is too long a path: %s must fit into %d bytes; name another folder with --dir", path, socket, longestSocket)
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, fmt.Errorf("--dir: %w", err)
	}
	lock, err := os.OpenFile(mark, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("--dir: %w", err)
	}
	f := &folder{path: path, lock: lock}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.release()
		return nil, fmt.Errorf("another demo runs in %s: end it, or name another folder with --dir", path)
	}
	if err := f.empty(); err != nil {
		f.release()
		return nil, fmt.Errorf("--dir: what an earlier demo left: %w", err)
	}
	return f, nil
}

// longestSocket is what fits into sockaddr_un, with its end.
const longestSocket = 107

// empty removes everything but the marker.
func (f *folder) empty() error {
	entries, err := os.ReadDir(f.path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == marker {
			continue
		}
		if err := os.RemoveAll(filepath.Join(f.path, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (f *folder) release() { f.lock.Close() }
