package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/pantau-desa/pantau/collector/durable"
)

// Cursor keeps one consumer's [Position] in a small text file. Save is atomic
// and durable: after a crash Load returns the old position or the new one.
// One Cursor is used by one goroutine.
type Cursor struct{ path string }

// NewCursor names the file; its directory must exist.
func NewCursor(path string) *Cursor { return &Cursor{path: path} }

// Load returns the saved position, the beginning if none was ever saved. A file
// that holds something else is an error: a consumer must not start over
// unasked, nor skip.
func (c *Cursor) Load() (Position, error) {
	b, err := os.ReadFile(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return Position{}, nil
	}
	if err != nil {
		return Position{}, err
	}
	var p Position
	if err := p.UnmarshalText([]byte(strings.TrimSuffix(string(b), "\n"))); err != nil {
		return Position{}, fmt.Errorf("cursor %s: %w; remove the file to read the journal from its beginning", c.path, err)
	}
	return p, nil
}

// Save replaces the saved position.
func (c *Cursor) Save(p Position) error {
	tmp := c.path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	_, err = f.WriteString(p.String() + "\n")
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	if err := os.Rename(tmp, c.path); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(c.path))
}
