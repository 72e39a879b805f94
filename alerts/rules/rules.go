// Package rules is what the collector finds by rule: standard Prometheus rule
// files, one for each subject, with their promtool tests beside them.
//
// It guarantees that every rule that is in force reads series which exist, with
// labels which they have ([Check]): a rule over a mistyped name would never fire
// and never say so. And that every alert has what the notification relies on:
//
//   - labels kind (quality, capacity, spike, ours: kinds of an incident) and
//     severity (warning, critical); those of a kind other than ours have at least
//     province and regency of what they are about, district, village, site and
//     probe as far as they are about one;
//   - annotations summary (English) and ringkasan (Indonesian), one sentence each
//     that a person understands, description (what it means, what to do) and, of
//     kind ours, saran (the same in Indonesian), value (the figure in base units)
//     and, where they mean something, unit and n.
//
// An alert of kind ours is about the collector or the probes, never about a
// village: no dinas is to be told.
//
// The files are evaluated by the collector (collector/evaluator), or exported as
// they are for a Prometheus of one's own.
package rules

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

//go:embed capacity.yml health.yml line.yml probes.yml speed.yml usage.yml
var builtin embed.FS

//go:embed README.md
var readme []byte

// Files are the built-in rule files by name. The map is the caller's.
func Files() map[string][]byte {
	out := map[string][]byte{}
	entries, err := fs.ReadDir(builtin, ".")
	if err != nil {
		panic(err) // embedded
	}
	for _, e := range entries {
		if out[e.Name()], err = builtin.ReadFile(e.Name()); err != nil {
			panic(err)
		}
	}
	return out
}

// Bounds of a rule directory, against one that is none.
const (
	maxFiles = 100
	maxFile  = 1 << 20 // bytes
)

// ReadDir reads the rule files of a directory by name: those that end in .yml or
// .yaml, but for tests (_test). A directory that does not exist is an error.
func ReadDir(dir string) (map[string][]byte, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	out := map[string][]byte{}
	for _, e := range entries {
		if !isRuleFile(e.Name()) {
			continue
		}
		name := filepath.Join(dir, e.Name())
		info, err := os.Stat(name) // a link counts as what it points to
		switch {
		case err != nil:
			return nil, err
		case !info.Mode().IsRegular():
			continue
		case info.Size() > maxFile:
			return nil, fmt.Errorf("%s has %d bytes: a rule file has at most %d", name, info.Size(), maxFile)
		case len(out) == maxFiles:
			return nil, fmt.Errorf("%s has more than %d rule files", dir, maxFiles)
		}
		if out[e.Name()], err = os.ReadFile(name); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func isRuleFile(name string) bool {
	ext := filepath.Ext(name)
	return (ext == ".yml" || ext == ".yaml") && !strings.HasSuffix(strings.TrimSuffix(name, ext), "_test") && !strings.HasPrefix(name, ".")
}

// Overlay returns the built-in files with a directory's beside them: a file of
// the same name takes the built-in one's place, and one without groups takes its
// rules out.
func Overlay(extra map[string][]byte) map[string][]byte {
	out := Files()
	for name, data := range extra {
		out[name] = data
	}
	return out
}

// Export writes the built-in files, and how to use them, into a directory, which
// is made. What a person changed there is left alone: a file of other content is
// an error, and then nothing is written.
func Export(dir string) error {
	files := Files()
	files["README.md"] = readme
	var errs []error
	for name, data := range files {
		old, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && !bytes.Equal(old, data) {
			err = fmt.Errorf("%s exists and is another: move it away first", filepath.Join(dir, name))
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}
